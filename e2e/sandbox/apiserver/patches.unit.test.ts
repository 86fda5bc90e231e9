import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { ApiError } from "./api-error.ts";
import { refTo } from "./core-schemas.ts";
import { applyJsonPatch, applyMergePatch } from "./json-patch.ts";
import { applyStrategicPatch } from "./strategic-merge-patch.ts";

describe("JSON patch", () => {
  const document = { a: { b: [1, 2, 3] }, "x/y": "z", "m~n": 0 };
  // prettier-ignore
  test.each([
    ["add a field",          [{ op: "add", path: "/c", value: 1 }],                    { ...document, c: 1 }],
    ["add into a list",      [{ op: "add", path: "/a/b/1", value: 9 }],                { ...document, a: { b: [1, 9, 2, 3] } }],
    ["append",               [{ op: "add", path: "/a/b/-", value: 4 }],                { ...document, a: { b: [1, 2, 3, 4] } }],
    ["replace",              [{ op: "replace", path: "/a/b/0", value: 0 }],            { ...document, a: { b: [0, 2, 3] } }],
    ["remove",               [{ op: "remove", path: "/a/b" }],                         { ...document, a: {} }],
    ["escaped slash",        [{ op: "replace", path: "/x~1y", value: 1 }],             { ...document, "x/y": 1 }],
    ["escaped tilde",        [{ op: "replace", path: "/m~0n", value: 1 }],             { ...document, "m~n": 1 }],
    ["move",                 [{ op: "move", from: "/a/b", path: "/b" }],               { ...document, a: {}, b: [1, 2, 3] }],
    ["copy",                 [{ op: "copy", from: "/a/b/0", path: "/a/b/-" }],         { ...document, a: { b: [1, 2, 3, 1] } }],
    ["test, then change",    [{ op: "test", path: "/a/b/0", value: 1 }, { op: "remove", path: "/a/b/0" }], { ...document, a: { b: [2, 3] } }],
    ["an own __proto__",     [{ op: "add", path: "/__proto__", value: { evil: 1 } }], JSON.parse('{"a":{"b":[1,2,3]},"x/y":"z","m~n":0,"__proto__":{"evil":1}}')],
  ])("%s", (_name, patch, expected) => {
    expect(applyJsonPatch(document, patch)).toEqual(expected);
  });

  // prettier-ignore
  test.each([
    ["a failed test",             [{ op: "test", path: "/a/b/0", value: 2 }]],
    ["a missing field",           [{ op: "replace", path: "/nope", value: 1 }]],
    ["an inherited field",        [{ op: "test", path: "/toString", value: 1 }]],
    ["a place outside the list",  [{ op: "add", path: "/a/b/9", value: 1 }]],
    ["a pointer without slash",   [{ op: "add", path: "a", value: 1 }]],
    ["moving into itself",        [{ op: "move", from: "/a", path: "/a/b" }]],
    ["an unknown operation",      [{ op: "frob", path: "/a" }]],
    ["no list",                   { op: "add" }],
  ])("refuses %s", (_name, patch) => {
    expect(() => applyJsonPatch(document, patch)).toThrow(ApiError);
  });

  test("never changes what it is given", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom("add", "remove", "replace"), fc.string(), (value, op, path) => {
        const before = JSON.stringify(document);
        try {
          applyJsonPatch(document, [{ op, path: `/a/${path}`, value }]);
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
        }
        return JSON.stringify(document) === before;
      }),
    );
  });
});

// prettier-ignore
test.each([ // the examples of RFC 7386, appendix A
  [{ a: "b" },            { a: "c" },                    { a: "c" }],
  [{ a: "b" },            { b: "c" },                    { a: "b", b: "c" }],
  [{ a: "b", b: "c" },    { a: null },                   { b: "c" }],
  [{ a: ["b"] },          { a: "c" },                    { a: "c" }],
  [{ a: "c" },            { a: ["b"] },                  { a: ["b"] }],
  [{ a: { b: "c" } },     { a: { b: "d", c: null } },    { a: { b: "d" } }],
  [{ a: [{ b: "c" }] },   { a: [1] },                    { a: [1] }],
  [["a", "b"],            { a: "b" },                    { a: "b" }],
  [{ e: null },           { a: 1 },                      { e: null, a: 1 }],
  [{},                    { a: { bb: { ccc: null } } },  { a: { bb: {} } }],
])("merge patch of %j with %j", (target, patch, expected) => {
  expect(applyMergePatch(target, patch)).toEqual(expected);
});

describe("strategic merge patch", () => {
  const pod = refTo("V1PodSpec");
  const spec = {
    containers: [
      { name: "a", image: "a:1", env: [{ name: "X", value: "1" }], args: ["x"] },
      { name: "b", image: "b:1" },
    ],
    nodeSelector: { disk: "ssd" },
    volumes: [{ name: "v", emptyDir: {} }],
  };
  // prettier-ignore
  test.each([
    ["merges a container by name", { containers: [{ name: "a", image: "a:2" }] },
      { ...spec, containers: [{ ...spec.containers[0], image: "a:2" }, spec.containers[1]] }],
    ["adds what has another name, in front", { containers: [{ name: "c", image: "c:1" }] },
      { ...spec, containers: [{ name: "c", image: "c:1" }, ...spec.containers] }],
    ["adds behind what it names before", { containers: [{ name: "b" }, { name: "c", image: "c:1" }] },
      { ...spec, containers: [...spec.containers, { name: "c", image: "c:1" }] }],
    ["deletes by key", { containers: [{ name: "b", $patch: "delete" }] }, { ...spec, containers: [spec.containers[0]] }],
    ["merges lists inside lists", { containers: [{ name: "a", env: [{ name: "Y", value: "2" }] }] },
      { ...spec, containers: [{ ...spec.containers[0], env: [{ name: "Y", value: "2" }, { name: "X", value: "1" }] }, spec.containers[1]] }],
    ["replaces lists without a key", { containers: [{ name: "a", args: ["y"] }] },
      { ...spec, containers: [{ ...spec.containers[0], args: ["y"] }, spec.containers[1]] }],
    ["replaces a list on demand", { containers: [{ $patch: "replace" }, { name: "z", image: "z" }] },
      { ...spec, containers: [{ name: "z", image: "z" }] }],
    ["replaces a map on demand", { nodeSelector: { $patch: "replace", zone: "a" } }, { ...spec, nodeSelector: { zone: "a" } }],
    ["removes with null", { nodeSelector: null }, { containers: spec.containers, volumes: spec.volumes }],
    ["orders elements", { $setElementOrder$: 0, "$setElementOrder/containers": [{ name: "b" }, { name: "a" }] },
      { ...spec, containers: [spec.containers[1], spec.containers[0]] }],
    ["keeps only retained keys", { volumes: [{ name: "v", $retainKeys: ["name", "secret"], secret: { secretName: "s" } }] },
      { ...spec, volumes: [{ name: "v", secret: { secretName: "s" } }] }],
  ])("%s", (_name, patch, expected) => {
    expect(applyStrategicPatch(spec, patch, pod)).toEqual(expected);
  });

  test("merges and removes plain values", () => {
    const metadata = refTo("V1ObjectMeta");
    expect(applyStrategicPatch({ finalizers: ["a", "b"] }, { finalizers: ["c"] }, metadata)).toEqual({
      finalizers: ["a", "b", "c"],
    });
    expect(
      applyStrategicPatch({ finalizers: ["a", "b"] }, { "$deleteFromPrimitiveList/finalizers": ["a"] }, metadata),
    ).toEqual({ finalizers: ["b"] });
  });

  test("an element without its key is refused", () => {
    expect(() => applyStrategicPatch(spec, { containers: [{ image: "x" }] }, pod)).toThrow(
      "does not contain declared merge key: name",
    );
  });
});
