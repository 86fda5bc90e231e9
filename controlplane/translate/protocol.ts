/** Which protocol a port speaks, from its name, appProtocol or number. */
import { AppProtocol } from "#shared/proto/gen/workload/workload_pb.js";

type Protocol =
  "tcp" | "udp" | "grpc" | "grpc-web" | "http" | "http_proxy" | "http2" | "https" | "tls" | "mongo" | "redis" | "mysql";

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

/** The protocol that a ServiceEntry's port names. */
export function namedProtocol(name: string): AppProtocol | undefined {
  const known = name.toLowerCase();
  return Object.hasOwn(appProtocols, known) ? appProtocols[known as Protocol] : undefined;
}

/** The protocol of a Kubernetes Service's port: appProtocol takes the place of the name. */
export function portProtocol(port: {
  readonly port: number;
  readonly name: string;
  readonly protocol: string;
  readonly appProtocol: string | undefined;
}): AppProtocol {
  if (port.protocol === "UDP") return AppProtocol.UNKNOWN;
  const standard = kubernetesProtocols.get(port.appProtocol ?? "");
  if (standard !== undefined) return appProtocols[standard];
  const name = port.appProtocol ?? port.name;
  // It holds a dash itself, so the rule of the first dash would read "grpc".
  if (name.toLowerCase().startsWith("grpc-web")) return appProtocols["grpc-web"];
  const dash = name.indexOf("-");
  const named = namedProtocol(dash < 0 ? name : name.slice(0, dash));
  return named ?? (serverFirstPorts.has(port.port) ? AppProtocol.TCP : AppProtocol.UNKNOWN);
}
