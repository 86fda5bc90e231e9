import { describe, expect, test } from "@jest/globals";
import { readConfig, type ConfigSources } from "./config.ts";

const read = (env: Record<string, string> = {}, wish: Partial<ConfigSources> = {}) =>
  readConfig({ env, cpuCount: 8, readFile: () => undefined, ...wish });

const meshFile = (text: string): Partial<ConfigSources> => ({ readFile: () => text });

describe("sources", () => {
  test("C1 nothing at all gives Istio's defaults", async () => {
    expect(await read()).toMatchObject({
      mode: { kind: "shared" },
      clusterId: "Kubernetes",
      xdsAddress: "https://localhost:15012",
      caAddress: "https://localhost:15012",
      xdsRootCa: "/var/run/secrets/istio/root-cert.pem",
      packetMark: 1_337,
      adminPort: 15_000,
      statsPort: 15_020,
      drainDeadlineMs: 5_000,
      pool: { maxStreamsPerConnection: 100, idleMs: 300_000 },
      http2: { streamWindowBytes: 4_194_304, connectionWindowBytes: 16_777_216, maxFrameBytes: 1_048_576 },
      keepalive: { enabled: true, idleMs: 180_000, intervalMs: 180_000, probes: 9, userTimeout: false },
      dns: { enabled: true, host: "localhost", port: 15_053 },
      istioVersion: "unknown",
      logFormat: "plain",
    });
  });

  test("C2 the mesh config file", async () => {
    const text = `
defaultConfig:
  proxyAdminPort: 15099
  statsPort: 15888
  tracing: {}
  proxyMetadata:
    ISTIO_META_ENABLE_HBONE: "true"
    PLAIN: value
`;
    expect(await read({}, meshFile(text))).toMatchObject({
      adminPort: 15_099,
      statsPort: 15_888,
      metadata: { ENABLE_HBONE: "true", PLAIN: "value" },
      clusterId: "Kubernetes",
    });
  });

  test("C3 PROXY_CONFIG: a scheme is added, metadata is as written, variables add to it by prefix", async () => {
    const config = await read({
      PROXY_CONFIG: "{discoveryAddress: istiod-rev0.istio-system-2.svc:15012, proxyMetadata: {FOO: bar}}",
      ISTIO_META_X: "y",
      PLAIN: "not",
      ISTIO_META_CLUSTER_ID: "test-cluster",
    });
    expect(config).toMatchObject({
      xdsAddress: "https://istiod-rev0.istio-system-2.svc:15012",
      caAddress: "https://istiod-rev0.istio-system-2.svc:15012",
      metadata: { FOO: "bar", X: "y", CLUSTER_ID: "test-cluster" },
      clusterId: "test-cluster",
    });
    expect(config.metadata).not.toHaveProperty("PLAIN");
  });

  test("C4 PROXY_CONFIG beats the file field by field, and variables beat both", async () => {
    const text = "defaultConfig: {discoveryAddress: file:1, statsPort: 1, proxyMetadata: {A: file, B: file, C: file}}";
    const env = {
      PROXY_CONFIG: "{discoveryAddress: env:2, proxyMetadata: {B: env, C: env}}",
      ISTIO_META_C: "variable",
      CA_ADDRESS: "ca:3",
    };
    expect(await read(env, meshFile(text))).toMatchObject({
      xdsAddress: "https://env:2",
      caAddress: "https://ca:3",
      statsPort: 1,
      metadata: { A: "file", B: "env", C: "variable" },
    });
  });

  test("C5 headers go where their prefix says", async () => {
    const config = await read({ XDS_HEADER_FOO: "x", CA_HEADER_BAR: "y" });
    expect(config).toMatchObject({ xdsHeaders: { FOO: "x" }, caHeaders: { BAR: "y" } });
  });

  test("in a cluster istiod is found by its service; an empty address turns it off", async () => {
    const config = await read({ KUBERNETES_SERVICE_HOST: "10.0.0.1", CA_ADDRESS: "" });
    expect(config.xdsAddress).toBe("https://istiod.istio-system.svc:15012");
    expect(config).not.toHaveProperty("caAddress");
  });

  test("a dedicated proxy is told its pod, and marks nothing", async () => {
    const config = await read({ PROXY_MODE: "dedicated", PROXY_WORKLOAD_INFO: "ns/name/sa" });
    expect(config.mode).toEqual({ kind: "dedicated", pod: { namespace: "ns", name: "name", serviceAccount: "sa" } });
    expect(config).not.toHaveProperty("packetMark");
  });
});

// prettier-ignore
test.each([
  [{ ZTUNNEL_WORKER_THREADS: "4" },                                                       8,  4,  "C6 fixed"],
  [{ ZTUNNEL_WORKER_THREADS: "50%" },                                                     8,  4,  "C6 a share"],
  [{ ZTUNNEL_WORKER_THREADS: "30%" },                                                     16, 5,  "C6 rounded up"],
  [{ ZTUNNEL_WORKER_THREADS: "10%" },                                                     4,  1,  "C6 one at least"],
  [{ ZTUNNEL_WORKER_THREADS: "0" },                                                       8,  8,  "C6 all"],
  [{},                                                                                    4,  2,  "C6 two at least"],
  [{ PROXY_CONFIG: "concurrency: 0" },                                                    8,  8,  "C6 concurrency 0"],
  [{ PROXY_CONFIG: "concurrency: 3" },                                                    8,  3,  "concurrency"],
  [{ PROXY_CONFIG: "concurrency: 3", ZTUNNEL_WORKER_THREADS: "5" },                       8,  5,  "the variable wins"],
  [{ ZTUNNEL_WORKER_THREADS: "0", ZTUNNEL_RESOURCE_CPU_LIMIT: "3", ZTUNNEL_CPU_LIMIT: "5" }, 8, 3, "C7 resource limit first"],
  [{ ZTUNNEL_WORKER_THREADS: "0", ZTUNNEL_CPU_LIMIT: "5" },                               8,  5,  "C7 then the other"],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "16" },                                                  32, 16, "C8"],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "1" },                                                   32, 1,  "C8"],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "500m" },                                                32, 1,  "C8"],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "2500m" },                                               32, 3,  "C8"],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "1.5" },                                                 32, 2,  "C8"],
  [{},                                                                                    32, 8,  "C8 a quarter"],
  [{ ZTUNNEL_RESOURCE_CPU_REQUEST: "8" },                                                 8,  8,  "C8 the request is a floor"],
  [{ ZTUNNEL_RESOURCE_CPU_REQUEST: "1" },                                                 8,  2,  "C8 not a ceiling"],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "16", ZTUNNEL_RESOURCE_CPU_REQUEST: "4" },               32, 16, "C8"],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "4", ZTUNNEL_RESOURCE_CPU_REQUEST: "8" },                32, 8,  "C8"],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "0", ZTUNNEL_RESOURCE_CPU_REQUEST: "0" },                32, 8,  "none made, as the downward API says"],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "4e0" },                                                 32, 4,  "an exponent"],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "2500000u" },                                            32, 3,  "a smaller unit"],
] as [Record<string, string>, number, number, string][])("threads: %j on %d processors is %d (%s)", async (env, cpuCount, threads) => {
  expect((await read(env, { cpuCount })).workerThreads).toBe(threads);
});

// prettier-ignore
test.each([
  [{},                                                                                5_000,  "neither"],
  [{ TERMINATION_GRACE_PERIOD_SECONDS: "30" },                                        25_000, "five seconds earlier"],
  [{ TERMINATION_GRACE_PERIOD_SECONDS: "10" },                                        9_000,  "one second, where there are few"],
  [{ TERMINATION_GRACE_PERIOD_SECONDS: "1" },                                         1_000,  "one at least"],
  [{ TERMINATION_GRACE_PERIOD_SECONDS: "0" },                                         1_000,  "never below"],
  [{ TERMINATION_GRACE_PERIOD_SECONDS: "30", CONNECTION_TERMINATION_DEADLINE: "1m" }, 60_000, "told"],
] as [Record<string, string>, number, string][])("drain: %j is %d ms: %s", async (env, deadlineMs) => {
  expect((await read(env)).drainDeadlineMs).toBe(deadlineMs);
});

// prettier-ignore
test.each([ // environment                                         DNS
  [{},                                                             { enabled: true, host: "localhost", port: 15_053 }],
  [{ ISTIO_META_DNS_CAPTURE: "TRUE" },                             { enabled: true, host: "localhost", port: 15_053 }],
  [{ ISTIO_META_DNS_CAPTURE: "false" },                            { enabled: false, host: "localhost", port: 15_053 }],
  [{ ISTIO_META_DNS_CAPTURE: "" },                                 { enabled: false, host: "localhost", port: 15_053 }],
  [{ ISTIO_META_DNS_PROXY_ADDR: "127.0.0.9:5353" },                { enabled: true, host: "127.0.0.9", port: 5_353 }],
  [{ ISTIO_META_DNS_PROXY_ADDR: "[::1]:5353" },                    { enabled: true, host: "::1", port: 5_353 }],
])("%j: %j", async (env, dns) => {
  expect(await read(env)).toMatchObject({ dns });
});

test("whose services are preferred is spelled as Istio spells it", async () => {
  expect((await read({})).preferredServiceNamespace).toBeUndefined();
  expect((await read({ PREFERED_SERVICE_NAMESPACE: "global" })).preferredServiceNamespace).toBe("global");
});

// prettier-ignore
test.each([
  [{ ISTIO_META_DNS_PROXY_ADDR: "nonsense" },              "DNS_PROXY_ADDR=\"nonsense\"", "C9"],
  [{ PROXY_MODE: "dedicated" },                            "PROXY_WORKLOAD_INFO",         "who is it for"],
  [{ PROXY_MODE: "dedicated", PROXY_WORKLOAD_INFO: "a/b" },  "PROXY_WORKLOAD_INFO=\"a/b\"", "three parts"],
  [{ PROXY_MODE: "both" },                                 "PROXY_MODE=\"both\"",         "one of"],
  [{ ENABLE_ORIG_SRC: "yes" },                             "ENABLE_ORIG_SRC=\"yes\"",     "booleans are true and false"],
  [{ LOCAL_XDS: "{}", LOCAL_XDS_PATH: "/x" },              "LOCAL_XDS",                   "not both"],
  [{ ENABLE_PROXY: "false" },                              "ENABLE_PROXY",                "nothing to run"],
  [{ CRL_PATH: "/etc/crl.pem" },                           "CRL_PATH",                    "never ignored"],
  [{ COMPLIANCE_POLICY: "pqc" },                           "COMPLIANCE_POLICY",           "never ignored"],
  [{ ZTUNNEL_WORKER_THREADS: "0%" },                       "ZTUNNEL_WORKER_THREADS",      "no share"],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: "two" },                  "ZTUNNEL_RESOURCE_CPU_LIMIT",  "no quantity"],
  [{ RUST_LOG: "loud" },                                   "RUST_LOG=\"loud\"",           "no level"],
  [{ PROXY_CONFIG: "{: :" },                               "PROXY_CONFIG",                "no YAML"],
  [{ PROXY_CONFIG: "[]" },                                 "PROXY_CONFIG",                "no object"],
  [{ PROXY_CONFIG: "statsPort: 99999" },                   "statsPort",                   "no port"],
] as [Record<string, string>, string, string][])("%j stops the start, naming %s: %s", async (env, mistake) => {
  await expect(read(env)).rejects.toMatchObject({ code: "CONFIG_INVALID", message: expect.stringContaining(mistake) as unknown });
});

test("all mistakes are told at once", async () => {
  await expect(read({ PROXY_MODE: "both", RUST_LOG: "loud" })).rejects.toThrow(/PROXY_MODE.*RUST_LOG/);
});
