/** The status of Gateways that the mesh runs itself: waypoints, and the gateways of other networks. */
import { isIP } from "node:net";
import type { Gateway, GatewayAddress, GatewayListener, Service } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { addressTypeAnnotation, managedLabel, nameOverrideAnnotation, sliceServiceLabel } from "./annotations.ts";
import { controllerOf, meshController, unmanagedController } from "./gateway-classes.ts";
import type { TranslateOptions } from "./options.ts";
import type { ListenerStatus, StatusCondition, StatusUpdate } from "./status.ts";
import { hbonePort } from "./waypoints.ts";

const gatewayApi = { apiVersion: "gateway.networking.k8s.io/v1", kind: "Gateway" } as const;
const fieldManager = "istio.io/gateway-controller";

/** For each service that endpoint slices name: the names of the ports behind which there is an endpoint. */
export type EndpointPorts = ReadonlyMap<string, ReadonlySet<string>>;

/** Readiness does not matter here: one endpoint is enough for an address to be of use. */
export function collectEndpointPorts(world: WorldView): EndpointPorts {
  const ports = new Map<string, Set<string>>();
  for (const { meta, endpoints, ports: slicePorts } of world.all("EndpointSlice")) {
    const service = meta.labels.get(sliceServiceLabel);
    if (service === undefined || !endpoints.some(({ addresses }) => addresses.length > 0)) continue;
    const key = `${meta.namespace}/${service}`;
    let names = ports.get(key);
    if (names === undefined) ports.set(key, (names = new Set()));
    for (const { name } of slicePorts) names.add(name);
  }
  return ports;
}

/** The status that we want on a Gateway; undefined where another controller writes it. */
export function gatewayStatus(
  world: WorldView,
  gateway: Gateway,
  endpoints: EndpointPorts,
  options: TranslateOptions,
): StatusUpdate | undefined {
  switch (controllerOf(world, gateway) ?? "") {
    case meshController:
      return waypointStatus(world, gateway, endpoints, options);
    case unmanagedController:
      return remoteStatus(gateway);
    default:
      return undefined;
  }
}

function condition(
  gateway: Gateway,
  type: string,
  status: "True" | "False",
  reason: string,
  message: string,
): StatusCondition {
  return { type, status, reason, message, observedGeneration: gateway.meta.generation };
}

const update = (gateway: Gateway, status: StatusUpdate["status"]): StatusUpdate => ({
  ...gatewayApi,
  namespace: gateway.meta.namespace,
  name: gateway.meta.name,
  fieldManager,
  ownedConditions: ["Accepted", "Programmed", "ResolvedRefs"],
  status,
});

/** A gateway of another network: nothing is run for it, it only says where that network is entered. */
function remoteStatus(gateway: Gateway): StatusUpdate {
  return update(gateway, {
    conditions: [
      condition(gateway, "Accepted", "True", "Accepted", "Resource accepted"),
      condition(gateway, "Programmed", "True", "Programmed", "This Gateway is remote: nothing is run for it here"),
    ],
    ...(gateway.requestedAddresses.length > 0 ? { addresses: gateway.requestedAddresses } : {}),
  });
}

function waypointStatus(
  world: WorldView,
  gateway: Gateway,
  endpoints: EndpointPorts,
  options: TranslateOptions,
): StatusUpdate {
  const found = findInstances(world, gateway, endpoints, options);
  const addresses = addressesToReport(gateway, found);
  return update(gateway, {
    conditions: [accepted(gateway), programmed(gateway, found), resolvedRefs(gateway)],
    ...(addresses.length > 0 ? { addresses } : {}),
    listeners: gateway.listeners.map((listener) => listenerStatus(gateway, listener)),
  });
}

interface Instances {
  /** `host:port` of services with an endpoint. */
  readonly internal: readonly string[];
  readonly internalIps: readonly string[];
  readonly external: readonly string[];
  /** Hosts whose load balancer has no address yet. */
  readonly pending: readonly string[];
  readonly warnings: readonly string[];
  /** False where waiting does not help: no such service or port. */
  readonly usable: boolean;
}

function findInstances(
  world: WorldView,
  gateway: Gateway,
  endpoints: EndpointPorts,
  options: TranslateOptions,
): Instances {
  const internal: string[] = [];
  const internalIps = new Set<string>();
  const external = new Set<string>();
  const pending: string[] = [];
  const warnings: string[] = [];
  let usable = true;
  const ports = [...new Set(gateway.listeners.filter(isSupported).map(({ port }) => port))];
  for (const { namespace, name, host } of gatewayServices(gateway, options)) {
    const service = world.get("Service", namespace, name);
    if (service === undefined || namespace !== gateway.meta.namespace) {
      const where =
        service === undefined ? "" : ` in namespace "${gateway.meta.namespace}": a waypoint's Service is beside it`;
      warnings.push(`hostname "${host}" not found${where}`);
      usable = false;
      continue;
    }
    const isManaged = service.meta.labels.has(managedLabel);
    const ready = endpoints.get(`${namespace}/${name}`);
    for (const port of ports) {
      if (hasEndpoint(service, port, ready)) {
        internal.push(`${host}:${port}`);
        for (const ip of service.clusterIps) if (ip !== "" && ip !== "None") internalIps.add(ip);
        for (const address of service.externalAddresses) external.add(address);
        if (service.type === "LoadBalancer" && service.externalAddresses.length === 0 && !pending.includes(host)) {
          pending.push(host);
          warnings.push(`address pending for hostname "${host}"`);
        }
      } else if (ready === undefined) {
        warnings.push(`no instances found for hostname "${host}"`);
      } else if (!isManaged || !service.ports.some((each) => each.port === port)) {
        // What the mesh made has every port at once: endpoints of a new one are on their way.
        warnings.push(`port ${port} not found for hostname "${host}"`);
        usable = false;
      }
    }
  }
  return {
    internal: internal.sort(),
    internalIps: [...internalIps].sort(),
    external: [...external].sort(),
    pending,
    warnings: [...new Set(warnings)],
    usable,
  };
}

/** Whether the mesh runs something for a Gateway, rather than its author. */
const isRunByMesh = ({ requestedAddresses: [first, ...more] }: Gateway): boolean =>
  first === undefined || (more.length === 0 && first.type === "IPAddress");

/** Addresses of Gateways that others run: only names of Services mean something. */
const unusableAddresses = (gateway: Gateway): readonly string[] =>
  isRunByMesh(gateway)
    ? []
    : gateway.requestedAddresses.filter(({ type }) => type !== "Hostname").map(({ value }) => value);

/** The services behind a Gateway: its own, or those that `spec.addresses` names. */
function gatewayServices(
  gateway: Gateway,
  { domain }: TranslateOptions,
): readonly { readonly namespace: string; readonly name: string; readonly host: string }[] {
  const { meta, requestedAddresses } = gateway;
  const of = (name: string, namespace: string) => ({ namespace, name, host: `${name}.${namespace}.svc.${domain}` });
  if (isRunByMesh(gateway)) return [of(meta.annotations.get(nameOverrideAnnotation) ?? meta.name, meta.namespace)];
  return requestedAddresses
    .filter(({ type }) => type === "Hostname")
    .map(({ value }) => {
      const [name = "", namespace = meta.namespace] = value.split(".");
      return of(name, namespace);
    });
}

function hasEndpoint(service: Service, port: number, ready: ReadonlySet<string> | undefined): boolean {
  return service.ports.some((each) => each.port === port && ready?.has(each.name) === true);
}

function addressesToReport(gateway: Gateway, found: Instances): readonly GatewayAddress[] {
  const wanted = gateway.meta.annotations.get(addressTypeAnnotation) ?? "";
  const hosts = [...new Set(found.internal.map((each) => each.slice(0, each.lastIndexOf(":"))))];
  const values =
    found.external.length > 0
      ? found.external
      : [
          ...(wanted === "Hostname" ? [] : found.internalIps),
          ...(wanted === "IPAddress" ? [] : hosts.filter((host) => !found.pending.includes(host))),
        ];
  // An address once given stays: without it every service would lose its waypoint, and L7 policy with it.
  if (values.length === 0) return gateway.addresses;
  return values.map((value) => ({ type: isIP(value) === 0 ? "Hostname" : "IPAddress", value }));
}

const isSupported = ({ protocol }: GatewayListener): boolean =>
  ["HBONE", "HTTP", "HTTPS", "TLS", "TCP"].includes(protocol);

function accepted(gateway: Gateway): StatusCondition {
  const unusable = unusableAddresses(gateway);
  if (unusable.length > 0) {
    const message = `Of several addresses only those of type Hostname are used, which name Services; not ${unusable.join(", ")}`;
    return condition(gateway, "Accepted", "False", "UnsupportedAddress", message);
  }
  const reference = gateway.parametersRef;
  if (reference !== undefined && (reference.group !== "" || reference.kind !== "ConfigMap")) {
    return condition(
      gateway,
      "Accepted",
      "False",
      "InvalidParameters",
      `spec.infrastructure.parametersRef names ${reference.kind} "${reference.name}": only a ConfigMap can be named`,
    );
  }
  const invalid = gateway.listeners.filter((listener) => !isSupported(listener));
  if (invalid.length === 0) return condition(gateway, "Accepted", "True", "Accepted", "Resource accepted");
  return condition(
    gateway,
    "Accepted",
    invalid.length < gateway.listeners.length ? "True" : "False",
    "ListenersNotValid",
    `Invalid listeners: ${invalid.map(({ name }) => name).join(", ")}`,
  );
}

function programmed(gateway: Gateway, { internal, warnings, usable }: Instances): StatusCondition {
  if (unusableAddresses(gateway).length === gateway.requestedAddresses.length && !isRunByMesh(gateway)) {
    const message = "Failed to assign to any requested addresses";
    return condition(gateway, "Programmed", "False", "UnsupportedAddress", message);
  }
  if (warnings.length === 0) {
    const where = internal.length === 0 ? "" : `, assigned to service(s) ${internal.join(" and ")}`;
    return condition(gateway, "Programmed", "True", "Programmed", `Resource programmed${where}`);
  }
  const some = internal.length === 0 ? "Failed to assign to any requested addresses" : `Assigned only in part`;
  return condition(
    gateway,
    "Programmed",
    "False",
    usable ? "AddressNotAssigned" : "AddressNotUsable",
    `${some}: ${warnings.join("; ")}`,
  );
}

const resolvedRefs = (gateway: Gateway): StatusCondition =>
  condition(gateway, "ResolvedRefs", "True", "ResolvedRefs", "All references resolved");

const routeKinds: Readonly<Record<string, readonly string[]>> = {
  HTTP: ["HTTPRoute", "GRPCRoute"],
  HTTPS: ["HTTPRoute", "GRPCRoute"],
  TLS: ["TLSRoute"],
  TCP: ["TCPRoute"],
};

function listenerStatus(gateway: Gateway, listener: GatewayListener): ListenerStatus {
  const fits = listener.port === hbonePort && listener.protocol === "HBONE";
  const kinds = Object.hasOwn(routeKinds, listener.protocol) ? (routeKinds[listener.protocol] ?? []) : [];
  const fine = "No errors found";
  return {
    name: listener.name,
    // Routes attach to services, not to a waypoint's listener.
    attachedRoutes: 0,
    supportedKinds: kinds.map((kind) => ({ group: "gateway.networking.k8s.io", kind })),
    conditions: [
      fits
        ? condition(gateway, "Accepted", "True", "Accepted", fine)
        : condition(
            gateway,
            "Accepted",
            "False",
            "UnsupportedProtocol",
            `A waypoint has one listener, on port ${hbonePort} with protocol HBONE; this one is ${listener.protocol}:${listener.port}`,
          ),
      condition(gateway, "Conflicted", "False", "NoConflicts", fine),
      condition(gateway, "Programmed", "True", "Programmed", fine),
      condition(gateway, "ResolvedRefs", "True", "ResolvedRefs", fine),
    ],
  };
}

/** The addresses that a Gateway has once the status that we want is written. */
export function effectiveAddresses(gateway: Gateway, wanted: StatusUpdate | undefined): readonly GatewayAddress[] {
  if (wanted === undefined) return gateway.addresses;
  return (wanted.status.addresses ?? []).map(({ type = "IPAddress", value }) => ({ type, value }));
}
