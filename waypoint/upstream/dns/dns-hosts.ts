/** Hosts of STRICT_DNS and LOGICAL_DNS clusters: an assignment in which names stand, with their addresses put in. */
import type { Clock } from "#shared/clock/clock.ts";
import type { Ip } from "#shared/net/ip.ts";
import {
  isNamed,
  socketAt,
  type Assignment,
  type EndpointGroup,
  type NamedEndpoint,
} from "../compile/compile-endpoints.ts";
import type { DnsConfig } from "../compile/compile-discovery.ts";
import type { EndpointSpec } from "../endpoint.ts";
import { NameWatch } from "./name-watch.ts";
import type { Resolver } from "./resolver.ts";

export interface DnsHostsOptions {
  /** `strict-dns`: every address is a host. `logical-dns`: the name is one host, which is at its first address. */
  readonly kind: "strict-dns" | "logical-dns";
  readonly assignment: Assignment;
  readonly dns: DnsConfig;
  readonly resolver: Resolver;
  readonly clock: Clock;
  readonly random: () => number;
  /** With every change, and once when all names have been asked for. */
  readonly onHosts: (assignment: Assignment) => void;
  /** Every name has been asked for once, found or not. */
  readonly onReady: () => void;
  readonly onFailure: (name: string, error: unknown) => void;
}

export class DnsHosts implements Disposable {
  readonly #options: DnsHostsOptions;
  /** Addresses by name; undefined until the first answer. */
  readonly #known = new Map<string, readonly Ip[] | undefined>();
  readonly #watches: NameWatch[] = [];
  readonly #unasked: Set<string>;

  constructor(options: DnsHostsOptions) {
    this.#options = options;
    const { assignment, dns, resolver, clock, random } = options;
    const endpoints = assignment.groups.flatMap((group) => group.endpoints);
    const names = new Set(endpoints.flatMap((endpoint) => (isNamed(endpoint) ? [endpoint.name] : [])));
    this.#unasked = new Set(names);
    for (const name of names) {
      this.#watches.push(
        new NameWatch({
          name,
          config: dns,
          resolver,
          clock,
          random,
          onResolved: ({ ips }) => this.#onResolved(name, ips),
          onFailure: (error) => {
            options.onFailure(name, error);
            this.#asked(name);
          },
        }),
      );
    }
    if (names.size > 0) return;
    options.onHosts(assignment);
    options.onReady();
  }

  [Symbol.dispose](): void {
    for (const watch of this.#watches) watch[Symbol.dispose]();
  }

  #onResolved(name: string, ips: readonly Ip[]): void {
    const before = this.#known.get(name);
    // A logical host that has lost its name stays where it was.
    const next = ips.length === 0 && this.#options.kind === "logical-dns" ? (before ?? []) : ips;
    this.#known.set(name, next);
    if (before === undefined || !sameList(before, next)) this.#options.onHosts(this.#assignment());
    this.#asked(name);
  }

  #asked(name: string): void {
    if (this.#unasked.delete(name) && this.#unasked.size === 0) this.#options.onReady();
  }

  #assignment(): Assignment {
    const { assignment } = this.#options;
    return { ...assignment, groups: assignment.groups.map((group) => this.#resolveGroup(group)) };
  }

  #resolveGroup(group: EndpointGroup): EndpointGroup {
    const endpoints = group.endpoints.flatMap((endpoint) => (isNamed(endpoint) ? this.#hostsOf(endpoint) : [endpoint]));
    return { ...group, endpoints };
  }

  #hostsOf({ name, port, spec }: NamedEndpoint): readonly EndpointSpec[] {
    const ips = this.#known.get(name) ?? [];
    if (this.#options.kind === "strict-dns") return ips.map((ip) => ({ ...spec, ...socketAt(ip, port) }));
    const [first, ...others] = ips;
    if (first === undefined) return [];
    const further = this.#options.dns.family === "all" ? others.map((ip) => socketAt(ip, port).address) : [];
    return [{ ...spec, ...socketAt(first, port), alternatives: [...spec.alternatives, ...further] }];
  }
}

/** The same addresses; servers rotate them, which is no change. The first counts for a logical host. */
function sameList(a: readonly Ip[], b: readonly Ip[]): boolean {
  return a.length === b.length && a[0] === b[0] && a.every((ip) => b.includes(ip));
}
