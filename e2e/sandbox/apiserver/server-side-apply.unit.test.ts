import { describe, expect, test } from "@jest/globals";
import { refTo } from "./core-schemas.ts";
import { fieldsOf, fromFieldsV1, toFieldsV1 } from "./managed-fields.ts";
import type { KubeObject } from "./object-store.ts";
import type { JsonObject, Schema } from "./schema.ts";
import { applyConfiguration, trackUpdate, type Manager } from "./server-side-apply.ts";

const schema = refTo("V1Deployment");
const manager = (name: string, operation: Manager["operation"] = "Apply"): Manager => ({
  name,
  operation,
  apiVersion: "apps/v1",
  time: "2026-01-01T00:00:00Z",
});
const deployment = (spec: JsonObject, labels: JsonObject = {}): JsonObject => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "web", namespace: "shop", labels },
  spec,
});
const container = (fields: JsonObject): JsonObject => ({
  template: { spec: { containers: [{ name: "web", ...fields }] } },
});

/** Applies one configuration after another, as the named managers. */
function applyAll(...steps: readonly (readonly [string, JsonObject, boolean?])[]): KubeObject {
  let live: KubeObject | undefined;
  for (const [name, config, force = false] of steps) {
    const { object, managedFields } = applyConfiguration(live, config, schema, manager(name), force);
    live = {
      ...object,
      metadata: { ...(object["metadata"] as object), managedFields: [...managedFields] },
    } as unknown as KubeObject;
  }
  if (live === undefined) throw new TypeError("no step");
  return live;
}

const specOf = (object: KubeObject) => object["spec"] as JsonObject;

describe("server-side apply", () => {
  test("two managers own different fields of one container", () => {
    const live = applyAll(
      ["a", deployment(container({ image: "x:1" }))],
      ["b", deployment(container({ imagePullPolicy: "Never" }))],
    );
    expect(specOf(live)).toEqual(container({ image: "x:1", imagePullPolicy: "Never" }));
  });

  test("what a manager no longer applies goes, unless another wants it too", () => {
    const both = { ...container({ image: "x:1" }), replicas: 2, paused: true };
    const live = applyAll(
      ["a", deployment(both)],
      ["b", deployment({ replicas: 2 })],
      ["a", deployment(container({ image: "x:1" }))],
    );
    expect(specOf(live)).toEqual({ ...container({ image: "x:1" }), replicas: 2 });
  });

  test("a map that is left out goes with its last field; applied empty, it becomes null", () => {
    const status = { ...deployment({}), status: { replicas: 1 } };
    expect(applyAll(["a", status], ["a", deployment({})])).not.toHaveProperty("status");
    expect(applyAll(["a", status], ["a", { ...deployment({}), status: {} }])).toHaveProperty("status", null);
    expect(applyAll(["a", { ...deployment({}), status: {} }])).toHaveProperty("status", {});
  });

  test("an element that nobody applies any more goes as a whole", () => {
    const two = {
      template: {
        spec: {
          containers: [
            { name: "web", image: "x" },
            { name: "side", image: "y" },
          ],
        },
      },
    };
    expect(specOf(applyAll(["a", deployment(two)], ["a", deployment(container({ image: "x" }))]))).toEqual(
      container({ image: "x" }),
    );
  });

  test("changing another's field is a conflict that names both", () => {
    const steps = [
      ["a", deployment({ replicas: 2 })],
      ["b", deployment({ replicas: 3 })],
    ] as const;
    expect(() => applyAll(...steps)).toThrow('Apply failed with 1 conflict: conflict with "a": .spec.replicas');
  });

  test("force takes the field over", () => {
    const live = applyAll(
      ["a", deployment({ replicas: 2, paused: true })],
      ["b", deployment({ replicas: 3 }), true],
      ["a", deployment({ paused: true })],
    );
    expect(specOf(live)).toEqual({ replicas: 3, paused: true });
  });

  test("wanting the same value is no conflict", () => {
    expect(specOf(applyAll(["a", deployment({ replicas: 2 })], ["b", deployment({ replicas: 2 })]))).toEqual({
      replicas: 2,
    });
  });

  test("ports are told apart by number and protocol", () => {
    const ports = (...list: JsonObject[]) => deployment(container({ image: "x", ports: list }));
    const live = applyAll(
      ["a", ports({ containerPort: 53, protocol: "TCP" })],
      ["b", deployment(container({ ports: [{ containerPort: 53, protocol: "UDP" }] }))],
    );
    expect(specOf(live)).toEqual(
      container({
        image: "x",
        ports: [
          { containerPort: 53, protocol: "TCP" },
          { containerPort: 53, protocol: "UDP" },
        ],
      }),
    );
  });

  test("a list of plain values without a rule is one thing", () => {
    const steps = [
      ["a", deployment(container({ args: ["1", "2"] }))],
      ["b", deployment(container({ args: ["1"] }))],
    ] as const;
    expect(() => applyAll(...steps)).toThrow(".args");
  });

  test("follows the list types of a CRD", () => {
    const custom: Schema = {
      type: "object",
      properties: {
        spec: {
          type: "object",
          properties: {
            tags: { type: "array", "x-kubernetes-list-type": "set", items: { type: "string" } },
            rules: {
              type: "array",
              "x-kubernetes-list-type": "map",
              "x-kubernetes-list-map-keys": ["id"],
              items: { type: "object", properties: { id: { type: "integer" }, text: { type: "string" } } },
            },
          },
        },
      },
    };
    const thing = (spec: JsonObject) => ({ apiVersion: "x.io/v1", kind: "Thing", metadata: { name: "a" }, spec });
    const first = applyConfiguration(
      undefined,
      thing({ tags: ["a"], rules: [{ id: 1, text: "one" }] }),
      custom,
      manager("a"),
      false,
    );
    const live = {
      ...first.object,
      metadata: { name: "a", managedFields: first.managedFields },
    } as unknown as KubeObject;
    const second = applyConfiguration(
      live,
      thing({ tags: ["b"], rules: [{ id: 2, text: "two" }] }),
      custom,
      manager("b"),
      false,
    );
    expect(second.object["spec"]).toEqual({
      tags: ["a", "b"],
      rules: [
        { id: 1, text: "one" },
        { id: 2, text: "two" },
      ],
    });
  });

  test("an ordinary update takes over what it changes", () => {
    const live = applyAll(["a", deployment({ replicas: 2, paused: true })]);
    const next = { ...live, spec: { replicas: 5, paused: true } };
    const updated = {
      ...next,
      metadata: { ...live.metadata, managedFields: trackUpdate(live, next, schema, manager("kubectl", "Update")) },
    };
    expect(() => applyConfiguration(updated, deployment({ replicas: 2 }), schema, manager("b"), false)).toThrow(
      'conflict with "kubectl" using apps/v1',
    );
    expect(
      applyConfiguration(updated, deployment({ paused: true }), schema, manager("a"), false).object["spec"],
    ).toEqual({ replicas: 5, paused: true });
  });
});

test("the nested form says the same as the set", () => {
  const fields = fieldsOf(
    deployment({ ...container({ image: "x", ports: [{ containerPort: 80 }], args: ["a"] }), replicas: 1 }, { a: "b" }),
    schema,
  );
  expect([...fromFieldsV1(toFieldsV1(fields.keys()))].sort()).toEqual([...fields.keys()].sort());
  expect(toFieldsV1(fields.keys())).toMatchObject({
    "f:metadata": { "f:labels": { "f:a": {} } },
    "f:spec": {
      "f:template": {
        "f:spec": {
          "f:containers": {
            'k:{"name":"web"}': { ".": {}, "f:ports": { 'k:{"containerPort":80,"protocol":"TCP"}': { ".": {} } } },
          },
        },
      },
    },
  });
});
