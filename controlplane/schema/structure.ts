import { z } from "zod";
import { suggest } from "./nearest.ts";
import { quote, type FieldPath, type Problem } from "./problem.ts";

type Issue = z.core.$ZodIssue;
type Schema = z.core.$ZodType;

/** Everything about `value` that does not fit `schema`: unknown fields, wrong types, values out of bounds. */
export function checkStructure(schema: Schema, value: unknown, at: FieldPath): readonly Problem[] {
  const result = z.safeParse(schema, value, { reportInput: true });
  if (result.success) return [];
  return result.error.issues.flatMap((issue) => problemsOf(issue, schema, value, at));
}

function problemsOf(issue: Issue, schema: Schema, root: unknown, at: FieldPath): readonly Problem[] {
  const inner = issue.path.map((step) => (typeof step === "symbol" ? String(step) : step));
  const path = [...at, ...inner];
  const error = (message: string, remedy: string): Problem => ({ severity: "error", path, message, remedy });
  const value = valueAt(root, inner);
  switch (issue.code) {
    case "unrecognized_keys": {
      const known = fieldsOf(schemaAt(schema, inner));
      return issue.keys.map((key) => ({
        severity: "error",
        path: [...path, key],
        message: `unknown field "${key}"`,
        remedy: suggest(key, known, "fields here are"),
      }));
    }
    case "invalid_type":
      if (value === undefined) return [error("is missing", `write ${article(issue.expected)}`)];
      return [error(`expected ${article(issue.expected)}, found ${found(value)}`, typeRemedy(issue.expected, value))];
    case "invalid_value": {
      const choices = issue.values.map(String);
      if (value === undefined) return [error("is missing", `write one of ${choices.join(", ")}`)];
      return [
        error(
          `${quote(value)} is not one of ${choices.join(", ")}`,
          suggest(typeof value === "string" ? value : "", choices, "write one of"),
        ),
      ];
    }
    case "too_small":
      return [error(...sizeProblem(issue.origin, value, "at least", Number(issue.minimum), issue.inclusive))];
    case "too_big":
      return [error(...sizeProblem(issue.origin, value, "at most", Number(issue.maximum), issue.inclusive))];
    case "invalid_union":
      return [error(`expected a number or text, found ${found(value)}`, "write a number or text")];
    case "invalid_key":
      return issue.issues.map((keyIssue) => error(...formProblem(keyIssue.message, inner.at(-1))));
    case "invalid_format":
    case "invalid_element":
    case "not_multiple_of":
    case "custom":
      return [error(...formProblem(issue.message, value))];
  }
}

/** Schemas carry messages such as `a DNS label: use lower-case letters`: what it should be, and what to do. */
function formProblem(text: string, value: unknown): [message: string, remedy: string] {
  const colon = text.indexOf(": ");
  const [what, remedy] = colon < 0 ? [text, ""] : [text.slice(0, colon), text.slice(colon + 2)];
  return [`${quote(value)} is not ${what}`, remedy];
}

function sizeProblem(
  origin: string,
  value: unknown,
  bound: "at least" | "at most",
  limit: number,
  isInclusive = true,
): [message: string, remedy: string] {
  const limitText = isInclusive ? `${bound} ${limit}` : `${bound === "at least" ? "more than" : "less than"} ${limit}`;
  switch (origin) {
    case "string": {
      const length = String(value).length;
      if (length === 0) return ["must not be empty", "write a value, or leave the field out"];
      return [`${quote(value)} has ${length} characters, allowed are ${limitText}`, "shorten or complete it"];
    }
    case "array":
    case "set":
    case "map":
    case "object": {
      const size = Array.isArray(value) ? value.length : Object.keys(value as object).length;
      if (size === 0) return ["must not be empty", "write an entry, or leave the field out"];
      return [`has ${size} entries, allowed are ${limitText}`, bound === "at most" ? "write fewer" : "write more"];
    }
    default:
      return [`${quote(value)} is out of range`, `write ${limitText}`];
  }
}

const words: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "an object",
  record: "an object",
  map: "an object",
};

const article = (expected: string): string => words[expected] ?? expected;

function found(value: unknown): string {
  if (value === null) return "nothing (null)";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  return typeof value === "string" ? `the text ${quote(value)}` : `the ${typeof value} ${quote(value)}`;
}

/** The usual slips of YAML. */
function typeRemedy(expected: string, value: unknown): string {
  const scalar = typeof value === "number" || typeof value === "boolean";
  if (expected === "string" && scalar) return `put it in quotes: "${String(value)}"`;
  if (typeof value === "string") {
    if (expected === "boolean" && /^(true|false)$/i.test(value)) return `write ${value.toLowerCase()} without quotes`;
    if ((expected === "number" || expected === "int") && /^-?\d+(\.\d+)?$/.test(value)) {
      return `write ${value} without quotes`;
    }
  }
  if (expected === "array" && value !== null) {
    return scalar || typeof value === "string" ? `write a list: [${quote(value)}]` : 'start each entry with "- "';
  }
  if (expected === "object" && Array.isArray(value)) return 'leave out the "- ": one object stands here, no list';
  return value === null ? `write ${article(expected)}, or leave the field out` : `write ${article(expected)}`;
}

function valueAt(root: unknown, path: FieldPath): unknown {
  let value: unknown = root;
  for (const step of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = Object.hasOwn(value, step) ? (value as Record<string | number, unknown>)[step] : undefined;
  }
  return value;
}

/** The schema without what says that its value may be absent. */
function bare(schema: Schema | undefined): Schema | undefined {
  let inner = schema;
  while (inner instanceof z.ZodOptional || inner instanceof z.ZodNullable || inner instanceof z.ZodDefault) {
    inner = inner.def.innerType;
  }
  return inner;
}

function schemaAt(schema: Schema, path: FieldPath): Schema | undefined {
  let at = bare(schema);
  for (const step of path) {
    if (at instanceof z.ZodObject) at = bare((at.def.shape as Record<string, Schema>)[step]);
    else if (at instanceof z.ZodArray) at = bare(at.def.element);
    else if (at instanceof z.ZodRecord) at = bare(at.def.valueType);
    else return undefined;
  }
  return at;
}

const fieldsOf = (schema: Schema | undefined): readonly string[] =>
  schema instanceof z.ZodObject ? Object.keys(schema.def.shape) : [];
