/** Which protocol a port speaks, from its name, appProtocol or number. */
import { AppProtocol } from "#shared/proto/gen/workload/workload_pb.js";

/** In lower case, as Istio names them. */
export type Protocol =
  "tcp" | "udp" | "grpc" | "grpc-web" | "http" | "http_proxy" | "http2" | "https" | "tls" | "mongo" | "redis" | "mysql";

/** What is known of a port; `unsupported`: nothing, its first bytes tell. */
export type PortProtocol = Protocol | "unsupported";

const appProtocols: Readonly<Record<Protocol, AppProtocol>> = {
  tcp: AppProtocol.TCP,
  udp: AppProtocol.UNKNOWN,
  grpc: AppProtocol.GRPC,
  "grpc-web": AppProtocol.UNKNOWN,
  http: AppProtocol.HTTP11,
  http_proxy: AppProtocol.UNKNOWN,
  http2: AppProtocol.HTTP2,
  https: AppProtocol.TLS,
  tls: AppProtocol.TLS,
  mongo: AppProtocol.UNKNOWN,
  redis: AppProtocol.UNKNOWN,
  mysql: AppProtocol.UNKNOWN,
};

/** What Kubernetes itself names in appProtocol. */
const kubernetesProtocols: ReadonlyMap<string, Protocol> = new Map([
  ["kubernetes.io/h2c", "http2"],
  ["kubernetes.io/ws", "http"],
  ["kubernetes.io/wss", "https"],
]);

/** Ports whose protocol lets the server speak first (SMTP, DNS, MySQL, MongoDB): never sniffed. */
const serverFirstPorts: ReadonlySet<number> = new Set([25, 53, 3306, 27_017]);

const known = (name: string): Protocol | undefined =>
  Object.hasOwn(appProtocols, name.toLowerCase()) ? (name.toLowerCase() as Protocol) : undefined;

/** The protocol that a ServiceEntry's port names. */
export const entryProtocol = (name: string): PortProtocol => known(name) ?? "unsupported";

/** The protocol of a Kubernetes Service's port: appProtocol takes the place of the name. */
export function portProtocol(port: {
  readonly port: number;
  readonly name: string;
  readonly protocol: string;
  readonly appProtocol: string | undefined;
}): PortProtocol {
  if (port.protocol === "UDP") return "udp";
  const standard = kubernetesProtocols.get(port.appProtocol ?? "");
  if (standard !== undefined) return standard;
  const name = port.appProtocol ?? port.name;
  // It holds a dash itself, so the rule of the first dash would read "grpc".
  if (name.toLowerCase().startsWith("grpc-web")) return "grpc-web";
  const dash = name.indexOf("-");
  return known(dash < 0 ? name : name.slice(0, dash)) ?? (serverFirstPorts.has(port.port) ? "tcp" : "unsupported");
}

/** As the workload API tells it. */
export const appProtocol = (protocol: PortProtocol): AppProtocol =>
  protocol === "unsupported" ? AppProtocol.UNKNOWN : appProtocols[protocol];

/** Whether requests are looked at, never, or only where the first bytes say so. */
export function inspection(protocol: PortProtocol): "http" | "tcp" | "sniffed" | "none" {
  switch (protocol) {
    case "http":
    case "http2":
    case "grpc":
    case "grpc-web":
    case "http_proxy":
      return "http";
    case "tcp":
    case "tls":
    case "https":
    case "mongo":
    case "redis":
    case "mysql":
      return "tcp";
    case "unsupported":
      return "sniffed";
    case "udp":
      return "none";
  }
}

/** Whether what is spoken begins with a TLS handshake, in which a client may say whom it wants. */
export const showsNames = (protocol: PortProtocol): boolean => protocol === "tls" || protocol === "https";
