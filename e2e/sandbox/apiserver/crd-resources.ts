import { ApiError, duplicate, forbiddenField, invalid, invalidValue, required, type FieldError } from "./api-error.ts";
import type { KubeObject } from "./object-store.ts";
import { allVerbs, type PrinterColumn, type ResourceInfo, type ResourceVersion, type ScalePaths } from "./resources.ts";
import { child, isObject, listOf, objectsOf, textOf, type JsonObject, type Schema } from "./schema.ts";
import { patternFor } from "./validate-value.ts";

const infos = new WeakMap<KubeObject, ResourceInfo>();

/** The resource that a CRD defines. Read once per version of the CRD. */
export function resourceOfCrd(crd: KubeObject): ResourceInfo {
  let info = infos.get(crd);
  if (info === undefined) {
    info = readCrd(crd);
    infos.set(crd, info);
  }
  return info;
}

function readCrd(crd: KubeObject): ResourceInfo {
  const spec = child(crd, "spec");
  const names = child(spec, "names");
  const kind = textOf(names, "kind") ?? "";
  const versions = objectsOf(spec, "versions");
  return {
    group: textOf(spec, "group") ?? "",
    resource: textOf(names, "plural") ?? "",
    kind,
    listKind: textOf(names, "listKind") ?? `${kind}List`,
    singular: textOf(names, "singular") ?? kind.toLowerCase(),
    namespaced: spec["scope"] === "Namespaced",
    shortNames: listOf(names, "shortNames").map(String),
    categories: listOf(names, "categories").map(String),
    verbs: allVerbs,
    hasGeneration: true,
    builtIn: false,
    versions: versions
      .filter((version) => version["served"] === true)
      .map(readVersion)
      .sort(byPriority),
    storageVersion:
      textOf(
        versions.find((version) => version["storage"] === true),
        "name",
      ) ?? "",
    subresources: {},
  };
}

function readVersion(version: JsonObject): ResourceVersion {
  const subresources = child(version, "subresources");
  const columns = objectsOf(version, "additionalPrinterColumns");
  const schema = child(child(version, "schema"), "openAPIV3Schema") as Schema;
  const warning = textOf(version, "deprecationWarning");
  return {
    name: textOf(version, "name") ?? "",
    schema,
    hasStatus: subresources["status"] !== undefined,
    columns: columns as unknown as readonly PrinterColumn[],
    selectableFields: objectsOf(version, "selectableFields").map((field) => (textOf(field, "jsonPath") ?? "").slice(1)),
    ...(isObject(subresources["scale"]) ? { scale: subresources["scale"] as unknown as ScalePaths } : {}),
    ...(version["deprecated"] === true ? { deprecation: warning ?? "this version is deprecated" } : {}),
  };
}

/** v2 before v1 before v1beta2 before v1alpha1, as Kubernetes orders versions. */
function byPriority(a: { name: string }, b: { name: string }): number {
  const [left, right] = [rank(a.name), rank(b.name)];
  const differing = left.findIndex((value, at) => value !== right[at]);
  return differing < 0 ? (a.name < b.name ? -1 : 1) : (right[differing] ?? 0) - (left[differing] ?? 0);
}

function rank(version: string): [stability: number, major: number, minor: number] {
  const parts = /^v(\d+)(?:(alpha|beta)(\d+))?$/u.exec(version);
  if (parts === null) return [-1, 0, 0];
  const stability = parts[2] === "alpha" ? 0 : parts[2] === "beta" ? 1 : 2;
  return [stability, Number(parts[1]), Number(parts[3] ?? 0)];
}

/** Fills in the names that a CRD may leave out. Changes what it is given. */
export function defaultCrd(crd: KubeObject): void {
  const spec = child(crd, "spec");
  const names = child(spec, "names");
  const kind = textOf(names, "kind");
  if (kind !== undefined) {
    names["singular"] ??= kind.toLowerCase();
    names["listKind"] ??= `${kind}List`;
  }
  spec["conversion"] ??= { strategy: "None" };
}

/** Marks a CRD as established: here it is served from the moment that it is stored. Changes what it is given. */
export function establishCrd(crd: KubeObject): void {
  const spec = child(crd, "spec");
  const stored = textOf(
    objectsOf(spec, "versions").find((version) => version["storage"] === true),
    "name",
  );
  const earlier = listOf(child(crd, "status"), "storedVersions");
  const at = crd.metadata.creationTimestamp;
  const conditions = objectsOf(child(crd, "status"), "conditions");
  crd["status"] = {
    conditions:
      conditions.length > 0
        ? conditions
        : [
            {
              type: "NamesAccepted",
              status: "True",
              lastTransitionTime: at,
              reason: "NoConflicts",
              message: "no conflicts found",
            },
            {
              type: "Established",
              status: "True",
              lastTransitionTime: at,
              reason: "InitialNamesAccepted",
              message: "the initial names have been accepted",
            },
          ],
    acceptedNames: structuredClone(spec["names"]),
    storedVersions: earlier.includes(stored) || stored === undefined ? earlier : [...earlier, stored],
  };
}

/** Refuses a CRD that could not be served as it is written. */
export function validateCrd(crd: KubeObject): void {
  const spec = child(crd, "spec");
  const names = child(spec, "names");
  const errors: FieldError[] = [];
  const group = textOf(spec, "group") ?? "";
  const plural = textOf(names, "plural") ?? "";
  if (group === "") errors.push(required("spec.group"));
  else if (!group.includes("."))
    errors.push(invalidValue("spec.group", group, "should be a domain with at least one dot"));
  if (plural === "") errors.push(required("spec.names.plural"));
  if ((textOf(names, "kind") ?? "") === "") errors.push(required("spec.names.kind"));
  if (spec["scope"] !== "Namespaced" && spec["scope"] !== "Cluster") {
    errors.push(required("spec.scope", 'supported values: "Cluster", "Namespaced"'));
  }
  if (plural !== "" && group !== "" && crd.metadata.name !== `${plural}.${group}`) {
    errors.push(invalidValue("metadata.name", crd.metadata.name, `must be spec.names.plural+"."+spec.group`));
  }
  if (child(spec, "conversion")["strategy"] === "Webhook") {
    errors.push(
      forbiddenField(
        "spec.conversion.strategy",
        "this cluster converts between versions without changes only: use None",
      ),
    );
  }
  checkVersions(spec, errors);
  if (errors.length > 0) throw invalid("apiextensions.k8s.io", "CustomResourceDefinition", crd.metadata.name, errors);
}

function checkVersions(spec: JsonObject, errors: FieldError[]): void {
  const versions = objectsOf(spec, "versions");
  if (versions.length === 0) errors.push(required("spec.versions"));
  const stored = versions.filter((version) => version["storage"] === true);
  if (versions.length > 0 && stored.length !== 1) {
    errors.push(
      invalidValue("spec.versions", stored.length, "must have exactly one version marked as storage version"),
    );
  }
  const seen = new Set<string>();
  for (const [at, version] of versions.entries()) {
    const path = `spec.versions[${at}]`;
    const name = textOf(version, "name") ?? "";
    if (!/^[a-z]([-a-z0-9]*[a-z0-9])?$/u.test(name))
      errors.push(invalidValue(`${path}.name`, name, "a DNS-1035 label is expected"));
    if (seen.has(name)) errors.push(duplicate(`${path}.name`, name));
    seen.add(name);
    const schema = child(version, "schema")["openAPIV3Schema"];
    if (!isObject(schema)) errors.push(required(`${path}.schema.openAPIV3Schema`, "schemas are required"));
    else checkStructural(schema, `${path}.schema.openAPIV3Schema`, errors);
  }
}

/** Schema nesting that a CRD may have; deeper ones are refused rather than walked. */
const maxDepth = 64;

function checkStructural(schema: Schema, path: string, errors: FieldError[], depth = 0): void {
  if (depth > maxDepth) throw new ApiError("Invalid", `${path}: schema is nested more than ${maxDepth} levels deep`);
  const freeType =
    schema["x-kubernetes-int-or-string"] === true || schema["x-kubernetes-preserve-unknown-fields"] === true;
  if (schema.type === undefined && !freeType)
    errors.push(required(`${path}.type`, "must not be empty for specified object fields"));
  if (schema.$ref !== undefined) errors.push(forbiddenField(`${path}.$ref`, "$ref is not supported"));
  if (schema.uniqueItems === true)
    errors.push(forbiddenField(`${path}.uniqueItems`, "uniqueItems cannot be set to true"));
  if (schema.type === "array" && schema.items === undefined)
    errors.push(required(`${path}.items`, "must be specified"));
  checkPattern(schema, path, errors);
  if (schema.items !== undefined) checkStructural(schema.items, `${path}.items`, errors, depth + 1);
  if (typeof schema.additionalProperties === "object") {
    checkStructural(schema.additionalProperties, `${path}.additionalProperties`, errors, depth + 1);
  }
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    // The root's metadata may be restricted, but its type is fixed.
    if (depth === 0 && name === "metadata") continue;
    checkStructural(property, `${path}.properties[${name}]`, errors, depth + 1);
  }
}

function checkPattern({ pattern }: Schema, path: string, errors: FieldError[]): void {
  if (pattern === undefined) return;
  try {
    patternFor(pattern);
  } catch (error) {
    errors.push(invalidValue(`${path}.pattern`, pattern, error instanceof Error ? error.message : "malformed pattern"));
  }
}
