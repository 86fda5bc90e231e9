/**
 * Where a user's configuration may never make us send a request: this machine itself, and addresses that answer with
 * credentials to whoever asks from here. `jwksUri` of a policy is such a wish.
 */
import { compileCidr, tryCidr, type Cidr } from "./cidr.ts";
import { isLoopback, tryIp, type Ip } from "./ip.ts";

const forbidden: readonly ((ip: Ip) => boolean)[] = [
  "169.254.0.0/16",
  "fe80::/10",
  "0.0.0.0/8",
  "::/128",
  // Metadata services of clouds that are not link-local.
  "fd00:ec2::/32",
  "fd20:ce::/32",
  "100.100.100.200/32",
  "168.63.129.16/32",
  "192.0.0.192/32",
].map((range) => compileCidr(tryCidr(range) as Cidr));

const names: ReadonlySet<string> = new Set([
  "localhost",
  "metadata",
  "metadata.google.internal",
  "metadata.goog",
  "instance-data",
  "instance-data.ec2.internal",
]);

/** Why an address may not be asked; undefined where it may. */
export function forbiddenFetchAddress(address: string): string | undefined {
  const ip = embedded(tryIp(address));
  if (ip === undefined) return undefined;
  const isForbidden = isLoopback(ip) || forbidden.some((matches) => matches(ip));
  return isForbidden ? `${address} is a loopback, link-local or metadata address` : undefined;
}

/** NAT64 and 6to4 carry an IPv4 address in an IPv6 one. */
function embedded(ip: Ip | undefined): Ip | undefined {
  if (ip === undefined || !ip.includes(":")) return ip;
  const nat64 = /^64:ff9b::([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(ip);
  const sixToFour = /^2002:([0-9a-f]{1,4}):([0-9a-f]{1,4}):/.exec(ip);
  const parts = nat64 ?? sixToFour;
  if (parts === null) return ip;
  const [high, low] = [Number.parseInt(parts[1] as string, 16), Number.parseInt(parts[2] as string, 16)];
  return [high >> 8, high & 255, low >> 8, low & 255].join(".") as Ip;
}

/** As {@link forbiddenFetchAddress}, for the host of a URL, before it is resolved. */
export function forbiddenFetchHost(host: string): string | undefined {
  const plain = host
    .replace(/^\[|\]$/g, "")
    .replace(/\.$/, "")
    .toLowerCase();
  if (names.has(plain) || plain.endsWith(".localhost"))
    return `"${host}" is a name of this machine or of a metadata service`;
  return forbiddenFetchAddress(plain);
}
