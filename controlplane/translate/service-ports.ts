/** Which port of a workload stands behind each port of a service. A port without an answer is left out. */
import type { ContainerPort, Endpoint } from "#controlplane/mesh/objects.ts";
import type { PortInfo, ServiceInfo } from "./services.ts";

export interface PortPair {
  readonly servicePort: number;
  readonly targetPort: number;
}

/**
 * Names of the ports of a service by number. Of two ports with one number (TCP and UDP) the last gives the names, as in
 * Istio, whose wire format tells them no better apart.
 */
function byNumber(ports: readonly PortInfo[]): ReadonlyMap<number, PortInfo> {
  return new Map(ports.map((port) => [port.port, port]));
}

function map(service: ServiceInfo, targetOf: (port: PortInfo, named: PortInfo) => number | undefined): PortPair[] {
  const names = byNumber(service.ports);
  const pairs: PortPair[] = [];
  for (const port of service.ports) {
    const targetPort = targetOf(port, names.get(port.port) ?? port);
    if (targetPort !== undefined) pairs.push({ servicePort: port.port, targetPort });
  }
  return pairs;
}

const containerPort = (ports: readonly ContainerPort[], name: string): number | undefined =>
  ports.find((port) => port.name === name && port.protocol === "TCP")?.port;

export function podPorts(service: ServiceInfo, ports: readonly ContainerPort[]): PortPair[] {
  if (service.source === "ServiceEntry") {
    return map(service, (port, { name }) => containerPort(ports, name) ?? port.targetPort);
  }
  return map(service, (port, { targetName }) =>
    targetName === "" ? port.targetPort : containerPort(ports, targetName),
  );
}

export function endpointPorts(service: ServiceInfo, { ports }: Endpoint): PortPair[] {
  return map(service, (port, { name, targetName }) => {
    if (targetName !== "") return ports.get(targetName);
    return ports.get(name) ?? port.targetPort;
  });
}
