/** The hosts of a cluster. Whoever stays at its address stays the same object, whatever else an update says. */
import type { HostGroup, HostLevels } from "./balancing/load-balancer.ts";
import { isNamed, type Assignment, type EndpointGroup } from "./compile/compile-endpoints.ts";
import { Endpoint, type EndpointSpec } from "./endpoint.ts";

export interface RegistryChange {
  readonly added: readonly Endpoint[];
  readonly removed: readonly Endpoint[];
}

export class HostRegistry {
  /** By address; a logical host, which may move, by its name. */
  #hosts: ReadonlyMap<string, Endpoint> = new Map();
  #levels: HostLevels<Endpoint> = { levels: [], overprovisioningFactor: 140, countsWeights: false };

  get hosts(): readonly Endpoint[] {
    return [...this.#hosts.values()];
  }

  get levels(): HostLevels<Endpoint> {
    return this.#levels;
  }

  /** By address as `ip:port`, however it is reached. */
  find(address: string): Endpoint | undefined {
    return this.#hosts.get(address) ?? this.#hosts.get(`envoy://connect_originate/${address}`);
  }

  /** @param isLogical the one host is the same wherever its name points */
  assign(assignment: Assignment, nowMs: number, isLogical: boolean): RegistryChange {
    const before = this.#hosts;
    const hosts = new Map<string, Endpoint>();
    const added: Endpoint[] = [];
    const levels: HostGroup<Endpoint>[][] = [];
    for (const group of mergeLocalities(assignment.groups)) {
      while (levels.length <= group.priority) levels.push([]);
      const members: Endpoint[] = [];
      for (const spec of group.endpoints) {
        if (isNamed(spec)) continue;
        const id = isLogical ? spec.hostname : spec.key;
        // The same address twice is one host: the first says where.
        if (hosts.has(id)) continue;
        const known = before.get(id);
        const host = known ?? new Endpoint(spec, group, nowMs);
        if (known === undefined) added.push(host);
        else known.update(spec, group, nowMs);
        if (isLogical) move(host, spec);
        hosts.set(id, host);
        members.push(host);
      }
      levels[group.priority]?.push({ hosts: members, weight: group.weight });
    }
    this.#hosts = hosts;
    const { overprovisioningFactor, countsWeights } = assignment;
    this.#levels = { levels, overprovisioningFactor, countsWeights };
    return { added, removed: [...before].flatMap(([id, host]) => (hosts.get(id) === host ? [] : [host])) };
  }
}

/** Connections that stand stay where they are; new ones go to the new address. */
function move(host: Endpoint, { key, address }: EndpointSpec): void {
  host.key = key;
  host.address = address;
}

/** A locality that stands twice in one priority is one. */
function mergeLocalities(groups: readonly EndpointGroup[]): readonly EndpointGroup[] {
  const merged = new Map<string, EndpointGroup>();
  for (const group of groups) {
    const { region, zone, subZone } = group.locality;
    const id = JSON.stringify([group.priority, region, zone, subZone]);
    const first = merged.get(id);
    merged.set(
      id,
      first === undefined
        ? group
        : { ...first, weight: group.weight, endpoints: [...first.endpoints, ...group.endpoints] },
    );
  }
  return [...merged.values()];
}
