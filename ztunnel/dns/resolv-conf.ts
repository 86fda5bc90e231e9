/** The part of resolv.conf(5) that forwarding needs: whom to ask, and what names are completed with. */
import { tryIp, type Ip } from "#shared/net/ip.ts";

export interface ResolvConf {
  /** In the order in which they are asked. */
  readonly servers: readonly Ip[];
  /** In lower case, without final dots. */
  readonly searches: readonly string[];
}

/** The C library's own bound (MAXNS). */
const maxServers = 3;

/** Lines that say something else, or nothing to be understood, are passed over, as the C library does. */
export function readResolvConf(text: string): ResolvConf {
  const servers: Ip[] = [];
  let searches: readonly string[] = [];
  for (const line of text.split("\n")) {
    const [key, ...values] = line
      .replace(/[#;].*$/, "")
      .trim()
      .split(/\s+/);
    const ip = key === "nameserver" ? tryIp(values[0] ?? "") : undefined;
    if (ip !== undefined && servers.length < maxServers) servers.push(ip);
    // The last line wins, whichever of the two it is.
    if (key === "search" || key === "domain") {
      searches = values.map((name) => name.toLowerCase().replace(/\.$/, "")).filter((name) => name !== "");
    }
  }
  return { servers, searches };
}
