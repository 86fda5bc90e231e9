/** The proxies of the bench: each one process on a core of its own, in front of the same origin. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, connect, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { deltaAdsBootstrap } from "#e2e/support/envoy.ts";
import { projectRoot } from "#e2e/support/mesh.ts";
import { TestControlPlane } from "#waypoint/testing/control-plane.ts";
import { clusterOf, endpointsOf, listenerOf, type Backend } from "./resources.ts";

/** Where proxies run; whatever asks and answers runs on {@link loadCore}. */
export const proxyCore = 0;
export const loadCore = 1;

export interface Usage {
  /** User and system. */
  readonly cpuSeconds: number;
  readonly rssMib: number;
}

/** A process that listens, until disposed of. */
export class Served implements AsyncDisposable {
  readonly name: string;
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #clean: (() => Promise<void> | void) | undefined;

  constructor(name: string, port: number, child: ChildProcess, clean?: () => Promise<void> | void) {
    this.name = name;
    this.port = port;
    this.#child = child;
    this.#clean = clean;
  }

  usage(): Usage {
    const pid = this.#child.pid ?? 0;
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /su, "")
      .split(" ");
    const rss = /VmRSS:\s+(\d+)/u.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return { cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100, rssMib: Number(rss ?? 0) / 1_024 };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill("SIGKILL");
      await once(this.#child, "exit");
    }
    await this.#clean?.();
  }
}

/** Files of one run. */
export function scratchFolder(): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "ambit-bench-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Starts a program on one core, its output in a file, and waits until it takes connections. */
export async function serve(
  name: string,
  port: number,
  core: number,
  command: readonly string[],
  {
    env = {},
    logFile,
    clean,
  }: { readonly env?: NodeJS.ProcessEnv; readonly logFile?: string; readonly clean?: () => Promise<void> } = {},
): Promise<Served> {
  const errors = logFile === undefined ? undefined : openSync(logFile, "w");
  const child = spawn("taskset", ["-c", String(core), ...command], {
    stdio: ["ignore", "ignore", errors ?? "ignore"],
    env: { ...process.env, ...env },
    cwd: projectRoot,
  });
  if (errors !== undefined) closeSync(errors);
  const served = new Served(name, port, child, clean);
  const latestMs = Date.now() + 30_000;
  while (!(await takesConnections(port))) {
    if (child.exitCode !== null || Date.now() > latestMs) {
      const said = logFile === undefined ? "" : `: ${readFileSync(logFile, "utf8").slice(-2_000)}`;
      await served[Symbol.asyncDispose]();
      throw new Error(`${name} does not take connections on port ${port}${said}`);
    }
    await pause(50);
  }
  return served;
}

const takesConnections = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });

export async function startHaproxy(backend: Backend, scratch: string): Promise<Served> {
  const port = await freePort();
  const { originPort, protocol } = backend;
  const proto = protocol === "HTTP/2" ? " proto h2" : "";
  const file = join(scratch, `haproxy-${port}.cfg`);
  writeFileSync(
    file,
    `global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always
frontend bench
  bind 127.0.0.1:${port}${proto}
  default_backend origin
backend origin
  server origin 127.0.0.1:${originPort}${proto}
`,
  );
  return serve("haproxy", port, proxyCore, ["haproxy", "-f", file, "-db"], { logFile: `${file}.log` });
}

/** The real program, without tunnels: it is reached at the address of its listener. */
export async function startWaypoint(backend: Backend, scratch: string, nodeOptions: readonly string[] = []) {
  const port = await freePort();
  const plane = await controlPlane(backend, port);
  const ports = await Promise.all(Array.from({ length: 5 }, freePort));
  const [admin, readiness, stats, prometheus] = ports.map(String);
  return serve("waypoint", port, proxyCore, [process.execPath, ...nodeOptions, "waypoint/main.ts", "proxy"], {
    logFile: join(scratch, `waypoint-${port}.log`),
    env: {
      POD_NAME: "bench-1",
      POD_NAMESPACE: "bench",
      WAYPOINT_TUNNELS: "off",
      XDS_ADDRESS: plane.address,
      ADMIN_PORT: admin,
      STATUS_PORT: readiness,
      STATS_PORT: stats,
      PROMETHEUS_PORT: prometheus,
    },
    clean: () => plane[Symbol.asyncDispose](),
  });
}

export async function startEnvoy(path: string, backend: Backend, scratch: string): Promise<Served> {
  const port = await freePort();
  const plane = await controlPlane(backend, port);
  const file = join(scratch, `envoy-${port}.json`);
  const node = { id: "waypoint~127.0.0.1~bench-1.bench~bench.svc.cluster.local", cluster: "bench" };
  const ads = { port: Number(new URL(plane.address).port) };
  writeFileSync(file, JSON.stringify(deltaAdsBootstrap(ads, node)));
  const command = [path, "-c", file, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"];
  return serve("envoy", port, proxyCore, command, {
    logFile: `${file}.log`,
    clean: () => plane[Symbol.asyncDispose](),
  });
}

async function controlPlane(backend: Backend, port: number): Promise<TestControlPlane> {
  const plane = await TestControlPlane.start();
  plane.put("cluster", clusterOf(backend));
  plane.put("endpoints", endpointsOf(backend));
  plane.put("listener", listenerOf(backend, port));
  return plane;
}
