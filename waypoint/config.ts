/** Everything a waypoint is told from outside. Names follow the environment variables of Istio's proxies. */
import { EnvReader } from "#shared/config/env-reader.ts";
import { tryIp } from "#shared/net/ip.ts";
import { readProxyConfig } from "./proxy-config.ts";
import { parseFilter, type LogFilter, type LogFormat } from "#shared/observe/logging.ts";

export interface WaypointConfig {
  readonly podName: string;
  readonly podNamespace: string;
  /** Of the pod, several separated by commas. */
  readonly instanceIps: readonly string[];
  readonly nodeName: string;
  readonly serviceAccount: string;
  readonly trustDomain: string;
  /** Further names of our trust domain. */
  readonly trustDomainAliases: readonly string[];
  readonly clusterId: string;
  readonly network: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Of the pod. Some of them ask the control plane for something. */
  readonly annotations: Readonly<Record<string, string>>;
  readonly xds: ControlPlaneConfig;
  /** Absent: no certificates, so no tunnels in or out; only with `WAYPOINT_TUNNELS=off`. */
  readonly ca: ControlPlaneConfig | undefined;
  /** The pod's service account token: a path or the token itself; undefined for where Istio mounts it. */
  readonly authToken: string | undefined;
  readonly secretTtlMs: number;
  /** How long exchanges in flight may go on after SIGTERM. */
  readonly drainMs: number;
  readonly ports: {
    readonly hbone: number;
    readonly admin: number;
    readonly readiness: number;
    readonly stats: number;
    /** Where Istio's proxies are scraped too. */
    readonly prometheus: number;
  };
  /** `::` takes IPv4 too. */
  readonly wildcard: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly jsonMetadata: Readonly<Record<string, string>>;
  readonly istioVersion: string;
  readonly logFilter: LogFilter;
  readonly logFormat: LogFormat;
}

export interface ControlPlaneConfig {
  /** `host:port`, with `http://` in front only for a control plane on this machine. */
  readonly address: string;
  /** Path, PEM text or `SYSTEM`. */
  readonly roots: string;
  readonly alternativeHostname: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

type Env = Readonly<Record<string, string | undefined>>;

export interface ConfigSources {
  readonly env: Env;
  /** After the command's name, as Istio's template for waypoints gives them. */
  readonly args?: readonly string[];
  /** A file's text; undefined where there is none. */
  readonly readFile?: (path: string) => string | undefined;
}

const controlPlaneDefault = "istiod.istio-system.svc:15012";
const rootDefault = "/var/run/secrets/istio/root-cert.pem";
const metaPrefix = "ISTIO_META_";
/** Where the downward API writes the pod's labels and annotations, one `key="value"` each line. */
const labelsPath = "/etc/istio/pod/labels";
const annotationsPath = "/etc/istio/pod/annotations";

/** @throws MeshError CONFIG_INVALID once, naming every setting that is wrong */
export function readConfig({ env, args = [], readFile = () => undefined }: ConfigSources): WaypointConfig {
  const read = new EnvReader(env);
  const metadata = read.prefixed(metaPrefix);
  const { discoveryAddress = controlPlaneDefault, drainMs } = readProxyConfig(read);
  const config: WaypointConfig = {
    podName: required(read, "POD_NAME"),
    podNamespace: required(read, "POD_NAMESPACE"),
    instanceIps: readIps(read),
    nodeName: read.text("NODE_NAME", metadata["NODE_NAME"] ?? ""),
    serviceAccount: read.text("SERVICE_ACCOUNT", metadata["SERVICE_ACCOUNT"] ?? "default"),
    trustDomain: read.text("TRUST_DOMAIN", "cluster.local"),
    trustDomainAliases: list(read.text("TRUST_DOMAIN_ALIASES", "")),
    clusterId: metadata["CLUSTER_ID"] ?? read.text("CLUSTER_ID", "Kubernetes"),
    network: metadata["NETWORK"] ?? read.text("NETWORK", ""),
    labels: { ...downwardTexts(readFile(labelsPath)), ...readLabels(read) },
    annotations: downwardTexts(readFile(annotationsPath)),
    xds: readControlPlane(env, read, "XDS", discoveryAddress),
    ca: readCa(env, read, discoveryAddress),
    authToken: read.optionalText("AUTH_TOKEN"),
    secretTtlMs: read.durationMs("SECRET_TTL", 24 * 3_600_000),
    drainMs: readDrainMs(read, drainMs),
    ports: {
      hbone: read.port("HBONE_PORT", 15_008),
      admin: read.port("ADMIN_PORT", 15_000),
      readiness: read.port("STATUS_PORT", 15_021),
      stats: read.port("STATS_PORT", 15_020),
      prometheus: read.port("PROMETHEUS_PORT", 15_090),
    },
    wildcard: read.boolean("IPV6_ENABLED", true) ? "::" : "0.0.0.0",
    metadata,
    jsonMetadata: read.prefixed("ISTIO_METAJSON_"),
    istioVersion: metadata["ISTIO_VERSION"] ?? "unknown",
    logFilter: readLogFilter(read, args),
    logFormat: read.oneOf("LOG_FORMAT", ["plain", "json"], "plain"),
  };
  read.finish();
  return config;
}

function required(read: EnvReader, name: string): string {
  const value = read.text(name, "");
  if (value === "") read.reject(name, value, "set it: the control plane chooses configuration by who we are");
  return value;
}

function readIps(read: EnvReader): readonly string[] {
  const text = read.text("INSTANCE_IP", "");
  const ips = list(text);
  if (ips.length === 0) return ["127.0.0.1"];
  const wrong = ips.find((ip) => tryIp(ip) === undefined);
  if (wrong !== undefined) read.reject("INSTANCE_IP", text, `write IP addresses separated by commas, not "${wrong}"`);
  return ips;
}

const list = (text: string): readonly string[] =>
  text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");

/** Empty means no control plane; a missing one means the usual place. */
function readControlPlane(env: Env, read: EnvReader, prefix: "XDS" | "CA", usual: string): ControlPlaneConfig {
  const address = env[`${prefix}_ADDRESS`] ?? usual;
  if (address === "" && prefix === "XDS") read.reject("XDS_ADDRESS", "", "write host:port of the control plane");
  return {
    address,
    roots: read.text(`${prefix}_ROOT_CA`, rootDefault),
    alternativeHostname: read.optionalText(`ALT_${prefix}_HOSTNAME`),
    headers: read.prefixed(`${prefix}_HEADER_`),
  };
}

/** To go without certificates has to be said in so many words: a waypoint that just lost its CA must not start so. */
function readCa(env: Env, read: EnvReader, discoveryAddress: string): ControlPlaneConfig | undefined {
  const tunnels = read.oneOf("WAYPOINT_TUNNELS", ["on", "off"], "on");
  if (tunnels === "off") return undefined;
  const ca = readControlPlane(env, read, "CA", read.text("CA_ADDR", discoveryAddress));
  if (ca.address === "") {
    read.reject("CA_ADDRESS", "", "write host:port of the CA, or set WAYPOINT_TUNNELS=off to serve without HBONE");
  }
  return ca;
}

function readLabels(read: EnvReader): Readonly<Record<string, string>> {
  const text = read.optionalText("ISTIO_METAJSON_LABELS");
  if (text === undefined) return {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return Object.fromEntries(Object.entries(value).map(([key, label]) => [key, String(label)]));
    }
  } catch {
    // Said below.
  }
  read.reject("ISTIO_METAJSON_LABELS", text.slice(0, 60), "write a JSON object of labels");
  return {};
}

/** As Istio's agent: TERMINATION_DRAIN_DURATION_SECONDS, else what PROXY_CONFIG says, else 5 s. */
function readDrainMs(read: EnvReader, fallbackMs = 5_000): number {
  const seconds = read.integer("TERMINATION_DRAIN_DURATION_SECONDS", -1, { max: 86_400 });
  return seconds < 0 ? fallbackMs : seconds * 1_000;
}

/** Lines of the downward API; a value is written as a quoted string. */
function downwardTexts(text = ""): Readonly<Record<string, string>> {
  return Object.fromEntries(
    text.split("\n").flatMap((line) => {
      const [, key, quoted] = /^([^=]+)=(".*")$/.exec(line.trim()) ?? [];
      if (key === undefined || quoted === undefined) return [];
      try {
        return [[key, JSON.parse(quoted) as string]];
      } catch {
        return [];
      }
    }),
  );
}

/** What Istio's agent is told for Envoy. */
const envoyLevels: Readonly<Record<string, string>> = { warning: "warn", critical: "error" };

/** `LOG_LEVEL` (or `RUST_LOG`, as for ztunnel), else `--proxyLogLevel`, else info. */
function readLogFilter(read: EnvReader, args: readonly string[]): LogFilter {
  const name = read.optionalText("RUST_LOG") === undefined ? "LOG_LEVEL" : "RUST_LOG";
  const [, joined] = /^--proxyLogLevel=(.*)$/.exec(args.find((arg) => arg.startsWith("--proxyLogLevel=")) ?? "") ?? [];
  const at = args.indexOf("--proxyLogLevel");
  const argument = joined ?? (at < 0 ? undefined : args[at + 1]) ?? "info";
  const text = read.text(name, envoyLevels[argument] ?? argument);
  const filter = parseFilter(text);
  if (filter !== undefined) return filter;
  read.reject(name, text, 'write levels such as "info,access=debug"');
  return { fallback: "info", scopes: new Map() };
}
