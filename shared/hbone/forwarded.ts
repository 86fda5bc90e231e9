/** The `forwarded` header of a CONNECT (RFC 7239, of which Istio uses `for` and `host`). */
import { hostPort } from "#shared/net/ip.ts";

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
