/** The life of one pod on its node: network, volumes, init containers, containers, end. */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { PassThrough } from "node:stream";
import { statSync } from "node:fs";
import { sleep } from "#shared/clock/clock.ts";
import {
  as,
  resources,
  toObject,
  type ConfigMap,
  type Container,
  type LifecycleHandler,
  type Pod,
  type Secret,
  type Service,
  type Volume,
} from "../kinds.ts";
import { listAddresses } from "../network/plan.ts";
import type { PodNetwork } from "../network/fabric.ts";
import { startContainer, type RunningContainer } from "./container.ts";
import { containerCapabilities, type ContainerWorld } from "./container-script.ts";
import { ContainerRunner, ImageMissingError } from "./container-runner.ts";
import { containerEnvironment, expandVariables, type EnvironmentFacts } from "./environment.ts";
import { nodeRunFolder, podFolder } from "./folders.ts";
import { repository, resolveImage } from "./images.ts";
import type { LogBuffer } from "./log-buffer.ts";
import { pathsIn, planMounts } from "./mounts.ts";
import type { NodeContext } from "./node-context.ts";
import { hostName, hostsFile, resolvConf } from "./pod-files.ts";
import { persist } from "./persist.ts";
import { isSidecar, podStatus, type PodView } from "./pod-status.ts";
import { httpStatus, runProbe, type ProbeTarget } from "./probe-run.ts";
import type { RestartPolicy } from "./restart.ts";
import { hasContent, volumeFiles, writeVolume, type VolumeFacts } from "./volumes.ts";

/** Volumes that wait for something are tried again this often, and at once when a config map or secret changes. */
const volumeRetryMs = 1_000;
const networkRetryMs = 1_000;
/** A token's volume is not rewritten more often than this, whatever the token says. */
const shortestRefreshMs = 1_000;

export class PodWorker {
  readonly uid: string;
  readonly #context: NodeContext;
  readonly #pod: Pod;
  readonly #stopping = new AbortController();
  readonly #startTime: string;
  #current: Pod;
  #network: PodNetwork | undefined;
  #podIps: readonly string[] = [];
  #initialized = false;
  #runners: { readonly init: ContainerRunner[]; readonly main: ContainerRunner[] } = { init: [], main: [] };
  #failed: PodView["failed"];
  #poke: (() => void) | undefined;
  #isPublishing = false;
  #isGone = false;
  #cancelRefresh = () => {};
  #ending: Promise<void> | undefined;
  #deadlineMs = Number.POSITIVE_INFINITY;
  #running: Promise<void> = Promise.resolve();

  constructor(pod: Pod, context: NodeContext) {
    this.uid = pod.metadata.uid;
    this.#context = context;
    this.#pod = pod;
    this.#current = pod;
    this.#startTime = pod.status?.startTime ?? this.#now();
  }

  get #hostIps(): string[] {
    return listAddresses(this.#context.network.plan.address);
  }

  start(): void {
    this.#running = this.#run().catch((error: unknown) => {
      if (this.#stopping.signal.aborted) return;
      this.#event("Warning", "FailedCreatePodSandBox", message(error));
      this.#failed = { reason: "SandboxError", message: message(error) };
      this.#publish();
    });
  }

  /** The object has changed: perhaps it is to end, perhaps its labels show in a volume. */
  update(pod: Pod): void {
    this.#current = pod;
    if (pod.metadata.deletionTimestamp !== undefined) {
      void this.terminate((pod.metadata.deletionGracePeriodSeconds ?? 30) * 1000);
      return;
    }
    if ((this.#pod.spec.readinessGates ?? []).length > 0) this.#publish();
    this.refresh();
  }

  /** A config map or secret of the pod's namespace has changed. */
  refresh(): void {
    this.#poke?.();
    for (const runner of this.#allRunners) runner.poke();
    if (this.#initialized || this.#runners.init.length > 0) void this.#writeVolumes().catch(() => undefined);
  }

  get #allRunners(): ContainerRunner[] {
    return [...this.#runners.init, ...this.#runners.main];
  }

  runner(container: string): ContainerRunner | undefined {
    return this.#allRunners.find((runner) => runner.container.name === container);
  }

  get networkNamespace(): string | undefined {
    return this.#pod.spec.hostNetwork === true ? this.#context.network.netns : this.#network?.netns;
  }

  async #run(): Promise<void> {
    this.#publish();
    const { spec, metadata } = this.#pod;
    await mkdir(podFolder(this.uid), { recursive: true });
    if (spec.hostNetwork === true) this.#podIps = this.#hostIps;
    else {
      // Addresses may be free again soon: those of pods that are just ending.
      this.#network = await persist(() => this.#context.network.addPod(`pod-${metadata.uid}`), {
        clock: this.#context.clock,
        everyMs: networkRetryMs,
        signal: this.#stopping.signal,
        onFailure: (why) => this.#event("Warning", "FailedCreatePodSandBox", why),
      });
      this.#podIps = listAddresses(this.#network.address);
      if (this.#stopping.signal.aborted) return;
    }
    this.#publish();
    await this.#prepareVolumes();
    await this.#writeEtc();
    this.#watchDeadline();
    if (!(await this.#runInit())) return;
    this.#initialized = true;
    this.#runners = {
      ...this.#runners,
      main: spec.containers.map((container) => this.#makeRunner(container, this.#policy)),
    };
    this.#publish();
    await Promise.all(this.#runners.main.map((runner) => runner.run()));
    if (this.#stopping.signal.aborted) return;
    await this.#stopRunners(this.#runners.init.toReversed(), this.#graceMs);
    this.#publish();
    await this.#network?.remove();
  }

  get #policy(): RestartPolicy {
    return (this.#pod.spec.restartPolicy ?? "Always") as RestartPolicy;
  }

  get #graceMs(): number {
    return (this.#pod.spec.terminationGracePeriodSeconds ?? 30) * 1000;
  }

  /** Answers false where an init container failed for good or the pod is being stopped. */
  async #runInit(): Promise<boolean> {
    for (const container of this.#pod.spec.initContainers ?? []) {
      if (this.#stopping.signal.aborted) return false;
      const sidecar = isSidecar(container);
      const policy = sidecar ? "Always" : this.#policy === "Never" ? "Never" : "OnFailure";
      const runner = this.#makeRunner(container, policy);
      this.#runners.init.push(runner);
      const ended = runner.run();
      await (sidecar ? Promise.race([runner.whenStarted(), ended]) : ended);
      this.#publish();
      if (!sidecar && runner.view.state.terminated?.exitCode !== 0) return false;
    }
    return !this.#stopping.signal.aborted;
  }

  #watchDeadline(): void {
    const seconds = this.#pod.spec.activeDeadlineSeconds;
    if (seconds === undefined) return;
    const cancel = this.#context.clock.schedule(seconds * 1000, () => {
      this.#failed = {
        reason: "DeadlineExceeded",
        message: "Pod was active on the node longer than the specified deadline",
      };
      void this.#stopAll(this.#graceMs).then(() => this.#publish());
    });
    this.#stopping.signal.addEventListener("abort", cancel, { once: true });
  }

  // --- volumes and files -----------------------------------------------------------------------------------------

  async #prepareVolumes(): Promise<void> {
    let told = "";
    for (;;) {
      if (this.#stopping.signal.aborted) throw this.#stopping.signal.reason;
      try {
        await this.#writeVolumes();
        return;
      } catch (error) {
        const text = message(error);
        if (text !== told) this.#event("Warning", "FailedMount", text);
        told = text;
      }
      const change = new AbortController();
      this.#poke = () => change.abort();
      await sleep(this.#context.clock, volumeRetryMs, AbortSignal.any([change.signal, this.#stopping.signal])).catch(
        () => undefined,
      );
    }
  }

  async #writeVolumes(): Promise<void> {
    let refreshAtMs = Number.POSITIVE_INFINITY;
    for (const volume of this.#pod.spec.volumes ?? []) {
      const next = await this.#writeVolume(volume);
      refreshAtMs = Math.min(refreshAtMs, next);
    }
    this.#cancelRefresh();
    if (!Number.isFinite(refreshAtMs) || this.#stopping.signal.aborted) return;
    const delayMs = Math.max(shortestRefreshMs, refreshAtMs - this.#context.clock.now());
    this.#cancelRefresh = this.#context.clock.schedule(delayMs, () => void this.#writeVolumes().catch(() => undefined));
  }

  async #writeVolume(volume: Volume): Promise<number> {
    if (volume.hostPath !== undefined) {
      await this.#checkHostPath(volume.hostPath);
      return Number.POSITIVE_INFINITY;
    }
    const folder = this.#volumeFolder(volume.name);
    await mkdir(folder, { recursive: true });
    if (!hasContent(volume)) return Number.POSITIVE_INFINITY;
    try {
      const { files, refreshAtMs } = await volumeFiles(volume, this.#volumeFacts());
      await writeVolume(folder, files);
      return refreshAtMs ?? Number.POSITIVE_INFINITY;
    } catch (error) {
      throw new Error(`MountVolume.SetUp failed for volume "${volume.name}" : ${message(error)}`, { cause: error });
    }
  }

  async #checkHostPath({ path, type = "" }: NonNullable<Volume["hostPath"]>): Promise<void> {
    const place = this.#nodePath(path);
    const isOwn = place !== path;
    if (isOwn && (type === "DirectoryOrCreate" || type === "")) await mkdir(place, { recursive: true });
    const stat = statSync(place, { throwIfNoEntry: false });
    if (stat === undefined) throw new Error(`hostPath type check failed: ${path} does not exist on the node`);
    if (type.startsWith("Directory") && !stat.isDirectory())
      throw new Error(`hostPath type check failed: ${path} is not a directory`);
  }

  readonly #volumeFolder = (name: string) => `${podFolder(this.uid)}/volumes/${name}`;

  /** The node's /run is its own; everything else is the machine's. */
  readonly #nodePath = (path: string) => {
    const match = /^(?:\/var)?\/run(\/.*)?$/u.exec(path);
    return match === null ? path : `${nodeRunFolder(this.#context.network.plan)}${match[1] ?? ""}`;
  };

  async #writeEtc(): Promise<void> {
    const { spec } = this.#pod;
    const files: [string, string][] = [["resolv.conf", resolvConf(this.#pod, this.#context.nameServer)]];
    if (spec.hostNetwork !== true) {
      files.push(["hosts", hostsFile(this.#pod, this.#podIps)], ["hostname", `${hostName(this.#pod)}\n`]);
    }
    for (const container of [...spec.containers, ...(spec.initContainers ?? [])]) {
      const folder = `${podFolder(this.uid)}/${container.name}/etc`;
      await mkdir(`${folder}/upper`, { recursive: true });
      await mkdir(`${folder}/work`, { recursive: true });
      for (const [name, content] of files) await writeFile(`${folder}/upper/${name}`, content);
    }
  }

  // --- containers ------------------------------------------------------------------------------------------------

  #makeRunner(container: Container, policy: RestartPolicy): ContainerRunner {
    const { clock, backOff } = this.#context;
    return new ContainerRunner({
      container,
      policy,
      clock,
      backOff,
      start: (log) => this.#startContainer(container, log),
      probe: (probe, running) => runProbe(probe, this.#probeTarget(container, running)),
      preStop: (running, graceMs) => this.#hook(container, container.lifecycle?.preStop, running, graceMs),
      postStart: (running) => this.#hook(container, container.lifecycle?.postStart, running, this.#graceMs),
      onChange: () => this.#publish(),
      event: (type, reason, text) => this.#event(type, reason, text, container),
      graceMs: () => this.#graceMs,
      id: `${this.uid}-${container.name}`,
    });
  }

  async #startContainer(container: Container, log: LogBuffer): Promise<RunningContainer> {
    const { clock, images, network, path } = this.#context;
    const facts = this.#environmentFacts();
    const declared = containerEnvironment(container, facts);
    const expand = (words: readonly string[] = []) => words.map((word) => expandVariables(word, declared));
    const image = resolveImage(
      { image: container.image, command: expand(container.command), args: expand(container.args) },
      images,
    );
    if (image.kind === "missing") throw new ImageMissingError(image.message);
    this.#event("Normal", "Pulled", `Container image "${container.image}" runs as a local command`, container);
    const folder = `${podFolder(this.uid)}/${container.name}`;
    const mounts = planMounts({
      container,
      volumes: this.#pod.spec.volumes ?? [],
      volumeFolder: this.#volumeFolder,
      nodePath: this.#nodePath,
      layerFolder: `${folder}/layers`,
      needed: [repository, ...pathsIn(image.command)],
    });
    for (const needed of mounts.folders) await mkdir(needed, { recursive: true });
    const world: ContainerWorld = {
      hostname: this.#pod.spec.hostNetwork === true ? network.plan.name : hostName(this.#pod),
      root: `${folder}/root`,
      etc: `${folder}/etc`,
      mounts: mounts.mounts,
      overlays: mounts.overlays,
      kept: mounts.kept,
      sharesProcesses: this.#pod.spec.hostPID === true,
      workingDir: container.workingDir ?? "/",
      capabilities: containerCapabilities(container.securityContext ?? {}),
    };
    this.#event("Normal", "Created", `Created container: ${container.name}`, container);
    return startContainer({
      netns: this.networkNamespace ?? network.netns,
      world,
      command: image.command,
      environment: {
        PATH: image.programs === undefined ? path : `${image.programs}:${path}`,
        HOME: "/root",
        HOSTNAME: world.hostname,
        ...image.environment,
        ...declared,
      },
      hasInput: container.stdin === true,
      onOutput: (bytes) => log.append(clock.now(), bytes),
    });
  }

  #environmentFacts(): EnvironmentFacts {
    const { store, capacity } = this.#context;
    const { namespace } = this.#pod.metadata;
    const text = (data: ReadonlyMap<string, Buffer> | undefined) =>
      data === undefined
        ? undefined
        : Object.fromEntries([...data].map(([key, value]) => [key, value.toString("utf8")]));
    const api = store.get(resources.services, "default", "kubernetes");
    return {
      pod: { ...this.#current, spec: this.#pod.spec },
      podIps: this.#podIps,
      hostIps: this.#hostIps,
      configMap: (name) => text(this.#configMap(name)),
      secret: (name) => text(this.#secret(name)),
      services: [
        ...(api === undefined ? [] : [as<Service>(api)]),
        ...store.list(resources.services, namespace === undefined ? {} : { namespace }).map(as<Service>),
      ],
      capacity,
    };
  }

  #volumeFacts(): VolumeFacts {
    const { namespace = "default", name, uid } = this.#pod.metadata;
    const serviceAccount = this.#pod.spec.serviceAccountName ?? "default";
    return {
      ...this.#environmentFacts(),
      configMap: this.#configMap,
      secret: this.#secret,
      token: (request) => this.#context.issueToken({ ...request, namespace, serviceAccount, pod: { name, uid } }),
    };
  }

  readonly #configMap = (name: string): ReadonlyMap<string, Buffer> | undefined => {
    const object = this.#context.store.get(resources.configMaps, this.#pod.metadata.namespace, name);
    if (object === undefined) return undefined;
    const { data = {}, binaryData = {} } = as<ConfigMap>(object);
    return new Map([
      ...Object.entries(data).map(([key, value]) => [key, Buffer.from(value)] as const),
      ...Object.entries(binaryData).map(([key, value]) => [key, Buffer.from(value, "base64")] as const),
    ]);
  };

  readonly #secret = (name: string): ReadonlyMap<string, Buffer> | undefined => {
    const object = this.#context.store.get(resources.secrets, this.#pod.metadata.namespace, name);
    if (object === undefined) return undefined;
    return new Map(
      Object.entries(as<Secret>(object).data ?? {}).map(([key, value]) => [key, Buffer.from(value, "base64")]),
    );
  };

  #probeTarget(container: Container, running: RunningContainer): ProbeTarget {
    return {
      nodeNetnsFd: this.#context.netnsFd,
      podIp: this.#podIps[0] ?? "",
      container,
      exec: (command, signal) => capture(running, command, signal),
    };
  }

  async #hook(
    container: Container,
    hook: LifecycleHandler | undefined,
    running: RunningContainer,
    limitMs: number,
  ): Promise<void> {
    if (hook === undefined) return;
    if (hook.exec !== undefined) {
      const signal = AbortSignal.timeout(Math.max(1, limitMs));
      const { exitCode, output } = await capture(running, hook.exec.command ?? [], signal);
      if (exitCode !== 0) throw new Error(`hook command ended with ${exitCode}: ${output.trim()}`);
    } else if (hook.httpGet !== undefined)
      await httpStatus(hook.httpGet, this.#probeTarget(container, running), limitMs);
    else if (hook.sleep !== undefined) await sleep(this.#context.clock, Math.min(limitMs, hook.sleep.seconds * 1000));
  }

  // --- status ----------------------------------------------------------------------------------------------------

  #now(): string {
    return `${new Date(this.#context.clock.now()).toISOString().slice(0, 19)}Z`;
  }

  #event(type: "Normal" | "Warning", reason: string, text: string, container?: Container): void {
    const { apiVersion, kind, metadata } = this.#current;
    const kindOfContainer =
      this.#pod.spec.initContainers?.includes(container as Container) === true ? "initContainers" : "containers";
    const fieldPath = container === undefined ? {} : { fieldPath: `spec.${kindOfContainer}{${container.name}}` };
    this.#context.events.record({ apiVersion, kind, metadata, ...fieldPath }, type, reason, text);
  }

  /** Writes the status soon; changes that come together are written together. */
  #publish(): void {
    if (this.#isPublishing || this.#isGone) return;
    this.#isPublishing = true;
    setImmediate(() => {
      this.#isPublishing = false;
      if (!this.#isGone) this.#writeStatus();
    });
  }

  #writeStatus(): void {
    const { store } = this.#context;
    const { namespace, name } = this.#pod.metadata;
    if (store.get(resources.pods, namespace, name)?.metadata.uid !== this.uid) return;
    const views = (runners: readonly ContainerRunner[]) =>
      new Map(runners.map((runner) => [runner.container.name, runner.view]));
    const view: PodView = {
      containers: views(this.#runners.main),
      initContainers: views(this.#runners.init),
      initialized: this.#initialized,
      podIps: this.#podIps,
      hostIps: this.#hostIps,
      startTime: this.#startTime,
      ...(this.#failed === undefined ? {} : { failed: this.#failed }),
    };
    store.patchStatus(resources.pods, namespace, name, (object) => {
      const pod = as<Pod>(object);
      return toObject({ ...pod, status: podStatus(pod, view, this.#now()) } as Pod);
    });
  }

  // --- end -------------------------------------------------------------------------------------------------------

  /** Ends the pod and takes the object out of the store. Called again, it may only shorten the grace period. */
  terminate(graceMs: number): Promise<void> {
    const deadlineMs = this.#context.clock.now() + graceMs;
    if (this.#ending !== undefined) {
      if (deadlineMs < this.#deadlineMs) void this.#stopAll(graceMs);
      this.#deadlineMs = Math.min(this.#deadlineMs, deadlineMs);
      return this.#ending;
    }
    this.#deadlineMs = deadlineMs;
    this.#ending = this.#end(graceMs);
    return this.#ending;
  }

  async #end(graceMs: number): Promise<void> {
    this.#stopping.abort(new Error("the pod is being deleted"));
    this.#cancelRefresh();
    for (const { container } of this.#runners.main)
      this.#event("Normal", "Killing", `Stopping container ${container.name}`, container);
    await this.#stopAll(graceMs);
    await this.#running;
    this.#writeStatusQuietly();
    this.#isGone = true;
    await this.#network?.remove().catch(() => undefined);
    await rm(podFolder(this.uid), { recursive: true, force: true }).catch(() => undefined);
    const { namespace, name } = this.#pod.metadata;
    const { store } = this.#context;
    if (store.get(resources.pods, namespace, name)?.metadata.uid === this.uid) {
      store.delete(resources.pods, namespace, name, { gracePeriodSeconds: 0 });
    }
  }

  #writeStatusQuietly(): void {
    try {
      this.#writeStatus();
    } catch {
      // It was forced out of the store: nobody reads its status.
    }
  }

  /** Containers first, then sidecars in the reverse order of their start. */
  async #stopAll(graceMs: number): Promise<void> {
    const endMs = this.#context.clock.now() + graceMs;
    await Promise.all(this.#runners.main.map((runner) => runner.stop(graceMs)));
    await this.#stopRunners(this.#runners.init.toReversed(), Math.max(0, endMs - this.#context.clock.now()));
  }

  async #stopRunners(runners: readonly ContainerRunner[], graceMs: number): Promise<void> {
    for (const runner of runners) await runner.stop(graceMs);
  }
}

const message = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** Output of a probe or hook that is worth showing. */
const maxCaptured = 10 * 1024;

async function capture(
  running: RunningContainer,
  command: readonly string[],
  signal: AbortSignal,
): Promise<{ exitCode: number; output: string }> {
  const sink = new PassThrough();
  let output = "";
  sink.on("data", (chunk: Buffer) => {
    if (output.length < maxCaptured) output += chunk.toString("utf8");
  });
  const exitCode = await running.exec(command, { stdout: sink, stderr: sink, tty: false, signal });
  return { exitCode, output };
}
