/** From plain objects to the internal form. A field of a wrong type throws {@link ShapeError}. */
import { readDestinationRule } from "./destination-rule.ts";
import { ShapeError, type Field } from "./field.ts";
import { readGatewayRoute, type RouteKind } from "./gateway-route.ts";
import { readLabelSelector } from "./label-selector.ts";
import type {
  Attributes,
  AuthorizationPolicy,
  AuthorizationRule,
  Condition,
  Endpoint,
  EndpointSlice,
  Gateway,
  GatewayAddress,
  GatewayClass,
  GatewayListener,
  KubeObject,
  Labels,
  Kind,
  Kinds,
  Meta,
  MtlsMode,
  PeerAuthentication,
  Pod,
  RequestAuthentication,
  Secret,
  Service,
  ServiceEntry,
  SliceEndpoint,
  TargetRef,
  WorkloadEntry,
} from "./objects.ts";
import { readRateLimitSpec } from "./rate-limit-policy.ts";
import { readJwtRule } from "./request-authentication.ts";

import { readEnvoyFilterSpec } from "./envoy-filter.ts";
import { readTelemetrySpec } from "./telemetry.ts";
import { readReferenceGrant } from "./reference-grant.ts";
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

const none: Labels = new Map();

function readMeta(object: Field): Meta {
  const meta = object.at("metadata");
  const name = meta.at("name").text();
  if (name === "") throw new ShapeError("metadata.name", "a name", undefined);
  const labels = meta.at("labels");
  const annotations = meta.at("annotations");
  return {
    name,
    namespace: meta.at("namespace").text(),
    uid: meta.at("uid").text(),
    labels: labels.isPresent ? labels.textMap() : none,
    annotations: annotations.isPresent ? annotations.textMap() : none,
    generation: meta.at("generation").whole(),
    createdMs: readTime(meta.at("creationTimestamp")),
    isDeleting: meta.at("deletionTimestamp").isPresent,
    generateName: meta.at("generateName").text(),
    owners: meta
      .at("ownerReferences")
      .list()
      .map((owner) => ({
        kind: owner.at("kind").text(),
        name: owner.at("name").text(),
        isController: owner.at("controller").flag(),
      })),
  };
}

function readTime(field: Field): number {
  const text = field.text();
  if (text === "") return 0;
  const time = Date.parse(text);
  if (Number.isNaN(time)) throw new ShapeError(field.path, "a time such as 2026-01-31T12:00:00Z", text);
  return time;
}

function readConditions(object: Field): readonly Condition[] {
  return object
    .at("status")
    .at("conditions")
    .list()
    .map((condition) => ({
      type: condition.at("type").text(),
      status: condition.at("status").text(),
      reason: condition.at("reason").text(),
      message: condition.at("message").text(),
      lastTransitionTime: condition.at("lastTransitionTime").text(),
    }));
}

function readPod(object: Field): Pod {
  const spec = object.at("spec");
  const status = object.at("status");
  // An init container with restartPolicy Always is a sidecar: it runs as long as the pod.
  const sidecars = spec
    .at("initContainers")
    .list()
    .filter((container) => container.at("restartPolicy").text() === "Always");
  const ips = status.at("podIPs").list();
  const ip = status.at("podIP").text();
  return {
    meta: readMeta(object),
    node: spec.at("nodeName").text(),
    serviceAccount: spec.at("serviceAccountName").text(),
    hostNetwork: spec.at("hostNetwork").flag(),
    ports: [...spec.at("containers").list(), ...sidecars].flatMap((container) =>
      container
        .at("ports")
        .list()
        .map((port) => ({
          name: port.at("name").text(),
          port: port.at("containerPort").port(),
          protocol: port.at("protocol").text("TCP"),
        })),
    ),
    phase: status.at("phase").text(),
    ips: ips.length > 0 ? ips.map((each) => each.at("ip").text()) : ip === "" ? [] : [ip],
    isReady: readConditions(object).some(({ type, status: value }) => type === "Ready" && value === "True"),
  };
}

function readService(object: Field): Service {
  const spec = object.at("spec");
  const clusterIps = spec.at("clusterIPs").texts();
  const clusterIp = spec.at("clusterIP").text();
  return {
    meta: readMeta(object),
    type: spec.at("type").text("ClusterIP"),
    selector: spec.at("selector").textMap(),
    clusterIps: clusterIps.length > 0 || clusterIp === "" ? clusterIps : [clusterIp],
    ipFamilies: spec.at("ipFamilies").texts(),
    ports: spec
      .at("ports")
      .list()
      .map((port) => ({
        name: port.at("name").text(),
        port: port.at("port").port(),
        protocol: port.at("protocol").text("TCP"),
        appProtocol: port.at("appProtocol").optionalText(),
        targetPort: port.at("targetPort").portOrName(),
      })),
    internalTrafficPolicy: spec.at("internalTrafficPolicy").text(),
    trafficDistribution: spec.at("trafficDistribution").text(),
    publishNotReadyAddresses: spec.at("publishNotReadyAddresses").flag(),
    externalAddresses: [
      ...spec.at("externalIPs").texts(),
      ...object
        .at("status")
        .at("loadBalancer")
        .at("ingress")
        .list()
        .map((ingress) => ingress.at("ip").text() || ingress.at("hostname").text())
        .filter((address) => address !== ""),
    ],
    conditions: readConditions(object),
  };
}

function readEndpointSlice(object: Field): EndpointSlice {
  return {
    meta: readMeta(object),
    addressType: object.at("addressType").text(),
    endpoints: object.at("endpoints").list().map(readSliceEndpoint),
    ports: object
      .at("ports")
      .list()
      .map((port) => ({
        name: port.at("name").text(),
        port: port.at("port").isPresent ? port.at("port").port() : undefined,
        protocol: port.at("protocol").text("TCP"),
      })),
  };
}

function readSliceEndpoint(endpoint: Field): SliceEndpoint {
  const target = endpoint.at("targetRef");
  return {
    addresses: endpoint.at("addresses").texts(),
    isReady: endpoint.at("conditions").at("ready").optionalFlag(),
    target: target.isPresent
      ? {
          kind: target.at("kind").text(),
          namespace: target.at("namespace").text(),
          name: target.at("name").text(),
          uid: target.at("uid").text(),
        }
      : undefined,
  };
}

/** Nothing else of a Secret is kept. */
const secretKeys = ["tls.crt", "tls.key", "ca.crt", "ca.crl", "cert", "key", "cacert"];

function readSecret(object: Field): Secret {
  const data = object.at("data");
  const plain = object.at("stringData");
  const values = secretKeys.flatMap((key): [string, Uint8Array][] => {
    const text = plain.at(key).optionalText();
    if (text !== undefined) return [[key, Buffer.from(text)]];
    const encoded = data.at(key).optionalText();
    return encoded === undefined ? [] : [[key, Buffer.from(encoded, "base64")]];
  });
  return { meta: readMeta(object), data: new Map(values) };
}

function readEndpoint(spec: Field): Endpoint {
  return {
    address: spec.at("address").text(),
    ports: new Map(
      spec
        .at("ports")
        .entries()
        .map(([name, port]) => [name, port.port()]),
    ),
    labels: spec.at("labels").textMap(),
    network: spec.at("network").text(),
    locality: spec.at("locality").text(),
    weight: spec.at("weight").uint32(),
    serviceAccount: spec.at("serviceAccount").text(),
  };
}

function readWorkloadEntry(object: Field): WorkloadEntry {
  return { meta: readMeta(object), endpoint: readEndpoint(object.at("spec")), conditions: readConditions(object) };
}

function readServiceEntry(object: Field): ServiceEntry {
  const spec = object.at("spec");
  const selector = spec.at("workloadSelector");
  return {
    meta: readMeta(object),
    hosts: spec.at("hosts").texts(),
    addresses: spec.at("addresses").texts(),
    ports: spec
      .at("ports")
      .list()
      .map((port) => ({
        name: port.at("name").text(),
        port: port.at("number").port(),
        protocol: port.at("protocol").text(),
        targetPort: port.at("targetPort").port(),
      })),
    resolution: spec.at("resolution").text("NONE"),
    location: spec.at("location").text("MESH_EXTERNAL"),
    endpoints: spec.at("endpoints").list().map(readEndpoint),
    workloadSelector: selector.isPresent ? selector.at("labels").textMap() : undefined,
    exportTo: spec.at("exportTo").texts(),
    subjectAltNames: spec.at("subjectAltNames").texts(),
    allocated: object
      .at("status")
      .at("addresses")
      .list()
      .map((address) => ({ host: address.at("host").text(), value: address.at("value").text() })),
    conditions: readConditions(object),
  };
}

function readTargetRef(ref: Field): TargetRef {
  return {
    group: ref.at("group").text(),
    kind: ref.at("kind").text(),
    name: ref.at("name").text(),
    namespace: ref.at("namespace").text(),
  };
}

function readTargetRefs(spec: Field): readonly TargetRef[] {
  const single = spec.at("targetRef");
  return [...spec.at("targetRefs").list(), ...(single.isPresent ? [single] : [])].map(readTargetRef);
}

function readSelector(spec: Field): Labels | undefined {
  const selector = spec.at("selector");
  return selector.isPresent ? selector.at("matchLabels").textMap() : undefined;
}

function readAttributes(object: Field): Attributes {
  return new Map(
    object
      .entries()
      .map(([name, values]) => [name, values.texts()] as const)
      .filter(([, values]) => values.length > 0),
  );
}

function readRule(rule: Field): AuthorizationRule {
  return {
    from: rule
      .at("from")
      .list()
      .map((from) => readAttributes(from.at("source"))),
    to: rule
      .at("to")
      .list()
      .map((to) => readAttributes(to.at("operation"))),
    when: rule
      .at("when")
      .list()
      .map((when) => ({
        key: when.at("key").text(),
        values: when.at("values").texts(),
        notValues: when.at("notValues").texts(),
      })),
  };
}

function readAuthorizationPolicy(object: Field): AuthorizationPolicy {
  const spec = object.at("spec");
  return {
    meta: readMeta(object),
    selector: readSelector(spec),
    targetRefs: readTargetRefs(spec),
    action: spec.at("action").text("ALLOW"),
    provider: spec.at("provider").at("name").text(),
    rules: spec.at("rules").list().map(readRule),
    conditions: readConditions(object),
  };
}

function readRequestAuthentication(object: Field): RequestAuthentication {
  const spec = object.at("spec");
  return {
    meta: readMeta(object),
    selector: readSelector(spec),
    targetRefs: readTargetRefs(spec),
    rules: spec.at("jwtRules").list().map(readJwtRule),
    conditions: readConditions(object),
  };
}

const modes: readonly MtlsMode[] = ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"];

function readMode(mtls: Field): MtlsMode {
  const text = mtls.at("mode").text("UNSET");
  const mode = modes.find((each) => each === text);
  if (mode === undefined) throw new ShapeError(`${mtls.path}.mode`, `one of ${modes.join(", ")}`, text);
  return mode;
}

function readPeerAuthentication(object: Field): PeerAuthentication {
  const spec = object.at("spec");
  return {
    meta: readMeta(object),
    selector: readSelector(spec),
    mode: readMode(spec.at("mtls")),
    ports: new Map(
      spec
        .at("portLevelMtls")
        .entries()
        .map(([port, mtls]) => {
          if (!/^\d{1,5}$/.test(port)) throw new ShapeError(mtls.path, "a port number as key", port);
          return [Number(port), readMode(mtls)];
        }),
    ),
  };
}

function readListener(listener: Field): GatewayListener {
  const namespaces = listener.at("allowedRoutes").at("namespaces");
  return {
    name: listener.at("name").text(),
    port: listener.at("port").port(),
    protocol: listener.at("protocol").text(),
    hostname: listener.at("hostname").text(),
    allowedFrom: namespaces.at("from").text(),
    allowedSelector: readLabelSelector(namespaces.at("selector")),
  };
}

function readAddress(address: Field): GatewayAddress {
  return { type: address.at("type").text("IPAddress"), value: address.at("value").text() };
}

function readGateway(object: Field): Gateway {
  const spec = object.at("spec");
  const infrastructure = spec.at("infrastructure");
  const parameters = infrastructure.at("parametersRef");
  return {
    meta: readMeta(object),
    className: spec.at("gatewayClassName").text(),
    listeners: spec.at("listeners").list().map(readListener),
    requestedAddresses: spec.at("addresses").list().map(readAddress),
    parametersRef: parameters.isPresent ? readTargetRef(parameters) : undefined,
    infrastructure: infrastructure.isPresent
      ? { labels: textMapAt(infrastructure, "labels"), annotations: textMapAt(infrastructure, "annotations") }
      : undefined,
    addresses: object.at("status").at("addresses").list().map(readAddress),
    conditions: readConditions(object),
  };
}

function textMapAt(parent: Field, name: string): Labels {
  const field = parent.at(name);
  return field.isPresent ? field.textMap() : none;
}

function readGatewayClass(object: Field): GatewayClass {
  return { meta: readMeta(object), controllerName: object.at("spec").at("controllerName").text() };
}
