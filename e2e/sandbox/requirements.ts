/** What the sandbox needs of the machine, checked before anything starts; each gap is one sentence with its remedy. */
import { spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";

/** Something on this machine stands in the way. */
export class RequirementError extends Error {
  override readonly name = "RequirementError";
}

/** Tools of ordinary users' PATHs and of root's. */
export const toolPath = (path: string): string => `${path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;

const packageOf: Readonly<Record<string, string>> = {
  nft: "nftables",
  ip: "iproute2",
  unshare: "util-linux",
  nsenter: "util-linux",
  setpriv: "util-linux",
  pivot_root: "util-linux",
  mount: "mount",
};

export interface RequirementFacts {
  readonly platform: string;
  readonly isRoot: boolean;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly say: (text: string) => void;
}

/** @throws RequirementError */
export function checkRequirements(facts: RequirementFacts): void {
  if (facts.platform !== "linux") {
    throw new RequirementError(
      `The sandbox is made of Linux network namespaces, and this is ${facts.platform}: run it in a Linux virtual machine`,
    );
  }
  const path = toolPath(facts.environment["PATH"] ?? "");
  const find = (command: string) => path.split(":").some((folder) => isExecutable(join(folder, command)));
  const missing = () => [
    ...new Set(
      Object.keys(packageOf)
        .filter((command) => !find(command))
        .map((command) => packageOf[command] ?? command),
    ),
  ];
  const packages = missing();
  if (packages.length > 0) installPackages(packages, facts, find("apt-get"));
  const left = missing();
  if (left.length > 0)
    throw new RequirementError(`Missing packages: install them with "apt-get install ${left.join(" ")}" as root`);
  tryNamespaces(facts);
}

function installPackages(
  packages: readonly string[],
  { isRoot, say, environment }: RequirementFacts,
  hasApt: boolean,
): void {
  if (!isRoot || !hasApt) return;
  say(`Installing what the sandbox needs: apt-get install ${packages.join(" ")}`);
  const env = { ...environment, PATH: toolPath(environment["PATH"] ?? ""), DEBIAN_FRONTEND: "noninteractive" };
  const install = () =>
    spawnSync("apt-get", ["install", "-y", "--no-install-recommends", ...packages], {
      env,
      stdio: "ignore",
      timeout: 300_000,
    });
  if (install().status === 0) return;
  spawnSync("apt-get", ["update"], { env, stdio: "ignore", timeout: 300_000 });
  install();
}

/** Command in front of the sandbox's first process; `--map-root-user` makes an ordinary user root in there. */
export function unshareCommand(isRoot: boolean): string[] {
  return [
    "unshare",
    ...(isRoot ? [] : ["--user", "--map-root-user"]),
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
  ];
}

/** Each step of the trial, and what to do where the kernel refuses it. */
const trials: readonly { readonly name: string; readonly script: string; readonly remedy: string }[] = [
  {
    name: "mount a tmpfs",
    script: "mount -t tmpfs none /run",
    remedy: "run it as root, or in a container with --privileged",
  },
  {
    name: "join two network namespaces",
    script: "ip link add trial0 type veth peer name trial1",
    remedy: 'load the kernel module with "modprobe veth" as root',
  },
  {
    name: "make a bridge",
    script: "ip link add trial type bridge",
    remedy: 'load the kernel module with "modprobe bridge" as root',
  },
  {
    name: "translate addresses with nftables",
    script:
      "nft 'add table ip trial; add chain ip trial c { type nat hook prerouting priority -100; }; add rule ip trial c meta l4proto tcp dnat to 10.0.0.1:80'",
    remedy:
      'load the kernel modules with "modprobe -a nf_tables nft_chain_nat nft_nat nft_masq nft_reject nft_numgen" as root',
  },
];

function tryNamespaces({ isRoot, environment }: RequirementFacts): void {
  const script = trials.map((trial, at) => `${trial.script} || { echo "trial ${at}" >&2; exit 1; }`).join("\n");
  const [command = "unshare", ...rest] = unshareCommand(isRoot);
  const { status, stderr } = spawnSync(command, [...rest, "sh", "-c", script], {
    env: { ...environment, PATH: toolPath(environment["PATH"] ?? "") },
    encoding: "utf8",
    timeout: 30_000,
  });
  if (status === 0) return;
  const complaint = stderr.trim().split("\n");
  const failed = trials[Number(/^trial (\d+)$/u.exec(complaint.at(-1) ?? "")?.[1] ?? -1)];
  if (failed !== undefined) {
    throw new RequirementError(
      `This kernel does not let the sandbox ${failed.name} (${complaint.slice(0, -1).join("; ")}): ${failed.remedy}`,
    );
  }
  throw new RequirementError(
    isRoot
      ? `Cannot make namespaces (${complaint.join("; ")}): in a container, start it with --privileged`
      : `Cannot make a user namespace (${complaint.join("; ")}): run the sandbox as root, or allow it with "sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0"`,
  );
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
