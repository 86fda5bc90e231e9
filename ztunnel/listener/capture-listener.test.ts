import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, test } from "@jest/globals";
import { systemClock } from "#shared/clock/clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { listenInNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import { CaptureListener } from "./capture-listener.ts";

/** Connects without our event loop: it says so through `flag`, and tells in the end how many were answered. */
const elsewhere = `
  const { connect } = require("node:net");
  const { parentPort, workerData: { port, count, flag } } = require("node:worker_threads");
  let connected = 0, answered = 0, ended = 0;
  for (let index = 0; index < count; index++) {
    const socket = connect({ host: "127.0.0.1", port });
    socket.on("connect", () => {
      if (++connected < count) return;
      Atomics.store(flag, 0, 1);
      Atomics.notify(flag, 0);
    });
    socket.on("data", () => answered++);
    socket.on("error", () => {});
    socket.on("close", () => ++ended === count && parentPort.postMessage(answered));
  }
`;

test("connections that wait to be accepted when a drain begins are served", async () => {
  const { fd, port } = listenInNamespace(undefined, { address: "127.0.0.1", port: 0 });
  const onAccept = ({ socket }: { readonly socket: NodeJS.WritableStream }) => void socket.end("served");
  const listener = await CaptureListener.open({ fd, clock: systemClock, log: silentLogger, paused: false, onAccept });
  const [count, flag] = [50, new Int32Array(new SharedArrayBuffer(4))];
  const worker = new Worker(elsewhere, { eval: true, workerData: { port, count, flag } });
  const told = once(worker, "message");
  Atomics.wait(flag, 0, 0, 60_000);
  await listener.stop({ deadlineMs: 1_000 });
  expect(await told).toEqual([count]);
});
