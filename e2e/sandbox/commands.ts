import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { Command, InvalidArgumentError, Option } from "commander";
import { stringify } from "yaml";
import { KubeClient } from "./kube-client.ts";
import { repository } from "./kubelet/images.ts";
import type { SandboxOptions } from "./sandbox.ts";
import { listSandboxes, sandboxesFolder, type RunningSandbox } from "./state-folder.ts";

interface UpFlags {
  name: string;
  nodes: number;
  filename: string[];
  kubeconfig?: string;
  port?: number;
  ztunnel?: string;
  waypoint?: string;
  controlPlane?: string;
  nodeAgent?: string;
  image: Record<string, string>;
  mesh: boolean;
  ipv6: boolean;
  detach: boolean;
}

const examples = `
Examples:
  $ npm run sandbox -- up                          until Ctrl-C; prints what to do next
  $ npm run sandbox -- up --detach -f my-app/      in the background, with the objects of a folder
  $ npm run sandbox -- up --no-mesh --nodes 3      only the cluster
  $ npm run sandbox -- up --ztunnel './out/ztunnel'
                                                   another ztunnel, started as the manifest says
  $ npm run sandbox -- up --control-plane 127.0.0.1:15012
                                                   a control plane that runs outside
  $ npm run sandbox -- status -o json
  $ npm run sandbox -- down

Pods are processes of this machine in network namespaces of their own; a container runs its "command" from this
machine's file system. Images are names of local programs: ambit/controlplane, ambit/ztunnel, ambit/waypoint,
ambit/node-agent, ambit/bookshop, common tools (busybox, curl, node, …), and what --image adds.`;

/** Runs one command; answers the exit status. */
export async function runCommand(words: readonly string[]): Promise<number> {
  let status = 0;
  const program = new Command("sandbox")
    .description(
      "A Kubernetes-shaped cluster on this machine, with the mesh on it. As root, or without in a user namespace.",
    )
    .addHelpText("after", examples)
    .showHelpAfterError("(--help shows all options)")
    .configureHelp({ showGlobalOptions: true });

  program
    .command("up")
    .description("start a sandbox; it ends with this command, or with `down` if detached")
    .option("--name <name>", "several sandboxes may be up under different names", "default")
    .option("--nodes <count>", "simulated nodes", count, 2)
    .option(
      "-f, --filename <path>",
      "apply this file or folder (kustomize too) when the mesh is up; repeatable",
      collect,
      [],
    )
    .option("--kubeconfig <path>", "write the kubeconfig here too")
    .option("--port <port>", "port of the API server on 127.0.0.1 (default: any free one)", portNumber)
    .option(
      "--ztunnel <command>",
      "run this in place of ambit/ztunnel; environment, files and arguments as the manifest says",
    )
    .option(
      "--control-plane <command or host:port>",
      "run this in place of ambit/controlplane, or use one that listens outside",
    )
    .option("--waypoint <command>", "run this in place of ambit/waypoint")
    .option("--node-agent <command>", "run this in place of ambit/node-agent")
    .option("--image <name=command>", "run this command for an image; repeatable", collectImage, {})
    .option("--no-mesh", "only the cluster")
    .option("--no-ipv6", "IPv4 only")
    .option("--detach", "come back when it is up, and leave it running", false)
    .action(async (flags: UpFlags) => {
      status = flags.detach ? await upDetached(words, flags.name) : await up(flags);
    });

  program
    .command("down")
    .description("end a sandbox that runs in the background, or in another terminal")
    .option("--name <name>", "which one", "default")
    .option("--all", "all of them", false)
    .action(async (flags: { name: string; all: boolean }) => {
      status = await down(flags);
    });

  program
    .command("status")
    .description("which sandboxes are up, and how they are")
    .option("--name <name>", "only this one")
    .addOption(new Option("-o, --output <form>", "for programs").choices(["json", "yaml"]))
    .action(async (flags: { name?: string; output?: "json" | "yaml" }) => {
      status = await showStatus(flags);
    });

  await program.parseAsync(words, { from: "user" });
  return status;
}

function count(text: string): number {
  if (!/^\d{1,3}$/u.test(text) || Number(text) < 1) throw new InvalidArgumentError("a number from 1 on");
  return Number(text);
}

function portNumber(text: string): number {
  if (!/^\d{1,5}$/u.test(text) || Number(text) > 65_535) throw new InvalidArgumentError("a port number");
  return Number(text);
}

const collect = (text: string, before: string[]): string[] => [...before, text];

function collectImage(text: string, before: Record<string, string>): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1 || at === text.length - 1)
    throw new InvalidArgumentError("NAME=COMMAND, for example team/app='node app.js'");
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

function optionsFrom(flags: UpFlags): SandboxOptions {
  const startedMs = Date.now();
  return {
    name: flags.name,
    nodes: flags.nodes,
    ipv6: flags.ipv6,
    mesh: flags.mesh,
    images: flags.image,
    manifests: flags.filename,
    progress: (text) => console.log(`${((Date.now() - startedMs) / 1000).toFixed(1).padStart(5)} s  ${text}`),
    ...(flags.port === undefined ? {} : { port: flags.port }),
    ...(flags.kubeconfig === undefined ? {} : { kubeconfig: flags.kubeconfig }),
    ...(flags.ztunnel === undefined ? {} : { ztunnel: flags.ztunnel }),
    ...(flags.waypoint === undefined ? {} : { waypoint: flags.waypoint }),
    ...(flags.nodeAgent === undefined ? {} : { nodeAgent: flags.nodeAgent }),
    ...(flags.controlPlane === undefined ? {} : { controlPlane: flags.controlPlane }),
  };
}

/** Set for the process that a detached sandbox lives in. */
const backgroundVariable = "AMBIT_SANDBOX_BACKGROUND";

async function up(flags: UpFlags): Promise<number> {
  const { startSandbox } = await import("./sandbox.ts");
  const stop = new Promise<"stop">((done) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => done("stop"));
  });
  const starting = startSandbox(optionsFrom(flags));
  const first = await Promise.race([starting, stop]);
  if (first === "stop") return 130; // the kernel ends with us what has been started
  const sandbox = first;
  if (process.env[backgroundVariable] === undefined) {
    console.log(`
The sandbox is up. In another terminal:
  export KUBECONFIG=${sandbox.kubeconfig}
  kubectl get pods -A -o wide
Ctrl-C ends it.`);
  } else process.send?.({ kubeconfig: sandbox.kubeconfig });
  const end = await Promise.race([
    stop,
    sandbox.ended.then(
      () => "stop" as const,
      (error: Error) => error,
    ),
  ]);
  await sandbox.close();
  if (end === "stop") return 0;
  console.error(end.message);
  return 1;
}

/** Starts another process that lives on, and waits with the user until the sandbox in it is up. */
async function upDetached(words: readonly string[], name: string): Promise<number> {
  const folder = join(sandboxesFolder(repository), name);
  mkdirSync(folder, { recursive: true });
  const logPath = join(folder, "output");
  const log = openSync(logPath, "w", 0o600);
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, "main.ts"), ...words.filter((word) => word !== "--detach")],
    {
      env: { ...process.env, [backgroundVariable]: "1" },
      stdio: ["ignore", log, log, "ipc"],
      detached: true,
    },
  );
  closeSync(log);
  let shown = 0;
  const show = () => {
    const size = statSync(logPath).size;
    if (size > shown) process.stdout.write(readFileSync(logPath).subarray(shown));
    shown = size;
  };
  const following = setInterval(show, 100);
  const result = await new Promise<{ kubeconfig: string } | number>((done) => {
    child.once("message", (message: { kubeconfig: string }) => done(message));
    child.once("exit", (code) => done(code ?? 1));
  });
  clearInterval(following);
  show();
  if (typeof result === "number") return result === 0 ? 1 : result;
  child.disconnect();
  child.unref();
  console.log(`
The sandbox is up:
  export KUBECONFIG=${result.kubeconfig}
  kubectl get pods -A -o wide
"npm run sandbox -- down${name === "default" ? "" : ` --name ${name}`}" ends it.`);
  return 0;
}

const downTimeoutMs = 10_000;

async function down({ name, all }: { name: string; all: boolean }): Promise<number> {
  const sandboxes = listSandboxes(sandboxesFolder(repository)).filter((sandbox) => all || sandbox.name === name);
  if (sandboxes.length === 0) {
    console.log(all ? "No sandbox is up" : `No sandbox "${name}" is up`);
    return 0;
  }
  for (const sandbox of sandboxes) {
    process.kill(sandbox.pid, "SIGTERM");
    const untilMs = Date.now() + downTimeoutMs;
    while (isAlive(sandbox.pid) && Date.now() < untilMs) await delay(20);
    if (isAlive(sandbox.pid)) process.kill(sandbox.pid, "SIGKILL");
    console.log(`Sandbox "${sandbox.name}" is down`);
  }
  listSandboxes(sandboxesFolder(repository)); // clears the folders of those that had to be killed
  return 0;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^\d+ \(.*\) Z/u.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

interface StatusRow extends RunningSandbox {
  readonly nodes: number;
  readonly pods: { readonly ready: number; readonly total: number };
}

async function showStatus({ name, output }: { name?: string; output?: "json" | "yaml" }): Promise<number> {
  const sandboxes = listSandboxes(sandboxesFolder(repository)).filter(
    (sandbox) => name === undefined || sandbox.name === name,
  );
  const rows = await Promise.all(sandboxes.map(statusOf));
  if (output === "json") console.log(JSON.stringify(rows, undefined, 2));
  else if (output === "yaml") console.log(stringify(rows).trimEnd());
  else if (rows.length === 0) console.log('No sandbox is up: start one with "npm run sandbox -- up"');
  else {
    for (const row of rows) {
      console.log(
        `${row.name}: ${row.server}, ${row.nodes} nodes, ${row.pods.ready} of ${row.pods.total} pods ready\n  export KUBECONFIG=${row.kubeconfig}`,
      );
    }
  }
  return rows.length === 0 && name !== undefined ? 1 : 0;
}

async function statusOf(sandbox: RunningSandbox): Promise<StatusRow> {
  const nothing = { ...sandbox, nodes: 0, pods: { ready: 0, total: 0 } };
  try {
    const client = clientFrom(sandbox);
    const nodes = await client.list({ apiVersion: "v1", kind: "Node" });
    const { items } = (await client.request("GET", "/api/v1/pods")) as {
      items: { status?: { conditions?: { type: string; status: string }[] } }[];
    };
    client.close();
    const ready = items.filter(({ status }) =>
      status?.conditions?.some(({ type, status: value }) => type === "Ready" && value === "True"),
    );
    return { ...sandbox, nodes: nodes.length, pods: { ready: ready.length, total: items.length } };
  } catch {
    return nothing; // still starting, or just ending
  }
}

function clientFrom({ kubeconfig }: RunningSandbox): KubeClient {
  const text = readFileSync(kubeconfig, "utf8");
  const field = (key: string) => new RegExp(`${key}: (\\S+)`, "u").exec(text)?.[1] ?? "";
  return new KubeClient({
    server: field("server"),
    caPem: Buffer.from(field("certificate-authority-data"), "base64").toString("utf8"),
    token: field("token"),
  });
}
