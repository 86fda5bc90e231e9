/*
 * The part of CEL (the Common Expression Language) that validation rules of CRDs are written in: the whole operator
 * grammar, macros and member calls. Functions are the evaluator's business.
 */

export type Expression =
  | { readonly is: "literal"; readonly value: unknown }
  | { readonly is: "name"; readonly name: string }
  | { readonly is: "field"; readonly of: Expression; readonly name: string; readonly optional: boolean }
  | { readonly is: "index"; readonly of: Expression; readonly at: Expression }
  | { readonly is: "call"; readonly name: string; readonly of?: Expression; readonly args: readonly Expression[] }
  | { readonly is: "unary"; readonly operator: "!" | "-"; readonly of: Expression }
  | { readonly is: "binary"; readonly operator: string; readonly left: Expression; readonly right: Expression }
  | { readonly is: "choice"; readonly test: Expression; readonly met: Expression; readonly unmet: Expression }
  | { readonly is: "list"; readonly items: readonly Expression[] }
  | { readonly is: "map"; readonly entries: readonly (readonly [Expression, Expression])[] };

/** The text is no CEL, or uses a part of it that is not read here. */
export class CelError extends Error {
  override readonly name = "CelError";
}

/** Expressions may nest this deep. */
const maxDepth = 64;
const maxLength = 16_384;

type Token = {
  readonly kind: "number" | "string" | "name" | "sign" | "end";
  readonly text: string;
  readonly value?: unknown;
};

const pattern =
  /\s*(?:\/\/[^\n]*\s*)*(?:(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?u?|0x[0-9a-fA-F]+)|([rR]?(?:"""[^]*?"""|'''[^]*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))|([A-Za-z_]\w*)|(&&|\|\||==|!=|<=|>=|\.\?|\[\?|[-+*/%<>!?:.,()[\]{}]))/uy;

function tokenize(text: string): Token[] {
  if (text.length > maxLength) throw new CelError(`a rule has at most ${maxLength} characters`);
  const tokens: Token[] = [];
  const trimmed = text.trimEnd();
  pattern.lastIndex = 0;
  while (pattern.lastIndex < trimmed.length) {
    const at = pattern.lastIndex;
    const found = pattern.exec(trimmed);
    if (found === null) throw new CelError(`cannot read "${trimmed.slice(at, at + 20)}"`);
    const [, number, quoted, name, sign] = found;
    if (number !== undefined) tokens.push({ kind: "number", text: number, value: Number(number.replace(/u$/u, "")) });
    else if (quoted !== undefined) tokens.push({ kind: "string", text: quoted, value: unquote(quoted) });
    else if (name !== undefined) tokens.push({ kind: "name", text: name });
    else tokens.push({ kind: "sign", text: sign ?? "" });
  }
  tokens.push({ kind: "end", text: "the end" });
  return tokens;
}

const escapes: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", b: "\b", f: "\f", v: "\v", a: "\u0007" };

function unquote(quoted: string): string {
  const isRaw = /^r/iu.test(quoted);
  const body = quoted.replace(/^r/iu, "");
  const fence = /^("""|''')/u.test(body) ? 3 : 1;
  const inner = body.slice(fence, -fence);
  if (isRaw) return inner;
  return inner.replaceAll(
    /\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([^]))/gu,
    (_all, unicode?: string, hex?: string, one = "") => {
      const code = unicode ?? hex;
      return code === undefined
        ? (escapes[one as string] ?? (one as string))
        : String.fromCodePoint(Number.parseInt(code, 16));
    },
  );
}

const precedence: Readonly<Record<string, number>> = {
  "||": 1,
  "&&": 2,
  "==": 3,
  "!=": 3,
  "<": 3,
  "<=": 3,
  ">": 3,
  ">=": 3,
  in: 3,
  "+": 4,
  "-": 4,
  "*": 5,
  "/": 5,
  "%": 5,
};

export function parseCel(text: string): Expression {
  const tokens = tokenize(text);
  let at = 0;
  let depth = 0;
  const peek = () => tokens[at] as Token;
  const take = () => tokens[at++] as Token;
  const isNext = (sign: string) => peek().text === sign && peek().kind !== "string";
  const skip = (sign: string) => {
    const found = isNext(sign);
    if (found) at++;
    return found;
  };
  const expect = (sign: string) => {
    if (!skip(sign)) throw new CelError(`expected "${sign}" before "${peek().text}"`);
  };

  function expression(): Expression {
    if (++depth > maxDepth) throw new CelError(`a rule nests at most ${maxDepth} deep`);
    const test = binary(1);
    depth--;
    if (!skip("?")) return test;
    const met = expression();
    expect(":");
    return { is: "choice", test, met, unmet: expression() };
  }

  function binary(least: number): Expression {
    let left = unary();
    for (
      let power = precedence[peek().text];
      power !== undefined && power >= least && peek().kind !== "string";
      power = precedence[peek().text]
    ) {
      const operator = take().text;
      left = { is: "binary", operator, left, right: binary(power + 1) };
    }
    return left;
  }

  function unary(): Expression {
    if (skip("!")) return { is: "unary", operator: "!", of: unary() };
    if (skip("-")) return { is: "unary", operator: "-", of: unary() };
    return member(primary());
  }

  function member(start: Expression): Expression {
    let of = start;
    for (;;) {
      const optional = isNext(".?");
      if (skip(".") || skip(".?")) {
        const name = fieldName();
        of = !optional && skip("(") ? { is: "call", name, of, args: list(")") } : { is: "field", of, name, optional };
      } else if (skip("[")) {
        const index = expression();
        expect("]");
        of = { is: "index", of, at: index };
      } else return of;
    }
  }

  /** Fields that are words of CEL are written `__namespace__`. */
  function fieldName(): string {
    const { kind, text } = take();
    if (kind !== "name") throw new CelError(`expected a field's name before "${text}"`);
    return text
      .replace(/^__(\w+?)__$/u, "$1")
      .replaceAll("__dot__", ".")
      .replaceAll("__dash__", "-")
      .replaceAll("__slash__", "/");
  }

  function primary(): Expression {
    const token = take();
    if (token.kind === "number" || token.kind === "string") return { is: "literal", value: token.value };
    if (token.kind === "name") return named(token.text);
    switch (token.text) {
      case "(": {
        const inner = expression();
        expect(")");
        return inner;
      }
      case "[":
        return { is: "list", items: list("]") };
      case "{":
        return { is: "map", entries: mapEntries() };
      default:
        throw new CelError(`unexpected "${token.text}"`);
    }
  }

  function named(name: string): Expression {
    if (name === "true" || name === "false") return { is: "literal", value: name === "true" };
    if (name === "null") return { is: "literal", value: null };
    return skip("(") ? { is: "call", name, args: list(")") } : { is: "name", name };
  }

  function list(end: string): Expression[] {
    const items: Expression[] = [];
    while (!skip(end)) {
      items.push(expression());
      if (!skip(",") && !isNext(end)) throw new CelError(`expected "," before "${peek().text}"`);
    }
    return items;
  }

  function mapEntries(): (readonly [Expression, Expression])[] {
    const entries: (readonly [Expression, Expression])[] = [];
    while (!skip("}")) {
      const key = expression();
      expect(":");
      entries.push([key, expression()]);
      if (!skip(",") && !isNext("}")) throw new CelError(`expected "," before "${peek().text}"`);
    }
    return entries;
  }

  const parsed = expression();
  if (peek().kind !== "end") throw new CelError(`unexpected "${peek().text}"`);
  return parsed;
}
