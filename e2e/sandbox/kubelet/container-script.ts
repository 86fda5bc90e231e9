/** The shell script that is a container's first process: it builds the container's world, then looks after its command. */
import { quote } from "../run-script.ts";
import { outerRoot, rootTemplate } from "./folders.ts";

export interface Mount {
  /** Path in the sandbox's own mount namespace. */
  readonly source: string;
  readonly target: string;
  readonly isFile: boolean;
  readonly readOnly: boolean;
  /** Mounts that appear below `source` later appear in the container too. */
  readonly followsHost: boolean;
}

export interface ContainerWorld {
  readonly hostname: string;
  /** Empty folder for the new root. */
  readonly root: string;
  /** Folder with `upper` (files to lay over /etc) and `work`. */
  readonly etc: string;
  /** Ordered: what lies inside another comes after it. */
  readonly mounts: readonly Mount[];
  /** Folders of the machine that get a layer of their own, so that mount points can be made in them. */
  readonly overlays: readonly { readonly folder: string; readonly layer: string }[];
  /** Files and folders that a mount may hide but the command needs. */
  readonly kept: readonly { readonly path: string; readonly isFile: boolean }[];
  readonly sharesProcesses: boolean;
  readonly workingDir: string;
  /** Undefined: all of them, as for `privileged`. */
  readonly capabilities: readonly string[] | undefined;
}

/** The variable that carries the command's PATH past the tools that prepare its world. */
export const commandPathVariable = "SANDBOX_COMMAND_PATH";

/** What the script writes to descriptor 3: first its process id as the sandbox sees it, then this. */
export const readyWord = "ready";

/**
 * The script expects to be in the pod's network namespace and in fresh mount, process, host name and IPC namespaces.
 * It holds the command itself, so that a list of processes shows the command once.
 */
export function containerScript(world: ContainerWorld, command: readonly string[]): string {
  const { root, etc } = world;
  const lines = [
    "set -eu",
    "trap 'exit 143' TERM",
    "read -r pid rest < /proc/self/stat",
    'echo "$pid" >&3',
    `hostname ${quote(world.hostname)} 2>/dev/null || echo ${quote(world.hostname)} > /proc/sys/kernel/hostname || true`,
    `mount --rbind ${rootTemplate} ${quote(root)}`,
    `mount -t tmpfs -o mode=755 run ${quote(`${root}/run`)}`,
    world.sharesProcesses
      ? `mount --rbind /proc ${quote(`${root}/proc`)}`
      : `mount -t proc proc ${quote(`${root}/proc`)}`,
    `cd ${quote(root)}`,
    // `..`-free and absolute from here on: links such as /var/run → /run must resolve inside the new root.
    `pivot_root . .${outerRoot}`,
    "cd /",
    ...layerOnEtc(`${outerRoot}${etc}`),
    ...world.overlays.map(({ folder, layer }) => overlay(folder, `${outerRoot}${layer}`)),
    ...world.mounts.flatMap(mountLines),
    ...world.kept.flatMap(({ path, isFile }) => bindLines(`${outerRoot}${path}`, path, isFile)),
    `umount -l ${outerRoot}`,
    `mkdir -p ${quote(world.workingDir)} 2>/dev/null || true`,
    `cd ${quote(world.workingDir)}`,
    `PATH=$${commandPathVariable}`,
    // The command gets the container's environment, not the shell's.
    `unset ${commandPathVariable} PWD OLDPWD SHLVL`,
    "export PATH",
    `echo ${readyWord} >&3`,
    "exec 3>&-",
    // As process 1 the shell gets the signals of the kubelet and the orphans of the container.
    `trap 'kill -TERM "$child" 2>/dev/null || :' TERM`,
    "set +e",
    `${[...capabilityCommand(world.capabilities), ...command].map(quote).join(" ")} <&0 &`,
    "child=$!",
    // The log is the command's: what the shell thinks of its end does not belong there.
    "exec > /dev/null 2>&1",
    "while :; do",
    '  wait "$child"',
    "  code=$?",
    // A signal ends `wait` early; the child is then still there.
    '  kill -0 "$child" 2>/dev/null || break',
    "done",
    'exit "$code"',
  ];
  return lines.join("\n");
}

const overlay = (folder: string, layer: string) =>
  `mount -t overlay -o ${quote(`lowerdir=${folder},upperdir=${layer}/upper,workdir=${layer}/work`)} sandbox ${quote(folder)}`;

/** Without overlayfs the files are laid over those of the machine one by one. */
function layerOnEtc(etc: string): string[] {
  return [
    `${overlay("/etc", etc)} 2>/dev/null || for file in resolv.conf hosts hostname; do`,
    `  [ ! -e /etc/$file ] || mount --bind ${quote(`${etc}/upper`)}/$file /etc/$file`,
    "done",
  ];
}

function bindLines(source: string, target: string, isFile: boolean): string[] {
  const folder = target.replace(/\/[^/]*$/u, "") || "/";
  const make = isFile
    ? `mkdir -p ${quote(folder)} && [ -e ${quote(target)} ] || : > ${quote(target)}`
    : `mkdir -p ${quote(target)}`;
  return [make, `mount --rbind ${quote(source)} ${quote(target)}`];
}

function mountLines({ source, target, isFile, readOnly, followsHost }: Mount): string[] {
  const at = quote(target);
  return [
    ...bindLines(`${outerRoot}${source}`, target, isFile),
    ...(followsHost ? [] : [`mount --make-rprivate ${at}`]),
    // In a user namespace the flags that a mount came with must be repeated.
    ...(readOnly ? [`mount -o remount,bind,ro ${at} 2>/dev/null || mount -o remount,bind,ro,nosuid,nodev ${at}`] : []),
  ];
}

/** What container runtimes leave to root in a container by default. */
const defaultCapabilities = [
  "AUDIT_WRITE",
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "MKNOD",
  "NET_BIND_SERVICE",
  "NET_RAW",
  "SETFCAP",
  "SETGID",
  "SETPCAP",
  "SETUID",
  "SYS_CHROOT",
];

export function containerCapabilities(context: {
  readonly privileged?: boolean;
  readonly capabilities?: { readonly add?: readonly string[]; readonly drop?: readonly string[] };
}): readonly string[] | undefined {
  const { add = [], drop = [] } = context.capabilities ?? {};
  const bare = (names: readonly string[]) => names.map((name) => name.toUpperCase().replace(/^CAP_/u, ""));
  if (context.privileged === true || bare(add).includes("ALL")) return undefined;
  const dropped = bare(drop);
  const kept = dropped.includes("ALL") ? [] : defaultCapabilities.filter((name) => !dropped.includes(name));
  return [...new Set([...kept, ...bare(add)])];
}

/** Command in front of another that limits what it may do. */
export function capabilityCommand(capabilities: readonly string[] | undefined): string[] {
  if (capabilities === undefined) return [];
  const set = ["-all", ...capabilities.map((name) => `+${name.toLowerCase()}`)].join(",");
  return ["setpriv", "--inh-caps=-all", `--bounding-set=${set}`, "--"];
}
