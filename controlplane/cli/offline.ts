/** What the commands without a cluster share: files and flags in, a translated world out. */
import { readFile } from "node:fs/promises";
import { EnvReader } from "#shared/config/env-reader.ts";
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { MeshConfig } from "#controlplane/mesh/mesh-config.ts";
import type { World } from "#controlplane/mesh/world.ts";
import type { TranslateOptions } from "#controlplane/translate/options.ts";
import { readTranslateOptions } from "#controlplane/translate/read-options.ts";
import { translate, type Translation } from "#controlplane/translate/translate.ts";
import { collectFiles, environmentBeside, parseEnvironment, readInput } from "./read-input.ts";

export interface OfflineFlags {
  readonly filename: readonly string[];
  readonly env: readonly string[];
  readonly envFile?: string;
  readonly strict?: boolean;
  readonly trustDomain?: string;
  readonly rootNamespace?: string;
  readonly clusterId?: string;
  readonly revision?: string;
  readonly domain: string;
}

/** The world outside, as the commands need it. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly readStdin: () => Promise<string>;
  /** A line for people. */
  readonly tell: (line: string) => void;
}

export interface Offline {
  readonly world: World;
  readonly options: TranslateOptions;
  readonly translation: Translation;
}

/** undefined where the input cannot be used; every reason has been told. */
export async function readOffline(flags: OfflineFlags, surroundings: Surroundings): Promise<Offline | undefined> {
  const { files, errors: unreadable } = await collectFiles(flags.filename, surroundings.readStdin);
  const { world, errors, warnings } = readInput(files);
  const fatal = [...unreadable, ...errors];
  for (const line of fatal) surroundings.tell(`error: ${line}`);
  for (const line of warnings) surroundings.tell(`${flags.strict === true ? "error" : "warning"}: ${line}`);
  if (fatal.length > 0 || (flags.strict === true && warnings.length > 0)) return undefined;
  const options = await optionsFrom(flags, surroundings.env);
  world.setMeshConfig(withFlags(world.meshConfig, flags));
  return { world, options, translation: translate(world, options) };
}

/** Flags win over files, files over the environment. */
export async function optionsFrom(
  flags: OfflineFlags,
  env: Readonly<Record<string, string | undefined>>,
): Promise<TranslateOptions> {
  const fromFile = flags.envFile === undefined ? {} : parseEnvironment(await readFile(flags.envFile, "utf8"));
  const wrong = flags.env.filter((each) => !/^\w+=/.test(each));
  if (wrong.length > 0) {
    throw new MeshError("CONFIG_INVALID", `Cannot use --env ${wrong.join(", ")}: write NAME=VALUE`);
  }
  const read = new EnvReader({
    ...env,
    ...(await environmentBeside(flags.filename)),
    ...fromFile,
    ...parseEnvironment(flags.env.join("\n")),
  });
  const options = readTranslateOptions(read, flags.domain);
  read.finish();
  return {
    ...options,
    ...(flags.clusterId === undefined ? {} : { clusterId: flags.clusterId }),
    ...(flags.revision === undefined ? {} : { revision: flags.revision }),
    ...(flags.rootNamespace === undefined ? {} : { systemNamespace: flags.rootNamespace }),
  };
}

export function withFlags(config: MeshConfig, { trustDomain, rootNamespace }: OfflineFlags): MeshConfig {
  return {
    ...config,
    ...(trustDomain === undefined ? {} : { trustDomain }),
    ...(rootNamespace === undefined ? {} : { rootNamespace }),
  };
}
