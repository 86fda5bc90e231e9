import { expect, test } from "@jest/globals";
import { KeyedQueue } from "./keyed-queue.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("one at a time for a key, few in all, again if asked for meanwhile", async () => {
  const running = new Map<string, () => void>();
  const log: string[] = [];
  let most = 0;
  const queue = new KeyedQueue(2, (key) => {
    log.push(key);
    const { promise, resolve } = Promise.withResolvers<void>();
    running.set(key, () => {
      running.delete(key);
      resolve();
    });
    most = Math.max(most, running.size);
    return promise;
  });
  for (const key of ["a", "b", "c", "a", "a"]) queue.add(key);
  expect(log).toEqual(["a", "b"]);
  running.get("b")?.();
  await turn();
  expect(log).toEqual(["a", "b", "c"]);
  running.get("a")?.();
  await turn();
  expect(log).toEqual(["a", "b", "c", "a"]);
  const idle = queue.idle();
  running.get("a")?.();
  running.get("c")?.();
  await idle;
  expect(log).toHaveLength(4);
  expect(most).toBe(2);
});

test("close() forgets what waits and waits for what runs", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const log: string[] = [];
  const queue = new KeyedQueue(1, (key) => {
    log.push(key);
    return promise;
  });
  queue.add("a");
  queue.add("b");
  const closed = queue.close();
  queue.add("c");
  resolve();
  await closed;
  expect(log).toEqual(["a"]);
});
