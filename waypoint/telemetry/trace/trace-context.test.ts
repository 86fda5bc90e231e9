import { expect, test } from "@jest/globals";
import { Headers } from "#waypoint/http/headers.ts";
import { decisionOf, extract, inject, newSpanId, newTraceId } from "./trace-context.ts";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const spanId = "b7ad6b7169203331";

test.each<[string, readonly string[], unknown]>([
  ["nothing", [], undefined],
  [
    "W3C",
    ["traceparent", `00-${traceId}-${spanId}-01`, "tracestate", "a=1", "tracestate", "b=2"],
    { traceId, spanId, isSampled: true, style: "w3c", state: "a=1,b=2" },
  ],
  [
    "W3C, not sampled",
    ["traceparent", `00-${traceId}-${spanId}-00`],
    { traceId, spanId, isSampled: false, style: "w3c", state: "" },
  ],
  [
    "W3C of a later version",
    ["traceparent", `01-${traceId}-${spanId}-01-more`],
    { traceId, spanId, isSampled: true, style: "w3c", state: "" },
  ],
  ["W3C with too much", ["traceparent", `00-${traceId}-${spanId}-01-more`], "broken"],
  ["W3C of no version", ["traceparent", `ff-${traceId}-${spanId}-01`], "broken"],
  ["W3C of zeros", ["traceparent", `00-${"0".repeat(32)}-${spanId}-01`], "broken"],
  ["W3C in capitals", ["traceparent", `00-${traceId.toUpperCase()}-${spanId}-01`], "broken"],
  [
    "B3 in one header",
    ["b3", `${traceId}-${spanId}-1-${spanId}`],
    { traceId, spanId, isSampled: true, style: "b3", state: "" },
  ],
  [
    "B3 of 64 bits, debug",
    ["b3", `${spanId}-${spanId}-d`],
    { traceId: `${"0".repeat(16)}${spanId}`, spanId, isSampled: true, style: "b3", state: "" },
  ],
  ["B3 undecided", ["b3", `${traceId}-${spanId}`], { traceId, spanId, isSampled: undefined, style: "b3", state: "" }],
  ["B3, a decision only", ["b3", "0"], undefined],
  ["B3, broken", ["b3", "x"], "broken"],
  [
    "B3 in several headers",
    ["x-b3-traceid", traceId, "x-b3-spanid", spanId, "x-b3-sampled", "0"],
    { traceId, spanId, isSampled: false, style: "b3-multi", state: "" },
  ],
  ["B3 in several headers, incomplete", ["x-b3-traceid", traceId], "broken"],
])("%s", (_name, headers, expected) => {
  expect(extract(new Headers([...headers]))).toEqual(expected);
});

test.each<[readonly string[], boolean | undefined]>([
  [["b3", "0"], false],
  [["b3", "1"], true],
  [["x-b3-sampled", "true"], true],
  [["x-b3-flags", "1"], true],
  [[], undefined],
])("the decision in %j is %p", (headers, expected) => {
  expect(decisionOf(new Headers([...headers]))).toBe(expected);
});

test("the next one is told in the caller's way, and in W3C's", () => {
  const headers = new Headers();
  const told = { traceId, spanId, isSampled: true };
  inject(headers, told, "w3c", undefined);
  expect(headers.pairs).toEqual(["traceparent", `00-${traceId}-${spanId}-01`]);
  inject(headers, told, "b3", "1111111111111111");
  expect(headers.get("b3")).toBe(`${traceId}-${spanId}-1-1111111111111111`);
  inject(headers, { ...told, isSampled: false }, "b3-multi", "1111111111111111");
  expect(["x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-parentspanid"].map((name) => headers.get(name))).toEqual(
    [traceId, spanId, "0", "1111111111111111"],
  );
});

test("ids are new", () => {
  const ids = new Set(Array.from({ length: 1_000 }, newTraceId));
  expect(ids.size).toBe(1_000);
  expect([...ids].every((id) => /^[0-9a-f]{32}$/.test(id))).toBe(true);
  expect(newSpanId()).toMatch(/^[0-9a-f]{16}$/);
});
