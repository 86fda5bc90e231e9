/** What addresses a name has, by the families that configuration wants. */
import type { Ip } from "#shared/net/ip.ts";
import type { LookupFamily } from "../compile/compile-discovery.ts";
import type { ResolvedAddress, Resolver } from "./resolver.ts";

export interface Resolved {
  /** In order of preference, each once. */
  readonly ips: readonly Ip[];
  /** The shortest of all; undefined where nobody says. */
  readonly ttlMs: number | undefined;
}

/** @throws what the resolver throws, where no family gave an answer */
export async function lookupName(resolver: Resolver, name: string, family: LookupFamily): Promise<Resolved> {
  switch (family) {
    case "v4":
      return resolved(await resolver.resolve(name, 4));
    case "v6":
      return resolved(await resolver.resolve(name, 6));
    case "auto":
      return firstOf(resolver, name, 6, 4);
    case "v4-preferred":
      return firstOf(resolver, name, 4, 6);
    case "all":
      return both(resolver, name);
  }
}

/** The second family only where the first has no address. */
async function firstOf(resolver: Resolver, name: string, first: 4 | 6, second: 4 | 6): Promise<Resolved> {
  let failure: unknown;
  const preferred = await resolver.resolve(name, first).catch((error: unknown) => {
    failure = error;
    return [];
  });
  if (preferred.length > 0) return resolved(preferred);
  const other = await resolver.resolve(name, second);
  if (other.length === 0 && failure !== undefined) throw failure as Error;
  return resolved(other);
}

async function both(resolver: Resolver, name: string): Promise<Resolved> {
  const [six, four] = await Promise.allSettled([resolver.resolve(name, 6), resolver.resolve(name, 4)]);
  const found = [six, four].flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
  const failed = [six, four].find((answer) => answer.status === "rejected");
  if (found.length === 0 && failed !== undefined) throw failed.reason as Error;
  return resolved(found);
}

function resolved(addresses: readonly ResolvedAddress[]): Resolved {
  const ttls = addresses.flatMap(({ ttlMs }) => ttlMs ?? []);
  return {
    ips: [...new Set(addresses.map(({ ip }) => ip))],
    ttlMs: ttls.length === 0 ? undefined : Math.min(...ttls),
  };
}
