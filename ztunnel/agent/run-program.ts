/** Runs `nft`, `ip` and `ss`, in a pod's network namespace or our own, with a deadline and bounded output. */
import { spawn } from "node:child_process";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { inNamespace } from "#ztunnel/inpod/netns-sockets.ts";

export interface ProgramResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Debian packages of the programs we call, for who lacks one. */
const packages = { nft: "nftables", ip: "iproute2", ss: "iproute2" } as const;
export type Program = keyof typeof packages;

/** All answer within milliseconds; one that hangs must not hold up other pods. */
const deadlineMs = 10_000;
const maxOutputBytes = 4 * 1024 * 1024;

/** @throws MeshError SYSTEM_CALL_FAILED where the program is missing or does not end in time */
export function runProgram(
  netnsFd: number | undefined,
  program: Program,
  args: readonly string[],
  input: string,
): Promise<ProgramResult> {
  const { promise, resolve, reject } = Promise.withResolvers<ProgramResult>();
  // The child is forked by this very thread, so it starts, and stays, in the namespace the thread is in.
  const child = inNamespace(netnsFd, () =>
    spawn(program, args, { stdio: "pipe", timeout: deadlineMs, killSignal: "SIGKILL" }),
  );
  child.once("error", (error: NodeJS.ErrnoException) => {
    const missing = `it is not installed: apt-get install ${packages[program]}`;
    const why = error.code === "ENOENT" ? missing : error.message;
    reject(new MeshError("SYSTEM_CALL_FAILED", `Cannot run "${program}": ${why}`, error));
  });
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  child.once("close", (status, signal) => {
    if (signal === null) resolve({ status, stdout: stdout(), stderr: stderr() });
    else reject(new MeshError("SYSTEM_CALL_FAILED", `Cannot run "${program}": ended by ${signal}`));
  });
  // A program that ends before it has read everything says why on its standard error.
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  return promise;
}

function collect(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= maxOutputBytes) chunks.push(chunk);
  });
  return () => Buffer.concat(chunks).toString();
}

/** @throws MeshError SYSTEM_CALL_FAILED quoting what the program said if it did not succeed */
export async function mustRun(
  netnsFd: number | undefined,
  program: Program,
  args: readonly string[],
  input: string,
): Promise<string> {
  const { status, stdout, stderr } = await runProgram(netnsFd, program, args, input);
  if (status === 0) return stdout;
  throw new MeshError("SYSTEM_CALL_FAILED", `"${program} ${args.join(" ")}" failed: ${stderr.trim()}`);
}
