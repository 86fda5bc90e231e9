import { describe, expect, test } from "@jest/globals";
import { overlay } from "./overlay.ts";
import type { AppliedObject } from "./waypoint-objects.ts";

const metadata = { name: "way", namespace: "shop", labels: {}, ownerReferences: [] };
const deployment: AppliedObject = {
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata,
  spec: {
    selector: { matchLabels: { a: "b" } },
    template: {
      spec: {
        tolerations: [{ key: "old" }],
        containers: [
          {
            name: "istio-proxy",
            resources: { limits: { cpu: "2" } },
            env: [
              { name: "A", value: "1" },
              { name: "B", value: "2" },
            ],
            ports: [{ containerPort: 15_020, name: "metrics" }],
          },
        ],
      },
    },
  },
};
const service: AppliedObject = {
  apiVersion: "v1",
  kind: "Service",
  metadata,
  spec: { type: "ClusterIP", ports: [{ name: "mesh", port: 15_008 }] },
};

const changed = (key: string, text: string) => overlay([deployment, service], { [key]: text });
const container = (text: string) => {
  const { objects } = changed("deployment", `spec: {template: {spec: ${text}}}`);
  return (objects[0] as unknown as { spec: { template: { spec: Record<string, unknown> } } }).spec.template.spec;
};

describe("strategic merge", () => {
  // prettier-ignore
  test.each([ // why, patch of the pod's spec, what is there then
    ["a map merges",               "{containers: [{name: istio-proxy, resources: {limits: {memory: 1Gi}}}]}", { containers: [{ resources: { limits: { cpu: "2", memory: "1Gi" } } }] }],
    ["null deletes",               "{containers: [{name: istio-proxy, resources: {limits: null}}]}",          { containers: [{ resources: {} }] }],
    ["a named item merges",        "{containers: [{name: istio-proxy, env: [{name: B, value: '3'}]}]}",       { containers: [{ env: [{ name: "A", value: "1" }, { name: "B", value: "3" }] }] }],
    ["a new item is added",        "{containers: [{name: side}]}",                                            { containers: [{ name: "istio-proxy" }, { name: "side" }] }],
    ["an item can be deleted",     "{containers: [{name: istio-proxy, env: [{name: A, $patch: delete}]}]}",   { containers: [{ env: [{ name: "B", value: "2" }] }] }],
    ["other lists are replaced",   "{tolerations: [{key: new}]}",                                             { tolerations: [{ key: "new" }] }],
    ["a map can be replaced",      "{containers: [{name: istio-proxy, resources: {$patch: replace, a: 1}}]}", { containers: [{ resources: { a: 1 } }] }],
    ["ports merge by number",      "{containers: [{name: istio-proxy, ports: [{containerPort: 15020, name: m}]}]}", { containers: [{ ports: [{ containerPort: 15_020, name: "m" }] }] }],
  ])("%s", (_why, patch, expected) => {
    expect(container(patch)).toMatchObject(expected);
  });

  test("each key changes its own object", () => {
    const { objects, problems } = changed("service", "spec: {type: LoadBalancer}");
    expect(problems).toEqual([]);
    expect(objects[0]).toBe(deployment);
    expect(objects[1]).toMatchObject({ spec: { type: "LoadBalancer", ports: [{ port: 15_008 }] } });
  });

  test("an autoscaler and a disruption budget are made only where they are asked for", () => {
    const { objects } = overlay([deployment, service], {
      horizontalPodAutoscaler: "spec: {maxReplicas: 5}",
      podDisruptionBudget: "spec: {minAvailable: 1}",
    });
    expect(objects.slice(2)).toMatchObject([
      {
        kind: "HorizontalPodAutoscaler",
        spec: { maxReplicas: 5, scaleTargetRef: { kind: "Deployment", name: "way" } },
      },
      { kind: "PodDisruptionBudget", spec: { minAvailable: 1, selector: { matchLabels: { a: "b" } } } },
    ]);
  });

  test("an empty text changes nothing", () => {
    expect(changed("deployment", "").objects[0]).toEqual(deployment);
  });
});

describe("mistakes leave everything as it was, and all are told", () => {
  // prettier-ignore
  test.each([ // key, text, what is said
    ["deploy",     "spec: {}",               "data.deploy: not known; write one of deployment"],
    ["deployment", "spec: [",                "data.deployment: is not YAML"],
    ["deployment", "- a",                    "data.deployment: is not an object"],
    ["deployment", "metadata: {name: x}",    "data.deployment: metadata.name cannot be changed"],
    ["service",    "kind: Secret",           "data.service: kind cannot be changed"],
    ["toString",   "x: 1",                   "data.toString: not known"],
  ])("%s: %s", (key, text, message) => {
    const { objects, problems } = changed(key, text);
    expect(objects).toEqual([deployment, service]);
    expect(problems.join()).toContain(message);
  });

  test("two at once", () => {
    const { problems } = overlay([deployment], { deployment: "- a", nonsense: "" });
    expect(problems).toHaveLength(2);
  });
});
