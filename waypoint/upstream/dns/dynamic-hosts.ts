/** Hosts of a dynamic forward proxy: whatever name a request is for, resolved when it first comes and kept while it is used. */
import type { Clock } from "#shared/clock/clock.ts";
import { hostPort, splitHostPort, tryIp } from "#shared/net/ip.ts";
import type { PickContext } from "../clusters.ts";
import { socketAt } from "../compile/compile-endpoints.ts";
import type { DnsCacheSettings } from "../compile/compile-discovery.ts";
import { Endpoint } from "../endpoint.ts";
import { isDnsName } from "./dns-name.ts";
import type { Resolved } from "./lookup.ts";
import { NameWatch } from "./name-watch.ts";
import type { Resolver } from "./resolver.ts";

export interface DynamicHostsOptions {
  readonly settings: DnsCacheSettings;
  readonly resolver: Resolver;
  readonly clock: Clock;
  readonly random: () => number;
  /** Where a request names no port. */
  readonly defaultPort: number;
  readonly onRemoved: (host: Endpoint) => void;
}

interface Entry {
  host: Endpoint | undefined;
  lastUsedMs: number;
  /** Until the first answer. */
  readonly first: PromiseWithResolvers<void>;
  isWaiting: boolean;
  watch: NameWatch | undefined;
  cancelDeadline: () => void;
}

const noLocality = { region: "", zone: "", subZone: "" };

export class DynamicHosts implements Disposable {
  readonly #options: DynamicHostsOptions;
  readonly #entries = new Map<string, Entry>();
  #waiting = 0;
  #cancelSweep: () => void = () => {};

  constructor(options: DynamicHostsOptions) {
    this.#options = options;
  }

  get hosts(): readonly Endpoint[] {
    return [...this.#entries.values()].flatMap(({ host }) => host ?? []);
  }

  /** A host, a wait for its name, or a sentence. */
  pick(context: PickContext): Endpoint | Promise<void> | string {
    const target = this.#target(context);
    if (typeof target === "string") return target;
    const { clock } = this.#options;
    const key = hostPort(target.host, target.port);
    const entry = this.#entries.get(key) ?? this.#add(key, target);
    if (typeof entry === "string") return entry;
    entry.lastUsedMs = clock.now();
    if (entry.host !== undefined) return entry.host;
    return entry.isWaiting ? entry.first.promise : `"${target.host}" cannot be resolved`;
  }

  [Symbol.dispose](): void {
    this.#cancelSweep();
    for (const entry of this.#entries.values()) close(entry);
    this.#entries.clear();
  }

  #target({ exchange, dynamicHost }: PickContext): { readonly host: string; readonly port: number } | string {
    if (dynamicHost !== undefined) return checked(dynamicHost.host, dynamicHost.port);
    const authority = exchange?.request.authority ?? "";
    if (authority === "") return "the request names no host";
    const split = splitHostPort(authority);
    return checked(split?.host ?? authority.replace(/^\[(.*)\]$/, "$1"), split?.port ?? this.#options.defaultPort);
  }

  #add(key: string, { host, port }: { readonly host: string; readonly port: number }): Entry | string {
    const { settings, clock, resolver, random } = this.#options;
    if (this.#entries.size >= settings.maxHosts && !this.#makeRoom()) return "too many names are in use";
    const entry: Entry = {
      host: undefined,
      lastUsedMs: clock.now(),
      first: Promise.withResolvers<void>(),
      isWaiting: false,
      watch: undefined,
      cancelDeadline: () => {},
    };
    const ip = tryIp(host);
    if (ip !== undefined) {
      entry.host = this.#endpoint(host, [ip], port);
    } else {
      if (this.#waiting >= settings.maxPending) return "too many names are being resolved";
      this.#waiting++;
      entry.isWaiting = true;
      entry.cancelDeadline = clock.schedule(settings.queryTimeoutMs, () => this.#settled(entry));
      entry.watch = new NameWatch({
        name: host,
        config: settings,
        resolver,
        clock,
        random,
        minRefreshMs: settings.minRefreshMs,
        onResolved: (resolved) => this.#onResolved(entry, host, port, resolved),
        onFailure: () => this.#settled(entry),
      });
    }
    if (this.#entries.size === 0) this.#scheduleSweep();
    this.#entries.set(key, entry);
    return entry;
  }

  #onResolved(entry: Entry, name: string, port: number, { ips }: Resolved): void {
    const [first] = ips;
    // A name that no longer resolves keeps the address it had, as long as it is used.
    if (first !== undefined) {
      if (entry.host === undefined) entry.host = this.#endpoint(name, ips, port);
      else moveTo(entry.host, ips, port, this.#options.settings.family === "all");
    }
    this.#settled(entry);
  }

  #settled(entry: Entry): void {
    if (!entry.isWaiting) return;
    entry.isWaiting = false;
    entry.cancelDeadline();
    this.#waiting--;
    entry.first.resolve();
  }

  #endpoint(hostname: string, ips: readonly string[], port: number): Endpoint {
    const { clock, settings } = this.#options;
    const address = socketAt(ips[0] as string, port);
    const spec = { ...address, alternatives: [], hostname, weight: 1, status: "unknown", metadata: new Map() } as const;
    const host = new Endpoint(spec, { locality: noLocality, priority: 0 }, clock.now());
    moveTo(host, ips, port, settings.family === "all");
    return host;
  }

  /** The one that was longest unused goes, if nothing is under way to it. */
  #makeRoom(): boolean {
    let oldest: string | undefined;
    let usedMs = Number.POSITIVE_INFINITY;
    for (const [key, { lastUsedMs, host, isWaiting }] of this.#entries) {
      if (isWaiting || (host?.active ?? 0) > 0 || lastUsedMs >= usedMs) continue;
      oldest = key;
      usedMs = lastUsedMs;
    }
    if (oldest === undefined) return false;
    this.#remove(oldest);
    return true;
  }

  #scheduleSweep(): void {
    const { clock, settings } = this.#options;
    this.#cancelSweep = clock.schedule(Math.max(settings.hostTtlMs / 2, 1_000), () => this.#sweep());
  }

  #sweep(): void {
    const before = this.#options.clock.now() - this.#options.settings.hostTtlMs;
    for (const [key, { lastUsedMs, host }] of this.#entries) {
      if (lastUsedMs <= before && (host?.active ?? 0) === 0) this.#remove(key);
    }
    if (this.#entries.size > 0) this.#scheduleSweep();
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#settled(entry);
    close(entry);
    if (entry.host !== undefined) this.#options.onRemoved(entry.host);
  }
}

function close(entry: Entry): void {
  entry.watch?.[Symbol.dispose]();
  entry.cancelDeadline();
  entry.first.resolve();
}

function checked(host: string, port: number): { readonly host: string; readonly port: number } | string {
  const name = host.toLowerCase();
  if (port < 1 || port > 65_535) return `${port} is not a port`;
  if (tryIp(name) === undefined && !isDnsName(name)) return "the request's host is not a name";
  return { host: tryIp(name) ?? name, port };
}

function moveTo(host: Endpoint, ips: readonly string[], port: number, usesAll: boolean): void {
  const [first, ...others] = ips;
  if (first === undefined) return;
  const { key, address } = socketAt(first, port);
  host.key = key;
  host.address = address;
  host.alternatives = usesAll ? others.map((ip) => socketAt(ip, port).address) : [];
}
