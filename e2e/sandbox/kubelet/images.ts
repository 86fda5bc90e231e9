import { dirname, isAbsolute, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The folder of the checkout: programs of our own images live in it. */
export const repository = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));

/**
 * The Node that runs the sandbox also runs our images. Given as npm's link in the checkout where that is the one in
 * use, because a path inside the checkout is also found where a volume hides the rest.
 */
const node = process.execPath;

/** Our images, and which program of the checkout each of them is. */
const ownImages: Readonly<Record<string, string>> = {
  "ambit/controlplane": "controlplane/main.ts",
  "ambit/ztunnel": "ztunnel/main.ts",
  "ambit/node-agent": "ztunnel/agent/main.ts",
  "ambit/waypoint": "waypoint/main.ts",
  "ambit/rate-limit-service": "waypoint/rate-limit-service/main.ts",
  "ambit/bookshop": "e2e/demo/bookshop/main.ts",
};

/** Images of common tools; their entry point if they have one, to which a container's `args` belong. */
const knownTools: Readonly<Record<string, readonly string[]>> = {
  busybox: ["sh"],
  alpine: ["/bin/sh"],
  debian: ["bash"],
  ubuntu: ["bash"],
  node: [node],
  curl: ["curl"],
  netshoot: ["sh"],
  pause: ["sleep", "infinity"],
};

export type ImageResolution =
  | {
      readonly kind: "run";
      readonly command: readonly string[];
      /** Extra variables that the program of the image wants by itself. */
      readonly environment?: Readonly<Record<string, string>>;
      /** Folder in which `exec` finds what else the image has. */
      readonly programs?: string;
    }
  | { readonly kind: "missing"; readonly message: string };

/** Replacements from the command line: `--image NAME=CMD`, `--ztunnel CMD` and the like. */
export type ImageOverrides = ReadonlyMap<string, readonly string[]>;

/** `registry.example:5000/team/app:v1@sha256:…` without registry, tag and digest: `team/app`. */
export function imageName(image: string): string {
  const bare = image.replace(/@.*$/u, "").replace(/:[^/:]*$/u, "");
  const parts = bare.split("/");
  const first = parts[0] ?? "";
  const hasRegistry = parts.length > 1 && (/[.:]/u.test(first) || first === "localhost");
  const path = hasRegistry ? parts.slice(1).join("/") : bare;
  return path.replace(/^library\//u, "");
}

interface Wanted {
  readonly image: string;
  readonly command?: readonly string[] | undefined;
  readonly args?: readonly string[] | undefined;
}

/**
 * What a container runs on this machine. An image has an entry point here only if it is one of ours, a common tool or
 * replaced on the command line; a `command` of the container's own runs as it stands, whatever the image.
 */
export function resolveImage({ image, command = [], args = [] }: Wanted, overrides: ImageOverrides): ImageResolution {
  const name = imageName(image);
  const replaced = overrides.get(image) ?? overrides.get(name);
  // A replacement is meant to run in the place of the image's program, so `command` (rarely used with it) yields.
  if (replaced !== undefined) return { kind: "run", command: [...replaced, ...args], ...programsBeside(replaced) };
  if (command.length > 0) return { kind: "run", command: [...command, ...args] };
  const program = ownImages[name];
  if (program !== undefined) {
    return {
      kind: "run",
      command: [node, "--import", keepCompiled, join(repository, program), ...args],
      environment: { NODE_COMPILE_CACHE: compileCache },
    };
  }
  const tool = knownTools[name.split("/").at(-1) ?? ""];
  if (tool !== undefined) return { kind: "run", command: [...tool, ...args] };
  if (args.length > 0) return { kind: "run", command: args };
  return {
    kind: "missing",
    message:
      `the sandbox pulls no images, and "${image}" has no local program: give the container a "command", ` +
      `which runs on this machine, or start the sandbox with --image ${name}='COMMAND'`,
  };
}

/** A program given by its path brings those beside it along, as the image would that it stands for. */
function programsBeside([program = ""]: readonly string[]): { programs?: string } {
  return isAbsolute(program) ? { programs: dirname(program) } : {};
}

const keepCompiled = join(repository, "e2e/sandbox/kubelet/keep-compiled.ts");

/** Compiled code of our own programs, so that the second start of each costs half. */
export const compileCache = join(repository, ".cache", "compile");
