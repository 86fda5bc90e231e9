import { describe, expect, test } from "@jest/globals";
import { World } from "#controlplane/mesh/world.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { namespace, object } from "#controlplane/translate/small-world.ts";
import { wantedWaypoints } from "./waypoint-objects.ts";

const settings = { image: "ambit/waypoint", controlPlaneAddress: "istiod.istio-system.svc:15012" };

interface Wish {
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

type Labels = Readonly<Record<string, string>>;

function wantedOf({ spec = {}, ...meta }: Wish, systemLabels: Labels = {}, shopLabels: Labels = {}) {
  const world = new World();
  world.upsert(namespace("istio-system", { labels: systemLabels }));
  world.upsert(namespace("shop", { labels: shopLabels }));
  world.upsert(
    object(
      "gateway.networking.k8s.io/v1",
      "Gateway",
      "shop/way",
      {
        spec: {
          gatewayClassName: "istio-waypoint",
          listeners: [{ name: "mesh", port: 15_008, protocol: "HBONE" }],
          ...spec,
        },
      },
      { uid: "u1", ...meta },
    ),
  );
  return wantedWaypoints(world, defaultOptions, settings);
}

test.each([
  // labels of the Gateway, revision that its namespace names, is something run for it?
  [{}, "default", true],
  [{}, "", true],
  [{}, "canary", false],
  [{ "istio.io/rev": "default" }, "canary", true],
  [{ "istio.io/rev": "canary" }, "default", false],
] as const)("revision of the namespace: %j in %j", (labels, revision, expected) => {
  expect(wantedOf({ labels }, {}, { "istio.io/rev": revision }).length === 1).toBe(expected);
});

const deletionTimestamp = "2026-01-01T00:00:00Z";
// prettier-ignore
test.each([ // why, the Gateway, is something run for it?
  ["class istio-waypoint",       {},                                                                             true],
  ["class ambit-waypoint",       { spec: { gatewayClassName: "ambit-waypoint" } },                               true],
  ["another class",              { spec: { gatewayClassName: "istio" } },                                        false],
  ["an unknown class",           { spec: { gatewayClassName: "acme" } },                                         false],
  ["our revision",               { labels: { "istio.io/rev": "default" } },                                      true],
  ["another revision",           { labels: { "istio.io/rev": "canary" } },                                       false],
  ["one address without type",   { spec: { addresses: [{ value: "10.0.0.1" }] } },                               true],
  ["one address of type IP",     { spec: { addresses: [{ type: "IPAddress", value: "10.0.0.1" }] } },            true],
  ["a host name: run elsewhere", { spec: { addresses: [{ type: "Hostname", value: "other.shop" }] } },           false],
  ["two addresses",              { spec: { addresses: [{ value: "10.0.0.1" }, { value: "10.0.0.2" }] } },        false],
  ["a newer controller",         { annotations: { "gateway.istio.io/controller-version": "6" } },                false],
  ["an older controller",        { annotations: { "gateway.istio.io/controller-version": "4" } },                true],
  ["an unreadable version",      { annotations: { "gateway.istio.io/controller-version": "x" } },                false],
  ["being deleted",              { deletionTimestamp },                                                          false],
] as const)("%s", (_why, wish: Wish, expected) => {
  expect(wantedOf(wish).length === 1).toBe(expected);
});

describe("its Service", () => {
  const serviceOf = (wish: Wish) => wantedOf(wish)[0]?.objects.find(({ kind }) => kind === "Service")?.["spec"];

  test.each([
    [{}, { type: "ClusterIP" }, undefined],
    [{ spec: { addresses: [{ value: "192.0.2.1" }] } }, { type: "ClusterIP" }, undefined],
    [
      {
        spec: { addresses: [{ value: "192.0.2.1" }] },
        annotations: { "networking.istio.io/service-type": "LoadBalancer" },
      },
      { type: "LoadBalancer" },
      "192.0.2.1",
    ],
  ])("type and address: %j", (wish, expected, loadBalancerIP) => {
    expect(serviceOf(wish)).toMatchObject(expected);
    expect((serviceOf(wish) as { loadBalancerIP?: string }).loadBalancerIP).toBe(loadBalancerIP);
  });

  test("names of ports are such that an API server takes them", () => {
    const listeners = ["mesh.v1", "a".repeat(70), `${"a".repeat(63)}b`, "status-port"].map((name, index) => ({
      name,
      port: 15_008 + index,
      protocol: "HBONE",
    }));
    const { ports } = serviceOf({ spec: { listeners } }) as { ports: readonly { readonly name: string }[] };
    expect(ports.map(({ name }) => name)).toEqual([
      "status-port",
      "mesh-v1",
      "a".repeat(63),
      `${"a".repeat(57)}-15010`,
      "status-port-15011",
    ]);
  });
});

describe("what is made", () => {
  test("service account, deployment and service, owned by the Gateway", () => {
    const [wanted] = wantedOf({});
    expect(wanted?.objects.map(({ kind, metadata: { name, namespace } }) => `${kind} ${namespace}/${name}`)).toEqual([
      "ServiceAccount shop/way",
      "Deployment shop/way",
      "Service shop/way",
    ]);
    for (const { metadata } of wanted?.objects ?? []) {
      expect(metadata.ownerReferences).toEqual([
        { apiVersion: "gateway.networking.k8s.io/v1", kind: "Gateway", name: "way", uid: "u1" },
      ]);
      expect(metadata.labels).toMatchObject({
        "gateway.networking.k8s.io/gateway-name": "way",
        "gateway.istio.io/managed": "istio.io-mesh-controller",
      });
    }
  });

  test("users and autoscalers own the number of replicas", () => {
    const deployment = wantedOf({})[0]?.objects[1];
    expect(deployment?.["spec"]).not.toHaveProperty("replicas");
  });

  test("the pod is not captured, and runs as nobody special", () => {
    const deployment = wantedOf({})[0]?.objects[1];
    expect(deployment).toMatchObject({
      spec: {
        template: {
          metadata: { labels: { "istio.io/dataplane-mode": "none", "sidecar.istio.io/inject": "false" } },
          spec: {
            serviceAccountName: "way",
            containers: [
              {
                securityContext: { runAsNonRoot: true, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
              },
            ],
          },
        },
      },
    });
  });

  test("the service has the status port and the listener's", () => {
    expect(wantedOf({})[0]?.objects[2]?.["spec"]).toMatchObject({
      type: "ClusterIP",
      ports: [
        { name: "status-port", port: 15_021, appProtocol: "tcp" },
        { name: "mesh", port: 15_008, appProtocol: "hbone" },
      ],
    });
  });

  test('the pod fits the Pod Security Standard "restricted"', () => {
    expect(wantedOf({})[0]?.objects[1]).toMatchObject({
      spec: {
        template: {
          spec: {
            containers: [
              {
                securityContext: {
                  runAsNonRoot: true,
                  allowPrivilegeEscalation: false,
                  capabilities: { drop: ["ALL"] },
                  seccompProfile: { type: "RuntimeDefault" },
                },
              },
            ],
          },
        },
      },
    });
  });

  test("names can be overridden", () => {
    const annotations = { "gateway.istio.io/name-override": "edge", "gateway.istio.io/service-account": "keeper" };
    const [wanted] = wantedOf({ annotations });
    expect(wanted?.objects.map(({ metadata }) => metadata.name)).toEqual(["keeper", "edge", "edge"]);
    expect(wanted?.objects[1]).toMatchObject({ spec: { template: { spec: { serviceAccountName: "keeper" } } } });
    expect(wanted?.objects[1]?.metadata.annotations).toBeUndefined();
  });

  // prettier-ignore
  test.each([ // infrastructure, labels of the Gateway, what the objects have
    [undefined,                          { team: "a" }, { team: "a" }],
    [{ labels: { team: "b" } },          { team: "a" }, { team: "b" }],
    [{},                                 { team: "a" }, {}],
  ])("infrastructure %j with labels %j", (infrastructure, labels, expected) => {
    const [wanted] = wantedOf({ labels, spec: infrastructure === undefined ? {} : { infrastructure } });
    const found = wanted?.objects[0]?.metadata.labels ?? {};
    expect("team" in found ? { team: found["team"] } : {}).toEqual(expected);
  });

  test("the network of the mesh is on it", () => {
    const [wanted] = wantedOf({}, { "topology.istio.io/network": "net1" });
    expect(wanted?.objects[0]?.metadata.labels).toMatchObject({ "topology.istio.io/network": "net1" });
  });

  test("parameters are a ConfigMap's", () => {
    const spec = { infrastructure: { parametersRef: { group: "", kind: "ConfigMap", name: "opts" } } };
    expect(wantedOf({ spec })[0]?.parameters).toBe("opts");
  });
});
