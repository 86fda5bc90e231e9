import { closeSync, fstatSync, openSync } from "node:fs";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { PodManager } from "./pod-manager.ts";
import { PacketMalformed, type Packet } from "./seqpacket.ts";
import { runZdsClient, type ZdsConnection, type ZdsOutcome } from "./zds-client.ts";
import { readAck, writeHello, writeRequest } from "./zds-messages.ts";

/** A node agent whose words the test chooses. */
class ScriptedAgent implements ZdsConnection {
  readonly heard: Uint8Array[] = [];
  isClosed = false;
  sendError: Error | undefined;
  readonly #inbox: (Packet | Error | undefined)[] = [];
  #wake: (() => void) | undefined;

  say(packet: Packet | Error | undefined): void {
    this.#inbox.push(packet);
    this.#wake?.();
  }
  send(bytes: Uint8Array): Promise<void> {
    if (this.sendError !== undefined) return Promise.reject(this.sendError);
    this.heard.push(bytes);
    return Promise.resolve();
  }
  async receive(signal: AbortSignal): Promise<Packet | undefined> {
    while (this.#inbox.length === 0) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
    const next = this.#inbox.shift();
    if (next instanceof Error) throw next;
    return next;
  }
  close(): void {
    this.isClosed = true;
  }
  get acks(): (string | undefined)[] {
    return this.heard.slice(1).map(readAck);
  }
}

const info = { name: "n", namespace: "s", serviceAccount: "a" };
let clock: FakeClock;
let agents: ScriptedAgent[];
let dials: number[];
let failDials: number;
let ready: boolean[];
let started: string[];
let refusal: string | undefined;
let abort: AbortController;
let outcome: ZdsOutcome | undefined;

beforeEach(() => {
  clock = new FakeClock();
  agents = [];
  dials = [];
  failDials = 0;
  ready = [];
  started = [];
  refusal = undefined;
  abort = new AbortController();
  outcome = undefined;
});
afterEach(async () => {
  abort.abort();
  await clock.advance(0);
});

async function start(firstAgent?: ScriptedAgent): Promise<void> {
  const pods = new PodManager({
    clock,
    log: silentLogger,
    onReady: (isReady) => ready.push(isReady),
    factory: {
      start: ({ uid }) => {
        if (refusal !== undefined) return Promise.reject(new Error(refusal));
        started.push(uid);
        return Promise.resolve({ stop: () => Promise.resolve(), drain: () => Promise.resolve() });
      },
    },
  });
  const connect = () => {
    dials.push(clock.now());
    if (dials.length <= failDials) throw new Error("ECONNREFUSED");
    const agent = agents.length === 0 && firstAgent !== undefined ? firstAgent : new ScriptedAgent();
    agents.push(agent);
    return agent;
  };
  const deps = { path: "/run/zds", pods, clock, log: silentLogger, connect, random: () => 0.5 };
  void runZdsClient(deps, abort.signal).then((ended) => (outcome = ended));
  await clock.advance(0);
}

const last = () => agents.at(-1)!;
async function say(packet: Packet | Error | undefined): Promise<void> {
  last().say(packet);
  await clock.advance(0);
}
const withNamespace = (): number => openSync("/proc/self/ns/net", "r");

test("speaks first, acknowledges each message, is ready after the snapshot", async () => {
  await start();
  expect(last().heard).toEqual([writeHello()]);
  await say({ bytes: writeRequest({ kind: "add", uid: "u", info }), fd: withNamespace() });
  await say({ bytes: writeRequest({ kind: "keep", uid: "k" }) });
  expect(ready).toEqual([]);
  await say({ bytes: writeRequest({ kind: "snapshot-sent" }) });
  await say({ bytes: writeRequest({ kind: "del", uid: "u" }) });
  expect(last().acks).toEqual(["", "", "", ""]);
  expect(started).toEqual(["u"]);
  expect(ready).toEqual([true]);
});

test("a pod that cannot start is refused and the connection kept", async () => {
  await start();
  refusal = "port in use";
  await say({ bytes: writeRequest({ kind: "add", uid: "u", info }), fd: withNamespace() });
  await say({ bytes: writeRequest({ kind: "snapshot-sent" }) });
  expect(last().acks).toEqual(["port in use", ""]);
  expect(agents).toHaveLength(1);
  expect(ready).toEqual([]);
});

// prettier-ignore
test.each([ // packet                                                                    why
  [() => ({ bytes: Buffer.from("ffff", "hex") }),                                        "unparsable"],
  [() => ({ bytes: writeRequest({ kind: "add", uid: "u", info }) }),                     "an Add without descriptor"],
  [() => ({ bytes: writeRequest({ kind: "del", uid: "u" }), fd: withNamespace() }),      "a Del with descriptor"],
  [() => new PacketMalformed("too long"),                                                "an oversized packet"],
])("%# is refused and the connection made anew: %s", async (packet, _why) => {
  await start();
  const made = packet();
  await say(made);
  expect(agents[0]?.acks).toEqual([expect.stringMatching(/./)]);
  expect(agents[0]?.isClosed).toBe(true);
  await clock.advance(5);
  expect(agents).toHaveLength(2);
  const { fd } = made as { fd?: number };
  expect(fd === undefined || isClosedFd(fd)).toBe(true);
});

function isClosedFd(fd: number): boolean {
  try {
    fstatSync(fd);
    closeSync(fd);
    return false;
  } catch {
    return true;
  }
}

const snapshot = { kind: "snapshot-sent" } as const;
// prettier-ignore
test.each([ // before          message                                                   why
  [[],                         () => ({ bytes: Buffer.from("0a030a0175", "hex"), fd: withNamespace() }), "Add without workload_info"],
  [[snapshot],                 () => ({ bytes: writeRequest({ kind: "keep", uid: "u" }) }),              "Keep after the snapshot"],
  [[snapshot],                 () => ({ bytes: writeRequest(snapshot) }),                                "a second snapshot"],
] as const)("%# is refused and ends the process: %s", async (before, packet, _why) => {
  await start();
  for (const request of before) await say({ bytes: writeRequest(request) });
  await say(packet());
  expect(last().acks.at(-1)).not.toBe("");
  expect(outcome).toEqual({ kind: "fatal", why: last().acks.at(-1) });
});

test("dials again after 20 ms, 40 ms, 80 ms …, 15 s at most", async () => {
  failDials = 12;
  await start();
  await clock.advance(120_000);
  const gaps = dials.slice(1).map((at, index) => at - dials[index]!);
  expect(gaps).toEqual([20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240, 15000, 15000]);
});

test("a failed hello backs off from 5 ms and is never ready", async () => {
  const mute = new ScriptedAgent();
  mute.sendError = new Error("EPIPE");
  await start(mute);
  await clock.advance(4);
  expect(dials).toHaveLength(1);
  await clock.advance(1);
  expect(dials).toHaveLength(2);
  expect(ready).toEqual([]);
});

test("the end of the connection is not ready, and a snapshot resets the back-off", async () => {
  await start();
  await say({ bytes: writeRequest(snapshot) });
  await say(undefined);
  await clock.advance(0);
  expect(ready).toEqual([true, false]);
  expect(dials).toHaveLength(2);
});

test("stops at once when told", async () => {
  await start();
  abort.abort();
  await clock.advance(0);
  expect(outcome).toEqual({ kind: "stopped" });
  expect(last().isClosed).toBe(true);
});
