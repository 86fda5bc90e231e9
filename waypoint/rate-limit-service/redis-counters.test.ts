/** Counting in Redis, played by a server that does as it is told. */
import { createServer, type AddressInfo, type Socket } from "node:net";
import { expect, test } from "@jest/globals";
import { silentLogger } from "#shared/observe/logger.ts";
import { RedisCounters } from "./counters.ts";

/** Speaks as much of Redis' protocol as the client asks for. */
class FakeRedis implements AsyncDisposable {
  readonly #server = createServer((socket) => this.#take(socket));
  readonly #sockets = new Set<Socket>();
  readonly counts = new Map<string, number>();
  readonly expiries = new Map<string, number>();
  /** What it says to INCRBY instead of the count. */
  answer: string | undefined;
  isSilent = false;
  connections = 0;

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `redis://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Breaks every connection. */
  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  #take(socket: Socket): void {
    this.connections++;
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => {});
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      for (let command = first(text); command !== undefined; command = first(text)) {
        text = text.slice(command.length);
        const reply = this.#reply(command.words);
        if (!this.isSilent) socket.write(reply);
      }
    });
  }

  #reply([name = "", key = "", value = ""]: readonly string[]): string {
    switch (name.toUpperCase()) {
      case "INCRBY":
        this.counts.set(key, (this.counts.get(key) ?? 0) + Number(value));
        return this.answer ?? `:${this.counts.get(key)}\r\n`;
      case "EXPIRE":
        this.expiries.set(key, Number(value));
        return ":1\r\n";
      case "HELLO":
        return "%1\r\n$5\r\nproto\r\n:3\r\n";
      default:
        return "+OK\r\n";
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.reset();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** The first whole command of a stream, and how long it is. */
function first(text: string): { readonly words: readonly string[]; readonly length: number } | undefined {
  const head = /^\*(\d+)\r\n/.exec(text);
  if (head === null) return undefined;
  let at = head[0].length;
  const words: string[] = [];
  for (let word = 0; word < Number(head[1]); word++) {
    const size = /^\$(\d+)\r\n/.exec(text.slice(at));
    if (size === null) return undefined;
    at += size[0].length;
    const length = Number(size[1]);
    if (text.length < at + length + 2) return undefined;
    words.push(text.slice(at, at + length));
    at += length + 2;
  }
  return { words, length: at };
}

const addition = { key: "a", hits: 2, ttlSeconds: 60 };

const pause = () => new Promise((resolve) => setTimeout(resolve, 20));

async function until<T>(what: () => Promise<T>): Promise<T> {
  const startedMs = performance.now();
  for (;;) {
    try {
      return await what();
    } catch (error) {
      if (performance.now() - startedMs > 60_000) throw error;
      await pause();
    }
  }
}

test("counts there, each with an end", async () => {
  await using redis = new FakeRedis();
  await using counters = RedisCounters.open(await redis.listen(), silentLogger);
  await until(() => counters.add([{ ...addition, key: "first of all" }]));
  redis.expiries.clear();
  expect(await counters.add([addition, { ...addition, key: "b" }])).toEqual([2, 2]);
  expect(await counters.add([addition])).toEqual([4]);
  expect(redis.expiries).toEqual(
    new Map([
      ["a", 60],
      ["b", 60],
    ]),
  );
});

test("a connection that breaks is made again", async () => {
  await using redis = new FakeRedis();
  await using counters = RedisCounters.open(await redis.listen(), silentLogger);
  await until(() => counters.add([addition]));
  redis.reset();
  await until(() => counters.add([addition]));
  expect(redis.connections).toBe(2);
});

// prettier-ignore
test.each([ // what Redis says
  ["-OOM command not allowed when used memory > 'maxmemory'.\r\n", "OOM"],
  ["$3\r\nabc\r\n",                                                "no number"],
])("what is no count is an error: %j", async (answer, message) => {
  await using redis = new FakeRedis();
  await using counters = RedisCounters.open(await redis.listen(), silentLogger);
  await until(() => counters.add([addition]));
  redis.answer = answer;
  await expect(counters.add([addition])).rejects.toThrow(message);
});

test("one that says nothing is waited for by a few only, and not for long", async () => {
  await using redis = new FakeRedis();
  await using counters = RedisCounters.open(await redis.listen(), silentLogger);
  await until(() => counters.add([addition]));
  redis.isSilent = true;
  const first = counters.add([addition]).catch(String);
  const outcomes: string[] = [];
  while (outcomes.filter((each) => each.includes("Redis does not answer")).length < 5) {
    counters.add([addition]).catch((error: unknown) => outcomes.push(String(error)));
    await pause();
  }
  expect(await first).toContain("within 1000 ms");
  // What it was asked it never answers; a connection of its own is made for what comes then.
  redis.isSilent = false;
  await until(() => counters.add([addition]));
  expect(redis.connections).toBe(2);
});
