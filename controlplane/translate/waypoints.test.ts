import { describe, expect, test } from "@jest/globals";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import {
  meshConfig,
  namespace,
  object,
  pod,
  policy,
  serve,
  service,
  serviceEntry,
  slice,
  waypoint,
  workloadEntry,
} from "./small-world.ts";

const use = (name: string, inNamespace?: string) => ({
  "istio.io/use-waypoint": name,
  ...(inNamespace === undefined ? {} : { "istio.io/use-waypoint-namespace": inNamespace }),
});
const canary = (name: string, weight?: string) => ({
  labels: { ...use("wp"), "istio.io/use-waypoint-canary": name },
  annotations: weight === undefined ? {} : { "istio.io/use-waypoint-canary-weight": weight },
});
const at = (path: string) => ({
  hostname: { namespace: path.split("/")[0], hostname: `${path.replace("/", "-")}.example.com` },
  hboneMtlsPort: 15_008,
});
const svc = "shop/cart.shop.svc.cluster.local";
const serves = (traffic: string) => ({ labels: { "istio.io/waypoint-for": traffic } });
const listener = (extra: object = {}) => ({ listeners: [{ name: "mesh", port: 15_008, protocol: "HBONE", ...extra }] });
const open = (from: object) => listener({ allowedRoutes: { namespaces: from } });

describe("which waypoint a service gets", () => {
  const shop = (labels: Readonly<Record<string, string>> = {}) => namespace("shop", { labels });
  const cart = (labels: Readonly<Record<string, string>> = {}) => service("shop/cart", {}, { labels });
  const bound = "istio.io/WaypointBound=True/WaypointAccepted";
  const refused = (reason: string) => `istio.io/WaypointBound=False/${reason}`;

  test.each<[string, readonly KubeObject[], string | undefined, string | undefined]>([
    ["none without a label", [shop(), cart(), waypoint("shop/wp")], undefined, undefined],
    ["its own", [shop(), cart(use("wp")), waypoint("shop/wp")], "shop/wp", bound],
    ["the namespace's", [shop(use("wp")), cart(), waypoint("shop/wp")], "shop/wp", bound],
    [
      "its own before the namespace's",
      [shop(use("a")), cart(use("b")), waypoint("shop/a"), waypoint("shop/b")],
      "shop/b",
      bound,
    ],
    ["none if it says none", [shop(use("wp")), cart(use("none")), waypoint("shop/wp")], undefined, undefined],
    ["none if the namespace says none", [shop(use("none")), cart(), waypoint("shop/none")], undefined, undefined],
    [
      "no fallback to the namespace's",
      [shop(use("wp")), cart(use("lost")), waypoint("shop/wp")],
      undefined,
      refused("WaypointIsNotReady"),
    ],
    [
      "none without an address",
      [shop(), cart(use("wp")), waypoint("shop/wp", { status: { addresses: [] } })],
      undefined,
      refused("WaypointIsNotReady"),
    ],
    [
      "none of traffic type workload",
      [shop(use("wp")), cart(), waypoint("shop/wp", serves("workload"))],
      undefined,
      refused("UnsupportedTrafficType"),
    ],
    [
      "none of traffic type none",
      [shop(), cart(use("wp")), waypoint("shop/wp", serves("none"))],
      undefined,
      refused("UnsupportedTrafficType"),
    ],
    ["one for all", [shop(), cart(use("wp")), waypoint("shop/wp", serves("all"))], "shop/wp", bound],
    [
      "one whose class is for all",
      [
        shop(),
        cart(use("wp")),
        waypoint("shop/wp"),
        object(
          "gateway.networking.k8s.io/v1",
          "GatewayClass",
          "theirs",
          { spec: { controllerName: "x/y" } },
          serves("workload"),
        ),
      ],
      undefined,
      refused("UnsupportedTrafficType"),
    ],
    [
      "none elsewhere without leave",
      [shop(), cart(use("wp", "edge")), namespace("edge"), waypoint("edge/wp")],
      undefined,
      refused("AttachmentDenied"),
    ],
    [
      "one elsewhere, open to all",
      [shop(), cart(use("wp", "edge")), waypoint("edge/wp", { spec: open({ from: "All" }) })],
      "edge/wp",
      bound,
    ],
    [
      "one elsewhere, open to labels",
      [
        shop({ team: "blue" }),
        cart(use("wp", "edge")),
        waypoint("edge/wp", {
          spec: open({
            from: "Selector",
            selector: { matchExpressions: [{ key: "team", operator: "In", values: ["blue"] }] },
          }),
        }),
      ],
      "edge/wp",
      bound,
    ],
    [
      "not even one of its own namespace, where labels decide otherwise",
      [
        shop(),
        cart(use("wp")),
        waypoint("shop/wp", { spec: open({ from: "Selector", selector: { matchLabels: { a: "b" } } }) }),
      ],
      undefined,
      refused("AttachmentDenied"),
    ],
    [
      "one of another revision too, which another control plane looks after",
      [shop(), cart(use("wp")), waypoint("shop/wp", { labels: { "istio.io/rev": "x" } })],
      "shop/wp",
      bound,
    ],
    [
      "none if it is a waypoint's own",
      [shop(use("wp")), cart({ "gateway.istio.io/managed": "istio.io-mesh-controller" }), waypoint("shop/wp")],
      undefined,
      undefined,
    ],
    [
      "none if it is an east-west gateway's own",
      [shop(use("wp")), cart({ "gateway.istio.io/managed": "istio.io-eastwest-controller" }), waypoint("shop/wp")],
      undefined,
      undefined,
    ],
    [
      "the namespace's if it is an ingress gateway's own",
      [shop(use("wp")), cart({ "gateway.istio.io/managed": "istio.io-gateway-controller" }), waypoint("shop/wp")],
      "shop/wp",
      bound,
    ],
  ])("%s", (_, objects, path, condition) => {
    const served = serve(objects);
    expect(served.service(svc)["waypoint"]).toEqual(path === undefined ? undefined : at(path));
    expect(served.conditions("Service", "shop/cart")).toEqual(condition === undefined ? [] : [condition]);
  });

  test("the address may be an IP, and is left out where it is neither", () => {
    const ip = waypoint("shop/wp", { status: { addresses: [{ type: "IPAddress", value: "10.0.0.9" }] } });
    expect(serve([shop(use("wp")), cart(), ip]).service(svc)["waypoint"]).toEqual({
      address: { address: "CgAACQ==" },
      hboneMtlsPort: 15_008,
    });
    const custom = serve([
      shop(use("wp")),
      cart(),
      waypoint("shop/wp", { status: { addresses: [{ type: "x.com/y", value: "z" }] } }),
    ]);
    expect(custom.service(svc)["waypoint"]).toBeUndefined();
    expect(custom.conditions("Service", "shop/cart")).toEqual([bound]);
  });

  test.each([
    [{}, {}, undefined],
    [{ "istio.io/ingress-use-waypoint": "true" }, {}, true],
    [{}, { "istio.io/ingress-use-waypoint": "True" }, true],
    [{ "istio.io/ingress-use-waypoint": "garbage" }, { "istio.io/ingress-use-waypoint": "true" }, undefined],
  ])("ingress: service %j, namespace %j → %p", (own, inherited, expected) => {
    const objects = [namespace("shop", { labels: inherited }), cart({ ...use("wp"), ...own }), waypoint("shop/wp")];
    expect(serve(objects).service(svc)["ingressUseWaypoint"]).toBe(expected);
    expect(serve(objects.slice(0, 2)).service(svc)["ingressUseWaypoint"]).toBeUndefined();
  });
});

describe("canary", () => {
  const world = (meta: object, extra: readonly KubeObject[] = []) => [
    namespace("shop"),
    service("shop/cart", {}, meta as never),
    waypoint("shop/wp"),
    waypoint("shop/next"),
    ...extra,
  ];
  test.each([
    ["20", [80, 20]],
    ["0", [100, undefined]],
    [undefined, [100, undefined]],
    ["100", [undefined, 100]],
  ])("weight %p → %p", (weight, weights) => {
    expect(serve(world(canary("next", weight))).service(svc)["weightedWaypoints"]).toEqual([
      { destination: at("shop/wp"), ...(weights[0] === undefined ? {} : { weight: weights[0] }) },
      { destination: at("shop/next"), ...(weights[1] === undefined ? {} : { weight: weights[1] }) },
    ]);
  });

  test.each([
    ["none", "20"],
    ["", "20"],
    ["wp", "20"],
    ["next", "101"],
    ["next", "-1"],
    ["next", "many"],
    ["lost", "20"],
  ])("%p with weight %p leaves the waypoint alone", (name, weight) => {
    const served = serve(world(canary(name, weight)));
    expect(served.service(svc)).toMatchObject({ waypoint: at("shop/wp") });
    expect(served.service(svc)["weightedWaypoints"]).toBeUndefined();
    expect(served.conditions("Service", "shop/cart")).toEqual(["istio.io/WaypointBound=True/WaypointAccepted"]);
  });

  test("comes from the namespace where the service has no waypoint label of its own", () => {
    const shop = namespace("shop", canary("next", "30"));
    const waypoints = [waypoint("shop/wp"), waypoint("shop/next")];
    expect(serve([shop, service("shop/cart", {}), ...waypoints]).service(svc)["weightedWaypoints"]).toHaveLength(2);
    const own = service("shop/cart", {}, { labels: use("wp") });
    expect(serve([shop, own, ...waypoints]).service(svc)["weightedWaypoints"]).toBeUndefined();
  });

  test("name and weight are inherited each for itself", () => {
    const weightOf = (ofNamespace: object, ofService: object): unknown =>
      serve([
        namespace("shop", ofNamespace as never),
        service("shop/cart", {}, ofService as never),
        waypoint("shop/wp"),
        waypoint("shop/next"),
      ]).service(svc)["weightedWaypoints"];
    const parts = (weight: number) => [
      { destination: at("shop/wp"), weight: 100 - weight },
      { destination: at("shop/next"), weight },
    ];
    const { annotations } = canary("next", "40");
    expect(weightOf(canary("next", "30"), { annotations })).toEqual(parts(40));
    expect(
      weightOf({ labels: use("wp"), annotations }, { labels: { "istio.io/use-waypoint-canary": "next" } }),
    ).toEqual(parts(40));
  });
});

describe("which waypoint a workload gets", () => {
  const path = "shop/cart-1";
  test.each<[string, readonly KubeObject[], string | undefined]>([
    [
      "its own",
      [namespace("shop"), pod(path, { labels: use("wp") }), waypoint("shop/wp", serves("workload"))],
      "shop/wp",
    ],
    [
      "the namespace's",
      [namespace("shop", { labels: use("wp") }), pod(path), waypoint("shop/wp", serves("all"))],
      "shop/wp",
    ],
    ["not one for services", [namespace("shop"), pod(path, { labels: use("wp") }), waypoint("shop/wp")], undefined],
    [
      "none if it is an instance of one",
      [
        namespace("shop", { labels: use("wp") }),
        pod(path, { labels: { "gateway.networking.k8s.io/gateway-name": "wp" } }),
        waypoint("shop/wp", serves("all")),
      ],
      undefined,
    ],
  ])("%s", (_, objects, expected) => {
    expect(serve(objects).pod(path)["waypoint"]).toEqual(expected === undefined ? undefined : at(expected));
  });

  test.each([
    [use("wp"), "istio.io/WaypointBound=False/UnsupportedTrafficType"],
    [{}, undefined],
    [use("lost"), "istio.io/WaypointBound=False/WaypointIsNotReady"],
    [use("all"), "istio.io/WaypointBound=True/WaypointAccepted"],
    [use("none"), undefined],
  ])("WorkloadEntry with %j in a namespace with a waypoint for services: %p", (labels, condition) => {
    const served = serve([
      namespace("shop", { labels: use("wp") }),
      workloadEntry("shop/vm", {}, { labels }),
      waypoint("shop/wp"),
      waypoint("shop/all", serves("all")),
    ]);
    expect(served.conditions("WorkloadEntry", "shop/vm")).toEqual(condition === undefined ? [] : [condition]);
  });

  test("an endpoint of a ServiceEntry goes by its own labels, an implicit one by none", () => {
    const served = serve([
      namespace("shop", { labels: use("wp") }),
      serviceEntry(
        "shop/a",
        { hosts: ["a.com"], endpoints: [{ address: "192.0.2.7", labels: use("other") }, { address: "192.0.2.8" }] },
        { labels: use("none") },
      ),
      serviceEntry("shop/b", { hosts: ["b.com"], resolution: "DNS" }),
      waypoint("shop/wp", serves("all")),
      waypoint("shop/other", serves("workload")),
    ]);
    const prefix = "Kubernetes/networking.istio.io/ServiceEntry/shop";
    expect(served.workload(`${prefix}/a/192.0.2.7`)["waypoint"]).toEqual(at("shop/other"));
    expect(served.workload(`${prefix}/a/192.0.2.8`)["waypoint"]).toEqual(at("shop/wp"));
    expect(served.workload(`${prefix}/b/b.com`)["waypoint"]).toBeUndefined();
  });
});

describe("how an instance takes connections", () => {
  const annotated = (value: string) => ({ annotations: { "ambient.istio.io/waypoint-inbound-binding": value } });
  const instance = pod("shop/wp-1", { labels: { "gateway.networking.k8s.io/gateway-name": "wp" } });
  test.each([
    ["PROXY", { protocol: "PROXY" }],
    ["PROXY/15088", { protocol: "PROXY", port: 15_088 }],
    ["NONE", {}],
    ["NONE/80", { port: 80 }],
    ["proxy", undefined],
    ["PROXY/x", undefined],
    ["PROXY/1/2", undefined],
    ["UDP/1", undefined],
  ])("%p → %j", (value, expected) => {
    expect(serve([instance, waypoint("shop/wp", annotated(value))]).pod("shop/wp-1")["applicationTunnel"]).toEqual(
      expected,
    );
  });

  test("the Gateway beats its class", () => {
    const own = object(
      "gateway.networking.k8s.io/v1",
      "GatewayClass",
      "theirs",
      { spec: { controllerName: "x/y" } },
      annotated("PROXY/1"),
    );
    expect(serve([instance, waypoint("shop/wp"), own]).pod("shop/wp-1")["applicationTunnel"]).toEqual({
      protocol: "PROXY",
      port: 1,
    });
    expect(
      serve([instance, waypoint("shop/wp", annotated("NONE")), own]).pod("shop/wp-1")["applicationTunnel"],
    ).toEqual({});
  });

  test("the listener of the binding says who may attach", () => {
    const all = { namespaces: { from: "All" } };
    const listeners = [
      { name: "mesh", port: 15_008, protocol: "HBONE" },
      { name: "proxy", port: 15_088, protocol: "istio.io/PROXY", allowedRoutes: all },
    ];
    const consumer = service("shop/cart", {}, { labels: use("wp", "edge") });
    const isBound = (value?: string, of: readonly object[] = listeners) =>
      serve([
        consumer,
        waypoint("edge/wp", { spec: { listeners: of }, ...(value === undefined ? {} : annotated(value)) }),
      ]).service(svc)["waypoint"] !== undefined;
    expect([isBound(), isBound("PROXY"), isBound("PROXY/15088"), isBound("PROXY/15008"), isBound("NONE")]).toEqual([
      false,
      true,
      true,
      false,
      false,
    ]);
    // Where it has none of its own, the HBONE listener does.
    const openToAll = [{ name: "mesh", port: 15_008, protocol: "HBONE", allowedRoutes: all }];
    expect([isBound("PROXY", openToAll), isBound("PROXY/15088", openToAll), isBound("NONE", openToAll)]).toEqual([
      true,
      true,
      true,
    ]);
  });
});

describe("only through the waypoint", () => {
  const objects = [
    namespace("shop", { labels: use("wp") }),
    service("shop/cart", { selector: { app: "cart" } }),
    pod("shop/cart", { labels: { app: "cart" } }),
    pod("shop/other"),
    waypoint("shop/wp"),
    ...["a", "b"].map((name) =>
      pod(`shop/wp-${name}`, {
        labels: { "gateway.networking.k8s.io/gateway-name": "wp" },
        spec: { serviceAccountName: "wp" },
      }),
    ),
  ];
  const key = "shop/istio_allow_waypoint_shop_wp";

  test("is said of what the waypoint serves, once its pods run", () => {
    const served = serve(objects, { autoAllowWaypointPolicy: true });
    expect(served.pod("shop/cart")["authorizationPolicies"]).toEqual([key]);
    expect(served.pod("shop/other")["authorizationPolicies"]).toBeUndefined();
    const exact = "cluster.local/ns/shop/sa/wp";
    expect(served.authorization(key)).toEqual({
      name: "istio_allow_waypoint_shop_wp",
      namespace: "shop",
      scope: "WORKLOAD_SELECTOR",
      groups: [{ rules: [{ matches: [{ principals: [{ exact }, { exact }] }] }] }],
    });
    expect(serve(objects.slice(0, -2), { autoAllowWaypointPolicy: true }).authorizationNames).toEqual([]);
  });

  test.each([
    ["Pending", [key]],
    ["Failed", []],
  ])("counts pods that may run: %s", (phase, names) => {
    const labels = { "gateway.networking.k8s.io/gateway-name": "wp" };
    const world = [...objects.slice(0, -2), pod("shop/wp-a", { labels, status: { phase } })];
    expect(serve(world, { autoAllowWaypointPolicy: true }).authorizationNames).toEqual(names);
  });

  test("is named once for a waypoint of the service and of the pod", () => {
    const world = objects.map((each) =>
      each.kind === "Gateway" ? waypoint("shop/wp", { labels: { "istio.io/waypoint-for": "all" } }) : each,
    );
    const served = serve(world, { autoAllowWaypointPolicy: true });
    expect(served.pod("shop/cart")["authorizationPolicies"]).toEqual([key]);
    expect(served.pod("shop/other")["authorizationPolicies"]).toEqual([key]);
  });

  test("is off by itself, and names the mesh's trust domain", () => {
    expect(serve(objects).authorizationNames).toEqual([]);
    const served = serve([meshConfig({ trustDomain: "td" }), ...objects], { autoAllowWaypointPolicy: true });
    expect(JSON.stringify(served.authorization(key))).toContain('"td/ns/shop/sa/wp"');
  });
});

describe("policies of waypoints", () => {
  const group = "gateway.networking.k8s.io";
  const refs = {
    gateway: { group, kind: "Gateway", name: "wp" },
    lost: { group, kind: "Gateway", name: "lost" },
    ours: { group, kind: "GatewayClass", name: "istio-waypoint" },
    theirs: { group, kind: "GatewayClass", name: "istio" },
    unknown: { group, kind: "GatewayClass", name: "unknown" },
    service: { group: "", kind: "Service", name: "cart" },
    unbound: { group: "", kind: "Service", name: "free" },
    external: { group: "", kind: "Service", name: "external" },
    elsewhere: { group: "", kind: "Service", name: "elsewhere", namespace: "other" },
    entry: { group: "networking.istio.io", kind: "ServiceEntry", name: "ext" },
  };
  test.each<[string, readonly (keyof typeof refs)[], string]>([
    ["shop", ["gateway"], "True/Accepted"],
    ["shop", ["lost"], "False/TargetNotFound"],
    ["shop", ["service"], "True/Accepted"],
    ["shop", ["unbound"], "False/AncestorNotBound"],
    ["shop", ["entry"], "True/Accepted"],
    ["shop", ["external"], "False/AncestorNotBound"],
    ["shop", ["elsewhere"], "False/TargetNotFound"],
    ["shop", ["ours"], "False/Invalid"],
    ["istio-system", ["ours"], "True/Accepted"],
    ["istio-system", ["theirs"], "False/Invalid"],
    ["istio-system", ["unknown"], "False/TargetNotFound"],
    ["shop", ["gateway", "service"], "True/Accepted"],
    ["shop", ["gateway", "unbound"], "True/PartiallyInvalid"],
    ["shop", ["lost", "unbound"], "False/Invalid"],
  ])("in %s for %j: %s", (where, targets, expected) => {
    const served = serve([
      namespace("shop"),
      waypoint("shop/wp"),
      service("shop/cart", {}, { labels: use("wp") }),
      service("shop/free", {}),
      service("shop/external", { type: "ExternalName", externalName: "example.com" }),
      service("other/elsewhere", {}, { labels: use("wp", "shop") }),
      serviceEntry("shop/ext", {}, { labels: use("wp") }),
      policy(`${where}/p`, { targetRefs: targets.map((target) => refs[target]), rules: [{}] }),
    ]);
    expect(served.authorizationNames).toEqual([]);
    expect(served.conditions("AuthorizationPolicy", `${where}/p`)).toEqual([`WaypointAccepted=${expected}`]);
  });

  test("the single targetRef of older policies counts too", () => {
    const served = serve([waypoint("shop/wp"), policy("shop/p", { targetRef: refs.gateway })]);
    expect(served.conditions("AuthorizationPolicy", "shop/p")).toEqual(["WaypointAccepted=True/Accepted"]);
  });
});

describe("instances of waypoints that are no pods", () => {
  const labels = { "gateway.networking.k8s.io/gateway-name": "wp" };
  const sandwich = waypoint("shop/wp", {
    labels: { "istio.io/waypoint-for": "all" },
    annotations: { "ambient.istio.io/waypoint-inbound-binding": "PROXY/15088" },
  });
  const shop = namespace("shop", { labels: use("wp") });

  test.each([
    ["a WorkloadEntry", workloadEntry("shop/vm", {}, { labels }), "WorkloadEntry/shop/vm"],
    [
      "an endpoint of a ServiceEntry",
      serviceEntry("shop/se", { endpoints: [{ address: "192.0.2.1", labels }] }),
      "ServiceEntry/shop/se/192.0.2.1",
    ],
  ])("%s", (_, instance, name) => {
    const served = serve([shop, sandwich, instance]);
    const workload = served.workload(`Kubernetes/networking.istio.io/${name}`);
    expect(workload["applicationTunnel"]).toEqual({ protocol: "PROXY", port: 15_088 });
    expect(workload["waypoint"]).toBeUndefined();
    expect(served.conditions("WorkloadEntry", "shop/vm")).toEqual([]);
  });
});

describe("status of our own waypoints", () => {
  const ours = (
    spec: object = {},
    meta: { readonly annotations?: Readonly<Record<string, string>> } = {},
  ): KubeObject =>
    object(
      "gateway.networking.k8s.io/v1",
      "Gateway",
      "shop/wp",
      { spec: { gatewayClassName: "istio-waypoint", ...listener(), ...spec } },
      meta,
    );
  const ports = [{ name: "mesh", port: 15_008 }];
  const back = service("shop/wp", { clusterIPs: ["fd00::1", "10.0.0.1"], ports });
  const ready = slice("shop/wp-1", "wp", { endpoints: [{ addresses: ["10.1.0.1"] }], ports });

  test.each<[string, readonly KubeObject[], readonly string[]]>([
    [
      "no service",
      [ours()],
      ["Accepted=True/Accepted", "Programmed=False/AddressNotUsable", "ResolvedRefs=True/ResolvedRefs"],
    ],
    [
      "no endpoint",
      [ours(), back],
      ["Accepted=True/Accepted", "Programmed=False/AddressNotAssigned", "ResolvedRefs=True/ResolvedRefs"],
    ],
    [
      "an endpoint",
      [ours(), back, ready],
      ["Accepted=True/Accepted", "Programmed=True/Programmed", "ResolvedRefs=True/ResolvedRefs"],
    ],
    [
      "an endpoint without the port",
      [ours(), back, slice("shop/wp-1", "wp", { endpoints: [{ addresses: ["10.1.0.1"] }] })],
      ["Accepted=True/Accepted", "Programmed=False/AddressNotUsable", "ResolvedRefs=True/ResolvedRefs"],
    ],
    [
      "a load balancer without an address",
      [ours(), service("shop/wp", { type: "LoadBalancer", ports }), ready],
      ["Accepted=True/Accepted", "Programmed=False/AddressNotAssigned", "ResolvedRefs=True/ResolvedRefs"],
    ],
    [
      "wrong parameters",
      [ours({ infrastructure: { parametersRef: { group: "", kind: "Secret", name: "x" } } }), back, ready],
      ["Accepted=False/InvalidParameters", "Programmed=True/Programmed", "ResolvedRefs=True/ResolvedRefs"],
    ],
  ])("%s", (_, objects, conditions) => {
    expect(serve(objects).conditions("Gateway", "shop/wp")).toEqual(conditions);
  });

  const statusOf = (objects: readonly KubeObject[]) =>
    serve(objects).form.status.find(({ kind }) => kind === "Gateway")?.status;

  test("addresses: those of the cluster in order of text, then the name", () => {
    expect(statusOf([ours(), back, ready])?.addresses).toEqual([
      { type: "IPAddress", value: "10.0.0.1" },
      { type: "IPAddress", value: "fd00::1" },
      { type: "Hostname", value: "wp.shop.svc.cluster.local" },
    ]);
  });

  test.each([
    ["IPAddress", ["10.96.0.1"]],
    ["Hostname", ["wp.shop.svc.cluster.local"]],
  ])("addresses of type %s only, where asked for", (type, values) => {
    const objects = [
      ours({}, { annotations: { "networking.istio.io/address-type": type } }),
      service("shop/wp", { ports }),
      ready,
    ];
    expect(statusOf(objects)?.addresses?.map(({ value }) => value)).toEqual(values);
  });

  test("addresses of a load balancer take the place of those of the cluster", () => {
    const outside = {
      ...service("shop/wp", { type: "LoadBalancer", ports }),
      status: { loadBalancer: { ingress: [{ hostname: "lb.example.com" }, { ip: "192.0.2.1" }] } },
    };
    expect(statusOf([ours(), outside, ready])?.addresses).toEqual([
      { type: "IPAddress", value: "192.0.2.1" },
      { type: "Hostname", value: "lb.example.com" },
    ]);
  });

  test.each<[string, readonly object[], string, readonly string[]]>([
    [
      "a Service of its namespace",
      [{ type: "Hostname", value: "wp" }],
      "shop",
      ["Accepted=True/Accepted", "Programmed=True/Programmed"],
    ],
    [
      "a Service elsewhere",
      [{ type: "Hostname", value: "wp.other.svc.cluster.local" }],
      "other",
      ["Accepted=True/Accepted", "Programmed=False/AddressNotUsable"],
    ],
    [
      "several IPs",
      [{ value: "10.0.0.1" }, { type: "IPAddress", value: "10.0.0.2" }],
      "shop",
      ["Accepted=False/UnsupportedAddress", "Programmed=False/UnsupportedAddress"],
    ],
    [
      "a name and an IP",
      [{ type: "Hostname", value: "wp" }, { value: "10.0.0.2" }],
      "shop",
      ["Accepted=False/UnsupportedAddress", "Programmed=True/Programmed"],
    ],
  ])("where others run it, its addresses are %s", (_, addresses, where, conditions) => {
    const objects = [
      ours({ addresses }),
      service(`${where}/wp`, { ports }),
      slice(`${where}/wp-1`, "wp", { endpoints: [{ addresses: ["10.1.0.1"] }], ports }),
    ];
    expect(serve(objects).conditions("Gateway", "shop/wp")).toEqual([...conditions, "ResolvedRefs=True/ResolvedRefs"]);
  });

  test("endpoints of a port that a waypoint of ours just got are on their way", () => {
    const two = [
      { name: "mesh", port: 15_008, protocol: "HBONE" },
      { name: "more", port: 80, protocol: "HTTP" },
    ];
    const made = service(
      "shop/wp",
      { ports: [...ports, { name: "more", port: 80 }] },
      { labels: { "gateway.istio.io/managed": "istio.io-mesh-controller" } },
    );
    expect(serve([ours({ listeners: two }), made, ready]).conditions("Gateway", "shop/wp")).toContain(
      "Programmed=True/Programmed",
    );
  });

  test("addresses once given stay when all endpoints go", () => {
    const before = { ...ours(), status: { addresses: [{ type: "Hostname", value: "wp.shop.svc.cluster.local" }] } };
    const served = serve([before, back, service("shop/cart", {}, { labels: use("wp") })]);
    expect(served.conditions("Gateway", "shop/wp")).toContain("Programmed=False/AddressNotAssigned");
    expect(served.service(svc)["waypoint"]).toBeDefined();
  });

  test("a listener of another protocol is refused by itself", () => {
    const status = statusOf([ours({ listeners: [{ name: "web", port: 80, protocol: "HTTP" }] })]);
    expect(status?.listeners?.[0]?.conditions[0]).toMatchObject({
      type: "Accepted",
      status: "False",
      reason: "UnsupportedProtocol",
    });
    expect(status?.conditions?.[0]).toMatchObject({ type: "Accepted", status: "True", reason: "Accepted" });
  });
});

test.each([
  ["istio.io/mesh-controller", ["Accepted=True/Accepted"]],
  ["istio.io/unmanaged-gateway", ["Accepted=True/Accepted"]],
  ["istio.io/gateway-controller", []],
  ["example.com/theirs", []],
])("a class of controller %s: %j", (controllerName, expected) => {
  const served = serve([object("gateway.networking.k8s.io/v1", "GatewayClass", "mine", { spec: { controllerName } })]);
  expect(served.conditions("GatewayClass", "/mine")).toEqual(expected);
});

test("a condition that has become wrong is taken back", () => {
  const stale = {
    ...service("shop/cart", {}),
    status: { conditions: [{ type: "istio.io/WaypointBound", status: "True", reason: "WaypointAccepted" }] },
  };
  expect(serve([stale]).form.status).toEqual([]);
  expect(serve([stale]).updates).toMatchObject([
    {
      kind: "Service",
      ownedConditions: ["istio.io/WaypointBound", "ambit.dev/WaypointRequired"],
      status: { conditions: [] },
    },
  ]);
  expect(serve([service("shop/cart", {})]).updates).toEqual([]);
});
