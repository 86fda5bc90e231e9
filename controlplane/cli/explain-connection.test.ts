import { describe, expect, test } from "@jest/globals";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import { World } from "#controlplane/mesh/world.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { object, peerAuthentication, pod, policy, service, waypoint } from "#controlplane/translate/small-world.ts";
import { translate } from "#controlplane/translate/translate.ts";
import { explainConnection, type Answer } from "./explain-connection.ts";

const shop: readonly KubeObject[] = [
  pod("shop/cart", { spec: { serviceAccountName: "cart" }, status: { podIP: "10.0.0.1" } }),
  pod("shop/web", { spec: { serviceAccountName: "web" }, status: { podIP: "10.0.0.2" } }),
  pod("shop/plain", { annotations: {}, status: { podIP: "10.0.0.3" } }),
  service("shop/carts", { clusterIP: "10.96.0.7", selector: { app: "cart" }, ports: [{ port: 80, targetPort: 8080 }] }),
];
const onlyWeb = policy("shop/only-web", {
  selector: { matchLabels: { app: "cart" } },
  rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/web"] } }] }],
});
const strict = peerAuthentication("istio-system/strict", { mtls: { mode: "STRICT" } });

const ask = (objects: readonly KubeObject[], from: string, to: string) => {
  const world = new World();
  for (const each of withApiDefaults(objects.map((each) => ({ object: each })))) world.upsert(each);
  return explainConnection(translate(world, defaultOptions), { from, to });
};

describe("answers", () => {
  test.each<[readonly KubeObject[], string, string, boolean, string]>([
    [shop, "shop/web", "shop/cart:8080", true, "no policy applies"],
    [[...shop, onlyWeb], "shop/web", "shop/carts:80", true, "allowed by: shop/only-web (rule 0)"],
    [[...shop, onlyWeb], "shop/plain", "shop/carts:80", false, "allow policies exist, but none allowed"],
    [[...shop, onlyWeb], "192.0.2.1", "10.96.0.7:80", false, "allow policies exist, but none allowed"],
    [
      [...shop, strict],
      "shop/plain",
      "10.0.0.1:8080",
      false,
      "explicitly denied by: istio-system/istio_converted_static_strict (rule 0)",
    ],
    [[...shop, strict], "shop/web", "shop/plain:80", true, "the destination is not in the mesh"],
  ])("%#: %s → %s", (objects, from, to, allowed, why) => {
    expect(ask(objects, from, to)).toMatchObject([{ allowed, why }]);
  });
});

describe("the way from a waypoint", () => {
  const behind: readonly KubeObject[] = [
    ...shop.filter(({ kind }) => kind !== "Service"),
    waypoint("shop/wp", { spec: { gatewayClassName: "istio-waypoint" } }),
    service(
      "shop/carts",
      { clusterIP: "10.96.0.7", selector: { app: "cart" }, ports: [{ port: 80, targetPort: 8080 }] },
      { labels: { "istio.io/use-waypoint": "wp" } },
    ),
  ];
  const tlsPolicy = (validation: object) =>
    object("gateway.networking.k8s.io/v1", "BackendTLSPolicy", "shop/sealed", {
      spec: {
        targetRefs: [{ group: "", kind: "Service", name: "carts" }],
        validation: { hostname: "carts.example", ...validation },
      },
    });

  test.each<[readonly KubeObject[], string | undefined]>([
    [[], undefined],
    [
      [tlsPolicy({ wellKnownCACertificates: "System" })],
      "that waypoint speaks TLS to it and expects carts.example, by BackendTLSPolicy shop/sealed",
    ],
    [
      [tlsPolicy({ caCertificateRefs: [{ group: "", kind: "ConfigMap", name: "lost" }] })],
      'that waypoint sends nothing to it, for BackendTLSPolicy shop/sealed cannot be met: ConfigMap "shop/lost" was not found',
    ],
  ])("%#", (more, step) => {
    const [answer] = ask([...behind, ...more], "shop/web", "shop/carts:80") as readonly Answer[];
    expect(answer?.steps[0]).toContain("passes its waypoint");
    expect(answer?.steps.find((each) => each.startsWith("that waypoint"))).toBe(step);
  });
});

describe("questions that have no answer say what to ask", () => {
  test.each([
    ["shop/lost", "shop/cart:80", 'no workload "shop/lost"'],
    ["shop/web", "shop/cart", "names no port"],
    ["shop/web", "shop/lost:80", 'nothing in the mesh is called "shop/lost"'],
    ["shop/web", "shop/carts:81", "has no port 81: it has 80"],
  ])("%s → %s", (from, to, error) => {
    expect(ask(shop, from, to)).toEqual({ error: expect.stringContaining(error) });
  });
});
