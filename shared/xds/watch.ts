import type { ResourceSource, ServedResource } from "./resource-store.ts";
import type { Outcome } from "./type-watch.ts";

/**
 * What one client watches of one type, and what it is still owed. Pure bookkeeping: requests and changes go in,
 * {@link nextResponse} takes out. What is owed is kept as names and read from the source when it is sent, so a slow client
 * costs a set of names, gets only the latest, and never a queue.
 */
export interface Watch {
  readonly typeUrl: string;
  wildcard: boolean;
  /** Keys asked for by name, and what they implied; unused while everything is watched. */
  readonly keys: Set<string>;
  /** Names the client holds, as far as it asked by name; for everything nothing is kept, to spare memory. */
  readonly held: Set<string>;
  lastSent?: Sent;
  lastAckedNonce?: string;
  lastError?: { readonly message: string; readonly nonce: string; readonly atMs: number };
  owed?: Owed;
}

interface Sent {
  readonly nonce: string;
  readonly atMs: number;
}

interface Owed {
  /** A response is due even if there is nothing to say: somebody waits for it. */
  mustAnswer: boolean;
  /** Everything, less what the client claims to hold in this version. */
  everything: boolean;
  claimed?: Readonly<Record<string, string>>;
  /** Keys just asked for. */
  readonly keys: Set<string>;
  /** Names that changed. */
  readonly changed: Set<string>;
  /** When the oldest part became due. */
  readonly sinceMs: number;
}

/** The parts of a request that matter here. */
export interface WatchRequest {
  readonly typeUrl: string;
  readonly resourceNamesSubscribe: readonly string[];
  readonly resourceNamesUnsubscribe: readonly string[];
  readonly initialResourceVersions: Readonly<Record<string, string>>;
  readonly responseNonce: string;
  readonly errorDetail?: { readonly message: string } | undefined;
}

const everythingKey = "*";

/** Names that one client may ask for; far above what one node talks to. */
export const keyBound = 100_000;

/** What is kept of a client's own words: a reason to show, and a nonce, which is ours if it is honest. */
const longestWords = 1_000;

/** The first request for a type: always answered. A type that cannot be had by name always comes whole. */
export function openWatch(request: WatchRequest, source: ResourceSource, nowMs: number): Watch {
  const subscribe = request.resourceNamesSubscribe;
  const unsubscribe = new Set(request.resourceNamesUnsubscribe);
  const asksAll = subscribe.length === 0 || subscribe.includes(everythingKey);
  const wildcard = source.onDemand === undefined || (asksAll && !unsubscribe.has(everythingKey));
  const claimed = request.initialResourceVersions;
  const keys = wildcard
    ? []
    : [...subscribe, ...Object.keys(claimed)].filter((key) => key !== everythingKey && !unsubscribe.has(key));
  return {
    typeUrl: request.typeUrl,
    wildcard,
    keys: new Set(keys),
    held: new Set(),
    owed: {
      mustAnswer: true,
      everything: wildcard,
      claimed,
      keys: new Set(keys),
      changed: new Set(),
      sinceMs: nowMs,
    },
  };
}

export function onRequest(watch: Watch, request: WatchRequest, source: ResourceSource, nowMs: number): Outcome {
  const { responseNonce: nonce, errorDetail } = request;
  if (errorDetail !== undefined) {
    const [message, refused] = [errorDetail.message, nonce].map((text) => text.slice(0, longestWords));
    watch.lastError = { message: message ?? "", nonce: refused ?? "", atMs: nowMs };
    return "nacked";
  }
  if (nonce !== "" && nonce !== watch.lastSent?.nonce) return "stale";
  if (nonce !== "") {
    watch.lastAckedNonce = nonce;
    delete watch.lastError;
  }
  const changed = changeSubscription(watch, request, source, nowMs);
  if (changed) return "changed";
  return nonce === "" ? "nothing" : "acked";
}

/** True where a response is due now. */
function changeSubscription(watch: Watch, request: WatchRequest, source: ResourceSource, nowMs: number): boolean {
  const { resourceNamesSubscribe: subscribe, resourceNamesUnsubscribe: unsubscribe } = request;
  for (const key of unsubscribe) {
    if (key === everythingKey && source.onDemand !== undefined) watch.wildcard = false;
    watch.keys.delete(key);
    watch.held.delete(key);
    watch.owed?.keys.delete(key);
  }
  if (subscribe.length === 0) return false;
  const owed = owe(watch, nowMs);
  owed.mustAnswer = true;
  if (subscribe.includes(everythingKey) && !unsubscribe.includes(everythingKey)) {
    watch.wildcard = true;
    watch.keys.clear();
    watch.held.clear();
  }
  if (watch.wildcard) {
    // Someone who has everything and asks for a name gets everything again, as from Istio: names are not kept for these.
    owed.everything = true;
    return true;
  }
  for (const key of subscribe) {
    if (key === everythingKey) continue;
    watch.keys.add(key);
    owed.keys.add(key);
  }
  return true;
}

/** Something changed at the source. Cheap, as it runs for every client at every change. */
export function onChange(watch: Watch, names: ReadonlySet<string>, nowMs: number): void {
  const { changed } = owe(watch, nowMs);
  for (const name of names) changed.add(name);
}

function owe(watch: Watch, nowMs: number): Owed {
  watch.owed ??= {
    mustAnswer: false,
    everything: false,
    keys: new Set(),
    changed: new Set(),
    sinceMs: nowMs,
  };
  return watch.owed;
}

/** What to send. */
export interface WatchResponse {
  readonly resources: readonly ServedResource[];
  readonly removed: readonly string[];
  /** Whether clients asked by name: then resources carry their aliases. */
  readonly named: boolean;
  /** When the oldest change in it happened. */
  readonly sinceMs: number;
}

/** Takes out what is owed; undefined where it comes to nothing. */
export function nextResponse(watch: Watch, source: ResourceSource, nodeName?: string): WatchResponse | undefined {
  const { owed } = watch;
  if (owed === undefined) return undefined;
  delete watch.owed;
  const built = watch.wildcard ? forEverything(owed, source) : forNames(watch, owed, source, nodeName);
  if (built.resources.length === 0 && built.removed.length === 0 && !owed.mustAnswer) return undefined;
  return { ...built, named: !watch.wildcard, sinceMs: owed.sinceMs };
}

interface Built {
  readonly resources: readonly ServedResource[];
  readonly removed: readonly string[];
}

function forEverything({ everything, claimed = {}, changed }: Owed, source: ResourceSource): Built {
  if (everything) {
    const resources = [...source.all()].filter(({ name, version }) => version === "" || claimed[name] !== version);
    const gone = [...Object.keys(claimed), ...changed].filter((name) => source.get(name) === undefined);
    return { resources, removed: [...new Set(gone)] };
  }
  const resources: ServedResource[] = [];
  const removed: string[] = [];
  for (const name of changed) {
    const resource = source.get(name);
    if (resource === undefined) removed.push(name);
    else resources.push(resource);
  }
  return { resources, removed };
}

function forNames(watch: Watch, owed: Owed, source: ResourceSource, nodeName: string | undefined): Built {
  const { keys, held } = watch;
  const wanted = new Set<string>();
  const removed = new Set<string>();
  for (const key of owed.keys) {
    const names = source.onDemand?.resolve(key) ?? (source.get(key) === undefined ? [] : [key]);
    if (names.length === 0) {
      removed.add(key);
      held.delete(key);
    }
    for (const name of names) {
      wanted.add(name);
      for (const implied of source.onDemand?.implied(name) ?? []) {
        wanted.add(implied);
        keys.add(implied);
      }
    }
  }
  if (owed.mustAnswer && nodeName !== undefined) {
    for (const name of source.onDemand?.onNode(nodeName) ?? []) if (!held.has(name)) wanted.add(name);
  }
  for (const name of owed.changed) {
    const resource = source.get(name);
    if (resource === undefined) {
      if (held.delete(name) || keys.has(name)) removed.add(name);
    } else if (isWatched(watch, resource, source, nodeName)) wanted.add(name);
  }

  const resources: ServedResource[] = [];
  for (const name of wanted) {
    const resource = source.get(name);
    if (resource === undefined) continue;
    held.add(name);
    if (!isClaimed(resource, owed.claimed)) resources.push(resource);
  }
  return { resources, removed: [...removed] };
}

function isWatched(
  { keys, held }: Watch,
  resource: ServedResource,
  source: ResourceSource,
  nodeName?: string,
): boolean {
  const { name, aliases } = resource;
  if (held.has(name) || keys.has(name) || aliases.some((alias) => keys.has(alias))) return true;
  return nodeName !== undefined && (source.onDemand?.isOnNode(name, nodeName) ?? false);
}

/** A client may claim by any of the names under which it asked. */
function isClaimed(
  { name, aliases, version }: ServedResource,
  claimed: Readonly<Record<string, string>> = {},
): boolean {
  return version !== "" && [name, ...aliases].some((key) => claimed[key] === version);
}
