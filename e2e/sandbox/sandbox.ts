/**
 * Starts a sandbox: a cluster of simulated nodes in namespaces of this machine, with the mesh on it. Nothing of it
 * outlives the process that started it, however that process ends.
 */
import { spawn, type ChildProcess, type SpawnOptions } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join, resolve } from "node:path";
import process from "node:process";
import { hostPort, splitHostPort } from "#shared/net/ip.ts";
import { splitCommand } from "./command-line.ts";
import { KubeClient, type KubeAccess } from "./kube-client.ts";
import { writeKubeconfig } from "./kubeconfig.ts";
import { compileCache, repository } from "./kubelet/images.ts";
import { backOffDefault } from "./kubelet/restart.ts";
import { applyManifests } from "./mesh/apply-manifests.ts";
import { readManifests } from "./mesh/manifest-files.ts";
import { controlPlanePorts, startMesh, withOutsideControlPlane } from "./mesh/start-mesh.ts";
import type { FromInner, InnerOptions, Location, Place, ToInner } from "./messages.ts";
import { maxNodes, planNetwork, listAddresses } from "./network/plan.ts";
import { checkRequirements, RequirementError, toolPath, unshareCommand } from "./requirements.ts";
import {
  claimFolder,
  releaseFolder,
  sandboxesFolder,
  sweepAfterUs,
  writeInfo,
  type StateFolder,
} from "./state-folder.ts";

export interface SandboxOptions {
  /** Several sandboxes may be up under different names. Default `default`. */
  readonly name?: string;
  /** Simulated nodes; default 2. */
  readonly nodes?: number;
  /** Dual stack; default true where the kernel has IPv6. */
  readonly ipv6?: boolean;
  /** Start the mesh from `manifests/base`; default true. */
  readonly mesh?: boolean;
  /** Port of the API server on 127.0.0.1; default any free one. */
  readonly port?: number;
  /** Where to write the kubeconfig besides the sandbox's own folder. */
  readonly kubeconfig?: string;
  /** Files and folders of objects to apply when the mesh is up. */
  readonly manifests?: readonly string[];
  /** Command in place of our ztunnel; the manifest's arguments follow it. */
  readonly ztunnel?: string;
  readonly waypoint?: string;
  readonly nodeAgent?: string;
  /** Command in place of our control plane, or `HOST:PORT` of one that runs outside (its port 15012). */
  readonly controlPlane?: string;
  /** More images: name → command. */
  readonly images?: Readonly<Record<string, string>>;
  /** First delay of a crash loop; default 10 s as a kubelet's. */
  readonly restartBackOffMs?: number;
  /** How long the mesh may take to become ready; default 60 s. */
  readonly startTimeoutMs?: number;
  readonly progress?: (text: string) => void;
}

export interface Sandbox extends AsyncDisposable {
  readonly name: string;
  /** Path of the kubeconfig. */
  readonly kubeconfig: string;
  /** `https://127.0.0.1:PORT` */
  readonly server: string;
  readonly client: KubeClient;
  /** Rejects when the sandbox ends by itself; resolves when it was closed. */
  readonly ended: Promise<void>;
  /** A command in all namespaces of a pod's container, with more rights than the container has (for tcpdump, nft …). */
  runInPod(
    pod: { namespace: string; name: string; container?: string },
    command: readonly string[],
    options?: SpawnOptions,
  ): Promise<ChildProcess>;
  /** A command in a node's network namespace. */
  runInNode(node: string, command: readonly string[], options?: SpawnOptions): Promise<ChildProcess>;
  close(): Promise<void>;
}

const startTimeoutMsDefault = 60_000;
/** The cluster itself, without the mesh, takes about a second; a very busy machine gets this long. */
const clusterTimeoutMs = 45_000;
const meshManifests = join(repository, "manifests", "base");

/** @throws RequirementError where this machine or the options stand in the way, before anything is started */
export async function startSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const say = options.progress ?? (() => undefined);
  const isRoot = process.getuid?.() === 0;
  const nodes = options.nodes ?? 2;
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > maxNodes) {
    throw new RequirementError(`A sandbox has 1 to ${maxNodes} nodes, not ${nodes}`);
  }
  checkRequirements({ platform: process.platform, isRoot, environment: process.env, say });
  const inner = innerOptions(options, nodes, say);
  const own = (options.manifests ?? []).flatMap((path) => readManifests(resolve(path)));
  const folder = claimFolder(sandboxesFolder(repository), inner.name, process.pid);
  const sweeper = sweepAfterUs(folder);
  const release = () => {
    releaseFolder(folder);
    sweeper[Symbol.dispose]();
  };
  let starting: Promise<Cluster> | undefined;
  try {
    starting = Cluster.start({
      folder,
      inner,
      isRoot,
      say,
      port: options.port ?? 0,
      outside: outsideOf(options.controlPlane),
    });
    starting.catch(() => undefined); // awaited below, after work that needs no cluster
    const mesh = options.mesh === false ? [] : readManifests(meshManifests);
    const cluster = await starting;
    const { access } = cluster;
    writeKubeconfig(folder.kubeconfig, inner.name, access);
    if (options.kubeconfig !== undefined) writeKubeconfig(resolve(options.kubeconfig), inner.name, access);
    const kubeconfig = options.kubeconfig === undefined ? folder.kubeconfig : resolve(options.kubeconfig);
    writeInfo(folder, { name: inner.name, pid: process.pid, kubeconfig, server: access.server });
    say(`The API server listens on ${access.server}`);
    const client = new KubeClient(access);
    if (mesh.length > 0) {
      const addresses = listAddresses(planNetwork(inner).host);
      const objects = inner.outside.length > 0 ? withOutsideControlPlane(mesh, addresses) : mesh;
      const timeoutMs = options.startTimeoutMs ?? startTimeoutMsDefault;
      await startMesh({ client, objects, say, timeoutMs, signal: cluster.gone });
    }
    if (own.length > 0) await applyManifests(client, own);
    return sandboxOf(cluster, { name: inner.name, kubeconfig, client, release });
  } catch (error) {
    const cluster = await starting?.catch(() => undefined);
    // Whatever failed then failed because of that.
    const cause = cluster?.gone.aborted === true ? withTail(cluster.gone.reason, folder.log) : error;
    await cluster?.close();
    release();
    throw cause;
  }
}

function innerOptions(options: SandboxOptions, nodes: number, say: (text: string) => void): InnerOptions {
  const hasIpv6 = existsSync("/proc/sys/net/ipv6");
  if (options.ipv6 === true && !hasIpv6) say("This kernel has no IPv6: the cluster is IPv4 only");
  const here = process.cwd();
  const images: Record<string, readonly string[]> = {};
  for (const [name, command] of Object.entries(options.images ?? {})) images[name] = splitCommand(command, here);
  if (options.ztunnel !== undefined) images["ambit/ztunnel"] = splitCommand(options.ztunnel, here);
  if (options.waypoint !== undefined) images["ambit/waypoint"] = splitCommand(options.waypoint, here);
  if (options.nodeAgent !== undefined) images["ambit/node-agent"] = splitCommand(options.nodeAgent, here);
  const outside = outsideOf(options.controlPlane);
  if (options.controlPlane !== undefined && outside === undefined) {
    images["ambit/controlplane"] = splitCommand(options.controlPlane, here);
  }
  return {
    name: options.name ?? "default",
    nodes,
    ipv6: (options.ipv6 ?? true) && hasIpv6,
    images,
    backOffBaseMs: options.restartBackOffMs ?? backOffDefault.baseMs,
    outside: outside === undefined ? [] : controlPlanePorts(readManifests(meshManifests)),
  };
}

interface Outside {
  readonly host: string;
  readonly port: number;
}

/** Port of the control plane's Service that an outside address stands for; others are reached under their own number. */
const securePort = 15_012;

const outsideOf = (controlPlane: string | undefined): Outside | undefined =>
  controlPlane === undefined || /\s|\//u.test(controlPlane) ? undefined : splitHostPort(controlPlane);

function sandboxOf(
  cluster: Cluster,
  { name, kubeconfig, client, release }: { name: string; kubeconfig: string; client: KubeClient; release: () => void },
): Sandbox {
  let closing: Promise<void> | undefined;
  const close = () =>
    (closing ??= (async () => {
      client.close();
      await cluster.close();
      release();
    })());
  return {
    name,
    kubeconfig,
    server: cluster.access.server,
    client,
    ended: cluster.ended,
    runInPod: async (pod, command, options) => {
      const { pid } = await cluster.locate({
        namespace: pod.namespace,
        pod: pod.name,
        ...(pod.container === undefined ? {} : { container: pod.container }),
      });
      if (pid === undefined) throw new Error(`Pod ${pod.namespace}/${pod.name} runs no container`);
      return cluster.run(["nsenter", "-t", String(pid), "-m", "-p", "-u", "-i", "-n", "--", ...command], options);
    },
    runInNode: async (node, command, options) => {
      const { netns } = await cluster.locate({ node });
      return cluster.run(["nsenter", `--net=${netns}`, "--", ...command], options);
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

interface ClusterStart {
  readonly folder: StateFolder;
  readonly inner: InnerOptions;
  readonly isRoot: boolean;
  readonly say: (text: string) => void;
  readonly port: number;
  readonly outside: Outside | undefined;
}

/** The inner process, seen from outside. */
class Cluster {
  readonly access: KubeAccess;
  readonly ended: Promise<void>;
  /** Aborted when the inner process is gone. */
  readonly gone: AbortSignal;
  readonly #child: ChildProcess;
  readonly #isRoot: boolean;
  readonly #located = new Map<number, (place: Place | { error: string }) => void>();
  #nextId = 1;
  #isClosing = false;

  private constructor(child: ChildProcess, access: KubeAccess, isRoot: boolean) {
    this.#child = child;
    this.access = access;
    this.#isRoot = isRoot;
    const gone = new AbortController();
    this.gone = gone.signal;
    this.ended = new Promise((end, fail) => {
      child.once("exit", (code, signal) => {
        const error = new Error(`The sandbox ended by itself (${signal ?? code})`);
        gone.abort(error);
        for (const answer of this.#located.values()) answer({ error: error.message });
        if (this.#isClosing) end();
        else fail(error);
      });
    });
    this.ended.catch(() => undefined); // whoever is interested waits for it
    child.on("message", (message: FromInner) => {
      if (message.kind === "located") this.#located.get(message.id)?.(message.place);
    });
  }

  static async start(start: ClusterStart): Promise<Cluster> {
    const { folder, isRoot, outside } = start;
    const listener = await listen(start.port);
    const { port } = listener.address() as { port: number };
    const log = openSync(folder.log, "w", 0o600);
    const program = [process.execPath, join(import.meta.dirname, "inner.ts")];
    // A shell as process 1 reaps orphans, which Node would leave.
    const command = [...unshareCommand(isRoot), "sh", "-c", '"$@"; exit $?', "sandbox", ...program];
    const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
      env: { ...process.env, PATH: toolPath(process.env["PATH"] ?? ""), NODE_COMPILE_CACHE: compileCache },
      stdio: ["ignore", log, log, "ipc"],
      detached: true, // Ctrl-C is for us; we end it in our own way
    });
    closeSync(log);
    try {
      const access = await Cluster.#ready(child, { ...start, listener, port });
      if (outside !== undefined) passConnections(child, outside);
      return new Cluster(child, { ...access, server: `https://127.0.0.1:${port}` }, isRoot);
    } catch (error) {
      const isRunning = child.exitCode === null && child.signalCode === null;
      const exited = isRunning ? new Promise((done) => child.once("exit", done)) : undefined;
      child.kill("SIGKILL");
      await exited;
      throw withTail(error, folder.log);
    } finally {
      listener.close();
    }
  }

  static #ready(
    child: ChildProcess,
    { inner, say, listener }: ClusterStart & { listener: Server; port: number },
  ): Promise<Omit<KubeAccess, "server">> {
    return new Promise((done, fail) => {
      const timer = setTimeout(
        () => fail(new Error(`The cluster did not start within ${clusterTimeoutMs} ms`)),
        clusterTimeoutMs,
      );
      const settle = () => clearTimeout(timer);
      child.once("error", (error) => {
        settle();
        fail(error);
      });
      child.once("exit", (code, signal) => {
        settle();
        fail(new Error(`The cluster's process ended (${signal ?? code})`));
      });
      child.on("message", (message: FromInner) => {
        if (message.kind === "progress" || message.kind === "warning") say(message.text);
        else if (message.kind === "listening") {
          // From now on the listener is the inner process's alone.
          child.send({ kind: "start", options: inner } satisfies ToInner, listener, () => listener.close());
        } else if (message.kind === "failed") {
          settle();
          fail(new Error(message.message));
        } else if (message.kind === "ready") {
          settle();
          done({ caPem: message.caPem, token: message.token });
        }
      });
    });
  }

  locate(what: Location): Promise<Place> {
    const id = this.#nextId++;
    return new Promise((done, fail) => {
      this.#located.set(id, (place) => {
        this.#located.delete(id);
        if ("error" in place) fail(new Error(place.error));
        else done(place);
      });
      this.#child.send({ kind: "locate", id, what } satisfies ToInner);
    });
  }

  /** Starts a command in the sandbox's own namespaces; it ends with the sandbox. */
  run(command: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const init = this.#initPid();
    if (init === undefined) throw new Error("The sandbox has ended");
    const user = this.#isRoot ? [] : ["--user", "--preserve-credentials"];
    return spawn("nsenter", ["-t", String(init), ...user, "-m", "-p", "-n", "--", ...command], {
      ...options,
      env: { ...(options.env ?? process.env), PATH: toolPath(process.env["PATH"] ?? "") },
    });
  }

  /** The sandbox's process 1 as this machine numbers it. */
  #initPid(): number | undefined {
    const { pid } = this.#child;
    try {
      const first = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")[0]);
      return first > 0 ? first : undefined;
    } catch {
      return undefined;
    }
  }

  /** Ends process 1 and with it, by the kernel's hand, every other; resolves when all are gone. */
  async close(): Promise<void> {
    this.#isClosing = true;
    const init = this.#initPid();
    try {
      if (init === undefined) this.#child.kill("SIGKILL");
      else process.kill(init, "SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.ended.catch(() => undefined);
  }
}

function listen(port: number): Promise<Server> {
  const server = createServer({ pauseOnConnect: true });
  return new Promise((done, fail) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      fail(
        error.code === "EADDRINUSE"
          ? new RequirementError(`Port ${port} is in use: choose another with --port`)
          : error,
      );
    });
    server.listen(port, "127.0.0.1", () => done(server));
  });
}

/** Makes connections to a control plane outside when the sandbox asks, and hands them in. */
function passConnections(child: ChildProcess, outside: Outside): void {
  child.on("message", (message: FromInner) => {
    if (message.kind !== "dial") return;
    const port = message.port === securePort ? outside.port : message.port;
    const answer = (error?: string, socket?: Socket) => {
      const reply: ToInner = { kind: "dialed", id: message.id, ...(error === undefined ? {} : { error }) };
      if (child.connected) child.send(reply, socket);
    };
    const socket = connect({ host: outside.host, port });
    socket.pause(); // what the other side says first is for the sandbox to read
    const onError = (error: Error) => answer(`${hostPort(outside.host, port)}: ${error.message}`);
    socket.once("error", onError);
    socket.once("connect", () => {
      socket.off("error", onError);
      socket.on("error", () => undefined);
      answer(undefined, socket);
    });
  });
}

function withTail(error: unknown, log: string): unknown {
  const tail = readTail(log);
  return tail === ""
    ? error
    : new Error(`${error instanceof Error ? error.message : String(error)}\n${tail}`, { cause: error });
}

/** The end of the inner process's log, which says why it did not start. */
function readTail(path: string): string {
  try {
    return readFileSync(path, "utf8").trim().split("\n").slice(-20).join("\n");
  } catch {
    return "";
  }
}
