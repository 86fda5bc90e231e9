import { describe, expect, test } from "@jest/globals";
import type { Container, Pod, Service } from "../kinds.ts";
import {
  containerEnvironment,
  expandVariables,
  fieldValue,
  resourceValue,
  type EnvironmentFacts,
} from "./environment.ts";

const container = (fields: Partial<Container>): Container => ({ name: "main", image: "any", ...fields });
const pod: Pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: "web-1",
    namespace: "shop",
    uid: "u-1",
    resourceVersion: "1",
    creationTimestamp: "",
    labels: { tier: "front", app: "web" },
    annotations: { "example.org/note": 'say "hi"' },
  },
  spec: {
    nodeName: "node-1",
    serviceAccountName: "web",
    containers: [container({ resources: { limits: { memory: "64Mi", cpu: "250m" } } })],
  },
};
const service = (namespace: string, name: string, clusterIP: string, port: number): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace, uid: name, resourceVersion: "1", creationTimestamp: "" },
  spec: { clusterIP, ports: [{ name: "http-web", port }] },
});
const facts: EnvironmentFacts = {
  pod,
  podIps: ["10.244.1.2", "fd00::2"],
  hostIps: ["172.18.0.2"],
  configMap: (name) => (name === "settings" ? { colour: "blue", size: "$(colour)" } : undefined),
  secret: (name) => (name === "login" ? { password: "geheim" } : undefined),
  services: [
    service("default", "kubernetes", "10.96.0.1", 443),
    service("shop", "my-db", "10.96.1.1", 5432),
    service("shop", "headless", "None", 80),
    service("else", "hidden", "10.96.1.2", 80),
  ],
  capacity: { cpu: 4, memoryBytes: 8 * 2 ** 30 },
};

// prettier-ignore
test.each([ // text                variables            expanded            why
  ["$(A)-$(B)",                    { A: "1", B: "2" },  "1-2",              "known"],
  ["$(C)",                         { A: "1" },          "$(C)",             "unknown stays"],
  ["$$(A)",                        { A: "1" },          "$(A)",             "escaped"],
  ["$A ${A} $(A",                  { A: "1" },          "$A ${A} $(A",      "not our syntax"],
  ["$(A)",                         { A: "$(B)", B: "2" }, "$(B)",           "once only"],
  ["$(toString)",                  {},                  "$(toString)",      "nothing inherited"],
])("expandVariables(%j, %j) is %j: %s", (text, variables: object, expanded, _why: string) => {
  expect(expandVariables(text, variables as Record<string, string>)).toBe(expanded);
});

// prettier-ignore
test.each([ // path                                value
  ["metadata.name",                                "web-1"],
  ["metadata.namespace",                           "shop"],
  ["metadata.uid",                                 "u-1"],
  ["metadata.labels",                              'app="web"\ntier="front"'],
  ["metadata.labels['tier']",                      "front"],
  ["metadata.labels['absent']",                    ""],
  ["metadata.annotations['example.org/note']",     'say "hi"'],
  ["metadata.annotations",                         'example.org/note="say \\"hi\\""'],
  ["spec.nodeName",                                "node-1"],
  ["spec.serviceAccountName",                      "web"],
  ["status.podIP",                                 "10.244.1.2"],
  ["status.podIPs",                                "10.244.1.2,fd00::2"],
  ["status.hostIP",                                "172.18.0.2"],
])("field %s is %j", (fieldPath, value) => {
  expect(fieldValue({ fieldPath }, facts)).toBe(value);
});

// prettier-ignore
test.each([ // resource         divisor     value          why
  ["limits.memory",             "1Mi",      "64",          "as written"],
  ["limits.cpu",                "1",        "1",           "rounded up"],
  ["limits.cpu",                "1m",       "250",         "in thousandths"],
  ["requests.cpu",              "1",        "0",           "nothing asked for"],
])("%s over %s is %s: %s", (resource, divisor, value) => {
  expect(resourceValue({ resource, divisor }, pod.spec.containers[0], facts)).toBe(value);
});

test("without a limit a container may use the whole node", () => {
  expect(resourceValue({ resource: "limits.cpu" }, container({}), facts)).toBe("4");
});

describe("containerEnvironment", () => {
  test("describes the API server and the services of the pod's own namespace", () => {
    const environment = containerEnvironment(container({}), facts);
    expect(environment["KUBERNETES_SERVICE_HOST"]).toBe("10.96.0.1");
    expect(environment["MY_DB_SERVICE_PORT_HTTP_WEB"]).toBe("5432");
    expect(environment["MY_DB_PORT_5432_TCP"]).toBe("tcp://10.96.1.1:5432");
    expect(Object.keys(environment).filter((name) => /HEADLESS|HIDDEN/u.test(name))).toEqual([]);
    const unlinked = containerEnvironment(container({}), {
      ...facts,
      pod: { ...pod, spec: { ...pod.spec, enableServiceLinks: false } },
    });
    expect(unlinked["MY_DB_SERVICE_HOST"]).toBeUndefined();
    expect(unlinked["KUBERNETES_SERVICE_HOST"]).toBe("10.96.0.1");
  });

  test("takes whole maps first, single variables after them, and those may use the earlier", () => {
    const environment = containerEnvironment(
      container({
        envFrom: [
          { prefix: "S_", configMapRef: { name: "settings" } },
          { secretRef: { name: "absent", optional: true } },
        ],
        env: [
          { name: "WHERE", value: "$(S_colour)@$(LATER)" },
          { name: "LATER", valueFrom: { secretKeyRef: { name: "login", key: "password" } } },
          { name: "MAYBE", valueFrom: { configMapKeyRef: { name: "settings", key: "absent", optional: true } } },
        ],
      }),
      facts,
    );
    expect(environment).toMatchObject({
      S_colour: "blue",
      S_size: "$(colour)",
      WHERE: "blue@$(LATER)",
      LATER: "geheim",
    });
    expect("MAYBE" in environment).toBe(false);
  });

  // prettier-ignore
  test.each([ // env                                                                                  refusal
    [{ env: [{ name: "A", valueFrom: { secretKeyRef: { name: "absent", key: "a" } } }] },             'secret "absent" not found'],
    [{ env: [{ name: "A", valueFrom: { configMapKeyRef: { name: "settings", key: "absent" } } }] },   "couldn't find key absent in configmap shop/settings"],
    [{ envFrom: [{ configMapRef: { name: "absent" } }] },                                             'configmap "absent" not found'],
    [{ env: [{ name: "A", valueFrom: { fieldRef: { fieldPath: "spec.magic" } } }] },                  'fieldPath "spec.magic"'],
  ])("waits for what %j refers to", (fields, refusal) => {
    expect(() => containerEnvironment(container(fields), facts)).toThrow(refusal);
  });
});
