/** WorkloadEntries and the endpoints of ServiceEntries as workloads. */
import { WorkloadType, type Address } from "#shared/proto/gen/workload/workload_pb.js";
import type { Endpoint, Labels, ServiceEntry, WorkloadEntry } from "#controlplane/mesh/objects.ts";
import { registrationGroupAnnotation, workloadNameLabel } from "./annotations.ts";
import { endpointPorts } from "./service-ports.ts";
import type { ServiceInfo } from "./services.ts";
import type { Binding } from "./waypoints.ts";
import {
  canonical,
  common,
  locality,
  located,
  placement,
  servicesMap,
  tunnel,
  workloadAddress,
  type WorkloadContext,
  type WorkloadInit,
} from "./workload-base.ts";

/** Labels of the object win over those of its spec. */
export const entryLabels = ({ meta, endpoint }: WorkloadEntry): Labels =>
  endpoint.labels.size === 0 ? meta.labels : new Map([...endpoint.labels, ...meta.labels]);

/** The workload, and the waypoint that its author is told of. */
export function entryWorkload(
  context: WorkloadContext,
  entry: WorkloadEntry,
  services: readonly ServiceInfo[],
): { readonly address: Address; readonly binding: Binding } {
  const { meta, endpoint } = entry;
  const labels = entryLabels(entry);
  const name = meta.annotations.get(registrationGroupAnnotation) ?? labels.get(workloadNameLabel) ?? meta.name;
  const { fields, binding } = placement(context, { namespace: meta.namespace, labels });
  const address = workloadAddress({
    ...common(context, endpoint.network || context.network),
    ...canonical(labels, name),
    ...tunnel(labels, meta.annotations),
    ...located(endpoint.address),
    ...locality(endpoint.locality),
    ...weighted(endpoint),
    ...fields,
    uid: `${context.options.clusterId}/networking.istio.io/WorkloadEntry/${meta.namespace}/${meta.name}`,
    name: meta.name,
    namespace: meta.namespace,
    serviceAccount: endpoint.serviceAccount,
    workloadName: name,
    workloadType: WorkloadType.POD,
    services: servicesMap(services, (service) => endpointPorts(service, endpoint)),
    authorizationPolicies: context.policies.forWorkload({
      namespace: meta.namespace,
      labels,
      binding,
      services,
    }),
  });
  return { address, binding };
}

const weighted = ({ weight }: Endpoint): Pick<WorkloadInit, "capacity"> => (weight > 0 ? { capacity: weight } : {});

const resolvesByDns = (resolution: string): boolean => ["DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"].includes(resolution);

/** One endpoint of a ServiceEntry with what it serves. */
export interface EntryEndpoint {
  readonly endpoint: Endpoint;
  /** The network it is in, after defaults. */
  readonly network: string;
  readonly services: readonly ServiceInfo[];
  readonly isImplicit: boolean;
}

/**
 * The endpoints written in a ServiceEntry; where there are none and names are to be resolved, one for each host.
 * `services` are the entry's hosts that are published.
 */
export function entryEndpoints(
  entry: ServiceEntry,
  services: readonly ServiceInfo[],
  localNetwork: string,
): readonly EntryEndpoint[] {
  if (services.length === 0) return [];
  if (entry.endpoints.length > 0) {
    let network = localNetwork;
    return entry.endpoints.map((endpoint) => {
      // As in Istio, an endpoint without a network is in that of the nearest one before it which names one.
      network = endpoint.network || network;
      return { endpoint, network, services, isImplicit: false };
    });
  }
  if (entry.workloadSelector !== undefined || !resolvesByDns(entry.resolution)) return [];
  return services.map((service) => ({
    endpoint: implicitEndpoint(service.hostname),
    network: localNetwork,
    services: [service],
    isImplicit: true,
  }));
}

const implicitEndpoint = (address: string): Endpoint => ({
  address,
  ports: new Map(),
  labels: new Map(),
  network: "",
  locality: "",
  weight: 0,
  serviceAccount: "",
});

export function entryEndpointWorkload(
  context: WorkloadContext,
  entry: ServiceEntry,
  { endpoint, network, services, isImplicit }: EntryEndpoint,
): Address {
  const { meta } = entry;
  const { fields, binding } = isImplicit
    ? { fields: {}, binding: { kind: "none" } as const }
    : placement(context, { namespace: meta.namespace, labels: endpoint.labels });
  return workloadAddress({
    ...common(context, network),
    ...canonical(meta.labels, meta.name),
    ...tunnel(meta.labels, meta.annotations),
    ...located(endpoint.address),
    ...locality(endpoint.locality),
    ...weighted(endpoint),
    ...fields,
    uid: `${context.options.clusterId}/networking.istio.io/ServiceEntry/${meta.namespace}/${meta.name}/${endpoint.address}`,
    name: meta.name,
    namespace: meta.namespace,
    serviceAccount: endpoint.serviceAccount,
    workloadName: meta.name,
    workloadType: WorkloadType.POD,
    services: servicesMap(services, (service) => endpointPorts(service, endpoint)),
    authorizationPolicies: context.policies.forWorkload({
      namespace: meta.namespace,
      labels: meta.labels,
      binding,
      services,
    }),
  });
}
