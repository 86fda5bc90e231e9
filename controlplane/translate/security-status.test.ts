import { describe, expect, test } from "@jest/globals";
import { meshConfig, namespace, object, policy, serve, service, waypoint, type Served } from "./small-world.ts";

const base = [
  namespace("shop", { labels: { "istio.io/use-waypoint": "waypoint" } }),
  waypoint("shop/waypoint", { spec: { gatewayClassName: "istio-waypoint" } }),
  service("shop/web", { ports: [{ name: "http", port: 80 }] }),
  service("shop/cache", { clusterIP: "10.96.0.2", ports: [{ name: "tcp", port: 6379 }] }),
];
const on = (name: string) => ({ targetRefs: [{ group: "", kind: "Service", name }] });
const tokens = (spec: object) => object("security.istio.io/v1", "RequestAuthentication", "shop/users", { spec });

function condition(served: Served, kind: string, path: string) {
  const update = served.updates.find((each) => each.kind === kind && `${each.namespace}/${each.name}` === path);
  const found = update?.status.conditions?.[0];
  return { said: `${found?.type}=${found?.status}/${found?.reason}`, message: found?.message ?? "" };
}

describe("AuthorizationPolicy", () => {
  test.each<[string, object, string, string]>([
    [
      "in force",
      { ...on("web"), rules: [{ to: [{ operation: { paths: ["/a"] } }] }] },
      "WaypointAccepted=True/Accepted",
      "bound to shop/waypoint",
    ],
    [
      "asking for what connections do not have",
      { ...on("cache"), action: "DENY", rules: [{ to: [{ operation: { paths: ["/a"], methods: ["GET"] } }] }] },
      "WaypointAccepted=True/PartiallyInvalid",
      "methods, paths are not known of connections to TCP ports (cache.shop.svc.cluster.local:6379): rules go without them",
    ],
    [
      "naming an authorizer that is not there",
      { ...on("web"), action: "CUSTOM", provider: { name: "opa" }, rules: [{}] },
      "WaypointAccepted=True/PartiallyInvalid",
      'no extension provider "opa"',
    ],
    [
      "naming an authorizer whose service is not there",
      { ...on("web"), action: "CUSTOM", provider: { name: "lost" }, rules: [{}] },
      "WaypointAccepted=True/PartiallyInvalid",
      'service "lost.shop.svc.cluster.local" port 9000 of extension provider "lost" was not found',
    ],
  ])("%s", (_what, spec, said, message) => {
    const mesh = meshConfig({
      extensionProviders: [{ name: "lost", envoyExtAuthzGrpc: { service: "lost.shop.svc.cluster.local", port: 9000 } }],
    });
    const found = condition(serve([...base, mesh, policy("shop/p", { ...spec })]), "AuthorizationPolicy", "shop/p");
    expect(found.said).toBe(said);
    expect(found.message).toContain(message);
  });
});

test("several authorizers for one target are told of, at each", () => {
  const ask = (path: string, provider: string, spec: object) =>
    policy(path, { action: "CUSTOM", provider: { name: provider }, rules: [{}], ...spec });
  const gateway = { group: "gateway.networking.k8s.io", kind: "Gateway", name: "waypoint" };
  const served = serve([
    ...base,
    service("shop/authorizer", { clusterIP: "10.96.0.3", ports: [{ name: "grpc", port: 9000 }] }),
    meshConfig({
      extensionProviders: ["one", "two"].map((name) => ({
        name,
        envoyExtAuthzGrpc: { service: "authorizer.shop.svc.cluster.local", port: 9000 },
      })),
    }),
    ask("shop/a", "one", on("web")),
    ask("shop/b", "two", { targetRefs: [gateway] }),
    ask("shop/c", "two", on("cache")),
  ]);
  const told = (path: string) => condition(served, "AuthorizationPolicy", path).message;
  expect(told("shop/a")).toContain('shop/b ("two") names another extension provider for the same target');
  expect(told("shop/b")).toContain('shop/a ("one") names another extension provider');
  expect(told("shop/c")).not.toContain("another extension provider");
});

describe("RequestAuthentication", () => {
  const jwks = '{"keys":[{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}]}';
  test.each<[string, object, string, string]>([
    ["in force", { ...on("web"), jwtRules: [{ issuer: "i", jwks }] }, "WaypointAccepted=True/Accepted", "bound to"],
    [
      "with keys still to come",
      { ...on("web"), jwtRules: [{ issuer: "i", jwksUri: "https://i/keys" }] },
      "WaypointAccepted=True/PartiallyInvalid",
      'issuer "i": keys from https://i/keys are not fetched yet; its tokens are refused',
    ],
    [
      "with keys that cannot be used",
      { ...on("web"), jwtRules: [{ issuer: "i", jwks: '{"keys":[]}' }] },
      "WaypointAccepted=True/PartiallyInvalid",
      "no key that can be used",
    ],
    ["without target", { jwtRules: [{ issuer: "i", jwks }] }, "WaypointAccepted=False/Invalid", "in targetRefs"],
    ["of nothing", { ...on("none"), jwtRules: [] }, "WaypointAccepted=False/TargetNotFound", "was not found"],
  ])("%s", (_what, spec, said, message) => {
    const found = condition(serve([...base, tokens(spec)]), "RequestAuthentication", "shop/users");
    expect(found.said).toBe(said);
    expect(found.message).toContain(message);
  });
});
