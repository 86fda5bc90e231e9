import { deref } from "./core-schemas.ts";
import { isObject, type JsonObject, type Schema } from "./schema.ts";

/**
 * Who owns which field, as `metadata.managedFields` tells it. A path is a list of elements: `f:name` for a field,
 * `k:{"name":"web"}` for an element of a list with keys, `v:"x"` for a value of a set.
 */
export interface ManagedEntry {
  readonly manager: string;
  readonly operation: "Apply" | "Update";
  readonly apiVersion: string;
  readonly time?: string;
  readonly fieldsType: "FieldsV1";
  readonly fieldsV1: JsonObject;
  readonly subresource?: string;
}

/** Paths, each as the key that joins its elements. Values are what stands there, for comparison. */
export type FieldSet = Map<string, string>;

const separator = "\u0000";

/** Metadata that the server owns, and what merely names the object: nobody manages these. */
const unmanaged = new Set([
  "f:apiVersion",
  "f:kind",
  ...[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "selfLink",
    "managedFields",
    "deletionGracePeriodSeconds",
    "generateName",
  ].map((field) => `f:metadata${separator}f:${field}`),
]);

const metadataSchema: Schema = { $ref: "#/components/schemas/V1ObjectMeta" };

/** The schema of a whole object, with that of `metadata` filled in (CRDs leave it out). */
export function wholeSchema(schema: Schema): Schema {
  const resolved = deref(schema);
  return {
    ...resolved,
    properties: {
      ...resolved.properties,
      metadata: metadataSchema,
      apiVersion: { type: "string" },
      kind: { type: "string" },
    },
  };
}

/** Every field that is set in an object: leaves, and the elements of keyed lists. */
export function fieldsOf(object: unknown, schema: Schema): FieldSet {
  const fields: FieldSet = new Map();
  collect(object, wholeSchema(schema), "", fields);
  for (const path of unmanaged) fields.delete(path);
  return fields;
}

function collect(value: unknown, unresolved: Schema, path: string, into: FieldSet): void {
  const schema = deref(unresolved);
  if (isObject(value) && Object.keys(value).length > 0 && schema["x-kubernetes-map-type"] !== "atomic") {
    for (const [field, inner] of Object.entries(value)) {
      if (inner !== undefined) collect(inner, schemaOfField(schema, field), append(path, `f:${field}`), into);
    }
  } else if (Array.isArray(value) && value.length > 0 && isGranular(schema)) {
    for (const item of value) {
      const itemPath = append(path, elementOf(item, schema));
      into.set(itemPath, "");
      if (schema["x-kubernetes-list-type"] === "map") collect(item, schema.items ?? {}, itemPath, into);
    }
  } else if (path !== "") into.set(path, JSON.stringify(value));
}

const append = (path: string, element: string) => (path === "" ? element : `${path}${separator}${element}`);

export function isGranular(schema: Schema): boolean {
  return schema["x-kubernetes-list-type"] === "map" || schema["x-kubernetes-list-type"] === "set";
}

export function schemaOfField(schema: Schema, field: string): Schema {
  const own = Object.hasOwn(schema.properties ?? {}, field) ? schema.properties?.[field] : undefined;
  if (own !== undefined) return own;
  return typeof schema.additionalProperties === "object" ? schema.additionalProperties : {};
}

/** `k:{"containerPort":80,"protocol":"TCP"}` or `v:"x"`: what tells one element of a list from the others. */
export function elementOf(item: unknown, schema: Schema): string {
  if (schema["x-kubernetes-list-type"] === "set") return `v:${JSON.stringify(item)}`;
  const items = deref(schema.items ?? {});
  const keys = (schema["x-kubernetes-list-map-keys"] ?? []).toSorted();
  const identity = keys.flatMap((key) => {
    const value = (isObject(item) ? item[key] : undefined) ?? items.properties?.[key]?.default ?? keyDefaults[key];
    return value === undefined ? [] : [[key, value] as const];
  });
  return `k:${JSON.stringify(Object.fromEntries(identity))}`;
}

/** Keys that an applied object may leave out because the server fills them in. */
const keyDefaults: Readonly<Record<string, unknown>> = { protocol: "TCP" };

/** Writes a set in the nested form of `fieldsV1`. */
export function toFieldsV1(fields: Iterable<string>): JsonObject {
  const root: JsonObject = {};
  for (const path of fields) {
    let place = root;
    const elements = path.split(separator);
    for (const element of elements) {
      const next = place[element];
      if (isObject(next)) place = next;
      else place = place[element] = {};
    }
    if (elements.at(-1)?.startsWith("k:") === true) place["."] = {};
  }
  return root;
}

/** Reads the nested form back. Only leaves and elements marked with "." are members. */
export function fromFieldsV1(fields: JsonObject): Set<string> {
  const paths = new Set<string>();
  const walk = (node: JsonObject, path: string) => {
    const inner = Object.entries(node).filter(([element]) => element !== ".");
    if (path !== "" && (inner.length === 0 || node["."] !== undefined)) paths.add(path);
    for (const [element, next] of inner) if (isObject(next)) walk(next, append(path, element));
  };
  walk(fields, "");
  return paths;
}

export const splitPath = (path: string): readonly string[] => path.split(separator);

/** `.spec.template.spec.containers[name="web"].image`, the form of conflict messages. */
export function showPath(path: string): string {
  return splitPath(path)
    .map((element) => {
      const body = element.slice(2);
      if (element.startsWith("f:")) return /^[A-Za-z_][\w-]*$/u.test(body) ? `.${body}` : `.${body}`;
      if (element.startsWith("v:")) return `[=${body}]`;
      const keys = Object.entries(JSON.parse(body) as JsonObject).map(
        ([key, value]) => `${key}=${JSON.stringify(value)}`,
      );
      return `[${keys.join(",")}]`;
    })
    .join("");
}

/** Removes one path from a value; containers that become empty by it go too. Answers what is left. */
export function removePath(value: unknown, elements: readonly string[], unresolved: Schema): unknown {
  const [element, ...rest] = elements;
  if (element === undefined) return undefined;
  const schema = deref(unresolved);
  if (element.startsWith("f:")) {
    if (!isObject(value)) return value;
    const field = element.slice(2);
    if (!Object.hasOwn(value, field)) return value;
    const inner = removePath(value[field], rest, schemaOfField(schema, field));
    const { [field]: _gone, ...others } = value;
    if (inner !== undefined) return { ...value, [field]: inner };
    return Object.keys(others).length === 0 ? undefined : others;
  }
  if (!Array.isArray(value)) return value;
  const left = value.flatMap((item: unknown) => {
    if (elementOf(item, schema) !== element) return [item];
    const inner = removePath(item, rest, schema.items ?? {});
    return inner === undefined ? [] : [inner];
  });
  return left.length === 0 ? undefined : left;
}
