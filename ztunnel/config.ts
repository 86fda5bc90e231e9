import { EnvReader } from "#shared/config/env-reader.ts";
import { tryIp, splitHostPort } from "#shared/net/ip.ts";
import { parseFilter, type LogFilter, type LogFormat } from "#shared/observe/logging.ts";
import type { OtelTarget } from "#shared/observe/otel-bridge.ts";
import type { PodIdentity } from "#shared/workload/workload-store.ts";

/** Everything a ztunnel is told from outside. Names follow Istio's environment variables. */
export interface ZtunnelConfig {
  readonly proxyEnabled: boolean;
  readonly mode: { readonly kind: "shared" } | { readonly kind: "dedicated"; readonly pod: PodIdentity };
  readonly network: string;
  readonly localNode?: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  readonly trustDomain: string;
  /** undefined: configuration comes from files only. */
  readonly xdsAddress?: string;
  /** undefined: no certificates, so no tunnels. */
  readonly caAddress?: string;
  readonly xdsRootCa: string;
  readonly caRootCa: string;
  readonly alternativeXdsHostname?: string;
  readonly alternativeCaHostname?: string;
  readonly authToken?: string;
  readonly xdsHeaders: Readonly<Record<string, string>>;
  readonly caHeaders: Readonly<Record<string, string>>;
  readonly xdsOnDemand: boolean;
  readonly localXds?:
    { readonly from: "file"; readonly path: string } | { readonly from: "text"; readonly text: string };
  readonly secretTtlMs: number;
  /** undefined: keep source addresses where the system allows it. */
  readonly originalSource?: boolean;
  readonly packetMark?: number;
  readonly inpodSocket: string;
  readonly inpodPortReuse: boolean;
  readonly socks5Enabled: boolean;
  readonly localhostAppTunnel: boolean;
  readonly responseBaggage: boolean;
  readonly ipv6Enabled: boolean;
  readonly crlPath?: string;
  readonly keepalive: {
    readonly enabled: boolean;
    readonly idleMs: number;
    readonly intervalMs: number;
    readonly probes: number;
    readonly userTimeout: boolean;
  };
  readonly http2: {
    readonly streamWindowBytes: number;
    readonly connectionWindowBytes: number;
    readonly maxFrameBytes: number;
  };
  readonly pool: { readonly maxStreamsPerConnection: number; readonly idleMs: number };
  readonly drainDeadlineMs: number;
  readonly workerThreads: number;
  readonly adminPort: number;
  readonly statsPort: number;
  /** Where metrics go besides our own port; absent: nowhere. */
  readonly openTelemetry?: OtelTarget;
  readonly dns: { readonly enabled: boolean; readonly host: string; readonly port: number };
  /** Whose service a name means where several namespaces have it and none is the asker's own. */
  readonly preferredServiceNamespace?: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly jsonMetadata: Readonly<Record<string, string>>;
  readonly istioVersion: string;
  readonly instanceIp: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly serviceAccount: string;
  readonly logFilter: LogFilter;
  readonly logFormat: LogFormat;
  readonly authzInfoLogging: boolean;
  readonly tls12Enabled: boolean;
  /** Key exchange for the time after quantum computers, and nothing else. */
  readonly postQuantumOnly: boolean;
}

/** What reading a configuration may ask of the machine. */
export interface ConfigSources {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cpuCount: number;
  /** A file's text; undefined where there is none. */
  readonly readFile: (path: string) => string | undefined;
  /** A daemon's working directory is not ours to choose, so this is absolute where Istio's is relative. */
  readonly meshConfigPath?: string;
}

/** The part of Istio's proxy configuration that concerns us; from a file or from PROXY_CONFIG. */
interface ProxyConfig {
  readonly discoveryAddress?: string;
  readonly proxyAdminPort?: number;
  readonly statsPort?: number;
  readonly concurrency?: number;
  readonly proxyMetadata?: Readonly<Record<string, string>>;
}

const metaPrefix = "ISTIO_META_";
/** Metadata that rides in the environment as JSON text. */
const metaJsonPrefix = "ISTIO_METAJSON_";

/** @throws MeshError CONFIG_INVALID once, naming every setting that is wrong */
export async function readConfig(sources: ConfigSources): Promise<ZtunnelConfig> {
  const { env, cpuCount, readFile, meshConfigPath = "/etc/istio/config/mesh" } = sources;
  const read = new EnvReader(env);
  const proxyConfig = merge(
    await readMeshConfig(readFile(meshConfigPath), meshConfigPath, read),
    await readProxyConfig(env["PROXY_CONFIG"], "PROXY_CONFIG", read),
  );
  const metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(proxyConfig.proxyMetadata ?? {})) {
    metadata[name.startsWith(metaPrefix) ? name.slice(metaPrefix.length) : name] = value;
  }
  Object.assign(metadata, read.prefixed(metaPrefix));
  const mode = read.oneOf("PROXY_MODE", ["shared", "dedicated"], "shared");
  const localNode = read.optionalText("NODE_NAME");
  const alternativeXdsHostname = read.optionalText("ALT_XDS_HOSTNAME");
  const alternativeCaHostname = read.optionalText("ALT_CA_HOSTNAME");
  const authToken = read.optionalText("AUTH_TOKEN");
  const crlPath = read.optionalText("CRL_PATH");
  const preferredServiceNamespace = read.optionalText("PREFERED_SERVICE_NAMESPACE"); // spelled as Istio spells it
  const xdsAddress = controlPlaneAddress(env, "XDS_ADDRESS", proxyConfig.discoveryAddress);
  const caAddress = controlPlaneAddress(env, "CA_ADDRESS", proxyConfig.discoveryAddress);
  const localXds = readLocalXds(read);
  const openTelemetry = readOpenTelemetry(read);
  const originalSource =
    read.optionalText("ENABLE_ORIG_SRC") === undefined ? undefined : read.boolean("ENABLE_ORIG_SRC", true);
  const packetMark =
    mode === "dedicated" && read.optionalText("PACKET_MARK") === undefined
      ? undefined
      : read.integer("PACKET_MARK", 1_337, { max: 0xffff_ffff });
  const config: ZtunnelConfig = {
    proxyEnabled: read.boolean("ENABLE_PROXY", true),
    mode: mode === "shared" ? { kind: "shared" } : { kind: "dedicated", pod: readPod(read) },
    network: read.text("NETWORK", ""),
    ...(localNode !== undefined && { localNode }),
    clusterId: metadata["CLUSTER_ID"] ?? read.text("CLUSTER_ID", "Kubernetes"),
    clusterDomain: read.text("CLUSTER_DOMAIN", "cluster.local"),
    trustDomain: read.text("TRUST_DOMAIN", "cluster.local"),
    ...(xdsAddress !== undefined && { xdsAddress }),
    ...(caAddress !== undefined && { caAddress }),
    xdsRootCa: read.text("XDS_ROOT_CA", "/var/run/secrets/istio/root-cert.pem"),
    caRootCa: read.text("CA_ROOT_CA", "/var/run/secrets/istio/root-cert.pem"),
    ...(alternativeXdsHostname !== undefined && { alternativeXdsHostname }),
    ...(alternativeCaHostname !== undefined && { alternativeCaHostname }),
    ...(authToken !== undefined && { authToken }),
    xdsHeaders: read.prefixed("XDS_HEADER_"),
    caHeaders: read.prefixed("CA_HEADER_"),
    xdsOnDemand: read.boolean("XDS_ON_DEMAND", false),
    ...(localXds !== undefined && { localXds }),
    secretTtlMs: read.durationMs("SECRET_TTL", 24 * 3_600_000),
    ...(originalSource !== undefined && { originalSource }),
    ...(packetMark !== undefined && { packetMark }),
    inpodSocket: read.text("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock"),
    inpodPortReuse: read.boolean("INPOD_PORT_REUSE", true),
    socks5Enabled: read.boolean("UNSTABLE_ENABLE_SOCKS5", false),
    localhostAppTunnel: read.boolean("LOCALHOST_APP_TUNNEL", true),
    responseBaggage: read.boolean("ENABLE_RESPONSE_BAGGAGE", true),
    ipv6Enabled: read.boolean("IPV6_ENABLED", true),
    ...(crlPath !== undefined && { crlPath }),
    keepalive: {
      enabled: read.boolean("KEEPALIVE_ENABLED", true),
      idleMs: read.durationMs("KEEPALIVE_TIME", 180_000),
      intervalMs: read.durationMs("KEEPALIVE_INTERVAL", 180_000),
      probes: read.integer("KEEPALIVE_RETRIES", 9, { min: 1, max: 127 }),
      userTimeout: read.boolean("USER_TIMEOUT_ENABLED", false),
    },
    http2: {
      streamWindowBytes: read.integer("HTTP2_STREAM_WINDOW_SIZE", 4_194_304, { min: 65_535, max: 2 ** 31 - 1 }),
      connectionWindowBytes: read.integer("HTTP2_CONNECTION_WINDOW_SIZE", 16_777_216, {
        min: 65_535,
        max: 2 ** 31 - 1,
      }),
      maxFrameBytes: read.integer("HTTP2_FRAME_SIZE", 1_048_576, { min: 16_384, max: 2 ** 24 - 1 }),
    },
    pool: {
      maxStreamsPerConnection: read.integer("POOL_MAX_STREAMS_PER_CONNECTION", 100, { min: 1, max: 65_535 }),
      idleMs: read.durationMs("POOL_UNUSED_RELEASE_TIMEOUT", 300_000),
    },
    drainDeadlineMs: readDrainDeadlineMs(read),
    workerThreads: readWorkerThreads(read, proxyConfig.concurrency, cpuCount),
    adminPort: proxyConfig.proxyAdminPort ?? 15_000,
    statsPort: proxyConfig.statsPort ?? 15_020,
    ...(openTelemetry !== undefined && { openTelemetry }),
    dns: readDns(metadata, read),
    ...(preferredServiceNamespace !== undefined && { preferredServiceNamespace }),
    metadata,
    jsonMetadata: read.prefixed(metaJsonPrefix),
    istioVersion: metadata["ISTIO_VERSION"] ?? "unknown",
    instanceIp: read.text("INSTANCE_IP", ""),
    podName: read.text("POD_NAME", ""),
    podNamespace: read.text("POD_NAMESPACE", ""),
    serviceAccount: read.text("SERVICE_ACCOUNT", ""),
    logFilter: readLogFilter(read),
    logFormat: read.oneOf("LOG_FORMAT", ["plain", "json"], "plain"),
    authzInfoLogging: read.boolean("AUTHZ_POLICY_INFO_LOGGING", false),
    tls12Enabled: read.boolean("TLS12_ENABLED", false),
    postQuantumOnly: read.oneOf("COMPLIANCE_POLICY", ["", "pqc"], "") === "pqc",
  };
  refuseUnenforced(config, read);
  read.finish();
  return config;
}

/** What asks for more safety than we give stops the start, rather than be ignored. */
function refuseUnenforced({ proxyEnabled, crlPath, postQuantumOnly }: ZtunnelConfig, read: EnvReader): void {
  if (!proxyEnabled) read.reject("ENABLE_PROXY", "false", "leave it on: there is nothing else to run");
  if (crlPath !== undefined) read.reject("CRL_PATH", crlPath, "leave it out: revocation lists are not enforced yet");
  if (postQuantumOnly) read.reject("COMPLIANCE_POLICY", "pqc", "leave it out: key exchange is not restricted yet");
}

async function readMeshConfig(text: string | undefined, path: string, read: EnvReader): Promise<ProxyConfig> {
  const mesh = await readYaml(text, path, read);
  const defaults = mesh?.["defaultConfig"];
  return defaults === undefined ? {} : checkProxyConfig(defaults, path, read);
}

async function readProxyConfig(text: string | undefined, name: string, read: EnvReader): Promise<ProxyConfig> {
  const config = await readYaml(text, name, read);
  return config === undefined ? {} : checkProxyConfig(config, name, read);
}

type YamlObject = Readonly<Record<string, unknown>>;

async function readYaml(text: string | undefined, name: string, read: EnvReader): Promise<YamlObject | undefined> {
  if (text === undefined || text.trim() === "") return undefined;
  const { parse } = await import("yaml");
  try {
    const value: unknown = parse(text);
    if (isObject(value)) return value;
    read.reject(name, shorten(text), "write a YAML object");
  } catch (error) {
    read.reject(name, shorten(text), `write YAML: ${error instanceof Error ? error.message : String(error)}`);
  }
  return undefined;
}

const isObject = (value: unknown): value is YamlObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const shorten = (text: string): string => (text.length > 60 ? `${text.slice(0, 60)}…` : text);

function checkProxyConfig(value: unknown, name: string, read: EnvReader): ProxyConfig {
  if (!isObject(value)) {
    read.reject(`${name} defaultConfig`, String(value), "write a YAML object");
    return {};
  }
  const port = (key: string): number | undefined => {
    const given = value[key];
    if (given === undefined) return undefined;
    if (Number.isInteger(given) && Number(given) >= 0 && Number(given) <= 65_535) return Number(given);
    read.reject(`${name} ${key}`, JSON.stringify(given), "write a whole number from 0 to 65535");
    return undefined;
  };
  const discoveryAddress = value["discoveryAddress"];
  const proxyAdminPort = port("proxyAdminPort");
  const statsPort = port("statsPort");
  const concurrency = port("concurrency");
  const metadata = value["proxyMetadata"];
  if (metadata !== undefined && metadata !== null && !isObject(metadata)) {
    read.reject(`${name} proxyMetadata`, JSON.stringify(metadata), "write an object of strings");
  }
  const proxyMetadata = isObject(metadata)
    ? Object.fromEntries(Object.entries(metadata).map(([key, text]) => [key, String(text)]))
    : {};
  return {
    ...(typeof discoveryAddress === "string" && { discoveryAddress }),
    ...(proxyAdminPort !== undefined && { proxyAdminPort }),
    ...(statsPort !== undefined && { statsPort }),
    ...(concurrency !== undefined && { concurrency }),
    proxyMetadata,
  };
}

const merge = (file: ProxyConfig, own: ProxyConfig): ProxyConfig => ({
  ...file,
  ...own,
  proxyMetadata: { ...file.proxyMetadata, ...own.proxyMetadata },
});

/** An empty variable turns the control plane off; a missing one means the usual place. */
function controlPlaneAddress(
  env: ConfigSources["env"],
  name: string,
  discoveryAddress: string | undefined,
): string | undefined {
  const inCluster = env["KUBERNETES_SERVICE_HOST"] !== undefined;
  const usual = inCluster ? "https://istiod.istio-system.svc:15012" : "https://localhost:15012";
  const address = env[name] ?? discoveryAddress ?? usual;
  if (address === "") return undefined;
  return address.includes("://") ? address : `https://${address}`;
}

function readLocalXds(read: EnvReader): ZtunnelConfig["localXds"] {
  const path = read.optionalText("LOCAL_XDS_PATH");
  const text = read.optionalText("LOCAL_XDS");
  if (path !== undefined && text !== undefined)
    read.reject("LOCAL_XDS", shorten(text), "set it or LOCAL_XDS_PATH, not both");
  if (path !== undefined) return { from: "file", path };
  return text === undefined ? undefined : { from: "text", text };
}

/** OpenTelemetry's own variables; `otlp` needs a provider that is loaded with `--import`, as its documentation says. */
function readOpenTelemetry(read: EnvReader): OtelTarget | undefined {
  switch (read.oneOf("OTEL_METRICS_EXPORTER", ["none", "prometheus", "otlp"], "none")) {
    case "none":
      return undefined;
    case "otlp":
      return { kind: "preloaded" };
    case "prometheus":
      return { kind: "prometheus", port: read.port("OTEL_EXPORTER_PROMETHEUS_PORT", 9_464) };
  }
}

function readPod(read: EnvReader): PodIdentity {
  const text = read.text("PROXY_WORKLOAD_INFO", "");
  const [namespace = "", name = "", serviceAccount = "", ...more] = text.split("/");
  if (namespace === "" || name === "" || serviceAccount === "" || more.length > 0) {
    read.reject("PROXY_WORKLOAD_INFO", text, 'write "namespace/name/serviceaccount" when PROXY_MODE is dedicated');
  }
  return { namespace, name, serviceAccount };
}

function readLogFilter(read: EnvReader): LogFilter {
  const text = read.text("RUST_LOG", "info");
  const filter = parseFilter(text);
  if (filter !== undefined) return filter;
  read.reject("RUST_LOG", text, 'write levels such as "info,access=debug"');
  return { fallback: "info", scopes: new Map() };
}

/** Kubernetes kills us when its grace period is over: be done some seconds earlier. */
function readDrainDeadlineMs(read: EnvReader): number {
  const own = read.optionalText("CONNECTION_TERMINATION_DEADLINE");
  if (own !== undefined) return read.durationMs("CONNECTION_TERMINATION_DEADLINE", 5_000);
  if (read.optionalText("TERMINATION_GRACE_PERIOD_SECONDS") === undefined) return 5_000;
  const graceSeconds = read.integer("TERMINATION_GRACE_PERIOD_SECONDS", 30, { max: 86_400 });
  return Math.max(graceSeconds > 10 ? graceSeconds - 5 : graceSeconds - 1, 1) * 1_000;
}

function readDns(metadata: Readonly<Record<string, string>>, read: EnvReader): ZtunnelConfig["dns"] {
  const capture = metadata["DNS_CAPTURE"];
  const address = metadata["DNS_PROXY_ADDR"] ?? "localhost:15053";
  const split = splitHostPort(address);
  if (split === undefined || (split.host !== "localhost" && tryIp(split.host) === undefined)) {
    read.reject("DNS_PROXY_ADDR", address, 'write "localhost:port" or "ip:port"');
  }
  const { host, port } = split ?? { host: "localhost", port: 15_053 };
  return { enabled: capture === undefined || capture.toLowerCase() === "true", host, port };
}

/** Threads for the data path: told, else a quarter of the processors but two at least, within the pod's limits. */
function readWorkerThreads(read: EnvReader, concurrency: number | undefined, machineCpus: number): number {
  const limit = readCpus(read, "ZTUNNEL_RESOURCE_CPU_LIMIT");
  const request = readCpus(read, "ZTUNNEL_RESOURCE_CPU_REQUEST");
  const cpus = limit ?? readCpus(read, "ZTUNNEL_CPU_LIMIT") ?? machineCpus;
  const told = read.optionalText("ZTUNNEL_WORKER_THREADS");
  if (told?.endsWith("%") === true) {
    const percent = /^\d+(\.\d+)?%$/.test(told) ? Number(told.slice(0, -1)) : Number.NaN;
    if (percent > 0 && percent <= 100) return Math.max(Math.ceil((cpus * percent) / 100), 1);
    read.reject("ZTUNNEL_WORKER_THREADS", told, "write a share from 1% to 100%");
    return 2;
  }
  if (told !== undefined) return read.integer("ZTUNNEL_WORKER_THREADS", 2, { max: 4_096 }) || cpus;
  if (concurrency !== undefined) return concurrency || cpus;
  return Math.max(limit ?? Math.max(Math.ceil(cpus / 4), 2), request ?? 0);
}

/** What Kubernetes' suffixes multiply by; far larger ones make no sense for processors. */
const quantityUnits: Readonly<Record<string, number>> = { n: 1e-9, u: 1e-6, m: 1e-3, "": 1, k: 1e3 };

/** A Kubernetes quantity of processors, rounded up. 0 is what the downward API says of a request that is not made. */
function readCpus(read: EnvReader, name: string): number | undefined {
  const text = read.optionalText(name);
  if (text === undefined) return undefined;
  const [, amount, exponent = "", unit = ""] =
    /^(\d+(?:\.\d*)?|\.\d+)(?:([eE][+-]?\d{1,2})|([numk]))?$/.exec(text) ?? [];
  if (amount !== undefined) {
    const cpus = Number(`${amount}${exponent}`) * (quantityUnits[unit] ?? 1);
    // 0.3 is a little more than three tenths: what is beyond a nano-processor is not meant.
    return Math.ceil(Math.round(cpus * 1e9) / 1e9) || undefined;
  }
  read.reject(name, text, 'write a number of processors such as "2", "1.5" or "500m"');
  return undefined;
}
