/** The controllers' decisions, as tables and short stories. */
import { describe, expect, test } from "@jest/globals";
import type { Deployment, Node, Pod, Service } from "../kinds.ts";
import { rollingLimits } from "./deployments.ts";
import { sliceContents } from "./endpoints-of.ts";
import { placePod } from "./node-fit.ts";
import { canonical, scaled, templateHash } from "./owned-pods.ts";
import { daemonStep, recreateStep, rollingStep, type DaemonNode } from "./rollout.ts";

const set = (name: string, wanted: number, available: number) => ({ name, wanted, available });

describe("rollingStep", () => {
  // prettier-ignore
  test.each([ // new             old                                          limits [replicas, surge, unavailable]  sizes                     why
    [set("n", 0, 0),             [],                                          [3, 1, 0],                             { n: 3 },                 "a first rollout goes all at once"],
    [set("n", 0, 0),             [set("o", 3, 3)],                            [3, 1, 0],                             { n: 1 },                 "one more, none less"],
    [set("n", 1, 0),             [set("o", 3, 3)],                            [3, 1, 0],                             {},                       "waits for the new one"],
    [set("n", 1, 1),             [set("o", 3, 3)],                            [3, 1, 0],                             { o: 2 },                 "the new one serves"],
    [set("n", 0, 0),             [set("o", 3, 3)],                            [3, 0, 1],                             { o: 2 },                 "without a surge the old go first"],
    [set("n", 0, 0),             [set("o", 3, 1)],                            [3, 1, 0],                             { n: 1 },                 "idle old pods go only as far as availability allows"],
    [set("n", 1, 0),             [set("o", 3, 0)],                            [3, 1, 1],                             { o: 2 },                 "idle old pods go first"],
    [set("n", 3, 3),             [set("o", 1, 1)],                            [3, 1, 0],                             { o: 0 },                 "the last one"],
    [set("n", 5, 5),             [],                                          [3, 1, 0],                             { n: 3 },                 "scaling down"],
    [set("n", 0, 0),             [set("o", 10, 10)],                          [10, 3, 2],                            { n: 3, o: 8 },           "both ways at once"],
  ])("%j with %j under %j becomes %j: %s", (next, old, [replicas = 0, maxSurge = 0, maxUnavailable = 0], sizes: object, _why: string) => {
    expect(Object.fromEntries(rollingStep(next, old, { replicas, maxSurge, maxUnavailable }))).toEqual(sizes);
  });

  test.each([
    [1, "25%", "25%"],
    [4, 1, 0],
    [10, "30%", "20%"],
    [3, 0, 1],
  ])("a rollout of %d pods with %j and %j ends, never below its limits", (replicas, maxSurge, maxUnavailable) => {
    const limits = rollingLimits({
      spec: { replicas, strategy: { rollingUpdate: { maxSurge, maxUnavailable } } },
    } as unknown as Deployment);
    let next = set("n", 0, 0);
    let old = set("o", replicas, replicas);
    for (let step = 0; step < 100 && (old.wanted > 0 || next.available < replicas); step++) {
      const sizes = rollingStep(next, [old], limits);
      old = {
        ...old,
        wanted: sizes.get("o") ?? old.wanted,
        available: Math.min(old.available, sizes.get("o") ?? old.wanted),
      };
      next = { ...next, wanted: sizes.get("n") ?? next.wanted };
      expect(old.wanted + next.wanted).toBeLessThanOrEqual(replicas + limits.maxSurge);
      expect(old.available + next.available).toBeGreaterThanOrEqual(replicas - limits.maxUnavailable);
      if (next.available < next.wanted) next = { ...next, available: next.available + 1 };
    }
    expect([old.wanted, next.wanted, next.available]).toEqual([0, replicas, replicas]);
  });
});

// prettier-ignore
test.each([ // new           old                        pods left   sizes          why
  [set("n", 0, 0),           [set("o", 2, 2)],          2,          { o: 0 },      "old ones first"],
  [set("n", 0, 0),           [set("o", 0, 0)],          1,          {},            "one is still going"],
  [set("n", 0, 0),           [set("o", 0, 0)],          0,          { n: 2 },      "then the new"],
])("recreateStep(%j, %j) with %d old pods left is %j: %s", (next, old, left, sizes: object, _why: string) => {
  expect(Object.fromEntries(recreateStep(next, old, 2, left))).toEqual(sizes);
});

describe("daemonStep", () => {
  const node = (text: string): DaemonNode => {
    const states = { "-": "none", u: "unavailable", a: "available" } as const;
    const [fresh = "-", stale = "-"] = Array.from(text) as (keyof typeof states)[];
    return { node: text, fresh: states[fresh], stale: states[stale] };
  };

  // prettier-ignore
  test.each([ // nodes: new and old pod       surge  unavailable  create             remove            why
    [["--"],                                  1,     0,           ["--"],            [],               "a node without"],
    [["-a", "-a"],                            1,     0,           ["-a"],            [],               "beside the old one, one node at a time"],
    [["ua", "-a"],                            1,     0,           [],                [],               "the first is not there yet"],
    [["aa", "-a"],                            1,     0,           ["-a"],            ["aa"],           "the old one goes, the next begins"],
    [["-u", "-a"],                            1,     0,           ["-u", "-a"],      ["-u"],           "an idle old one has nothing to lose"],
    [["-a", "-a"],                            0,     1,           [],                ["-a"],           "first the old one"],
    [["--", "-a"],                            0,     1,           ["--"],            [],               "one is missing already"],
    [["u-", "-a"],                            0,     1,           [],                [],               "or not ready yet"],
    [["a-", "-a"],                            0,     1,           [],                ["-a"],           "the next"],
  ])("%j, surge %d, unavailable %d: create %j, remove %j: %s", (nodes, maxSurge, maxUnavailable, create, remove) => {
    const unique = nodes.map((text, at) => ({ ...node(text), node: `${text}${at}` }));
    const step = daemonStep(unique, { maxSurge, maxUnavailable });
    const states = (names: readonly string[]) => names.map((name) => name.slice(0, 2)).sort();
    expect([states(step.create), states(step.remove)]).toEqual([create.toSorted(), remove.toSorted()]);
  });
});

// prettier-ignore
test.each([["25%", 3, "up", 1], ["25%", 3, "down", 0], [2, 10, "up", 2], ["100%", 4, "down", 4], [undefined, 4, "up", 0], ["x", 4, "up", 0]] as const)("scaled(%j, %d, %s) is %d", (value, total, round, result) => {
  expect(scaled(value, total, round)).toBe(result);
});

test("a template's hash does not depend on the order of its fields", () => {
  const spec = { containers: [{ name: "a", image: "b" }] };
  expect(templateHash({ metadata: { labels: { a: "1", b: "2" } }, spec })).toBe(
    templateHash({ spec, metadata: { labels: { b: "2", a: "1" } } }),
  );
  expect(templateHash({ spec })).not.toBe(templateHash({ spec: { containers: [{ name: "a", image: "c" }] } }));
  expect(canonical({ b: undefined, a: [1, null] })).toBe('{"a":[1,null]}');
});

const metadata = (name: string, labels: Record<string, string> = {}) => ({
  name,
  namespace: "shop",
  uid: name,
  resourceVersion: "1",
  creationTimestamp: "",
  labels,
});
const node = (name: string, labels: Record<string, string> = {}, spec = {}): Node => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: metadata(name, { "kubernetes.io/hostname": name, ...labels }),
  spec,
});
const pod = (
  name: string,
  spec: Partial<Pod["spec"]>,
  labels: Record<string, string> = {},
  more: Partial<Pod> = {},
): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: metadata(name, labels),
  spec: { containers: [{ name: "main", image: "any" }], ...spec },
  ...more,
});

describe("placePod", () => {
  const nodes = [node("node-1", { disk: "ssd" }), node("node-2")];
  const app = { app: "web" };
  const spread = (whenUnsatisfiable: string) => [
    { maxSkew: 1, topologyKey: "kubernetes.io/hostname", whenUnsatisfiable, labelSelector: { matchLabels: app } },
  ];
  const apart = {
    podAntiAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: [
        { topologyKey: "kubernetes.io/hostname", labelSelector: { matchLabels: app } },
      ],
    },
  };

  // prettier-ignore
  test.each([ // pod                                                            placed                                                                         outcome                    why
    [pod("p", {}),                                                              [],                                                                            { node: "node-1" },        "the first of equals"],
    [pod("p", {}),                                                              [pod("a", { nodeName: "node-1" })],                                            { node: "node-2" },        "the emptier"],
    [pod("p", { nodeSelector: { disk: "ssd" } }),                               [pod("a", { nodeName: "node-1" })],                                            { node: "node-1" },        "what it selects"],
    [pod("p", { topologySpreadConstraints: spread("ScheduleAnyway") }, app),    [pod("a", { nodeName: "node-1" }, app), pod("b", { nodeName: "node-2" }), pod("c", { nodeName: "node-2" })], { node: "node-2" }, "spread before evenness"],
    [pod("p", { affinity: apart }, app),                                        [pod("a", { nodeName: "node-1" }, app), pod("b", { nodeName: "node-2" }), pod("c", { nodeName: "node-2" })], { node: "node-2" }, "kept apart"],
  ])("%j beside %j goes to %j: %s", (wanted, placed, outcome) => {
    expect(placePod(wanted, { nodes, placed })).toEqual(outcome);
  });

  test("says why a pod fits nowhere", () => {
    const full = nodes.map((one) => pod(`a-${one.metadata.name}`, { nodeName: one.metadata.name }, app));
    const view = { nodes: [...nodes, node("node-3", {}, { unschedulable: true })], placed: full };
    expect(placePod(pod("p", { affinity: apart, nodeSelector: { disk: "ssd" } }, app), view)).toEqual({
      refused:
        "0/3 nodes are available: 1 node(s) were unschedulable, 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't match pod anti-affinity or topology spread constraints.",
    });
  });
});

describe("sliceContents", () => {
  const service = (spec: Partial<Service["spec"]>): Service => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: metadata("web"),
    spec: { ipFamilies: ["IPv4"], ports: [{ name: "http", port: 80, targetPort: "web" }], ...spec },
  });
  const running = (name: string, ip: string, port: number, more: Partial<Pod> = {}): Pod =>
    pod(
      name,
      {
        nodeName: "node-1",
        containers: [{ name: "main", image: "any", ports: [{ name: "web", containerPort: port }] }],
      },
      {},
      { status: { phase: "Running", podIPs: [{ ip }], conditions: [{ type: "Ready", status: "True" }] }, ...more },
    );
  const nodes = new Map([["node-1", node("node-1", { "topology.kubernetes.io/zone": "a" })]]);

  test("a named port may be another number in each pod: then there are two slices", () => {
    const contents = sliceContents(
      service({}),
      [running("p", "10.244.1.2", 8080), running("q", "10.244.1.3", 8080), running("r", "10.244.1.4", 9090)],
      nodes,
    );
    expect(
      contents.map(({ ports, endpoints }) => [ports[0]?.port, endpoints.map(({ addresses }) => addresses[0])]),
    ).toEqual([
      [8080, ["10.244.1.2", "10.244.1.3"]],
      [9090, ["10.244.1.4"]],
    ]);
    expect(contents[0]?.endpoints[0]).toMatchObject({
      nodeName: "node-1",
      zone: "a",
      targetRef: { kind: "Pod", name: "p" },
    });
  });

  // prettier-ignore
  test.each([ // pod                                                                                                              service                              conditions                                            why
    [{},                                                                                                                          {},                                  { ready: true, serving: true, terminating: false },   "ready"],
    [{ status: { phase: "Running", podIPs: [{ ip: "10.244.1.2" }] } },                                                            {},                                  { ready: false, serving: false, terminating: false }, "not ready"],
    [{ status: { phase: "Running", podIPs: [{ ip: "10.244.1.2" }] } },                                                            { publishNotReadyAddresses: true },  { ready: true, serving: true, terminating: false },   "wanted all the same"],
    [{ metadata: { ...metadata("p"), deletionTimestamp: "now" } },                                                                {},                                  { ready: false, serving: true, terminating: true },   "on its way out"],
  ])("%j with %j is %j: %s", (change: Partial<Pod>, spec: Partial<Service["spec"]>, conditions: object, _why: string) => {
    const [content] = sliceContents(service(spec), [running("p", "10.244.1.2", 80, change)], nodes);
    expect(content?.endpoints[0]?.conditions).toEqual(conditions);
  });

  test("pods that are over, or of another family, are no endpoints; an empty slice remains", () => {
    const over = running("p", "10.244.1.2", 80, { status: { phase: "Succeeded", podIPs: [{ ip: "10.244.1.2" }] } });
    const contents = sliceContents(service({ ipFamilies: ["IPv4", "IPv6"] }), [over], nodes);
    expect(contents).toEqual([
      { addressType: "IPv4", ports: [], endpoints: [] },
      { addressType: "IPv6", ports: [], endpoints: [] },
    ]);
  });
});
