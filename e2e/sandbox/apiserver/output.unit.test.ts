import { describe, expect, test } from "@jest/globals";
import { negotiate } from "./content.ts";
import { humanDuration } from "./human-duration.ts";
import { readJsonPath } from "./json-path.ts";
import type { KubeObject } from "./object-store.ts";
import { builtInResources, type ResourceInfo } from "./resources.ts";
import type { JsonObject } from "./schema.ts";
import { toTable } from "./tables.ts";

const secondMs = 1000;
const nowMs = Date.parse("2026-01-01T01:00:00Z");

// prettier-ignore
test.each([
  [0, "0s"], [119 * secondMs, "119s"], [120 * secondMs, "2m"], [150 * secondMs, "2m30s"], [3600 * secondMs, "60m"], [4 * 3600 * secondMs, "4h"],
  [(7 * 3600 + 120) * secondMs, "7h2m"], [26 * 3600 * secondMs, "26h"], [3 * 86_400 * secondMs, "3d"], [(3 * 24 + 5) * 3600 * secondMs, "3d5h"], [800 * 86_400 * secondMs, "2y70d"], [-5000, "<invalid>"],
])("%d ms is %s", (ms, expected) => {
  expect(humanDuration(ms)).toBe(expected);
});

// prettier-ignore
test.each([
  [".spec.size", [3]],
  [".spec.missing", []],
  [".spec.list[*].n", [1, 2]],
  [".spec.list[0].n", [1]],
  [".spec.list[-1].n", [2]],
  ['.spec.list[?(@.t=="b")].n', [2]],
  [".metadata.annotations.x\\.io/y", ["z"]],
  [".metadata.annotations['x.io/y']", ["z"]],
  [".__proto__", []],
])("JSON path %s", (path, expected) => {
  const object = { metadata: { annotations: { "x.io/y": "z" } }, spec: { size: 3, list: [{ n: 1, t: "a" }, { n: 2, t: "b" }] } };
  expect(readJsonPath(object, path)).toEqual(expected);
});

// prettier-ignore
test.each([
  [undefined, { form: "json", as: "object" }],
  ["application/vnd.kubernetes.protobuf, */*", { form: "json", as: "object" }],
  ["application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", { as: "Table", version: "v1" }],
  ["application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", { as: "APIGroupDiscoveryList", version: "v2" }],
  ["application/yaml", { form: "yaml" }],
])("Accept %j", (accept, expected) => {
  expect(negotiate(accept)).toMatchObject(expected);
});

test("what cannot be answered is refused, so that clients fall back", () => {
  expect(() => negotiate("application/vnd.kubernetes.protobuf")).toThrow("only the following media types are accepted");
});

const podInfo = builtInResources.find(({ resource }) => resource === "pods") as ResourceInfo;

function statusOf(status: JsonObject, metadata: JsonObject = {}, spec: JsonObject = {}): string {
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", creationTimestamp: "2026-01-01T00:00:00Z", ...metadata },
    spec: { containers: [{ name: "a" }], ...spec },
    status,
  } as unknown as KubeObject;
  const { rows } = toTable([pod], podInfo, { nowMs, include: "None" }) as unknown as { rows: { cells: unknown[] }[] };
  return rows[0]?.cells.slice(0, 5).join(" ") ?? "";
}

describe("the row of a pod", () => {
  const running = { name: "a", ready: true, restartCount: 0, state: { running: {} } };
  // prettier-ignore
  test.each<[string, string]>([
    [statusOf({ phase: "Running", containerStatuses: [running] }), "p 1/1 Running 0 60m"],
    [statusOf({ phase: "Running", containerStatuses: [{ ...running, ready: false, restartCount: 3, state: { waiting: { reason: "CrashLoopBackOff" } }, lastState: { terminated: { finishedAt: "2026-01-01T00:58:00Z" } } }] }), "p 0/1 CrashLoopBackOff 3 (2m ago) 60m"],
    [statusOf({ phase: "Succeeded", containerStatuses: [{ ...running, ready: false, state: { terminated: { reason: "Completed", exitCode: 0 } } }] }), "p 0/1 Completed 0 60m"],
    [statusOf({ phase: "Failed", containerStatuses: [{ ...running, ready: false, state: { terminated: { exitCode: 3 } } }] }), "p 0/1 ExitCode:3 0 60m"],
    [statusOf({ phase: "Pending", initContainerStatuses: [{ name: "i", state: { running: {} } }] }, {}, { initContainers: [{ name: "i" }] }), "p 0/1 Init:0/1 0 60m"],
    [statusOf({ phase: "Running", containerStatuses: [running] }, { deletionTimestamp: "2026-01-01T00:59:00Z" }), "p 1/1 Terminating 0 60m"],
    [statusOf({ phase: "Pending" }), "p 0/1 Pending 0 60m"],
  ])("%s", (row, expected) => {
    expect(row).toBe(expected);
  });
});

test("custom columns follow their paths and types", () => {
  const object = {
    apiVersion: "x.io/v1",
    kind: "Thing",
    metadata: { name: "a", creationTimestamp: "2026-01-01T00:00:00Z" },
    spec: { size: 3 },
  } as unknown as KubeObject;
  const columns = [
    { name: "Size", type: "integer", jsonPath: ".spec.size" },
    { name: "Color", type: "string", jsonPath: ".spec.color" },
    { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
  ];
  expect(toTable([object], { ...podInfo, builtIn: false }, { nowMs, include: "None", columns })).toMatchObject({
    rows: [{ cells: ["a", 3, null, "60m"] }],
  });
});
