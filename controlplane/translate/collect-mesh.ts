/** The part of a translation that everything else is judged against: gateways, waypoints, and the services they serve. */
import type { Gateway, Meta, ServiceEntry } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { networkLabel } from "./annotations.ts";
import { allocateAutoVips, type AutoVips } from "./auto-vips.ts";
import { collectEndpointPorts, effectiveAddresses, gatewayStatus } from "./gateway-status.ts";
import { collectNetworkGateways, type NetworkGateway } from "./network-gateways.ts";
import type { TranslateOptions } from "./options.ts";
import { isOfRevision, isOwned } from "./revision.ts";
import { collectServices, type ServiceInfo } from "./services.ts";
import type { StatusUpdate } from "./status.ts";
import { collectWaypoints, type Waypoints } from "./waypoints.ts";

export interface CollectedMesh {
  /** That of this cluster. */
  readonly network: string;
  /** Of this revision. */
  readonly serviceEntries: readonly ServiceEntry[];
  /** Of the Gateways that are ours to look after. */
  readonly gatewayUpdates: ReadonlyMap<Gateway, StatusUpdate | undefined>;
  readonly waypoints: Waypoints;
  readonly networkGateways: readonly NetworkGateway[];
  readonly autoVips: AutoVips;
  /** Every service that is published. */
  readonly services: readonly ServiceInfo[];
  /** The same by kind and `namespace/name` of the object that they come from. */
  readonly servicesByName: ReadonlyMap<string, ServiceInfo>;
}

export function collectMesh(world: WorldView, options: TranslateOptions): CollectedMesh {
  const ours = <T extends { readonly meta: Meta }>(objects: readonly T[]): readonly T[] =>
    objects.filter(({ meta }) => isOfRevision(meta, options));
  const network = world.get("Namespace", "", options.systemNamespace)?.meta.labels.get(networkLabel) ?? "";
  const serviceEntries = ours(world.all("ServiceEntry"));
  // Who looks after a Gateway is one question, where it leads another: proxies have one control plane, but may meet
  // waypoints of every revision.
  const gateways = world.all("Gateway");
  const endpointPorts = collectEndpointPorts(world);
  const gatewayUpdates = new Map(
    gateways
      .filter(({ meta }) => isOwned(world, meta, options))
      .map((gateway) => [gateway, gatewayStatus(world, gateway, endpointPorts, options)] as const),
  );
  const addressesOf = (gateway: Gateway) => effectiveAddresses(gateway, gatewayUpdates.get(gateway));
  const waypoints = collectWaypoints(world, gateways, addressesOf, network);
  const autoVips = allocateAutoVips(serviceEntries, options);
  const services = collectServices({ world, options, network, waypoints, autoVips }, serviceEntries);
  return {
    network,
    serviceEntries,
    gatewayUpdates,
    waypoints,
    networkGateways: collectNetworkGateways(world, gateways, addressesOf),
    autoVips,
    services,
    servicesByName: new Map(
      services.map((service) => [`${service.source}/${service.meta.namespace}/${service.meta.name}`, service]),
    ),
  };
}

/** The published hosts of each ServiceEntry, by its `namespace/name`. */
export function groupByEntry(services: readonly ServiceInfo[]): ReadonlyMap<string, readonly ServiceInfo[]> {
  return Map.groupBy(
    services.filter(({ source }) => source === "ServiceEntry"),
    ({ meta }) => `${meta.namespace}/${meta.name}`,
  );
}
