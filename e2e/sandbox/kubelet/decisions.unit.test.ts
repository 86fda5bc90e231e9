/** The kubelet's small decisions, as tables. */
import { describe, expect, test } from "@jest/globals";
import type { Pod } from "../kinds.ts";
import { containerCapabilities } from "./container-script.ts";
import { imageName, resolveImage } from "./images.ts";
import { LogBuffer } from "./log-buffer.ts";
import { hostsFile, resolvConf } from "./pod-files.ts";
import { notStartedYet, podStatus, type ContainerView, type PodView } from "./pod-status.ts";
import { countResult, probeNotYetKnown } from "./probe-state.ts";
import { crashCount, restartDelayMs, shouldRestart } from "./restart.ts";

// prettier-ignore
test.each([ // results     probe                                         verdicts                              why
  ["-",                    {},                                           "?",                                  "one failure decides nothing"],
  ["---",                  {},                                           "??-",                                "three do"],
  ["+",                    {},                                           "+",                                  "one success does"],
  ["+--+--",               {},                                           "++++++",                             "failures must be in a row"],
  ["+---+",                {},                                           "+++-+",                              "and back"],
  ["++",                   { successThreshold: 2 },                      "?+",                                 "as many as asked for"],
  ["+-",                   { failureThreshold: 1 },                      "+-",                                 "at once"],
])("results %s of %j come to %s: %s", (results, probe: object, verdicts, _why: string) => {
  let state = probeNotYetKnown;
  const seen = Array.from(results, (result) => {
    state = countResult(state, result === "+", probe);
    return state.passing === undefined ? "?" : state.passing ? "+" : "-";
  });
  expect(seen.join("")).toBe(verdicts);
});

const backOff = { baseMs: 10_000, maxMs: 300_000 };

// prettier-ignore
test.each([[1, 0], [2, 10_000], [3, 20_000], [4, 40_000], [7, 300_000], [1000, 300_000]])("after %d crashes the next start waits %d ms", (crashes, delayMs) => {
  expect(restartDelayMs(crashes, backOff)).toBe(delayMs);
});

test("a container that ran for long starts counting afresh", () => {
  expect(crashCount(5, 599_999, backOff)).toBe(6);
  expect(crashCount(5, 600_000, backOff)).toBe(1);
});

// prettier-ignore
test.each([["Always", 0, true], ["Always", 1, true], ["OnFailure", 0, false], ["OnFailure", 2, true], ["Never", 1, false]] as const)("%s after exit code %d: %j", (policy, code, again) => {
  expect(shouldRestart(policy, code)).toBe(again);
});

// prettier-ignore
test.each([ // image                                       name
  ["busybox",                                              "busybox"],
  ["library/busybox:1.36",                                 "busybox"],
  ["docker.io/library/busybox@sha256:abc",                 "busybox"],
  ["localhost:5000/ambit/ztunnel:v1",                      "ambit/ztunnel"],
  ["ambit/ztunnel",                                        "ambit/ztunnel"],
  ["ghcr.io/team/app:1.2",                                 "team/app"],
])("imageName(%j) is %j", (image, name) => {
  expect(imageName(image)).toBe(name);
});

describe("resolveImage", () => {
  const overrides = new Map([["ambit/ztunnel", ["/opt/ztunnel"]]]);
  const run = (image: string, command?: string[], args?: string[]) => resolveImage({ image, command, args }, overrides);

  // prettier-ignore
  test.each([ // image           command              args              runs                                  why
    ["ambit/ztunnel:v1",         undefined,           ["proxy"],        ["/opt/ztunnel", "proxy"],            "replaced on the command line"],
    ["anything",                 ["sleep", "1"],      undefined,        ["sleep", "1"],                       "its own command"],
    ["anything",                 ["sh", "-c"],        ["true"],         ["sh", "-c", "true"],                 "with arguments"],
    ["curlimages/curl",          undefined,           ["-s", "web"],    ["curl", "-s", "web"],                "a tool with an entry point"],
    ["anything",                 undefined,           ["echo", "a"],    ["echo", "a"],                        "arguments alone"],
  ])("%s %j %j runs %j: %s", (image, command: string[] | undefined, args: string[] | undefined, words: string[], _why: string) => {
    expect(run(image, command, args)).toMatchObject({ kind: "run", command: words });
  });

  test("a program that stands for an image brings those beside it along", () => {
    expect(run("ambit/ztunnel")).toMatchObject({ programs: "/opt" });
    expect(resolveImage({ image: "app" }, new Map([["app", ["node", "app.js"]]]))).not.toHaveProperty("programs");
  });

  test("our own images run programs of the checkout", () => {
    const image = resolveImage({ image: "ambit/controlplane", args: ["discovery"] }, new Map());
    expect(image.kind === "run" && image.command.slice(-2)).toEqual([
      expect.stringMatching(/\/controlplane\/main\.ts$/u),
      "discovery",
    ]);
  });

  test("an image without a program says what to do", () => {
    expect(run("example.org/app:1")).toMatchObject({
      kind: "missing",
      message: expect.stringContaining("--image app='COMMAND'"),
    });
  });
});

// prettier-ignore
test.each([ // context                                                    capabilities                 why
  [{ privileged: true },                                                  undefined,                   "all"],
  [{ capabilities: { add: ["ALL"] } },                                    undefined,                   "all, by name"],
  [{ capabilities: { drop: ["ALL"], add: ["NET_ADMIN", "CAP_SYS_ADMIN"] } }, ["NET_ADMIN", "SYS_ADMIN"], "only these"],
  [{ capabilities: { drop: ["all"] } },                                   [],                          "none"],
])("containerCapabilities(%j) is %j: %s", (context: object, capabilities: readonly string[] | undefined, _why: string) => {
  expect(containerCapabilities(context)).toEqual(capabilities);
});

const metadata = { name: "web-1", namespace: "shop", uid: "u", resourceVersion: "1", creationTimestamp: "" };
const podWith = (spec: Partial<Pod["spec"]>, status: Pod["status"] = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata,
  spec: { containers: [{ name: "main", image: "any" }], ...spec },
  status,
});

// prettier-ignore
test.each([ // spec                                                                    contents                                                                                                  why
  [{},                                                                                 "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n", "the cluster's"],
  [{ hostNetwork: true },                                                              "nameserver 172.18.0.1\n",                                                                                "the node's"],
  [{ hostNetwork: true, dnsPolicy: "ClusterFirstWithHostNet" },                        "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n", "as asked"],
  [{ dnsPolicy: "None", dnsConfig: { nameservers: ["9.9.9.9"], options: [{ name: "edns0" }] } }, "nameserver 9.9.9.9\noptions edns0\n",                                                          "its own"],
])("resolv.conf of %j: %j, %s", (spec: Partial<Pod["spec"]>, contents: string, _why: string) => {
  expect(resolvConf(podWith(spec), "172.18.0.1")).toBe(contents);
});

test("a pod with a subdomain knows its full name", () => {
  const text = hostsFile(podWith({ hostname: "db-0", subdomain: "db" }), ["10.244.1.2"]);
  expect(text).toContain("10.244.1.2\tdb-0.db.shop.svc.cluster.local\tdb-0\n");
});

describe("podStatus", () => {
  const running: ContainerView = {
    ...notStartedYet,
    state: { running: { startedAt: "t" } },
    started: true,
    ready: true,
  };
  const ended = (exitCode: number): ContainerView => ({
    ...notStartedYet,
    state: { terminated: { exitCode, reason: "", startedAt: "", finishedAt: "" } },
  });
  const view = (main: ContainerView, more: Partial<PodView> = {}): PodView => ({
    containers: new Map([["main", main]]),
    initContainers: new Map(),
    initialized: true,
    podIps: ["10.244.1.2"],
    hostIps: ["172.18.0.2"],
    startTime: "t",
    ...more,
  });
  const summary = (pod: Pod, seen: PodView) => {
    const status = podStatus(pod, seen, "now");
    return `${status.phase} ${status.conditions
      ?.filter(({ status: value }) => value === "True")
      .map(({ type }) => type)
      .join(" ")}`;
  };
  const alive = "PodScheduled PodReadyToStartContainers Initialized";

  // prettier-ignore
  test.each([ // spec                       view                                     outcome                                       why
    [{},                                    view(notStartedYet),                     `Pending ${alive}`,                           "not started"],
    [{},                                    view(running),                           `Running ${alive} Ready ContainersReady`,     "ready"],
    [{},                                    view({ ...running, ready: false }),      `Running ${alive}`,                           "probe fails"],
    [{},                                    view(ended(1)),                          `Running ${alive}`,                           "will start again"],
    [{ restartPolicy: "Never" },            view(ended(0)),                          "Succeeded PodScheduled Initialized",         "done"],
    [{ restartPolicy: "Never" },            view(ended(1)),                          "Failed PodScheduled Initialized",            "failed"],
    [{ restartPolicy: "OnFailure" },        view(ended(0)),                          "Succeeded PodScheduled Initialized",         "done"],
    [{ restartPolicy: "OnFailure" },        view(ended(1)),                          `Running ${alive}`,                           "tries again"],
    [{ readinessGates: [{ conditionType: "x/y" }] }, view(running),                  `Running ${alive} ContainersReady`,           "the gate is shut"],
    [{},                                    view(running, { failed: { reason: "DeadlineExceeded", message: "" } }), "Failed PodScheduled Initialized", "given up"],
    [{},                                    view(notStartedYet, { initialized: false }), "Pending PodScheduled PodReadyToStartContainers", "init containers run"],
  ])("%j: %j is %s: %s", (spec: Partial<Pod["spec"]>, seen, outcome, _why: string) => {
    expect(summary(podWith(spec), seen)).toBe(outcome);
  });

  test("keeps the conditions of others, and the time of those that did not change", () => {
    const before = [
      { type: "Ready", status: "True", lastTransitionTime: "then" },
      { type: "x/y", status: "True", lastTransitionTime: "then" },
    ];
    const { conditions = [] } = podStatus(podWith({}, { conditions: before }), view(running), "now");
    const timeOf = (type: string) => conditions.find((one) => one.type === type)?.lastTransitionTime;
    expect([timeOf("x/y"), timeOf("Ready"), timeOf("ContainersReady")]).toEqual(["then", "then", "now"]);
  });
});

describe("LogBuffer", () => {
  const text = (log: LogBuffer) => log.lines().map(({ timeMs, bytes }) => `${timeMs} ${bytes.toString()}`);

  test("puts lines together from pieces, with the time of their first", () => {
    const log = new LogBuffer();
    log.append(1, Buffer.from("one\ntw"));
    log.append(2, Buffer.from("o\nthr"));
    log.append(3, Buffer.from("ee"));
    expect(text(log)).toEqual(["1 one\n", "1 two\n", "2 three"]);
  });

  test("drops the oldest beyond its bound", () => {
    const log = new LogBuffer(10);
    for (const line of ["aaaa\n", "bbbb\n", "cccc\n"]) log.append(0, Buffer.from(line));
    expect(text(log)).toEqual(["0 bbbb\n", "0 cccc\n"]);
  });

  test("followers get what comes until the end", async () => {
    const log = new LogBuffer();
    log.append(1, Buffer.from("one\n"));
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { bytes } of log.follow(new AbortController().signal)) seen.push(bytes.toString());
    })();
    await Promise.resolve();
    log.append(2, Buffer.from("two\nend"));
    log.end();
    await reading;
    expect(seen).toEqual(["one\n", "two\n", "end"]);
  });
});
