import { deref } from "./core-schemas.ts";
import { isObject, joinPath, type JsonObject, type Schema } from "./schema.ts";

/** What reading a body against its schema found. */
export interface Decoded {
  /** The object without the fields that its kind does not have. */
  readonly object: JsonObject;
  /** Paths of the fields that were dropped. */
  readonly unknown: readonly string[];
  /** Values of the wrong type, built-in kinds only: `{ path, want, got }`. */
  readonly mistyped: readonly Mistyped[];
}

export interface Mistyped {
  readonly path: string;
  readonly want: string;
  readonly got: string;
}

interface Walk {
  readonly unknown: string[];
  readonly mistyped: Mistyped[];
  /** Built-in kinds treat null as absent; custom resources keep a null that the schema allows. */
  readonly dropNulls: boolean;
}

/** Drops what the schema does not know and notes it, as Kubernetes prunes. `metadata` has its own schema. */
export function decodeObject(body: JsonObject, schema: Schema, { builtIn }: { builtIn: boolean }): Decoded {
  const walk: Walk = { unknown: [], mistyped: [], dropNulls: builtIn };
  const { metadata, apiVersion, kind, ...rest } = body;
  const { properties, ...others } = deref(schema);
  const { metadata: _metadata, apiVersion: _version, kind: _kind, ...own } = properties ?? {};
  const content = prune(rest, { ...others, properties: own }, "", walk) as JsonObject;
  const read =
    metadata === undefined || metadata === null
      ? {}
      : prune(metadata, metadataSchema, "metadata", { ...walk, dropNulls: true });
  return { object: { apiVersion, kind, metadata: read, ...content }, unknown: walk.unknown, mistyped: walk.mistyped };
}

const metadataSchema: Schema = { $ref: "#/components/schemas/V1ObjectMeta" };

function prune(value: unknown, unresolved: Schema, path: string, walk: Walk): unknown {
  const schema = deref(unresolved);
  if (walk.dropNulls) checkType(value, schema, path, walk);
  if (Array.isArray(value)) {
    const { items } = schema;
    return items === undefined ? value : value.map((item, at) => prune(item, items, `${path}[${at}]`, walk));
  }
  if (!isObject(value)) return value;
  const kept: JsonObject = {};
  for (const [field, inner] of Object.entries(value)) {
    if (inner === null && walk.dropNulls) continue;
    const fieldSchema = schemaOfField(schema, field);
    const fieldPath = joinPath(path, field);
    if (fieldSchema === "unknown") walk.unknown.push(fieldPath);
    else if (fieldSchema === "anything") kept[field] = inner;
    else kept[field] = prune(inner, fieldSchema, fieldPath, walk);
  }
  return kept;
}

function schemaOfField(schema: Schema, field: string): Schema | "unknown" | "anything" {
  const known = Object.hasOwn(schema.properties ?? {}, field) ? schema.properties?.[field] : undefined;
  if (known !== undefined) return known;
  if (schema["x-kubernetes-embedded-resource"] === true && ["apiVersion", "kind", "metadata"].includes(field))
    return "anything";
  if (typeof schema.additionalProperties === "object") return schema.additionalProperties;
  if (schema.additionalProperties === true || schema["x-kubernetes-preserve-unknown-fields"] === true)
    return "anything";
  return "unknown";
}

function checkType(value: unknown, schema: Schema, path: string, walk: Walk): void {
  const got = typeName(value);
  const want = schema.type ?? (schema["x-kubernetes-int-or-string"] === true ? "int-or-string" : undefined);
  if (value === null || want === undefined || accepts(want, value)) return;
  walk.mistyped.push({ path, want, got });
}

function accepts(want: string, value: unknown): boolean {
  switch (want) {
    case "integer":
      return Number.isInteger(value);
    case "int-or-string":
      return typeof value === "string" || typeof value === "number";
    default:
      return typeName(value) === want;
  }
}

export function typeName(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}
