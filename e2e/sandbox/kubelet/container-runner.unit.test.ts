import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import type { Container } from "../kinds.ts";
import type { ContainerExit, RunningContainer } from "./container.ts";
import { ContainerRunner, ImageMissingError, type RunnerOptions } from "./container-runner.ts";
import { MissingReferenceError } from "./environment.ts";

/** A container that does as the test says. */
function stage(container: Partial<Container>, options: Partial<RunnerOptions> = {}) {
  const clock = new FakeClock();
  const events: string[] = [];
  const signals: string[] = [];
  const ends: ((exit: ContainerExit) => void)[] = [];
  const healthy = { now: true };
  const runner = new ContainerRunner({
    container: { name: "main", image: "any", ...container },
    policy: "Always",
    clock,
    backOff: { baseMs: 10_000, maxMs: 300_000 },
    start: async (): Promise<RunningContainer> => {
      let end: (exit: ContainerExit) => void = () => {};
      const exited = new Promise<ContainerExit>((resolve) => (end = resolve));
      ends.push(end);
      return {
        pid: 100 + ends.length,
        exited,
        stdin: undefined,
        exec: async () => 0,
        signal: (signal) => {
          signals.push(signal);
          if (signal === "SIGKILL") end({ exitCode: 137, signal: 9 });
        },
      };
    },
    probe: async () => ({ ok: healthy.now, message: "no answer" }),
    preStop: async () => undefined,
    postStart: async () => undefined,
    onChange: () => undefined,
    event: (_type, reason) => events.push(reason),
    graceMs: () => 30_000,
    id: "id",
    ...options,
  });
  const start = async () => {
    void runner.run();
    await clock.advance(0);
  };
  const end = async (exitCode: number) => {
    ends.at(-1)?.({ exitCode });
    await clock.advance(0);
  };
  return { runner, clock, events, signals, healthy, start, end, starts: () => ends.length };
}

const state = ({ view }: ContainerRunner) => Object.keys(view.state)[0];

describe("restarts", () => {
  test("come at once after the first crash, then with doubled delays", async () => {
    const { runner, clock, start, end, starts } = stage({});
    await start();
    await end(1);
    expect([starts(), runner.view.restartCount, runner.view.lastState.terminated?.exitCode]).toEqual([2, 1, 1]);
    await end(1);
    expect(runner.view.state.waiting?.reason).toBe("CrashLoopBackOff");
    await clock.advance(9_999);
    expect(starts()).toBe(2);
    await clock.advance(1);
    expect(starts()).toBe(3);
    await end(1);
    await clock.advance(19_999);
    expect(starts()).toBe(3);
    await clock.advance(1);
    expect(starts()).toBe(4);
  });

  test("end with a container that is not to be restarted", async () => {
    const { runner, start, end, starts } = stage({}, { policy: "OnFailure" });
    await start();
    await end(0);
    await runner.run();
    expect([state(runner), starts()]).toEqual(["terminated", 1]);
  });
});

describe("probes", () => {
  test("readiness follows the probe", async () => {
    const { runner, clock, healthy, start } = stage({ readinessProbe: { periodSeconds: 5, failureThreshold: 2 } });
    healthy.now = false;
    await start();
    expect(runner.view.ready).toBe(false);
    healthy.now = true;
    await clock.advance(200);
    expect(runner.view.ready).toBe(true); // asked often until the first success
    healthy.now = false;
    await clock.advance(5_000);
    expect(runner.view.ready).toBe(true);
    await clock.advance(5_000);
    expect(runner.view.ready).toBe(false);
  });

  test("a failed liveness probe ends the container, and it starts again", async () => {
    const { runner, clock, healthy, start, signals, events, starts } = stage({
      livenessProbe: { periodSeconds: 10, failureThreshold: 3 },
    });
    await start();
    healthy.now = false;
    await clock.advance(30_000);
    expect(signals).toEqual(["SIGTERM"]);
    expect(events).toContain("Unhealthy");
    await clock.advance(30_000); // it does not listen
    expect([signals.includes("SIGKILL"), starts(), runner.view.restartCount]).toEqual([true, 2, 1]);
  });

  test("the startup probe holds the others back", async () => {
    const { runner, clock, healthy, start, signals } = stage({
      startupProbe: { periodSeconds: 1, failureThreshold: 10 },
      livenessProbe: { periodSeconds: 1, failureThreshold: 1 },
    });
    healthy.now = false;
    await start();
    await clock.advance(5_000);
    expect([runner.view.started, signals]).toEqual([false, []]);
    healthy.now = true;
    await clock.advance(1_000);
    expect([runner.view.started, runner.view.ready]).toEqual([true, true]);
  });
});

describe("stopping", () => {
  test("asks first and kills after the grace period", async () => {
    const { runner, clock, start, signals } = stage({});
    await start();
    const stopped = runner.stop(5_000);
    await clock.advance(4_999);
    expect(signals).toEqual(["SIGTERM"]);
    await clock.advance(1);
    await stopped;
    expect([signals, state(runner)]).toEqual([["SIGTERM", "SIGKILL"], "terminated"]);
  });

  test("a second stop may shorten the time", async () => {
    const { runner, clock, start, signals } = stage({});
    await start();
    const first = runner.stop(30_000);
    await clock.advance(0);
    const second = runner.stop(1_000);
    await clock.advance(1_000);
    await Promise.all([first, second]);
    expect(signals).toContain("SIGKILL");
  });

  test("waits for preStop before it asks", async () => {
    let release = () => {};
    const { runner, clock, start, signals, end } = stage(
      {},
      { preStop: () => new Promise((resolve) => (release = resolve)) },
    );
    await start();
    const stopped = runner.stop(30_000);
    await clock.advance(100);
    expect(signals).toEqual([]);
    release();
    await clock.advance(0);
    expect(signals).toEqual(["SIGTERM"]);
    await end(0);
    await stopped;
  });

  test("a container in its back-off ends where it is", async () => {
    const { runner, start, end } = stage({});
    await start();
    await end(1);
    await end(2);
    await runner.stop(30_000);
    expect(runner.view.state.terminated?.exitCode).toBe(2);
  });
});

// prettier-ignore
test.each([ // failure                                            waiting
  [new ImageMissingError("no program"),                           "ImagePullBackOff"],
  [new MissingReferenceError("configmap \"x\" not found"),        "CreateContainerConfigError"],
  [new Error("mount: no such device"),                            "CreateContainerError"],
])("%s is waiting with %s, and is tried again", async (failure, waiting) => {
  let tries = 0;
  const start = async (): Promise<RunningContainer> => {
    tries++;
    throw failure;
  };
  const { runner, clock, ...story } = stage({}, { start });
  await story.start();
  expect(runner.view.state.waiting?.reason).toBe(waiting);
  runner.poke(); // what it refers to may have come
  await clock.advance(0);
  expect(tries).toBe(2);
  await runner.stop(0);
});
