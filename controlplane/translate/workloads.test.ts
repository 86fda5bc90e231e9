import { describe, expect, test } from "@jest/globals";
import {
  meshConfig,
  namespace,
  object,
  pod,
  serve,
  service,
  serviceEntry,
  slice,
  workloadEntry,
} from "./small-world.ts";

const svc = (name: string) => `shop/${name}.shop.svc.cluster.local`;
const entry = "Kubernetes/networking.istio.io/WorkloadEntry/shop/vm";
const endpoint = "Kubernetes/networking.istio.io/ServiceEntry/shop/ext";
const owner = (kind: string, name: string) => ({
  ownerReferences: [{ kind, name, controller: true }],
  generateName: "x-",
});

describe("workload name of a pod", () => {
  test.each([
    [owner("ReplicaSet", "web-abc"), { "pod-template-hash": "abc" }, "web"],
    [owner("ReplicaSet", "web-abc"), {}, "web-abc"],
    [owner("ReplicaSet", "webabc"), { "pod-template-hash": "abc" }, "webabc"],
    [owner("ReplicaSet", "roll-def"), { "rollouts-pod-template-hash": "def" }, "roll"],
    [owner("ReplicationController", "rc-1"), { deploymentconfig: "dc" }, "dc"],
    [owner("ReplicationController", "rc-1"), {}, "rc-1"],
    [owner("Job", "sweep-29012345"), {}, "sweep"],
    [owner("Job", "sweep-2901234"), {}, "sweep-2901234"],
    [owner("Job", "sweep-29012345678"), {}, "sweep-29012345678"],
    [owner("StatefulSet", "db"), {}, "db"],
    [{ ...owner("StatefulSet", "db"), generateName: "" }, {}, "p"],
    [{ ownerReferences: [{ kind: "StatefulSet", name: "db" }], generateName: "x-" }, {}, "p"],
    [owner("StatefulSet", "db"), { "service.istio.io/workload-name": "given" }, "given"],
  ])("%j %j → %s", (meta, labels, expected) => {
    expect(serve([pod("shop/p", { ...meta, labels })]).pod("shop/p")["workloadName"]).toBe(expected);
  });
});

describe("how a pod is reached", () => {
  const enabled = { "ambient.istio.io/redirection": "enabled" };
  test.each([
    [{}, {}, undefined, undefined],
    [{}, enabled, "HBONE", undefined],
    [{}, { "ambient.istio.io/redirection": "pending" }, undefined, undefined],
    [{ "networking.istio.io/tunnel": "http" }, {}, "HBONE", true],
    [{ "networking.istio.io/tunnel": "x,http" }, enabled, "HBONE", true],
    [{ "networking.istio.io/tunnel": "https" }, enabled, "HBONE", undefined],
    [{ "security.istio.io/tlsMode": "istio" }, {}, undefined, undefined],
  ])("labels %j annotations %j: %s, native %s", (labels, annotations, tunnelProtocol, nativeTunnel) => {
    const found = serve([pod("shop/p", { labels: labels, annotations: annotations })]).pod("shop/p");
    expect([found["tunnelProtocol"], found["nativeTunnel"]]).toEqual([tunnelProtocol, nativeTunnel]);
  });

  test.each([
    [{ podIP: "10.0.0.1", podIPs: [{ ip: "fd00::1" }, { ip: "10.0.0.1" }] }, 2],
    [{ podIP: "10.0.0.1" }, 1],
    [{ podIP: "what" }, undefined],
    [{ podIP: "10.0.0.1", podIPs: [{ ip: "10.0.0.1" }, { ip: "what" }] }, undefined],
    [{ podIP: undefined }, undefined],
    [{ podIP: "10.0.0.1", phase: "Failed" }, undefined],
  ])("status %j has %s addresses", (status, count) => {
    const served = serve([pod("shop/p", { status })]);
    const addresses = served.names.map((name) => served.workload(name)["addresses"]);
    expect(addresses.map((each) => (each as readonly unknown[]).length)).toEqual(count === undefined ? [] : [count]);
  });
});

describe("services of a pod", () => {
  const named = (targetPort: unknown) => ({ selector: { app: "p" }, ports: [{ name: "http", port: 80, targetPort }] });
  const ports = (list: readonly object[]) => ({ spec: { containers: [{ name: "c", ports: list }] } });

  test.each([
    [8080, ports([]), [{ servicePort: 80, targetPort: 8080 }]],
    [undefined, ports([]), [{ servicePort: 80, targetPort: 80 }]],
    ["web", ports([{ name: "web", containerPort: 8000 }]), [{ servicePort: 80, targetPort: 8000 }]],
    ["web", ports([{ name: "web", containerPort: 8000, protocol: "UDP" }]), undefined],
    ["web", ports([]), undefined],
    [
      "web",
      {
        spec: {
          containers: [{ name: "c" }],
          initContainers: [{ name: "s", restartPolicy: "Always", ports: [{ name: "web", containerPort: 7000 }] }],
        },
      },
      [{ servicePort: 80, targetPort: 7000 }],
    ],
    [
      "web",
      {
        spec: {
          containers: [{ name: "c" }],
          initContainers: [{ name: "i", ports: [{ name: "web", containerPort: 7000 }] }],
        },
      },
      undefined,
    ],
  ])("target %p with %j: %j", (target, body, expected) => {
    const served = serve([service("shop/s", named(target)), pod("shop/p", body)]);
    expect(served.pod("shop/p")["services"]).toEqual({ [svc("s")]: expected === undefined ? {} : { ports: expected } });
  });

  test("one without a selector takes no pod by labels, nor does an empty workloadSelector", () => {
    const served = serve([
      service("shop/s", {}),
      serviceEntry("shop/e", { workloadSelector: { labels: {} } }),
      pod("shop/p"),
    ]);
    expect(served.pod("shop/p")["services"]).toBeUndefined();
  });

  test("a ServiceEntry maps by the name of its port", () => {
    const spec = {
      workloadSelector: { labels: { app: "p" } },
      ports: [
        { name: "a", number: 80, targetPort: 8080 },
        { name: "b", number: 81, targetPort: 8081 },
        { name: "c", number: 82 },
      ],
    };
    const world = [serviceEntry("shop/e", spec), pod("shop/p", ports([{ name: "a", containerPort: 1 }]))];
    expect(serve(world).pod("shop/p")["services"]).toEqual({
      "shop/a.example.com": {
        ports: [
          { servicePort: 80, targetPort: 1 },
          { servicePort: 81, targetPort: 8081 },
          { servicePort: 82, targetPort: 82 },
        ],
      },
    });
    expect(serve(world, { serviceEntriesSelectPods: false }).pod("shop/p")["services"]).toBeUndefined();
  });

  const target = { kind: "Pod", namespace: "shop", name: "p", uid: "u1" };
  const referring = (ref: object, of = "s") =>
    slice(`shop/${of}-1`, of, { endpoints: [{ addresses: ["10.0.0.9"], targetRef: ref }] });
  test.each([
    ["this pod", target, true],
    ["another uid", { ...target, uid: "u2" }, false],
    ["no uid", { ...target, uid: undefined }, false],
    ["another name", { ...target, name: "q" }, false],
  ])("a slice that refers to %s", (_, ref, joins) => {
    const served = serve([service("shop/s", {}), referring(ref), pod("shop/p", { uid: "u1" })]);
    expect(Object.keys((served.pod("shop/p")["services"] as object | undefined) ?? {})).toEqual(
      joins ? [svc("s")] : [],
    );
    expect(served.names).toHaveLength(2);
  });

  test("a slice may bring in a pod of another namespace, and one that the selector passes over", () => {
    const served = serve([
      service("shop/s", { selector: { app: "else" } }),
      slice("shop/s-1", "s", { endpoints: [{ addresses: ["10.0.0.9"], targetRef: { ...target, namespace: "far" } }] }),
      pod("far/p", { uid: "u1" }),
    ]);
    expect(Object.keys(served.pod("far/p")["services"] as object)).toEqual([svc("s")]);
  });

  test("of two ports with one number, the last gives the names", () => {
    const spec = {
      selector: { app: "p" },
      ports: [
        { name: "dns", port: 53, protocol: "UDP", targetPort: "dns" },
        { name: "dns-tcp", port: 53, targetPort: "dns-tcp" },
      ],
    };
    const served = serve([service("shop/s", spec), pod("shop/p", ports([{ name: "dns-tcp", containerPort: 5353 }]))]);
    expect(served.pod("shop/p")["services"]).toEqual({
      [svc("s")]: {
        ports: [
          { servicePort: 53, targetPort: 5353 },
          { servicePort: 53, targetPort: 5353 },
        ],
      },
    });
  });
});

describe("WorkloadEntry", () => {
  test.each([
    [8080, {}, [{ servicePort: 80, targetPort: 8080 }]],
    [8080, { http: 1 }, [{ servicePort: 80, targetPort: 1 }]],
    ["web", { web: 2, http: 1 }, [{ servicePort: 80, targetPort: 2 }]],
    ["web", { http: 1 }, undefined],
  ])("behind a Service with target %p and ports %j: %j", (targetPort, ports, expected) => {
    const world = [
      service("shop/s", { selector: { app: "vm" }, ports: [{ name: "http", port: 80, targetPort }] }),
      workloadEntry("shop/vm", { ports }, { labels: { app: "vm" } }),
    ];
    expect(serve(world).workload(entry)["services"]).toEqual({
      [svc("s")]: expected === undefined ? {} : { ports: expected },
    });
    expect(serve(world, { servicesSelectWorkloadEntries: false }).workload(entry)["services"]).toBeUndefined();
  });

  test("its own labels win over those of its spec; both count", () => {
    const spec = { labels: { app: "spec", version: "v2", "networking.istio.io/tunnel": "http" } };
    expect(serve([workloadEntry("shop/vm", spec, { labels: { app: "meta" } })]).workload(entry)).toMatchObject({
      canonicalName: "meta",
      canonicalRevision: "v2",
      tunnelProtocol: "HBONE",
      nativeTunnel: true,
    });
  });

  test.each([
    [
      {
        annotations: { "istio.io/autoRegistrationGroup": "group" },
        labels: { "service.istio.io/workload-name": "label" },
      },
      "group",
    ],
    [{ labels: { "service.istio.io/workload-name": "label" } }, "label"],
    [{}, "vm"],
  ])("%j has workload name %s", (meta, expected) => {
    expect(serve([workloadEntry("shop/vm", {}, meta)]).workload(entry)["workloadName"]).toBe(expected);
  });

  test("network, weight, locality, hostname", () => {
    const spec = { address: "db.example.com", network: "n2", weight: 7, locality: "r/z/s" };
    expect(serve([workloadEntry("shop/vm", spec)]).workload(entry)).toMatchObject({
      hostname: "db.example.com",
      network: "n2",
      capacity: 7,
      locality: { region: "r", zone: "z", subzone: "s" },
    });
  });
});

describe("endpoints of a ServiceEntry", () => {
  const spec = (more: object) => ({ hosts: ["a.com", "b.com"], ports: [{ name: "http", number: 80 }], ...more });

  test("serve every host, and take what is said of the entry", () => {
    const served = serve([
      serviceEntry("shop/ext", spec({ endpoints: [{ address: "192.0.2.1", labels: { app: "own", version: "v9" } }] }), {
        labels: { app: "label", "networking.istio.io/tunnel": "http" },
      }),
    ]);
    const found = served.workload(`${endpoint}/192.0.2.1`);
    expect(Object.keys(found["services"] as object)).toEqual(["shop/a.com", "shop/b.com"]);
    expect(found).toMatchObject({
      canonicalName: "label",
      canonicalRevision: "latest",
      nativeTunnel: true,
      workloadName: "ext",
    });
  });

  test.each([
    ["DNS", {}, 2],
    ["DNS_ROUND_ROBIN", {}, 2],
    ["DYNAMIC_DNS", {}, 2],
    ["STATIC", {}, 0],
    ["NONE", {}, 0],
    ["DNS", { workloadSelector: { labels: { a: "b" } } }, 0],
  ])("implicit ones: %s %j has %d", (resolution, more, count) => {
    const served = serve([serviceEntry("shop/ext", spec({ resolution, ...more }))]);
    expect(served.names.filter((name) => name.startsWith(endpoint))).toHaveLength(count);
  });

  test("one without a network is in that of the nearest before it", () => {
    const served = serve([
      namespace("istio-system", { labels: { "topology.istio.io/network": "n0" } }),
      serviceEntry(
        "shop/ext",
        spec({
          endpoints: [{ address: "192.0.2.1" }, { address: "192.0.2.2", network: "n1" }, { address: "192.0.2.3" }],
        }),
      ),
    ]);
    expect([1, 2, 3].map((last) => served.workload(`${endpoint}/192.0.2.${last}`)["network"])).toEqual([
      "n0",
      "n1",
      "n1",
    ]);
  });
});

describe("endpoints of slices", () => {
  const uid = (ip: string, name = "s-1") => `Kubernetes/discovery.k8s.io/EndpointSlice/shop/${name}/${ip}`;
  const at = (...addresses: readonly string[]) => ({ addresses });

  test.each([
    [
      "each address once in a slice",
      slice("shop/s-1", "s", { endpoints: [at("192.0.2.1", "192.0.2.2"), at("192.0.2.1")] }),
      [uid("192.0.2.1")],
    ],
    [
      "another target than a pod",
      slice("shop/s-1", "s", { endpoints: [{ ...at("192.0.2.1"), targetRef: { kind: "Node", name: "n" } }] }),
      [uid("192.0.2.1")],
    ],
    ["names are none", slice("shop/s-1", "s", { addressType: "FQDN", endpoints: [at("a.com")] }), []],
    ["no such service", slice("shop/s-1", "lost", { endpoints: [at("192.0.2.1")] }), []],
    ["no service named", slice("shop/s-1", "s", { endpoints: [at("192.0.2.1")] }, { labels: {} }), []],
    ["garbage", slice("shop/s-1", "s", { endpoints: [at("what"), at(), at("192.0.2.1", "what")] }), []],
  ])("%s", (_, object_, expected) => {
    expect(serve([service("shop/s", {}), object_]).names).toEqual([...expected, svc("s")]);
  });

  test("the same address in two slices is two workloads, also beside a selector", () => {
    const served = serve([
      service("shop/s", { selector: { a: "b" } }),
      slice("shop/s-1", "s", { endpoints: [at("192.0.2.1")] }),
      slice("shop/s-2", "s", { endpoints: [at("192.0.2.1")] }),
    ]);
    expect(served.names).toEqual([uid("192.0.2.1"), uid("192.0.2.1", "s-2"), svc("s")]);
  });

  test("one endpoint with several addresses is one workload", () => {
    const served = serve([
      service("shop/s", {}),
      slice("shop/s-1", "s", { endpoints: [at("192.0.2.1", "192.0.2.2")] }),
    ]);
    expect(served.workload(uid("192.0.2.1"))["addresses"]).toEqual(["wAACAQ==", "wAACAg=="]);
  });

  test("a slice belongs to a Service, not to a ServiceEntry with its name", () => {
    const labels = { app: "p" };
    const served = serve([
      serviceEntry("shop/s", { hosts: ["s.shop.svc.cluster.local"] }),
      pod("shop/p", { uid: "u1", labels }),
      slice("shop/s-1", "s", {
        endpoints: [
          at("192.0.2.1"),
          { addresses: ["10.0.0.1"], targetRef: { kind: "Pod", namespace: "shop", name: "p", uid: "u1" } },
        ],
      }),
    ]);
    expect(served.names).toEqual(["Kubernetes//Pod/shop/p", svc("s")]);
    expect(served.pod("shop/p")["services"]).toBeUndefined();
  });

  test("ports: TCP, with a number, and of a name that the service has", () => {
    const ports = [
      { name: "http", port: 1 },
      { name: "udp", port: 2, protocol: "UDP" },
      { name: "any" },
      { name: "other", port: 4 },
    ];
    const names = ["http", "udp", "any"].map((name, index) => ({ name, port: 80 + index }));
    const served = serve([
      service("shop/s", { ports: names }),
      slice("shop/s-1", "s", { endpoints: [at("192.0.2.1")], ports }),
    ]);
    expect(served.workload(uid("192.0.2.1"))["services"]).toEqual({
      [svc("s")]: { ports: [{ servicePort: 80, targetPort: 1 }] },
    });
  });
});

describe("gateways of other networks", () => {
  const remote = (name: string, labels: Readonly<Record<string, string>>, spec: object = {}) =>
    object(
      "gateway.networking.k8s.io/v1",
      "Gateway",
      `istio-system/${name}`,
      {
        spec: {
          gatewayClassName: "istio-remote",
          addresses: [{ type: "IPAddress", value: "192.0.2.99" }],
          listeners: [{ name: "x", port: 15_009, protocol: "HBONE" }],
          ...spec,
        },
      },
      { labels },
    );
  const n2 = { "topology.istio.io/network": "n2" };
  const vm = workloadEntry("shop/vm", { network: "n2" });

  test("are published, and named on workloads of that network", () => {
    const served = serve([remote("gw", n2), vm, pod("shop/p")]);
    const address = { network: "n2", address: "wAACYw==" };
    expect(served.workload(entry)["networkGateway"]).toEqual({ address, hboneMtlsPort: 15_009 });
    expect(served.pod("shop/p")["networkGateway"]).toBeUndefined();
    expect(served.workload("NetworkGateway/n2/192.0.2.99/15009")).toMatchObject({
      network: "n2",
      namespace: "istio-system",
      serviceAccount: "gw-istio-remote",
    });
    expect(served.conditions("Gateway", "istio-system/gw")).toEqual([
      "Accepted=True/Accepted",
      "Programmed=True/Programmed",
    ]);
  });

  test.each([
    ["no label", remote("gw", {})],
    ["another class", remote("gw", n2, { gatewayClassName: "istio-east-west" })],
    ["no HBONE listener", remote("gw", n2, { listeners: [{ name: "x", port: 15_443, protocol: "TLS" }] })],
    ["no address", remote("gw", n2, { addresses: [] })],
  ])("do not count with %s", (_, gateway) => {
    const served = serve([gateway, vm]);
    expect(served.workload(entry)["networkGateway"]).toBeUndefined();
    expect(served.names).toEqual([entry]);
  });

  test("are entered by their first HBONE listener, and are of the mesh's trust domain", () => {
    const listeners = [15_443, 15_008, 15_009].map((port) => ({
      name: `p${port}`,
      port,
      protocol: port === 15_443 ? "TLS" : "HBONE",
    }));
    const served = serve([meshConfig({ trustDomain: "td" }), remote("gw", n2, { listeners })]);
    expect(served.names).toEqual(["NetworkGateway/n2/192.0.2.99/15008"]);
    expect(served.workload("NetworkGateway/n2/192.0.2.99/15008")["trustDomain"]).toBe("td");
  });

  test("are of no use to an address that nothing is known of", () => {
    const served = serve([
      namespace("istio-system", { labels: n2 }),
      remote("gw", n2),
      service("shop/s", {}),
      slice("shop/s-1", "s", { endpoints: [{ addresses: ["192.0.2.1"] }] }),
      pod("shop/p"),
    ]);
    expect(served.pod("shop/p")["networkGateway"]).toBeDefined();
    const listed = served.workload("Kubernetes/discovery.k8s.io/EndpointSlice/shop/s-1/192.0.2.1");
    expect(listed["networkGateway"]).toBeUndefined();
    expect(listed["network"]).toBe("n2");
  });

  test("may be known by name", () => {
    const served = serve([remote("gw", n2, { addresses: [{ type: "Hostname", value: "gw.example.com" }] }), vm]);
    expect(served.workload(entry)["networkGateway"]).toEqual({
      hostname: { namespace: "istio-system", hostname: "gw.example.com" },
      hboneMtlsPort: 15_009,
    });
    expect(served.workload("NetworkGateway/n2/gw.example.com/15009")["hostname"]).toBe("gw.example.com");
  });
});

describe("several networks at once", () => {
  const gateway = object(
    "gateway.networking.k8s.io/v1",
    "Gateway",
    "istio-system/gw",
    {
      spec: {
        gatewayClassName: "istio-remote",
        addresses: [{ type: "IPAddress", value: "192.0.2.99" }],
        listeners: [{ name: "x", port: 15_008, protocol: "HBONE" }],
      },
    },
    { labels: { "topology.istio.io/network": "n2" } },
  );
  const global = service("shop/s", { selector: { app: "vm" } }, { labels: { "istio.io/global": "true" } });
  const vm = (name: string, spec: object) =>
    workloadEntry(`shop/${name}`, { network: "n2", ...spec }, { labels: { app: "vm" } });
  const members = [vm("a", { serviceAccount: "x", weight: 3 }), vm("b", {}), vm("c", { network: "n3" })];
  const uid = `n2/SplitHorizonWorkload/istio-system/gw/192.0.2.99/${svc("s")}`;
  const multi = { multiNetwork: true };

  test("those of one other network are one workload behind its gateway", () => {
    const served = serve([gateway, global, ...members, pod("shop/p", { labels: { app: "vm" } })], multi);
    expect(served.names).toEqual(["Kubernetes//Pod/shop/p", "NetworkGateway/n2/192.0.2.99/15008", uid, svc("s")]);
    expect(served.workload(uid)).toMatchObject({
      name: uid,
      namespace: "shop",
      clusterId: "Kubernetes",
      network: "n2",
      capacity: 4,
      tunnelProtocol: "HBONE",
      networkGateway: { address: { network: "n2", address: "wAACYw==" }, hboneMtlsPort: 15_008 },
      services: { [svc("s")]: { ports: [{ servicePort: 80, targetPort: 80, appProtocol: "HTTP11" }] } },
    });
    expect(served.service(svc("s"))["subjectAltNames"]).toEqual([
      "spiffe://cluster.local/ns/shop/sa/x",
      "spiffe://cluster.local/ns/shop/sa/",
    ]);
  });

  test.each([
    ["behind a service of this cluster only", [gateway, service("shop/s", { selector: { app: "vm" } }), ...members]],
    ["without a gateway", [global, ...members]],
  ])("%s they vanish", (_, objects) => {
    const served = serve(objects, multi);
    expect(served.names.filter((name) => /WorkloadEntry|SplitHorizon/.test(name))).toEqual([]);
  });

  test("a service of this cluster only says nothing of who else answers", () => {
    const served = serve([gateway, service("shop/s", { selector: { app: "vm" } }), ...members], multi);
    expect(served.service(svc("s"))["subjectAltNames"]).toBeUndefined();
  });

  test("with the flag off they are published as they are", () => {
    expect(serve([gateway, global, ...members]).names.filter((name) => name.includes("WorkloadEntry"))).toHaveLength(3);
  });

  test("hosts of ServiceEntries are never global", () => {
    const entry = serviceEntry(
      "shop/s",
      { endpoints: [{ address: "192.0.2.7", network: "n2" }] },
      { labels: { "istio.io/global": "true" } },
    );
    expect(serve([gateway, entry], multi).names.filter((name) => name.includes("SplitHorizon"))).toEqual([]);
  });

  test("which services are global is configurable, one rule that says so is enough", () => {
    const scopes = [
      { servicesSelector: {}, scope: "LOCAL" },
      { servicesSelector: { matchLabels: { app: "no" } }, scope: "GLOBAL" },
      { namespaceSelector: { matchLabels: { wide: "yes" } }, servicesSelector: {}, scope: "GLOBAL" },
    ];
    const world = (labels: Readonly<Record<string, string>>) => [
      meshConfig({ serviceScopeConfigs: scopes }),
      namespace("shop", { labels }),
      gateway,
      global,
      ...members,
    ];
    expect(serve(world({ wide: "yes" }), multi).names).toContain(uid);
    expect(serve(world({}), multi).names).not.toContain(uid);
  });
});

test("the cluster's id, domain and trust domain show in every name", () => {
  const served = serve(
    [meshConfig({ trustDomain: "td" }), service("shop/s", { selector: { app: "p" } }), pod("shop/p")],
    {
      clusterId: "c1",
      domain: "example",
    },
  );
  expect(served.names).toEqual(["c1//Pod/shop/p", "shop/s.shop.svc.example"]);
  expect(served.workload("c1//Pod/shop/p")).toMatchObject({ clusterId: "c1", trustDomain: "td" });
});
