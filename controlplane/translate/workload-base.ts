/** What all workloads have in common. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  AddressSchema,
  TunnelProtocol,
  type Address,
  type PortListSchema,
  type WorkloadSchema,
} from "#shared/proto/gen/workload/workload_pb.js";
import type { Labels, Meta } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { addressBytes } from "./address-bytes.ts";
import { canonicalNameLabels, canonicalRevisionLabels, redirectionAnnotation, tunnelLabel } from "./annotations.ts";
import { networkGatewayAddress, type NetworkGateway } from "./network-gateways.ts";
import type { TranslateOptions } from "./options.ts";
import type { PortPair } from "./service-ports.ts";
import type { ServiceInfo } from "./services.ts";
import { writtenTrustDomain } from "./trust-domain.ts";
import type { Binding, Waypoints } from "./waypoints.ts";
import type { WorkloadPolicies } from "./workload-policies.ts";

export type WorkloadInit = Exclude<MessageInitShape<typeof WorkloadSchema>, { $typeName: string }>;

/** What the derivation of workloads reads besides its own object. */
export interface WorkloadContext {
  readonly world: WorldView;
  readonly options: TranslateOptions;
  readonly network: string;
  readonly networkGateways: readonly NetworkGateway[];
  readonly waypoints: Waypoints;
  readonly policies: WorkloadPolicies;
}

export const workloadAddress = (value: WorkloadInit): Address =>
  create(AddressSchema, { type: { case: "workload", value } });

/** What even an address of which nothing else is known belongs to. */
export function inMesh({ world, options }: WorkloadContext, network: string): WorkloadInit {
  return { clusterId: options.clusterId, network, trustDomain: writtenTrustDomain(world.meshConfig) };
}

export function common(context: WorkloadContext, network: string): WorkloadInit {
  const gateway = context.networkGateways.find((each) => each.network === network);
  return {
    ...inMesh(context, network),
    ...(gateway === undefined ? {} : { networkGateway: networkGatewayAddress(gateway) }),
  };
}

/**
 * An instance of a waypoint says how it takes connections; any other workload may have a waypoint before it. `meta` is
 * of the workload, or for an endpoint of a ServiceEntry its own labels in the entry's namespace.
 */
export function placement(
  { waypoints }: WorkloadContext,
  meta: Pick<Meta, "namespace" | "labels">,
): {
  readonly fields: Pick<WorkloadInit, "waypoint" | "applicationTunnel">;
  readonly binding: Binding;
} {
  const self = waypoints.instanceOf(meta);
  if (self !== undefined) {
    return {
      fields: self.binding === undefined ? {} : { applicationTunnel: self.binding },
      binding: { kind: "none" },
    };
  }
  const binding = waypoints.forWorkload(meta.namespace, meta.labels);
  const address = binding.kind === "bound" ? binding.waypoint.address : undefined;
  return { fields: address === undefined ? {} : { waypoint: address }, binding };
}

/** By address where it is one, else by name. */
export function located(address: string): Pick<WorkloadInit, "addresses" | "hostname"> {
  const octets = addressBytes(address);
  return octets === undefined ? { hostname: address } : { addresses: [octets] };
}

/** One that is there counts, even where it is empty. */
const firstLabel = (labels: Labels, keys: readonly string[]): string | undefined => {
  const key = keys.find((each) => labels.has(each));
  return key === undefined ? undefined : labels.get(key);
};

export function canonical(
  labels: Labels,
  workloadName: string,
): { readonly canonicalName: string; readonly canonicalRevision: string } {
  return {
    canonicalName: firstLabel(labels, canonicalNameLabels) ?? workloadName,
    canonicalRevision: firstLabel(labels, canonicalRevisionLabels) ?? "latest",
  };
}

/** How the workload is reached: captured by its node's proxy, or terminating HBONE itself. */
export function tunnel(labels: Labels, annotations: Labels): Pick<WorkloadInit, "tunnelProtocol" | "nativeTunnel"> {
  const own = labels.get(tunnelLabel)?.split(",").includes("http") ?? false;
  const captured = annotations.get(redirectionAnnotation) === "enabled";
  return { tunnelProtocol: own || captured ? TunnelProtocol.HBONE : TunnelProtocol.NONE, nativeTunnel: own };
}

/** `region/zone/subzone`, the later parts optional. */
export function locality(text: string): Pick<WorkloadInit, "locality"> {
  const [region = "", zone = "", subzone = ""] = text.split("/");
  return region === "" && zone === "" && subzone === "" ? {} : { locality: { region, zone, subzone } };
}

export function servicesMap(
  services: readonly ServiceInfo[],
  portsOf: (service: ServiceInfo) => readonly PortPair[],
): Record<string, MessageInitShape<typeof PortListSchema>> {
  // By key, or a change of some other service could turn the order here, and send the workload to everybody.
  const sorted = [...services].sort((a, b) => (a.key < b.key ? -1 : 1));
  return Object.fromEntries(sorted.map((service) => [service.key, { ports: [...portsOf(service)] }]));
}
