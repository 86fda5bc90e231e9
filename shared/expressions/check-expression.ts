/** What type an expression comes to, or why it never comes to anything. Nothing is evaluated. */
import { RE2JS } from "re2js";
import { parseExpression } from "./parse-expression.ts";
import { methods, type BinaryOperator, type Expression } from "./syntax.ts";
import { ExpressionError } from "./tokens.ts";
import {
  any,
  areComparable,
  bool,
  double,
  duration,
  eitherOf,
  int,
  isNumber,
  listOf,
  mapOf,
  string,
  timestamp,
  typeName,
  type Type,
} from "./types.ts";
import { allAttributes, type Vocabulary } from "./vocabularies.ts";

/** Of a compiled pattern: as many as a waypoint takes anywhere. */
const mostPatternSteps = 32_768;

/** What it has to come to; left out: anything that is one value. */
export type Wanted = "bool" | "string" | "int" | undefined;

/** What an author has to mend; undefined where nothing. */
export function expressionProblem(
  text: string,
  vocabulary: Vocabulary = allAttributes,
  wanted?: Wanted,
): string | undefined {
  try {
    checkExpression(parseExpression(text), vocabulary, wanted);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** @throws ExpressionError in words for the author */
export function checkExpression(expression: Expression, vocabulary: Vocabulary, wanted?: Wanted): Type {
  const type = typeOf(expression, new Map(), vocabulary);
  if (!fits(type, wanted)) {
    throw new ExpressionError(`it comes to ${article(type)}, ${wanted} is wanted: the expression`, startOf(expression));
  }
  return type;
}

function fits(type: Type, wanted: Wanted): boolean {
  switch (wanted) {
    case undefined:
      return true;
    case "bool":
      return is(type, "bool");
    case "int":
      return isNumber(type);
    case "string":
      // Numbers and truths have a text, too.
      return is(type, "string", "int", "double", "bool");
  }
}

type Locals = ReadonlyMap<string, Type>;

const is = ({ kind }: Type, ...kinds: readonly Type["kind"][]): boolean => kind === "any" || kinds.includes(kind);
const article = (type: Type): string => (/^[aeiou]/.test(typeName(type)) ? "an " : "a ") + typeName(type);

function typeOf(expression: Expression, locals: Locals, vocabulary: Vocabulary): Type {
  const inner = (each: Expression): Type => typeOf(each, locals, vocabulary);
  switch (expression.kind) {
    case "literal":
      return literalType(expression);
    case "list":
      return listOf(common(expression.items.map(inner)));
    case "map": {
      const keys = expression.entries.map(([key]) => {
        const type = inner(key);
        if (!is(type, "string", "int", "bool")) throw new ExpressionError(`${article(type)} is no key`, startOf(key));
        return type;
      });
      return mapOf(common(expression.entries.map(([, value]) => inner(value))), common(keys));
    }
    case "name":
      return nameType(expression, locals, vocabulary);
    case "member":
    case "index":
      return accessType(expression, inner);
    case "has":
      inner(expression.member);
      return bool;
    case "each":
      return eachType(expression, locals, vocabulary);
    case "call":
      return callType(
        expression,
        expression.target && inner(expression.target),
        expression.args.map((each) => inner(each)),
      );
    case "not":
      return demand(expression.of, inner(expression.of), "! needs", "bool");
    case "minus":
      return demand(expression.of, inner(expression.of), "- needs", "int", "double", "duration");
    case "binary":
      return binaryType(expression, inner);
    case "choice": {
      demand(expression.test, inner(expression.test), "before ? stands", "bool");
      return eitherOf(inner(expression.yes), inner(expression.no));
    }
  }
}

/** The type, where it is one of these. */
function demand(expression: Expression, type: Type, what: string, ...kinds: readonly Type["kind"][]): Type {
  if (is(type, ...kinds)) return type;
  throw new ExpressionError(`${what} ${kinds.join(" or ")}, not ${typeName(type)},`, startOf(expression));
}

/** Members are found where their name is; what they are members of begins before. */
function startOf(expression: Expression): number {
  if (expression.kind === "member" || expression.kind === "index" || expression.kind === "each") {
    return startOf(expression.of);
  }
  return expression.kind === "call" && expression.target !== undefined ? startOf(expression.target) : expression.at;
}

const common = (types: readonly Type[]): Type => {
  const [first, ...more] = types;
  return first === undefined ? any : more.reduce(eitherOf, first);
};

function literalType({ value, isDouble }: Expression & { readonly kind: "literal" }): Type {
  if (typeof value === "string") return string;
  if (typeof value === "boolean") return bool;
  if (typeof value === "number") return isDouble === true ? double : int;
  return { kind: "null" };
}

function nameType({ name, at }: Expression & { readonly kind: "name" }, locals: Locals, vocabulary: Vocabulary): Type {
  const local = locals.get(name);
  if (local !== undefined) return local;
  const found = Object.hasOwn(vocabulary, name) ? vocabulary[name] : undefined;
  if (found !== undefined) return found;
  throw new ExpressionError(`attribute "${name}" is not known; known are ${Object.keys(vocabulary).join(", ")}:`, at);
}

function accessType(
  expression: Expression & { readonly kind: "member" | "index" },
  inner: (each: Expression) => Type,
): Type {
  const { of, at } = expression;
  const type = inner(of);
  const key = keyOf(expression);
  const noMembers = () => new ExpressionError(`${article(type)} has no members`, at);
  switch (type.kind) {
    case "any":
      if (expression.kind === "index") inner(expression.by);
      return any;
    case "object": {
      if (key === undefined) return any;
      const member = Object.hasOwn(type.members, key) ? type.members[key] : undefined;
      if (member !== undefined) return member;
      const known = Object.keys(type.members).join(", ");
      throw new ExpressionError(`attribute "${pathOf(of)}.${key}" is not known; known are ${known}:`, at);
    }
    case "map":
      if (expression.kind === "index" && !areComparable(inner(expression.by), type.key)) {
        throw new ExpressionError(`its keys are ${typeName(type.key)}, not ${typeName(inner(expression.by))},`, at);
      }
      return type.of;
    case "list":
      if (expression.kind === "index") {
        demand(expression.by, inner(expression.by), "the place in a list is", "int");
        return type.of;
      }
      throw noMembers();
    case "bool":
    case "int":
    case "double":
    case "string":
    case "timestamp":
    case "duration":
    case "null":
      throw noMembers();
  }
}

function pathOf(expression: Expression): string {
  if (expression.kind === "name") return expression.name;
  return expression.kind === "member" ? `${pathOf(expression.of)}.${expression.name}` : "…";
}

/** The name in `a.name` and `a["name"]`. */
export function keyOf(expression: Expression & { readonly kind: "member" | "index" }): string | undefined {
  if (expression.kind === "member") return expression.name;
  return expression.by.kind === "literal" && typeof expression.by.value === "string" ? expression.by.value : undefined;
}

function eachType(
  { macro, of, name, step }: Expression & { readonly kind: "each" },
  locals: Locals,
  vocabulary: Vocabulary,
): Type {
  const list = typeOf(of, locals, vocabulary);
  if (!is(list, "list")) throw new ExpressionError(`${macro}() is for lists, not ${typeName(list)},`, startOf(of));
  const item = list.kind === "list" ? list.of : any;
  const type = typeOf(step, new Map([...locals, [name, item]]), vocabulary);
  if (macro === "map") return listOf(type);
  demand(step, type, `${macro}() asks a`, "bool");
  return macro === "filter" ? list : bool;
}

function binaryType(
  { operator, left, right, at }: Expression & { readonly kind: "binary" },
  inner: (each: Expression) => Type,
): Type {
  const [a, b] = [inner(left), inner(right)];
  const mismatch = (): ExpressionError =>
    new ExpressionError(`${operator} does not go with ${typeName(a)} and ${typeName(b)}`, at);
  switch (operator) {
    case "&&":
    case "||":
      demand(left, a, `${operator} needs`, "bool");
      demand(right, b, `${operator} needs`, "bool");
      return bool;
    case "==":
    case "!=":
      if (!areComparable(a, b)) throw mismatch();
      return bool;
    case "<":
    case "<=":
    case ">":
    case ">=":
      if (!areComparable(a, b) || !isOrdered(a) || !isOrdered(b)) throw mismatch();
      return bool;
    case "in": {
      const keys = b.kind === "list" ? b.of : b.kind === "map" ? b.key : b.kind === "any" ? any : undefined;
      if (keys === undefined || !areComparable(a, keys)) throw mismatch();
      return bool;
    }
    case "+":
    case "-":
    case "*":
    case "/":
    case "%": {
      const type = resultType(operator, a, b);
      if (type === undefined) throw mismatch();
      return type;
    }
  }
}

const isOrdered = (type: Type): boolean => is(type, "int", "double", "string", "timestamp", "duration");

function resultType(operator: BinaryOperator, a: Type, b: Type): Type | undefined {
  if (a.kind === "any" || b.kind === "any") {
    const other = a.kind === "any" ? b : a;
    return is(other, "int", "double") || operator === "+" || operator === "-" ? any : undefined;
  }
  if (isNumber(a) && isNumber(b)) return a.kind === "double" || b.kind === "double" ? double : int;
  if (operator === "+" && a.kind === "string" && b.kind === "string") return string;
  if (operator === "+" && a.kind === "list" && b.kind === "list") return eitherOf(a, b);
  if (operator !== "+" && operator !== "-") return undefined;
  const kinds = `${a.kind} ${b.kind}`;
  if (kinds === "duration duration") return duration;
  if (kinds === "timestamp duration") return timestamp;
  if (kinds === "duration timestamp" && operator === "+") return timestamp;
  return kinds === "timestamp timestamp" && operator === "-" ? duration : undefined;
}

type Call = Expression & { readonly kind: "call" };

function callType(call: Call, target: Type | undefined, given: readonly Type[]): Type {
  const { name, at } = call;
  const types = target === undefined ? given : [target, ...given];
  const nodes = call.target === undefined ? call.args : [call.target, ...call.args];
  const wants = (...kinds: readonly (readonly Type["kind"][])[]): void => {
    for (const [index, each] of kinds.entries()) {
      demand(nodes[index] ?? call, types[index] ?? any, `${name}() takes`, ...each);
    }
  };
  if (target !== undefined && !Object.hasOwn(methods, name)) {
    throw new ExpressionError(`${name}() is written before its value: ${name}(x)`, at);
  }
  switch (name) {
    case "startsWith":
    case "endsWith":
    case "contains":
      wants(["string"], ["string"]);
      return bool;
    case "matches":
      wants(["string"], ["string"]);
      checkPattern(nodes[1] ?? call);
      return bool;
    case "lowerAscii":
    case "upperAscii":
    case "trim":
      wants(["string"]);
      return string;
    case "replace":
      wants(["string"], ["string"], ["string"]);
      return string;
    case "substring":
      wants(["string"], ["int"], ["int"]);
      return string;
    case "split":
      wants(["string"], ["string"]);
      return listOf(string);
    case "join":
      wants(["list"], ["string"]);
      return string;
    case "indexOf":
      wants(["string"], ["string"]);
      return int;
    case "size":
      wants(["string", "list", "map"]);
      return int;
    case "getHours":
    case "getMinutes":
    case "getSeconds":
      wants(["timestamp", "duration"]);
      return int;
    case "getFullYear":
    case "getMonth":
    case "getDate":
    case "getDayOfWeek":
      wants(["timestamp"]);
      return int;
    case "string":
      wants(["string", "int", "double", "bool", "timestamp", "duration"]);
      return string;
    case "int":
      wants(["string", "int", "double", "timestamp"]);
      return int;
    case "uint":
      wants(["string", "int", "double"]);
      return int;
    case "double":
      wants(["string", "int", "double"]);
      return double;
    case "duration":
      wants(["string", "duration"]);
      return duration;
    case "timestamp":
      wants(["string", "timestamp"]);
      return timestamp;
  }
}

function checkPattern(node: Expression): void {
  if (node.kind !== "literal" || typeof node.value !== "string") {
    throw new ExpressionError("matches() needs its pattern written out", node.at);
  }
  let steps: number;
  try {
    steps = RE2JS.compile(node.value).programSize();
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message.replace("error parsing regexp: ", "") : String(thrown);
    throw new ExpressionError(`the pattern is not RE2 (${reason})`, node.at);
  }
  if (steps > mostPatternSteps) {
    throw new ExpressionError(`the pattern needs ${steps} steps, limit ${mostPatternSteps},`, node.at);
  }
}
