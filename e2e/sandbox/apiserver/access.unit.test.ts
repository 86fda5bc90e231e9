import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { authorize, refusalText, type Attributes } from "./authorizer.ts";
import { MemoryObjectStore, type KubeObject } from "./object-store.ts";
import { readRequest, readUrl } from "./request-info.ts";
import { ids } from "./resources.ts";
import { defaultAudiences, requestToken, ServiceAccountTokens, serviceAccountUser } from "./service-account-tokens.ts";

const rbac = "rbac.authorization.k8s.io/v1";

function openStore(): MemoryObjectStore {
  const store = new MemoryObjectStore({ clock: new FakeClock() });
  store.create(ids.serviceAccounts, {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: "web", namespace: "shop" },
  });
  store.create(ids.clusterRoles, {
    apiVersion: rbac,
    kind: "ClusterRole",
    metadata: { name: "reader", labels: { sum: "yes" } },
    rules: [
      { apiGroups: [""], resources: ["pods"], verbs: ["get", "list"] },
      { nonResourceURLs: ["/metrics/*"], verbs: ["get"] },
    ],
  });
  store.create(ids.clusterRoles, {
    apiVersion: rbac,
    kind: "ClusterRole",
    metadata: { name: "sum" },
    aggregationRule: { clusterRoleSelectors: [{ matchLabels: { sum: "yes" } }] },
  });
  store.create(ids.roles, {
    apiVersion: rbac,
    kind: "Role",
    metadata: { name: "one-map", namespace: "shop" },
    rules: [
      { apiGroups: [""], resources: ["configmaps"], resourceNames: ["mine"], verbs: ["*"] },
      { apiGroups: ["*"], resources: ["*/status"], verbs: ["patch"] },
    ],
  });
  store.create(ids.roleBindings, {
    apiVersion: rbac,
    kind: "RoleBinding",
    metadata: { name: "b", namespace: "shop" },
    roleRef: { kind: "Role", name: "one-map" },
    subjects: [{ kind: "ServiceAccount", name: "web", namespace: "shop" }],
  });
  store.create(ids.clusterRoleBindings, {
    apiVersion: rbac,
    kind: "ClusterRoleBinding",
    metadata: { name: "g" },
    roleRef: { kind: "ClusterRole", name: "sum" },
    subjects: [{ kind: "Group", name: "system:serviceaccounts:shop" }],
  });
  return store;
}

const resource = (
  verb: string,
  name: string,
  rest: Partial<Extract<Attributes, { kind: "resource" }>> = {},
): Attributes => ({ kind: "resource", verb, group: "", resource: name, ...rest });

// prettier-ignore
test.each<[string, Attributes, boolean]>([
  ["an aggregated role, by group",      resource("list", "pods", { namespace: "other" }), true],
  ["a verb that is not granted",        resource("delete", "pods", { namespace: "shop" }), false],
  ["a subresource is another thing",    resource("get", "pods", { subresource: "log" }), false],
  ["a named object",                    resource("update", "configmaps", { namespace: "shop", name: "mine" }), true],
  ["another object",                    resource("update", "configmaps", { namespace: "shop", name: "yours" }), false],
  ["a named object is no list",         resource("list", "configmaps", { namespace: "shop" }), false],
  ["another namespace",                 resource("update", "configmaps", { namespace: "other", name: "mine" }), false],
  ["the status of anything",            resource("patch", "things", { group: "x.io", namespace: "shop", subresource: "status" }), true],
  ["a path below a prefix",             { kind: "other", verb: "get", path: "/metrics/cadvisor" }, true],
  ["a path beside it",                  { kind: "other", verb: "get", path: "/logs" }, false],
])("the authorizer: %s", (_name, asked, expected) => {
  expect(authorize(serviceAccountUser("shop", "web"), asked, openStore()).allowed).toBe(expected);
});

test("administrators may do everything; refusals say who wanted what where", () => {
  const asked = resource("delete", "nodes", { name: "n1" });
  expect(authorize({ name: "root", groups: ["system:masters"] }, asked, openStore()).allowed).toBe(true);
  expect(refusalText(serviceAccountUser("shop", "web"), asked)).toBe(
    'nodes "n1" is forbidden: User "system:serviceaccount:shop:web" cannot delete resource "nodes" in API group "" at the cluster scope',
  );
});

describe("service account tokens", () => {
  function open() {
    const clock = new FakeClock();
    const store = openStore();
    const tokens = new ServiceAccountTokens({ clock, store });
    const account = store.get(ids.serviceAccounts, "shop", "web") as KubeObject;
    const pod = store.create(ids.pods, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "p", namespace: "shop" },
      spec: { serviceAccountName: "web", nodeName: "n1" },
    });
    const ask = (spec: object) =>
      (requestToken(account, { spec }, { tokens, store })["status"] as { token: string }).token;
    return { clock, store, tokens, account, pod, ask };
  }
  const bound = { kind: "Pod", apiVersion: "v1", name: "p" };

  test("name the account and the pod they are bound to", () => {
    const { tokens, ask, pod } = open();
    expect(tokens.check(ask({ audiences: ["istio-ca"], boundObjectRef: bound }), ["istio-ca"])).toMatchObject({
      audiences: ["istio-ca"],
      user: {
        name: "system:serviceaccount:shop:web",
        extra: {
          "authentication.kubernetes.io/pod-name": ["p"],
          "authentication.kubernetes.io/pod-uid": [pod.metadata.uid],
        },
      },
    });
  });

  test("are refused for another audience, when altered, expired, or by another server", async () => {
    const { tokens, ask, clock } = open();
    const token = ask({ audiences: ["istio-ca"], expirationSeconds: 600 });
    expect(tokens.check(token, defaultAudiences)).toMatchObject({ error: expect.stringContaining("audiences") });
    expect(tokens.check(`${token.slice(0, -4)}AAAA`, ["istio-ca"])).toEqual({ error: "invalid bearer token" });
    expect(
      tokens.check(token.replace(/^[^.]+/u, Buffer.from('{"alg":"none"}').toString("base64url")), ["istio-ca"]),
    ).toEqual({ error: "invalid bearer token" });
    expect(open().tokens.check(token, ["istio-ca"])).toEqual({ error: "invalid bearer token" });
    await clock.advance(601_000);
    expect(tokens.check(token, ["istio-ca"])).toEqual({ error: "service account token has expired" });
  });

  test("end with the pod and with the account", () => {
    const first = open();
    const token = first.ask({ boundObjectRef: bound });
    first.store.delete(ids.pods, "shop", "p");
    expect(first.tokens.check(token, defaultAudiences)).toEqual({
      error: "service account token has been invalidated",
    });
    const second = open();
    const other = second.ask({});
    second.store.delete(ids.serviceAccounts, "shop", "web");
    expect(second.tokens.check(other, defaultAudiences)).toMatchObject({
      error: expect.stringContaining("has been deleted"),
    });
  });

  test("are not issued for less than ten minutes or for a pod of another account", () => {
    const { ask, store } = open();
    expect(() => ask({ expirationSeconds: 60 })).toThrow("may not specify a duration less than 10 minutes");
    store.create(ids.pods, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "q", namespace: "shop" },
      spec: { serviceAccountName: "db" },
    });
    expect(() => ask({ boundObjectRef: { ...bound, name: "q" } })).toThrow("different serviceaccount name");
    expect(() => ask({ boundObjectRef: { ...bound, uid: "x" } })).toThrow("does not match the UID in record");
  });
});

// prettier-ignore
test.each([
  ["GET",    "/api/v1/namespaces/shop/pods/p/log",   { verb: "get", resource: "pods", namespace: "shop", name: "p", subresource: "log" }],
  ["GET",    "/api/v1/pods?watch=true",              { verb: "watch", resource: "pods" }],
  ["GET",    "/api/v1/namespaces/shop",              { verb: "get", resource: "namespaces", name: "shop" }],
  ["PUT",    "/api/v1/namespaces/shop/finalize",     { verb: "update", resource: "namespaces", name: "shop", subresource: "finalize" }],
  ["DELETE", "/apis/apps/v1/namespaces/a/deployments", { verb: "deletecollection", group: "apps", resource: "deployments", namespace: "a" }],
  ["PATCH",  "/apis/x.io/v1/things/a%2Fb/status",    { verb: "patch", group: "x.io", resource: "things", name: "a/b", subresource: "status" }],
  ["GET",    "/apis/apps/v1",                        { kind: "other", path: "/apis/apps/v1" }],
  ["GET",    "/healthz",                             { kind: "other" }],
  ["GET",    "/api/v1/namespaces/shop/pods/%zz",     { name: "%zz" }],
])("%s %s is read as a request", (method, url, expected) => {
  const { path, query } = readUrl(url);
  expect(readRequest(method, path, query)).toMatchObject(expected);
});
