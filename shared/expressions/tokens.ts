/** Text of an expression → its tokens. */
import type { BinaryOperator } from "./syntax.ts";

export type Token =
  | { readonly kind: "text"; readonly value: string; readonly at: number }
  | { readonly kind: "number"; readonly value: number; readonly isDouble: boolean; readonly at: number }
  | { readonly kind: "name"; readonly value: string; readonly at: number }
  | { readonly kind: "sign"; readonly value: Sign; readonly at: number }
  | { readonly kind: "end"; readonly value: ""; readonly at: number };

export type Sign = Exclude<BinaryOperator, "in"> | "!" | "(" | ")" | "[" | "]" | "{" | "}" | "." | "," | "?" | ":";

export class ExpressionError extends Error {
  /** @param at place in the text, from 0; people count from 1 */
  constructor(message: string, at?: number) {
    super(at === undefined ? message : `${message} at position ${at + 1}`);
  }
}

const space = /\s+/y;
const number = /0[xX][0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\d+)(?:[eE][+-]?\d+)?[uU]?|\.\d+(?:[eE][+-]?\d+)?/y;
const name = /[A-Za-z_][A-Za-z0-9_]*/y;
const quoted = /([rR]?)("(?:[^"\\\n]|\\[\s\S])*"|'(?:[^'\\\n]|\\[\s\S])*')/y;
const sign = /\|\||&&|==|!=|<=|>=|[<>+\-*/%!()[\]{}.,?:]/y;

export function tokenize(text: string): readonly Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const read = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    return pattern.exec(text);
  };
  for (;;) {
    at += read(space)?.[0].length ?? 0;
    if (at >= text.length) break;
    const string = read(quoted);
    if (string !== null) {
      const [whole, raw, body = ""] = string;
      const inner = body.slice(1, -1);
      tokens.push({ kind: "text", value: raw === "" ? unescape(inner, at) : inner, at });
      at += whole.length;
      continue;
    }
    const digits = read(number);
    if (digits !== null) {
      tokens.push(numberToken(digits[0], at));
      at += digits[0].length;
      continue;
    }
    const word = read(name)?.[0];
    if (word !== undefined) {
      tokens.push({ kind: "name", value: word, at });
      at += word.length;
      continue;
    }
    const mark = read(sign)?.[0];
    if (mark === undefined) throw new ExpressionError(`"${text[at] ?? ""}" at position ${at + 1} begins nothing`);
    tokens.push({ kind: "sign", value: mark as Sign, at });
    at += mark.length;
  }
  tokens.push({ kind: "end", value: "", at });
  return tokens;
}

function numberToken(text: string, at: number): Token {
  const isHex = /^0[xX]/.test(text);
  const isDouble = !isHex && /[.eE]/.test(text);
  const value = Number(text.replace(/[uU]$/, ""));
  if (!Number.isFinite(value) || (!isDouble && !Number.isSafeInteger(value))) {
    throw new ExpressionError(`the number ${text.slice(0, 32)} is too large`, at);
  }
  return { kind: "number", value, isDouble, at };
}

const plain: Readonly<Record<string, string>> = {
  a: "\u0007",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
  "\\": "\\",
  '"': '"',
  "'": "'",
  "`": "`",
  "?": "?",
};

function unescape(text: string, at: number): string {
  return text.replace(
    /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([0-3][0-7]{2})|([\s\S]))/g,
    (whole, hex?: string, unicode?: string, octal?: string, letter?: string) => {
      const code = hex ?? unicode;
      if (code !== undefined) return String.fromCharCode(Number.parseInt(code, 16));
      if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8));
      const character = plain[letter ?? ""];
      if (character === undefined)
        throw new ExpressionError(`"${whole}" in the text at position ${at + 1} is no escape`);
      return character;
    },
  );
}
