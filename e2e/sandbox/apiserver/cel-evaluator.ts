import { CelError, parseCel, type Expression } from "./cel-parser.ts";
import { sameJson } from "./json-value.ts";
import { isObject } from "./schema.ts";
import { patternFor } from "./validate-value.ts";

/** What an expression means where it stands: names bound to values, and a budget of steps for all of one object. */
interface Scope {
  readonly names: ReadonlyMap<string, unknown>;
  readonly budget: { steps: number };
}

/** Steps that the rules of one object may take; Kubernetes' cost limit is of the same order. */
export const stepBudget = 1_000_000;

/** A compiled rule. Throws {@link CelError} when it cannot be evaluated. */
export type CelProgram = (names: ReadonlyMap<string, unknown>, budget: { steps: number }) => unknown;

/** Absent optional value, between `self.?field` and `orValue`. */
const none = Symbol("none");

/** Compiles an expression; throws {@link CelError} for what is not CEL or uses functions that are not known here. */
export function compileCel(text: string): CelProgram {
  const expression = parseCel(text);
  checkCalls(expression);
  return (names, budget) => evaluate(expression, { names, budget });
}

function evaluate(expression: Expression, scope: Scope): unknown {
  if (--scope.budget.steps < 0) throw new CelError("the rule takes too many steps");
  switch (expression.is) {
    case "literal":
      return expression.value;
    case "name":
      return readName(expression.name, scope);
    case "field":
      return readField(evaluate(expression.of, scope), expression.name, expression.optional);
    case "index":
      return readIndex(evaluate(expression.of, scope), evaluate(expression.at, scope));
    case "unary": {
      const value = evaluate(expression.of, scope);
      return expression.operator === "!" ? !asBoolean(value) : -asNumber(value);
    }
    case "binary":
      return evaluateBinary(expression, scope);
    case "choice":
      return evaluate(asBoolean(evaluate(expression.test, scope)) ? expression.met : expression.unmet, scope);
    case "list":
      return expression.items.map((item) => evaluate(item, scope));
    case "map":
      return Object.fromEntries(
        expression.entries.map(([key, value]) => [String(evaluate(key, scope)), evaluate(value, scope)]),
      );
    case "call":
      return evaluateCall(expression, scope);
  }
}

function readName(name: string, { names }: Scope): unknown {
  if (!names.has(name)) throw new CelError(`"${name}" is not declared`);
  return names.get(name);
}

function readField(value: unknown, name: string, optional: boolean): unknown {
  if (value === none) return none;
  if (isObject(value) && Object.hasOwn(value, name) && value[name] !== undefined) return value[name];
  if (optional) return none;
  throw new CelError(`no such key: ${name}`);
}

function readIndex(value: unknown, at: unknown): unknown {
  if (Array.isArray(value) && typeof at === "number" && at >= 0 && at < value.length) return value[at];
  if (isObject(value) && typeof at === "string" && Object.hasOwn(value, at)) return value[at];
  throw new CelError(`no such key: ${JSON.stringify(at)}`);
}

function asBoolean(value: unknown): boolean {
  if (typeof value !== "boolean") throw new CelError("a condition is true or false");
  return value;
}

function asNumber(value: unknown): number {
  if (typeof value !== "number") throw new CelError("arithmetic needs numbers");
  return value;
}

function asText(value: unknown): string {
  if (typeof value !== "string") throw new CelError("this function needs a text");
  return value;
}

type Binary = Extract<Expression, { is: "binary" }>;

function evaluateBinary({ operator, left, right }: Binary, scope: Scope): unknown {
  if (operator === "&&" || operator === "||") return evaluateLogic(operator, left, right, scope);
  const [a, b] = [evaluate(left, scope), evaluate(right, scope)];
  switch (operator) {
    case "==":
      return sameJson(a, b);
    case "!=":
      return !sameJson(a, b);
    case "in":
      return Array.isArray(b) ? b.some((item) => sameJson(item, a)) : isObject(b) && Object.hasOwn(b, String(a));
    case "+":
      return add(a, b);
    case "-":
      return asNumber(a) - asNumber(b);
    case "*":
      return asNumber(a) * asNumber(b);
    case "/":
    case "%":
      return divide(operator, asNumber(a), asNumber(b));
    default:
      return compare(operator, a, b);
  }
}

/** An error on one side does not count when the other side decides. */
function evaluateLogic(operator: "&&" | "||", left: Expression, right: Expression, scope: Scope): boolean {
  const decisive = operator === "||";
  let failure: CelError | undefined;
  for (const side of [left, right]) {
    try {
      if (asBoolean(evaluate(side, scope)) === decisive) return decisive;
    } catch (error) {
      if (!(error instanceof CelError) || scope.budget.steps < 0) throw error;
      failure = error;
    }
  }
  if (failure !== undefined) throw failure;
  return !decisive;
}

function add(a: unknown, b: unknown): unknown {
  if (typeof a === "string" && typeof b === "string") return a + b;
  if (Array.isArray(a) && Array.isArray(b)) return [...(a as unknown[]), ...(b as unknown[])];
  return asNumber(a) + asNumber(b);
}

function divide(operator: "/" | "%", a: number, b: number): number {
  if (b === 0) throw new CelError("division by zero");
  if (operator === "%") return a % b;
  return Number.isInteger(a) && Number.isInteger(b) ? Math.trunc(a / b) : a / b;
}

function compare(operator: string, a: unknown, b: unknown): boolean {
  const comparable =
    (typeof a === "number" && typeof b === "number") || (typeof a === "string" && typeof b === "string");
  if (!comparable) throw new CelError(`cannot compare ${typeof a} with ${typeof b}`);
  switch (operator) {
    case "<":
      return a < b;
    case "<=":
      return a <= b;
    case ">":
      return a > b;
    default:
      return a >= b;
  }
}

type Call = Extract<Expression, { is: "call" }>;

const macros = new Set(["all", "exists", "exists_one", "existsOne", "filter", "map"]);

/** Functions by name; a member call passes its object as the first argument. */
const functions: Readonly<Record<string, (...args: readonly unknown[]) => unknown>> = {
  size: (value) => {
    if (typeof value === "string") return Array.from(value).length;
    if (Array.isArray(value)) return value.length;
    if (isObject(value)) return Object.keys(value).length;
    throw new CelError("size needs a text, a list or a map");
  },
  matches: (text, pattern) => patternFor(asText(pattern)).matcher(asText(text)).find(),
  startsWith: (text, part) => asText(text).startsWith(asText(part)),
  endsWith: (text, part) => asText(text).endsWith(asText(part)),
  contains: (text, part) => asText(text).includes(asText(part)),
  lowerAscii: (text) => asText(text).toLowerCase(),
  upperAscii: (text) => asText(text).toUpperCase(),
  trim: (text) => asText(text).trim(),
  split: (text, by) => asText(text).split(asText(by)),
  join: (list, by = "") => (list as unknown[]).map(asText).join(asText(by)),
  replace: (text, from, to) => asText(text).replaceAll(asText(from), asText(to)),
  substring: (text, from, to) => asText(text).slice(asNumber(from), to === undefined ? undefined : asNumber(to)),
  indexOf: (text, part) =>
    Array.isArray(text) ? text.findIndex((one) => sameJson(one, part)) : asText(text).indexOf(asText(part)),
  isSorted: (list) => (list as unknown[]).every((item, at, all) => at === 0 || compare("<=", all[at - 1], item)),
  sum: (list) => (list as unknown[]).reduce<number>((total, one) => total + asNumber(one), 0),
  min: (list) => Math.min(...(list as unknown[]).map(asNumber)),
  max: (list) => Math.max(...(list as unknown[]).map(asNumber)),
  int: (value) => Math.trunc(Number(value)),
  uint: (value) => Math.trunc(Number(value)),
  double: Number,
  string: (value) => (typeof value === "string" ? value : JSON.stringify(value)),
  bool: (value) => value === true || value === "true",
  dyn: (value) => value,
  type: (value) =>
    value === null
      ? "null_type"
      : Array.isArray(value)
        ? "list"
        : isObject(value)
          ? "map"
          : typeof value === "number"
            ? Number.isInteger(value)
              ? "int"
              : "double"
            : typeof value === "boolean"
              ? "bool"
              : "string",
  duration: (value) => readDurationMs(asText(value)),
  hasValue: (value) => value !== none,
  orValue: (value, otherwise) => (value === none ? otherwise : value),
  value: (value) => {
    if (value === none) throw new CelError("the optional has no value");
    return value;
  },
  isURL: (value) => URL.canParse(asText(value)),
};

const unitMs: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
  us: 0.001,
  µs: 0.001,
  ns: 0.000_001,
};

function readDurationMs(text: string): number {
  const parts = [...text.matchAll(/([\d.]+)(h|ms|m|s|us|µs|ns)/gu)];
  if (parts.map(([all]) => all).join("") !== text.replace(/^-/u, "") || parts.length === 0)
    throw new CelError(`"${text}" is not a duration`);
  const sum = parts.reduce((total, [, amount = "0", unit = "s"]) => total + Number(amount) * (unitMs[unit] ?? 0), 0);
  return text.startsWith("-") ? -sum : sum;
}

function evaluateCall({ name, of, args }: Call, scope: Scope): unknown {
  if (name === "has" && of === undefined) return evaluateHas(args[0], scope);
  if (of !== undefined && macros.has(name)) return evaluateMacro(name, evaluate(of, scope), args, scope);
  const values = [...(of === undefined ? [] : [of]), ...args].map((one) => evaluate(one, scope));
  const known = Object.hasOwn(functions, name) ? functions[name] : undefined;
  if (known === undefined) throw new CelError(`function "${name}" is not known`);
  return known(...values);
}

function evaluateHas(field: Expression | undefined, scope: Scope): boolean {
  if (field?.is !== "field") throw new CelError("has() needs a field");
  const value = evaluate(field.of, scope);
  return (
    isObject(value) && Object.hasOwn(value, field.name) && value[field.name] !== undefined && value[field.name] !== null
  );
}

function evaluateMacro(name: string, list: unknown, args: readonly Expression[], scope: Scope): unknown {
  const items: readonly unknown[] = Array.isArray(list) ? list : isObject(list) ? Object.keys(list) : [];
  const [variable, ...bodies] = args;
  const body = bodies.at(-1);
  if (variable?.is !== "name" || body === undefined) throw new CelError(`${name} needs a variable and an expression`);
  const each = (item: unknown, one: Expression) =>
    evaluate(one, { ...scope, names: new Map([...scope.names, [variable.name, item]]) });
  const [filter] = bodies;
  switch (name) {
    case "all":
      return items.every((item) => asBoolean(each(item, body)));
    case "exists":
      return items.some((item) => asBoolean(each(item, body)));
    case "filter":
      return items.filter((item) => asBoolean(each(item, body)));
    case "map":
      return items
        .filter((item) => bodies.length < 2 || filter === undefined || asBoolean(each(item, filter)))
        .map((item) => each(item, body));
    default:
      return items.filter((item) => asBoolean(each(item, body))).length === 1;
  }
}

/** Refuses unknown functions when a rule is compiled, not when it first matters. */
function checkCalls(expression: Expression): void {
  if (expression.is === "call") {
    const isKnown =
      expression.name === "has" || macros.has(expression.name) || Object.hasOwn(functions, expression.name);
    if (!isKnown) throw new CelError(`function "${expression.name}" is not known`);
  }
  for (const inner of childrenOf(expression)) checkCalls(inner);
}

function childrenOf(expression: Expression): readonly Expression[] {
  switch (expression.is) {
    case "literal":
    case "name":
      return [];
    case "field":
    case "unary":
      return [expression.of];
    case "index":
      return [expression.of, expression.at];
    case "binary":
      return [expression.left, expression.right];
    case "choice":
      return [expression.test, expression.met, expression.unmet];
    case "list":
      return expression.items;
    case "map":
      return expression.entries.flat();
    case "call":
      return [...(expression.of === undefined ? [] : [expression.of]), ...expression.args];
  }
}

/** Whether an expression speaks of the earlier value: such rules hold for updates only. */
export function mentions(text: string, name: string): boolean {
  const walk = (expression: Expression): boolean =>
    (expression.is === "name" && expression.name === name) || childrenOf(expression).some(walk);
  return walk(parseCel(text));
}
