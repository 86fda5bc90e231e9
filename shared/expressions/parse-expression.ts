/** Text → {@link Expression}, or what is wrong with it. */
import { functions, macros, methods, type BinaryOperator, type Expression, type FunctionName } from "./syntax.ts";
import { ExpressionError, tokenize, type Sign, type Token } from "./tokens.ts";

/** Nobody writes longer ones by hand; trees are walked recursively. */
const longest = 4_096;
const deepest = 64;

/** @throws ExpressionError in words for the author */
export function parseExpression(text: string): Expression {
  if (text.length > longest) throw new ExpressionError(`it has ${text.length} characters, limit ${longest}`);
  return new Parser(tokenize(text)).whole();
}

/** Weakest first. */
const levels: readonly (readonly BinaryOperator[])[] = [
  ["||"],
  ["&&"],
  ["==", "!=", "<", "<=", ">", ">=", "in"],
  ["+", "-"],
  ["*", "/", "%"],
];

const constants = new Map<string, boolean | null>([
  ["true", true],
  ["false", false],
  ["null", null],
]);

class Parser {
  readonly #tokens: readonly Token[];
  #next = 0;
  #depth = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  whole(): Expression {
    const expression = this.#choice();
    if (this.#peek().kind !== "end") throw this.#unexpected("the end");
    return expression;
  }

  #choice(): Expression {
    if (++this.#depth > deepest) throw new ExpressionError(`it is nested deeper than ${deepest}`);
    const { at } = this.#peek();
    const test = this.#binary(0);
    if (!this.#takes("?")) {
      this.#depth--;
      return test;
    }
    const yes = this.#binary(0);
    this.#expect(":");
    const no = this.#choice();
    this.#depth--;
    return { kind: "choice", at, test, yes, no };
  }

  #binary(level: number): Expression {
    const operators = levels[level];
    if (operators === undefined) return this.#unary();
    const { at } = this.#peek();
    let left = this.#binary(level + 1);
    for (;;) {
      const { kind, value } = this.#peek();
      const operator = kind === "sign" || kind === "name" ? operators.find((each) => each === value) : undefined;
      if (operator === undefined) return left;
      this.#next++;
      left = { kind: "binary", at, operator, left, right: this.#binary(level + 1) };
    }
  }

  #unary(): Expression {
    let signs = 0;
    const first = this.#peek();
    const mark = first.kind === "sign" && (first.value === "!" || first.value === "-") ? first.value : undefined;
    if (mark === undefined) return this.#postfix();
    while (this.#takes(mark)) signs++;
    const of = this.#postfix();
    if (signs > deepest) throw new ExpressionError(`it is nested deeper than ${deepest}`);
    let whole = of;
    for (; signs > 0; signs--) whole = { kind: mark === "!" ? "not" : "minus", at: first.at, of: whole };
    return whole;
  }

  #postfix(): Expression {
    let of = this.#primary();
    for (;;) {
      if (this.#takes(".")) {
        const { at } = this.#peek();
        const name = this.#name();
        of = this.#takes("(") ? this.#call(name, of, at) : { kind: "member", at, of, name };
      } else if (this.#takes("[")) {
        const { at } = this.#peek();
        const by = this.#choice();
        this.#expect("]");
        of = { kind: "index", at, of, by };
      } else return of;
    }
  }

  #primary(): Expression {
    const token = this.#peek();
    const { at } = token;
    if (token.kind === "text") {
      this.#next++;
      return { kind: "literal", at, value: token.value };
    }
    if (token.kind === "number") {
      this.#next++;
      return { kind: "literal", at, value: token.value, isDouble: token.isDouble };
    }
    if (this.#takes("(")) {
      const inner = this.#choice();
      this.#expect(")");
      return inner;
    }
    if (this.#takes("[")) return { kind: "list", at, items: this.#list("]") };
    if (this.#takes("{")) return { kind: "map", at, entries: this.#entries() };
    if (token.kind !== "name") throw this.#unexpected("a value");
    this.#next++;
    const constant = constants.get(token.value);
    if (constant !== undefined) return { kind: "literal", at, value: constant };
    return this.#takes("(") ? this.#call(token.value, undefined, at) : { kind: "name", at, name: token.value };
  }

  #call(name: string, target: Expression | undefined, at: number): Expression {
    const args = this.#list(")");
    const macro = target === undefined ? undefined : macros.find((each) => each === name);
    if (macro !== undefined && target !== undefined) {
      const [variable, step] = args;
      if (variable?.kind !== "name" || step === undefined || args.length !== 2) {
        throw new ExpressionError(`${name}() takes a name and an expression, such as list.${name}(x, x > 1)`, at);
      }
      return { kind: "each", at, macro, of: target, name: variable.name, step };
    }
    if (target === undefined && name === "has") {
      const [member] = args;
      if (member?.kind === "member" && args.length === 1) return { kind: "has", at, member };
      throw new ExpressionError("has() takes one member of something, such as has(request.host)", at);
    }
    const known: Readonly<Record<string, number>> = target === undefined ? functions : methods;
    const count = Object.hasOwn(known, name) ? known[name] : undefined;
    if (count === undefined) throw new ExpressionError(`function "${name}" is not known`, at);
    if (count !== args.length) {
      throw new ExpressionError(`${name}() takes ${count} arguments, not ${args.length}`, at);
    }
    return { kind: "call", at, target, name: name as FunctionName, args };
  }

  #entries(): readonly (readonly [Expression, Expression])[] {
    const entries: (readonly [Expression, Expression])[] = [];
    if (this.#takes("}")) return entries;
    do {
      const key = this.#choice();
      this.#expect(":");
      entries.push([key, this.#choice()]);
    } while (this.#takes(","));
    this.#expect("}");
    return entries;
  }

  #list(end: Sign): readonly Expression[] {
    const items: Expression[] = [];
    if (this.#takes(end)) return items;
    do items.push(this.#choice());
    while (this.#takes(","));
    this.#expect(end);
    return items;
  }

  #name(): string {
    const token = this.#peek();
    if (token.kind !== "name") throw this.#unexpected("a name");
    this.#next++;
    return token.value;
  }

  #peek(): Token {
    return this.#tokens[this.#next] as Token;
  }

  #takes(sign: Sign): boolean {
    const { kind, value } = this.#peek();
    if (kind !== "sign" || value !== sign) return false;
    this.#next++;
    return true;
  }

  #expect(sign: Sign): void {
    if (!this.#takes(sign)) throw this.#unexpected(`"${sign}"`);
  }

  #unexpected(wanted: string): ExpressionError {
    const { kind, value, at } = this.#peek();
    const found = kind === "end" ? "the end" : `"${value}"`;
    return new ExpressionError(`expected ${wanted} at position ${at + 1}, found ${found}`);
  }
}
