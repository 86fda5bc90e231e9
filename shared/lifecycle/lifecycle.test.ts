import { EventEmitter } from "node:events";
import { describe, expect, jest, test } from "@jest/globals";
import { silentLogger } from "#shared/observe/logger.ts";
import { becomeLean } from "./lean-process.ts";
import { Readiness } from "./readiness.ts";
import { awaitShutdown } from "./shutdown.ts";
import { surviveMistakes } from "./survive.ts";

describe("readiness", () => {
  test("comes when the last blocker goes, and names what is missing in order", () => {
    const readiness = new Readiness();
    const [b, a, again] = [readiness.block("b"), readiness.block("a"), readiness.block("a")];
    expect(readiness.pending).toEqual(["a", "b"]);
    b[Symbol.dispose]();
    a[Symbol.dispose]();
    a[Symbol.dispose](); // twice counts once
    expect(readiness.pending).toEqual(["a"]);
    again[Symbol.dispose]();
    expect(readiness.isReady).toBe(true);
  });
});

describe("shutdown", () => {
  const open = () => {
    const process = Object.assign(new EventEmitter(), { exit: jest.fn() });
    return { process, shutdown: awaitShutdown(process) };
  };

  test("is asked by SIGTERM, SIGINT or a request, the first of which counts", async () => {
    const { process, shutdown } = open();
    process.emit("SIGTERM");
    shutdown.request("later");
    expect(await shutdown.asked).toBe("SIGTERM");
  });

  test("a second SIGINT exits at once, a second SIGTERM does nothing", () => {
    const { process } = open();
    process.emit("SIGTERM");
    process.emit("SIGTERM");
    process.emit("SIGINT");
    expect(process.exit).not.toHaveBeenCalled();
    process.emit("SIGINT");
    expect(process.exit).toHaveBeenCalledWith(0);
  });

  test("leaves no listener behind", () => {
    const { process, shutdown } = open();
    shutdown[Symbol.dispose]();
    expect(process.eventNames()).toEqual([]);
  });
});

test("uncaught mistakes are survived, up to a bound per minute", () => {
  const process = Object.assign(new EventEmitter(), { exit: jest.fn() });
  let now = 0;
  surviveMistakes(process, silentLogger, () => now);
  for (let index = 0; index < 100; index++) process.emit("uncaughtException", new Error("x"));
  now = 60_000;
  process.emit("unhandledRejection", "y");
  expect(process.exit).not.toHaveBeenCalled();
  for (let index = 0; index < 100; index++) process.emit("uncaughtException", new Error("x"));
  expect(process.exit).toHaveBeenCalledWith(1);
});

describe("becoming lean", () => {
  const of = (
    env: Record<string, string>,
    execve?: (file: string, args: string[], env: NodeJS.ProcessEnv) => void,
  ) => ({
    env,
    argv: ["node", "main.ts", "proxy"],
    execArgv: ["--inspect"],
    execPath: "/bin/node",
    version: "v24.18.1",
    ...(execve && { execve }),
  });

  test("starts the same program again with the cache and a small nursery", () => {
    const execve = jest.fn<(file: string, args: string[], env: NodeJS.ProcessEnv) => void>();
    becomeLean(of({ A: "b" }, execve));
    const [file, args, env] = execve.mock.calls[0] ?? [];
    expect(file).toBe("/bin/node");
    expect(args).toEqual([
      "/bin/node",
      expect.stringMatching(/^--max-semi-space-size=/),
      "--inspect",
      "main.ts",
      "proxy",
    ]);
    expect(env).toMatchObject({ A: "b", NODE_COMPILE_CACHE: expect.stringContaining(".cache") as unknown });
  });

  test("asks for the newer rule about external memory where Node knows it", () => {
    const execve = jest.fn<(file: string, args: string[], env: NodeJS.ProcessEnv) => void>();
    becomeLean({ ...of({}, execve), version: "v26.10.0" });
    expect(execve.mock.calls[0]?.[1]).toContain("--external-memory-accounted-in-global-limit");
  });

  test("happens once, and not where the system cannot", () => {
    const execve = jest.fn<(file: string, args: string[], env: NodeJS.ProcessEnv) => void>();
    becomeLean({ ...of({}, execve), execArgv: ["--max-semi-space-size=2"] });
    becomeLean(of({ NODE_OPTIONS: "--max-semi-space-size=16" }, execve));
    becomeLean(of({}));
    expect(execve).not.toHaveBeenCalled();
  });

  test("keeps a compile cache that was chosen", () => {
    const execve = jest.fn<(file: string, args: string[], env: NodeJS.ProcessEnv) => void>();
    becomeLean(of({ NODE_COMPILE_CACHE: "/x" }, execve));
    expect(execve.mock.calls[0]?.[2]).toMatchObject({ NODE_COMPILE_CACHE: "/x" });
  });
});
