/** Where the requests of a cluster may go: endpoints of a port of a service, and of a subset of it. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ipFromBytes } from "#shared/net/ip.ts";
import type { ClusterLoadAssignmentSchema } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type {
  LbEndpointSchema,
  LocalityLbEndpointsSchema,
} from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import {
  LoadBalancing_HealthPolicy as HealthPolicy,
  LoadBalancing_Mode as Mode,
  LoadBalancing_Scope as Scope,
  TunnelProtocol,
  WorkloadStatus,
  type Workload,
} from "#shared/proto/gen/workload/workload_pb.js";
import type { Subset } from "#controlplane/mesh/destination-rule.ts";
import { includesLabels } from "#controlplane/mesh/label-selector.ts";
import { managedLabel } from "#controlplane/translate/annotations.ts";
import type { Collected, CollectedWorkload } from "#controlplane/translate/collected.ts";
import { waypointManagedValues } from "#controlplane/translate/gateway-classes.ts";
import type { PortInfo, ServiceInfo } from "#controlplane/translate/services.ts";
import { connectOriginate } from "./cluster-names.ts";
import type { EnvoyContext } from "./context.ts";
import type { EffectivePolicy } from "./destination-rules.ts";
import { balanceLocalities, type Placed } from "./localities.ts";

type LbEndpointInit = MessageInitShape<typeof LbEndpointSchema>;
type LocalityInit = MessageInitShape<typeof LocalityLbEndpointsSchema>;

/** One endpoint of a port. */
export interface MeshEndpoint extends Placed {
  readonly workload: Workload;
  readonly targetPort: number;
  readonly isTunnelled: boolean;
}

const members = new WeakMap<Collected, ReadonlyMap<string, readonly CollectedWorkload[]>>();

/** Workloads by the key of a service that they belong to. */
function membersOf(collected: Collected, key: string): readonly CollectedWorkload[] {
  let index = members.get(collected);
  if (index === undefined) {
    const byService = new Map<string, CollectedWorkload[]>();
    for (const each of collected.workloads) {
      for (const service of Object.keys(each.workload.services)) {
        const known = byService.get(service);
        if (known === undefined) byService.set(service, [each]);
        else known.push(each);
      }
    }
    members.set(collected, (index = byService));
  }
  return index.get(key) ?? [];
}

/** The endpoints that may be sent to from this waypoint, as they stand now. */
export function endpointsOf(
  context: EnvoyContext,
  service: ServiceInfo,
  port: PortInfo,
  subset: Subset | undefined,
): readonly MeshEndpoint[] {
  const { loadBalancing } = service.message;
  const takesUnready = loadBalancing?.healthPolicy === HealthPolicy.ALLOW_ALL;
  const ownNodeOnly = loadBalancing?.mode === Mode.STRICT && loadBalancing.routingPreference?.includes(Scope.NODE);
  const endpoints: MeshEndpoint[] = [];
  for (const { workload, labels, isTerminating } of membersOf(context.collected, service.key)) {
    if (isTerminating || (workload.status !== WorkloadStatus.HEALTHY && !takesUnready)) continue;
    if (ownNodeOnly === true && workload.node !== context.proxy.node) continue;
    if (subset !== undefined && !includesLabels(labels, subset.labels)) continue;
    const pair = workload.services[service.key]?.ports.find(({ servicePort }) => servicePort === port.port);
    if (pair === undefined || pair.targetPort === 0) continue;
    endpoints.push({
      workload,
      targetPort: pair.targetPort,
      isTunnelled: takesTunnels(workload, labels),
      weight: workload.capacity ?? 1,
      region: workload.locality?.region ?? "",
      zone: workload.locality?.zone ?? "",
      subzone: workload.locality?.subzone ?? "",
      network: workload.network,
      node: workload.node,
      labels,
    });
  }
  return endpoints;
}

/** Captured, terminating tunnels itself, or a waypoint. */
function takesTunnels(workload: Workload, labels: ReadonlyMap<string, string>): boolean {
  if (workload.addresses.length === 0) return false;
  if (workload.tunnelProtocol === TunnelProtocol.HBONE) return true;
  return waypointManagedValues.includes(labels.get(managedLabel) ?? "");
}

/** What EDS serves for a cluster. `isProxyless`: for clients that cannot open tunnels. */
export function loadAssignment(
  context: EnvoyContext,
  clusterName: string,
  service: ServiceInfo,
  policy: EffectivePolicy,
  endpoints: readonly MeshEndpoint[],
  { isProxyless = false } = {},
): Exclude<MessageInitShape<typeof ClusterLoadAssignmentSchema>, { $typeName: string }> {
  const localities = balanceLocalities(context, service, policy, endpoints).flatMap((group): LocalityInit[] => {
    const lbEndpoints = group.endpoints.flatMap((each) => lbEndpoint(each, isProxyless));
    if (lbEndpoints.length === 0) return [];
    const { region, zone, subzone: subZone, priority, weight } = group;
    return [{ locality: { region, zone, subZone }, lbEndpoints, loadBalancingWeight: weight, priority }];
  });
  return { clusterName, endpoints: localities };
}

/** Empty where the endpoint has no address that can be written. */
function lbEndpoint(endpoint: MeshEndpoint, isProxyless: boolean): LbEndpointInit[] {
  const { workload, targetPort, weight } = endpoint;
  const address = workload.addresses[0] === undefined ? undefined : ipFromBytes(workload.addresses[0]);
  const host = address ?? workload.hostname;
  // Sockets of files are on some machine, which is not the proxy's.
  if (host === "" || host.startsWith("unix:")) return [];
  const isTunnelled = endpoint.isTunnelled && !isProxyless;
  const local = hostPort(host, targetPort);
  return [
    {
      hostIdentifier: {
        case: "endpoint",
        value: {
          address: {
            address: isTunnelled
              ? {
                  case: "envoyInternalAddress",
                  value: {
                    addressNameSpecifier: { case: "serverListenerName", value: connectOriginate },
                    endpointId: local,
                  },
                }
              : {
                  case: "socketAddress",
                  value: { address: host, portSpecifier: { case: "portValue", value: targetPort } },
                },
          },
        },
      },
      loadBalancingWeight: weight,
      metadata: {
        filterMetadata: {
          istio: { workload: describeWorkload(workload) },
          ...(isTunnelled ? { "envoy.filters.listener.original_dst": { local } } : {}),
        },
      },
    },
  ];
}

const hostPort = (host: string, port: number): string => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);

/** As Istio's telemetry reads it. */
const describeWorkload = (workload: Workload): string =>
  [
    workload.workloadName,
    workload.namespace,
    workload.canonicalName,
    workload.canonicalRevision,
    workload.clusterId,
  ].join(";");
