import { afterEach, expect, test } from "@jest/globals";
import { PassThrough } from "node:stream";
import type { Socket } from "node:net";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { readAll, socketPair, until } from "#shared/testing/loopback.ts";
import { peek } from "./peek.ts";

const open: Socket[] = [];
afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy();
});

async function pair() {
  const [client, served] = await socketPair();
  open.push(client, served);
  return { client, served };
}

/** Tells once there are `atLeast` bytes, or the end. */
function watch(stream: Socket | PassThrough, atLeast: number, clock = new FakeClock()) {
  const outcome = Promise.withResolvers<string>();
  peek(stream, {
    clock,
    deadlineMs: 15_000,
    look: (bytes, isEnd) => (bytes.length >= atLeast || isEnd ? bytes.toString() : undefined),
    onSeen: outcome.resolve,
    onDeadline: () => outcome.resolve("deadline"),
    onGone: () => outcome.resolve("gone"),
  });
  return outcome.promise;
}

test("sees bytes that come in pieces, and leaves them to be read", async () => {
  const { client, served } = await pair();
  const seen = watch(served, 6);
  client.write("abc");
  await until(() => served.readableLength === 3, "the first piece is there");
  client.write("def");
  expect(await seen).toBe("abcdef");
  client.end("ghi");
  expect((await readAll(served)).toString()).toBe("abcdefghi");
});

test("a client that says too little and ends is told by what it said, which is not lost", async () => {
  const { client, served } = await pair();
  const seen = watch(served, 100);
  client.write("abc");
  await until(() => served.readableLength === 3, "the first piece is there");
  client.end();
  expect(await seen).toBe("abc");
  expect((await readAll(served)).toString()).toBe("abc");
});

test("all at once with the end", async () => {
  const { client, served } = await pair();
  client.end("abc");
  expect(await watch(served, 100)).toBe("abc");
  expect((await readAll(served)).toString()).toBe("abc");
});

test("a client that says nothing: gone, or the deadline", async () => {
  const first = await pair();
  first.client.end();
  expect(await watch(first.served, 1)).toBe("gone");
  const second = await pair();
  const clock = new FakeClock();
  const waiting = watch(second.served, 1, clock);
  await clock.advance(15_000);
  expect(await waiting).toBe("deadline");
  expect(clock.pending).toBe(0);
});

test("what fills the stream's buffer has to be enough", async () => {
  const stream = new PassThrough({ highWaterMark: 4 });
  const seen = watch(stream, 100);
  stream.write("abcdefgh");
  expect(await seen).toBe("abcdefgh");
});

test("a second look finds the same bytes", async () => {
  const { client, served } = await pair();
  client.write("abcdef");
  expect(await watch(served, 3)).toBe("abcdef");
  expect(await watch(served, 6)).toBe("abcdef");
  client.end();
  expect((await readAll(served)).toString()).toBe("abcdef");
});
