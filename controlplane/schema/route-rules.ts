/**
 * What an API server can refuse of a route by itself, as rules of the CRD: the same as in `route-checks.ts`, of which every
 * rule says it for users who look at kubectl. The fields that defaults fill are always there.
 */
/** For the `meta` of a form. */
export type Rules = { readonly "x-kubernetes-validations": readonly Rule[] };

interface Rule {
  readonly rule: string;
  /** Also where the expression cannot be evaluated. */
  readonly message: string;
  /** In CEL, to quote values. */
  readonly messageExpression?: string;
}

type Written = readonly [rule: string, message: string, messageExpression?: string];

export const rules = (...list: readonly Written[]): Rules => ({
  "x-kubernetes-validations": list.map(([rule, message, messageExpression]) => ({
    rule,
    message,
    ...(messageExpression === undefined ? {} : { messageExpression }),
  })),
});

/** Both have the same value, or neither has one. API servers find an alternative by `? :` too dear for long lists. */
const same = (field: string): string =>
  `has(a.${field}) == has(b.${field}) && (!has(a.${field}) || a.${field} == b.${field})`;
const unplaced = (name: string): string => `(!has(${name}.sectionName) && !has(${name}.port))`;

/** A reference overlaps itself, and must overlap no other. */
export const parentRules = rules([
  `self.all(a, self.exists_one(b, a.group == b.group && a.kind == b.kind && a.name == b.name && ${same("__namespace__")} && (${unplaced("a")} || ${unplaced("b")} || (${same("sectionName")} && ${same("port")}))))`,
  "references to one parent must be told apart by sectionName or port, in each of them",
]);

export const backendRules = rules([
  "self.group != '' || self.kind != 'Service' || has(self.port)",
  "a Service is called on a port: port must be set",
]);

const isText = "self.type == 'RegularExpression'";

/** In the message, quoted as it was written. */
const path = `'path "' + self.value + '"`;

const badInPath = (test: "contains" | "endsWith", part: string): Written => [
  `${isText} || !self.value.${test}('${part}')`,
  `value must not contain "${part}": write the path as requests carry it`,
  `${path} contains "${part}": write the path as requests carry it'`,
];

export const pathRules = rules(
  [
    `${isText} || self.value.startsWith('/')`,
    "value must begin with a slash",
    `${path} does not begin with a slash: write "/' + self.value + '"'`,
  ],
  ...["//", "/./", "/../", "%2f", "%2F", "#"].map((part) => badInPath("contains", part)),
  ...["/..", "/."].map((part) => badInPath("endsWith", part)),
  [
    `${isText} || self.value.matches('^(?:[-A-Za-z0-9/._~!$&()*+,;=:@\\x27]|%[0-9a-fA-F]{2})*$')`,
    "value must consist of letters that paths have: escape others, such as %20 for a space",
    `${path} has letters that no path has: escape them, such as %20 for a space'`,
  ],
);

export const grpcMethodRules = rules(
  ["has(self.service) || has(self.method)", "service or method must be set"],
  [
    `${isText} || !has(self.service) || self.service.matches('^(?i)[.]?[a-z_][a-z_0-9]*([.][a-z_][a-z_0-9]*)*$')`,
    "service must be the full name of a gRPC service, such as shop.Cart",
  ],
  [
    `${isText} || !has(self.method) || self.method.matches('^[A-Za-z_][A-Za-z_0-9]*$')`,
    "method must be the name of a gRPC method, such as AddItem",
  ],
);

/** `fields`: of each type of filter, the field that it is told in. */
export const filterRules = (fields: Readonly<Record<string, string>>): Rules =>
  rules(
    ...Object.entries(fields).map(
      ([type, field]) =>
        [
          `(self.type == '${type}') == has(self.${field})`,
          `${field} and type ${type} belong together`,
        ] satisfies Written,
    ),
  );

const repeatable = "f.type == 'RequestMirror' || f.type == 'ExtensionRef'";

export const filterListRules = rules(
  [
    `self.all(f, ${repeatable} || self.exists_one(g, g.type == f.type))`,
    "no type but RequestMirror and ExtensionRef can be used twice",
  ],
  [
    "!(self.exists(f, f.type == 'RequestRedirect') && self.exists(f, f.type == 'URLRewrite'))",
    "RequestRedirect and URLRewrite cannot be combined: keep one of them",
  ],
);

export const pathChangeRules = rules(
  [
    "(self.type == 'ReplaceFullPath') == has(self.replaceFullPath)",
    "replaceFullPath and type ReplaceFullPath belong together",
  ],
  [
    "(self.type == 'ReplacePrefixMatch') == has(self.replacePrefixMatch)",
    "replacePrefixMatch and type ReplacePrefixMatch belong together",
  ],
);

export const mirrorRules = rules([
  "!has(self.percent) || !has(self.fraction)",
  "only one of percent and fraction can be set",
]);
export const fractionRules = rules(["self.numerator <= self.denominator", "numerator must not exceed denominator"]);
export const starRules = rules(["size(self) == 1 || !self.exists(each, each == '*')", "* must stand alone"]);

export const timeoutRules = rules([
  "!has(self.request) || !has(self.backendRequest) || duration(self.request) == duration('0s') || duration(self.backendRequest) <= duration(self.request)",
  "backendRequest must not exceed request, the time of the whole",
  "'backendRequest ' + self.backendRequest + ' must not exceed request ' + self.request + ', the time of the whole'",
]);

const changesPrefix = (field: string): string =>
  `has(f.${field}) && has(f.${field}.path) && f.${field}.path.type == 'ReplacePrefixMatch'`;

export const httpRuleRules = rules(
  [
    "!has(self.backendRefs) || size(self.backendRefs) == 0 || !has(self.filters) || !self.filters.exists(f, f.type == 'RequestRedirect')",
    "a rule that redirects has no backendRefs",
  ],
  [
    `!has(self.filters) || !self.filters.exists(f, (${changesPrefix("requestRedirect")}) || (${changesPrefix("urlRewrite")})) || !has(self.matches) || size(self.matches) == 0 || (size(self.matches) == 1 && (!has(self.matches[0].path) || self.matches[0].path.type == 'PathPrefix'))`,
    "ReplacePrefixMatch requires exactly one PathPrefix match in the rule: write one, or use ReplaceFullPath",
  ],
);

export const ruleListRules = rules(
  [
    "self.map(each, has(each.matches) ? size(each.matches) : 0).sum() <= 128",
    "a route has at most 128 matches: split it",
  ],
  [uniqueNames(), "names of rules must be unique"],
);

export const l4RuleListRules = rules([uniqueNames(), "names of rules must be unique"]);

function uniqueNames(): string {
  return "self.all(a, !has(a.name) || self.exists_one(b, has(b.name) && b.name == a.name))";
}
