import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { ApiError } from "./api-error.ts";
import { decodeBody } from "./content.ts";
import { MemoryObjectStore, type NewObject } from "./object-store.ts";
import { RangeAllocator } from "./range-allocator.ts";
import { ResourceRegistry } from "./resource-registry.ts";
import { ids } from "./resources.ts";
import type { JsonObject, Schema } from "./schema.ts";
import { strategiesFor } from "./strategies.ts";
import { applyDefaults, validateValue } from "./validate-value.ts";

describe("values against a schema", () => {
  const text: Schema = { type: "string", minLength: 2, maxLength: 4, pattern: "^[a-z]+$" };
  // prettier-ignore
  test.each<[string, unknown, Schema, string[]]>([
    ["a good text",             "abc",            text,                                                []],
    ["too short",               "a",              text,                                                ['f: Invalid value: "a": f in body should be at least 2 chars long']],
    ["too long",                "abcde",          text,                                                ["f: Too long: may not be more than 4 bytes"]],
    ["against its pattern",     "AB",             text,                                                [`f: Invalid value: "AB": f in body should match '^[a-z]+$'`]],
    ["the wrong type",          1,                text,                                                ['f: Invalid value: "integer": f in body must be of type string: "integer"']],
    ["not in the enum",         "x",              { type: "string", enum: ["a", "b"] },                ['f: Unsupported value: "x": supported values: "a", "b"']],
    ["below the minimum",       0,                { type: "integer", minimum: 1 },                     ["f: Invalid value: 0: f in body should be greater than or equal to 1"]],
    ["at an exclusive maximum", 5,                { type: "integer", maximum: 5, exclusiveMaximum: true }, ["f: Invalid value: 5: f in body should be less than 5"]],
    ["a fraction for a whole",  1.5,              { type: "integer" },                                 ['f: Invalid value: "number": f in body must be of type integer: "number"']],
    ["int or string: number",   8080,             { "x-kubernetes-int-or-string": true },              []],
    ["int or string: text",     "50%",            { "x-kubernetes-int-or-string": true },              []],
    ["int or string: object",   {},               { "x-kubernetes-int-or-string": true },              ['f: Invalid value: "object": f in body must be of type integer,string: "object"']],
    ["an allowed null",         null,             { type: "string", nullable: true },                  []],
    ["too many items",          [1, 2, 3],        { type: "array", maxItems: 2, items: {} },           ["f: Too many: 3: must have at most 2 items"]],
    ["too few items",           [],               { type: "array", minItems: 1, items: {} },           ["f: Invalid value: 0: f in body should have at least 1 items"]],
    ["a repeated key",          [{ n: 1 }, { n: 1 }], { type: "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], items: { type: "object" } }, ['f[1]: Duplicate value: {"n":1}']],
    ["a missing field",         {},               { type: "object", required: ["a"] },                 ["f.a: Required value"]],
    ["a wrong map value",       { a: 1 },         { type: "object", additionalProperties: { type: "string" } }, ['f.a: Invalid value: "integer": f.a in body must be of type string: "integer"']],
    ["none of oneOf",           {},               { type: "object", oneOf: [{ required: ["a"] }, { required: ["b"] }] }, ['f: Invalid value: "": "f" must validate one and only one schema (oneOf). Found none valid']],
    ["both of oneOf",           { a: 1, b: 1 },   { type: "object", oneOf: [{ required: ["a"] }, { required: ["b"] }] }, ['f: Invalid value: "": "f" must validate one and only one schema (oneOf). Found 2 valid alternatives']],
    ["none of anyOf",           {},               { type: "object", anyOf: [{ required: ["a"] }] },    ['f: Invalid value: "": "f" must validate at least one schema (anyOf)']],
    ["what not forbids",        { a: 1 },         { type: "object", not: { required: ["a"] } },        ['f: Invalid value: "": "f" must not validate the schema (not)']],
    ["a bad time",              "yesterday",      { type: "string", format: "date-time" },             ['f: Invalid value: "yesterday": f in body must be of type date-time: "yesterday"']],
    ["a hopeless pattern",      "a".repeat(50_000), { type: "string", pattern: "^(a+)+$" },            []],
  ])("%s", (_name, value, schema, expected) => {
    expect(validateValue(value, schema, "f").map(({ field, message }) => `${field}: ${message}`)).toEqual(expected);
  });

  test("defaults are filled in wherever their parent is", () => {
    const schema: Schema = {
      type: "object",
      properties: {
        a: { type: "string", default: "x" },
        b: { type: "array", items: { type: "object", properties: { c: { type: "integer", default: 1 } } } },
      },
    };
    const value = { b: [{}, { c: 2 }] };
    applyDefaults(value, schema);
    expect(value).toEqual({ a: "x", b: [{ c: 1 }, { c: 2 }] });
  });
});

function openStore(): { store: MemoryObjectStore; registry: ResourceRegistry } {
  const store = new MemoryObjectStore({ clock: new FakeClock() });
  const registry = new ResourceRegistry(store);
  store.installStrategies(strategiesFor({ store, registry, allocator: new RangeAllocator() }));
  store.create(ids.namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
  store.create(ids.serviceAccounts, {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: "default", namespace: "shop" },
  });
  return { store, registry };
}

function refusal(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof ApiError) return error.message;
    throw error;
  }
  return "accepted";
}

const container = { name: "a", image: "a:1" };
const podOf = (spec: JsonObject, name = "p"): NewObject => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "shop" },
  spec,
});
const deploymentOf = (spec: JsonObject): NewObject => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "web", namespace: "shop" },
  spec,
});
const template = { metadata: { labels: { app: "web" } }, spec: { containers: [container] } };
const selector = { matchLabels: { app: "web" } };
const serviceOf = (spec: JsonObject, name = "web"): NewObject => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "shop" },
  spec,
});

describe("built-in kinds", () => {
  // prettier-ignore
  test.each<[string, keyof typeof ids, NewObject, string]>([
    ["a name with capitals",     "pods", podOf({ containers: [container] }, "Web"), 'Pod "Web" is invalid: metadata.name: Invalid value: "Web": a lowercase RFC 1123 subdomain'],
    ["no containers",            "pods", podOf({}), 'Pod "p" is invalid: spec.containers: Required value'],
    ["no image",                 "pods", podOf({ containers: [{ name: "a" }] }), "spec.containers[0].image: Required value"],
    ["two of one name",          "pods", podOf({ containers: [container, container] }), 'spec.containers[1].name: Duplicate value: "a"'],
    ["a volume that is missing", "pods", podOf({ containers: [{ ...container, volumeMounts: [{ name: "x", mountPath: "/x" }] }] }), 'spec.containers[0].volumeMounts[0].name: Not found: "x"'],
    ["a port out of range",      "pods", podOf({ containers: [{ ...container, ports: [{ containerPort: 70_000 }] }] }), "Invalid value: 70000: must be between 1 and 65535, inclusive"],
    ["a port name of 16 letters", "pods", podOf({ containers: [{ ...container, ports: [{ containerPort: 1, name: "a".repeat(16) }] }] }), 'spec.containers[0].ports[0].name: Invalid value: "aaaaaaaaaaaaaaaa": must be no more than 15 characters'],
    ["more than the limit",      "pods", podOf({ containers: [{ ...container, resources: { limits: { cpu: 1 }, requests: { cpu: "1500m" } } }] }), 'spec.containers[0].resources.requests: Invalid value: "1500m": must be less than or equal to cpu limit of 1'],
    ["a negative request",       "pods", podOf({ containers: [{ ...container, resources: { requests: { memory: "-1Mi" } } }] }), 'spec.containers[0].resources.requests[memory]: Invalid value: "-1Mi": must be greater than or equal to 0'],
    ["a secret without a name",  "pods", podOf({ containers: [container], volumes: [{ name: "v", secret: {} }] }), "spec.volumes[0].secret.secretName: Required value"],
    ["a certificate without key", "secrets", { apiVersion: "v1", kind: "Secret", metadata: { name: "s", namespace: "shop" }, type: "kubernetes.io/tls", data: { "tls.crt": "eA==" } }, "data[tls.key]: Required value"],
    ["a key that stands twice",  "configMaps", { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c", namespace: "shop" }, data: { a: "b" }, binaryData: { a: "eA==" } }, 'data[a]: Invalid value: "a": duplicate of key present in binaryData'],
    ["an unqualified finalizer", "configMaps", { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c", namespace: "shop", finalizers: ["mine"] } }, "name is neither a standard finalizer name nor is it fully qualified"],
    ["a probe without action",   "pods", podOf({ containers: [{ ...container, readinessProbe: {} }] }), "spec.containers[0].readinessProbe: Required value: must specify a handler type"],
    ["an unknown policy",        "pods", podOf({ containers: [container], restartPolicy: "Sometimes" }), 'spec.restartPolicy: Unsupported value: "Sometimes"'],
    ["an unknown account",       "pods", podOf({ containers: [container], serviceAccountName: "x" }), 'pods "p" is forbidden: error looking up service account shop/x: serviceaccount "x" not found'],
    ["no selector",              "deployments", deploymentOf({ template }), 'Deployment.apps "web" is invalid: spec.selector: Required value'],
    ["a selector that misses",   "deployments", deploymentOf({ template, selector: { matchLabels: { app: "db" } } }), "`selector` does not match template `labels`"],
    ["a restart policy",         "deployments", deploymentOf({ selector, template: { ...template, spec: { containers: [container], restartPolicy: "Never" } } }), 'Unsupported value: "Never": supported values: "Always"'],
    ["negative replicas",        "deployments", deploymentOf({ selector, template, replicas: -1 }), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
    ["a service without ports",  "services", serviceOf({}), 'Service "web" is invalid: spec.ports: Required value'],
    ["ports without names",      "services", serviceOf({ ports: [{ port: 1 }, { port: 2 }] }), "[spec.ports[0].name: Required value, spec.ports[1].name: Required value]"],
    ["a service named 1a",       "services", serviceOf({ ports: [{ port: 1 }] }, "1a"), "a DNS-1035 label must consist of"],
    ["a foreign address",        "services", serviceOf({ ports: [{ port: 1 }], clusterIP: "1.2.3.4" }), "provided IP is not in the valid range"],
    ["a label with a space",     "configMaps", { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c", namespace: "shop", labels: { a: "b c" } } }, "metadata.labels: Invalid value"],
    ["a role without verbs",     "roles", { apiVersion: "rbac.authorization.k8s.io/v1", kind: "Role", metadata: { name: "r", namespace: "shop" }, rules: [{ apiGroups: [""], resources: ["pods"] }] }, "rules[0].verbs: Required value"],
  ])("refuse %s", (_name, id, object, expected) => {
    expect(refusal(() => openStore().store.create(ids[id], object))).toContain(expected);
  });

  test("refuse a new finalizer for what is on its way out", () => {
    const { store } = openStore();
    const metadata = { name: "c", namespace: "shop", finalizers: ["x.io/a"] };
    store.create(ids.configMaps, { apiVersion: "v1", kind: "ConfigMap", metadata });
    const going = store.delete(ids.configMaps, "shop", "c");
    const more = { ...going, metadata: { ...going.metadata, finalizers: ["x.io/a", "x.io/b"] } };
    expect(refusal(() => store.update(ids.configMaps, more))).toContain(
      'metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x.io/b"}',
    );
  });

  test("keep no empty maps in their metadata", () => {
    const { store } = openStore();
    const metadata = { name: "c", namespace: "shop", labels: {}, annotations: { a: "b" }, finalizers: [] };
    const made = store.create(ids.configMaps, { apiVersion: "v1", kind: "ConfigMap", metadata });
    expect(Object.keys(made.metadata)).not.toEqual(expect.arrayContaining(["labels"]));
    const bare = store.update(ids.configMaps, { ...made, metadata: { ...made.metadata, annotations: {} } });
    expect(bare.metadata.annotations).toBeUndefined();
  });

  test("refuse to change what must stay", () => {
    const { store } = openStore();
    const deployment = store.create(ids.deployments, deploymentOf({ selector, template }));
    const moved = {
      ...deployment,
      spec: { selector: { matchLabels: { app: "x" } }, template: { ...template, metadata: { labels: { app: "x" } } } },
    };
    expect(refusal(() => store.update(ids.deployments, moved))).toContain("spec.selector: Invalid value");
    const pod = store.create(ids.pods, podOf({ containers: [container] }));
    expect(
      refusal(() => store.update(ids.pods, { ...pod, spec: { ...(pod["spec"] as object), hostname: "x" } })),
    ).toContain("pod updates may not change fields other than");
  });

  test("tell unknown fields and wrong types by their path", () => {
    const { registry } = openStore();
    const info = registry.find(ids.deployments);
    const [version] = info?.versions ?? [];
    if (info === undefined || version === undefined) throw new TypeError("no deployments");
    const body = deploymentOf({
      selector,
      template: { ...template, spec: { containers: [{ ...container, imagee: "x" }] } },
      foo: 1,
    });
    expect(refusal(() => decodeBody(body, info, version, "Strict"))).toBe(
      'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.template.spec.containers[0].imagee", unknown field "spec.foo"',
    );
    expect(decodeBody(body, info, version, "Warn").warnings).toHaveLength(2);
    expect(decodeBody(body, info, version, "Ignore").object["spec"]).not.toHaveProperty("foo");
    expect(refusal(() => decodeBody(deploymentOf({ replicas: "2" }), info, version, "Ignore"))).toContain(
      "cannot unmarshal string into Go struct field Deployment.spec.replicas",
    );
    expect(refusal(() => decodeBody({ ...body, kind: "Pod" }, info, version, "Ignore"))).toContain(
      "must be of type Deployment",
    );
  });

  test("give pods a token, a first status and their defaults", () => {
    const pod = openStore().store.create(ids.pods, podOf({ containers: [container] }));
    expect(pod).toMatchObject({
      spec: {
        serviceAccountName: "default",
        containers: [
          {
            imagePullPolicy: "IfNotPresent",
            volumeMounts: [{ mountPath: "/var/run/secrets/kubernetes.io/serviceaccount" }],
          },
        ],
        volumes: [
          {
            projected: {
              sources: [{ serviceAccountToken: { path: "token" } }, { configMap: { name: "kube-root-ca.crt" } }, {}],
            },
          },
        ],
      },
      status: { phase: "Pending", qosClass: "BestEffort" },
    });
  });
});

describe("custom resources", () => {
  const crd = (schema: Schema, extra: JsonObject = {}): NewObject => ({
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: "things.x.io" },
    spec: {
      group: "x.io",
      scope: "Namespaced",
      names: { kind: "Thing", plural: "things" },
      versions: [
        { name: "v1", served: true, storage: true, subresources: { status: {} }, schema: { openAPIV3Schema: schema } },
      ],
      ...extra,
    },
  });
  const schema: Schema = {
    type: "object",
    properties: {
      spec: {
        type: "object",
        required: ["size"],
        properties: {
          size: { type: "integer", minimum: 1 },
          color: { type: "string", default: "red" },
          any: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
        },
      },
      status: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
    },
  };
  const things = { group: "x.io", resource: "things" };
  const thing = (spec: JsonObject): NewObject => ({
    apiVersion: "x.io/v1",
    kind: "Thing",
    metadata: { name: "a", namespace: "shop" },
    spec,
  });

  test("are served from the moment their definition is stored", () => {
    const { store, registry } = openStore();
    expect(registry.find(things)).toBeUndefined();
    expect(store.create(ids.crds, crd(schema))).toMatchObject({
      status: { conditions: [{ type: "NamesAccepted" }, { type: "Established", status: "True" }] },
      spec: { names: { singular: "thing", listKind: "ThingList" } },
    });
    const created = store.create(things, { ...thing({ size: 2 }), status: { x: 1 } });
    expect(created).toMatchObject({ spec: { size: 2, color: "red" }, metadata: { generation: 1 } });
    expect(created).not.toHaveProperty("status");
    expect(refusal(() => store.update(things, { ...created, spec: { size: 0 } }))).toBe(
      'Thing.x.io "a" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1',
    );
    expect(refusal(() => store.update(things, { ...created, spec: {} }))).toContain("spec.size: Required value");
  });

  test("lose unknown fields unless the schema keeps them", () => {
    const { store, registry } = openStore();
    store.create(ids.crds, crd(schema));
    const info = registry.find(things);
    const [version] = info?.versions ?? [];
    if (info === undefined || version === undefined) throw new TypeError("no things");
    const { object } = decodeBody(thing({ size: 1, extra: 1, any: { kept: true } }), info, version, "Ignore");
    expect(object["spec"]).toEqual({ size: 1, any: { kept: true } });
  });

  // prettier-ignore
  test.each<[string, Schema, JsonObject, string]>([
    ["another name",            schema, { names: { kind: "Thing", plural: "thingies" } }, 'must be spec.names.plural+"."+spec.group'],
    ["a webhook conversion",    schema, { conversion: { strategy: "Webhook" } }, "use None"],
    ["no stored version",       schema, { versions: [{ name: "v1", served: true, storage: false, schema: { openAPIV3Schema: schema } }] }, "exactly one version marked as storage version"],
    ["no schema",               schema, { versions: [{ name: "v1", served: true, storage: true }] }, "schemas are required"],
    ["a field without type",    { type: "object", properties: { spec: { properties: {} } } }, {}, "properties[spec].type: Required value"],
    ["a pattern that is none",  { type: "object", properties: { a: { type: "string", pattern: "(" } } }, {}, "pattern: Invalid value"],
    ["a list without items",    { type: "object", properties: { a: { type: "array" } } }, {}, "items: Required value"],
  ])("refuse a definition with %s", (_name, one, extra, expected) => {
    expect(refusal(() => openStore().store.create(ids.crds, crd(one, extra)))).toContain(expected);
  });
});
