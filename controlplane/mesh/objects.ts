/**
 * The Kubernetes and Istio objects that translation reads, with the fields that it reads: precise, readonly, and
 * checked once by `read-objects.ts`. Nothing after this form can tell a Kubernetes API from a folder of files.
 */

import type { BackendTlsPolicy, BackendTrafficPolicy } from "./backend-policy.ts";
import type { DestinationRuleSpec } from "./destination-rule.ts";
import type { Route } from "./gateway-route.ts";
import type { Condition, Labels, Meta } from "./meta.ts";
import type { ReferenceGrant } from "./reference-grant.ts";
import type { VirtualService } from "./virtual-service.ts";
import type { RateLimitSpec } from "./rate-limit-policy.ts";
import type { EnvoyFilterSpec } from "./envoy-filter.ts";
import type { TelemetrySpec } from "./telemetry.ts";
import type { JwtRule } from "./request-authentication.ts";

/** Any object of a Kubernetes API as it came from the wire or a file. */
export interface KubeObject {
  readonly apiVersion?: unknown;
  readonly kind?: unknown;
  readonly metadata?: unknown;
  readonly [field: string]: unknown;
}

export type { Condition, Labels, Meta } from "./meta.ts";

export interface Namespace {
  readonly meta: Meta;
}

export interface Node {
  readonly meta: Meta;
}

export interface ContainerPort {
  readonly name: string;
  readonly port: number;
  readonly protocol: string;
}

export interface Pod {
  readonly meta: Meta;
  readonly node: string;
  readonly serviceAccount: string;
  readonly hostNetwork: boolean;
  /** Of containers and of init containers that keep running, in order. */
  readonly ports: readonly ContainerPort[];
  readonly phase: string;
  /** `podIPs`, else `podIP`, as written. */
  readonly ips: readonly string[];
  readonly isReady: boolean;
}

export interface ServicePort {
  readonly name: string;
  readonly port: number;
  readonly protocol: string;
  readonly appProtocol: string | undefined;
  readonly targetPort: number | string | undefined;
}

export interface Service {
  readonly meta: Meta;
  readonly type: string;
  readonly selector: Labels;
  readonly clusterIps: readonly string[];
  readonly ipFamilies: readonly string[];
  readonly ports: readonly ServicePort[];
  readonly internalTrafficPolicy: string;
  readonly trafficDistribution: string;
  readonly publishNotReadyAddresses: boolean;
  /** Where a load balancer answers: `externalIPs` and the status of the load balancer, as written. */
  readonly externalAddresses: readonly string[];
  readonly conditions: readonly Condition[];
}

export interface SliceEndpoint {
  readonly addresses: readonly string[];
  readonly isReady: boolean | undefined;
  readonly target:
    { readonly kind: string; readonly namespace: string; readonly name: string; readonly uid: string } | undefined;
}

export interface EndpointSlice {
  readonly meta: Meta;
  /** IPv4, IPv6 or FQDN. */
  readonly addressType: string;
  readonly endpoints: readonly SliceEndpoint[];
  readonly ports: readonly { readonly name: string; readonly port: number | undefined; readonly protocol: string }[];
}

/** One endpoint: a WorkloadEntry's spec, or an item of a ServiceEntry's list. */
export interface Endpoint {
  readonly address: string;
  readonly ports: ReadonlyMap<string, number>;
  readonly labels: Labels;
  readonly network: string;
  readonly locality: string;
  readonly weight: number;
  readonly serviceAccount: string;
}

export interface WorkloadEntry {
  readonly meta: Meta;
  readonly endpoint: Endpoint;
  readonly conditions: readonly Condition[];
}

export interface ServiceEntry {
  readonly meta: Meta;
  readonly hosts: readonly string[];
  readonly addresses: readonly string[];
  readonly ports: readonly {
    readonly name: string;
    readonly port: number;
    readonly protocol: string;
    readonly targetPort: number;
  }[];
  readonly resolution: string;
  /** MESH_EXTERNAL or MESH_INTERNAL. */
  readonly location: string;
  readonly endpoints: readonly Endpoint[];
  /** undefined: no workloadSelector at all. */
  readonly workloadSelector: Labels | undefined;
  readonly exportTo: readonly string[];
  readonly subjectAltNames: readonly string[];
  /** From the status: addresses given automatically. */
  readonly allocated: readonly { readonly host: string; readonly value: string }[];
  readonly conditions: readonly Condition[];
}

/** As far as TLS is made with it. */
export interface Secret {
  readonly meta: Meta;
  readonly data: ReadonlyMap<string, Uint8Array>;
}

/** As far as certificates of authorities stand in it. */
export interface ConfigMap {
  readonly meta: Meta;
  /** Text of the entry `ca.crt`; undefined where there is none. */
  readonly authorities: string | undefined;
}

export interface DestinationRule extends DestinationRuleSpec {
  readonly meta: Meta;
}

export interface TargetRef {
  readonly group: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace: string;
}

/** One `from.source` of an AuthorizationPolicy rule: attribute name as written → values. */
export type Attributes = ReadonlyMap<string, readonly string[]>;

export interface AuthorizationRule {
  readonly from: readonly Attributes[];
  readonly to: readonly Attributes[];
  readonly when: readonly {
    readonly key: string;
    readonly values: readonly string[];
    readonly notValues: readonly string[];
  }[];
}

export interface AuthorizationPolicy {
  readonly meta: Meta;
  /** undefined: no selector at all. */
  readonly selector: Labels | undefined;
  readonly targetRefs: readonly TargetRef[];
  readonly action: string;
  /** Of a CUSTOM policy; empty where not written. */
  readonly provider: string;
  readonly rules: readonly AuthorizationRule[];
  readonly conditions: readonly Condition[];
}

export interface RequestAuthentication {
  readonly meta: Meta;
  /** undefined: no selector at all. */
  readonly selector: Labels | undefined;
  readonly targetRefs: readonly TargetRef[];
  readonly rules: readonly JwtRule[];
  readonly conditions: readonly Condition[];
}

export interface RateLimitPolicy extends RateLimitSpec {
  readonly meta: Meta;
  readonly conditions: readonly Condition[];
}

export interface EnvoyFilter extends EnvoyFilterSpec {
  readonly meta: Meta;
  readonly targetRefs: readonly TargetRef[];
  readonly conditions: readonly Condition[];
}

export interface Telemetry extends TelemetrySpec {
  readonly meta: Meta;
  /** undefined: no selector at all. */
  readonly selector: Labels | undefined;
  readonly targetRefs: readonly TargetRef[];
  readonly conditions: readonly Condition[];
}

export type MtlsMode = "UNSET" | "DISABLE" | "PERMISSIVE" | "STRICT";

export interface PeerAuthentication {
  readonly meta: Meta;
  readonly selector: Labels | undefined;
  readonly mode: MtlsMode;
  readonly ports: ReadonlyMap<number, MtlsMode>;
}

export interface LabelSelector {
  readonly matchLabels: Labels;
  readonly matchExpressions: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values: readonly string[];
  }[];
}

export interface GatewayListener {
  readonly name: string;
  readonly port: number;
  readonly protocol: string;
  readonly hostname: string;
  /** allowedRoutes.namespaces.from; empty if not written. */
  readonly allowedFrom: string;
  readonly allowedSelector: LabelSelector | undefined;
}

export interface GatewayAddress {
  readonly type: string;
  readonly value: string;
}

export interface Gateway {
  readonly meta: Meta;
  readonly className: string;
  readonly listeners: readonly GatewayListener[];
  readonly requestedAddresses: readonly GatewayAddress[];
  readonly parametersRef: TargetRef | undefined;
  /** Labels and annotations of what is made for it; undefined where `spec.infrastructure` is not written. */
  readonly infrastructure: { readonly labels: Labels; readonly annotations: Labels } | undefined;
  /** From the status. */
  readonly addresses: readonly GatewayAddress[];
  readonly conditions: readonly Condition[];
}

export interface GatewayClass {
  readonly meta: Meta;
  readonly controllerName: string;
}

/** The kinds of the internal form. */
export interface Kinds {
  readonly Namespace: Namespace;
  readonly Node: Node;
  readonly Pod: Pod;
  readonly Service: Service;
  readonly EndpointSlice: EndpointSlice;
  readonly ServiceEntry: ServiceEntry;
  readonly WorkloadEntry: WorkloadEntry;
  readonly DestinationRule: DestinationRule;
  readonly Secret: Secret;
  readonly ConfigMap: ConfigMap;
  readonly AuthorizationPolicy: AuthorizationPolicy;
  readonly PeerAuthentication: PeerAuthentication;
  readonly RequestAuthentication: RequestAuthentication;
  readonly Gateway: Gateway;
  readonly GatewayClass: GatewayClass;
  readonly HTTPRoute: Route;
  readonly GRPCRoute: Route;
  readonly TCPRoute: Route;
  readonly TLSRoute: Route;
  readonly BackendTLSPolicy: BackendTlsPolicy;
  readonly XBackendTrafficPolicy: BackendTrafficPolicy;
  readonly ReferenceGrant: ReferenceGrant;
  readonly VirtualService: VirtualService;
  readonly RateLimitPolicy: RateLimitPolicy;
  readonly Telemetry: Telemetry;
  readonly EnvoyFilter: EnvoyFilter;
}

export type Kind = keyof Kinds;
