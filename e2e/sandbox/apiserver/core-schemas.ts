import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import * as client from "@kubernetes/client-node";
import { enums } from "./core-enums.ts";
import { atomicMaps, atomicModels, mergeRules } from "./merge-keys.ts";
import type { Schema } from "./schema.ts";

/*
 * Schemas of the built-in kinds, read from the models of the official client rather than written down again: field
 * names and types come from its tables, descriptions and required fields from its type declarations, merge keys from
 * `merge-keys.ts`. A schema is made when it is first asked for.
 */

interface Attribute {
  readonly name: string;
  readonly baseName: string;
  readonly type: string;
  readonly format: string;
}

interface Declaration {
  readonly description?: string;
  readonly fields: ReadonlyMap<string, { readonly description?: string; readonly isRequired: boolean }>;
}

const schemas = new Map<string, Schema>();
const declarationFolder = join(
  dirname(createRequire(import.meta.url).resolve("@kubernetes/client-node")),
  "gen",
  "models",
);
const refPrefix = "#/components/schemas/";

/** Resource quantities may be written as numbers (`cpu: 1`), which the client's types do not say. */
const quantityFields = new Set([
  "limits",
  "requests",
  "capacity",
  "allocatable",
  "overhead",
  "hard",
  "used",
  "sizeLimit",
  "divisor",
  "averageValue",
  "default",
  "defaultRequest",
  "max",
  "min",
  "maxLimitRequestRatio",
  "allocatedResources",
  "value",
]);
const quantity: Schema = { "x-kubernetes-int-or-string": true, format: "quantity" };
const quantityOwners =
  /Resource|LimitRange|NodeStatus|PodSpec|EmptyDir|Metric|Container|PersistentVolume|Overhead|Quota/u;

export const refTo = (model: string): Schema => ({ $ref: `${refPrefix}${model}` });
export const modelOfRef = (ref: string): string => ref.slice(refPrefix.length);

/** Follows a reference; a schema without one is itself. */
export function deref(schema: Schema): Schema {
  if (schema.$ref === undefined) return schema;
  const { $ref, ...beside } = schema;
  return { ...coreSchema(modelOfRef($ref)), ...beside };
}

export function coreSchema(model: string): Schema {
  let schema = schemas.get(model);
  if (schema === undefined) {
    schema = buildSchema(model);
    schemas.set(model, schema);
  }
  return schema;
}

function buildSchema(model: string): Schema {
  const attributes = attributesOf(model);
  if (attributes === undefined) throw new TypeError(`The Kubernetes client has no model "${model}"`);
  const declaration = readDeclaration(model);
  const properties: Record<string, Schema> = {};
  const required: string[] = [];
  for (const attribute of attributes) {
    const field = declaration.fields.get(attribute.name);
    properties[attribute.baseName] = {
      ...fieldSchema(model, attribute),
      ...(field?.description === undefined ? {} : { description: field.description }),
    };
    if (field?.isRequired === true) required.push(attribute.baseName);
  }
  return {
    type: "object",
    ...(declaration.description === undefined ? {} : { description: declaration.description }),
    properties,
    ...(required.length === 0 ? {} : { required }),
    ...(atomicModels.has(model) ? { "x-kubernetes-map-type": "atomic" } : {}),
    ...(model === "V1FieldsV1" ? { "x-kubernetes-preserve-unknown-fields": true } : {}),
  };
}

function attributesOf(model: string): readonly Attribute[] | undefined {
  const constructor = (client as unknown as Record<string, { getAttributeTypeMap?: () => Attribute[] } | undefined>)[
    model
  ];
  return constructor?.getAttributeTypeMap?.();
}

function fieldSchema(model: string, { baseName, type, format }: Attribute): Schema {
  const place = `${model}.${baseName}`;
  const schema = typeSchema(type, format, quantityFields.has(baseName) && quantityOwners.test(model));
  const rule = mergeRules[place];
  if (rule !== undefined) {
    schema["x-kubernetes-patch-strategy"] = rule.strategy ?? "merge";
    if (rule.mergeKey !== undefined) schema["x-kubernetes-patch-merge-key"] = rule.mergeKey;
    if (rule.mapKeys !== undefined) {
      schema["x-kubernetes-list-type"] = "map";
      schema["x-kubernetes-list-map-keys"] = rule.mapKeys;
    } else if (rule.set === true) schema["x-kubernetes-list-type"] = "set";
  } else if (schema.type === "array") schema["x-kubernetes-list-type"] = "atomic";
  const values = enums[place];
  if (values !== undefined) {
    if (schema.items === undefined) schema.enum = values;
    else schema.items = { ...schema.items, enum: values };
  }
  if (atomicMaps.has(place)) schema["x-kubernetes-map-type"] = "atomic";
  return schema;
}

function typeSchema(type: string, format: string, isQuantity: boolean): Schema {
  const list = /^Array<(.+)>$/su.exec(type);
  if (list !== null) return { type: "array", items: typeSchema(list[1] ?? "any", format, isQuantity) };
  const map = /^\{ \[key: string\]: (.+); \}$/su.exec(type);
  if (map !== null) return { type: "object", additionalProperties: typeSchema(map[1] ?? "any", format, isQuantity) };
  switch (type) {
    case "string":
      return isQuantity ? { ...quantity } : { type: "string", ...(format === "" ? {} : { format }) };
    case "boolean":
      return { type: "boolean" };
    case "number":
      return format.startsWith("int") ? { type: "integer", format } : { type: "number", format };
    case "Date":
    case "V1MicroTime":
      return { type: "string", format: "date-time" };
    case "IntOrString":
      return { "x-kubernetes-int-or-string": true };
    case "any":
    case "object":
      return { "x-kubernetes-preserve-unknown-fields": true };
    case "V1JSONSchemaProps":
      // Recursive and full of "anything": the CRD code reads it itself.
      return { type: "object", "x-kubernetes-preserve-unknown-fields": true };
    default:
      return refTo(type);
  }
}

/** Reads field comments and question marks from the model's `.d.ts`, whose layout the generator fixes. */
function readDeclaration(model: string): Declaration {
  let text: string;
  try {
    text = readFileSync(join(declarationFolder, `${model}.d.ts`), "utf8");
  } catch {
    return { fields: new Map() };
  }
  const fields = new Map<string, { description?: string; isRequired: boolean }>();
  const field = /(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*)?'(\w+)'(\??):/gu;
  for (const [, comment, name = "", optional] of text.matchAll(field)) {
    const description = comment === undefined ? undefined : cleanComment(comment);
    fields.set(name, { isRequired: optional === "", ...(description === undefined ? {} : { description }) });
  }
  const own = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*export declare class/u.exec(text)?.[1];
  return { fields, ...(own === undefined ? {} : { description: cleanComment(own) }) };
}

function cleanComment(comment: string): string {
  return comment
    .split("\n")
    .map((line) => line.trim().replace(/^\* ?/u, ""))
    .filter((line) => line !== "")
    .join(" ")
    .replaceAll(/\\(["'])/gu, "$1");
}

/** A model and everything that it refers to, by name: one self-contained set of definitions. */
export function schemasReachableFrom(models: Iterable<string>): Record<string, Schema> {
  const found: Record<string, Schema> = {};
  const waiting = [...models];
  for (let model = waiting.pop(); model !== undefined; model = waiting.pop()) {
    if (found[model] !== undefined) continue;
    const schema = coreSchema(model);
    found[model] = schema;
    collectRefs(schema, waiting);
  }
  return found;
}

function collectRefs(schema: Schema, into: string[]): void {
  if (schema.$ref !== undefined) into.push(modelOfRef(schema.$ref));
  for (const property of Object.values(schema.properties ?? {})) collectRefs(property, into);
  if (schema.items !== undefined) collectRefs(schema.items, into);
  if (typeof schema.additionalProperties === "object") collectRefs(schema.additionalProperties, into);
}
