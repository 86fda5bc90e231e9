/** A client that routes for itself goes by one object: a waypoint, for everybody, by all of them. */
import { expect, test } from "@jest/globals";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { namespace, object, serve, service } from "#controlplane/translate/small-world.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { translate } from "#controlplane/translate/translate.ts";
import { proxylessContext } from "../proxyless.ts";
import { proxyFacts } from "../view.ts";
import { httpRoutesFor } from "./routes-for.ts";

type Json = Readonly<Record<string, unknown>>;

const host = "cart.shop.svc.cluster.local";
const virtualService = (path: string, name: string, spec: Json = {}, match: readonly Json[] = []): KubeObject =>
  object("networking.istio.io/v1", "VirtualService", path, {
    spec: { hosts: [host], http: [{ name, match, route: [{ destination: { host } }] }], ...spec },
  });
const httpRoute = (path: string, value: string): KubeObject =>
  object("gateway.networking.k8s.io/v1", "HTTPRoute", path, {
    spec: {
      parentRefs: [{ group: "", kind: "Service", name: "cart", namespace: "shop" }],
      rules: [{ name: value, backendRefs: [{ name: "cart", namespace: "shop", port: 80 }] }],
    },
  });

/** Names of the routes that a client of namespace `web` goes by. */
function namesFor(objects: readonly KubeObject[], labels: Readonly<Record<string, string>> = {}): readonly string[] {
  const { world } = serve([namespace("shop"), namespace("web"), service("shop/cart", {}), ...objects]);
  const { collected } = translate(world, defaultOptions);
  const facts = proxyFacts(world, "", { namespace: "web", name: "client", node: "", ips: [] });
  const context = proxylessContext(collected, "web", { ...facts, labels: new Map(Object.entries(labels)) });
  const cart = context.findService(host, "web");
  const [port] = cart?.ports ?? [];
  if (cart === undefined || port === undefined) throw new Error("there is no cart");
  return httpRoutesFor(context, cart, port, "client").routes.map(({ name }) => name);
}

// prettier-ignore
test.each<[string, readonly KubeObject[], readonly string[]]>([
  ["the oldest of several, of whatever namespace", [virtualService("web/b", "old"), virtualService("shop/a", "young")], ["old"]],
  ["nothing of the younger, where the oldest does not match", [virtualService("shop/a", "old", {}, [{ uri: { prefix: "/a" } }]), virtualService("shop/b", "young")], ["old"]],
  ["an exact host before a wildcard",              [virtualService("shop/a", "wide", { hosts: ["*.svc.cluster.local"] }), virtualService("shop/b", "exact")], ["exact"]],
  ["a longer wildcard before a shorter",           [virtualService("shop/a", "wide", { hosts: ["*.cluster.local"] }), virtualService("shop/b", "longer", { hosts: ["*.shop.svc.cluster.local"] })], ["longer"]],
  ["none that is not exported to it",              [virtualService("shop/a", "own", { exportTo: ["."] })], []],
  ["routes of its own namespace",                  [httpRoute("shop/a", "producer"), httpRoute("web/b", "consumer")], ["web.b.consumer"]],
  ["else those of the service's",                  [httpRoute("shop/a", "producer"), httpRoute("other/b", "stranger")], ["shop.a.producer"]],
  ["the older of both kinds",                      [httpRoute("shop/a", "producer"), virtualService("shop/b", "younger")], ["shop.a.producer"]],
  ["where it has no route, none",                  [], []],
])("it goes by %s", (_what, objects, expected) => {
  expect(namesFor(objects)).toEqual(expected);
});

test("its own labels and namespace count", () => {
  const rules = virtualService("shop/a", "r", {}, [
    { name: "labels", sourceLabels: { app: "web" }, headers: { x: {} } },
    { name: "namespace", sourceNamespace: "web", headers: { y: {} } },
    { name: "other", sourceNamespace: "shop" },
  ]);
  expect(namesFor([rules], { app: "web", version: "v1" })).toEqual(["r.labels", "r.namespace"]);
  expect(namesFor([rules], { app: "other" })).toEqual(["r.namespace"]);
});
