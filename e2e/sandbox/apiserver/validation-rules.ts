import type { FieldError } from "./api-error.ts";
import { compileCel, mentions, stepBudget, type CelProgram } from "./cel-evaluator.ts";
import { CelError } from "./cel-parser.ts";
import { typeName } from "./decode-object.ts";
import { isObject, joinPath, type Schema } from "./schema.ts";

type Rule = NonNullable<Schema["x-kubernetes-validations"]>[number];

interface CompiledRule {
  readonly rule: Rule;
  readonly program: CelProgram;
  readonly message: CelProgram | undefined;
  readonly needsOld: boolean;
}

const compiled = new WeakMap<Rule, CompiledRule | "unreadable">();

function compile(rule: Rule): CompiledRule | "unreadable" {
  let known = compiled.get(rule);
  if (known === undefined) {
    try {
      known = {
        rule,
        program: compileCel(rule.rule),
        message: rule.messageExpression === undefined ? undefined : compileCel(rule.messageExpression),
        needsOld: mentions(rule.rule, "oldSelf"),
      };
    } catch (error) {
      if (!(error instanceof CelError)) throw error;
      known = "unreadable";
    }
    compiled.set(rule, known);
  }
  return known;
}

/** Rules of a schema that this server cannot evaluate, with the reason: whoever installs the CRD is told. */
export function unreadableRules(schema: Schema, path = ""): readonly string[] {
  const own = (schema["x-kubernetes-validations"] ?? []).filter((rule) => compile(rule) === "unreadable");
  const inner = Object.entries(schema.properties ?? {}).flatMap(([name, property]) =>
    unreadableRules(property, joinPath(path, name)),
  );
  const items = schema.items === undefined ? [] : unreadableRules(schema.items, `${path}[]`);
  const values =
    typeof schema.additionalProperties === "object" ? unreadableRules(schema.additionalProperties, `${path}.*`) : [];
  return [...own.map(({ rule }) => `${path}: ${rule}`), ...inner, ...items, ...values];
}

/** Checks the rules (`x-kubernetes-validations`) of a value and of everything inside it. */
export function validateRules(value: unknown, previous: unknown, schema: Schema, path = ""): FieldError[] {
  const errors: FieldError[] = [];
  check(value, previous, schema, path, { steps: stepBudget }, errors);
  return errors;
}

function check(
  value: unknown,
  previous: unknown,
  schema: Schema,
  path: string,
  budget: { steps: number },
  errors: FieldError[],
): void {
  if (value === undefined || value === null) return;
  for (const rule of schema["x-kubernetes-validations"] ?? []) {
    const one = compile(rule);
    if (one !== "unreadable" && !(one.needsOld && previous === undefined))
      checkRule(one, value, previous, path, budget, errors);
  }
  if (Array.isArray(value)) {
    const { items } = schema;
    if (items === undefined) return;
    for (const [at, item] of value.entries())
      check(item, counterpart(item, previous, schema), items, `${path}[${at}]`, budget, errors);
    return;
  }
  if (!isObject(value)) return;
  const before = isObject(previous) ? previous : {};
  for (const [field, inner] of Object.entries(value)) {
    const own = Object.hasOwn(schema.properties ?? {}, field) ? schema.properties?.[field] : undefined;
    const fieldSchema =
      own ?? (typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined);
    if (fieldSchema !== undefined) check(inner, before[field], fieldSchema, joinPath(path, field), budget, errors);
  }
}

/** The element that was this one before: only lists with keys can tell. */
function counterpart(item: unknown, previous: unknown, schema: Schema): unknown {
  const keys = schema["x-kubernetes-list-map-keys"] ?? [];
  if (!Array.isArray(previous) || keys.length === 0 || !isObject(item)) return undefined;
  return previous.find((other) => isObject(other) && keys.every((key) => other[key] === item[key]));
}

function checkRule(
  { rule, program, message }: CompiledRule,
  value: unknown,
  previous: unknown,
  path: string,
  budget: { steps: number },
  errors: FieldError[],
): void {
  const names = new Map<string, unknown>([["self", value]]);
  if (previous !== undefined) names.set("oldSelf", previous);
  const field = rule.fieldPath === undefined ? path : `${path}${rule.fieldPath}`;
  try {
    if (program(names, budget) === true) return;
    const text = textOf(message, names, budget) ?? rule.message ?? `failed rule: ${rule.rule.trim()}`;
    errors.push({ reason: "FieldValueInvalid", field, message: `Invalid value: ${show(value)}: ${text.trim()}` });
  } catch (error) {
    if (!(error instanceof CelError)) throw error;
    errors.push({
      reason: "FieldValueInvalid",
      field,
      message: `Invalid value: ${show(value)}: rule evaluation error: ${error.message}`,
    });
  }
}

/** The expression goes before the plain message, where it gives one line of text. */
function textOf(
  message: CelProgram | undefined,
  names: ReadonlyMap<string, unknown>,
  budget: { steps: number },
): string | undefined {
  try {
    const text = message?.(names, budget);
    return typeof text === "string" && text.trim() !== "" && !text.includes("\n") ? text : undefined;
  } catch (error) {
    if (!(error instanceof CelError)) throw error;
    return undefined;
  }
}

/** Objects and lists are shown by their type: their text would bury the message. */
function show(value: unknown): string {
  return typeof value === "object" ? JSON.stringify(typeName(value)) : JSON.stringify(value);
}
