/** Endpoints of EndpointSlices that are no pods, as workloads: somebody wrote them by hand. */
import { NetworkMode, WorkloadStatus, type Address } from "#shared/proto/gen/workload/workload_pb.js";
import type { EndpointSlice } from "#controlplane/mesh/objects.ts";
import { addressBytes } from "./address-bytes.ts";
import type { ServiceInfo } from "./services.ts";
import { inMesh, workloadAddress, type WorkloadContext } from "./workload-base.ts";

export function sliceWorkloads(
  context: WorkloadContext,
  slice: EndpointSlice,
  service: ServiceInfo,
): readonly Address[] {
  if (slice.addressType === "FQDN") return [];
  const { meta } = slice;
  const ports = joinPorts(slice, service);
  const seen = new Set<string>();
  const workloads: Address[] = [];
  for (const { addresses, isReady, target } of slice.endpoints) {
    const [first = ""] = addresses;
    if (target?.kind === "Pod" || first === "" || seen.has(first)) continue;
    seen.add(first);
    const octets = addresses.map(addressBytes).filter((each) => each !== undefined);
    if (octets.length < addresses.length) continue;
    workloads.push(
      workloadAddress({
        ...inMesh(context, context.network),
        uid: `${context.options.clusterId}/discovery.k8s.io/EndpointSlice/${meta.namespace}/${meta.name}/${first}`,
        name: meta.name,
        namespace: meta.namespace,
        addresses: octets,
        services: { [service.key]: { ports: [...ports] } },
        status: isReady === false ? WorkloadStatus.UNHEALTHY : WorkloadStatus.HEALTHY,
        // Its address may be shared with others, so it is never looked up by address alone.
        networkMode: NetworkMode.HOST_NETWORK,
      }),
    );
  }
  return workloads;
}

/** The slice's ports by the name that they share with the service's. */
function joinPorts(
  slice: EndpointSlice,
  service: ServiceInfo,
): readonly { readonly servicePort: number; readonly targetPort: number }[] {
  return slice.ports.flatMap(({ name, port, protocol }) => {
    const joined = service.ports.find((each) => each.name === name);
    if (port === undefined || protocol !== "TCP" || joined === undefined) return [];
    return [{ servicePort: joined.port, targetPort: port }];
  });
}
