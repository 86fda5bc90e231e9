import { spawn } from "node:child_process";

export interface ScriptOptions {
  /** Run it in this network namespace (a path). */
  readonly netns?: string;
  /** Program that reads the script from standard input. Default: `sh -eu`. */
  readonly interpreter?: readonly [string, ...string[]];
  readonly timeoutMs?: number;
}

/** System tools answer in milliseconds; one that takes this long hangs. */
const timeoutMsDefault = 20_000;

/**
 * Runs a script of system commands and answers what it printed.
 *
 * @throws Error with the first lines of the complaint
 */
export function runScript(script: string, options: ScriptOptions = {}): Promise<string> {
  const interpreter = options.interpreter ?? ["sh", "-eu"];
  const command = options.netns === undefined ? interpreter : ["nsenter", `--net=${options.netns}`, ...interpreter];
  return new Promise((resolve, reject) => {
    const child = spawn(command[0] ?? "sh", command.slice(1), {
      stdio: ["pipe", "pipe", "pipe"],
      timeout: options.timeoutMs ?? timeoutMsDefault,
      killSignal: "SIGKILL",
    });
    let output = "";
    let complaint = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (complaint += text));
    child.stdin.on("error", () => undefined); // it ended without reading all: its exit code tells
    child.on("error", (error) => reject(new Error(`Cannot run ${interpreter[0]}`, { cause: error })));
    child.on("close", (code, signal) => {
      if (code === 0) resolve(output);
      else
        reject(new Error(`${interpreter.join(" ")} failed (${signal ?? code}): ${complaint.trim().slice(0, 2_000)}`));
    });
    child.stdin.end(script);
  });
}

/** One word for the shell. */
export const quote = (word: string): string =>
  /^[\w@%+=:,./-]+$/u.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
