/** The `forwarded` header of a CONNECT (RFC 7239, of which Istio uses `for` and `host`). */
import { hostPort, splitHostPort, tryIp, type Ip } from "#shared/net/ip.ts";

/** `for="10.0.0.1:80"`, with `;host=reviews.shop.svc` where a service is meant. */
export function encodeForwarded(
  source: { readonly ip: string; readonly port: number },
  serviceHostname?: string,
): string {
  const by = `for="${hostPort(source.ip, source.port)}"`;
  return serviceHostname === undefined || serviceHostname === "" ? by : `${by};host=${serviceHostname}`;
}

/**
 * The `host` of the first part that has one; undefined where it is missing, empty, or the header holds anything but
 * ASCII. It chooses among the receiver's own services and is never trusted for more.
 */
export function forwardedHost(header: string | undefined): string | undefined {
  if (header === undefined || !/^[\t\x20-\x7e]*$/.test(header)) return undefined;
  const parts = header.split(";").map((part) => part.trim());
  const host = parts.find((part) => part.startsWith("host="))?.slice("host=".length);
  const bare = host?.replace(/^"/, "").replace(/"$/, "");
  return bare === "" ? undefined : bare;
}

/**
 * The port that the caller came from, where the first part is `for` with the very address that the tunnel came from;
 * undefined otherwise. A wish of the peer about its own address, and never trusted for more.
 */
export function forwardedPort(header: string | undefined, peer: Ip): number | undefined {
  const source = header === undefined ? undefined : /^for="([^";]{1,60})"(?:;|$)/u.exec(header)?.[1];
  const ends = source === undefined ? undefined : splitHostPort(source);
  return ends !== undefined && ends.port > 0 && tryIp(ends.host) === peer ? ends.port : undefined;
}
