/** Objects out of YAML and JSON files, as `kubectl apply -f` and `-k` find them. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import type { NewObject } from "../apiserver/object-store.ts";

/** A manifest that cannot be read; the message names the file. */
export class ManifestError extends Error {
  override readonly name = "ManifestError";
}

const kustomizationNames = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/** What of kustomize is understood here; anything else is refused, never left out in silence. */
const kustomizeFields = new Set([
  "apiVersion",
  "kind",
  "resources",
  "namespace",
  "configMapGenerator",
  "generatorOptions",
  "metadata",
]);

/** A file, a folder of files or a folder with a kustomization. */
export function readManifests(path: string): NewObject[] {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new ManifestError(`${path}: no such file or folder`);
  if (!stat.isDirectory()) return readFile(path);
  const kustomization = kustomizationNames
    .map((name) => join(path, name))
    .find((file) => statSync(file, { throwIfNoEntry: false }));
  if (kustomization !== undefined) return readKustomization(kustomization);
  const files = readdirSync(path).filter((name) => /\.(ya?ml|json)$/u.test(name));
  if (files.length === 0) throw new ManifestError(`${path}: holds no .yaml, .yml or .json files`);
  return files.sort().flatMap((name) => readFile(join(path, name)));
}

function readFile(path: string): NewObject[] {
  const documents = parseAllDocuments(readFileSync(path, "utf8"));
  const problems = documents.flatMap(({ errors }) => errors.map((error) => `${path}: ${error.message}`));
  if (problems.length > 0) throw new ManifestError(problems.join("\n"));
  return documents.flatMap((document, index) => {
    const value: unknown = document.toJS();
    if (value === null || value === undefined) return [];
    return flatten(value, `${path}, document ${index + 1}`);
  });
}

function flatten(value: unknown, where: string): NewObject[] {
  const object = value as Partial<NewObject> & { items?: unknown[] };
  if (typeof value !== "object" || typeof object.kind !== "string" || typeof object.apiVersion !== "string") {
    throw new ManifestError(`${where}: not a Kubernetes object, which has apiVersion, kind and metadata`);
  }
  if (object.kind === "List") return (object.items ?? []).flatMap((item) => flatten(item, where));
  if (typeof object.metadata !== "object" || object.metadata === null)
    throw new ManifestError(`${where}: ${object.kind} has no metadata`);
  return [object as NewObject];
}

interface Kustomization {
  readonly resources?: readonly string[];
  readonly namespace?: string;
  readonly configMapGenerator?: readonly {
    readonly name: string;
    readonly namespace?: string;
    readonly files?: readonly string[];
    readonly literals?: readonly string[];
  }[];
}

function readKustomization(path: string): NewObject[] {
  const content = (parse(readFileSync(path, "utf8")) ?? {}) as Kustomization;
  const unknown = Object.keys(content).filter((field) => !kustomizeFields.has(field));
  if (unknown.length > 0) {
    throw new ManifestError(
      `${path}: the sandbox does not know ${unknown.join(", ")}: render it with "kubectl kustomize" and pass the result`,
    );
  }
  const folder = dirname(path);
  const objects = (content.resources ?? []).flatMap((resource) => readManifests(resolve(folder, resource)));
  const generated = (content.configMapGenerator ?? []).map(
    ({ name, namespace, files = [], literals = [] }): NewObject => {
      const fromFiles = files.map((entry) => {
        const [key, file] = entry.includes("=")
          ? [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]
          : [entry.split("/").at(-1) ?? entry, entry];
        return [key, readFileSync(resolve(folder, file), "utf8")] as const;
      });
      const fromLiterals = literals.map(
        (entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)] as const,
      );
      return {
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
        data: Object.fromEntries([...fromFiles, ...fromLiterals]),
      };
    },
  );
  const all = [...objects, ...generated];
  const { namespace } = content;
  if (namespace === undefined) return all;
  return all.map((object) =>
    object.kind === "Namespace" ? object : { ...object, metadata: { ...object.metadata, namespace } },
  );
}

/** What others stand on comes first; what is of one kind may go together. */
const order = [
  "Namespace",
  "CustomResourceDefinition",
  "ServiceAccount",
  "ClusterRole",
  "Role",
  "ClusterRoleBinding",
  "RoleBinding",
  "ConfigMap",
  "Secret",
  "Service",
];

export function inWaves(objects: readonly NewObject[]): NewObject[][] {
  const rank = ({ kind }: NewObject) => (order.includes(kind) ? order.indexOf(kind) : order.length);
  return [...Map.groupBy(objects, rank)].toSorted(([a], [b]) => a - b).map(([, wave]) => wave);
}
