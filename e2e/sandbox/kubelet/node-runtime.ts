import { once } from "node:events";
import type { Duplex } from "node:stream";
import type { Ip } from "#shared/net/ip.ts";
import { connectInNamespace, openNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import { ApiError } from "../apiserver/api-error.ts";
import type { KubeObject } from "../apiserver/object-store.ts";
import type { ExecStreams, LogOptions, PodRuntime } from "../apiserver/pod-runtime.ts";
import { as, type Pod } from "../kinds.ts";
import type { ContainerRunner } from "./container-runner.ts";
import type { Kubelet } from "./kubelet.ts";
import type { LogLine } from "./log-buffer.ts";
import type { PodWorker } from "./pod-worker.ts";

/** Logs, commands and connections for the API server, answered by the kubelet that runs the pod. */
export function nodeRuntime(kubelets: () => readonly Kubelet[]): PodRuntime {
  const workerOf = (object: KubeObject): PodWorker => {
    const pod = as<Pod>(object);
    const worker = kubelets()
      .find(({ node }) => node === pod.spec.nodeName)
      ?.worker(pod.metadata.uid);
    if (worker !== undefined) return worker;
    const why =
      pod.spec.nodeName === undefined ? "it is not bound to a node yet" : `node ${pod.spec.nodeName} does not run it`;
    throw new ApiError("BadRequest", `pod ${pod.metadata.name}: ${why}`);
  };
  const runnerOf = (pod: KubeObject, container: string): ContainerRunner => {
    const runner = workerOf(pod).runner(container);
    if (runner !== undefined) return runner;
    throw new ApiError(
      "BadRequest",
      `container "${container}" in pod "${pod.metadata.name}" is waiting to start: ContainerCreating`,
    );
  };

  return {
    logs: (pod, container, options) => readLog(runnerOf(pod, container), pod, options),
    exec: async (pod, container, command, streams) => {
      const { running } = runnerOf(pod, container);
      if (running === undefined) throw notRunning(pod, container);
      return running.exec(command, streams);
    },
    attach: (pod, container, streams) => attach(runnerOf(pod, container), pod, streams),
    connect: async (pod, port) => {
      const path = workerOf(pod).networkNamespace;
      if (path === undefined) throw new ApiError("BadRequest", `pod ${pod.metadata.name} has no network yet`);
      return dial(path, port);
    },
  };
}

const notRunning = (pod: KubeObject, container: string) =>
  new ApiError("BadRequest", `container "${container}" in pod "${pod.metadata.name}" is not running`);

async function* readLog(runner: ContainerRunner, pod: KubeObject, options: LogOptions): AsyncGenerator<Buffer> {
  const log = options.previous ? runner.previousLog : runner.log;
  const { name } = runner.container;
  if (log === undefined) {
    throw new ApiError("BadRequest", `previous terminated container "${name}" in pod "${pod.metadata.name}" not found`);
  }
  if (
    !options.previous &&
    runner.running === undefined &&
    runner.view.state.waiting !== undefined &&
    runner.view.restartCount === 0 &&
    runner.view.lastState.terminated === undefined
  ) {
    const { reason } = runner.view.state.waiting;
    throw new ApiError(
      "BadRequest",
      `container "${name}" in pod "${pod.metadata.name}" is waiting to start: ${reason}`,
    );
  }
  let left = options.limitBytes ?? Number.POSITIVE_INFINITY;
  const show = (line: LogLine): Buffer => {
    const prefix = options.timestamps ? Buffer.from(`${new Date(line.timeMs).toISOString()} `) : undefined;
    const bytes = prefix === undefined ? line.bytes : Buffer.concat([prefix, line.bytes]);
    const cut = bytes.subarray(0, Math.min(bytes.length, left));
    left -= cut.length;
    return cut;
  };
  const isWanted = ({ timeMs }: LogLine) => options.sinceMs === undefined || timeMs >= options.sinceMs;
  let skip = 0;
  if (options.tailLines !== undefined) {
    const wanted = log.lines().filter(isWanted);
    skip = Math.max(0, wanted.length - options.tailLines);
  }
  const source: AsyncIterable<LogLine> | Iterable<LogLine> = options.follow ? log.follow(options.signal) : log.lines();
  for await (const line of source) {
    if (options.signal.aborted || left <= 0) return;
    if (!isWanted(line)) continue;
    if (skip > 0) skip--;
    else yield show(line);
  }
}

/** Joins the output of the main process from now on, and its input where the container keeps one. */
async function attach(runner: ContainerRunner, pod: KubeObject, streams: ExecStreams): Promise<number> {
  const { running, log, container } = runner;
  if (running === undefined) throw notRunning(pod, container.name);
  if (streams.stdin !== undefined && running.stdin !== undefined) streams.stdin.pipe(running.stdin, { end: false });
  const done = new AbortController();
  const signal = AbortSignal.any([streams.signal, done.signal]);
  const gone = once(streams.signal, "abort").then(() => 0);
  let skip = log.lines().length;
  const copy = (async () => {
    for await (const { bytes } of log.follow(signal)) {
      if (skip > 0) skip--;
      else streams.stdout?.write(bytes);
    }
  })();
  const exitCode = await Promise.race([running.exited.then((exit) => exit.exitCode), gone]);
  if (streams.signal.aborted) done.abort();
  await copy;
  return exitCode;
}

const dialTimeoutMs = 10_000;

async function dial(netns: string, port: number): Promise<Duplex> {
  using namespace = openNamespace(netns);
  const socket = connectInNamespace(namespace.fd, { ip: "127.0.0.1" as Ip, port }, dialTimeoutMs);
  try {
    await once(socket, "connect");
  } catch (error) {
    socket.destroy();
    throw error;
  }
  return socket;
}
