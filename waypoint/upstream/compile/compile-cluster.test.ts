import { describe, expect, test } from "@jest/globals";
import { create, toBinary, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { anyPack, type Any } from "@bufbuild/protobuf/wkt";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
  ClusterSchema,
  Cluster_DiscoveryType,
  Cluster_DnsLookupFamily,
  Cluster_LbPolicy,
  Cluster_LbSubsetConfig_LbSubsetFallbackPolicy,
} from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ProxyProtocolConfig_Version } from "#shared/proto/gen/envoy/config/core/v3/proxy_protocol_pb.js";
import { RoutingPriority } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import { LeastRequestSchema } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js";
import { RoundRobinSchema } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js";
import { WrrLocalitySchema } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality_pb.js";
import { InternalUpstreamTransportSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream_pb.js";
import { ProxyProtocolUpstreamTransportSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";
import { RawBufferSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js";
import {
  CertificateValidationContext_TrustChainVerification,
  SubjectAltNameMatcher_SanType,
  TlsParameters_TlsProtocol,
} from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { UpstreamTlsContextSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { HttpProtocolOptionsSchema } from "#shared/proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { ClusterConfigSchema } from "#shared/proto/gen/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.js";
import { encodeErrorStatuses } from "#shared/xds/error-statuses.ts";
import { lbEndpoint, socketAddress } from "../testing.ts";
import { compileCluster, secretsOf } from "./compile-cluster.ts";
import { transportFor } from "./compile-transport.ts";

type Init = Extract<MessageInitShape<typeof ClusterSchema>, { readonly $typeName?: never }>;

/** One that a newer control plane may know. */
const unknownPolicy = JSON.parse("99") as Cluster_LbPolicy;

const files: Readonly<Record<string, string>> = {
  "/ca.pem": "-----BEGIN CERTIFICATE-----\nca\n-----END CERTIFICATE-----",
  "/chain.pem": "chain",
  "/key.pem": "key",
};
const readFile = (path: string): string => {
  const text = files[path];
  if (text === undefined) throw new Error("no such file");
  return text;
};

const eds: Init = {
  name: "c",
  clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.EDS },
  edsClusterConfig: { edsConfig: { configSourceSpecifier: { case: "ads", value: {} } } },
};

function compile(
  init: Init,
  unknown?: { readonly no: number; readonly wireType: WireType; readonly data: Uint8Array },
) {
  const problems: string[] = [];
  const message = create(ClusterSchema, { ...eds, ...init });
  if (unknown !== undefined) message.$unknown = [unknown];
  const config = compileCluster(message, readFile, (path, text) => problems.push(`${path}: ${text}`));
  return { config, problems };
}

function compiled(init: Init) {
  const { config, problems } = compile(init);
  expect(problems).toEqual([]);
  return config;
}

const any = <Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>): Any =>
  anyPack(schema, create(schema, init));
const socket = <Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>) => ({
  name: "s",
  configType: { case: "typedConfig", value: any(schema, init) } as const,
});
const http = (init: MessageInitShape<typeof HttpProtocolOptionsSchema>): Init => ({
  typedExtensionProtocolOptions: {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any(HttpProtocolOptionsSchema, init),
  },
});
const http1 = {
  upstreamProtocolOptions: {
    case: "explicitHttpConfig",
    value: { protocolConfig: { case: "httpProtocolOptions", value: {} } },
  },
} as const;
const tls = (init: MessageInitShape<typeof UpstreamTlsContextSchema>): Init => ({
  transportSocket: socket(UpstreamTlsContextSchema, init),
});
const policy = <Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>): Init => ({
  lbPolicy: Cluster_LbPolicy.LOAD_BALANCING_POLICY_CONFIG,
  loadBalancingPolicy: {
    policies: [
      { typedExtensionConfig: { name: "new", typedConfig: { typeUrl: "x/some.Newer", value: new Uint8Array() } } },
      { typedExtensionConfig: { name: "p", typedConfig: any(schema, init) } },
    ],
  },
});
const seconds = (value: number) => ({ seconds: BigInt(value) });

describe("what Istio's control plane sends", () => {
  test("an empty cluster has Envoy's defaults", () => {
    expect(compiled({})).toMatchObject({
      name: "c",
      statName: "c",
      discovery: { kind: "eds", assignmentName: "c", warmTimeoutMs: 15_000 },
      balancing: {
        balancer: { kind: "round-robin", slowStart: undefined },
        panicThreshold: 50,
        failsTrafficOnPanic: false,
        weighsLocalities: false,
      },
      transports: { byDefault: { connectTimeoutMs: 5_000 }, matches: [] },
      http: {
        protocol: "HTTP/1.1",
        autoSni: undefined,
        limits: { idleTimeoutMs: 3_600_000, maxRequestsPerConnection: 0 },
      },
      breakers: { default: { maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024, maxRetries: 3 } },
      outlier: undefined,
    });
  });

  test("connection pool, circuit breakers and retry budget", () => {
    const config = compiled({
      connectTimeout: { seconds: 1n, nanos: 500_000_000 },
      altStatName: "stat",
      circuitBreakers: {
        thresholds: [
          { maxConnections: 1, maxPendingRequests: 2, maxRequests: 3, maxRetries: 4, trackRemaining: true },
          { priority: RoutingPriority.HIGH, retryBudget: { budgetPercent: { value: 25 }, minRetryConcurrency: 7 } },
        ],
      },
      upstreamConnectionOptions: { tcpKeepalive: { keepaliveProbes: 3, keepaliveTime: 60, keepaliveInterval: 5 } },
      ...http({
        ...http1,
        commonHttpProtocolOptions: {
          idleTimeout: seconds(5),
          maxRequestsPerConnection: 1,
          maxConnectionDuration: seconds(60),
        },
      }),
    });
    expect(config).toMatchObject({
      statName: "stat",
      transports: {
        byDefault: { connectTimeoutMs: 1_500, keepAlive: { probes: 3, timeSeconds: 60, intervalSeconds: 5 } },
      },
      breakers: {
        default: { maxConnections: 1, maxPendingRequests: 2, maxRequests: 3, maxRetries: 4, retryBudget: undefined },
        high: { retryBudget: { percent: 25, minConcurrency: 7, intervalMs: 0 } },
      },
      http: { limits: { idleTimeoutMs: 5_000, maxRequestsPerConnection: 1, maxConnectionDurationMs: 60_000 } },
    });
  });

  test("outlier detection, with panic off", () => {
    const { outlier, balancing } = compiled({
      outlierDetection: {
        consecutive5xx: 7,
        enforcingSuccessRate: 0,
        consecutiveGatewayFailure: 3,
        enforcingConsecutiveGatewayFailure: 100,
        interval: seconds(1),
        baseEjectionTime: seconds(2),
        maxEjectionPercent: 50,
        splitExternalLocalOriginErrors: true,
        alwaysEjectOneHost: true,
      },
      commonLbConfig: { healthyPanicThreshold: { value: 0 } },
    });
    expect(outlier).toMatchObject({
      intervalMs: 1_000,
      baseEjectionMs: 2_000,
      maxEjectionMs: 300_000,
      maxEjectionPercent: 50,
      alwaysEjectsOne: true,
      consecutive5xx: { threshold: 7, enforcing: 100 },
      consecutiveGatewayFailures: { threshold: 3, enforcing: 100 },
      splitsLocalOrigin: true,
      successRate: { enforcing: 0 },
    });
    expect(balancing).toMatchObject({ panicThreshold: 0 });
  });

  // prettier-ignore
  test.each<[string, Init, object]>([
    ["least request", { lbPolicy: Cluster_LbPolicy.LEAST_REQUEST }, { kind: "least-request", choices: 2, activeRequestBias: 1, scansAll: false }],
    ["warm-up", { lbPolicy: Cluster_LbPolicy.LEAST_REQUEST, lbConfig: { case: "leastRequestLbConfig", value: { choiceCount: 5, activeRequestBias: { defaultValue: 2 }, slowStartConfig: { slowStartWindow: seconds(60), aggression: { defaultValue: 2 }, minWeightPercent: { value: 20 } } } } },
      { kind: "least-request", choices: 5, activeRequestBias: 2, slowStart: { windowMs: 60_000, aggression: 2, minWeight: 0.2 } }],
    ["random", { lbPolicy: Cluster_LbPolicy.RANDOM }, { kind: "random" }],
    ["ring hash", { lbPolicy: Cluster_LbPolicy.RING_HASH, lbConfig: { case: "ringHashLbConfig", value: { minimumRingSize: 64n } } }, { kind: "ring-hash", minRing: 64, maxRing: 8_388_608, hashFunction: "xxhash" }],
    ["Maglev", { lbPolicy: Cluster_LbPolicy.MAGLEV, commonLbConfig: { consistentHashingLbConfig: { useHostnameForHashing: true, hashBalanceFactor: 150 } } },
      { kind: "maglev", tableSize: 65_537, hashing: { usesHostname: true, balanceFactor: 150 } }],
    ["an extension after one that is unknown", policy(LeastRequestSchema, { choiceCount: 3 }), { kind: "least-request", choices: 3 }],
  ])("balancing: %s", (_, init, balancer) => {
    expect(compiled(init).balancing).toMatchObject({ balancer });
  });

  test("a policy in a policy weighs localities", () => {
    const inner = { policies: [{ typedExtensionConfig: { name: "rr", typedConfig: any(RoundRobinSchema, {}) } }] };
    const { balancing } = compiled(policy(WrrLocalitySchema, { endpointPickingPolicy: inner }));
    expect(balancing).toMatchObject({ balancer: { kind: "round-robin" }, weighsLocalities: true, panicThreshold: 50 });
  });

  // prettier-ignore
  test.each<[string, MessageInitShape<typeof HttpProtocolOptionsSchema>, string]>([
    ["explicit HTTP/1", http1, "HTTP/1.1"],
    ["explicit HTTP/2", { upstreamProtocolOptions: { case: "explicitHttpConfig", value: { protocolConfig: { case: "http2ProtocolOptions", value: { maxConcurrentStreams: 7 } } } } }, "HTTP/2"],
    ["as the client", { upstreamProtocolOptions: { case: "useDownstreamProtocolConfig", value: { http2ProtocolOptions: {} } } }, "downstream"],
  ])("HTTP: %s", (_, options, protocol) => {
    expect(compiled(http(options)).http.protocol).toBe(protocol);
  });

  test("the older HTTP options", () => {
    expect(
      compiled({ http2ProtocolOptions: { maxConcurrentStreams: 9 }, maxRequestsPerConnection: 4 }).http,
    ).toMatchObject({
      protocol: "HTTP/2",
      limits: { maxConcurrentStreams: 9, maxRequestsPerConnection: 4 },
    });
  });

  test("tunnel, then PROXY protocol, then TLS", () => {
    const inside = socket(UpstreamTlsContextSchema, { sni: "db.example.com" });
    const proxy = socket(ProxyProtocolUpstreamTransportSchema, {
      config: { version: ProxyProtocolConfig_Version.V2 },
      transportSocket: inside,
    });
    const { transports } = compiled({
      transportSocket: socket(InternalUpstreamTransportSchema, {
        passthroughMetadata: [{ name: "istio", kind: { kind: { case: "host", value: {} } } }],
        transportSocket: proxy,
      }),
    });
    expect(transports.byDefault).toMatchObject({ proxyProtocol: "v2", tls: { serverName: "db.example.com" } });
  });

  test("TLS by files, with names and system roots", () => {
    const san = {
      sanType: SubjectAltNameMatcher_SanType.DNS,
      matcher: { matchPattern: { case: "exact", value: "a.example.com" } },
    } as const;
    const config = compiled(
      tls({
        sni: "a.example.com",
        commonTlsContext: {
          tlsCertificates: [
            {
              certificateChain: { specifier: { case: "filename", value: "/chain.pem" } },
              privateKey: { specifier: { case: "filename", value: "/key.pem" } },
            },
          ],
          alpnProtocols: ["h2"],
          tlsParams: { tlsMinimumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_2, cipherSuites: ["[A|B]", "C"] },
          validationContextType: {
            case: "validationContext",
            value: { systemRootCerts: {}, matchTypedSubjectAltNames: [san] },
          },
        },
      }),
    );
    const tlsOf = config.transports.byDefault.tls;
    expect(tlsOf).toMatchObject({
      serverName: "a.example.com",
      alpn: ["h2"],
      trust: { kind: "system" },
      certificate: { chainPem: "chain", keyPem: "key" },
      minVersion: "TLSv1.2",
      ciphers: ["A", "B", "C"],
      subjectAltNames: [{ type: "dns" }],
    });
    const [matcher] = tlsOf?.subjectAltNames ?? [];
    // prettier-ignore
    expect(["a.example.com", "*.example.com", "A.EXAMPLE.COM", "b.example.com", "*.com", "*"].map((name) => matcher?.matches(name)))
      .toEqual([true, true, true, false, false, false]);
  });

  test("secrets that Istio's agent would read from files", () => {
    const config = compiled(
      tls({
        commonTlsContext: {
          tlsCertificateSdsSecretConfigs: [{ name: "file-cert:/chain.pem~/key.pem" }],
          validationContextType: {
            case: "combinedValidationContext",
            value: { defaultValidationContext: {}, validationContextSdsSecretConfig: { name: "file-root:/ca.pem" } },
          },
        },
      }),
    );
    expect(config.transports.byDefault.tls).toMatchObject({ trust: { kind: "pem" }, certificate: { keyPem: "key" } });
  });

  test("names of the server, with the machine's roots or those of a secret", () => {
    const san = { matchPattern: { case: "exact", value: "api.example" } } as const;
    const validated = (name: string) =>
      compiled(
        tls({
          commonTlsContext: {
            validationContextType: {
              case: "combinedValidationContext",
              value: {
                defaultValidationContext: { matchSubjectAltNames: [san] },
                validationContextSdsSecretConfig: {
                  name,
                  sdsConfig: { configSourceSpecifier: { case: "ads", value: {} } },
                },
              },
            },
          },
        }),
      );
    expect(validated("file-root:system").transports.byDefault.tls?.trust).toEqual({ kind: "system" });
    const fromSecret = validated("kubernetes://api-cacert");
    expect(fromSecret.transports.byDefault.tls).toMatchObject({
      trust: { kind: "secret", secret: "kubernetes://api-cacert" },
      subjectAltNames: [{ type: "any" }],
    });
    expect(secretsOf(fromSecret)).toEqual(["kubernetes://api-cacert"]);
    expect(secretsOf(validated("ROOTCA"))).toEqual([]);
  });

  test("skipping verification has to be said", () => {
    const { ACCEPT_UNTRUSTED } = CertificateValidationContext_TrustChainVerification;
    const context = { case: "validationContext", value: { trustChainVerification: ACCEPT_UNTRUSTED } } as const;
    const config = compiled(tls({ commonTlsContext: { validationContextType: context } }));
    expect(config.transports.byDefault.tls?.trust).toEqual({ kind: "none" });
  });

  test("a transport by the host's metadata", () => {
    const { transports } = compiled({
      transportSocketMatches: [
        { name: "tls", match: { tlsMode: "istio" }, transportSocket: socket(UpstreamTlsContextSchema, {}) },
        { name: "raw", match: {}, transportSocket: socket(RawBufferSchema, {}) },
      ],
    });
    const labelled = new Map([["envoy.transport_socket_match", { tlsMode: "istio", other: 1 }]]);
    expect(transportFor(transports, labelled).tls).toBeDefined();
    expect(transportFor(transports, new Map()).tls).toBeUndefined();
    expect(transportFor(transports, new Map())).toBe(transports.matches[1]?.transport);
  });

  test("DNS", () => {
    const config = compiled({
      clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STRICT_DNS },
      dnsLookupFamily: Cluster_DnsLookupFamily.V4_ONLY,
      dnsRefreshRate: seconds(60),
      respectDnsTtl: true,
      dnsFailureRefreshRate: { baseInterval: seconds(1), maxInterval: seconds(8) },
      dnsResolvers: [socketAddress("10.0.0.53:53")],
      loadAssignment: { clusterName: "c", endpoints: [{ lbEndpoints: [lbEndpoint("db.example.com:5432")] }] },
    });
    expect(config.discovery).toMatchObject({
      kind: "strict-dns",
      dns: {
        family: "v4",
        refreshMs: 60_000,
        respectsTtl: true,
        failure: { baseMs: 1_000, maxMs: 8_000 },
        servers: ["10.0.0.53:53"],
      },
      assignment: { groups: [{ endpoints: [{ name: "db.example.com", port: 5432 }] }] },
    });
  });

  test("original destination with another port", () => {
    const config = compiled({
      clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.ORIGINAL_DST },
      lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED,
      lbConfig: { case: "originalDstLbConfig", value: { upstreamPortOverride: 8080, useHttpHeader: true } },
      cleanupInterval: seconds(60),
    });
    expect(config).toMatchObject({
      balancing: "cluster-provided",
      discovery: { kind: "original-dst", portOverride: 8080, header: "x-envoy-original-dst-host", cleanupMs: 60_000 },
    });
  });

  test("dynamic forward proxy", () => {
    const dynamic = any(ClusterConfigSchema, {
      clusterImplementationSpecifier: { case: "dnsCacheConfig", value: { name: "cache", maxHosts: 10 } },
    });
    const config = compiled({
      clusterDiscoveryType: {
        case: "clusterType",
        value: { name: "envoy.clusters.dynamic_forward_proxy", typedConfig: dynamic },
      },
      lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED,
    });
    expect(config.discovery).toMatchObject({
      kind: "dynamic",
      cache: { maxHosts: 10, hostTtlMs: 300_000, refreshMs: 60_000 },
    });
  });
});

const inline = (addresses: readonly string[], more: Init = {}): Init => ({
  clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STATIC },
  loadAssignment: { clusterName: "c", endpoints: [{ lbEndpoints: addresses.map((address) => lbEndpoint(address)) }] },
  ...more,
});

describe("mistakes are told, with their field", () => {
  // prettier-ignore
  test.each<[Init, string]>([
    [{ name: "" }, "name: is missing"],
    [{ connectTimeout: seconds(0) }, "connect_timeout: is not above 0"],
    [{ connectTimeout: seconds(-1) }, "connect_timeout: -1000 ms is negative"],
    [{ lbSubsetConfig: { listAsAny: true, fallbackPolicy: Cluster_LbSubsetConfig_LbSubsetFallbackPolicy.ANY_ENDPOINT } }, "lb_subset_config: is not supported"],
    [{ connectionPoolPerDownstreamConnection: true }, "connection_pool_per_downstream_connection: is not supported"],
    [{ preconnectPolicy: {} }, "preconnect_policy: is not supported"],
    [{ filters: [{ name: "f" }] }, "filters[0]: \"\" is no filter that this proxy knows"],
    [{ lrsServer: {} }, "lrs_server: is not supported"],
    [{ upstreamBindConfig: { freebind: true } }, "upstream_bind_config.freebind: is not supported"],
    [{ trackClusterStats: { timeoutBudgets: true } }, "track_cluster_stats.timeout_budgets: is not supported"],
    [{ lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED }, "lb_policy: CLUSTER_PROVIDED does not go with a eds cluster"],
    [{ lbPolicy: unknownPolicy }, "lb_policy: 99 is not a policy that this proxy knows"],
    [{ edsClusterConfig: { edsConfig: { configSourceSpecifier: { case: "path", value: "/x" } } } }, "eds_cluster_config.eds_config: endpoints come with the stream that brings clusters (ads), from nowhere else"],
    [{ edsClusterConfig: undefined }, "eds_cluster_config: is missing"],
    [{ lbPolicy: Cluster_LbPolicy.MAGLEV, lbConfig: { case: "maglevLbConfig", value: { tableSize: 8n } } }, "maglev_lb_config.table_size: 8 is not a prime number"],
    [{ lbPolicy: Cluster_LbPolicy.RING_HASH, lbConfig: { case: "ringHashLbConfig", value: { minimumRingSize: 9n, maximumRingSize: 8n } } }, "ring_hash_lb_config.minimum_ring_size: 9 is above maximum_ring_size 8"],
    [{ lbPolicy: Cluster_LbPolicy.LEAST_REQUEST, lbConfig: { case: "leastRequestLbConfig", value: { choiceCount: 1 } } }, "least_request_lb_config.choice_count: 1 is less than 2"],
    [{ commonLbConfig: { healthyPanicThreshold: { value: 101 } } }, "common_lb_config.healthy_panic_threshold: 101 is not 0 to 100"],
    [{ commonLbConfig: { consistentHashingLbConfig: { hashBalanceFactor: 50 } }, lbPolicy: Cluster_LbPolicy.MAGLEV }, "common_lb_config.consistent_hashing_lb_config.hash_balance_factor: 50 is less than 100"],
    [{ loadBalancingPolicy: { policies: [] } }, "load_balancing_policy: has no policy that this proxy knows: it is empty"],
    [{ circuitBreakers: { thresholds: [{ maxConnectionPools: 1 }] } }, "circuit_breakers.thresholds[0].max_connection_pools: is not supported"],
    [{ circuitBreakers: { perHostThresholds: [{}] } }, "circuit_breakers.per_host_thresholds: is not supported"],
    [{ outlierDetection: { maxEjectionPercent: 101 } }, "outlier_detection.max_ejection_percent: 101 is above 100"],
    [{ outlierDetection: { interval: seconds(0) } }, "outlier_detection.interval: is not above 0"],
    [{ outlierDetection: { monitors: [{ name: "m" }] } }, "outlier_detection.monitors: is not supported"],
    [{ typedExtensionProtocolOptions: { x: { typeUrl: "x/y.Z", value: new Uint8Array() } } }, 'typed_extension_protocol_options["x"]: y.Z is not supported'],
    [http({}), 'typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]: chooses no protocol'],
    [http({ upstreamProtocolOptions: { case: "explicitHttpConfig", value: { protocolConfig: { case: "http3ProtocolOptions", value: {} } } } }),
      'typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].explicit_http_config.http3_protocol_options: is not supported'],
    [http({ upstreamProtocolOptions: { case: "autoConfig", value: {} } }), "transport_socket: auto_config needs TLS, in which the server chooses the protocol"],
    [{ transportSocket: { name: "tap", configType: { case: "typedConfig", value: { typeUrl: "x/y.Tap", value: new Uint8Array() } } } }, "transport_socket.typed_config: y.Tap is not a transport that this proxy knows"],
    [{ transportSocket: { name: "tls" } }, 'transport_socket: "tls" has no configuration'],
    [tls({ allowRenegotiation: true }), "transport_socket.typed_config.allow_renegotiation: is not supported"],
    [tls({ commonTlsContext: { keyLog: {} } }), "transport_socket.typed_config.common_tls_context.key_log: is not supported"],
    [tls({ commonTlsContext: { tlsCertificateSdsSecretConfigs: [{ name: "kubernetes://x" }] } }), 'transport_socket.typed_config.common_tls_context.tls_certificate_sds_secret_configs[0]: asks for the secret "kubernetes://x" elsewhere than at the control plane (ads); only default, ROOTCA, file-cert: and file-root: names are known here'],
    [tls({ commonTlsContext: { validationContextType: { case: "validationContext", value: { matchTypedSubjectAltNames: [{ sanType: SubjectAltNameMatcher_SanType.DNS, matcher: { matchPattern: { case: "exact", value: "a" } } }] } } } }), "transport_socket.typed_config.common_tls_context.validation_context.trusted_ca: is missing: names prove nothing in a certificate that nobody vouches for"],
    [tls({ commonTlsContext: { validationContextType: { case: "validationContext", value: { trustedCa: { specifier: { case: "filename", value: "/none.pem" } } } } } }), 'transport_socket.typed_config.common_tls_context.validation_context.trusted_ca: cannot read "/none.pem": no such file'],
    [inline(["db.example.com:80"]), 'load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: "db.example.com" is not an IP address'],
    [inline([], { loadAssignment: undefined }), "load_assignment: is missing"],
    [{ clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.LOGICAL_DNS }, loadAssignment: { clusterName: "c", endpoints: [{ lbEndpoints: [lbEndpoint("a:1"), lbEndpoint("b:1")] }] } }, "load_assignment: a LOGICAL_DNS cluster has exactly one endpoint"],
    [{ clusterDiscoveryType: { case: "clusterType", value: { name: "redis" } } }, 'cluster_type: "redis" () is not a kind of cluster that this proxy knows'],
    [{ clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.ORIGINAL_DST } }, "lb_policy: a original-dst cluster needs CLUSTER_PROVIDED"],
  ])("%#", (init, problem) => {
    expect(compile(init).problems).toContain(problem);
  });

  test("each of several", () => {
    expect(
      compile({ connectTimeout: seconds(0), filters: [{ name: "f" }], lbPolicy: unknownPolicy }).problems,
    ).toHaveLength(3);
  });

  test("a field that the schema does not know", () => {
    const { problems } = compile({}, { no: 999, wireType: WireType.Varint, data: Uint8Array.of(1) });
    expect(problems).toEqual([": has field 999 of envoy.config.cluster.v3.Cluster, which this proxy does not know"]);
  });
});

test("fields of newer schemas that are known", () => {
  const context = create(UpstreamTlsContextSchema, { sni: "x" });
  context.$unknown = [
    { no: 6, wireType: WireType.Varint, data: Uint8Array.of(1) },
    { no: 7, wireType: WireType.Varint, data: Uint8Array.of(1) },
  ];
  const value = {
    typeUrl: `type.googleapis.com/${UpstreamTlsContextSchema.typeName}`,
    value: toBinary(UpstreamTlsContextSchema, context),
  };
  const transportSocket = { name: "tls", configType: { case: "typedConfig", value } } as const;
  expect(compiled({ transportSocket }).transports.byDefault.tls).toMatchObject({
    usesHostName: true,
    verifiesServerName: true,
  });

  const http = create(HttpProtocolOptionsSchema, {
    upstreamProtocolOptions: {
      case: "explicitHttpConfig",
      value: { protocolConfig: { case: "httpProtocolOptions", value: {} } },
    },
  });
  const withErrors = (bytes: Uint8Array) => {
    http.$unknown = [{ no: 8, wireType: WireType.LengthDelimited, data: new BinaryWriter().bytes(bytes).finish() }];
    const typedExtensionProtocolOptions = {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": anyPack(HttpProtocolOptionsSchema, http),
    };
    return compile({ outlierDetection: {}, typedExtensionProtocolOptions });
  };
  expect(withErrors(encodeErrorStatuses([429, 503])).config.outlier?.errorStatuses).toEqual(new Set([429, 503]));
  expect(withErrors(Uint8Array.of(10, 2, 32, 1)).problems).toEqual([
    expect.stringContaining("outlier_detection.error_matcher: is supported for single values of :status only"),
  ]);
  expect(withErrors(Uint8Array.of(10, 20)).problems).toEqual([
    expect.stringContaining("outlier_detection.error_matcher: cannot be read"),
  ]);

  const init = create(ClusterSchema, { ...eds, circuitBreakers: { thresholds: [{ retryBudget: {} }] } });
  const budget = init.circuitBreakers?.thresholds[0]?.retryBudget;
  // A Duration of 10 s: its length, then field 1.
  if (budget !== undefined)
    budget.$unknown = [{ no: 3, wireType: WireType.LengthDelimited, data: Uint8Array.of(2, 8, 10) }];
  const problems: string[] = [];
  const config = compileCluster(init, readFile, (path, text) => problems.push(`${path}: ${text}`));
  expect([problems, config.breakers.default.retryBudget]).toEqual([
    [],
    { percent: 20, minConcurrency: 3, intervalMs: 10_000 },
  ]);
});
