import { EnvReader } from "#shared/config/env-reader.ts";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { splitHostPort } from "#shared/net/ip.ts";
import { parseFilter, type LogFilter } from "#shared/observe/logging.ts";
import type { TranslateOptions } from "#controlplane/translate/options.ts";
import { readTranslateOptions } from "#controlplane/translate/read-options.ts";
import type { WaypointSettings } from "#controlplane/waypoints/waypoint-objects.ts";
import type { ListenAddress } from "#controlplane/xds/grpc-listener.ts";

/** Where configuration comes from, and with it where the CA keeps its root and who vouches for tokens. */
export type SourceConfig =
  | {
      readonly kind: "kubernetes";
      /** Path of a kubeconfig; empty: the pod's own service account. */
      readonly kubeconfig: string;
    }
  | {
      readonly kind: "folder";
      readonly folder: string;
      /** The CA's root and the keys of local tokens. */
      readonly stateDirectory: string;
    };

export interface DiscoveryConfig {
  readonly source: SourceConfig;
  /** Unauthenticated; undefined switches it off. */
  readonly grpcAddress: ListenAddress | undefined;
  readonly secureGrpcAddress: ListenAddress;
  /** Readiness and `/debug`. */
  readonly httpAddress: ListenAddress;
  readonly monitoringAddress: ListenAddress;
  /** The validating webhook; undefined: objects are not checked when they are written. */
  readonly admission: { readonly address: ListenAddress; readonly configuration: string } | undefined;
  readonly podName: string;
  readonly rootNamespace: string;
  readonly translate: TranslateOptions;
  readonly waypoints: WaypointSettings & {
    /** Whether Gateways of a waypoint class get pods [PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER]. */
    readonly areRun: boolean;
  };
  readonly debounce: { readonly quietMs: number; readonly longestMs: number };
  readonly maxStreamAgeMs: number;
  /** Names and addresses in our certificate. */
  readonly servingHosts: readonly string[];
  readonly pluggedInDirectory: string;
  readonly defaultTtlMs: number;
  readonly maxTtlMs: number;
  readonly severalRoots: boolean;
  readonly tokenAudiences: readonly string[];
  /** `namespace/service account` of node proxies, which may ask for certificates of the pods beside them. */
  readonly trustedNodeAccounts: ReadonlySet<string>;
  readonly rootConfigMap: string;
  /** undefined: the list of revoked certificates is not distributed. */
  readonly crlConfigMap: string | undefined;
  readonly logFilter: LogFilter;
  readonly logAsJson: boolean;
}

/** Options of the command line, as text. */
export interface DiscoveryFlags {
  readonly source?: string;
  readonly stateDir?: string;
  readonly kubeconfig?: string;
  readonly grpcAddr: string;
  readonly secureGRPCAddr: string;
  readonly httpAddr: string;
  readonly monitoringAddr: string;
  /** `:15017` where it is not said. */
  readonly httpsAddr?: string;
  readonly domain: string;
  readonly cacerts: string;
  readonly host: readonly string[];
  readonly keepaliveMaxServerConnectionAge: string;
  readonly log_output_level?: string;
  readonly log_as_json?: boolean;
}

const dayMs = 24 * 3_600_000;

/** @throws MeshError CONFIG_INVALID once, naming every flag and variable that is wrong */
export function readDiscoveryConfig(flags: DiscoveryFlags, env: NodeJS.ProcessEnv): DiscoveryConfig {
  const read = new EnvReader(env);
  const mistakes: string[] = [];
  const address = (flag: string, text: string): ListenAddress => {
    const parsed = parseListenAddress(text);
    if (parsed === undefined) mistakes.push(`--${flag}="${text}": write ":15012" or "127.0.0.1:15012"`);
    return parsed ?? { host: "", port: 0 };
  };
  const age = new EnvReader({ keepaliveMaxServerConnectionAge: flags.keepaliveMaxServerConnectionAge });
  const namespace = read.text("POD_NAMESPACE", "istio-system");
  const revision = read.text("REVISION", "default");
  const level = flags.log_output_level ?? "info";
  const logFilter = parseFilter(level.replaceAll("default:", "").replaceAll(":", "="));
  if (logFilter === undefined)
    mistakes.push(`--log_output_level="${level}": write a level such as "debug", or "xds=debug,info"`);

  const source = readSource(flags, env, mistakes);
  const { httpsAddr = ":15017" } = flags;
  const configuration = read.text("VALIDATION_WEBHOOK_CONFIG_NAME", `istio-validator-${namespace}`);
  // Without an API server nobody asks.
  const isAsked = source.kind === "kubernetes" && httpsAddr !== "" && configuration !== "";
  const config: DiscoveryConfig = {
    source,
    grpcAddress: flags.grpcAddr === "" ? undefined : address("grpcAddr", flags.grpcAddr),
    secureGrpcAddress: address("secureGRPCAddr", flags.secureGRPCAddr),
    httpAddress: address("httpAddr", flags.httpAddr),
    monitoringAddress: address("monitoringAddr", flags.monitoringAddr),
    admission: isAsked ? { address: address("httpsAddr", httpsAddr), configuration } : undefined,
    podName: read.text("POD_NAME", "istiod"),
    rootNamespace: namespace,
    translate: readTranslateOptions(read, flags.domain),
    waypoints: {
      areRun: read.boolean("PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER", true),
      image: read.text("WAYPOINT_IMAGE", "ambit/waypoint"),
      controlPlaneAddress: `istiod${revision === "default" || revision === "" ? "" : `-${revision}`}.${namespace}.svc:15012`,
    },
    debounce: {
      quietMs: read.durationMs("PILOT_DEBOUNCE_AFTER", 100),
      longestMs: read.durationMs("PILOT_DEBOUNCE_MAX", 10_000),
    },
    maxStreamAgeMs: age.durationMs("keepaliveMaxServerConnectionAge", 30 * 60_000),
    servingHosts: servingHosts({
      namespace,
      revision,
      custom: [...list(read.text("ISTIOD_CUSTOM_HOST", "")), ...flags.host],
      isLocal: flags.source?.startsWith("folder:") === true,
    }),
    pluggedInDirectory: flags.cacerts,
    defaultTtlMs: read.durationMs("DEFAULT_WORKLOAD_CERT_TTL", dayMs),
    maxTtlMs: read.durationMs("MAX_WORKLOAD_CERT_TTL", 90 * dayMs),
    severalRoots: read.boolean("ISTIO_MULTIROOT_MESH", false),
    tokenAudiences: list(read.text("TOKEN_AUDIENCES", "istio-ca")),
    trustedNodeAccounts: new Set(list(read.text("CA_TRUSTED_NODE_ACCOUNTS", `${namespace}/ztunnel`))),
    rootConfigMap: read.text("PILOT_CA_CERT_CONFIGMAP", "istio-ca-root-cert"),
    crlConfigMap: read.boolean("PILOT_ENABLE_CA_CRL", true)
      ? read.text("PILOT_CRL_CONFIGMAP", "istio-ca-crl")
      : undefined,
    logFilter: logFilter ?? { fallback: "info", scopes: new Map() },
    logAsJson: flags.log_as_json ?? false,
  };
  for (const account of config.trustedNodeAccounts) {
    if (!/^[^/]+\/[^/]+$/.test(account)) read.reject("CA_TRUSTED_NODE_ACCOUNTS", account, 'write "namespace/account"');
  }
  for (const reader of [read, age]) {
    try {
      reader.finish();
    } catch (error) {
      mistakes.push((error as Error).message.replace("Cannot read the environment: ", ""));
    }
  }
  if (mistakes.length > 0)
    throw new MeshError("CONFIG_INVALID", `Cannot start the control plane: ${mistakes.join("; ")}`);
  return config;
}

function readSource(flags: DiscoveryFlags, env: NodeJS.ProcessEnv, mistakes: string[]): SourceConfig {
  const { source = "kubernetes", stateDir = "" } = flags;
  if (source === "kubernetes") return { kind: "kubernetes", kubeconfig: flags.kubeconfig ?? env["KUBECONFIG"] ?? "" };
  const folder = source.startsWith("folder:") ? source.slice("folder:".length) : "";
  if (folder === "") mistakes.push(`--source="${source}": write "kubernetes" or "folder:DIRECTORY"`);
  return { kind: "folder", folder, stateDirectory: stateDir === "" ? defaultStateDirectory : stateDir };
}

/** Relative to where it is started; kept out of the folder that is read. */
export const defaultStateDirectory = ".ambit-state";

interface HostFacts {
  readonly namespace: string;
  readonly revision: string;
  readonly custom: readonly string[];
  readonly isLocal: boolean;
}

/** As Istio names its control plane's Services; without a cluster also as one's own machine. */
function servingHosts({ namespace, revision, custom, isLocal }: HostFacts): readonly string[] {
  const names = ["istiod", "istiod-remote", "istio-pilot"];
  if (revision !== "" && revision !== "default") names.unshift(`istiod-${revision}`);
  const cluster = names.map((name) => `${name}.${namespace}.svc`);
  return [
    ...new Set([...custom, ...cluster, `istiod.${namespace}`, ...(isLocal ? ["localhost", "127.0.0.1", "::1"] : [])]),
  ];
}

const list = (text: string): readonly string[] =>
  text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");

/** `:15012` listens on every address. */
function parseListenAddress(text: string): ListenAddress | undefined {
  const port = /^:(\d{1,5})$/.exec(text)?.[1];
  if (port !== undefined) return Number(port) <= 65_535 ? { host: "::", port: Number(port) } : undefined;
  return splitHostPort(text);
}
