import { checkAttachment } from "./attachment.ts";
import { authorizationSpec } from "./authorization-forms.ts";
import { identityPatternProblem, pathTemplateProblem } from "./authorization-values.ts";
import type { Field } from "./field.ts";
import { age, securityKind, type KindDefinition } from "./kind.ts";
import { suggest } from "./nearest.ts";
import { checkIpBlock, checkPortText } from "./scalars.ts";

const sourceL4 = ["principals", "namespaces", "serviceAccounts", "ipBlocks"];
const conditionKinds = {
  "source.ip": { l4: true, check: checkIpBlock },
  "source.namespace": { l4: true, check: undefined },
  "source.principal": { l4: true, check: undefined },
  "destination.ip": { l4: true, check: checkIpBlock },
  "destination.port": { l4: true, check: checkPortText },
  "remote.ip": { l4: false, check: checkIpBlock },
  "source.serviceAccount": { l4: false, check: checkAccount },
  "source.trustDomain": { l4: false, check: checkTrustDomain },
  "request.auth.principal": { l4: false, check: undefined },
  "request.auth.audiences": { l4: false, check: undefined },
  "request.auth.presenter": { l4: false, check: undefined },
  "connection.sni": { l4: false, check: undefined },
} as const satisfies Record<string, { l4: boolean; check: ((value: Field) => void) | undefined }>;

/** Keys that carry a name in brackets. */
const bracketed = [
  /^request\.headers\[[^[\]]+\]$/,
  /^request\.auth\.claims(\[[^[\]]+\])+$/,
  /^experimental\.envoy\.filters\.[^[\]]+\[[^[\]]+\]$/,
];
const suggestedKeys = [...Object.keys(conditionKinds), "request.headers[name]", "request.auth.claims[name]"];

const formerKeys: Readonly<Record<string, string>> = {
  "destination.namespace": "a policy applies to its own namespace: use metadata.namespace",
  "destination.name": "use a selector",
  "destination.user": "use a selector",
  "destination.labels": "use selector.matchLabels",
};

/** An external authorizer decides before identities and tokens are looked at, so a CUSTOM rule cannot ask for them. */
const notInCustom = ["principals", "requestPrincipals", "namespaces", "serviceAccounts", "trustDomains"];
const keysNotInCustom = /^(source\.(namespace|serviceAccount|trustDomain|principal)|request\.auth\..*)$/;

const withTwins = (names: readonly string[]): readonly string[] =>
  names.flatMap((name) => [name, `not${name.charAt(0).toUpperCase()}${name.slice(1)}`]);

function checkTrustDomain(value: Field): void {
  const text = value.text;
  if (text === undefined) return;
  const problem = identityPatternProblem(text);
  if (problem !== undefined)
    value.error(`${value.quoted} is not a trust domain: it ${problem}`, 'write "td", "td*" or "*td"');
}

function checkAccount(value: Field): void {
  const text = value.text ?? "";
  if (text === "") return;
  if (text.includes("*")) {
    value.error(`${value.quoted} holds "*"`, "service accounts are compared as they are: write each one");
  } else if (!/^[^/]+(\/[^/]+)?$/.test(text)) {
    value.error(`${value.quoted} is not a service account`, 'write "account" or "namespace/account"');
  }
}

/** A `*` inside is legal, and a literal star: nearly never what was meant. */
function warnOfInnerStar(value: Field): void {
  const text = value.text ?? "";
  if (text.includes("*", 1) && !(text.indexOf("*") === text.length - 1) && !text.includes("{*")) {
    value.warn(`${value.quoted} holds "*" in the middle, where it is an ordinary letter`, 'write "*" first or last');
  }
}

function eachValue(list: Field, twins: readonly string[], check: (value: Field) => void): void {
  for (const name of twins) for (const value of list.at(name).items()) check(value);
}

export function checkSource(sourceField: Field, action: string): void {
  const accountFields = sourceField.written(["serviceAccounts", "notServiceAccounts"]);
  const [others] = sourceField.written(["principals", "notPrincipals", "namespaces", "notNamespaces"]);
  if (accountFields.length > 0 && others !== undefined) {
    for (const name of accountFields) {
      sourceField
        .at(name)
        .error(`cannot be combined with "${others}"`, "a service account names its namespace already");
    }
  }
  eachValue(sourceField, withTwins(["serviceAccounts"]), checkAccount);
  eachValue(sourceField, withTwins(["ipBlocks", "remoteIpBlocks"]), checkIpBlock);
  eachValue(sourceField, withTwins(["trustDomains"]), checkTrustDomain);
  eachValue(sourceField, withTwins(["principals", "requestPrincipals"]), warnOfInnerStar);
  eachValue(sourceField, withTwins(["principals"]), (value) => {
    if (value.text?.startsWith("spiffe://")) {
      value.error(`${value.quoted} never matches`, `write it without the scheme: "${value.text.slice(9)}"`);
    }
  });
  if (action !== "CUSTOM") return;
  for (const name of sourceField.written(withTwins(notInCustom))) {
    sourceField
      .at(name)
      .error("is not known yet when an external authorizer is asked", "leave it out, or use another action");
  }
}

export function checkOperation(operationField: Field): void {
  eachValue(operationField, withTwins(["ports"]), checkPortText);
  eachValue(operationField, withTwins(["hosts", "methods"]), warnOfInnerStar);
  eachValue(operationField, withTwins(["paths"]), (value) => {
    const text = value.text ?? "";
    if (!text.includes("{") && !text.includes("}")) return warnOfInnerStar(value);
    const problem = pathTemplateProblem(text);
    if (problem !== undefined) {
      value.error(
        `${value.quoted} is not a path template: it ${problem}`,
        'write it as "/shops/{*}/books" or "/files/{**}"',
      );
    }
  });
}

function checkCondition(condition: Field, action: string): void {
  const keyField = condition.at("key");
  const key = keyField.text ?? "";
  const known = Object.hasOwn(conditionKinds, key) ? conditionKinds[key as keyof typeof conditionKinds] : undefined;
  if (key !== "" && known === undefined && !bracketed.some((form) => form.test(key))) {
    const former = formerKeys[key.replace(/\[.*$/, "")];
    keyField.error(`unknown condition key ${keyField.quoted}`, former ?? suggestKey(key));
  }
  if (action === "CUSTOM" && keysNotInCustom.test(key)) {
    keyField.error(
      `${keyField.quoted} is not known yet when an external authorizer is asked`,
      "leave the condition out",
    );
  }
  if (condition.at("values").items().length + condition.at("notValues").items().length === 0) {
    condition.error("has neither values nor notValues", "write at least one of them, with a value");
  }
  for (const name of ["values", "notValues"]) {
    for (const value of condition.at(name).items()) known?.check?.(value);
  }
}

/** `request.header[x]` → `request.headers[x]`: what stands in brackets is the user's own. */
function suggestKey(key: string): string {
  const bracket = key.indexOf("[");
  if (bracket < 0) return suggest(key, suggestedKeys, "known keys are");
  const near = suggest(key.slice(0, bracket), ["request.headers", "request.auth.claims"], "");
  const name = key.slice(bracket).startsWith("[]") ? "[name]" : key.slice(bracket);
  return near.startsWith("did you mean")
    ? near.replace(/"\?$/, `${name}"?`)
    : `known keys are ${suggestedKeys.join(", ")}`;
}

/** Attributes that only a waypoint sees, of one rule. */
function httpAttributes(rule: Field): { readonly http: readonly string[]; readonly hasOther: boolean } {
  const isNear = (name: string): boolean => withTwins(sourceL4).includes(name);
  const sources = rule
    .at("from")
    .items()
    .flatMap((from) => from.at("source").keys());
  const operations = rule
    .at("to")
    .items()
    .flatMap((to) => to.at("operation").keys());
  const keys = rule
    .at("when")
    .items()
    .map((condition) => condition.at("key").text ?? "");
  const isL4 = (key: string): boolean =>
    Object.hasOwn(conditionKinds, key) && conditionKinds[key as keyof typeof conditionKinds].l4;
  const http = [
    ...sources.filter((name) => !isNear(name)),
    ...operations.filter((name) => name !== "ports" && name !== "notPorts"),
    ...keys.filter((key) => !isL4(key)),
  ];
  return { http, hasOther: sources.length + operations.length + keys.length > http.length };
}

/**
 * A rule that the node proxy cannot enforce as written is told here, when it is written; its status tells it too. With
 * targetRefs the waypoint enforces it, and nothing is lost.
 */
function warnOfHttp(spec: Field, rule: Field, action: string): void {
  if (spec.has("targetRef") || spec.has("targetRefs") || (action !== "ALLOW" && action !== "DENY")) return;
  const { http, hasOther } = httpAttributes(rule);
  if (http.length === 0) return;
  const names = [...new Set(http)].sort().join(", ");
  const effect =
    action === "ALLOW"
      ? "the rule allows nothing there"
      : hasOther
        ? "the rest of the rule denies without them"
        : "the rule denies nothing there";
  rule.warn(
    `uses ${names}, which the node proxy does not see: ${effect}`,
    "attach the policy to a waypoint with targetRefs",
  );
}

function check(specField: Field, object: Field): void {
  checkAttachment(specField);
  const action = specField.at("action").text ?? "ALLOW";
  const rules = specField.at("rules").items();
  const isCustom = action === "CUSTOM";
  if (rules.length === 0 && (action === "DENY" || isCustom)) {
    specField.error(`action ${action} without rules never matches`, 'add the rule "- {}" to match everything');
  }
  if (isCustom && rules.length > 0 && !specField.has("provider")) {
    specField.error("action CUSTOM needs a provider", "name one of the mesh's extensionProviders in provider.name");
  }
  if (!isCustom && specField.has("provider")) {
    specField.at("provider").error("is only valid with action CUSTOM", "leave it out, or write action: CUSTOM");
  }
  for (const rule of rules) {
    for (const key of ["from", "to"]) {
      if (rule.has(key) && rule.at(key).isEmpty)
        rule.at(key).error("must not be empty", "write an entry, or leave the field out");
    }
    for (const from of rule.at("from").items()) {
      if (!from.has("source") || from.at("source").isEmpty) {
        from.at("source").error("is empty", 'name who may call, or leave "from" out to mean everybody');
      } else checkSource(from.at("source"), action);
    }
    for (const to of rule.at("to").items()) {
      if (!to.has("operation") || to.at("operation").isEmpty) {
        to.at("operation").error("is empty", 'name what may be called, or leave "to" out to mean everything');
      } else checkOperation(to.at("operation"));
    }
    for (const condition of rule.at("when").items()) checkCondition(condition, action);
    warnOfHttp(specField, rule, action);
  }
  checkDryRun(object, action);
}

function checkDryRun(object: Field, action: string): void {
  const dryRun = object.at("metadata").at("annotations").at("istio.io/dry-run");
  if (!dryRun.isSet) return;
  if (dryRun.text !== "true" && dryRun.text !== "false") {
    dryRun.error(`${dryRun.quoted} is neither true nor false`, 'write "true" or "false", in quotes');
  } else if (action !== "ALLOW" && action !== "DENY") {
    dryRun.error(`action ${action} has no dry run`, "leave the annotation out, or write action ALLOW or DENY");
  }
}

export const authorizationPolicy: KindDefinition = {
  ...securityKind,
  kind: "AuthorizationPolicy",
  plural: "authorizationpolicies",
  shortNames: ["ap"],
  description: "Who may call what. DENY beats ALLOW; where an ALLOW policy applies, what no rule allows is denied.",
  columns: [{ name: "Action", type: "string", jsonPath: ".spec.action", description: "The operation to take" }, age],
  spec: authorizationSpec,
  check,
};
