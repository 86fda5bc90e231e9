import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { KubeObject } from "#e2e/sandbox/apiserver/object-store.ts";
import type { Answer, ClusterDriver, Ref } from "./cluster-driver.ts";

/** The oldest kubectl that the sandbox promises to work with. */
const oldestMinor = 28;
const commandTimeoutMs = 30_000;

/** The kubectl on the PATH, or why there is none that counts. */
export function findKubectl(): { path: string; version: string } | { missing: string } {
  const path = process.env["KUBECTL"] ?? "kubectl";
  const { status, stdout } = spawnSync(path, ["version", "--client", "-o", "json"], {
    encoding: "utf8",
    timeout: commandTimeoutMs,
  });
  if (status !== 0) return { missing: "there is no kubectl on the PATH" };
  const { clientVersion } = JSON.parse(stdout) as {
    clientVersion: { major: string; minor: string; gitVersion: string };
  };
  const version = clientVersion.gitVersion;
  if (clientVersion.major === "1" && Number.parseInt(clientVersion.minor, 10) < oldestMinor) {
    return { missing: `kubectl ${version} is older than 1.${oldestMinor}` };
  }
  return { path, version };
}

const target = ({ apiVersion, kind }: Omit<Ref, "name">) => {
  const [group, version] = apiVersion.includes("/") ? (apiVersion.split("/") as [string, string]) : ["", apiVersion];
  return group === "" ? kind.toLowerCase() : `${kind.toLowerCase()}.${version}.${group}`;
};
const place = ({ namespace }: { namespace?: string }) => (namespace === undefined ? [] : ["-n", namespace]);
const named = (ref: Ref) => [target(ref), ref.name, ...place(ref)];

/** Drives the real kubectl, with a home of its own so that nothing of the user's is read or written. */
export class KubectlDriver implements ClusterDriver {
  readonly name: string;
  readonly #path: string;
  readonly #folder = mkdtempSync(join(tmpdir(), "ambit-kubectl-"));

  constructor({ path, version }: { path: string; version: string }, kubeconfig: string) {
    this.#path = path;
    this.name = `kubectl ${version}`;
    writeFileSync(join(this.#folder, "config"), kubeconfig, { mode: 0o600 });
  }

  close(): Promise<void> {
    rmSync(this.#folder, { recursive: true, force: true });
    return Promise.resolve();
  }

  /** Runs kubectl; any exit status is an answer. */
  run(
    args: readonly string[],
    { stdin, env = {} }: { stdin?: string; env?: Record<string, string> } = {},
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const child = this.start(args, env);
      const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
      child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
      child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
      child.on("error", reject);
      child.on("close", (code) =>
        resolve({
          code: code ?? -1,
          stdout: Buffer.concat(stdout).toString(),
          stderr: Buffer.concat(stderr).toString(),
        }),
      );
      child.stdin.end(stdin ?? "");
    });
  }

  /** Starts kubectl and leaves its end to the caller. */
  start(args: readonly string[], env: Record<string, string> = {}) {
    return spawn(this.#path, [...args], {
      env: { PATH: process.env["PATH"] ?? "", HOME: this.#folder, KUBECONFIG: join(this.#folder, "config"), ...env },
      timeout: commandTimeoutMs,
    });
  }

  /** Runs kubectl and insists on success. */
  async #do(args: readonly string[], options: { stdin?: string; env?: Record<string, string> } = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(args, options);
    if (code !== 0) throw new Error(stderr.trim());
    return stdout;
  }

  async create(object: object): Promise<void> {
    await this.#do(["create", "-f", "-"], { stdin: JSON.stringify(object) });
  }

  async apply(object: object, { dryRun = false } = {}): Promise<void> {
    await this.#do(["apply", "-f", "-", ...(dryRun ? ["--dry-run=server"] : [])], { stdin: JSON.stringify(object) });
  }

  async applyServerSide(
    object: object,
    { manager, force = false }: { manager: string; force?: boolean },
  ): Promise<void> {
    const args = [
      "apply",
      "--server-side",
      `--field-manager=${manager}`,
      ...(force ? ["--force-conflicts"] : []),
      "-f",
      "-",
    ];
    await this.#do(args, { stdin: JSON.stringify(object) });
  }

  async get(ref: Ref): Promise<KubeObject> {
    return JSON.parse(await this.#do(["get", ...named(ref), "-o", "json"])) as KubeObject;
  }

  async list(kind: Omit<Ref, "name">, labelSelector = ""): Promise<readonly string[]> {
    const output = await this.#do(["get", target(kind), ...place(kind), "-l", labelSelector, "-o", "name"]);
    return output
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.split("/")[1] ?? "");
  }

  async patch(ref: Ref, type: "merge" | "strategic" | "json", patch: object): Promise<void> {
    await this.#do(["patch", ...named(ref), `--type=${type}`, "-p", JSON.stringify(patch)]);
  }

  async edit(ref: Ref, { from, to }: { from: string; to: string }): Promise<void> {
    const script = join(this.#folder, "editor");
    writeFileSync(script, `#!/bin/sh\nsed -i 's/${from}/${to}/' "$1"\n`);
    chmodSync(script, 0o700);
    await this.#do(["edit", ...named(ref)], { env: { KUBE_EDITOR: script } });
  }

  async label(ref: Ref, key: string, value: string | null): Promise<void> {
    await this.#do(["label", "--overwrite", ...named(ref), value === null ? `${key}-` : `${key}=${value}`]);
  }

  async annotate(ref: Ref, key: string, value: string): Promise<void> {
    await this.#do(["annotate", "--overwrite", ...named(ref), `${key}=${value}`]);
  }

  async scale(ref: Ref, replicas: number): Promise<void> {
    await this.#do(["scale", ...named(ref), `--replicas=${replicas}`]);
  }

  async restart(ref: Ref): Promise<void> {
    await this.#do(["rollout", "restart", ...named(ref)]);
  }

  async waitForRollout(ref: Ref): Promise<void> {
    await this.#do(["rollout", "status", ...named(ref), "--timeout=20s"]);
  }

  async waitForCondition(ref: Ref, condition: string): Promise<void> {
    await this.#do(["wait", ...named(ref), `--for=condition=${condition}`, "--timeout=20s"]);
  }

  async delete(ref: Ref, propagation: "Background" | "Foreground" | "Orphan"): Promise<void> {
    await this.#do(["delete", ...named(ref), `--cascade=${propagation.toLowerCase()}`, "--timeout=20s"]);
  }

  logs(
    ref: Ref,
    container: string,
    { tailLines, follow = false }: { tailLines?: number; follow?: boolean },
  ): Promise<string> {
    const options = [...(follow ? ["-f"] : []), ...(tailLines === undefined ? [] : [`--tail=${tailLines}`])];
    return this.#do(["logs", ref.name, ...place(ref), "-c", container, ...options]);
  }

  exec(ref: Ref, container: string, command: readonly string[], stdin?: string): Promise<Answer> {
    const args = [
      "exec",
      ref.name,
      ...place(ref),
      "-c",
      container,
      ...(stdin === undefined ? [] : ["-i"]),
      "--",
      ...command,
    ];
    return this.run(args, stdin === undefined ? {} : { stdin });
  }

  async watch(kind: Omit<Ref, "name">, count: number, meanwhile: () => Promise<void>): Promise<readonly string[]> {
    const child = this.start(["get", target(kind), ...place(kind), "--watch-only", "-o", "name"]);
    const seen: string[] = [];
    const enough = new Promise<void>((resolve, reject) => {
      let text = "";
      child.on("error", reject);
      child.on("close", () => reject(new Error(`the watch ended after ${seen.length} of ${count}`)));
      child.stdout.on("data", (chunk: Buffer) => {
        text += chunk.toString();
        const lines = text.split("\n");
        text = lines.pop() ?? "";
        for (const line of lines) seen.push(line.split("/")[1] ?? "");
        if (seen.length >= count) resolve();
      });
    });
    // Nothing tells when kubectl's watch stands; what happens before is not seen, so it happens until it is.
    const repeat = setInterval(() => void meanwhile(), 500);
    try {
      await Promise.all([enough, meanwhile()]);
    } finally {
      clearInterval(repeat);
      child.kill();
    }
    return seen;
  }

  async resources(): Promise<readonly string[]> {
    return (await this.#do(["api-resources", "-o", "name"])).split("\n").map((line) => line.split(".")[0] ?? "");
  }

  async canI(verb: string, resource: string, user?: string): Promise<boolean> {
    const { stdout } = await this.run(["auth", "can-i", verb, resource, ...(user === undefined ? [] : ["--as", user])]);
    return stdout.trim() === "yes";
  }

  async token(namespace: string, account: string): Promise<string> {
    return (await this.#do(["create", "token", account, "-n", namespace])).trim();
  }
}
