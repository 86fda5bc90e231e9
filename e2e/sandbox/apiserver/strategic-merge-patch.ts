import { sameJson } from "./json-value.ts";
import { ApiError } from "./api-error.ts";
import { deref } from "./core-schemas.ts";
import { isObject, type JsonObject, type Schema } from "./schema.ts";

const orderPrefix = "$setElementOrder/";
const deletePrefix = "$deleteFromPrimitiveList/";

/**
 * Applies a strategic merge patch: a merge patch in which lists of objects merge by key where the schema says so, with
 * the directives `$patch`, `$retainKeys`, `$setElementOrder/…` and `$deleteFromPrimitiveList/…`.
 */
export function applyStrategicPatch(target: unknown, patch: unknown, schema: Schema): unknown {
  if (!isObject(patch)) throw new ApiError("BadRequest", "a strategic merge patch is an object");
  return mergeObject(isObject(target) ? target : {}, patch, deref(schema));
}

function mergeObject(target: JsonObject, patch: JsonObject, schema: Schema): JsonObject | undefined {
  const directive = patch["$patch"];
  if (directive === "delete") return undefined;
  if (directive === "replace") return withoutDirectives(patch);
  if (directive !== undefined && directive !== "merge") {
    throw new ApiError("BadRequest", `unknown patch type ${JSON.stringify(directive)} in a strategic merge patch`);
  }
  const merged: JsonObject = retain(target, patch["$retainKeys"]);
  for (const [field, value] of Object.entries(patch)) {
    if (!field.startsWith("$")) mergeField(merged, field, value, patch, schema);
  }
  for (const [field, value] of Object.entries(patch)) {
    if (field.startsWith(deletePrefix)) removeValues(merged, field.slice(deletePrefix.length), value);
  }
  for (const [field, order] of Object.entries(patch)) {
    if (field.startsWith(orderPrefix)) reorder(merged, field.slice(orderPrefix.length), order, schema);
  }
  return merged;
}

function retain(target: JsonObject, keys: unknown): JsonObject {
  if (!Array.isArray(keys)) return { ...target };
  return Object.fromEntries(Object.entries(target).filter(([field]) => keys.includes(field)));
}

function withoutDirectives(patch: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(patch).filter(([field]) => !field.startsWith("$")));
}

function schemaOf(schema: Schema, field: string): Schema {
  const own = Object.hasOwn(schema.properties ?? {}, field) ? schema.properties?.[field] : undefined;
  if (own !== undefined) return deref(own);
  return typeof schema.additionalProperties === "object" ? deref(schema.additionalProperties) : {};
}

function mergeField(merged: JsonObject, field: string, value: unknown, patch: JsonObject, schema: Schema): void {
  if (value === null) {
    delete merged[field];
    return;
  }
  const fieldSchema = schemaOf(schema, field);
  const current = Object.hasOwn(merged, field) ? merged[field] : undefined;
  if (isObject(value)) {
    const inner = mergeObject(isObject(current) ? current : {}, value, fieldSchema);
    if (inner === undefined) delete merged[field];
    else merged[field] = inner;
  } else if (Array.isArray(value)) {
    const ordered = patch[`${orderPrefix}${field}`] !== undefined;
    merged[field] = mergeList(Array.isArray(current) ? current : [], value, fieldSchema, ordered);
  } else merged[field] = value;
}

function mergeList(target: readonly unknown[], patch: readonly unknown[], schema: Schema, ordered: boolean): unknown[] {
  const strategy = schema["x-kubernetes-patch-strategy"] ?? "";
  const key = schema["x-kubernetes-patch-merge-key"];
  const items = deref(schema.items ?? {});
  if (patch.some((item) => isObject(item) && item["$patch"] === "replace" && Object.keys(item).length === 1)) {
    return patch.filter((item) => !(isObject(item) && item["$patch"] === "replace" && Object.keys(item).length === 1));
  }
  const merges = strategy.split(",").includes("merge");
  if (!merges && !ordered) return structuredClone([...patch]);
  if (key === undefined) return [...new Set([...target, ...patch])];
  const merged = mergeByKey(target, patch, key, items);
  return ordered ? merged : interleave(merged, target, patch, key);
}

/** What the patch names comes first, in its order, but behind what stood before it already. */
function interleave(
  merged: readonly unknown[],
  target: readonly unknown[],
  patch: readonly unknown[],
  key: string,
): unknown[] {
  const identity = (item: unknown) => JSON.stringify(isObject(item) ? item[key] : item);
  const placeIn = (list: readonly unknown[]) => new Map(list.map((item, at) => [identity(item), at]));
  const [before, wanted] = [placeIn(target), placeIn(patch)];
  const named = merged
    .filter((item) => wanted.has(identity(item)))
    .toSorted((a, b) => (wanted.get(identity(a)) ?? 0) - (wanted.get(identity(b)) ?? 0));
  const result: unknown[] = [];
  for (const other of merged.filter((item) => !wanted.has(identity(item)))) {
    while (named.length > 0 && !((before.get(identity(named[0])) ?? -1) > (before.get(identity(other)) ?? 0)))
      result.push(named.shift());
    result.push(other);
  }
  return [...result, ...named];
}

function mergeByKey(target: readonly unknown[], patch: readonly unknown[], key: string, items: Schema): unknown[] {
  const result = [...target];
  for (const item of patch) {
    if (!isObject(item)) throw new ApiError("BadRequest", `a list that merges by "${key}" holds objects only`);
    const wanted = item[key];
    if (wanted === undefined)
      throw new ApiError("BadRequest", `map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`);
    const at = result.findIndex((one) => isObject(one) && sameJson(one[key], wanted));
    const { $patch: directive, ...content } = item;
    const current = at < 0 ? undefined : result[at];
    if (directive === "delete") {
      if (at >= 0) result.splice(at, 1);
      continue;
    }
    const merged =
      directive === "replace" || !isObject(current)
        ? mergeObject({}, content, items)
        : mergeObject(current, content, items);
    if (merged === undefined) continue;
    if (at < 0) result.push(merged);
    else result[at] = merged;
  }
  return result;
}

function removeValues(merged: JsonObject, field: string, values: unknown): void {
  const current = merged[field];
  if (!Array.isArray(current) || !Array.isArray(values)) return;
  merged[field] = current.filter((item) => !values.some((value) => sameJson(value, item)));
}

/** Elements named by the directive take its order; others stay behind the neighbour they followed. */
function reorder(merged: JsonObject, field: string, order: unknown, schema: Schema): void {
  const current = merged[field];
  if (!Array.isArray(current) || !Array.isArray(order)) return;
  const key = schemaOf(schema, field)["x-kubernetes-patch-merge-key"];
  const identity = (item: unknown) => JSON.stringify(key !== undefined && isObject(item) ? item[key] : item);
  const rank = new Map(order.map((item, at) => [identity(item), at]));
  const named = current.filter((item) => rank.has(identity(item)));
  named.sort((a, b) => (rank.get(identity(a)) ?? 0) - (rank.get(identity(b)) ?? 0));
  const queue = named.values();
  merged[field] = current.map((item: unknown) => (rank.has(identity(item)) ? queue.next().value : item));
}
