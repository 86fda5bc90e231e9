import { sameJson } from "./json-value.ts";
import { ApiError } from "./api-error.ts";
import { deref } from "./core-schemas.ts";
import {
  elementOf,
  fieldsOf,
  fromFieldsV1,
  isGranular,
  removePath,
  schemaOfField,
  showPath,
  splitPath,
  toFieldsV1,
  wholeSchema,
  type ManagedEntry,
} from "./managed-fields.ts";
import type { KubeObject } from "./object-store.ts";
import { isObject, type JsonObject, type Schema } from "./schema.ts";

export interface Manager {
  readonly name: string;
  readonly operation: "Apply" | "Update";
  readonly apiVersion: string;
  readonly subresource?: string;
  readonly time: string;
}

const entriesOf = (object: KubeObject | undefined) => (object?.metadata.managedFields ?? []) as ManagedEntry[];

function isManager(entry: ManagedEntry, manager: Manager): boolean {
  return (
    entry.manager === manager.name &&
    entry.operation === manager.operation &&
    (entry.subresource ?? "") === (manager.subresource ?? "") &&
    (manager.operation === "Apply" || entry.apiVersion === manager.apiVersion)
  );
}

function entryFor(manager: Manager, fields: Iterable<string>, time: string): ManagedEntry {
  return {
    manager: manager.name,
    operation: manager.operation,
    apiVersion: manager.apiVersion,
    time,
    fieldsType: "FieldsV1",
    fieldsV1: toFieldsV1(fields),
    ...(manager.subresource === undefined ? {} : { subresource: manager.subresource }),
  };
}

/**
 * Notes an ordinary write: what it changed belongs to its manager now, what it removed to nobody. `next` is the object
 * after defaulting; the answer is the new `managedFields`.
 */
export function trackUpdate(
  previous: KubeObject | undefined,
  next: KubeObject,
  schema: Schema,
  manager: Manager,
): unknown[] {
  const before = previous === undefined ? new Map<string, string>() : fieldsOf(previous, schema);
  const after = fieldsOf(next, schema);
  const inScope = (path: string) =>
    previous === undefined || (manager.subresource === "status") === path.startsWith("f:status");
  const changed = new Set(
    [...after].filter(([path, value]) => before.get(path) !== value && inScope(path)).map(([path]) => path),
  );
  let found = false;
  const entries = entriesOf(next).flatMap((entry) => {
    const owned = fromFieldsV1(entry.fieldsV1);
    const isOwn = isManager(entry, manager);
    const kept = [...owned].filter((path) => after.has(path) && (isOwn || !changed.has(path)));
    const all = isOwn ? new Set([...kept, ...changed]) : new Set(kept);
    if (isOwn) found = true;
    if (all.size === 0) return [];
    const isSame = all.size === owned.size && [...all].every((path) => owned.has(path)) && !(isOwn && changed.size > 0);
    return [
      isSame
        ? entry
        : { ...entry, time: isOwn ? manager.time : (entry.time ?? manager.time), fieldsV1: toFieldsV1(all) },
    ];
  });
  return found || changed.size === 0 ? entries : [...entries, entryFor(manager, changed, manager.time)];
}

export interface ApplyResult {
  readonly object: JsonObject;
  readonly managedFields: readonly ManagedEntry[];
}

/**
 * Server-side apply: merges `config` into the object, removes what this manager applied before and no longer does, and
 * refuses to change what others own unless it is forced.
 */
export function applyConfiguration(
  live: KubeObject | undefined,
  config: JsonObject,
  schema: Schema,
  manager: Manager,
  force: boolean,
): ApplyResult {
  const whole = wholeSchema(schema);
  const wanted = fieldsOf(config, schema);
  const others = entriesOf(live).filter((entry) => !isManager(entry, manager));
  const own = entriesOf(live).find((entry) => isManager(entry, manager));
  let merged = live === undefined ? config : (mergeValue(live, config, whole) as JsonObject);
  const owned = others.map((entry) => ({ entry, paths: fromFieldsV1(entry.fieldsV1) }));
  const kept = [wanted, ...owned.map(({ paths }) => paths)];
  for (const path of shallowestFirst(own === undefined ? [] : fromFieldsV1(own.fieldsV1))) {
    // An element of a list stays as long as anyone wants it or something inside it.
    const isKept = kept.some((paths) => paths.has(path) || (isElement(path) && hasDescendant(path, paths.keys())));
    if (!isKept && !isKeyField(path)) merged = (removePath(merged, splitPath(path), whole) ?? {}) as JsonObject;
  }
  // A map applied empty, whose last fields this manager had applied before, becomes null: the API server's own oddity.
  for (const [path, value] of wanted) {
    const [field = "", ...inner] = splitPath(path);
    const name = field.slice(2);
    if (inner.length === 0 && value === "{}" && live !== undefined && !Object.hasOwn(merged, name)) merged[name] = null;
  }
  const conflicts = live === undefined ? [] : findConflicts(live, merged, schema, wanted, owned);
  if (conflicts.length > 0 && !force) throw conflictError(conflicts);
  const after = fieldsOf(merged, schema);
  const remaining = owned.flatMap(({ entry, paths }) => {
    const lost = new Set(conflicts.filter((conflict) => conflict.entry === entry).map(({ path }) => path));
    const left = [...paths].filter((path) => !lost.has(path) && after.has(path));
    return left.length === 0 ? [] : [left.length === paths.size ? entry : { ...entry, fieldsV1: toFieldsV1(left) }];
  });
  const fieldsV1 = toFieldsV1(wanted.keys());
  const isSame = own !== undefined && sameJson(own.fieldsV1, fieldsV1);
  const mine = isSame ? own : entryFor(manager, wanted.keys(), manager.time);
  return { object: merged, managedFields: [mine, ...remaining] };
}

/** Elements go before their fields: without its key an element could not be found again. */
function shallowestFirst(paths: Iterable<string>): string[] {
  return [...paths].sort((a, b) => splitPath(a).length - splitPath(b).length);
}

/** A field that tells a kept element from its neighbours stays with it. */
function isKeyField(path: string): boolean {
  const [element = "", field = ""] = splitPath(path).slice(-2);
  return element.startsWith("k:") && Object.hasOwn(JSON.parse(element.slice(2)) as object, field.slice(2));
}

const isElement = (path: string) => splitPath(path).at(-1)?.startsWith("k:") === true;

function hasDescendant(path: string, paths: Iterable<string>): boolean {
  for (const other of paths) if (other.startsWith(`${path}\u0000`)) return true;
  return false;
}

interface Conflict {
  readonly entry: ManagedEntry;
  readonly path: string;
}

function findConflicts(
  live: KubeObject,
  merged: JsonObject,
  schema: Schema,
  wanted: ReadonlyMap<string, string>,
  owned: readonly { entry: ManagedEntry; paths: ReadonlySet<string> }[],
): Conflict[] {
  const before = fieldsOf(live, schema);
  const after = fieldsOf(merged, schema);
  const changed = [...after]
    .filter(([path, value]) => wanted.has(path) && before.get(path) !== value)
    .map(([path]) => path);
  return owned.flatMap(({ entry, paths }) =>
    changed.filter((path) => paths.has(path)).map((path) => ({ entry, path })),
  );
}

function conflictError(conflicts: readonly Conflict[]): ApiError {
  const describe = ({ manager, operation, subresource, apiVersion, time }: ManagedEntry) => {
    const where = subresource === undefined ? "" : ` with subresource "${subresource}"`;
    return operation === "Apply"
      ? `conflict with "${manager}"${where}`
      : `conflict with "${manager}"${where} using ${apiVersion}${time === undefined ? "" : ` at ${time}`}`;
  };
  const causes = conflicts.map(({ entry, path }) => ({
    reason: "FieldManagerConflict",
    message: describe(entry),
    field: showPath(path),
  }));
  const byManager = new Map<string, string[]>();
  for (const { message, field } of causes) byManager.set(message, [...(byManager.get(message) ?? []), field]);
  const lines = [...byManager].map(([message, fields]) =>
    fields.length === 1 ? `${message}: ${fields[0]}` : `${message}:\n- ${fields.join("\n- ")}`,
  );
  const text =
    lines.length === 1 ? lines[0] : `conflicts ${lines.map((line) => line.replace(/^conflict /u, "")).join("\n")}`;
  return new ApiError(
    "Conflict",
    `Apply failed with ${causes.length} conflict${causes.length === 1 ? "" : "s"}: ${text}`,
    { causes },
  );
}

/** Merges by the schema: objects by field, keyed lists by key, sets by value; everything else is replaced. */
function mergeValue(live: unknown, config: unknown, unresolved: Schema): unknown {
  const schema = deref(unresolved);
  if (isObject(live) && isObject(config) && schema["x-kubernetes-map-type"] !== "atomic") {
    const merged: JsonObject = { ...live };
    for (const [field, value] of Object.entries(config)) {
      merged[field] = Object.hasOwn(live, field) ? mergeValue(live[field], value, schemaOfField(schema, field)) : value;
    }
    return merged;
  }
  if (Array.isArray(live) && Array.isArray(config) && isGranular(schema)) return mergeList(live, config, schema);
  return config;
}

/** Applied elements take their own order; others keep their place relative to what stands before them. */
function mergeList(live: readonly unknown[], config: readonly unknown[], schema: Schema): unknown[] {
  const applied = new Map(config.map((item) => [elementOf(item, schema), item]));
  const result: unknown[] = [];
  const placed = new Set<string>();
  const liveByElement = new Map(live.map((item) => [elementOf(item, schema), item]));
  const merge = (element: string, item: unknown) => {
    const current = liveByElement.get(element);
    return current === undefined ? item : mergeValue(current, item, schema.items ?? {});
  };
  for (const item of live) {
    const element = elementOf(item, schema);
    if (!applied.has(element)) {
      result.push(item);
      continue;
    }
    // Everything applied up to this element comes now, so that the applied order holds.
    for (const [other, value] of applied) {
      if (placed.has(other)) continue;
      if (other !== element && liveByElement.has(other)) break;
      placed.add(other);
      result.push(merge(other, value));
      if (other === element) break;
    }
  }
  for (const [element, item] of applied) if (!placed.has(element)) result.push(merge(element, item));
  return result;
}
