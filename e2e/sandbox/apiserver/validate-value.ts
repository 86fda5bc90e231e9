import { sameJson } from "./json-value.ts";
import { RE2JS } from "re2js";
import { duplicate, invalidValue, required, unsupported, type FieldError } from "./api-error.ts";
import { deref } from "./core-schemas.ts";
import { typeName } from "./decode-object.ts";
import { isObject, joinPath, type JsonObject, type Schema } from "./schema.ts";

/** Most errors that one refusal lists; the rest would only bury them. */
const maxErrors = 50;

/** Checks a value against a structural schema. The answer lists every violation, in the words of Kubernetes. */
export function validateValue(value: unknown, schema: Schema, path = ""): FieldError[] {
  const errors: FieldError[] = [];
  check(value, schema, path, errors);
  return errors.slice(0, maxErrors);
}

function check(value: unknown, unresolved: Schema, path: string, errors: FieldError[]): void {
  const schema = deref(unresolved);
  if (value === null && schema.nullable === true) return;
  if (!checkType(value, schema, path, errors)) return;
  if (schema.enum !== undefined && !schema.enum.some((one) => sameJson(one, value))) {
    errors.push(unsupported(path, value, schema.enum));
  }
  if (typeof value === "string") checkText(value, schema, path, errors);
  else if (typeof value === "number") checkNumber(value, schema, path, errors);
  else if (Array.isArray(value)) checkList(value, schema, path, errors);
  else if (isObject(value)) checkObject(value, schema, path, errors);
  checkCombinations(value, schema, path, errors);
}

/** False when the value is of another type, which makes further rules pointless. */
function checkType(value: unknown, schema: Schema, path: string, errors: FieldError[]): boolean {
  const { type } = schema;
  if (schema["x-kubernetes-int-or-string"] === true) {
    if (typeof value === "string" || Number.isInteger(value)) return true;
    errors.push(mistyped(path, value, "integer,string"));
    return false;
  }
  if (type === undefined) return true;
  const matches = type === "integer" ? Number.isInteger(value) : typeName(value) === type;
  if (!matches) errors.push(mistyped(path, value, type));
  return matches;
}

function mistyped(field: string, value: unknown, type: string): FieldError {
  const shown = typeName(value) === "number" ? (Number.isInteger(value) ? "integer" : "number") : typeName(value);
  return {
    reason: "FieldValueTypeInvalid",
    field: field === "" ? "<nil>" : field,
    message: `Invalid value: ${JSON.stringify(shown)}: ${field} in body must be of type ${type}: ${JSON.stringify(shown)}`,
  };
}

function checkText(value: string, schema: Schema, path: string, errors: FieldError[]): void {
  const length = Array.from(value).length;
  if (schema.maxLength !== undefined && length > schema.maxLength) {
    errors.push({
      reason: "FieldValueTooLong",
      field: path,
      message: `Too long: may not be more than ${schema.maxLength} bytes`,
    });
  }
  if (schema.minLength !== undefined && length < schema.minLength) {
    errors.push(invalidValue(path, value, `${path} in body should be at least ${schema.minLength} chars long`));
  }
  if (schema.pattern !== undefined && !patternFor(schema.pattern).matcher(value).find()) {
    errors.push(invalidValue(path, value, `${path} in body should match '${schema.pattern}'`));
  }
  const isWellFormed = schema.format === undefined ? undefined : formats[schema.format];
  if (isWellFormed !== undefined && !isWellFormed(value)) {
    errors.push(
      invalidValue(path, value, `${path} in body must be of type ${schema.format}: ${JSON.stringify(value)}`),
    );
  }
}

const patterns = new Map<string, RE2JS>();

/** RE2: what CRD authors write for, and no pattern can make it hang. Throws on a malformed pattern. */
export function patternFor(pattern: string): RE2JS {
  let compiled = patterns.get(pattern);
  if (compiled === undefined) {
    compiled = RE2JS.compile(pattern);
    // CRDs are few and their patterns fixed; the bound is against a client that makes them up.
    if (patterns.size >= 4096) patterns.clear();
    patterns.set(pattern, compiled);
  }
  return compiled;
}

const formats: Readonly<Record<string, (value: string) => boolean>> = {
  "date-time": (value) =>
    /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/u.test(value) && !Number.isNaN(Date.parse(value)),
  date: (value) => /^\d{4}-\d\d-\d\d$/u.test(value) && !Number.isNaN(Date.parse(value)),
  duration: (value) => /^([+-]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+$|^0$/u.test(value),
  byte: (value) => /^[A-Za-z0-9+/]*={0,2}$/u.test(value) && value.length % 4 === 0,
  uuid: (value) => /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/iu.test(value),
  ipv4: (value) => /^(\d{1,3}\.){3}\d{1,3}$/u.test(value),
};

function checkNumber(value: number, schema: Schema, path: string, errors: FieldError[]): void {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema;
  if (minimum !== undefined && (exclusiveMinimum === true ? value <= minimum : value < minimum)) {
    const text = exclusiveMinimum === true ? "greater than" : "greater than or equal to";
    errors.push(invalidValue(path, value, `${path} in body should be ${text} ${minimum}`));
  }
  if (maximum !== undefined && (exclusiveMaximum === true ? value >= maximum : value > maximum)) {
    const text = exclusiveMaximum === true ? "less than" : "less than or equal to";
    errors.push(invalidValue(path, value, `${path} in body should be ${text} ${maximum}`));
  }
  if (multipleOf !== undefined && value % multipleOf !== 0) {
    errors.push(invalidValue(path, value, `${path} in body should be a multiple of ${multipleOf}`));
  }
  if (schema.format === "int32" && Math.abs(value) > 2 ** 31) {
    errors.push(invalidValue(path, value, `${path} in body must be of type int32: ${value}`));
  }
}

function checkList(value: readonly unknown[], schema: Schema, path: string, errors: FieldError[]): void {
  if (schema.maxItems !== undefined && value.length > schema.maxItems) {
    errors.push({
      reason: "FieldValueTooMany",
      field: path,
      message: `Too many: ${value.length}: must have at most ${schema.maxItems} items`,
    });
    return;
  }
  if (schema.minItems !== undefined && value.length < schema.minItems) {
    errors.push(invalidValue(path, value.length, `${path} in body should have at least ${schema.minItems} items`));
  }
  const { items } = schema;
  if (items !== undefined) {
    for (const [at, item] of value.entries()) {
      if (errors.length < maxErrors) check(item, items, `${path}[${at}]`, errors);
    }
  }
  checkUnique(value, schema, path, errors);
}

function checkUnique(value: readonly unknown[], schema: Schema, path: string, errors: FieldError[]): void {
  const type = schema["x-kubernetes-list-type"];
  if (type !== "set" && type !== "map") return;
  const keys = schema["x-kubernetes-list-map-keys"] ?? [];
  const seen = new Set<string>();
  for (const [at, item] of value.entries()) {
    const identity = type === "map" && isObject(item) ? Object.fromEntries(keys.map((key) => [key, item[key]])) : item;
    const text = JSON.stringify(identity);
    if (seen.has(text)) errors.push(duplicate(`${path}[${at}]`, identity));
    seen.add(text);
  }
}

function checkObject(value: JsonObject, schema: Schema, path: string, errors: FieldError[]): void {
  for (const field of schema.required ?? []) {
    if (value[field] === undefined) errors.push(required(joinPath(path, field)));
  }
  const size = Object.keys(value).length;
  if (schema.maxProperties !== undefined && size > schema.maxProperties) {
    errors.push({
      reason: "FieldValueTooMany",
      field: path,
      message: `Too many: ${size}: must have at most ${schema.maxProperties} items`,
    });
  }
  if (schema.minProperties !== undefined && size < schema.minProperties) {
    errors.push(invalidValue(path, size, `${path} in body should have at least ${schema.minProperties} properties`));
  }
  for (const [field, inner] of Object.entries(value)) {
    if (errors.length >= maxErrors) return;
    const known = Object.hasOwn(schema.properties ?? {}, field) ? schema.properties?.[field] : undefined;
    const fieldSchema =
      known ?? (typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined);
    if (fieldSchema !== undefined && inner !== undefined) check(inner, fieldSchema, joinPath(path, field), errors);
  }
}

function checkCombinations(value: unknown, schema: Schema, path: string, errors: FieldError[]): void {
  const name = path === "" ? "<nil>" : path;
  for (const one of schema.allOf ?? []) check(value, one, path, errors);
  if (schema.anyOf !== undefined && !schema.anyOf.some((one) => fits(value, one))) {
    errors.push(invalidValue(name, "", `"${path}" must validate at least one schema (anyOf)`));
  }
  if (schema.oneOf !== undefined) {
    const valid = schema.oneOf.filter((one) => fits(value, one)).length;
    const found = valid === 0 ? "Found none valid" : `Found ${valid} valid alternatives`;
    if (valid !== 1)
      errors.push(invalidValue(name, "", `"${path}" must validate one and only one schema (oneOf). ${found}`));
  }
  if (schema.not !== undefined && fits(value, schema.not)) {
    errors.push(invalidValue(name, "", `"${path}" must not validate the schema (not)`));
  }
}

const fits = (value: unknown, schema: Schema) => validateValue(value, schema).length === 0;

/** Fills in the schema's defaults, also inside what is there. Changes the value it is given. */
export function applyDefaults(value: unknown, schema: Schema): void {
  if (Array.isArray(value)) {
    const { items } = schema;
    if (items !== undefined) for (const item of value) applyDefaults(item, items);
    return;
  }
  if (!isObject(value)) return;
  for (const [field, fieldSchema] of Object.entries(schema.properties ?? {})) {
    const isMissing = value[field] === undefined || (value[field] === null && fieldSchema.nullable !== true);
    if (isMissing && fieldSchema.default !== undefined) value[field] = structuredClone(fieldSchema.default);
    if (value[field] !== undefined) applyDefaults(value[field], fieldSchema);
  }
  if (typeof schema.additionalProperties !== "object") return;
  for (const [field, inner] of Object.entries(value)) {
    if (!Object.hasOwn(schema.properties ?? {}, field)) applyDefaults(inner, schema.additionalProperties);
  }
}
