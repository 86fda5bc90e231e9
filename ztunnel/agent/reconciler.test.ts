import { beforeEach, describe, expect, test } from "@jest/globals";
import { pino } from "pino";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { NetworkNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import { enablementDefault, parseEnablement } from "./enrolment.ts";
import { redirectionAnnotation, type Labels, type PodFacts } from "./pod-facts.ts";
import { Reconciler, type CapturedCondition, type PodReport } from "./reconciler.ts";
import { probeSourcesDefault, routingBatches } from "./redirect-rules.ts";
import type { SendOutcome } from "./zds-session.ts";

const ambient = { "istio.io/dataplane-mode": "ambient" };
const cart: PodFacts = {
  uid: "uid-cart",
  name: "cart",
  namespace: "shop",
  serviceAccount: "cart",
  labels: {},
  annotations: {},
  ips: ["10.0.0.5" as Ip],
  hostNetwork: false,
  phase: "Running",
  isTerminating: false,
};
const routing = routingBatches({ ipv6: false });
const tables = "table inet istio-ambient-nat {\n}\n";

/** A node on which everything works until a test breaks it. */
class FakeNode {
  readonly clock = new FakeClock();
  readonly log: string[] = [];
  readonly warnings: string[] = [];
  /** Of each installation of rules: whether connections of before were to end. */
  readonly joins: boolean[] = [];
  readonly open = new Set<string>();
  readonly known = new Set<string>(["uid-cart"]);
  /** Pods that ztunnel was told of. */
  readonly told = new Set<string>();
  rulesStand = false;
  listens = true;
  hasAddresses = true;
  /** Whether ztunnel serves DNS in the pod. */
  answersDns = true;
  capturesDns = false;
  ztunnel: SendOutcome = { ok: true };
  installError: string | undefined;
  statusError: string | undefined;
  condition: CapturedCondition | undefined;
  last: PodReport | undefined;
  pod: PodFacts = cart;

  readonly reconciler = new Reconciler({
    rules: {
      enablement: parseEnablement(enablementDefault),
      excludedNamespaces: new Set(["kube-system"]),
      systemNamespace: "istio-system",
    },
    redirect: { probeSources: probeSourcesDefault, ipv6: false, dnsCapture: true },
    actions: {
      find: (uid) => (this.known.has(uid) ? this.#namespace(uid) : undefined),
      install: (_fd, { dnsCapture }, joins) => {
        this.log.push("install");
        this.joins.push(joins);
        if (this.installError !== undefined) return Promise.reject(new Error(this.installError));
        this.rulesStand = true;
        this.capturesDns = dnsCapture;
        return Promise.resolve({ tables, routing, dnsCapture });
      },
      release: () => {
        this.log.push("release");
        return Promise.resolve();
      },
      remove: () => {
        this.log.push("remove");
        this.rulesStand = false;
        return Promise.resolve();
      },
      observe: () =>
        Promise.resolve({
          ips: this.hasAddresses ? this.pod.ips : [],
          listening: new Set(this.listens ? [15_001, 15_006, 15_008] : []),
          answersDns: this.answersDns,
          ruleset: this.rulesStand ? tables : "",
          routing: { "-4": `${routing[0]?.expected.rule}\n${routing[0]?.expected.route}`, "-6": "" },
        }),
      answersDns: () => this.answersDns,
    },
    ztunnel: {
      isServed: true,
      remember: ({ uid, netns }) => {
        this.told.add(uid);
        this.log.push(`remember ${uid} ${netns === undefined ? "keep" : "add"}`);
      },
      add: ({ uid }) => {
        this.told.add(uid);
        this.log.push(`zds add ${uid}`);
        return Promise.resolve(this.ztunnel);
      },
      remove: (uid) => {
        if (this.told.delete(uid)) this.log.push(`zds del ${uid}`);
        return Promise.resolve();
      },
    },
    probes: {
      set: (_uid, ips) => {
        this.log.push(`probe ${ips.join()}`);
        return Promise.resolve();
      },
      delete: () => {
        this.log.push("unprobe");
        return Promise.resolve();
      },
    },
    status: {
      setRedirection: (_pod, value) => {
        if (this.statusError !== undefined) return Promise.reject(new Error(this.statusError));
        this.log.push(`annotation ${value}`);
        const { [redirectionAnnotation]: _old, ...others } = this.pod.annotations;
        this.change({ annotations: value === undefined ? others : { ...others, [redirectionAnnotation]: value } });
        return Promise.resolve();
      },
      setCaptured: (_pod, condition) => {
        this.condition = condition;
        this.change({ captured: condition });
        return Promise.resolve();
      },
    },
    clock: this.clock,
    log: pino({ level: "warn" }, { write: (line) => void this.warnings.push(line) }),
    onReport: (_uid, report) => {
      this.last = report;
    },
  });

  #namespace(uid: string): NetworkNamespace {
    this.open.add(uid);
    const close = () => void this.open.delete(uid);
    return { fd: 9, identity: uid, isOpen: true, close, [Symbol.dispose]: close };
  }

  /** The API server's answer to a change, as the watch brings it. */
  change(change: Partial<PodFacts>): void {
    this.pod = { ...this.pod, ...change };
    this.reconciler.podChanged(this.pod);
  }

  async label(labels: Labels | undefined): Promise<void> {
    this.reconciler.namespaceChanged("shop", labels);
    await this.reconciler.settled();
  }

  takeLog(): string[] {
    return this.log.splice(0);
  }
}

let node: FakeNode;
beforeEach(async () => {
  node = new FakeNode();
  node.change({});
  await node.label({});
});

describe("live enrolment", () => {
  test("a pod nobody wants is not touched, and says why", () => {
    expect(node.takeLog()).toEqual([]);
    expect(node.last).toMatchObject({ wanted: false, captured: false, reason: "NotSelected" });
    expect(node.condition).toBeUndefined();
  });

  test("the label brings it in: ztunnel first, then probes, rules, annotation, proof", async () => {
    await node.label(ambient);
    expect(node.takeLog()).toEqual(["zds add uid-cart", "probe 10.0.0.5", "install", "annotation enabled"]);
    expect(node.condition).toMatchObject({ status: "True", reason: "Captured" });
    expect(node.last).toMatchObject({ wanted: true, captured: true });
    expect(node.clock.pending).toBe(0);
  });

  test("its own writes coming back start nothing", async () => {
    await node.label(ambient);
    node.takeLog();
    node.change({});
    await node.reconciler.settled();
    expect(node.takeLog()).toEqual([]);
  });

  test("without the label it leaves: annotation first, then ztunnel, while its way back still stands, then rules and probes", async () => {
    await node.label(ambient);
    node.takeLog();
    await node.label({});
    expect(node.takeLog()).toEqual(["annotation undefined", "release", "zds del uid-cart", "remove", "unprobe"]);
    expect(node.open.size).toBe(0);
    expect(node.condition).toMatchObject({ status: "False", reason: "NotSelected" });
  });

  test("an excluded pod that a former agent had captured is let go", async () => {
    const other = new FakeNode();
    const pod = { ...cart, annotations: { [redirectionAnnotation]: "enabled" } };
    other.pod = pod;
    other.reconciler.restore([pod]);
    other.reconciler.podChanged(pod);
    await other.label({});
    expect(other.takeLog()).toEqual([
      "remember uid-cart add",
      "probe 10.0.0.5",
      "annotation undefined",
      "release",
      "zds del uid-cart",
      "remove",
      "unprobe",
    ]);
  });

  test("connections of before end when it joins, and not when its rules are mended or a new agent comes", async () => {
    await node.label(ambient);
    node.rulesStand = false;
    node.reconciler.checkAll();
    await node.reconciler.settled();
    expect(node.joins).toEqual([true, false]);
    const successor = new FakeNode();
    const pod = { ...cart, annotations: { [redirectionAnnotation]: "enabled" } };
    successor.pod = pod;
    successor.reconciler.namespaceChanged("shop", ambient);
    successor.reconciler.restore([pod]);
    successor.reconciler.podChanged(pod);
    await successor.reconciler.settled();
    expect(successor.joins).toEqual([false]);
  });

  test("a deleted pod is forgotten, its namespace left to the kernel", async () => {
    await node.label(ambient);
    node.takeLog();
    node.reconciler.podGone("uid-cart");
    await node.reconciler.settled();
    expect(node.takeLog()).toEqual(["unprobe", "zds del uid-cart"]);
    expect(node.open.size).toBe(0);
    expect(node.last).toBeUndefined();
    expect(node.reconciler.reports).toEqual([]);
  });

  test("a pod that has ended leaves without its rules being undone", async () => {
    await node.label(ambient);
    node.takeLog();
    node.change({ phase: "Succeeded" });
    await node.reconciler.settled();
    expect(node.takeLog()).toEqual(["annotation undefined", "unprobe", "zds del uid-cart"]);
  });

  test("a new address is probed and proven", async () => {
    await node.label(ambient);
    node.takeLog();
    node.change({ ips: ["10.0.0.6" as Ip] });
    await node.reconciler.settled();
    expect(node.takeLog()).toEqual(["probe 10.0.0.6"]);
  });

  test("an annotation somebody removed comes back", async () => {
    await node.label(ambient);
    node.takeLog();
    node.change({ annotations: {} });
    await node.reconciler.settled();
    expect(node.takeLog()).toEqual(["annotation enabled"]);
  });

  test("an annotation that changes the rules installs them anew", async () => {
    await node.label(ambient);
    node.takeLog();
    node.change({ annotations: { ...node.pod.annotations, "ambient.istio.io/bypass-inbound-capture": "true" } });
    await node.reconciler.settled();
    expect(node.takeLog()).toEqual(["install"]);
  });
});

describe("what does not work yet", () => {
  test("ztunnel refuses: rules stand all the same, annotation pending, retried from 5 ms to 5 s", async () => {
    node.ztunnel = { ok: false, why: "port in use" };
    await node.label(ambient);
    expect(node.takeLog()).toEqual(["zds add uid-cart", "probe 10.0.0.5", "install", "annotation pending"]);
    const delays: number[] = [];
    for (let attempt = 0; attempt < 12; attempt++) {
      const before = node.clock.now();
      while (!node.log.includes("zds add uid-cart")) await node.clock.advance(5);
      node.log.length = 0;
      delays.push(node.clock.now() - before);
    }
    expect(delays).toEqual([5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000]);
    expect(node.condition).toMatchObject({ status: "False", reason: "ZtunnelPending", message: "port in use" });
    node.ztunnel = { ok: true };
    await node.clock.advance(5_000);
    await node.reconciler.settled();
    expect(node.takeLog()).toContain("annotation enabled");
    expect(node.condition).toMatchObject({ status: "True" });
    expect(node.clock.pending).toBe(0);
  });

  test("a ztunnel that restarts does not unpublish captured pods, but they are not proven", async () => {
    await node.label(ambient);
    node.takeLog();
    node.ztunnel = { ok: false, why: "no ztunnel is connected" };
    node.reconciler.ztunnelChanged();
    await node.clock.advance(2_000);
    expect(node.pod.annotations[redirectionAnnotation]).toBe("enabled");
    expect(node.last).toMatchObject({ captured: false, reason: "ZtunnelPending" });
    node.ztunnel = { ok: true };
    node.reconciler.ztunnelChanged();
    await node.reconciler.settled();
    expect(node.last).toMatchObject({ captured: true });
  });

  test("no address yet: waits for one, quietly", async () => {
    node.change({ ips: [] });
    await node.label(ambient);
    expect(node.last).toMatchObject({ captured: false, reason: "NoAddress" });
    expect(node.clock.pending).toBe(0);
    expect(node.condition).toBeUndefined();
    node.change({ ips: cart.ips });
    await node.reconciler.settled();
    expect(node.last).toMatchObject({ captured: true });
  });

  test("a namespace that is not found is looked for again", async () => {
    node.known.clear();
    await node.label(ambient);
    expect(node.last).toMatchObject({ reason: "NamespaceNotFound" });
    node.known.add("uid-cart");
    await node.clock.advance(5);
    await node.reconciler.settled();
    expect(node.last).toMatchObject({ captured: true });
  });

  test("rules that cannot be installed publish nothing", async () => {
    node.installError = "nft failed";
    await node.label(ambient);
    await node.clock.advance(1_000);
    expect(node.condition).toMatchObject({ status: "False", reason: "RulesFailed", message: "nft failed" });
    expect(node.log.filter((line) => line.startsWith("annotation"))).toEqual([]);
  });

  test("a malformed annotation is told, once, and not retried", async () => {
    node.change({ annotations: { "ambient.istio.io/dns-capture": "maybe" } });
    await node.label(ambient);
    expect(node.condition).toMatchObject({ reason: "AnnotationInvalid" });
    expect(node.clock.pending).toBe(0);
  });

  test("a status that cannot be written is written later", async () => {
    node.statusError = "no connection";
    await node.label(ambient);
    expect(node.last).toMatchObject({ captured: false });
    node.statusError = undefined;
    await node.clock.advance(5);
    await node.reconciler.settled();
    expect(node.last).toMatchObject({ captured: true });
  });
});

describe("proof", () => {
  test("flushed rules are found and mended", async () => {
    await node.label(ambient);
    node.takeLog();
    node.rulesStand = false;
    node.reconciler.checkAll();
    await node.reconciler.settled();
    expect(node.takeLog()).toEqual(["install"]);
    expect(node.last).toMatchObject({ captured: true });
  });

  test.each([
    [false, 1, "stays"],
    [true, 0, "is ending, which takes its addresses first"],
  ])("lost addresses of a pod (ending: %s) are worth %i warnings, when it %s", async (isTerminating, warnings) => {
    await node.label(ambient);
    node.hasAddresses = false;
    node.change({ isTerminating });
    node.reconciler.checkAll();
    await node.reconciler.settled();
    expect(node.last).toMatchObject({ captured: false, reason: "WrongNamespace" });
    expect(node.warnings.filter((line) => line.includes("mending"))).toHaveLength(warnings);
  });

  test("missing listeners are told, and ztunnel asked again", async () => {
    await node.label(ambient);
    node.takeLog();
    node.listens = false;
    node.reconciler.checkAll();
    await node.clock.advance(1_000);
    expect(node.condition).toMatchObject({ status: "False", reason: "ListenersMissing" });
    expect(node.takeLog()).toContain("zds add uid-cart");
    node.listens = true;
    await node.clock.advance(5_000);
    await node.reconciler.settled();
    expect(node.condition).toMatchObject({ status: "True" });
  });
});

describe("DNS", () => {
  test("is captured where ztunnel answers it", async () => {
    await node.label(ambient);
    expect(node.capturesDns).toBe(true);
    expect(node.condition?.message).not.toContain("DNS");
  });

  test("goes past a ztunnel that does not answer it, and the pod says so, until one does", async () => {
    node.answersDns = false;
    await node.label(ambient);
    expect(node.capturesDns).toBe(false);
    expect(node.condition).toMatchObject({ status: "True", message: expect.stringContaining("15053") });
    node.answersDns = true;
    node.reconciler.checkAll();
    await node.reconciler.settled();
    expect(node.capturesDns).toBe(true);
    expect(node.condition?.message).not.toContain("15053");
  });

  test("is left alone where the pod's annotation says so", async () => {
    node.change({ annotations: { "ambient.istio.io/dns-capture": "false" } });
    await node.label(ambient);
    expect(node.capturesDns).toBe(false);
    expect(node.condition?.message).not.toContain("15053");
  });
});

describe("the end of the agent", () => {
  test("an upgrade leaves everything in the pods", async () => {
    await node.label(ambient);
    node.takeLog();
    await node.reconciler.close();
    expect(node.takeLog()).toEqual([]);
    expect(node.rulesStand).toBe(true);
    expect(node.open.size).toBe(0);
  });

  test("uninstallation takes every pod out", async () => {
    await node.label(ambient);
    node.takeLog();
    await node.reconciler.cleanUp();
    expect(node.takeLog()).toEqual(["annotation undefined", "release", "zds del uid-cart", "remove", "unprobe"]);
  });
});
