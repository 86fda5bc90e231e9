/** Addresses of workloads that are known by hostname only, from our own namespace's resolver. */
import { Resolver as DnsResolver } from "node:dns/promises";
import type { Clock } from "#shared/clock/clock.ts";
import { tryIp, type Ip } from "#shared/net/ip.ts";
import type { Resolver } from "#ztunnel/outbound/decide-with-resolver.ts";

/** Names held at once; the oldest goes first. */
const maxNames = 1_000;
/** Longest that an answer is believed, whatever its TTL says. */
const longestTtlMs = 300_000;

interface Answer {
  readonly ips: readonly Ip[];
  readonly expiresMs: number;
}

interface Lookup {
  resolve4(hostname: string, options: { ttl: true }): Promise<readonly { address: string; ttl: number }[]>;
  resolve6(hostname: string, options: { ttl: true }): Promise<readonly { address: string; ttl: number }[]>;
}

/** Asks for both families at once and keeps answers for their TTL; callers at the same time share one question. */
export function openHostnameResolver(
  clock: Clock,
  lookup: Lookup = new DnsResolver({ timeout: 2_000, tries: 2 }),
): Resolver {
  const known = new Map<string, Answer>();
  const asked = new Map<string, Promise<readonly Ip[]>>();

  const ask = async (hostname: string): Promise<readonly Ip[]> => {
    const results = await Promise.allSettled([
      lookup.resolve4(hostname, { ttl: true }),
      lookup.resolve6(hostname, { ttl: true }),
    ]);
    const records = results.flatMap((result) => (result.status === "fulfilled" ? result.value : []));
    if (records.length === 0) {
      const failed = results.find((result) => result.status === "rejected");
      throw failed?.reason instanceof Error ? failed.reason : new Error("no answer");
    }
    const ttlMs = Math.min(...records.map(({ ttl }) => ttl * 1_000), longestTtlMs);
    const ips = records.flatMap(({ address }) => tryIp(address) ?? []);
    for (const oldest of known.keys()) {
      if (known.size < maxNames) break;
      known.delete(oldest);
    }
    known.set(hostname, { ips, expiresMs: clock.now() + ttlMs });
    return ips;
  };

  return (hostname) => {
    const answer = known.get(hostname);
    if (answer !== undefined && answer.expiresMs > clock.now()) return Promise.resolve(answer.ips);
    known.delete(hostname);
    const pending = asked.get(hostname);
    if (pending !== undefined) return pending;
    const question = ask(hostname).finally(() => asked.delete(hostname));
    asked.set(hostname, question);
    return question;
  };
}
