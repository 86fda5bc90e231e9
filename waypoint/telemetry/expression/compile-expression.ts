/** Expression → function. An error anywhere is `undefined`, unless `||`, `&&` or a choice can do without that part. */
import { RE2JS } from "re2js";
import { unknownAttribute, keyOf } from "#shared/expressions/known-attributes.ts";
import { parseExpression } from "#shared/expressions/parse-expression.ts";
import type { Expression } from "#shared/expressions/syntax.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { Subject } from "#waypoint/telemetry/subject.ts";
import { attribute, wholeOf, type NodeFacts, type Read } from "./attributes.ts";
import { callFunction } from "./functions.ts";
import { areEqual, isList, isMembers, order, Moment, Span, type Value } from "./values.ts";

/** What cannot be read is reported and yields nothing. */
export function compileExpression(text: string, node: NodeFacts, path: string, problem: Problem): Read {
  try {
    const tree = parseExpression(text);
    const unknown = unknownAttribute(tree);
    if (unknown === undefined) return compile(tree, node);
    problem(path, `"${text}": ${unknown}`);
  } catch (error) {
    problem(path, `"${text}": ${error instanceof Error ? error.message : String(error)}`);
  }
  return () => undefined;
}

function compile(expression: Expression, node: NodeFacts): Read {
  switch (expression.kind) {
    case "literal": {
      const { value } = expression;
      return () => value;
    }
    case "list": {
      const items = expression.items.map((item) => compile(item, node));
      return (subject) => items.map((item) => item(subject));
    }
    case "name":
      return wholeOf(expression.name, node);
    case "member":
    case "index":
      return compileAccess(expression, node);
    case "has": {
      const member = compile(expression.member, node);
      return (subject) => member(subject) !== undefined;
    }
    case "not": {
      const of = compile(expression.of, node);
      return (subject) => {
        const value = of(subject);
        return typeof value === "boolean" ? !value : undefined;
      };
    }
    case "minus": {
      const of = compile(expression.of, node);
      return (subject) => {
        const value = of(subject);
        return typeof value === "number" ? -value : undefined;
      };
    }
    case "choice": {
      const [test, yes, no] = [expression.test, expression.yes, expression.no].map((each) => compile(each, node));
      return (subject) => {
        const decided = test?.(subject);
        return typeof decided === "boolean" ? (decided ? yes : no)?.(subject) : undefined;
      };
    }
    case "binary":
      return compileBinary(expression, node);
    case "call":
      return compileCall(expression, node);
  }
}

function compileAccess(expression: Expression & { readonly kind: "member" | "index" }, node: NodeFacts): Read {
  const key = keyOf(expression);
  const { of } = expression;
  if (of.kind === "name" && key !== undefined) return attribute(of.name, key, node) ?? (() => undefined);
  const target = compile(of, node);
  const at: Read = key === undefined && expression.kind === "index" ? compile(expression.at, node) : () => key;
  return (subject) => {
    const [value, wanted] = [target(subject), at(subject)];
    if (isList(value)) return typeof wanted === "number" ? value[wanted] : undefined;
    return isMembers(value) && typeof wanted === "string" ? value.member(wanted) : undefined;
  };
}

function compileBinary(
  { operator, left: a, right: b }: Expression & { readonly kind: "binary" },
  node: NodeFacts,
): Read {
  const [left, right] = [compile(a, node), compile(b, node)];
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
        return isMembers(y) && typeof x === "string" ? y.member(x) !== undefined : undefined;
      });
    case "+":
    case "-":
    case "*":
    case "/":
    case "%":
      return both((x, y) => calculate(operator, x, y));
  }
}

function calculate(operator: "+" | "-" | "*" | "/" | "%", x: Value, y: Value): Value {
  if (typeof x === "string" && typeof y === "string") return operator === "+" ? x + y : undefined;
  if (isList(x) && isList(y)) return operator === "+" ? [...x, ...y] : undefined;
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
      if (Number.isInteger(x) && Number.isInteger(y)) return y === 0 ? undefined : Math.trunc(x / y);
      return x / y;
    case "%":
      return y === 0 ? undefined : x % y;
  }
}

/** @throws where a pattern is not RE2 */
function compileCall({ name, target, args }: Expression & { readonly kind: "call" }, node: NodeFacts): Read {
  const all = target === undefined ? args : [target, ...args];
  const values = all.map((each) => compile(each, node));
  const [first, second] = all;
  if (name === "matches" && second?.kind === "literal" && first !== undefined) {
    const pattern = RE2JS.compile(String(second.value));
    const subjectOf = compile(first, node);
    return (subject) => {
      const text = subjectOf(subject);
      return typeof text === "string" ? pattern.test(text) : undefined;
    };
  }
  if (name === "matches") throw new Error("matches() needs its pattern written out");
  return (subject) => {
    const known = values.map((each) => each(subject));
    return known.includes(undefined) ? undefined : callFunction(name, known);
  };
}
