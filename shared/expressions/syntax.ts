/** Expressions of telemetry: the part of CEL that Istio's users write, as a tree. */

export type Expression =
  | { readonly kind: "literal"; readonly value: string | number | boolean | null }
  | { readonly kind: "list"; readonly items: readonly Expression[] }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "member"; readonly of: Expression; readonly name: string }
  | { readonly kind: "index"; readonly of: Expression; readonly at: Expression }
  | { readonly kind: "has"; readonly member: Expression & { readonly kind: "member" } }
  | {
      readonly kind: "call";
      /** Undefined for functions such as `size(x)`. */
      readonly target: Expression | undefined;
      readonly name: FunctionName;
      readonly args: readonly Expression[];
    }
  | { readonly kind: "not" | "minus"; readonly of: Expression }
  | {
      readonly kind: "binary";
      readonly operator: BinaryOperator;
      readonly left: Expression;
      readonly right: Expression;
    }
  | { readonly kind: "choice"; readonly test: Expression; readonly yes: Expression; readonly no: Expression };

export type BinaryOperator = "||" | "&&" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "+" | "-" | "*" | "/" | "%";

/** Name → how many arguments beside the target. */
export const methods = { startsWith: 1, endsWith: 1, contains: 1, matches: 1, size: 0, lowerAscii: 0 } as const;
export const functions = {
  size: 1,
  string: 1,
  int: 1,
  uint: 1,
  double: 1,
  duration: 1,
  timestamp: 1,
  matches: 2,
} as const;

export type FunctionName = keyof typeof methods | keyof typeof functions;
