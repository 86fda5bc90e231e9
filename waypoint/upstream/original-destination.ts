/** Hosts of an ORIGINAL_DST cluster: wherever the client was going, made when somebody goes there. */
import type { Clock } from "#shared/clock/clock.ts";
import { splitHostPort, tryIp } from "#shared/net/ip.ts";
import type { PickContext } from "./clusters.ts";
import { socketAt } from "./compile/compile-endpoints.ts";
import type { OriginalDstConfig } from "./compile/compile-discovery.ts";
import { Endpoint } from "./endpoint.ts";
import type { HostAddress } from "./host.ts";

export interface OriginalDestinationOptions {
  readonly config: OriginalDstConfig;
  readonly clock: Clock;
  /** Whether a tunnel leads to this address: the workload index knows. */
  readonly isTunnelled: (ip: string) => boolean;
  readonly onRemoved: (host: Endpoint) => void;
  /** Hosts at once. Addresses come from clients, so there is a bound. Default 10 000. */
  readonly maxHosts?: number;
}

interface Entry {
  readonly host: Endpoint;
  wasUsed: boolean;
}

const noLocality = { region: "", zone: "", subZone: "" };

export class OriginalDestination implements Disposable {
  readonly #options: OriginalDestinationOptions;
  readonly #entries = new Map<string, Entry>();
  #cancel: () => void = () => {};

  constructor(options: OriginalDestinationOptions) {
    this.#options = options;
  }

  get hosts(): readonly Endpoint[] {
    return [...this.#entries.values()].map(({ host }) => host);
  }

  /** A sentence where there is nowhere to go. */
  pick(context: PickContext): Endpoint | string {
    const target = this.#target(context);
    if (typeof target === "string") return target;
    const spec = this.#addressOf(target);
    const known = this.#entries.get(spec.key);
    if (known !== undefined) {
      known.wasUsed = true;
      return known.host;
    }
    return this.#add(spec) ?? "too many original destinations are in use";
  }

  [Symbol.dispose](): void {
    this.#cancel();
    this.#cancel = () => {};
  }

  #target({ exchange, originalDestination }: PickContext): { readonly ip: string; readonly port: number } | string {
    const { header, portOverride } = this.#options.config;
    let target = originalDestination ?? exchange?.connection.destination;
    if (header !== undefined) {
      const text = exchange?.request.headers.get(header);
      const parsed = text === undefined ? undefined : splitHostPort(text);
      const ip = parsed === undefined ? undefined : tryIp(parsed.host);
      if (text !== undefined && (parsed === undefined || ip === undefined)) {
        return `header ${header} holds no IP address and port`;
      }
      if (parsed !== undefined && ip !== undefined) target = { ip, port: parsed.port };
    }
    if (target === undefined) return "the connection has no original destination";
    return portOverride === undefined ? target : { ip: target.ip, port: portOverride };
  }

  #addressOf({ ip, port }: { readonly ip: string; readonly port: number }) {
    const socket = socketAt(ip, port);
    const { config, isTunnelled } = this.#options;
    if (config.alwaysTunnels !== true && !isTunnelled(ip)) return socket;
    const address: HostAddress = { kind: "hbone", ip, port };
    return { key: `envoy://connect_originate/${socket.key}`, address };
  }

  #add({ key, address }: { readonly key: string; readonly address: HostAddress }): Endpoint | undefined {
    const { maxHosts = 10_000, clock } = this.#options;
    if (this.#entries.size >= maxHosts && !this.#makeRoom()) return undefined;
    const spec = {
      key,
      address,
      alternatives: [],
      hostname: "",
      weight: 1,
      status: "unknown",
      metadata: new Map(),
    } as const;
    const host = new Endpoint(spec, { locality: noLocality, priority: 0 }, clock.now());
    if (this.#entries.size === 0) this.#scheduleSweep();
    this.#entries.set(key, { host, wasUsed: true });
    return host;
  }

  /** The oldest without a request in flight goes. */
  #makeRoom(): boolean {
    for (const [key, { host }] of this.#entries) {
      if (host.active > 0) continue;
      this.#remove(key, host);
      return true;
    }
    return false;
  }

  #scheduleSweep(): void {
    const { config, clock } = this.#options;
    this.#cancel();
    this.#cancel = clock.schedule(Math.max(config.cleanupMs, 1_000), () => this.#sweep());
  }

  /** What was not used since the last sweep goes. */
  #sweep(): void {
    for (const [key, entry] of this.#entries) {
      if (entry.wasUsed || entry.host.active > 0) entry.wasUsed = false;
      else this.#remove(key, entry.host);
    }
    if (this.#entries.size > 0) this.#scheduleSweep();
  }

  #remove(key: string, host: Endpoint): void {
    this.#entries.delete(key);
    this.#options.onRemoved(host);
  }
}
