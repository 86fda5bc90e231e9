/** Reads the files named on the command line into objects, with every mistake and its place. */
import { readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { explain } from "#shared/errors/mesh-error.ts";
import { withApiDefaults, type WrittenObject } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { hasErrors } from "#controlplane/schema/problem.ts";
import { checkObject } from "#controlplane/schema/validate.ts";
import { locate, parseFile, type ParsedObject } from "#controlplane/sources/folder/parse-file.ts";
import { readFolder } from "#controlplane/sources/folder/read-folder.ts";

interface InputFile {
  readonly path: string;
  readonly text: string;
}

export interface Input {
  readonly world: World;
  /** What keeps objects from being read at all, one line each. */
  readonly errors: readonly string[];
  /** What admission would refuse or warn about in objects that could be read. */
  readonly warnings: readonly string[];
}

/** The files that paths mean: `-` is the standard input, a folder all YAML and JSON files in it. */
export async function collectFiles(
  paths: readonly string[],
  readStdin: () => Promise<string>,
): Promise<{ readonly files: readonly InputFile[]; readonly errors: readonly string[] }> {
  const files: InputFile[] = [];
  const errors: string[] = [];
  for (const path of paths) {
    try {
      if (path === "-") files.push({ path: "stdin", text: await readStdin() });
      else if ((await stat(path)).isDirectory()) {
        const content = await readFolder(path);
        files.push(...content.files.map((file) => ({ path: join(path, file.path), text: file.text })));
        errors.push(...content.unreadable.map((file) => `${join(path, file.path)}: ${file.why}`));
        if (content.files.length === 0) errors.push(`${path}: holds no .yaml, .yml or .json file`);
      } else files.push({ path, text: await readFile(path, "utf8") });
    } catch (thrown) {
      errors.push(`${path}: cannot be read: ${explain(thrown)}`);
    }
  }
  return { files, errors };
}

/**
 * Variables from files named `istiod.env` beside the input: how example worlds name the settings of the control plane
 * that they were made with.
 */
export async function environmentBeside(paths: readonly string[]): Promise<Readonly<Record<string, string>>> {
  const found: Record<string, string> = {};
  for (const path of new Set(paths.filter((each) => each !== "-"))) {
    const isFolder = await stat(path).then(
      (stats) => stats.isDirectory(),
      () => false,
    );
    const text = await readFile(join(isFolder ? path : dirname(path), "istiod.env"), "utf8").catch(() => "");
    Object.assign(found, parseEnvironment(text));
  }
  return found;
}

/** `NAME=VALUE` lines; empty lines and those that begin with # are passed over. */
export function parseEnvironment(text: string): Readonly<Record<string, string>> {
  const lines = text.split("\n").map((line) => line.trim());
  return Object.fromEntries(
    lines
      .filter((line) => line !== "" && !line.startsWith("#") && line.includes("="))
      .map((line) => {
        const equals = line.indexOf("=");
        const value = line.slice(equals + 1).trim();
        return [
          line
            .slice(0, equals)
            .replace(/^export\s+/, "")
            .trim(),
          /^(["']).*\1$/.test(value) ? value.slice(1, -1) : value,
        ];
      }),
  );
}

export function readInput(files: readonly InputFile[]): Input {
  const errors: string[] = [];
  const warnings: string[] = [];
  const written: (WrittenObject & { readonly source: ParsedObject })[] = [];
  for (const file of files) {
    const parsed = parseFile(file.path, file.text);
    errors.push(...parsed.errors);
    for (const source of parsed.objects) {
      const form = checkObject(source.value, "form");
      if (form.kind === "read" && hasErrors(form.problems)) {
        errors.push(...checkObject(source.value).problems.map(locate(source)));
        continue;
      }
      warnings.push(...checkObject(source.value).problems.map(locate(source)));
      if (form.kind === "unread" && !isConfigMap(source.value)) continue;
      written.push({ object: source.value as KubeObject, isLater: isPaused(file.text, source.line), source });
    }
  }
  const world = new World();
  const meshConfig: Record<string, unknown> = {};
  for (const [index, object] of withApiDefaults(written).entries()) {
    const place = written[index]?.source.place();
    // Several documents of mesh configuration add up; the last word on a field counts.
    const isMeshConfig = object.kind === "MeshConfig";
    if (isMeshConfig) Object.assign(meshConfig, object["mesh"]);
    const problem = world.upsert(isMeshConfig ? { kind: "MeshConfig", mesh: meshConfig } : object);
    if (problem !== undefined) errors.push(`${place ?? problem.name}: ${problem.message}`);
  }
  return { world, errors, warnings };
}

const isConfigMap = (value: unknown): boolean => (value as { kind?: unknown } | null)?.kind === "ConfigMap";

/** Whether the document around a line says `# pause`: its objects are younger than those before. */
function isPaused(text: string, line: number): boolean {
  const lines = text.split("\n");
  const isBreak = (each: string): boolean => /^---(\s|$)/.test(each);
  const start = lines.slice(0, line - 1).findLastIndex(isBreak) + 1;
  const length = lines.slice(start).findIndex(isBreak);
  return lines.slice(start, length < 0 ? undefined : start + length).some((each) => /^\s*# pause\b/.test(each));
}
