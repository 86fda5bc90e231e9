import { randomUUID } from "node:crypto";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { constants } from "node:os";
import type { ExecStreams, TerminalSize } from "../apiserver/pod-runtime.ts";
import { quote } from "../run-script.ts";
import {
  capabilityCommand,
  commandPathVariable,
  containerScript,
  readyWord,
  type ContainerWorld,
} from "./container-script.ts";

export interface ContainerStart {
  readonly netns: string;
  readonly world: ContainerWorld;
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Keep standard input open for `attach`. */
  readonly hasInput: boolean;
  readonly onOutput: (bytes: Buffer) => void;
}

export interface ContainerExit {
  /** 128 + signal number when a signal ended it. */
  readonly exitCode: number;
  readonly signal?: number;
}

/** A container that runs. It ends by itself, by `signal`, or with the sandbox. */
export interface RunningContainer {
  /** Its first process, as the sandbox numbers processes. */
  readonly pid: number;
  readonly exited: Promise<ContainerExit>;
  readonly stdin: Writable | undefined;
  signal(signal: NodeJS.Signals): void;
  exec(command: readonly string[], streams: ExecStreams): Promise<number>;
}

/** Building a container's world takes some ten milliseconds; on a very busy machine much longer. */
const setupTimeoutMs = 30_000;

/** The programs that build worlds, wherever the distribution keeps them. */
const toolPath = `${process.env["PATH"] ?? ""}:/usr/sbin:/usr/bin:/sbin:/bin`;

/** @throws Error where the container's world cannot be built, with what the tools said */
export async function startContainer(start: ContainerStart): Promise<RunningContainer> {
  await mkdir(start.world.root, { recursive: true });
  const script = `${dirname(start.world.root)}/start`;
  await writeFile(script, containerScript(start.world, start.command));
  const arguments_ = [
    `--net=${start.netns}`,
    "unshare",
    "--mount",
    "--propagation",
    "slave",
    "--uts",
    "--ipc",
    "--pid",
    "--fork",
    "--kill-child",
    "sh",
    script,
  ];
  const { PATH = toolPath, ...environment } = start.environment;
  const child = spawn("nsenter", arguments_, {
    env: { ...environment, PATH: toolPath, [commandPathVariable]: PATH },
    stdio: [start.hasInput ? "pipe" : "ignore", "pipe", "pipe", "pipe"],
    detached: true,
  });
  child.stdin?.on("error", () => undefined);
  const exited = exitOf(child).finally(
    () => void rm(start.world.root, { recursive: true, force: true }).catch(() => undefined),
  );
  exited.catch(() => undefined); // told by setUp
  const pid = await setUp(child, start.onOutput);
  return {
    pid,
    exited,
    stdin: child.stdin ?? undefined,
    signal: (signal) => {
      try {
        process.kill(pid, signal);
      } catch {
        // It is gone: that is what a signal is for.
      }
    },
    exec: (command, streams) => execIn({ pid, start, command, streams }),
  };
}

/** Waits for the world to stand; output before that is the tools' complaint, after it the command's. */
function setUp(child: ChildProcess, onOutput: (bytes: Buffer) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    let pid = 0;
    let complaint = "";
    let isReady = false;
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`setting up the container took longer than ${setupTimeoutMs} ms`));
    }, setupTimeoutMs);
    const forward = (stream: Readable) =>
      stream.on("data", (bytes: Buffer) => {
        onOutput(bytes);
        if (!isReady && complaint.length < 2_000) complaint += bytes.toString("utf8");
      });
    forward(child.stdout as Readable);
    forward(child.stderr as Readable);
    const reports = createInterface({ input: child.stdio[3] as Readable });
    reports.on("line", (line) => {
      if (line !== readyWord) {
        pid = Number(line);
        return;
      }
      isReady = true;
      clearTimeout(timer);
      reports.close();
      resolve(pid);
    });
    child.once("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      reject(new Error(`setting up the container failed (${signal ?? code}): ${complaint.trim()}`));
    });
  });
}

function exitOf(child: ChildProcess): Promise<ContainerExit> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      if (signal === null)
        resolve({ exitCode: code ?? 0, ...(code !== null && code > 128 ? { signal: code - 128 } : {}) });
      else resolve({ exitCode: 128 + constants.signals[signal], signal: constants.signals[signal] });
    });
  });
}

interface ExecRequest {
  readonly pid: number;
  readonly start: ContainerStart;
  readonly command: readonly string[];
  readonly streams: ExecStreams;
}

const interactiveTerm = "xterm-256color";

/** Runs a command beside the container's own, in all of its namespaces and with its rights. */
function execIn({ pid, start, command, streams }: ExecRequest): Promise<number> {
  const { world } = start;
  const limited = [...capabilityCommand(world.capabilities), ...command];
  const terminal = streams.tty ? `/run/.terminal-${randomUUID()}` : undefined;
  // `script` gives the command a terminal and passes its exit code on; which terminal it is stands in a file.
  const line = terminal === undefined ? "" : `tty > ${terminal}; exec ${limited.map(quote).join(" ")}`;
  const program = terminal === undefined ? limited : ["script", "-qfec", line, "/dev/null"];
  const { PATH = toolPath, ...environment } = start.environment;
  const inside = `cd ${quote(world.workingDir)}; PATH=$${commandPathVariable}; unset ${commandPathVariable}; export PATH; exec "$@"`;
  const child = spawn(
    "nsenter",
    ["-t", String(pid), "-m", "-p", "-u", "-i", "-n", "--", "sh", "-c", inside, "sandbox", ...program],
    {
      env: {
        ...environment,
        PATH: toolPath,
        [commandPathVariable]: PATH,
        ...(streams.tty ? { TERM: environment["TERM"] ?? interactiveTerm } : {}),
      },
      stdio: [streams.stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      detached: true,
    },
  );
  const kill = () => {
    if (child.pid === undefined || child.exitCode !== null) return;
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // Ended in between.
    }
  };
  streams.signal.addEventListener("abort", kill, { once: true });
  if (streams.signal.aborted) kill();
  connectStreams(child, streams);
  if (terminal !== undefined) streams.onResize?.((size) => setTerminalSize(pid, terminal, size));
  return exitOf(child)
    .then(({ exitCode }) => exitCode)
    .finally(() => streams.signal.removeEventListener("abort", kill));
}

/** Tells the terminal in the container how large the one before the user is; it may still be in the making. */
function setTerminalSize(pid: number, file: string, { columns, rows }: TerminalSize): void {
  const script = `for try in 1 2 3 4 5 6 7 8 9 10; do [ -s ${file} ] && break; sleep 0.1; done
stty -F "$(cat ${file})" rows ${Math.trunc(rows)} cols ${Math.trunc(columns)}`;
  const child = spawn("nsenter", ["-t", String(pid), "-m", "-p", "--", "sh", "-c", script], {
    env: { PATH: toolPath },
    stdio: "ignore",
  });
  child.on("error", () => undefined); // a terminal of the wrong size is still a terminal
}

function connectStreams(child: ChildProcess, { stdin, stdout, stderr, tty }: ExecStreams): void {
  if (stdin !== undefined && child.stdin !== null) {
    child.stdin.on("error", () => undefined); // the command does not read (any more)
    stdin.pipe(child.stdin);
  }
  const out = (source: Readable | null, sink: Writable | undefined) => {
    if (source === null) return;
    if (sink === undefined) source.resume();
    else source.pipe(sink, { end: false });
  };
  out(child.stdout, stdout);
  out(child.stderr, tty ? stdout : stderr);
}
