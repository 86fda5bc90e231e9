/** Names to addresses with how long they hold. What the system's hosts file says comes first, as with any other program. */
import { lookup, Resolver as DnsResolver } from "node:dns/promises";
import { codeOf } from "#shared/errors/mesh-error.ts";
import { tryIp, type Ip } from "#shared/net/ip.ts";
import { HostsFile } from "./hosts-file.ts";

export interface ResolvedAddress {
  readonly ip: Ip;
  /** Undefined where nobody says. */
  readonly ttlMs: number | undefined;
}

export interface Resolver {
  /**
   * Empty where the name has no address of this family, or does not exist at all.
   * @throws what DNS says where it gives no answer
   */
  resolve(name: string, family: 4 | 6): Promise<readonly ResolvedAddress[]>;
}

/** One try waits so long for a server, and there are so many tries. */
const timeoutMs = 2_000;
const tries = 3;

/** DNS has no such thing, in words of c-ares. */
const absent = new Set(["ENOTFOUND", "ENODATA", "EAI_NONAME", "EAI_NODATA", "EBADNAME"]);

/** @param servers `ip:port` instead of the system's; then nothing but them is asked */
export function makeResolver(servers: readonly string[] = []): Resolver {
  const dns = new DnsResolver({ timeout: timeoutMs, tries });
  if (servers.length > 0) dns.setServers(servers);
  const hosts = servers.length > 0 ? undefined : new HostsFile();
  return {
    async resolve(name, family) {
      const known = await hosts?.find(name, family);
      if (known !== undefined && known.length > 0) return known.map((ip) => ({ ip, ttlMs: undefined }));
      try {
        const answer = await (family === 4 ? dns.resolve4(name, { ttl: true }) : dns.resolve6(name, { ttl: true }));
        return answer.flatMap(({ address, ttl }) => {
          const ip = tryIp(address);
          return ip === undefined ? [] : [{ ip, ttlMs: ttl * 1000 }];
        });
      } catch (error) {
        const code = codeOf(error);
        // A name without a dot may be one of the search domains', which only the system's own resolver knows.
        if (servers.length === 0 && !name.includes(".")) return systemLookup(name, family);
        if (absent.has(code)) return [];
        throw error;
      }
    },
  };
}

async function systemLookup(name: string, family: 4 | 6): Promise<readonly ResolvedAddress[]> {
  try {
    const found = await lookup(name, { family, all: true });
    return found.flatMap(({ address }) => {
      const ip = tryIp(address);
      return ip === undefined ? [] : [{ ip, ttlMs: undefined }];
    });
  } catch (error) {
    if (absent.has(codeOf(error))) return [];
    throw error;
  }
}
