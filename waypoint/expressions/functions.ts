/** Functions of expressions, on values that are there. */
import type { FunctionName } from "#shared/expressions/syntax.ts";
import { asText, isList, Moment, Span, Table, type Value } from "./values.ts";

export function callFunction(
  name: Exclude<FunctionName, "matches">,
  [value, argument, further]: readonly Value[],
): Value {
  switch (name) {
    case "startsWith":
      return texts(value, argument, (text, part) => text.startsWith(part));
    case "endsWith":
      return texts(value, argument, (text, part) => text.endsWith(part));
    case "contains":
      return texts(value, argument, (text, part) => text.includes(part));
    case "lowerAscii":
      return typeof value === "string" ? value.replace(/[A-Z]+/g, (run) => run.toLowerCase()) : undefined;
    case "upperAscii":
      return typeof value === "string" ? value.replace(/[a-z]+/g, (run) => run.toUpperCase()) : undefined;
    case "trim":
      return typeof value === "string" ? value.trim() : undefined;
    case "split":
      return typeof value === "string" && typeof argument === "string" ? pieces(value, argument) : undefined;
    case "join":
      return isList(value) && typeof argument === "string" ? joined(value, argument) : undefined;
    case "replace":
      return typeof value === "string" && typeof argument === "string" && typeof further === "string"
        ? replaced(value, argument, further)
        : undefined;
    case "substring":
      return typeof value === "string" ? part(value, argument, further) : undefined;
    case "indexOf":
      return typeof value === "string" && typeof argument === "string" ? value.indexOf(argument) : undefined;
    case "size":
      if (typeof value === "string") return Array.from(value).length;
      return isList(value) ? value.length : value instanceof Table ? value.size : undefined;
    case "getFullYear":
    case "getMonth":
    case "getDate":
    case "getDayOfWeek":
    case "getHours":
    case "getMinutes":
    case "getSeconds":
      return timePart(name, value);
    case "string":
      return asText(value);
    case "int":
    case "uint": {
      const whole = value instanceof Moment ? Math.floor(value.ms / 1_000) : Math.trunc(toNumber(value));
      return Number.isFinite(whole) && (name === "int" || whole >= 0) ? whole : undefined;
    }
    case "double": {
      const number = toNumber(value);
      return Number.isNaN(number) ? undefined : number;
    }
    case "duration":
      return value instanceof Span ? value : typeof value === "string" ? readSpan(value) : undefined;
    case "timestamp": {
      if (value instanceof Moment) return value;
      const ms = typeof value === "string" ? Date.parse(value) : NaN;
      return Number.isNaN(ms) ? undefined : new Moment(ms);
    }
  }
}

/** More pieces than a header has anywhere are an error. */
const mostPieces = 1_000;
/** Characters. */
const longestText = 65_536;

const bounded = (text: string): string | undefined => (text.length > longestText ? undefined : text);

function pieces(text: string, between: string): readonly string[] | undefined {
  const found = text.split(between, mostPieces + 1);
  return found.length > mostPieces ? undefined : found;
}

function joined(list: readonly Value[], between: string): string | undefined {
  if (!list.every((each) => typeof each === "string")) return undefined;
  const length = list.reduce((sum, each) => sum + each.length + between.length, 0);
  return length > longestText ? undefined : list.join(between);
}

function replaced(text: string, old: string, by: string): string | undefined {
  const pieces = text.split(old, mostPieces + 2);
  return pieces.length > mostPieces + 1 ? undefined : bounded(pieces.join(by));
}

const part = (text: string, from: Value, to: Value): string | undefined =>
  typeof from === "number" && typeof to === "number" && from >= 0 && to >= from && to <= text.length
    ? text.slice(from, to)
    : undefined;

type TimePart = Extract<FunctionName, `get${string}`>;

/** Of moments in UTC; of spans, all of it in that unit. */
function timePart(name: TimePart, value: Value): number | undefined {
  if (value instanceof Span) {
    const unit = { getHours: 3_600_000, getMinutes: 60_000, getSeconds: 1_000 }[name as string];
    return unit === undefined ? undefined : Math.trunc(value.ms / unit);
  }
  if (!(value instanceof Moment)) return undefined;
  const date = new Date(value.ms);
  switch (name) {
    case "getFullYear":
      return date.getUTCFullYear();
    case "getMonth":
      return date.getUTCMonth();
    case "getDate":
      return date.getUTCDate();
    case "getDayOfWeek":
      return date.getUTCDay();
    case "getHours":
      return date.getUTCHours();
    case "getMinutes":
      return date.getUTCMinutes();
    case "getSeconds":
      return date.getUTCSeconds();
  }
}

function texts(text: Value, part: Value, test: (text: string, part: string) => boolean): boolean | undefined {
  return typeof text === "string" && typeof part === "string" ? test(text, part) : undefined;
}

const toNumber = (value: Value): number =>
  typeof value === "number" ? value : typeof value === "string" && value.trim() !== "" ? Number(value) : NaN;

const units: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1, us: 1e-3, ns: 1e-6 };

/** `1h30m`, `250ms`, `-1.5s`. */
function readSpan(text: string): Span | undefined {
  if (!/^-?(?:\d+(?:\.\d+)?(?:ms|us|ns|h|m|s))+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, count, unit = ""] of text.matchAll(/(\d+(?:\.\d+)?)(ms|us|ns|h|m|s)/g)) {
    ms += Number(count) * (units[unit] ?? 0);
  }
  return new Span(text.startsWith("-") ? -ms : ms);
}
