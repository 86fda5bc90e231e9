import { once } from "node:events";
import { createServer, request, type RequestOptions, type Server } from "node:https";
import type { IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { json, text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { systemClock } from "#shared/clock/clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { createApiServer, type ApiServer } from "./api-server.ts";
import { makeServingCertificates, type ServingCertificates } from "./certificates.ts";
import { MemoryObjectStore, type KubeObject } from "./object-store.ts";
import { RangeAllocator } from "./range-allocator.ts";
import { builtInResources, ids, type ResourceInfo } from "./resources.ts";
import type { JsonObject } from "./schema.ts";
import { meetsConditions, selects, versionFor, type WriteKind } from "./webhook-match.ts";

const configMaps = builtInResources.find(({ resource }) => resource === "configmaps") as ResourceInfo;
const namespaces = builtInResources.find(({ resource }) => resource === "namespaces") as ResourceInfo;
const hooks = builtInResources.find(({ resource }) => resource === "validatingwebhookconfigurations") as ResourceInfo;
const things: ResourceInfo = {
  ...configMaps,
  group: "x.io",
  resource: "things",
  versions: ["v2", "v1"].map((name) => ({ name, schema: {}, hasStatus: true })),
};

const kindOf = (info: ResourceInfo, more: Partial<WriteKind> = {}): WriteKind => ({
  operation: "CREATE",
  info,
  version: info.versions[0] as WriteKind["version"],
  subresource: undefined,
  ...more,
});

describe("which webhooks a write concerns", () => {
  const rule = (more: JsonObject = {}): JsonObject => ({
    operations: ["CREATE"],
    apiGroups: ["x.io"],
    apiVersions: ["v1"],
    resources: ["things"],
    scope: "*",
    ...more,
  });

  // prettier-ignore
  test.each<[string, JsonObject, WriteKind, string | undefined]>([
    ["another version of the same thing", { rules: [rule()] },                                     kindOf(things), "v1"],
    ["not where the match is exact",     { rules: [rule()], matchPolicy: "Exact" },                kindOf(things), undefined],
    ["the version asked for goes first", { rules: [rule({ apiVersions: ["*"] })] },                kindOf(things), "v2"],
    ["another operation",                { rules: [rule({ operations: ["UPDATE"] })] },            kindOf(things), undefined],
    ["any operation",                    { rules: [rule({ operations: ["*"] })] },                 kindOf(things, { operation: "DELETE" }), "v1"],
    ["another group",                    { rules: [rule({ apiGroups: ["y.io"] })] },               kindOf(things), undefined],
    ["one of several rules",             { rules: [rule({ apiGroups: ["y.io"] }), rule()] },       kindOf(things), "v1"],
    ["a star is no status",              { rules: [rule({ resources: ["*"] })] },                  kindOf(things, { subresource: "status" }), undefined],
    ["the status of everything",         { rules: [rule({ resources: ["*/status"] })] },           kindOf(things, { subresource: "status" }), "v1"],
    ["every part of a thing",            { rules: [rule({ resources: ["things/*"] })] },           kindOf(things, { subresource: "scale" }), "v1"],
    ["the wrong scope",                  { rules: [rule({ scope: "Cluster" })] },                  kindOf(things), undefined],
    ["webhooks themselves, never",       { rules: [rule({ apiGroups: ["*"], apiVersions: ["*"], resources: ["*"] })] }, kindOf(hooks), undefined],
  ])("%s", (_why, webhook, write, version) => {
    expect(versionFor(webhook, write)?.name).toBe(version);
  });

  const labelled = (labels: Record<string, string>): KubeObject => ({
    apiVersion: "v1",
    kind: "Any",
    metadata: { name: "a", uid: "", resourceVersion: "", creationTimestamp: "", labels },
  });
  const on = { matchLabels: { on: "yes" } };
  const [yes, no] = [labelled({ on: "yes" }), labelled({})];

  // prettier-ignore
  test.each<[string, JsonObject, WriteKind, readonly (KubeObject | undefined)[], KubeObject | undefined, boolean]>([
    ["no selectors",                   {},                          kindOf(configMaps), [no, undefined], no,        true],
    ["its namespace",                  { namespaceSelector: on },   kindOf(configMaps), [no, undefined], yes,       true],
    ["not its namespace",              { namespaceSelector: on },   kindOf(configMaps), [yes, undefined], no,       false],
    ["a namespace is its own",         { namespaceSelector: on },   kindOf(namespaces), [yes, undefined], undefined, true],
    ["what has none",                  { namespaceSelector: on },   kindOf(hooks),      [no, undefined], undefined, true],
    ["its labels",                     { objectSelector: on },      kindOf(configMaps), [yes, undefined], no,       true],
    ["those that it had",              { objectSelector: on },      kindOf(configMaps), [no, yes],        no,       true],
    ["neither",                        { objectSelector: on },      kindOf(configMaps), [no, no],         no,       false],
  ])("selects %s", (_why, webhook, write, objects, home, expected) => {
    expect(selects(webhook, write, objects, home)).toBe(expected);
  });

  const conditions = (...expressions: readonly string[]) => ({
    matchConditions: expressions.map((expression, at) => ({ name: `c${at}`, expression })),
  });

  // prettier-ignore
  test.each<[string, JsonObject, boolean | "failed"]>([
    ["none",                                  {},                                                              true],
    ["all hold",                              conditions("object.kind == 'Any'", "request.operation == 'CREATE'"), true],
    ["one does not",                          conditions("true", "object.kind == 'Other'"),                    false],
    ["one that is false beats one that fails", conditions("object.a.b", "false"),                              false],
    ["one fails",                             conditions("object.a.b == 1"),                                   "failed"],
    ["what is not there is null",             conditions("oldObject == null"),                                 true],
  ])("conditions: %s", (_why, webhook, expected) => {
    const met = meetsConditions(webhook, { operation: "CREATE", object: { kind: "Any" } });
    expect(typeof met === "object" ? "failed" : met).toBe(expected);
  });
});

interface Review {
  readonly request: JsonObject & { readonly uid: string; readonly object?: JsonObject; readonly operation: string };
}
type Answer = JsonObject | "hang" | "garbage" | 500;

describe("webhooks in force", () => {
  let api: ApiServer;
  let store: MemoryObjectStore;
  let apiPort: number;
  let hook: Server;
  let certificates: ServingCertificates;
  const reviews: Review["request"][] = [];
  let answer: (review: Review["request"]) => Answer | Promise<Answer> = () => ({ allowed: true });

  beforeAll(async () => {
    store = new MemoryObjectStore({ clock: systemClock });
    api = await createApiServer({
      store,
      runtime: {
        logs: async function* () {},
        exec: () => Promise.resolve(0),
        connect: () => Promise.reject(new Error("no pods here")),
      },
      allocator: new RangeAllocator(),
      clock: systemClock,
      log: silentLogger,
    });
    apiPort = (await api.listen({ host: "127.0.0.1", port: 0 })) ?? 0;
    certificates = await makeServingCertificates(["hook.default.svc", "127.0.0.1"], systemClock.now());
    hook = createServer({ cert: certificates.certificatePem, key: certificates.keyPem }, (asked, response) => {
      void (async () => {
        const { request: review } = (await json(asked)) as Review;
        reviews.push(review);
        const said = await answer(review);
        if (said === "hang") return;
        response.writeHead(said === 500 ? 500 : 200);
        if (said === 500 || said === "garbage") response.end("oops");
        else {
          const body = { apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview" };
          response.end(JSON.stringify({ ...body, response: { uid: review.uid, ...said } }));
        }
      })();
    });
    hook.listen(0, "127.0.0.1");
    await once(hook, "listening");
  });
  afterAll(async () => {
    hook.closeAllConnections();
    hook.close();
    await api.close();
  });
  afterEach(() => {
    reviews.length = 0;
    answer = () => ({ allowed: true });
    for (const { metadata } of store.list(ids.validatingWebhooks))
      store.delete(ids.validatingWebhooks, undefined, metadata.name);
    for (const { metadata } of store.list(ids.configMaps, { namespace: "default" }))
      store.delete(ids.configMaps, metadata.namespace, metadata.name);
    for (const kind of [ids.services, ids.endpointSlices])
      if (store.get(kind, "default", "hook") !== undefined) store.delete(kind, "default", "hook");
  });

  async function ask(method: string, path: string, body?: unknown, type = "application/json") {
    const options: RequestOptions = {
      method,
      ca: api.caPem,
      headers: { authorization: `Bearer ${api.adminToken}`, "content-type": type },
      agent: false,
    };
    const sent = request(`https://127.0.0.1:${apiPort}${path}`, options).end(
      body === undefined ? "" : JSON.stringify(body),
    );
    const [response] = (await once(sent, "response")) as [IncomingMessage];
    const value = JSON.parse(await text(response)) as KubeObject & { message?: string; reason?: string };
    return { status: response.statusCode, value, warnings: response.headersDistinct["warning"] ?? [] };
  }

  const maps = "/api/v1/namespaces/default/configmaps";
  const map = (name: string, data: JsonObject = {}, metadata: JsonObject = {}) => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name, ...metadata },
    data,
  });
  const bundle = () => Buffer.from(certificates.caPem).toString("base64");
  const url = () => `https://127.0.0.1:${(hook.address() as AddressInfo).port}/validate`;

  async function install(more: JsonObject = {}, client: JsonObject = { url: url(), caBundle: bundle() }) {
    const webhook = {
      name: "maps.hook.io",
      clientConfig: client,
      rules: [{ operations: ["*"], apiGroups: [""], apiVersions: ["v1"], resources: ["configmaps"] }],
      sideEffects: "None",
      admissionReviewVersions: ["v1"],
      ...more,
    };
    return ask("POST", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingWebhookConfiguration",
      metadata: { name: "hooks" },
      webhooks: [webhook],
    });
  }

  test("are asked what will be stored, by whom, and told what was", async () => {
    await install();
    const created = await ask("POST", maps, map("", {}, { name: undefined, generateName: "m-" }));
    const { name, uid } = created.value.metadata;
    expect(reviews).toEqual([
      {
        uid: expect.any(String),
        kind: { group: "", version: "v1", kind: "ConfigMap" },
        resource: { group: "", version: "v1", resource: "configmaps" },
        requestKind: { group: "", version: "v1", kind: "ConfigMap" },
        requestResource: { group: "", version: "v1", resource: "configmaps" },
        name,
        namespace: "default",
        operation: "CREATE",
        userInfo: expect.objectContaining({ groups: expect.arrayContaining(["system:masters"]) }),
        object: expect.objectContaining({ metadata: expect.objectContaining({ name, uid }) }),
        oldObject: null,
        dryRun: false,
        options: expect.objectContaining({ kind: "CreateOptions" }),
      },
    ]);
    await ask("PATCH", `${maps}/${name}`, { data: { a: "1" } }, "application/merge-patch+json");
    await ask("PUT", `${maps}/${name}`, map(name, { a: "2" }));
    await ask(
      "PATCH",
      `${maps}/${name}?fieldManager=x&force=true`,
      map(name, { b: "3" }),
      "application/apply-patch+yaml",
    );
    await ask("DELETE", `${maps}/${name}`);
    expect(
      reviews
        .slice(1)
        .map(({ operation, object, oldObject }) => [operation, object?.["data"], (oldObject as JsonObject)["data"]]),
    ).toEqual([
      ["UPDATE", { a: "1" }, {}],
      ["UPDATE", { a: "2" }, { a: "1" }],
      ["UPDATE", { a: "2", b: "3" }, { a: "2" }],
      ["DELETE", undefined, { a: "2", b: "3" }],
    ]);
  });

  test("refuse in their own words, and nothing is stored", async () => {
    await install();
    answer = () => ({
      allowed: false,
      status: { code: 400, reason: "BadRequest", message: "no “maps”" },
      warnings: ["twice – never"],
    });
    const { status, value, warnings } = await ask("POST", maps, map("a"));
    expect(status).toBe(400);
    expect(value).toMatchObject({
      reason: "BadRequest",
      message: 'admission webhook "maps.hook.io" denied the request: no “maps”',
    });
    expect(warnings.map((each) => Buffer.from(each, "latin1").toString("utf8"))).toEqual(['299 - "twice – never"']);
    expect(store.get(ids.configMaps, "default", "a")).toBeUndefined();
    answer = () => ({ allowed: false });
    expect((await ask("POST", maps, map("a"))).value.message).toBe(
      'admission webhook "maps.hook.io" denied the request without explanation',
    );
  });

  test("warn", async () => {
    await install();
    answer = () => ({ allowed: true, warnings: ['say "less"', "two\nlines"] });
    const { status, warnings } = await ask("POST", maps, map("a"));
    expect(status).toBe(201);
    expect(warnings).toEqual([String.raw`299 - "say \"less\""`, '299 - "two lines"']);
  });

  test("see dry runs as such, and only those without side effects are asked", async () => {
    await install();
    await ask("POST", `${maps}?dryRun=All`, map("a"));
    expect(reviews).toMatchObject([{ dryRun: true }]);
    expect(store.get(ids.configMaps, "default", "a")).toBeUndefined();
  });

  test("that cannot be asked are a refusal, or passed over", async () => {
    const nobody = { service: { namespace: "default", name: "hook" }, caBundle: bundle() };
    await install({}, nobody);
    const { status, value } = await ask("POST", maps, map("a"));
    expect(status).toBe(500);
    expect(value.message).toBe(
      'Internal error occurred: failed calling webhook "maps.hook.io": failed to call webhook: service "hook" not found',
    );
    store.delete(ids.validatingWebhooks, undefined, "hooks");
    await install({ failurePolicy: "Ignore" }, nobody);
    expect((await ask("POST", maps, map("a"))).status).toBe(201);
  });

  // prettier-ignore
  test.each<[string, Answer, string]>([
    ["no answer in time", "hang",                    "context deadline exceeded"],
    ["no JSON",           "garbage",                 "not valid JSON"],
    ["an error",          500,                       "the server answered 500: oops"],
    ["another's answer",  { uid: "other", allowed: true }, "expected response.uid="],
  ])("%s is no answer", async (_what, said, why) => {
    // Only who says nothing is waited for until then.
    const timeoutSeconds = said === "hang" ? 1 : 30;
    await install({ timeoutSeconds });
    answer = () => said;
    const { status, value } = await ask("POST", maps, map("a"));
    expect(status).toBe(500);
    expect(value.message).toContain('failed calling webhook "maps.hook.io": failed to call webhook: Post "https://');
    expect(value.message).toContain(`/validate?timeout=${timeoutSeconds}s`);
    expect(value.message).toContain(why);
  });

  test("prove themselves by the bundle", async () => {
    const stranger = await makeServingCertificates(["127.0.0.1"], systemClock.now());
    await install({}, { url: url(), caBundle: Buffer.from(stranger.caPem).toString("base64") });
    expect((await ask("POST", maps, map("a"))).value.message).toMatch(/certificate|signature/);
    expect(reviews).toEqual([]);
  });

  test("behind a service are found by its endpoints, under the service's name", async () => {
    store.create(ids.services, {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "hook", namespace: "default" },
      spec: { ports: [{ name: "https", port: 443, targetPort: 9443 }] },
    });
    await install({}, { service: { namespace: "default", name: "hook", path: "/validate" }, caBundle: bundle() });
    expect((await ask("POST", maps, map("a"))).value.message).toContain('no endpoints available for service "hook"');
    store.create(ids.endpointSlices, {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: "hook", namespace: "default", labels: { "kubernetes.io/service-name": "hook" } },
      addressType: "IPv4",
      endpoints: [{ addresses: ["127.0.0.1"], conditions: { ready: true } }],
      ports: [{ name: "https", port: (hook.address() as AddressInfo).port, protocol: "TCP" }],
    });
    expect((await ask("POST", maps, map("a"))).status).toBe(201);
    expect(reviews).toHaveLength(1);
  });

  test("what changed while they looked is looked at again; who named a version is told", async () => {
    await install();
    await ask("POST", maps, map("a", { n: "0" }));
    let others = 2;
    let written = 0;
    answer = ({ object }) => {
      if (others-- > 0) {
        const now = structuredClone(store.get(ids.configMaps, "default", "a")) as KubeObject;
        store.update(ids.configMaps, { ...now, data: { ...(now["data"] as JsonObject), other: String(++written) } });
      }
      return { allowed: object !== undefined };
    };
    const patched = await ask("PATCH", `${maps}/a`, { data: { n: "1" } }, "application/merge-patch+json");
    expect(patched.value["data"]).toEqual({ n: "1", other: "2" });
    others = 1;
    const { resourceVersion } = patched.value.metadata;
    const replaced = await ask("PUT", `${maps}/a`, map("a", { n: "2" }, { resourceVersion }));
    expect(replaced).toMatchObject({ status: 409, value: { reason: "Conflict" } });
  });

  // prettier-ignore
  test.each<[string, JsonObject, string]>([
    ["a short name",      { name: "hook" },                     "webhooks[0].name"],
    ["side effects",      { sideEffects: "Unknown" },           "webhooks[0].sideEffects"],
    ["another review",    { admissionReviewVersions: ["v2"] },  "webhooks[0].admissionReviewVersions"],
    ["a long wait",       { timeoutSeconds: 31 },               "webhooks[0].timeoutSeconds"],
    ["plain text",        { clientConfig: { url: "http://a/b" } }, "webhooks[0].clientConfig.url"],
    ["nowhere",           { clientConfig: {} },                 "webhooks[0].clientConfig"],
    ["no expression",     { matchConditions: [{ name: "a", expression: "object." }] }, "webhooks[0].matchConditions[0].expression"],
  ])("are not configured with %s", async (_what, more, field) => {
    const { status, value } = await install(more);
    expect(status).toBe(422);
    expect(value.message).toContain(`${field}: `);
  });

  test("that would mutate are not called, and whoever installs them is told", async () => {
    const { warnings } = await ask("POST", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "MutatingWebhookConfiguration",
      metadata: { name: "hooks" },
      webhooks: [],
    });
    expect(warnings).toEqual(['299 - "this server calls validating webhooks only"']);
  });
});
