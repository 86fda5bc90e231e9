/** The part of JSON Schema that Kubernetes uses: structural schemas of CRDs, and our own of the built-in kinds. */
export interface Schema {
  $ref?: string;
  type?: "object" | "array" | "string" | "integer" | "number" | "boolean";
  format?: string;
  description?: string;
  title?: string;
  nullable?: boolean;
  default?: unknown;
  enum?: readonly unknown[];
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  items?: Schema;
  required?: readonly string[];
  pattern?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: boolean;
  exclusiveMaximum?: boolean;
  multipleOf?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  uniqueItems?: boolean;
  minProperties?: number;
  maxProperties?: number;
  allOf?: readonly Schema[];
  anyOf?: readonly Schema[];
  oneOf?: readonly Schema[];
  not?: Schema;
  "x-kubernetes-preserve-unknown-fields"?: boolean;
  "x-kubernetes-int-or-string"?: boolean;
  "x-kubernetes-embedded-resource"?: boolean;
  "x-kubernetes-list-type"?: "atomic" | "set" | "map";
  "x-kubernetes-list-map-keys"?: readonly string[];
  "x-kubernetes-map-type"?: "atomic" | "granular";
  "x-kubernetes-patch-merge-key"?: string;
  "x-kubernetes-patch-strategy"?: string;
  "x-kubernetes-group-version-kind"?: readonly { group: string; version: string; kind: string }[];
  "x-kubernetes-validations"?: readonly {
    rule: string;
    message?: string;
    messageExpression?: string;
    reason?: string;
    fieldPath?: string;
  }[];
}

export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The object at `field`, or an empty one. */
export function child(object: JsonObject | undefined, field: string): JsonObject {
  const value = object?.[field];
  return isObject(value) ? value : {};
}

/** The array at `field`, or an empty one. */
export function listOf(object: JsonObject | undefined, field: string): readonly unknown[] {
  const value = object?.[field];
  return Array.isArray(value) ? value : [];
}

/** The objects in the array at `field`. */
export function objectsOf(object: JsonObject | undefined, field: string): readonly JsonObject[] {
  return listOf(object, field).filter(isObject);
}

/** The text at `field`, or undefined. */
export function textOf(object: JsonObject | undefined, field: string): string | undefined {
  const value = object?.[field];
  return typeof value === "string" ? value : undefined;
}

/** The number at `field`, or undefined. */
export function numberOf(object: JsonObject | undefined, field: string): number | undefined {
  const value = object?.[field];
  return typeof value === "number" ? value : undefined;
}

/** `spec.ports[0]` + `name`; keys that are no plain names are quoted in brackets. */
export function joinPath(path: string, field: string): string {
  return path === "" ? field : `${path}.${field}`;
}
