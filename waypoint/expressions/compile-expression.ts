/**
 * Expression → function. An error anywhere is `undefined`, unless `||`, `&&` or a choice can do without that part. What one
 * evaluation may do is bounded: no loops but over lists that are there, so many steps of them, and texts only so long.
 */
import { RE2JS } from "re2js";
import { checkExpression, keyOf, type Wanted } from "#shared/expressions/check-expression.ts";
import { parseExpression } from "#shared/expressions/parse-expression.ts";
import type { Expression, Macro } from "#shared/expressions/syntax.ts";
import type { Vocabulary } from "#shared/expressions/vocabularies.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { Subject } from "#waypoint/telemetry/subject.ts";
import { attribute, wholeOf, type NodeFacts, type Read } from "./attributes.ts";
import { callFunction } from "./functions.ts";
import { areEqual, isList, isMembers, order, Moment, Span, Table, type Value } from "./values.ts";

export interface ExpressionPlace {
  readonly node: NodeFacts;
  /** What it may ask for. */
  readonly vocabulary: Vocabulary;
  /** What it has to come to; left out: any one value. */
  readonly wanted?: Wanted;
}

/** Items looked at by `exists`, `map` and the like in one evaluation, all together. */
const mostSteps = 1_000;
/** Characters of a text, or items of a list, that an evaluation makes. */
const longest = 65_536;

/** What cannot be read is reported and yields nothing. */
export function compileExpression(
  text: string,
  { node, vocabulary, wanted }: ExpressionPlace,
  path: string,
  problem: Problem,
): Read {
  try {
    const tree = parseExpression(text);
    checkExpression(tree, vocabulary, wanted);
    const context: Context = { node, locals: new Map(), steps: { left: 0 } };
    const read = compile(tree, context);
    return (subject) => {
      context.steps.left = mostSteps;
      return read(subject);
    };
  } catch (error) {
    problem(path, `"${text}": ${error instanceof Error ? error.message : String(error)}`);
    return () => undefined;
  }
}

/** A name of `exists` and the like, and what it stands for at the moment. */
interface Local {
  value: Value;
}

interface Context {
  readonly node: NodeFacts;
  readonly locals: ReadonlyMap<string, Local>;
  /** Of one evaluation: it never waits, so one count for all is enough. */
  readonly steps: { left: number };
}

function compile(expression: Expression, context: Context): Read {
  switch (expression.kind) {
    case "literal": {
      const { value } = expression;
      return () => value;
    }
    case "list": {
      const items = expression.items.map((item) => compile(item, context));
      return (subject) => items.map((item) => item(subject));
    }
    case "map":
      return compileMap(expression, context);
    case "each":
      return compileEach(expression, context);
    case "name": {
      const local = context.locals.get(expression.name);
      return local === undefined ? wholeOf(expression.name, context.node) : () => local.value;
    }
    case "member":
    case "index":
      return compileAccess(expression, context);
    case "has": {
      const member = compile(expression.member, context);
      return (subject) => member(subject) !== undefined;
    }
    case "not": {
      const of = compile(expression.of, context);
      return (subject) => {
        const value = of(subject);
        return typeof value === "boolean" ? !value : undefined;
      };
    }
    case "minus": {
      const of = compile(expression.of, context);
      return (subject) => {
        const value = of(subject);
        if (value instanceof Span) return new Span(-value.ms);
        return typeof value === "number" ? -value : undefined;
      };
    }
    case "choice": {
      const [test, yes, no] = [expression.test, expression.yes, expression.no].map((each) => compile(each, context));
      return (subject) => {
        const decided = test?.(subject);
        return typeof decided === "boolean" ? (decided ? yes : no)?.(subject) : undefined;
      };
    }
    case "binary":
      return compileBinary(expression, context);
    case "call":
      return compileCall(expression, context);
  }
}

function compileAccess(expression: Expression & { readonly kind: "member" | "index" }, context: Context): Read {
  const key = keyOf(expression);
  const { of } = expression;
  if (of.kind === "name" && key !== undefined && !context.locals.has(of.name)) {
    return attribute(of.name, key, context.node) ?? (() => undefined);
  }
  const target = compile(of, context);
  const at: Read = key === undefined && expression.kind === "index" ? compile(expression.by, context) : () => key;
  return (subject) => {
    const [value, wanted] = [target(subject), at(subject)];
    if (value instanceof Table) return value.get(wanted);
    if (isList(value)) return typeof wanted === "number" ? value[wanted] : undefined;
    return isMembers(value) && typeof wanted === "string" ? value.member(wanted) : undefined;
  };
}

function compileBinary(
  { operator, left: a, right: b }: Expression & { readonly kind: "binary" },
  context: Context,
): Read {
  const [left, right] = [compile(a, context), compile(b, context)];
  const both = (combine: (x: Value, y: Value) => Value) => (subject: Subject) => {
    const [x, y] = [left(subject), right(subject)];
    return x === undefined || y === undefined ? undefined : combine(x, y);
  };
  const compared = (test: (difference: number) => boolean) =>
    both((x, y) => {
      const difference = order(x, y);
      return difference === undefined ? undefined : test(difference);
    });
  switch (operator) {
    case "&&":
    case "||": {
      // The one that decides does so, whatever the other side comes to.
      const deciding = operator === "||";
      return (subject) => {
        const x = left(subject);
        if (x === deciding) return deciding;
        const y = right(subject);
        if (y === deciding) return deciding;
        return x === !deciding && y === !deciding ? !deciding : undefined;
      };
    }
    case "==":
      return both(areEqual);
    case "!=":
      return both((x, y) => !areEqual(x, y));
    case "<":
      return compared((difference) => difference < 0);
    case "<=":
      return compared((difference) => difference <= 0);
    case ">":
      return compared((difference) => difference > 0);
    case ">=":
      return compared((difference) => difference >= 0);
    case "in":
      return both((x, y) => {
        if (isList(y)) return y.some((item) => areEqual(x, item));
        if (y instanceof Table) return y.get(x) !== undefined;
        return isMembers(y) && typeof x === "string" ? y.member(x) !== undefined : undefined;
      });
    case "+":
    case "-":
    case "*":
    case "/":
    case "%": {
      const isWhole = !isBroken(a) && !isBroken(b);
      return both((x, y) => calculate(operator, x, y, isWhole));
    }
  }
}

/** Whether it is written as a number with a fraction: 5.0 / 2 is 2.5. */
function isBroken(expression: Expression): boolean {
  if (expression.kind === "literal") return expression.isDouble === true;
  if (expression.kind === "call") return expression.name === "double";
  if (expression.kind === "minus") return isBroken(expression.of);
  return expression.kind === "binary" && (isBroken(expression.left) || isBroken(expression.right));
}

function calculate(operator: "+" | "-" | "*" | "/" | "%", x: Value, y: Value, isWhole: boolean): Value {
  if ((typeof x === "string" && typeof y === "string") || (isList(x) && isList(y))) {
    if (operator !== "+" || x.length + y.length > longest) return undefined;
    return isList(x) ? [...x, ...(y as readonly Value[])] : x + (y as string);
  }
  if (x instanceof Moment && y instanceof Moment) return operator === "-" ? new Span(x.ms - y.ms) : undefined;
  if (y instanceof Span && (x instanceof Span || x instanceof Moment)) {
    if (operator !== "+" && operator !== "-") return undefined;
    const ms = operator === "+" ? x.ms + y.ms : x.ms - y.ms;
    return x instanceof Span ? new Span(ms) : new Moment(ms);
  }
  if (typeof x !== "number" || typeof y !== "number") return undefined;
  switch (operator) {
    case "+":
      return x + y;
    case "-":
      return x - y;
    case "*":
      return x * y;
    case "/":
      if (isWhole && Number.isInteger(x) && Number.isInteger(y)) return y === 0 ? undefined : Math.trunc(x / y);
      return x / y;
    case "%":
      return y === 0 ? undefined : x % y;
  }
}

function compileMap({ entries }: Expression & { readonly kind: "map" }, context: Context): Read {
  const pairs = entries.map(([key, value]) => [compile(key, context), compile(value, context)] as const);
  return (subject) => {
    const values = new Map<Value, Value>();
    for (const [key, value] of pairs) {
      const at = key(subject);
      if (at === undefined || values.has(at)) return undefined;
      values.set(at, value(subject));
    }
    return new Table(values);
  };
}

function compileEach({ macro, of, name, step }: Expression & { readonly kind: "each" }, context: Context): Read {
  const list = compile(of, context);
  const local: Local = { value: undefined };
  const each = compile(step, { ...context, locals: new Map([...context.locals, [name, local]]) });
  const { steps } = context;
  return (subject) => {
    const items = list(subject);
    if (!isList(items)) return undefined;
    const results: Value[] = [];
    for (const item of items) {
      if (--steps.left < 0) return undefined;
      local.value = item;
      const result = each(subject);
      // What decides does so, whatever other items come to.
      if (result === deciding[macro]) return result;
      results.push(result);
    }
    switch (macro) {
      case "all":
        return results.includes(undefined) ? undefined : true;
      case "exists":
        return results.includes(undefined) ? undefined : false;
      case "exists_one":
        return results.includes(undefined) ? undefined : results.filter((result) => result === true).length === 1;
      case "filter":
        return results.includes(undefined) ? undefined : items.filter((_, index) => results[index] === true);
      case "map":
        return results.includes(undefined) ? undefined : results;
    }
  };
}

const never = Symbol("never");
const deciding: Readonly<Record<Macro, boolean | typeof never>> = {
  all: false,
  exists: true,
  exists_one: never,
  filter: never,
  map: never,
};

function compileCall({ name, target, args }: Expression & { readonly kind: "call" }, context: Context): Read {
  const all = target === undefined ? args : [target, ...args];
  const values = all.map((each) => compile(each, context));
  const [first, second] = all;
  if (name === "matches" && second?.kind === "literal" && first !== undefined) {
    const pattern = RE2JS.compile(String(second.value));
    const subjectOf = compile(first, context);
    return (subject) => {
      const text = subjectOf(subject);
      return typeof text === "string" ? pattern.test(text) : undefined;
    };
  }
  // Checked already.
  if (name === "matches") return () => undefined;
  return (subject) => {
    const known = values.map((each) => each(subject));
    return known.includes(undefined) ? undefined : callFunction(name, known);
  };
}
