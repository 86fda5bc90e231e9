/** Functions of expressions, on values that are there. */
import type { FunctionName } from "#shared/expressions/syntax.ts";
import { asText, isList, Moment, Span, type Value } from "./values.ts";

export function callFunction(name: Exclude<FunctionName, "matches">, [value, argument]: readonly Value[]): Value {
  switch (name) {
    case "startsWith":
      return texts(value, argument, (text, part) => text.startsWith(part));
    case "endsWith":
      return texts(value, argument, (text, part) => text.endsWith(part));
    case "contains":
      return texts(value, argument, (text, part) => text.includes(part));
    case "lowerAscii":
      return typeof value === "string" ? value.replace(/[A-Z]+/g, (run) => run.toLowerCase()) : undefined;
    case "size":
      return typeof value === "string" ? Array.from(value).length : isList(value) ? value.length : undefined;
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
      return typeof value === "string" ? readSpan(value) : undefined;
    case "timestamp": {
      const ms = typeof value === "string" ? Date.parse(value) : NaN;
      return Number.isNaN(ms) ? undefined : new Moment(ms);
    }
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
