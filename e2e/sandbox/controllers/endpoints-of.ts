/** Which endpoints a service has. Pure. */
import type { Endpoint, EndpointSlice, Node, Pod, Service } from "../kinds.ts";
import { canonical, isFinished, isReady, isTerminating } from "./owned-pods.ts";

export interface SliceContent {
  readonly addressType: "IPv4" | "IPv6";
  readonly ports: NonNullable<EndpointSlice["ports"]>;
  readonly endpoints: readonly Endpoint[];
}

/** Endpoints per family, and apart where a named port means different numbers in different pods. */
export function sliceContents(
  service: Service,
  pods: readonly Pod[],
  nodes: ReadonlyMap<string, Node>,
): SliceContent[] {
  const families = service.spec.ipFamilies ?? ["IPv4"];
  return families.flatMap((addressType) => {
    const groups = new Map<string, { ports: SliceContent["ports"]; endpoints: Endpoint[] }>();
    for (const pod of pods) {
      const endpoint = endpointOf(service, pod, addressType, nodes);
      if (endpoint === undefined) continue;
      const ports = portsFor(service, pod);
      const key = canonical(ports);
      const group = groups.get(key) ?? { ports, endpoints: [] };
      group.endpoints.push(endpoint);
      groups.set(key, group);
    }
    // A service without endpoints has an empty slice, so that watchers see the difference to one not yet looked at.
    if (groups.size === 0) return [{ addressType, ports: [], endpoints: [] }];
    return [...groups.values()].map(({ ports, endpoints }) => ({
      addressType,
      ports,
      endpoints: endpoints.toSorted((a, b) =>
        (a.addresses[0] ?? "").localeCompare(b.addresses[0] ?? "", "en", { numeric: true }),
      ),
    }));
  });
}

function endpointOf(
  service: Service,
  pod: Pod,
  family: "IPv4" | "IPv6",
  nodes: ReadonlyMap<string, Node>,
): Endpoint | undefined {
  const ip = (pod.status?.podIPs ?? [])
    .map((entry) => entry.ip)
    .find((address) => address.includes(":") === (family === "IPv6"));
  if (ip === undefined || isFinished(pod)) return undefined;
  const { nodeName, hostname, subdomain } = pod.spec;
  const zone = nodes.get(nodeName ?? "")?.metadata.labels?.["topology.kubernetes.io/zone"];
  const terminating = isTerminating(pod);
  const always = service.spec.publishNotReadyAddresses === true;
  const serving = isReady(pod) || always;
  return {
    addresses: [ip],
    conditions: { ready: always || (serving && !terminating), serving, terminating },
    ...(hostname !== undefined && subdomain === service.metadata.name ? { hostname } : {}),
    ...(nodeName === undefined ? {} : { nodeName }),
    ...(zone === undefined ? {} : { zone }),
    targetRef: {
      kind: "Pod",
      name: pod.metadata.name,
      uid: pod.metadata.uid,
      ...(pod.metadata.namespace === undefined ? {} : { namespace: pod.metadata.namespace }),
    },
  };
}

function portsFor(service: Service, pod: Pod): SliceContent["ports"] {
  return (service.spec.ports ?? []).flatMap(({ name = "", port, targetPort = port, protocol = "TCP", appProtocol }) => {
    const number = typeof targetPort === "number" ? targetPort : namedPort(pod, targetPort, protocol);
    if (number === undefined) return [];
    return [{ name, port: number, protocol, ...(appProtocol === undefined ? {} : { appProtocol }) }];
  });
}

function namedPort({ spec }: Pod, name: string, protocol: string): number | undefined {
  if (/^\d+$/u.test(name)) return Number(name);
  const sidecars = (spec.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === "Always");
  return [...spec.containers, ...sidecars]
    .flatMap(({ ports = [] }) => ports)
    .find((port) => port.name === name && (port.protocol ?? "TCP") === protocol)?.containerPort;
}
