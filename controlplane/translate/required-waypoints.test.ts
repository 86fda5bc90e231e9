import { describe, expect, test } from "@jest/globals";
import { requiresWaypoint } from "./required-waypoints.ts";
import { namespace, object, pod, serve, service } from "./small-world.ts";

const meta = (labels: Readonly<Record<string, string>>) =>
  ({
    name: "reviews",
    namespace: "shop",
    uid: "",
    labels: new Map(Object.entries(labels)),
    annotations: new Map(),
    generation: 1,
    createdMs: 0,
    isDeleting: false,
    generateName: "",
    owners: [],
  }) as const;

// prettier-ignore
test.each([ // labels of the service, of its namespace, required?
  [{},                                                              {},                                  false],
  [{ "ambit.dev/waypoint": "required" },                            {},                                  true],
  [{},                                                              { "ambit.dev/waypoint": "required" }, true],
  [{ "ambit.dev/waypoint": "optional" },                            { "ambit.dev/waypoint": "required" }, false],
  [{ "ambit.dev/waypoint": "Required" },                            {},                                  false],
  // A waypoint's own service.
  [{ "gateway.istio.io/managed": "istio.io-mesh-controller" },      { "ambit.dev/waypoint": "required" }, false],
])("service %j in namespace %j", (labels: Readonly<Record<string, string>>, ofNamespace: Readonly<Record<string, string>>, expected) => {
  expect(requiresWaypoint(meta(labels), new Map(Object.entries(ofNamespace)))).toBe(expected);
});

describe("what node proxies are told", () => {
  const gateway = (status = {}) =>
    object("gateway.networking.k8s.io/v1", "Gateway", "shop/way", {
      spec: { gatewayClassName: "istio-waypoint", listeners: [{ name: "mesh", port: 15_008, protocol: "HBONE" }] },
      status,
    });
  const ready = { addresses: [{ type: "Hostname", value: "way.shop.svc.cluster.local" }] };
  const backend = [
    namespace("shop"),
    service(
      "shop/reviews",
      { selector: { app: "reviews" }, ports: [{ name: "http", port: 80, targetPort: "web" }] },
      { labels: { "ambit.dev/waypoint": "required", "istio.io/use-waypoint": "way" } },
    ),
    pod("shop/reviews", { spec: { containers: [{ ports: [{ name: "web", containerPort: 8080 }] }] } }),
  ];
  const serviceName = "shop/reviews.shop.svc.cluster.local";
  const policyName = "shop/ambit_required_waypoint_reviews";
  const denying = (match: Readonly<Record<string, unknown>>) => ({
    name: "ambit_required_waypoint_reviews",
    namespace: "shop",
    action: "DENY",
    scope: "WORKLOAD_SELECTOR",
    groups: [{ rules: [{ matches: [match] }] }],
  });

  test("while there is no waypoint, callers are sent where nobody answers, and pods refuse everybody", () => {
    const served = serve([...backend, gateway()]);
    expect(served.service(serviceName)["waypoint"]).toMatchObject({
      hostname: { namespace: "shop", hostname: "required-waypoint-is-missing.ambit.dev" },
    });
    expect(served.authorization(policyName)).toEqual(denying({ destinationPorts: [8080] }));
    expect(served.pod("shop/reviews")["authorizationPolicies"]).toEqual([policyName]);
    expect(served.conditions("Service", "shop/reviews")).toEqual([
      "istio.io/WaypointBound=False/WaypointIsNotReady",
      "ambit.dev/WaypointRequired=True/FailsClosed",
    ]);
  });

  test("behind a waypoint, pods admit it alone", () => {
    const served = serve([...backend, gateway(ready)]);
    expect(served.service(serviceName)["waypoint"]).toMatchObject({
      hostname: { hostname: "way.shop.svc.cluster.local" },
    });
    expect(served.authorization(policyName)).toEqual(
      denying({ destinationPorts: [8080], notPrincipals: [{ exact: "cluster.local/ns/shop/sa/way" }] }),
    );
    expect(served.conditions("Service", "shop/reviews")).toContain("ambit.dev/WaypointRequired=True/Enforced");
  });

  test("without the label nothing is closed", () => {
    const labels = { "istio.io/use-waypoint": "way" };
    const plain = service("shop/reviews", { selector: { app: "reviews" } }, { labels });
    const served = serve([namespace("shop"), plain, pod("shop/reviews"), gateway()]);
    expect(served.service(serviceName)).not.toHaveProperty("waypoint");
    expect(served.authorizationNames).toEqual([]);
  });
});
