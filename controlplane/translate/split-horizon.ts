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
import type { WorldView } from "#controlplane/mesh/world.ts";
import { networkGatewayAddress, type NetworkGateway } from "./network-gateways.ts";
import type { ServiceInfo } from "./services.ts";

/** The first matching rule decides; without one a service is for its own cluster. */
export function isGlobal({ serviceScopes }: MeshConfig, service: Labels, namespace: Labels): boolean {
  const rule = serviceScopes.find(
    ({ namespaces, services }) =>
      (namespaces === undefined || matchesSelector(namespaces, namespace)) &&
      (services === undefined || matchesSelector(services, service)),
  );
  return rule?.scope === "GLOBAL";
}

export interface SplitHorizon {
  readonly workloads: readonly Address[];
  /** SPIFFE ids to accept behind each service, by its key: beyond a gateway nobody knows which workload answers. */
  readonly identities: ReadonlyMap<string, readonly string[]>;
}

/** `remote` are workloads of other networks, which are not published one by one. */
export function splitHorizon(
  world: WorldView,
  remote: readonly Workload[],
  services: readonly ServiceInfo[],
  gateways: readonly NetworkGateway[],
): SplitHorizon {
  const workloads: Address[] = [];
  const identities = new Map<string, readonly string[]>();
  for (const service of services) {
    const namespace = world.get("Namespace", "", service.meta.namespace)?.meta.labels ?? new Map<string, string>();
    if (!isGlobal(world.meshConfig, service.meta.labels, namespace)) continue;
    const behind = remote.filter((workload) => Object.hasOwn(workload.services, service.key));
    const reachable = Map.groupBy(behind, ({ network }) => network);
    for (const [network, members] of reachable) {
      const gateway = gateways.find((each) => each.network === network);
      if (gateway === undefined) continue;
      const capacity = members.reduce((sum, { capacity: weight = 1 }) => sum + weight, 0);
      workloads.push(collapsed(service, gateway, Math.min(capacity, 0xffff_ffff), world.meshConfig));
      identities.set(service.key, [
        ...(identities.get(service.key) ?? []),
        ...new Set(members.map((member) => identityOf(member))),
      ]);
    }
  }
  return { workloads, identities };
}

function collapsed(
  service: ServiceInfo,
  gateway: NetworkGateway,
  capacity: number,
  { trustDomain }: MeshConfig,
): Address {
  const place = `${gateway.namespace}/${gateway.name}/${gateway.address}`;
  return create(AddressSchema, {
    type: {
      case: "workload",
      value: {
        uid: `${gateway.network}/SplitHorizonWorkload/${place}/${service.key}`,
        name: gateway.name,
        namespace: gateway.namespace,
        network: gateway.network,
        networkGateway: networkGatewayAddress(gateway),
        tunnelProtocol: TunnelProtocol.HBONE,
        trustDomain: trustDomain === defaultTrustDomain ? "" : trustDomain,
        workloadType: WorkloadType.POD,
        capacity,
        services: {
          [service.key]: {
            ports: service.ports.map(({ port, targetPort }) => ({ servicePort: port, targetPort: targetPort || port })),
          },
        },
      },
    },
  });
}

/** As written: an entry without a service account gives an id that ends in `/sa/`. */
function identityOf({ trustDomain, namespace, serviceAccount }: Workload): string {
  return `spiffe://${trustDomain || defaultTrustDomain}/ns/${namespace}/sa/${serviceAccount}`;
}
