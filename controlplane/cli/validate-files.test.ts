import { describe, expect, test } from "@jest/globals";
import { validateFiles, type ValidateFlags } from "./validate-files.ts";

const validate = (text: string, flags: Partial<ValidateFlags> = {}) =>
  validateFiles(
    { filename: ["-"], env: [], domain: "cluster.local", ...flags },
    { env: {}, readStdin: () => Promise.resolve(text), tell: () => {} },
  );

const virtualService = (http: string): string => `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http:
  - ${http}
`;
const rule = (subset: string): string => `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec: {host: reviews, subsets: [{name: ${subset}}]}
`;
const service = `apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
`;
const toV1 = virtualService("route: [{destination: {host: reviews, subset: v1}}]");

test("every mistake has its object, its field and its place in the file", async () => {
  expect(await validate(`${virtualService("retries: {attempts: 0, retryOn: 5xx}")}---\nkind: [\n`)).toEqual([
    { severity: "error", line: expect.stringMatching(/^stdin:\d+:1: /) },
    {
      severity: "error",
      object: "VirtualService shop/reviews",
      field: "spec.http[0]",
      line: "stdin:7:5: spec.http[0]: says nothing to do: set one of route, redirect, directResponse (or delegate)",
    },
    {
      severity: "error",
      object: "VirtualService shop/reviews",
      field: "spec.http[0].retries",
      line: "stdin:7:5: spec.http[0].retries: attempts 0 disables retries: remove retryOn",
    },
  ]);
});

describe("what files refer to", () => {
  test("may be elsewhere", async () => {
    expect(await validate(toV1)).toEqual([]);
  });

  test("must be in them where they are all there is", async () => {
    const lines = async (...texts: readonly string[]) =>
      (await validate(texts.join("---\n"), { complete: true })).map(({ severity, line }) => `${severity} ${line}`);
    expect(await lines(toV1)).toEqual([
      expect.stringContaining(
        'warning stdin:1:1: spec.http[0].route[0].destination.host: there is no service "reviews.',
      ),
      expect.stringContaining("warning stdin:1:1: spec.hosts[0]: there is no service"),
    ]);
    expect(await lines(toV1, service, rule("v2"))).toEqual([
      expect.stringContaining('subset: "v1" is not defined by any DestinationRule'),
      expect.stringContaining("has no waypoint"),
    ]);
    expect(await lines(toV1, service, rule("v1"))).toEqual([expect.stringContaining("has no waypoint")]);
  });
});

test("objects of another revision are for others", async () => {
  const other = virtualService("retries: {}").replace(
    "namespace: shop",
    "namespace: shop, labels: {istio.io/rev: other}",
  );
  expect(await validate(other)).toEqual([]);
  expect(await validate(other, { revision: "other" })).not.toEqual([]);
});
