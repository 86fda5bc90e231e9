/** Brings in what a decision will look up, where the control plane is asked name by name (XDS_ON_DEMAND). */
import type { WorkloadStore } from "#shared/workload/workload-store.ts";
import { serviceKey, type GatewayAddress, type Workload } from "#shared/workload/workload.ts";
import type { OutboundRequest } from "#ztunnel/outbound/decide-outbound.ts";

/** Asks for one name and resolves when it was answered, found or not. */
export type Demand = (name: string) => Promise<void>;

export function prepareOnDemand(store: WorkloadStore, network: string, demand: Demand) {
  const needGateway = async (reference: GatewayAddress | undefined): Promise<void> => {
    const destination = reference?.destination;
    if (destination?.kind === "hostname") {
      const { namespace, hostname } = destination;
      const isKnown =
        store.serviceByKey(`${namespace}/${hostname}`) !== undefined ||
        store.workloadByHostname(namespace, hostname) !== undefined;
      if (!isKnown) await demand(`${namespace}/${hostname}`);
    } else if (destination !== undefined) {
      const { network: where, ip } = destination;
      if (!isAddressKnown(store, where, ip)) await demand(`${where}/${ip}`);
    }
  };
  const needWorkload = async ({ waypoint, networkGateway, network: where }: Workload): Promise<void> => {
    await needGateway(waypoint);
    if (where !== network) await needGateway(networkGateway);
  };
  return async ({ source, target }: OutboundRequest): Promise<void> => {
    if (!isAddressKnown(store, network, target.ip)) await demand(`${network}/${target.ip}`);
    const workload = store.workloadByAddress(network, target.ip);
    if (workload !== undefined) await needWorkload(workload);
    const service = store.serviceByAddress(network, target.ip, source.namespace)?.service;
    if (service === undefined) return;
    await needGateway(service.waypoint);
    for (const { destination } of service.weightedWaypoints) await needGateway(destination);
    // Endpoints come with their service, but may wait behind gateways of their own.
    for (const endpoint of store.serviceByKey(serviceKey(service))?.endpoints.values() ?? []) {
      if (endpoint.workload.network !== network) await needGateway(endpoint.workload.networkGateway);
    }
  };
}

const isAddressKnown = (store: WorkloadStore, network: string, ip: OutboundRequest["target"]["ip"]): boolean =>
  store.workloadByAddress(network, ip) !== undefined || store.serviceByAddress(network, ip) !== undefined;
