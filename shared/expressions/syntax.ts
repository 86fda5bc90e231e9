/** Expressions of telemetry and of rate limits: the part of CEL that has a use at a proxy, as a tree. */

/** Where it begins in the text, from 0. */
interface Placed {
  readonly at: number;
}

export type Expression = Placed &
  (
    | { readonly kind: "literal"; readonly value: string | number | boolean | null; readonly isDouble?: boolean }
    | { readonly kind: "list"; readonly items: readonly Expression[] }
    | { readonly kind: "map"; readonly entries: readonly (readonly [key: Expression, value: Expression])[] }
    | { readonly kind: "name"; readonly name: string }
    | { readonly kind: "member"; readonly of: Expression; readonly name: string }
    | { readonly kind: "index"; readonly of: Expression; readonly by: Expression }
    | { readonly kind: "has"; readonly member: Expression & { readonly kind: "member" } }
    | {
        readonly kind: "call";
        /** Undefined for functions such as `size(x)`. */
        readonly target: Expression | undefined;
        readonly name: FunctionName;
        readonly args: readonly Expression[];
      }
    | {
        /** `of.exists(name, step)` and the like: `step` for each item. */
        readonly kind: "each";
        readonly macro: Macro;
        readonly of: Expression;
        readonly name: string;
        readonly step: Expression;
      }
    | { readonly kind: "not" | "minus"; readonly of: Expression }
    | {
        readonly kind: "binary";
        readonly operator: BinaryOperator;
        readonly left: Expression;
        readonly right: Expression;
      }
    | { readonly kind: "choice"; readonly test: Expression; readonly yes: Expression; readonly no: Expression }
  );

export type BinaryOperator = "||" | "&&" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "+" | "-" | "*" | "/" | "%";

export const macros = ["all", "exists", "exists_one", "filter", "map"] as const;
export type Macro = (typeof macros)[number];

/** Name → how many arguments beside the target. */
export const methods = {
  startsWith: 1,
  endsWith: 1,
  contains: 1,
  matches: 1,
  size: 0,
  lowerAscii: 0,
  upperAscii: 0,
  trim: 0,
  split: 1,
  replace: 2,
  substring: 2,
  indexOf: 1,
  join: 1,
  getFullYear: 0,
  getMonth: 0,
  getDate: 0,
  getDayOfWeek: 0,
  getHours: 0,
  getMinutes: 0,
  getSeconds: 0,
} as const;
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
