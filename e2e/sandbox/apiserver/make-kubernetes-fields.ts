/*
 * Makes `kubernetes-fields.txt`: the protobuf field numbers of Kubernetes' own kinds, read from the struct tags of the
 * Go modules k8s.io/api and k8s.io/apimachinery. Run by hand when a newer Kubernetes is followed:
 *
 *   node e2e/sandbox/apiserver/make-kubernetes-fields.ts <folder of k8s.io/api> <folder of k8s.io/apimachinery>
 *
 * The `.proto` files would not do: only the Go types tell an absent value from a zero.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const packages = [
  "admissionregistration/v1",
  "apps/v1",
  "authentication/v1",
  "authorization/v1",
  "autoscaling/v1",
  "autoscaling/v2",
  "batch/v1",
  "coordination/v1",
  "core/v1",
  "discovery/v1",
  "events/v1",
  "networking/v1",
  "policy/v1",
  "rbac/v1",
  "scheduling/v1",
  "storage/v1",
];

/** Types with a wire form of their own. */
const special: Readonly<Record<string, string>> = {
  "meta.v1.Time": "time",
  "meta.v1.MicroTime": "time",
  "meta.v1.FieldsV1": "json",
  "meta.v1.Duration": "int",
  "resource.Quantity": "quantity",
  "intstr.IntOrString": "intOrString",
  "runtime.RawExtension": "json",
  "types.UID": "string",
  "types.NodeName": "string",
};

/** Go's import names for packages of the API. */
const importNames: Readonly<Record<string, string>> = {
  metav1: "meta.v1",
  v1: "core.v1",
  apiv1: "core.v1",
  corev1: "core.v1",
};

interface GoTypes {
  readonly structs: Map<string, readonly string[]>;
  readonly others: Map<string, string>;
}

function readGoTypes(text: string): GoTypes {
  const structs = new Map<string, readonly string[]>();
  const others = new Map<string, string>();
  for (const [, name = "", body = ""] of text.matchAll(/^type (\w+) struct \{\n([\s\S]*?)^\}/gmu))
    structs.set(name, body.split("\n"));
  for (const [, name = "", type = ""] of text.matchAll(/^type (\w+) ((?!struct)[^\n{]+)$/gmu))
    others.set(name, type.trim());
  return { structs, others };
}

function main([apiFolder, machineryFolder]: readonly string[]): void {
  if (apiFolder === undefined || machineryFolder === undefined)
    throw new TypeError("name the folders of k8s.io/api and k8s.io/apimachinery");
  const sources = new Map<string, GoTypes>();
  for (const one of packages)
    sources.set(one.replace("/", "."), readGoTypes(readFileSync(join(apiFolder, one, "types.go"), "utf8")));
  sources.set("meta.v1", readGoTypes(readFileSync(join(machineryFolder, "pkg/apis/meta/v1/types.go"), "utf8")));
  const lines = [...sources].flatMap(([name, types]) =>
    [...types.structs].flatMap(([struct, body]) => describeStruct(sources, name, struct, body) ?? []),
  );
  const head =
    "# Made by make-kubernetes-fields.ts from the Go types of Kubernetes (Apache-2.0). message: number name type, …\n# Marks: [] list, {} map, & keeps zero values, ^ fields stand in the parent, <> list wrapped in a message.\n";
  writeFileSync(
    fileURLToPath(new URL("kubernetes-fields.txt", import.meta.url)),
    `${head}${lines.sort().join("\n")}\n`,
  );
}

function describeStruct(
  sources: ReadonlyMap<string, GoTypes>,
  pack: string,
  struct: string,
  body: readonly string[],
): string | undefined {
  const fields = body.flatMap((line) => describeField(sources, pack, line) ?? []);
  return fields.length === 0 ? undefined : `${pack}.${struct}: ${fields.join(", ")}`;
}

function describeField(sources: ReadonlyMap<string, GoTypes>, pack: string, line: string): string | undefined {
  const found = /^\s+(?:(\w+)\s+)?([\w.*[\]]+)\s+`json:"([^"]*)"[^`]*protobuf:"(\w+),(\d+),\w+[^"]*"/u.exec(line);
  if (found === null) return undefined;
  const [, , goType = "", json = "", , number = ""] = found;
  const [name = "", ...options] = json.split(",");
  const isInline = options.includes("inline") || name === "";
  const keepsZero = goType.startsWith("*") || !options.includes("omitempty");
  const type = resolve(sources, pack, goType.replace(/^\*/u, ""));
  return `${number} ${isInline ? "^" : name} ${keepsZero && !isInline ? "&" : ""}${type}`;
}

function resolve(sources: ReadonlyMap<string, GoTypes>, pack: string, goType: string): string {
  if (goType === "[]byte") return "bytes";
  if (goType.startsWith("[]")) return `[]${resolve(sources, pack, goType.slice(2).replace(/^\*/u, ""))}`;
  const map = /^map\[[\w.]+\](.+)$/u.exec(goType);
  if (map !== null) return `{}${resolve(sources, pack, map[1] ?? "")}`;
  if (goType === "string" || goType === "bool") return goType;
  if (/^u?int\d*$/u.test(goType)) return "int";
  if (/^float\d+$/u.test(goType)) return "double";
  const [prefix, bare] = goType.includes(".") ? (goType.split(".") as [string, string]) : [undefined, goType];
  const home = prefix === undefined ? pack : (importNames[prefix] ?? prefix);
  const known = special[`${home}.${bare}`];
  if (known !== undefined) return known;
  const types = sources.get(home);
  const alias = types?.others.get(bare);
  if (alias === undefined) return types?.structs.has(bare) === true ? `${home}.${bare}` : "unknown";
  const target = resolve(sources, home, alias);
  // A named list is a message of its own on the wire, a named map or scalar is not.
  return target.startsWith("[]") ? `<>${target.slice(2)}` : target;
}

main(process.argv.slice(2));
