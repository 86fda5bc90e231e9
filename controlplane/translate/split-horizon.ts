/**
 * Other networks as seen from ours (multi-network): their workloads are not addressable from here, so behind each
 * global service all those of one network become a single workload that is reached through that network's gateway.
 */
import { create } from "@bufbuild/protobuf";
import { defaultTrustDomain } from "#shared/identity/spiffe-id.ts";
import {
  AddressSchema,
  TunnelProtocol,
  WorkloadType,
  type Address,
  type Workload,
} from "#shared/proto/gen/workload/workload_pb.js";
import { matchesSelector } from "#controlplane/mesh/label-selector.ts";
import type { MeshConfig } from "#controlplane/mesh/mesh-config.ts";
import type { Labels } from "#controlplane/mesh/objects.ts";
import { networkGatewayAddress, type NetworkGateway } from "./network-gateways.ts";
import type { ServiceInfo } from "./services.ts";
import { writtenTrustDomain } from "./trust-domain.ts";
import type { WorkloadContext } from "./workload-base.ts";

/** One matching rule that says so is enough; without one a service is for its own cluster. */
export function isGlobal({ serviceScopes }: MeshConfig, service: Labels, namespace: Labels): boolean {
  return serviceScopes.some(
    ({ scope, namespaces, services }) =>
      scope === "GLOBAL" &&
      (namespaces === undefined || matchesSelector(namespaces, namespace)) &&
      (services === undefined || matchesSelector(services, service)),
  );
}

export interface SplitHorizon {
  readonly workloads: readonly Address[];
  /**
   * SPIFFE ids to accept behind each service, by its key: beyond a gateway nobody knows which workload answers. Those of
   * networks without a gateway too, as in Istio.
   */
  readonly identities: ReadonlyMap<string, readonly string[]>;
}

/** `remote` are workloads of other networks, which are not published one by one. */
export function splitHorizon(
  { world, options: { clusterId } }: Pick<WorkloadContext, "world" | "options">,
  remote: readonly Workload[],
  services: readonly ServiceInfo[],
  gateways: readonly NetworkGateway[],
): SplitHorizon {
  const workloads: Address[] = [];
  const identities = new Map<string, readonly string[]>();
  for (const service of services) {
    // Rules of scope are about Kubernetes' Services.
    if (service.source !== "Service") continue;
    const namespace = world.get("Namespace", "", service.meta.namespace)?.meta.labels ?? new Map<string, string>();
    if (!isGlobal(world.meshConfig, service.meta.labels, namespace)) continue;
    const behind = remote.filter((workload) => Object.hasOwn(workload.services, service.key));
    if (behind.length > 0) identities.set(service.key, [...new Set(behind.map(identityOf))]);
    for (const [network, members] of Map.groupBy(behind, (workload) => workload.network)) {
      const gateway = gateways.find((each) => each.network === network);
      if (gateway === undefined) continue;
      const capacity = members.reduce((sum, { capacity: weight = 1 }) => sum + weight, 0);
      workloads.push(
        collapsed(service, gateway, Math.min(capacity, 0xffff_ffff), { clusterId, mesh: world.meshConfig }),
      );
    }
  }
  return { workloads, identities };
}

function collapsed(
  service: ServiceInfo,
  gateway: NetworkGateway,
  capacity: number,
  { clusterId, mesh }: { readonly clusterId: string; readonly mesh: MeshConfig },
): Address {
  const place = `${gateway.namespace}/${gateway.name}/${gateway.address}`;
  const uid = `${gateway.network}/SplitHorizonWorkload/${place}/${service.key}`;
  return create(AddressSchema, {
    type: {
      case: "workload",
      value: {
        uid,
        name: uid,
        namespace: service.meta.namespace,
        clusterId,
        network: gateway.network,
        networkGateway: networkGatewayAddress(gateway),
        tunnelProtocol: TunnelProtocol.HBONE,
        trustDomain: writtenTrustDomain(mesh),
        workloadType: WorkloadType.POD,
        capacity,
        // Beyond the gateway another proxy finds the port behind it: these are the service's own.
        services: { [service.key]: { ports: service.message.ports ?? [] } },
      },
    },
  });
}

/** As written: an entry without a service account gives an id that ends in `/sa/`. */
function identityOf({ trustDomain, namespace, serviceAccount }: Workload): string {
  return `spiffe://${trustDomain || defaultTrustDomain}/ns/${namespace}/sa/${serviceAccount}`;
}
