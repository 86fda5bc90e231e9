/** Why policies decide as they do, for people: every condition with the value that it was compared with. */
import { identityOf, principalOf } from "#shared/identity/spiffe-id.ts";
import { compileMatch } from "./compile-policy.ts";
import type { PolicyConnection } from "./decide.ts";
import { emptyMatch, type Policy, type PolicyMatch } from "./policy.ts";

/** One kind of field of one match. */
export interface ComparedField {
  readonly field: keyof PolicyMatch;
  /** As the policy writes them. */
  readonly wanted: readonly string[];
  /** What the connection has; empty where nothing was proven. */
  readonly found: string;
  readonly holds: boolean;
}

export interface ExplainedMatch {
  readonly rule: number;
  readonly clause: number;
  readonly match: number;
  readonly fields: readonly ComparedField[];
  /** All fields hold, and there is at least one. */
  readonly holds: boolean;
}

export interface ExplainedPolicy {
  readonly key: string;
  readonly action: Policy["action"];
  readonly dryRun: boolean;
  /** Index of the first rule that matches. */
  readonly matchedRule?: number;
  readonly matches: readonly ExplainedMatch[];
}

/** Compares everything, where deciding stops at the first answer. */
export function explainPolicy(policy: Policy, connection: PolicyConnection): ExplainedPolicy {
  const matches = policy.rules.flatMap((rule, ruleIndex) =>
    rule.flatMap((clause, clauseIndex) =>
      clause.map((match, index) =>
        explainMatch(match, connection, { rule: ruleIndex, clause: clauseIndex, match: index }),
      ),
    ),
  );
  const matchedRule = policy.rules.findIndex((rule, ruleIndex) =>
    rule.every(
      (clause, clauseIndex) =>
        clause.length === 0 || matches.some((one) => one.rule === ruleIndex && one.clause === clauseIndex && one.holds),
    ),
  );
  const { key, action, dryRun } = policy;
  return { key, action, dryRun, matches, ...(matchedRule >= 0 && { matchedRule }) };
}

function explainMatch(
  match: PolicyMatch,
  connection: PolicyConnection,
  place: Pick<ExplainedMatch, "rule" | "clause" | "match">,
): ExplainedMatch {
  const fields = fieldNames
    .filter((field) => match[field].length > 0)
    .map((field): ComparedField => ({
      field,
      wanted: match[field].map(writeValue),
      found: foundIn(connection, field),
      holds: compileMatch({ ...emptyMatch, [field]: match[field] })(connection),
    }));
  return { ...place, fields, holds: fields.length > 0 && fields.every(({ holds }) => holds) };
}

const fieldNames = Object.keys(emptyMatch) as readonly (keyof PolicyMatch)[];

/** In the spelling of AuthorizationPolicy. */
function writeValue(value: PolicyMatch[keyof PolicyMatch][number]): string {
  if (typeof value === "number") return String(value);
  if ("base" in value) return `${value.base}/${value.length}`;
  if ("serviceAccount" in value) return `${value.namespace}/${value.serviceAccount}`;
  switch (value.kind) {
    case "exact":
      return value.value;
    case "prefix":
      return `${value.value}*`;
    case "suffix":
      return `*${value.value}`;
    case "presence":
      return "*";
  }
}

function foundIn({ sourceIdentity, ...rest }: PolicyConnection, field: keyof PolicyMatch): string {
  const id = sourceIdentity === undefined ? undefined : identityOf(sourceIdentity);
  switch (field) {
    case "namespaces":
    case "notNamespaces":
      return id?.namespace ?? "";
    case "principals":
    case "notPrincipals":
      return sourceIdentity === undefined ? "" : principalOf(sourceIdentity);
    case "serviceAccounts":
    case "notServiceAccounts":
      return id === undefined ? "" : `${id.namespace}/${id.serviceAccount}`;
    case "sourceIps":
    case "notSourceIps":
      return rest.sourceIp;
    case "destinationIps":
    case "notDestinationIps":
      return rest.destinationIp;
    case "destinationPorts":
    case "notDestinationPorts":
      return String(rest.destinationPort);
  }
}
