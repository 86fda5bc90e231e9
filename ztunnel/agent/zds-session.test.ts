import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { adoptNamespace, openNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import type { Packet } from "#ztunnel/inpod/seqpacket.ts";
import { readRequest, writeAck, writeHello, writeRequest } from "#ztunnel/inpod/zds-messages.ts";
import { ZdsServer, type AgentListener } from "./zds-server.ts";
import { ZdsSession, type AgentConnection, type ServedPod } from "./zds-session.ts";

/** A ztunnel whose words the test chooses. */
class ScriptedZtunnel implements AgentConnection {
  readonly heard: string[] = [];
  isClosed = false;
  answers = true;
  refusal = "";
  readonly #inbox: (Packet | undefined)[] = [];
  #wake: (() => void) | undefined;

  say(bytes: Uint8Array | undefined): void {
    this.#inbox.push(bytes === undefined ? undefined : { bytes });
    this.#wake?.();
  }
  send(bytes: Uint8Array, { fd }: { fd?: number }): Promise<void> {
    const read = readRequest(bytes, fd !== undefined);
    if (read.kind === "request") {
      const { kind } = read.request;
      this.heard.push("uid" in read.request ? `${kind} ${read.request.uid}` : kind);
    } else this.heard.push(read.kind);
    if (this.answers) this.say(writeAck(this.refusal));
    return Promise.resolve();
  }
  async receive(signal?: AbortSignal): Promise<Packet | undefined> {
    while (this.#inbox.length === 0) {
      signal?.throwIfAborted();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        signal?.addEventListener("abort", () => resolve(), { once: true });
      });
    }
    return this.#inbox.shift();
  }
  close(): void {
    this.isClosed = true;
    this.say(undefined);
  }
}

const info = { name: "n", namespace: "s", serviceAccount: "a" };
const netns = openNamespace("/proc/self/ns/net");
const pods: ServedPod[] = [
  { uid: "found", info, netns },
  { uid: "lost", info, netns: undefined },
];
let clock: FakeClock;
let ztunnel: ScriptedZtunnel;
let session: ZdsSession;
let ended: string | undefined;

beforeEach(() => {
  clock = new FakeClock();
  ztunnel = new ScriptedZtunnel();
  session = new ZdsSession(ztunnel, clock, silentLogger);
  ended = undefined;
});
afterEach(async () => {
  session.close();
  await clock.advance(0);
});

async function start(): Promise<void> {
  void session
    .run(
      () => pods,
      () => undefined,
    )
    .then((why) => (ended = why));
  await clock.advance(0);
}

async function startWithHello(): Promise<void> {
  await start();
  ztunnel.say(writeHello());
  await clock.advance(0);
}

test("says nothing before the hello, then replays everything and the snapshot", async () => {
  await start();
  expect(ztunnel.heard).toEqual([]);
  ztunnel.say(writeHello());
  await clock.advance(0);
  expect(ztunnel.heard).toEqual(["add found", "keep lost", "snapshot-sent"]);
  expect(session.hasSnapshot).toBe(true);
});

test("one message at a time: the next waits for the acknowledgement", async () => {
  ztunnel.answers = false;
  await startWithHello();
  expect(ztunnel.heard).toEqual(["add found"]);
  ztunnel.say(writeAck());
  await clock.advance(0);
  expect(ztunnel.heard).toEqual(["add found", "keep lost"]);
});

test("a refusal is told and the connection kept", async () => {
  await startWithHello();
  ztunnel.refusal = "port in use";
  expect(await session.send({ kind: "add", uid: "u", info }, netns)).toEqual({
    ok: false,
    why: "ztunnel refused: port in use",
  });
  expect(session.isOpen).toBe(true);
});

test("a pod that is gone meanwhile is not sent", async () => {
  await startWithHello();
  const closed = adoptNamespace(openNamespace("/proc/self/ns/net").fd);
  closed.close();
  expect(await session.send({ kind: "add", uid: "u", info }, closed)).toEqual({ ok: false, why: "the pod is gone" });
  expect(ztunnel.heard).not.toContain("add u");
});

// prettier-ignore
test.each([ // what ztunnel says                                why
  [(): Uint8Array | undefined => undefined,   /closed by ztunnel/],
  [() => writeAck(),                         /unsolicited/],
  [() => Buffer.from("ffff", "hex"),         /not an acknowledgement/],
] as const)("%# ends the session: %s", async (words, why) => {
  await startWithHello();
  ztunnel.say(words());
  await clock.advance(0);
  expect(ended).toMatch(why);
  expect(ztunnel.isClosed).toBe(true);
  expect(await session.send({ kind: "del", uid: "u" })).toMatchObject({ ok: false });
});

test.each([
  ["another version", () => ztunnel.say(Buffer.from("0802", "hex"))],
  ["garbage", () => ztunnel.say(writeRequest({ kind: "add", uid: "u", info }))],
  ["a hang-up", () => ztunnel.say(undefined)],
])("instead of a hello, %s ends the session", async (_what, speak) => {
  await start();
  speak();
  await clock.advance(0);
  expect(ended).toMatch(/ZdsHello/);
});

test("silence instead of a hello, or of an acknowledgement, ends it after 5 s", async () => {
  await start();
  await clock.advance(4_999);
  expect(ended).toBeUndefined();
  await clock.advance(1);
  expect(ended).toMatch(/no ZdsHello came within 5000 ms/);

  ztunnel = new ScriptedZtunnel();
  session = new ZdsSession(ztunnel, clock, silentLogger);
  await startWithHello();
  ztunnel.answers = false;
  const sent = session.send({ kind: "del", uid: "u" });
  await clock.advance(5_000);
  expect(await sent).toEqual({ ok: false, why: "ztunnel does not acknowledge within 5000 ms" });
  expect(ended).toMatch(/does not acknowledge/);
});

test("additions go to the newest ztunnel, deletions to all, and who goes is forgotten", async () => {
  const waiting: ScriptedZtunnel[] = [];
  let wake: (() => void) | undefined;
  const listener: AgentListener = {
    accept: async (signal) => {
      while (waiting.length === 0) {
        signal.throwIfAborted();
        await new Promise<void>((resolve) => {
          wake = resolve;
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
      }
      return waiting.shift()!;
    },
    close: () => undefined,
  };
  const connect = async () => {
    const made = new ScriptedZtunnel();
    made.say(writeHello());
    waiting.push(made);
    wake?.();
    await clock.advance(200);
    return made;
  };
  const stop = new AbortController();
  const server = new ZdsServer({ clock, log: silentLogger, onChange: () => undefined });
  expect(await server.add({ uid: "early", info, netns })).toEqual({ ok: false, why: "no ztunnel is connected" });
  const serving = server.serve(listener, stop.signal);
  const old = await connect();
  const fresh = await connect();
  expect(old.heard).toEqual(["add early", "snapshot-sent"]);
  expect(await server.add({ uid: "u", info, netns })).toEqual({ ok: true });
  await server.remove("u");
  expect(old.heard).toEqual(["add early", "snapshot-sent", "del u"]);
  expect(fresh.heard).toEqual(["add early", "snapshot-sent", "add u", "del u"]);
  fresh.say(undefined);
  await clock.advance(0);
  expect(await server.add({ uid: "v", info, netns })).toEqual({ ok: true });
  expect(old.heard.at(-1)).toBe("add v");
  stop.abort();
  await serving;
  expect(server.sessions).toBe(0);
});
