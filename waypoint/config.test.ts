import { describe, expect, test } from "@jest/globals";
import { readConfig } from "./config.ts";

const pod = { POD_NAME: "waypoint-1", POD_NAMESPACE: "shop", INSTANCE_IP: "10.0.0.5" };

describe("configuration of a waypoint", () => {
  test("defaults are those of Istio's proxies", () => {
    const config = readConfig({ env: pod });
    expect(config).toMatchObject({
      instanceIps: ["10.0.0.5"],
      serviceAccount: "default",
      trustDomain: "cluster.local",
      xds: { address: "istiod.istio-system.svc:15012", roots: "/var/run/secrets/istio/root-cert.pem" },
      ca: { address: "istiod.istio-system.svc:15012" },
      drainMs: 5_000,
      ports: { hbone: 15_008, admin: 15_000, readiness: 15_021, stats: 15_020, prometheus: 15_090 },
      wildcard: "::",
    });
  });

  test("every mistake is told at once", () => {
    const env = { INSTANCE_IP: "10.0.0.5,x", XDS_ADDRESS: "", CA_ADDRESS: "", LOG_LEVEL: "loud", ADMIN_PORT: "70000" };
    const wanted = [
      "POD_NAME=",
      "POD_NAMESPACE=",
      'not "x"',
      "XDS_ADDRESS=",
      "WAYPOINT_TUNNELS=off",
      "LOG_LEVEL=",
      "ADMIN_PORT=",
    ];
    const message = (() => {
      try {
        readConfig({ env });
        return "";
      } catch (error) {
        return (error as Error).message;
      }
    })();
    expect(wanted.filter((part) => !message.includes(part))).toEqual([]);
  });

  test("goes without a CA only where that is said in so many words", () => {
    expect(readConfig({ env: { ...pod, WAYPOINT_TUNNELS: "off" } }).ca).toBeUndefined();
    expect(() => readConfig({ env: { ...pod, CA_ADDRESS: "" } })).toThrow("WAYPOINT_TUNNELS=off");
  });

  test.each<[string, Record<string, string>, string, string, number]>([
    [
      "says where the control plane is",
      {},
      "istiod-canary.istio-system.svc:15012",
      "istiod-canary.istio-system.svc:15012",
      7_500,
    ],
    [
      "leaves the CA to CA_ADDR",
      { CA_ADDR: "ca.example:443" },
      "istiod-canary.istio-system.svc:15012",
      "ca.example:443",
      7_500,
    ],
    [
      "gives way to variables of our own",
      { XDS_ADDRESS: "a:1", CA_ADDRESS: "b:2", TERMINATION_DRAIN_DURATION_SECONDS: "1" },
      "a:1",
      "b:2",
      1_000,
    ],
  ])("PROXY_CONFIG %s", (_what, env, xds, ca, drainMs) => {
    const proxy = { discoveryAddress: "istiod-canary.istio-system.svc:15012", terminationDrainDuration: "7.5s" };
    const config = readConfig({ env: { ...pod, ...env, PROXY_CONFIG: JSON.stringify(proxy) } });
    expect([config.xds.address, config.ca?.address, config.drainMs]).toEqual([xds, ca, drainMs]);
  });

  test("PROXY_CONFIG that cannot be read is told", () => {
    expect(() => readConfig({ env: { ...pod, PROXY_CONFIG: "discoveryAddress: a" } })).toThrow("PROXY_CONFIG=");
    const proxy = JSON.stringify({ terminationDrainDuration: "soon" });
    expect(() => readConfig({ env: { ...pod, PROXY_CONFIG: proxy } })).toThrow('terminationDrainDuration=""soon""');
  });

  test("labels come from the pod's file and from the environment", () => {
    const file = 'gateway.networking.k8s.io/gateway-name="waypoint"\nnote="a \\"b\\""\n\nbroken\n';
    const { labels } = readConfig({
      env: { ...pod, ISTIO_METAJSON_LABELS: '{"app":"w"}' },
      readFile: (path) => (path === "/etc/istio/pod/labels" ? file : undefined),
    });
    expect(labels).toEqual({ "gateway.networking.k8s.io/gateway-name": "waypoint", note: 'a "b"', app: "w" });
  });

  // prettier-ignore
  test.each<[string[], Record<string, string>, string, string]>([ // arguments                          environment              level    why
    [["--proxyLogLevel", "warning"],                {},                      "warn",  "Envoy's name"],
    [["--proxyLogLevel=debug"],                     {},                      "debug", "in one piece"],
    [["--domain", "x"],                             {},                      "info",  "nothing is said"],
    [["--proxyLogLevel", "debug"],                  { LOG_LEVEL: "error" },  "error", "the environment goes first"],
  ])("%j with %j logs from %s on: %s", (args, env, level) => {
    expect(readConfig({ env: { ...pod, ...env }, args }).logFilter.fallback).toBe(level);
  });
});
