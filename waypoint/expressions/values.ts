/** Values of expressions. `undefined` is an error: what is asked for is not there, or types do not go together. */
import type { JsonValue } from "@bufbuild/protobuf";

/** Milliseconds. */
export class Span {
  readonly ms: number;

  constructor(ms: number) {
    this.ms = ms;
  }
}

/** Unix milliseconds. */
export class Moment {
  readonly ms: number;

  constructor(ms: number) {
    this.ms = ms;
  }
}

/** What is written in braces. */
export class Table {
  readonly #values: ReadonlyMap<Value, Value>;

  constructor(values: ReadonlyMap<Value, Value>) {
    this.#values = values;
  }

  get size(): number {
    return this.#values.size;
  }

  get(key: Value): Value {
    return this.#values.get(key);
  }
}

/** Anything that has members by name. */
export interface Members {
  member(name: string): Value;
}

export type Value = string | number | boolean | null | Span | Moment | Table | Members | readonly Value[] | undefined;

export const isMembers = (value: Value): value is Members =>
  typeof value === "object" && value !== null && "member" in value;

export const isList = (value: Value): value is readonly Value[] => Array.isArray(value);

/** JSON, looked into as far as it is asked. */
export function fromJson(json: JsonValue | undefined): Value {
  if (Array.isArray(json)) return json.map(fromJson);
  if (typeof json !== "object" || json === null) return json;
  const record = json;
  return { member: (name) => (Object.hasOwn(record, name) ? fromJson(record[name]) : undefined) };
}

export function areEqual(a: Value, b: Value): boolean {
  if (isList(a) && isList(b)) return a.length === b.length && a.every((each, index) => areEqual(each, b[index]));
  if (a instanceof Span && b instanceof Span) return a.ms === b.ms;
  if (a instanceof Moment && b instanceof Moment) return a.ms === b.ms;
  return a === b;
}

/** Below zero, zero, above zero; undefined where the two have no order. */
export function order(a: Value, b: Value): number | undefined {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "string" && typeof b === "string") return a < b ? -1 : a > b ? 1 : 0;
  if (a instanceof Span && b instanceof Span) return a.ms - b.ms;
  if (a instanceof Moment && b instanceof Moment) return a.ms - b.ms;
  return undefined;
}

/** As labels show it; undefined for what has no text. */
export function asText(value: Value): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (value instanceof Span) return `${value.ms / 1_000}s`;
  return value instanceof Moment ? new Date(value.ms).toISOString() : undefined;
}
