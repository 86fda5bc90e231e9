/** The few files of a sandbox that are on the machine's own file system: kubeconfig, pid, log. */
import { spawn } from "node:child_process";
import {
  accessSync,
  constants,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import type { Socket } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { dirname, join } from "node:path";
import { RequirementError } from "./requirements.ts";

export interface StateFolder {
  readonly path: string;
  readonly kubeconfig: string;
  readonly log: string;
}

const pidFile = "pid";
const infoFile = "sandbox.json";
/** Written before the folder is claimed, or worth reading after a failure. */
const keptFiles = new Set([pidFile, "log", "output"]);

export interface RunningSandbox {
  readonly name: string;
  readonly pid: number;
  readonly kubeconfig: string;
  readonly server: string;
}

/** `.cache/sandbox` in the checkout; where that belongs to somebody else, a folder of one's own. */
export function sandboxesFolder(repository: string): string {
  const wanted = join(repository, ".cache", "sandbox");
  try {
    mkdirSync(wanted, { recursive: true });
    accessSync(wanted, constants.W_OK);
    return wanted;
  } catch {
    const { uid } = userInfo();
    const own = join(tmpdir(), `ambit-sandbox-${uid}`);
    mkdirSync(own, { recursive: true, mode: 0o700 });
    // In a folder that everybody may write to, somebody else may have been there first.
    if (statSync(own).uid !== uid)
      throw new RequirementError(`${own} belongs to somebody else: set TMPDIR to a folder of your own`);
    return own;
  }
}

/** Names become folder names and parts of messages. */
const nameForm = /^[a-z0-9][a-z0-9-]{0,39}$/u;

/**
 * Takes the folder of a sandbox for this process. What a sandbox that was killed left there is replaced.
 *
 * @throws RequirementError where a sandbox of this name is up
 */
export function claimFolder(folder: string, name: string, pid: number): StateFolder {
  if (!nameForm.test(name)) {
    throw new RequirementError(
      `"${name}" cannot name a sandbox: take lower-case letters, digits and hyphens, at most 40`,
    );
  }
  const path = join(folder, name);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  for (let attempt = 0; ; attempt++) {
    try {
      writeFileSync(join(path, pidFile), processMark(pid), { flag: "wx" });
      break;
    } catch (error) {
      const owner = ownerOf(path);
      if (owner !== undefined && owner !== pid) {
        throw new RequirementError(
          `A sandbox "${name}" is up (process ${owner}): end it with "npm run sandbox -- down --name ${name}", or choose another --name`,
        );
      }
      if (attempt > 2) throw error;
      rmSync(join(path, pidFile), { force: true });
    }
  }
  for (const file of readdirSync(path))
    if (!keptFiles.has(file)) rmSync(join(path, file), { recursive: true, force: true });
  return { path, kubeconfig: join(path, "kubeconfig"), log: join(path, "log") };
}

/** The last sandbox takes the folder of all of them along. */
export function releaseFolder({ path }: StateFolder): void {
  rmSync(path, { recursive: true, force: true });
  try {
    rmdirSync(dirname(path));
  } catch {
    // Others are in it.
  }
}

/** Reads until the other end of its input is gone; what is in the folder by then may be a successor's. */
const sweep =
  'cat > /dev/null; if [ "$(cat "$1/pid")" = "$2" ]; then rm -rf "$1"; rmdir "$(dirname "$1")"; fi 2> /dev/null; exit 0';

/**
 * Has the folder cleared away when this process ends without doing it: killed, it cannot. A shell waits for that, in a
 * session of its own, so that what kills us does not reach it.
 */
export function sweepAfterUs({ path }: StateFolder): Disposable {
  const mark = readFileSync(join(path, pidFile), "utf8");
  const sweeper = spawn("sh", ["-c", sweep, "sandbox-sweeper", path, mark], {
    cwd: "/",
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  sweeper.on("error", () => undefined); // the next sandbox clears away what is left
  sweeper.stdin.on("error", () => undefined);
  sweeper.unref();
  (sweeper.stdin as Socket).unref();
  return { [Symbol.dispose]: () => void sweeper.kill("SIGKILL") };
}

export function writeInfo({ path }: StateFolder, info: RunningSandbox): void {
  writeFileSync(join(path, infoFile), JSON.stringify(info));
}

/** The sandboxes that are up; folders of dead ones are cleared away. */
export function listSandboxes(folder: string): RunningSandbox[] {
  let names: string[] = [];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    const path = join(folder, name);
    const pid = ownerOf(path);
    if (pid === undefined) {
      rmSync(path, { recursive: true, force: true });
      return [];
    }
    try {
      return [JSON.parse(readFileSync(join(path, infoFile), "utf8")) as RunningSandbox];
    } catch {
      return [{ name, pid, kubeconfig: "", server: "starting" }];
    }
  });
}

/** The living process that holds the folder. */
function ownerOf(path: string): number | undefined {
  try {
    const mark = readFileSync(join(path, pidFile), "utf8");
    const pid = Number(mark.split(" ")[0]);
    return mark === processMark(pid) ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** A process number comes back after a while; with its start time it is unique. Empty for the dead. */
function processMark(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // After the name, which may hold anything, in parentheses: state is field 3, the start time field 22.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const isDead = fields[0] === "Z" || fields[0] === "X";
  return isDead ? "" : `${pid} ${fields[19]}`;
}
