/** How services are called: Istio's DestinationRule. A member that is undefined is not written. */
import { durationMs } from "./duration.ts";
import { ShapeError, type Field } from "./field.ts";

export type SimpleBalancer = "RANDOM" | "PASSTHROUGH" | "ROUND_ROBIN" | "LEAST_REQUEST";

export interface HashCookie {
  readonly name: string;
  readonly path: string;
  /** undefined: only cookies that clients bring; 0: a cookie for the session is made. */
  readonly ttlMs: number | undefined;
  readonly attributes: readonly { readonly name: string; readonly value: string }[];
}

export interface ConsistentHash {
  readonly headerName: string | undefined;
  readonly cookie: HashCookie | undefined;
  readonly useSourceIp: boolean;
  readonly queryParameterName: string | undefined;
  readonly algorithm:
    | { readonly kind: "ring"; readonly minimumRingSize: number | undefined }
    | { readonly kind: "maglev"; readonly tableSize: number };
}

/** Envoy's bound of a ring. */
export const largestRing = 8_388_608;

export interface LocalitySetting {
  readonly enabled: boolean;
  readonly distribute: readonly { readonly from: string; readonly to: ReadonlyMap<string, number> }[];
  readonly failover: readonly { readonly from: string; readonly to: string }[];
  readonly failoverPriority: readonly string[];
}

export interface Warmup {
  readonly durationMs: number;
  readonly minimumPercent: number;
  readonly aggression: number;
}

export interface LoadBalancer {
  readonly simple: SimpleBalancer | undefined;
  readonly consistentHash: ConsistentHash | undefined;
  readonly locality: LocalitySetting | undefined;
  readonly zoneAware: LocalitySetting | undefined;
  readonly warmup: Warmup | undefined;
}

export interface Keepalive {
  readonly probes: number;
  readonly timeMs: number | undefined;
  readonly intervalMs: number | undefined;
}

export interface TcpPool {
  readonly maxConnections: number;
  readonly connectTimeoutMs: number | undefined;
  readonly keepalive: Keepalive | undefined;
  readonly maxConnectionDurationMs: number | undefined;
  readonly idleTimeoutMs: number | undefined;
}

export interface HttpPool {
  readonly maxPendingRequests: number;
  readonly maxRequests: number;
  readonly maxRequestsPerConnection: number;
  readonly maxRetries: number;
  readonly idleTimeoutMs: number | undefined;
  readonly h2UpgradePolicy: "DEFAULT" | "DO_NOT_UPGRADE" | "UPGRADE";
  readonly useClientProtocol: boolean;
  readonly maxConcurrentStreams: number;
  readonly keepalive: { readonly intervalMs: number; readonly timeoutMs: number } | undefined;
}

/** In numbers 0 means that nothing is said. */
export interface ConnectionPool {
  readonly tcp: TcpPool | undefined;
  readonly http: HttpPool | undefined;
}

export interface OutlierDetection {
  readonly splitLocalErrors: boolean;
  readonly consecutiveLocalFailures: number | undefined;
  readonly consecutiveGatewayErrors: number | undefined;
  readonly consecutive5xxErrors: number | undefined;
  readonly intervalMs: number | undefined;
  readonly baseEjectionMs: number | undefined;
  readonly maxEjectionPercent: number;
  readonly minHealthPercent: number;
  /** Statuses that count as errors; empty: all from 500 on. */
  readonly errorCodes: readonly number[];
}

export interface ClientTls {
  readonly mode: "DISABLE" | "SIMPLE" | "MUTUAL" | "ISTIO_MUTUAL";
  readonly clientCertificate: string;
  readonly privateKey: string;
  readonly caCertificates: string;
  readonly caCrl: string;
  readonly credentialName: string;
  readonly subjectAltNames: readonly string[];
  readonly sni: string;
  readonly insecureSkipVerify: boolean;
}

export interface Tunnel {
  readonly usePost: boolean;
  readonly targetHost: string;
  readonly targetPort: number;
}

export interface RetryBudget {
  readonly percent: number;
  readonly minRetryConcurrency: number;
  /** 0: of the requests in flight; otherwise of those that began within this time. */
  readonly intervalMs: number;
}

/** What may be said of single ports. */
export interface PortPolicy {
  readonly loadBalancer: LoadBalancer | undefined;
  readonly connectionPool: ConnectionPool | undefined;
  readonly outlierDetection: OutlierDetection | undefined;
  readonly tls: ClientTls | undefined;
}

export interface TrafficPolicy extends PortPolicy {
  readonly tunnel: Tunnel | undefined;
  readonly proxyProtocol: "V1" | "V2" | undefined;
  readonly retryBudget: RetryBudget | undefined;
  readonly ports: ReadonlyMap<number, PortPolicy>;
}

export interface Subset {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly policy: TrafficPolicy | undefined;
}

export interface DestinationRuleSpec {
  readonly host: string;
  readonly policy: TrafficPolicy | undefined;
  readonly subsets: readonly Subset[];
  readonly exportTo: readonly string[];
  /** undefined: whoever calls. */
  readonly workloadSelector: ReadonlyMap<string, string> | undefined;
}

export function readDestinationRule(spec: Field): DestinationRuleSpec {
  const selector = spec.at("workloadSelector");
  return {
    host: spec.at("host").text(),
    policy: optional(spec.at("trafficPolicy"), readTrafficPolicy),
    subsets: spec
      .at("subsets")
      .list()
      .map((subset) => ({
        name: subset.at("name").text(),
        labels: subset.at("labels").textMap(),
        policy: optional(subset.at("trafficPolicy"), readTrafficPolicy),
      })),
    exportTo: spec.at("exportTo").texts(),
    workloadSelector: selector.isPresent ? selector.at("matchLabels").textMap() : undefined,
  };
}

const optional = <T>(field: Field, read: (field: Field) => T): T | undefined =>
  field.isPresent ? read(field) : undefined;

function oneOf<const T extends string>(field: Field, choices: readonly T[], absent: T): T {
  const text = field.text(absent);
  const found = choices.find((choice) => choice === text);
  if (found === undefined) throw new ShapeError(field.path, `one of ${choices.join(", ")}`, text);
  return found;
}

const readPortPolicy = (policy: Field): PortPolicy => ({
  loadBalancer: optional(policy.at("loadBalancer"), readLoadBalancer),
  connectionPool: optional(policy.at("connectionPool"), readConnectionPool),
  outlierDetection: optional(policy.at("outlierDetection"), readOutlierDetection),
  tls: optional(policy.at("tls"), readTls),
});

const readTrafficPolicy = (policy: Field): TrafficPolicy => ({
  ...readPortPolicy(policy),
  tunnel: optional(policy.at("tunnel"), (tunnel) => ({
    usePost: oneOf(tunnel.at("protocol"), ["CONNECT", "POST"], "CONNECT") === "POST",
    targetHost: tunnel.at("targetHost").text(),
    targetPort: tunnel.at("targetPort").port(),
  })),
  proxyProtocol: optional(policy.at("proxyProtocol"), (each) => oneOf(each.at("version"), ["V1", "V2"], "V1")),
  retryBudget: optional(policy.at("retryBudget"), (budget) => ({
    percent: budget.at("percent").decimal() ?? 20,
    minRetryConcurrency: budget.at("minRetryConcurrency").uint32() || 3,
    intervalMs: durationMs(budget.at("budgetInterval")) ?? 0,
  })),
  ports: new Map(
    policy
      .at("portLevelSettings")
      .list()
      .map((each) => [each.at("port").at("number").port(), readPortPolicy(each)]),
  ),
});

function readLoadBalancer(balancer: Field): LoadBalancer {
  const simple = oneOf(
    balancer.at("simple"),
    ["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"],
    "UNSPECIFIED",
  );
  return {
    simple: simple === "UNSPECIFIED" ? undefined : simple === "LEAST_CONN" ? "LEAST_REQUEST" : simple,
    consistentHash: optional(balancer.at("consistentHash"), readConsistentHash),
    locality: optional(balancer.at("localityLbSetting"), readLocalitySetting),
    zoneAware: optional(balancer.at("zoneAwareLbSetting"), readLocalitySetting),
    warmup: readWarmup(balancer),
  };
}

function readWarmup(balancer: Field): Warmup | undefined {
  const warmup = balancer.at("warmup");
  const ms = durationMs(warmup.at("duration")) ?? durationMs(balancer.at("warmupDurationSecs"));
  if (ms === undefined) return undefined;
  return {
    durationMs: ms,
    minimumPercent: warmup.at("minimumPercent").decimal() ?? 10,
    aggression: warmup.at("aggression").decimal() || 1,
  };
}

function readConsistentHash(hash: Field): ConsistentHash {
  const maglev = hash.at("maglev");
  const former = hash.at("minimumRingSize").uint32();
  const ring = hash.at("ringHash").at("minimumRingSize").uint32();
  return {
    headerName: hash.at("httpHeaderName").optionalText(),
    cookie: optional(hash.at("httpCookie"), (cookie) => ({
      name: cookie.at("name").text(),
      path: cookie.at("path").text(),
      ttlMs: durationMs(cookie.at("ttl")),
      attributes: cookie
        .at("attributes")
        .list()
        .map((each) => ({ name: each.at("name").text(), value: each.at("value").text() })),
    })),
    useSourceIp: hash.at("useSourceIp").flag(),
    queryParameterName: hash.at("httpQueryParameterName").optionalText(),
    algorithm: maglev.isPresent
      ? { kind: "maglev", tableSize: maglev.at("tableSize").uint32() }
      : { kind: "ring", minimumRingSize: ring || former || undefined },
  };
}

/** Of the two settings, with the fields that they share. */
export function readLocalitySetting(setting: Field): LocalitySetting {
  const pair = (each: Field) => ({ from: each.at("from").text(), to: each.at("to").text() });
  return {
    enabled: setting.at("enabled").optionalFlag() ?? true,
    distribute: setting
      .at("distribute")
      .list()
      .map((each) => ({
        from: each.at("from").text(),
        to: new Map(
          each
            .at("to")
            .entries()
            .map(([place, weight]) => [place, weight.uint32()]),
        ),
      })),
    failover: setting.at("failover").list().map(pair),
    failoverPriority: setting.at("failoverPriority").texts(),
  };
}

export const readKeepalive = (keepalive: Field): Keepalive => ({
  probes: keepalive.at("probes").uint32(),
  timeMs: durationMs(keepalive.at("time")),
  intervalMs: durationMs(keepalive.at("interval")),
});

const readConnectionPool = (pool: Field): ConnectionPool => ({
  tcp: optional(pool.at("tcp"), (tcp) => ({
    maxConnections: tcp.at("maxConnections").uint32(),
    connectTimeoutMs: durationMs(tcp.at("connectTimeout")),
    keepalive: optional(tcp.at("tcpKeepalive"), readKeepalive),
    maxConnectionDurationMs: durationMs(tcp.at("maxConnectionDuration")),
    idleTimeoutMs: durationMs(tcp.at("idleTimeout")),
  })),
  http: optional(pool.at("http"), (http) => ({
    maxPendingRequests: http.at("http1MaxPendingRequests").uint32(),
    maxRequests: http.at("http2MaxRequests").uint32(),
    maxRequestsPerConnection: http.at("maxRequestsPerConnection").uint32(),
    maxRetries: http.at("maxRetries").uint32(),
    idleTimeoutMs: durationMs(http.at("idleTimeout")),
    h2UpgradePolicy: oneOf(http.at("h2UpgradePolicy"), ["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"], "DEFAULT"),
    useClientProtocol: http.at("useClientProtocol").flag(),
    maxConcurrentStreams: http.at("maxConcurrentStreams").uint32(),
    keepalive: optional(http.at("http2KeepAlive"), (keepalive) => ({
      intervalMs: durationMs(keepalive.at("interval")) ?? 0,
      timeoutMs: durationMs(keepalive.at("timeout")) ?? 0,
    })),
  })),
});

const optionalUint = (field: Field): number | undefined => (field.isPresent ? field.uint32() : undefined);

const readOutlierDetection = (outliers: Field): OutlierDetection => ({
  splitLocalErrors: outliers.at("splitExternalLocalOriginErrors").flag(),
  consecutiveLocalFailures: optionalUint(outliers.at("consecutiveLocalOriginFailures")),
  consecutiveGatewayErrors: optionalUint(outliers.at("consecutiveGatewayErrors")),
  consecutive5xxErrors: optionalUint(outliers.at("consecutive5xxErrors")),
  intervalMs: durationMs(outliers.at("interval")),
  baseEjectionMs: durationMs(outliers.at("baseEjectionTime")),
  maxEjectionPercent: outliers.at("maxEjectionPercent").uint32(),
  minHealthPercent: outliers.at("minHealthPercent").uint32(),
  errorCodes: outliers
    .at("outlierDetectionHttpErrorCodes")
    .list()
    .map((code) => code.uint32()),
});

const readTls = (tls: Field): ClientTls => ({
  mode: oneOf(tls.at("mode"), ["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"], "DISABLE"),
  clientCertificate: tls.at("clientCertificate").text(),
  privateKey: tls.at("privateKey").text(),
  caCertificates: tls.at("caCertificates").text(),
  caCrl: tls.at("caCrl").text(),
  credentialName: tls.at("credentialName").text(),
  subjectAltNames: tls.at("subjectAltNames").texts(),
  sni: tls.at("sni").text(),
  insecureSkipVerify: tls.at("insecureSkipVerify").flag(),
});
