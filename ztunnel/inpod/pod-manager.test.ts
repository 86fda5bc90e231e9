import { beforeEach, describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import type { NetworkNamespace } from "./netns-sockets.ts";
import { pendingRetryMs, PodManager, type PodProxyFactory } from "./pod-manager.ts";

class FakeFactory implements PodProxyFactory {
  readonly running: string[] = [];
  started = 0;
  drained = 0;
  refusal: string | undefined;

  start: PodProxyFactory["start"] = ({ netns }) => {
    if (this.refusal !== undefined) return Promise.reject(new Error(this.refusal));
    this.started += 1;
    this.running.push(netns.identity);
    const end = () => {
      this.running.splice(this.running.indexOf(netns.identity), 1);
      return Promise.resolve();
    };
    return Promise.resolve({
      stop: end,
      drain: () => {
        this.drained += 1;
        return end();
      },
    });
  };
}

const openNamespaces = new Set<NetworkNamespace>();
function netns(identity: string): NetworkNamespace {
  const close = () => void openNamespaces.delete(namespace);
  const namespace: NetworkNamespace = { fd: 99, identity, isOpen: true, close, [Symbol.dispose]: close };
  openNamespaces.add(namespace);
  return namespace;
}

const info = { name: "n", namespace: "s", serviceAccount: "a" };
let factory: FakeFactory;
let clock: FakeClock;
let ready: boolean[];
let pods: PodManager;
const add = (uid: string, identity: string) => pods.add({ uid, info, netns: netns(identity) });

beforeEach(async () => {
  openNamespaces.clear();
  factory = new FakeFactory();
  clock = new FakeClock();
  ready = [];
  pods = new PodManager({ factory, clock, log: silentLogger, onReady: (isReady) => ready.push(isReady) });
  await pods.connected();
});

describe("adding", () => {
  test("the same namespace again starts nothing and leaks nothing", async () => {
    await add("u", "1");
    expect(await add("u", "1")).toEqual({ ok: true });
    expect(pods.counts).toEqual({ active: 1, pending: 0, started: 1, stopped: 0 });
    expect(openNamespaces.size).toBe(1);
  });

  test("another namespace replaces the proxy", async () => {
    await add("u", "1");
    await add("u", "2");
    expect(factory.running).toEqual(["2"]);
    expect(pods.counts.started).toBe(2);
    expect([...openNamespaces].map(({ identity }) => identity)).toEqual(["2"]);
  });

  test("add, delete, add works", async () => {
    await pods.snapshotSent();
    await add("u", "1");
    await pods.remove("u");
    await add("u", "1");
    expect(pods.counts).toEqual({ active: 1, pending: 0, started: 2, stopped: 1 });
    expect(openNamespaces.size).toBe(1);
  });
});

describe("a pod whose listeners cannot be bound", () => {
  beforeEach(async () => {
    await pods.snapshotSent();
    factory.refusal = "port in use";
  });

  test("is refused, pending, retried each 5 s and ready once it works", async () => {
    expect(await add("u", "1")).toEqual({ ok: false, why: "port in use" });
    expect(pods.states().get("u")).toEqual({ state: "Pending", info });
    await clock.advance(pendingRetryMs);
    expect(pods.counts.pending).toBe(1);
    factory.refusal = undefined;
    await clock.advance(pendingRetryMs - 1);
    expect(pods.counts.pending).toBe(1);
    await clock.advance(1);
    expect(pods.states().get("u")).toEqual({ state: "Up", info });
    expect(ready).toEqual([true, false, true]);
    expect(clock.pending).toBe(0);
  });

  test("is replaced by an Add with another namespace", async () => {
    await add("u", "1");
    factory.refusal = undefined;
    expect(await add("u", "2")).toEqual({ ok: true });
    expect(pods.counts).toMatchObject({ active: 1, pending: 0 });
    expect(openNamespaces.size).toBe(1);
  });

  test("is forgotten by a Del", async () => {
    await add("u", "1");
    await pods.remove("u");
    expect(pods.states().size).toBe(0);
    expect(openNamespaces.size).toBe(0);
    expect(clock.pending).toBe(0);
    expect(ready.at(-1)).toBe(true);
  });
});

describe("snapshots", () => {
  test("not ready before, ready after", async () => {
    await add("u", "1");
    expect(ready).toEqual([]);
    expect(await pods.snapshotSent()).toBe(true);
    expect(ready).toEqual([true]);
    expect(await pods.snapshotSent()).toBe(false);
  });

  test("Del before it clears the name: nothing is left after", async () => {
    await add("u", "1");
    await pods.remove("u");
    expect(factory.running).toEqual(["1"]);
    await pods.snapshotSent();
    expect(factory.running).toEqual([]);
  });

  test("Keep across a reconnect avoids a restart; what is not named goes", async () => {
    await add("kept", "1");
    await add("gone", "2");
    await pods.snapshotSent();
    await pods.disconnected();
    expect(ready).toEqual([true, false]);
    await pods.connected();
    expect(await pods.keep("kept")).toBe(true);
    await pods.snapshotSent();
    expect(factory.running).toEqual(["1"]);
    expect(pods.counts).toEqual({ active: 1, pending: 0, started: 2, stopped: 1 });
    expect(await pods.keep("kept")).toBe(false);
  });

  test("a reconnect forgets what was pending", async () => {
    factory.refusal = "no";
    await add("u", "1");
    await pods.connected();
    expect(pods.states().size).toBe(0);
    expect(openNamespaces.size).toBe(0);
  });
});

test("drain lets every pod finish and retries nothing", async () => {
  await add("a", "1");
  factory.refusal = "no";
  await add("b", "2");
  await pods.drain();
  expect(factory.drained).toBe(1);
  expect(openNamespaces.size).toBe(0);
  expect(clock.pending).toBe(0);
});
