/** One container of a pod through all its runs: start, probes, end, back-off, start again. */
import { sleep, type Clock } from "#shared/clock/clock.ts";
import type { Container, ContainerState, Probe } from "../kinds.ts";
import type { ContainerExit, RunningContainer } from "./container.ts";
import { MissingReferenceError } from "./environment.ts";
import { LogBuffer } from "./log-buffer.ts";
import { notStartedYet, type ContainerView } from "./pod-status.ts";
import { startProber } from "./prober.ts";
import type { ProbeResult } from "./probe-state.ts";
import { crashCount, restartDelayMs, shouldRestart, type BackOff, type RestartPolicy } from "./restart.ts";

/** The image has no program on this machine. */
export class ImageMissingError extends Error {
  override readonly name = "ImageMissingError";
}

export interface RunnerOptions {
  readonly container: Container;
  readonly policy: RestartPolicy;
  readonly clock: Clock;
  readonly backOff: BackOff;
  /** Builds the world and starts the command; output goes into the log. */
  readonly start: (log: LogBuffer) => Promise<RunningContainer>;
  readonly probe: (probe: Probe, running: RunningContainer) => Promise<ProbeResult>;
  /** The container's preStop hook, within its grace period. */
  readonly preStop: (running: RunningContainer, graceMs: number) => Promise<void>;
  readonly postStart: (running: RunningContainer) => Promise<void>;
  readonly onChange: () => void;
  readonly event: (type: "Normal" | "Warning", reason: string, message: string) => void;
  readonly graceMs: () => number;
  readonly id: string;
}

/** A start that failed for want of something is tried again this often, and at once when the pod's world changes. */
const retryMs = 1_000;
/** Until it is ready for the first time, a container is asked this often: the sandbox should come up in seconds. */
const eagerReadinessMs = 200;

export class ContainerRunner {
  readonly container: Container;
  view: ContainerView = notStartedYet;
  log = new LogBuffer();
  previousLog: LogBuffer | undefined;
  running: RunningContainer | undefined;
  readonly #options: RunnerOptions;
  readonly #stopping = new AbortController();
  #poke: (() => void) | undefined;
  #killGraceMs: number | undefined;
  #startedWaiters: (() => void)[] = [];
  #crashes = 0;
  #runs = 0;
  #done: Promise<void> | undefined;

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.container = options.container;
  }

  /** Runs until the container has ended for good or was stopped. */
  run(): Promise<void> {
    return (this.#done ??= this.#loop());
  }

  /** Resolves once the container counts as started (its startup probe passed). */
  whenStarted(): Promise<void> {
    return this.view.started ? Promise.resolve() : new Promise((resolve) => this.#startedWaiters.push(resolve));
  }

  /** Something that the start may have waited for has changed. */
  poke(): void {
    this.#poke?.();
  }

  /** Ends it: preStop, SIGTERM, and SIGKILL after the grace period. A second call may only shorten that. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    await this.#terminate(graceMs);
    await this.#done;
  }

  #set(change: Partial<ContainerView>): void {
    this.view = { ...this.view, ...change };
    if (this.view.started) for (const waiter of this.#startedWaiters.splice(0)) waiter();
    this.#options.onChange();
  }

  get #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  async #loop(): Promise<void> {
    while (!this.#isStopping) {
      const startedMs = this.#options.clock.now();
      const running = await this.#tryStart();
      if (running === undefined) continue;
      const exit = await this.#attend(running);
      const now = this.#options.clock.now();
      if (!this.#ended(exit, startedMs)) return;
      this.#crashes = crashCount(this.#crashes, now - startedMs, this.#options.backOff);
      await this.#backOff();
    }
  }

  async #tryStart(): Promise<RunningContainer | undefined> {
    const { start, event, container } = this.#options;
    const log = new LogBuffer();
    try {
      const running = await start(log);
      if (this.#runs > 0) this.previousLog = this.log;
      this.log = log;
      this.running = running;
      return running;
    } catch (error) {
      if (this.#isStopping) return undefined;
      const message = error instanceof Error ? error.message : String(error);
      const reason = failureReason(error);
      this.#set({ state: { waiting: { reason, message } }, ready: false, started: false });
      event(
        "Warning",
        error instanceof ImageMissingError
          ? "Failed"
          : reason === "CreateContainerConfigError"
            ? "Failed"
            : "FailedStart",
        `Error: ${message}`,
      );
      if (error instanceof ImageMissingError) {
        this.#set({
          state: {
            waiting: { reason: "ImagePullBackOff", message: `Back-off pulling image "${container.image}": ${message}` },
          },
        });
      }
      await this.#wait(error instanceof MissingReferenceError ? retryMs : this.#options.backOff.baseMs);
      return undefined;
    }
  }

  /** Waits, or until something changes, or until the end. */
  async #wait(delayMs: number): Promise<void> {
    const change = new AbortController();
    this.#poke = () => change.abort();
    const signal = AbortSignal.any([change.signal, this.#stopping.signal]);
    await sleep(this.#options.clock, delayMs, signal).catch(() => undefined);
    this.#poke = undefined;
  }

  /** From the start of a run to its end. */
  async #attend(running: RunningContainer): Promise<ContainerExit> {
    const { container, event, clock } = this.#options;
    this.#runs++;
    this.#killGraceMs = undefined;
    event("Normal", "Started", `Started container ${container.name}`);
    const hasStartup = container.startupProbe !== undefined;
    this.#set({
      state: { running: { startedAt: seconds(clock.now()) } },
      restartCount: this.#runs - 1,
      started: !hasStartup,
      ready: !hasStartup && container.readinessProbe === undefined,
      containerId: `process://${this.#options.id}-${this.#runs}`,
    });
    void this.#options.postStart(running).catch((error: unknown) => {
      event("Warning", "FailedPostStartHook", String(error));
      void this.#terminate(this.#options.graceMs());
    });
    const stopProbes = this.#startProbes(running);
    if (this.#isStopping) void this.#terminate(this.#options.graceMs());
    const exit = await running.exited.catch((): ContainerExit => ({ exitCode: 128 }));
    stopProbes();
    this.running = undefined;
    this.log.end();
    return exit;
  }

  #startProbes(running: RunningContainer): () => void {
    const { container, clock } = this.#options;
    const stops: (() => void)[] = [];
    const begin = (kind: ProbeKind, probe: Probe | undefined, onVerdict: (passing: boolean) => void) => {
      if (probe === undefined) return;
      const stop = startProber({
        probe,
        clock,
        run: () => this.#options.probe(probe, running),
        ...(kind === "Readiness" ? { eagerMs: eagerReadinessMs } : {}),
        onResult: (state, result) => {
          // While it starts, being refused is no news.
          if (!result.ok && (kind !== "Readiness" || this.view.ready)) this.#unhealthy(kind, result);
          if (state.passing !== undefined) onVerdict(state.passing);
        },
      });
      stops.push(stop);
    };
    const beginRest = () => {
      begin("Readiness", container.readinessProbe, (passing) => {
        if (this.view.ready !== passing && this.running === running) this.#set({ ready: passing });
      });
      begin(
        "Liveness",
        container.livenessProbe,
        (passing) => passing || this.#killUnhealthy("Liveness", container.livenessProbe),
      );
    };
    if (container.startupProbe === undefined) beginRest();
    else {
      begin("Startup", container.startupProbe, (passing) => {
        if (!passing) {
          this.#killUnhealthy("Startup", container.startupProbe);
          return;
        }
        stops.shift()?.();
        if (this.view.started) return;
        this.#set({ started: true, ready: container.readinessProbe === undefined });
        beginRest();
      });
    }
    return () => {
      for (const stop of stops) stop();
    };
  }

  #unhealthy(kind: ProbeKind, { message }: ProbeResult): void {
    this.#options.event("Warning", "Unhealthy", `${kind} probe failed: ${message}`);
  }

  #killUnhealthy(kind: ProbeKind, probe: Probe | undefined): void {
    if (this.#killGraceMs !== undefined) return;
    const { event, container } = this.#options;
    event("Normal", "Killing", `Container ${container.name} failed ${kind.toLowerCase()} probe, will be restarted`);
    const own = probe?.terminationGracePeriodSeconds;
    void this.#terminate(own === undefined ? this.#options.graceMs() : own * 1000);
  }

  async #terminate(graceMs: number): Promise<void> {
    const running = this.running;
    if (running === undefined) return;
    const isFirst = this.#killGraceMs === undefined;
    if (!isFirst && graceMs >= (this.#killGraceMs ?? 0)) return;
    this.#killGraceMs = graceMs;
    const cancelKill = this.#options.clock.schedule(graceMs, () => running.signal("SIGKILL"));
    const gone = running.exited.then(cancelKill, cancelKill);
    if (isFirst) {
      await Promise.race([this.#options.preStop(running, graceMs), gone]);
      running.signal("SIGTERM");
    }
    await gone;
  }

  /** Records the end; answers whether there is another start. */
  #ended({ exitCode, signal }: ContainerExit, startedMs: number): boolean {
    const { clock, id } = this.#options;
    const state: ContainerState = {
      terminated: {
        exitCode,
        ...(signal === undefined ? {} : { signal }),
        reason: exitCode === 0 ? "Completed" : "Error",
        startedAt: seconds(startedMs),
        finishedAt: seconds(clock.now()),
        containerID: `process://${id}-${this.#runs}`,
      },
    };
    this.#set({ state, ready: false, started: false });
    return !this.#isStopping && shouldRestart(this.#options.policy, exitCode);
  }

  async #backOff(): Promise<void> {
    const { backOff, container, event } = this.#options;
    const lastState = this.view.state;
    const delayMs = restartDelayMs(this.#crashes, backOff);
    if (delayMs === 0) {
      this.#set({ lastState });
      return;
    }
    const message = `back-off ${Math.ceil(delayMs / 1000)}s restarting failed container=${container.name}`;
    this.#set({ state: { waiting: { reason: "CrashLoopBackOff", message } }, lastState });
    event("Warning", "BackOff", `Back-off restarting failed container ${container.name}`);
    await sleep(this.#options.clock, delayMs, this.#stopping.signal).catch(() => undefined);
    // An end for good is told as an end, not as waiting for a start that will not come.
    if (this.#isStopping) this.#set({ state: lastState });
  }
}

type ProbeKind = "Startup" | "Readiness" | "Liveness";

function failureReason(error: unknown): string {
  if (error instanceof ImageMissingError) return "ErrImagePull";
  if (error instanceof MissingReferenceError) return "CreateContainerConfigError";
  return "CreateContainerError";
}

const seconds = (ms: number) => `${new Date(ms).toISOString().slice(0, 19)}Z`;
