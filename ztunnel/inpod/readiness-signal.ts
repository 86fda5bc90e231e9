/**
 * Tells when a descriptor that Node cannot poll may be read or written again.
 *
 * Node's event loop takes no foreign descriptors, a blocked thread would cost one of libuv's four or a whole isolate,
 * and a poll timer costs latency or CPU. But the kernel can send SIGIO when a socket changes (fcntl(2), F_SETOWN and
 * O_ASYNC), and Node delivers signals on its event loop: no thread, no CPU while idle, and closing is immediate.
 * Signals coalesce, so each one means "look at everything watched": watch few descriptors, and read until EAGAIN.
 * Works on the main thread only, where Node delivers signals.
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { libc, linux, systemError } from "#shared/sockets/libc.ts";

/** Should a signal ever be lost to somebody else's handler, this bounds the wait. */
const sweepMs = 1_000;

const watched = new Set<() => void>();
let sweep: NodeJS.Timeout | undefined;

const lookAtAll = () => {
  for (const look of watched) look();
};

/**
 * Calls `onChange` after each change of the socket's state, at times without one. The process stays alive while
 * something is watched. The returned function ends it; call it before closing the descriptor.
 *
 * @throws MeshError SYSTEM_CALL_FAILED where the kernel or this thread cannot deliver the signal
 */
export function watchReadiness(fd: number, onChange: () => void): () => void {
  if (watched.size === 0) start();
  watched.add(onChange);
  const isSignalling =
    libc.fcntl(fd, linux.F_SETOWN, process.pid) >= 0 &&
    libc.fcntl(fd, linux.F_SETFL, linux.O_NONBLOCK | linux.O_ASYNC) >= 0;
  const unwatch = () => {
    if (!watched.delete(onChange) || watched.size > 0) return;
    clearInterval(sweep);
    // The handler stays: a signal that is already on its way would end the process without it.
  };
  if (isSignalling) return unwatch;
  const error = systemError(`watch fd ${fd} for readiness`);
  unwatch();
  throw error;
}

function start(): void {
  if (!process.listeners("SIGIO").includes(lookAtAll)) process.on("SIGIO", lookAtAll);
  assertCaught();
  sweep = setInterval(lookAtAll, sweepMs);
}

/** SIGIO ends a process that does not catch it; in a worker thread `process.on` only seems to. */
function assertCaught(): void {
  const caught = /^SigCgt:\s*([0-9a-f]+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  const sigio = 29;
  if ((BigInt(`0x${caught}`) & (1n << BigInt(sigio - 1))) === 0n) {
    throw systemError("catch SIGIO in this thread: open the socket on the main thread", "ENOTSUP");
  }
}
