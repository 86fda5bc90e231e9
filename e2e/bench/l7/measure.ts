/** Every measurement of one proxy beside the others, in turns: what disturbs one round disturbs all of them alike. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { projectRoot } from "#e2e/support/mesh.ts";
import { fullLoad, protocols, type LoadProtocol } from "./full-load.ts";
import type { OpenLoop } from "./open-loop.ts";
import { grpcMessage, startOrigin, type Origin } from "./origin.ts";
import { freePort, loadCore, startEnvoy, startHaproxy, startWaypoint, type Served } from "./proxies.ts";
import type { Backend, Setting } from "./resources.ts";

const run = promisify(execFile);

export interface Options {
  readonly seconds: number;
  readonly rounds: number;
  readonly scratch: string;
  /** Path of an Envoy, where there is one. */
  readonly envoy: string | undefined;
  readonly say: (text: string) => void;
}

/** Medians of rounds. */
export interface Throughput {
  readonly perSecond: number;
  readonly cpuSecondsPer100k: number;
  /** After each round, the largest. */
  readonly rssMib: number;
}

/** By proxy: haproxy, waypoint, envoy. */
export type ByProxy<T> = Readonly<Record<string, T>>;

export interface ThroughputRow {
  readonly protocol: LoadProtocol;
  readonly setting: Setting;
  readonly proxies: ByProxy<Throughput>;
}

export interface LatencyRow {
  readonly setting: Setting;
  readonly rate: number;
  readonly direct: OpenLoop;
  /** Added to the direct path. */
  readonly proxies: ByProxy<Omit<OpenLoop, "requests" | "errors">>;
}

export interface Memory {
  readonly freshMib: number;
  readonly afterLoadMib: number;
  readonly perIdleConnectionKib: number;
}

const warmUpSeconds = 3;
/** What is needed to start has been given back by then. */
const settleMs = 20_000;
const idleConnections = 1_000;
const latencyRates = [1_000, 5_000] as const;

/** Everything, one after the other. */
export async function measureProxies(options: Options) {
  const { scratch } = options;
  writeFileSync(join(scratch, "message"), grpcMessage());
  await using origin = await startOrigin(scratch);
  const throughput: ThroughputRow[] = [];
  for (const protocol of protocols) {
    for (const setting of ["one route", "everything on"] as const) {
      throughput.push(await measureThroughput(protocol, setting, origin, options));
    }
  }
  throughput.push(await measureThroughput("HTTP/1.1", "1000 routes", origin, options));
  const memory = await measureMemory(origin, options);
  const latency: LatencyRow[] = [];
  for (const setting of ["one route", "everything on"] as const)
    latency.push(...(await measureLatency(setting, options)));
  return { throughput, memory, latency };
}

/** Haproxy stays as it is whatever the setting: it is the measure. */
async function startAll(backend: Backend, { scratch, envoy }: Options, stack: AsyncDisposableStack): Promise<Served[]> {
  const proxies = [stack.use(await startHaproxy(backend, scratch)), stack.use(await startWaypoint(backend, scratch))];
  if (envoy !== undefined) proxies.push(stack.use(await startEnvoy(envoy, backend, scratch)));
  return proxies;
}

async function measureThroughput(
  protocol: LoadProtocol,
  setting: Setting,
  origin: Origin,
  options: Options,
): Promise<ThroughputRow> {
  const { seconds, rounds, scratch, say } = options;
  await using stack = new AsyncDisposableStack();
  const isHttp1 = protocol === "HTTP/1.1";
  const backend: Backend = {
    setting,
    originPort: isHttp1 ? origin.http1 : origin.http2,
    protocol: isHttp1 ? "HTTP/1.1" : "HTTP/2",
  };
  const proxies = await startAll(backend, options, stack);
  const messageFile = join(scratch, "message");
  for (const { port } of proxies) await fullLoad(protocol, { port, seconds: warmUpSeconds, messageFile });
  const samples = proxies.map((): Throughput[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, proxy] of proxies.entries()) {
      say(`  ${protocol}, ${setting}, ${proxy.name}, round ${round + 1}`);
      const before = proxy.usage();
      const { requests, perSecond } = await fullLoad(protocol, { port: proxy.port, seconds, messageFile });
      const after = proxy.usage();
      const cpuSecondsPer100k = ((after.cpuSeconds - before.cpuSeconds) / requests) * 100_000;
      samples[index]?.push({ perSecond, cpuSecondsPer100k, rssMib: after.rssMib });
    }
  }
  const medians = samples.map((all) => ({
    perSecond: median(all.map(({ perSecond }) => perSecond)),
    cpuSecondsPer100k: median(all.map(({ cpuSecondsPer100k }) => cpuSecondsPer100k)),
    rssMib: Math.max(...all.map(({ rssMib }) => rssMib)),
  }));
  return { protocol, setting, proxies: byName(proxies, (_, index) => medians[index] as Throughput) };
}

async function measureMemory(origin: Origin, options: Options): Promise<ByProxy<Memory>> {
  const { seconds, scratch, say } = options;
  await using stack = new AsyncDisposableStack();
  const backend: Backend = { setting: "everything on", originPort: origin.http1, protocol: "HTTP/1.1" };
  const proxies = await startAll(backend, options, stack);
  say("  memory: a quiet moment first");
  await pause(settleMs);
  const found = new Map<string, Memory>();
  for (const proxy of proxies) {
    say(`  memory, ${proxy.name}`);
    const freshMib = proxy.usage().rssMib;
    const withIdleMib = await withIdleConnections(proxy);
    await fullLoad("HTTP/1.1", {
      port: proxy.port,
      seconds: Math.max(5, seconds),
      messageFile: join(scratch, "message"),
    });
    const afterLoadMib = proxy.usage().rssMib;
    found.set(proxy.name, {
      freshMib,
      afterLoadMib,
      perIdleConnectionKib: (withIdleMib.after - withIdleMib.before) * (1_024 / idleConnections),
    });
  }
  return Object.fromEntries(found);
}

/** Each has asked once. */
async function withIdleConnections(proxy: Served): Promise<{ readonly before: number; readonly after: number }> {
  const sockets: Socket[] = [];
  const open = async (count: number) => {
    for (let made = 0; made < count; made += 20) {
      sockets.push(
        ...(await Promise.all(Array.from({ length: Math.min(20, count - made) }, () => askOnce(proxy.port)))),
      );
    }
  };
  // The first ones bring code and buffers with them that all of them share.
  await open(100);
  const before = proxy.usage().rssMib;
  await open(idleConnections);
  const after = proxy.usage().rssMib;
  for (const socket of sockets) socket.destroy();
  return { before, after };
}

async function askOnce(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  socket.write("GET / HTTP/1.1\r\nhost: bench.example\r\n\r\n");
  await once(socket, "data");
  socket.on("error", () => undefined);
  socket.resume();
  return socket;
}

async function measureLatency(setting: Setting, options: Options): Promise<LatencyRow[]> {
  const { seconds, rounds, say } = options;
  await using stack = new AsyncDisposableStack();
  const originPort = await freePort();
  const proxies = await startAll({ setting, originPort, protocol: "HTTP/1.1" }, options, stack);
  const open = async (target: number, rate: number, howLong = seconds): Promise<OpenLoop> => {
    const words = ["--origin", originPort, "--target", target, "--rate", rate, "--seconds", howLong].map(String);
    const program = join(projectRoot, "e2e/bench/l7/open-loop.ts");
    const { stdout } = await run("taskset", ["-c", String(loadCore), process.execPath, program, ...words]);
    return JSON.parse(stdout) as OpenLoop;
  };
  // Compilers have done their work after some ten thousand requests.
  for (const { port } of proxies) await open(port, 5_000, 3);
  const rows: LatencyRow[] = [];
  for (const rate of latencyRates) {
    const samples = new Map<string, OpenLoop[]>();
    for (let round = 0; round < rounds; round++) {
      say(`  latency at ${rate}/s, ${setting}, round ${round + 1}`);
      for (const [name, port] of [
        ["direct", originPort],
        ...proxies.map(({ name, port }) => [name, port] as const),
      ] as const) {
        samples.set(name, [...(samples.get(name) ?? []), await open(port, rate)]);
      }
    }
    const of = (name: string): OpenLoop => medianLoop(samples.get(name) ?? []);
    const direct = of("direct");
    const added = (name: string) => {
      const { p50Us, p90Us, p99Us } = of(name);
      return { p50Us: p50Us - direct.p50Us, p90Us: p90Us - direct.p90Us, p99Us: p99Us - direct.p99Us };
    };
    rows.push({ setting, rate, direct, proxies: byName(proxies, ({ name }) => added(name)) });
  }
  return rows;
}

const medianLoop = (all: readonly OpenLoop[]): OpenLoop => ({
  requests: median(all.map(({ requests }) => requests)),
  errors: Math.max(...all.map(({ errors }) => errors)),
  p50Us: median(all.map(({ p50Us }) => p50Us)),
  p90Us: median(all.map(({ p90Us }) => p90Us)),
  p99Us: median(all.map(({ p99Us }) => p99Us)),
});

const byName = <T>(proxies: readonly Served[], pick: (proxy: Served, index: number) => T): ByProxy<T> =>
  Object.fromEntries(proxies.map((proxy, index) => [proxy.name, pick(proxy, index)]));

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
