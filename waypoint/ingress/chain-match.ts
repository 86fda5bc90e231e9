/**
 * Which filter chain a connection belongs to, in Envoy's order: destination port, destination range, server name,
 * transport, application protocol, then its source. Each step takes the most specific entry that there is and never
 * comes back to a less specific one; `undefined` where that leads nowhere.
 */
import { ipToBytes, isLoopback, type Ip } from "#shared/net/ip.ts";
import type { Cidr } from "#shared/net/cidr.ts";
import type { FilterStateKey } from "./filter-state.ts";

/** What a connection is matched by. */
export interface ChainFacts {
  readonly destination: { readonly ip: Ip; readonly port: number };
  readonly source: { readonly ip: Ip; readonly port: number };
  /** SNI of a ClientHello, in lower case; empty without one. */
  readonly serverName: string;
  readonly transportProtocol: "raw_buffer" | "tls";
  /** What inspection found, or what the ClientHello offers. */
  readonly applicationProtocols: readonly string[];
  /** What its tunnel tells; undefined outside of tunnels. */
  readonly filterState?: ((key: FilterStateKey) => string | undefined) | undefined;
}

/** Empty lists and undefined match everything. */
export interface ChainCriteria {
  readonly destinationPort: number | undefined;
  readonly prefixRanges: readonly Cidr[];
  /** In lower case; `*.example.com` for one label or more in front. */
  readonly serverNames: readonly string[];
  readonly transportProtocol: string;
  readonly applicationProtocols: readonly string[];
  readonly directSourcePrefixRanges: readonly Cidr[];
  readonly sourceType: "any" | "same-ip-or-loopback" | "external";
  readonly sourcePrefixRanges: readonly Cidr[];
  readonly sourcePorts: readonly number[];
}

/** One step: finds the next table, or at the end the chain. */
type Step<T> = (facts: ChainFacts) => T | undefined;

interface Entry<T> {
  readonly criteria: ChainCriteria;
  readonly chain: T;
}

export class ChainMatcher<T> {
  readonly #first: Step<T>;
  readonly #fallback: T | undefined;

  /** @param duplicate told of entries with the same criteria, of which only the first counts */
  constructor(
    entries: readonly Entry<T>[],
    fallback: T | undefined,
    duplicate: (first: T, second: T) => void = () => {},
  ) {
    this.#fallback = fallback;
    this.#first = byDestinationPort(entries, (a, b) => duplicate(a.chain, b.chain));
  }

  match(facts: ChainFacts): T | undefined {
    return this.#first(facts) ?? this.#fallback;
  }
}

type Collision<T> = (first: Entry<T>, second: Entry<T>) => void;
type MakeStep<T> = (entries: readonly Entry<T>[], collide: Collision<T>) => Step<T>;

const nothing = () => undefined;

/** Steps for each value that some entry names; an entry without values counts as one that names the `any` value. */
function stepsByValue<T, V>(
  entries: readonly Entry<T>[],
  valuesOf: (criteria: ChainCriteria) => readonly V[],
  any: V,
  next: MakeStep<T>,
  collide: Collision<T>,
): ReadonlyMap<V, Step<T>> {
  const groups = new Map<V, Entry<T>[]>();
  for (const entry of entries) {
    const values = valuesOf(entry.criteria);
    for (const value of values.length === 0 ? [any] : new Set(values)) {
      const group = groups.get(value);
      if (group === undefined) groups.set(value, [entry]);
      else group.push(entry);
    }
  }
  return new Map([...groups].map(([value, group]) => [value, next(group, collide)]));
}

function byDestinationPort<T>(entries: readonly Entry<T>[], collide: Collision<T>): Step<T> {
  const portOf = ({ destinationPort }: ChainCriteria) => (destinationPort === undefined ? [] : [destinationPort]);
  const steps = stepsByValue(entries, portOf, -1, byDestinationRange, collide);
  const any = steps.get(-1) ?? nothing;
  return (facts) => (steps.get(facts.destination.port) ?? any)(facts);
}

const byDestinationRange = <T>(entries: readonly Entry<T>[], collide: Collision<T>): Step<T> =>
  byRange(
    entries,
    ({ prefixRanges }) => prefixRanges,
    ({ destination }) => destination.ip,
    byServerName,
    collide,
  );

/** The longest range that contains the address. Lengths in use are few, so each is one look-up. */
function byRange<T>(
  entries: readonly Entry<T>[],
  rangesOf: (criteria: ChainCriteria) => readonly Cidr[],
  addressOf: (facts: ChainFacts) => Ip,
  next: MakeStep<T>,
  collide: Collision<T>,
): Step<T> {
  const keysOf = (criteria: ChainCriteria) =>
    rangesOf(criteria).map(({ base, length }) => rangeKey(base, length, base.includes(":")));
  const steps = stepsByValue(entries, keysOf, "", next, collide);
  const any = steps.get("") ?? nothing;
  if (steps.size === (steps.has("") ? 1 : 0)) return any;
  const ranges = entries.flatMap(({ criteria }) => rangesOf(criteria));
  const lengths = (v6: boolean) =>
    [...new Set(ranges.filter(({ base }) => base.includes(":") === v6).map(({ length }) => length))].toSorted(
      (a, b) => b - a,
    );
  const [lengths4, lengths6] = [lengths(false), lengths(true)];
  return (facts) => {
    const ip = addressOf(facts);
    const v6 = ip.includes(":");
    for (const length of v6 ? lengths6 : lengths4) {
      const step = steps.get(rangeKey(ip, length, v6));
      if (step !== undefined) return step(facts);
    }
    return any(facts);
  };
}

/** Family, length and the bits that count. */
function rangeKey(ip: Ip, length: number, v6: boolean): string {
  if (length === (v6 ? 128 : 32)) return ip;
  const bytes = ipToBytes(ip);
  const whole = length >> 3;
  const rest = length & 7;
  let key = v6 ? `6/${length}` : `4/${length}`;
  for (let index = 0; index < whole; index++) key += `/${bytes[index]}`;
  return rest === 0 ? key : `${key}/${(bytes[whole] ?? 0) & (0xff << (8 - rest)) & 0xff}`;
}

function byServerName<T>(entries: readonly Entry<T>[], collide: Collision<T>): Step<T> {
  const namesOf = ({ serverNames }: ChainCriteria) =>
    serverNames.map((name) => (name.startsWith("*.") ? name.slice(1) : name));
  const steps = stepsByValue(entries, namesOf, "", byTransport, collide);
  const any = steps.get("") ?? nothing;
  if (steps.size === (steps.has("") ? 1 : 0)) return any;
  return (facts) => {
    const { serverName } = facts;
    if (serverName === "") return any(facts);
    const exact = steps.get(serverName);
    if (exact !== undefined) return exact(facts);
    for (let dot = serverName.indexOf(".", 1); dot >= 0; dot = serverName.indexOf(".", dot + 1)) {
      const step = steps.get(serverName.slice(dot));
      if (step !== undefined) return step(facts);
    }
    return any(facts);
  };
}

function byTransport<T>(entries: readonly Entry<T>[], collide: Collision<T>): Step<T> {
  const transportOf = ({ transportProtocol }: ChainCriteria) => (transportProtocol === "" ? [] : [transportProtocol]);
  const steps = stepsByValue(entries, transportOf, "", byApplication, collide);
  const any = steps.get("") ?? nothing;
  return steps.size === 0 ? nothing : (facts) => (steps.get(facts.transportProtocol) ?? any)(facts);
}

function byApplication<T>(entries: readonly Entry<T>[], collide: Collision<T>): Step<T> {
  const steps = stepsByValue(entries, (criteria) => criteria.applicationProtocols, "", byDirectSource, collide);
  const any = steps.get("") ?? nothing;
  return (facts) => {
    for (const protocol of facts.applicationProtocols) {
      const step = steps.get(protocol);
      if (step !== undefined) return step(facts);
    }
    return any(facts);
  };
}

const byDirectSource = <T>(entries: readonly Entry<T>[], collide: Collision<T>): Step<T> =>
  byRange(
    entries,
    (criteria) => criteria.directSourcePrefixRanges,
    ({ source }) => source.ip,
    bySourceType,
    collide,
  );

function bySourceType<T>(entries: readonly Entry<T>[], collide: Collision<T>): Step<T> {
  const typeOf = ({ sourceType }: ChainCriteria) => (sourceType === "any" ? [] : [sourceType]);
  const steps = stepsByValue<T, ChainCriteria["sourceType"]>(entries, typeOf, "any", bySourceRange, collide);
  const any = steps.get("any") ?? nothing;
  const local = steps.get("same-ip-or-loopback") ?? any;
  const external = steps.get("external") ?? any;
  if (local === external) return local;
  return (facts) => {
    const { source, destination } = facts;
    return isLoopback(source.ip) || source.ip === destination.ip ? local(facts) : external(facts);
  };
}

const bySourceRange = <T>(entries: readonly Entry<T>[], collide: Collision<T>): Step<T> =>
  byRange(
    entries,
    (criteria) => criteria.sourcePrefixRanges,
    ({ source }) => source.ip,
    bySourcePort,
    collide,
  );

function bySourcePort<T>(entries: readonly Entry<T>[], collide: Collision<T>): Step<T> {
  const steps = stepsByValue(entries, (criteria) => criteria.sourcePorts, -1, theOnly, collide);
  const any = steps.get(-1) ?? nothing;
  return steps.size === (steps.has(-1) ? 1 : 0) ? any : (facts) => (steps.get(facts.source.port) ?? any)(facts);
}

function theOnly<T>([first, ...others]: readonly Entry<T>[], collide: Collision<T>): Step<T> {
  if (first === undefined) return nothing;
  for (const other of others) collide(first, other);
  const { chain } = first;
  return () => chain;
}
