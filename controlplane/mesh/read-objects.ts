/** From plain objects to the internal form. A field of a wrong type throws `ShapeError`. */
import { readBackendTlsPolicy, readBackendTrafficPolicy } from "./backend-policy.ts";
import { readDestinationRule } from "./destination-rule.ts";
import { readEnvoyFilterSpec } from "./envoy-filter.ts";
import type { Field } from "./field.ts";
import { readGatewayRoute, type RouteKind } from "./gateway-route.ts";
import type { Kind, Kinds, KubeObject } from "./objects.ts";
import { readRateLimitSpec } from "./rate-limit-policy.ts";
import { readConfigMap, readEndpointSlice, readPod, readSecret, readService } from "./read-core.ts";
import { readServiceEntry, readWorkloadEntry } from "./read-entries.ts";
import { readGateway, readGatewayClass } from "./read-gateways.ts";
import { readConditions, readMeta, readSelector, readTargetRefs } from "./read-meta.ts";
import { readAuthorizationPolicy, readPeerAuthentication, readRequestAuthentication } from "./read-policies.ts";
import { readReferenceGrant } from "./reference-grant.ts";
import { readTelemetrySpec } from "./telemetry.ts";
import { readVirtualService } from "./virtual-service.ts";

interface KindDefinition<K extends Kind> {
  /** API group; empty for the core group. */
  readonly group: string;
  readonly isNamespaced: boolean;
  readonly read: (object: Field) => Kinds[K];
}

const gatewayGroup = "gateway.networking.k8s.io";

const route = (kind: RouteKind) => ({
  group: gatewayGroup,
  isNamespaced: true,
  read: (object: Field) => readGatewayRoute(kind, readMeta(object), object),
});

/** Every kind that the mesh reads. Versions of a group are not told apart: their fields agree. */
export const kinds: { readonly [K in Kind]: KindDefinition<K> } = {
  Namespace: { group: "", isNamespaced: false, read: (object) => ({ meta: readMeta(object) }) },
  Node: { group: "", isNamespaced: false, read: (object) => ({ meta: readMeta(object) }) },
  Pod: { group: "", isNamespaced: true, read: readPod },
  Service: { group: "", isNamespaced: true, read: readService },
  EndpointSlice: { group: "discovery.k8s.io", isNamespaced: true, read: readEndpointSlice },
  ServiceEntry: { group: "networking.istio.io", isNamespaced: true, read: readServiceEntry },
  WorkloadEntry: { group: "networking.istio.io", isNamespaced: true, read: readWorkloadEntry },
  Secret: { group: "", isNamespaced: true, read: readSecret },
  ConfigMap: { group: "", isNamespaced: true, read: readConfigMap },
  DestinationRule: {
    group: "networking.istio.io",
    isNamespaced: true,
    read: (object) => ({ meta: readMeta(object), ...readDestinationRule(object.at("spec")) }),
  },
  AuthorizationPolicy: { group: "security.istio.io", isNamespaced: true, read: readAuthorizationPolicy },
  PeerAuthentication: { group: "security.istio.io", isNamespaced: true, read: readPeerAuthentication },
  RequestAuthentication: { group: "security.istio.io", isNamespaced: true, read: readRequestAuthentication },
  RateLimitPolicy: {
    group: "policy.ambit.dev",
    isNamespaced: true,
    read: (object) => ({
      meta: readMeta(object),
      conditions: readConditions(object),
      ...readRateLimitSpec(object.at("spec")),
    }),
  },
  Telemetry: {
    group: "telemetry.istio.io",
    isNamespaced: true,
    read: (object) => ({
      meta: readMeta(object),
      selector: readSelector(object.at("spec")),
      targetRefs: readTargetRefs(object.at("spec")),
      conditions: readConditions(object),
      ...readTelemetrySpec(object.at("spec")),
    }),
  },
  EnvoyFilter: {
    group: "networking.istio.io",
    isNamespaced: true,
    read: (object) => ({
      meta: readMeta(object),
      targetRefs: readTargetRefs(object.at("spec")),
      conditions: readConditions(object),
      ...readEnvoyFilterSpec(object.at("spec")),
    }),
  },
  Gateway: { group: gatewayGroup, isNamespaced: true, read: readGateway },
  GatewayClass: { group: gatewayGroup, isNamespaced: false, read: readGatewayClass },
  HTTPRoute: route("HTTPRoute"),
  GRPCRoute: route("GRPCRoute"),
  TCPRoute: route("TCPRoute"),
  TLSRoute: route("TLSRoute"),
  BackendTLSPolicy: {
    group: gatewayGroup,
    isNamespaced: true,
    read: (object) => readBackendTlsPolicy(readMeta(object), object),
  },
  XBackendTrafficPolicy: {
    group: "gateway.networking.x-k8s.io",
    isNamespaced: true,
    read: (object) => readBackendTrafficPolicy(readMeta(object), object),
  },
  ReferenceGrant: {
    group: gatewayGroup,
    isNamespaced: true,
    read: (object) => readReferenceGrant(readMeta(object), object.at("spec")),
  },
  VirtualService: {
    group: "networking.istio.io",
    isNamespaced: true,
    read: (object) => readVirtualService(readMeta(object), object.at("spec"), readConditions(object)),
  },
};

/** The kind of an object by group and kind; undefined where the mesh does not read it. */
export function kindOf(object: KubeObject): Kind | undefined {
  if (typeof object.kind !== "string" || typeof object.apiVersion !== "string") return undefined;
  if (!Object.hasOwn(kinds, object.kind)) return undefined;
  const slash = object.apiVersion.indexOf("/");
  const group = slash < 0 ? "" : object.apiVersion.slice(0, slash);
  const kind = object.kind as Kind;
  return kinds[kind].group === group ? kind : undefined;
}
