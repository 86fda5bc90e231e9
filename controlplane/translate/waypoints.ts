/** Which Gateways are waypoints, and which waypoint a service or a workload is bound to, or why to none. */
import { ApplicationTunnel_Protocol as TunnelProtocol } from "#shared/proto/gen/workload/workload_pb.js";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { GatewayAddressSchema } from "#shared/proto/gen/workload/workload_pb.js";
import { matchesSelector } from "#controlplane/mesh/label-selector.ts";
import type { Gateway, GatewayListener, Labels, Meta } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { addressBytes } from "./address-bytes.ts";
import {
  canaryLabel,
  canaryNamespaceLabel,
  canaryWeightAnnotation,
  gatewayNameLabel,
  gatewayServiceAccountAnnotation,
  inboundBindingAnnotation,
  managedLabel,
  useWaypointLabel,
  useWaypointNamespaceLabel,
  waypointForLabel,
} from "./annotations.ts";
import { gatewayClass, waypointManagedValues } from "./gateway-classes.ts";

export const hbonePort = 15_008;

type TrafficType = "service" | "workload";

export interface InboundBinding {
  readonly protocol: TunnelProtocol;
  readonly port: number;
}

export interface Waypoint {
  /** `namespace/name` of the Gateway. */
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  /** service, workload, all, none; another text serves nothing. */
  readonly serves: string;
  /** undefined where the Gateway has addresses of custom types only. */
  readonly address: MessageInitShape<typeof GatewayAddressSchema> | undefined;
  readonly binding: InboundBinding | undefined;
  /** The listener that says who may attach. */
  readonly listener: GatewayListener | undefined;
  /** As which its pods are to run. */
  readonly serviceAccount: string;
  /** Of the waypoint's pods that have not failed, one for each. */
  readonly serviceAccounts: readonly string[];
  /** Pods that take traffic, and are not about to end. */
  readonly readyReplicas: number;
}

export interface BindingError {
  readonly reason:
    | "WaypointIsNotReady"
    | "AttachmentDenied"
    | "UnsupportedTrafficType"
    | "CrossNamespaceWaypointForbidden"
    | "CanarySameAsPrimary"
    | "CanaryInvalidWeight";
  readonly message: string;
}

export interface Canary {
  readonly waypoint: Waypoint;
  /** Percent of the traffic. */
  readonly weight: number;
}

export type Binding =
  | { readonly kind: "none" }
  | {
      readonly kind: "bound";
      readonly waypoint: Waypoint;
      readonly canary: Canary | undefined;
      readonly canaryError: BindingError | undefined;
    }
  | { readonly kind: "error"; readonly error: BindingError };

const unbound: Binding = { kind: "none" };
const refused = (
  reason: BindingError["reason"],
  message: string,
): { readonly kind: "error"; readonly error: BindingError } => ({
  kind: "error",
  error: { reason, message },
});

interface Reference {
  readonly namespace: string;
  readonly name: string;
}

/** The waypoint that labels ask for: `none` is an opt-out, undefined says nothing. */
export function requestedWaypoint(labels: Labels, ownNamespace: string): Reference | "none" | undefined {
  const name = labels.get(useWaypointLabel);
  if (name === undefined || name === "none") return name;
  return { name, namespace: labels.get(useWaypointNamespaceLabel) ?? ownNamespace };
}

export class Waypoints {
  private readonly world: WorldView;
  private readonly byKey: ReadonlyMap<string, Waypoint>;

  constructor(world: WorldView, all: readonly Waypoint[]) {
    this.world = world;
    this.byKey = new Map(all.map((waypoint) => [waypoint.key, waypoint]));
  }

  get all(): readonly Waypoint[] {
    return [...this.byKey.values()];
  }

  get(namespace: string, name: string): Waypoint | undefined {
    return this.byKey.get(`${namespace}/${name}`);
  }

  /** The waypoint that a pod is an instance of. */
  instanceOf(meta: Pick<Meta, "namespace" | "labels">): Waypoint | undefined {
    const name = meta.labels.get(gatewayNameLabel);
    return name === undefined ? undefined : this.get(meta.namespace, name);
  }

  forService(meta: Meta): Binding {
    if (waypointManagedValues.includes(meta.labels.get(managedLabel) ?? "")) return unbound;
    const binding = this.forTarget(meta.namespace, meta.labels, "service");
    return binding.kind === "bound" ? this.withCanary(meta, binding.waypoint) : binding;
  }

  forWorkload(namespace: string, labels: Labels): Binding {
    const binding = this.forTarget(namespace, labels, "workload");
    const inherited = labels.get(useWaypointLabel) === undefined;
    // A namespace's waypoint is most often for services only: no reason to complain about each pod.
    if (inherited && binding.kind === "error" && binding.error.reason === "UnsupportedTrafficType") return unbound;
    return binding;
  }

  private forTarget(namespace: string, labels: Labels, traffic: TrafficType): Binding {
    const reference =
      requestedWaypoint(labels, namespace) ??
      requestedWaypoint(this.namespaceLabels(namespace) ?? new Map(), namespace);
    if (reference === undefined || reference === "none") return unbound;
    const found = this.find(reference, namespace, traffic);
    if ("error" in found) return found;
    return { kind: "bound", waypoint: found, canary: undefined, canaryError: undefined };
  }

  private find(
    reference: Reference,
    consumer: string,
    traffic: TrafficType,
  ): Waypoint | { readonly kind: "error"; readonly error: BindingError } {
    const key = `${reference.namespace}/${reference.name}`;
    const waypoint = this.byKey.get(key);
    if (waypoint === undefined)
      return refused("WaypointIsNotReady", `waypoint "${key}" does not exist or has no address yet`);
    if (!this.permits(waypoint, consumer)) {
      return refused(
        "AttachmentDenied",
        `waypoint "${key}" does not admit namespace "${consumer}": see allowedRoutes of its HBONE listener`,
      );
    }
    if (waypoint.serves !== "all" && waypoint.serves !== traffic) {
      return refused(
        "UnsupportedTrafficType",
        `waypoint "${key}" is for traffic type "${waypoint.serves}", not for "${traffic}": see its label ${waypointForLabel}`,
      );
    }
    return waypoint;
  }

  private permits({ namespace, listener }: Waypoint, consumer: string): boolean {
    switch (listener?.allowedFrom ?? "") {
      case "All":
        return true;
      case "Selector": {
        const labels = this.namespaceLabels(consumer);
        const selector = listener?.allowedSelector;
        return labels !== undefined && selector !== undefined && matchesSelector(selector, labels);
      }
      default:
        return namespace === consumer;
    }
  }

  private withCanary(meta: Meta, waypoint: Waypoint): Binding {
    const bound = { kind: "bound", waypoint, canary: undefined, canaryError: undefined } as const;
    const parent = this.canaryParent(meta);
    const labels = meta.labels.has(canaryLabel) ? meta.labels : parent?.labels;
    const name = labels?.get(canaryLabel) ?? "";
    if (name === "" || name === "none") return bound;
    const reference = { name, namespace: labels?.get(canaryNamespaceLabel) ?? meta.namespace };
    const fail = (error: BindingError): Binding => ({ ...bound, canaryError: error });
    if (`${reference.namespace}/${reference.name}` === waypoint.key) {
      return fail({ reason: "CanarySameAsPrimary", message: `canary "${waypoint.key}" is the waypoint itself` });
    }
    const text = meta.annotations.get(canaryWeightAnnotation) ?? parent?.annotations.get(canaryWeightAnnotation) ?? "0";
    const weight = /^[+-]?\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
    if (!(weight >= 0 && weight <= 100)) {
      return fail({
        reason: "CanaryInvalidWeight",
        message: `annotation ${canaryWeightAnnotation} is "${text}": write a whole number from 0 to 100`,
      });
    }
    const canary = this.find(reference, meta.namespace, "service");
    return "error" in canary ? fail(canary.error) : { ...bound, canary: { waypoint: canary, weight } };
  }

  /** What an object may inherit canary and weight from, each for itself: its namespace, if its waypoint is that one's. */
  private canaryParent(meta: Meta): Meta | undefined {
    return meta.labels.has(useWaypointLabel) ? undefined : this.world.get("Namespace", "", meta.namespace)?.meta;
  }

  private namespaceLabels(namespace: string): Labels | undefined {
    return this.world.get("Namespace", "", namespace)?.meta.labels;
  }
}

/** Any Gateway with an address serves as a waypoint, whoever runs it. */
export function collectWaypoints(
  world: WorldView,
  gateways: readonly Gateway[],
  addressesOf: (gateway: Gateway) => readonly { readonly type: string; readonly value: string }[],
  network: string,
): Waypoints {
  const accounts = new Map<string, string[]>();
  const ready = new Map<string, number>();
  for (const { meta, phase, serviceAccount, isReady } of world.all("Pod")) {
    const name = meta.labels.get(gatewayNameLabel);
    if (name === undefined || phase === "Failed") continue;
    const key = `${meta.namespace}/${name}`;
    if (isReady && !meta.isDeleting) ready.set(key, (ready.get(key) ?? 0) + 1);
    const known = accounts.get(key);
    if (known === undefined) accounts.set(key, [serviceAccount]);
    else known.push(serviceAccount);
  }
  const waypoints: Waypoint[] = [];
  for (const gateway of gateways) {
    const addresses = addressesOf(gateway);
    if (addresses.length === 0) continue;
    const { namespace, name, labels, annotations } = gateway.meta;
    const classMeta = gatewayClass(world, gateway.className)?.meta;
    const binding = parseBinding(
      annotations.get(inboundBindingAnnotation) ?? classMeta?.annotations.get(inboundBindingAnnotation),
    );
    waypoints.push({
      key: `${namespace}/${name}`,
      namespace,
      name,
      serves: labels.get(waypointForLabel) ?? classMeta?.labels.get(waypointForLabel) ?? "service",
      address: gatewayAddress(namespace, addresses, network),
      binding,
      listener: governingListener(gateway.listeners, binding),
      serviceAccount: annotations.get(gatewayServiceAccountAnnotation) ?? name,
      serviceAccounts: accounts.get(`${namespace}/${name}`) ?? [],
      readyReplicas: ready.get(`${namespace}/${name}`) ?? 0,
    });
  }
  return new Waypoints(world, waypoints);
}

function gatewayAddress(
  namespace: string,
  addresses: readonly { readonly type: string; readonly value: string }[],
  network: string,
): MessageInitShape<typeof GatewayAddressSchema> | undefined {
  const hostname = addresses.find(({ type }) => type === "Hostname")?.value;
  if (hostname !== undefined) {
    return { destination: { case: "hostname", value: { namespace, hostname } }, hboneMtlsPort: hbonePort };
  }
  for (const { type, value } of addresses) {
    const address = type === "IPAddress" ? addressBytes(value) : undefined;
    if (address === undefined) continue;
    return { destination: { case: "address", value: { network, address } }, hboneMtlsPort: hbonePort };
  }
  return undefined;
}

/** `NONE`, `PROXY` or `<PROTOCOL>/<port>`; anything else is no binding. */
function parseBinding(text: string | undefined): InboundBinding | undefined {
  const match = /^(NONE|PROXY)(?:\/(\d{1,5}))?$/.exec(text ?? "");
  if (match === null) return undefined;
  const port = Number(match[2] ?? "0");
  if (port > 65_535) return undefined;
  return { protocol: match[1] === "PROXY" ? TunnelProtocol.PROXY : TunnelProtocol.NONE, port };
}

function governingListener(
  listeners: readonly GatewayListener[],
  binding: InboundBinding | undefined,
): GatewayListener | undefined {
  const ofBinding = (): GatewayListener | undefined => {
    if (binding === undefined) return undefined;
    if (binding.port !== 0) return listeners.find(({ port }) => port === binding.port);
    if (binding.protocol !== TunnelProtocol.PROXY) return undefined;
    return listeners.find(({ protocol }) => protocol === "istio.io/PROXY");
  };
  return ofBinding() ?? listeners.find(({ port, protocol }) => port === hbonePort && protocol === "HBONE");
}
