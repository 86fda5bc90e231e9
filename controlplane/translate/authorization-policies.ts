/**
 * AuthorizationPolicies as node proxies enforce them, and what to tell their author. Node proxies see connections, not
 * requests: an ALLOW rule with an HTTP attribute is left out (nothing is allowed by it), a DENY rule loses only the
 * attribute (more is denied than written).
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  Action,
  AuthorizationSchema,
  Scope,
  type Authorization,
  type GroupSchema,
  type MatchSchema,
  type StringMatchSchema,
} from "#shared/proto/gen/security/authorization_pb.js";
import type { Attributes, AuthorizationPolicy, AuthorizationRule } from "#controlplane/mesh/objects.ts";
import type { MeshConfig } from "#controlplane/mesh/mesh-config.ts";
import { rangeBytes } from "./address-bytes.ts";
import { dryRunAnnotation, parseFlag } from "./annotations.ts";
import type { TranslateOptions } from "./options.ts";
import type { StatusCondition } from "./status.ts";

type MatchInit = Exclude<MessageInitShape<typeof MatchSchema>, { $typeName: string }>;
type GroupInit = MessageInitShape<typeof GroupSchema>;

/** What node proxies get, if anything, and the condition `ZtunnelAccepted`. */
export interface ConvertedPolicy {
  readonly authorization: Authorization | undefined;
  readonly condition: StatusCondition;
}

/** Converts a policy that has no targetRefs; those with belong to waypoints. */
export function convertPolicy(
  policy: AuthorizationPolicy,
  { rootNamespace }: MeshConfig,
  options: TranslateOptions,
): ConvertedPolicy {
  const { meta, action } = policy;
  if (action !== "ALLOW" && action !== "DENY") {
    return notSent(policy, `The node proxy does not support the ${action} action`);
  }
  const dryRun = parseFlag(meta.annotations.get(dryRunAnnotation) ?? "") ?? false;
  if (dryRun && !options.dryRunPolicies) {
    return notSent(
      policy,
      `Dry run of policy "${meta.namespace}/${meta.name}" needs AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY=true`,
    );
  }
  const httpAttributes = new Set<string>();
  const groups: GroupInit[] = [];
  for (const rule of policy.rules) {
    const { group, http } = convertRule(rule, meta.namespace);
    for (const attribute of http) httpAttributes.add(attribute);
    if (http.length === 0 || action === "DENY") groups.push(group);
  }
  const authorization = create(AuthorizationSchema, {
    name: meta.name,
    namespace: meta.namespace,
    scope: scopeOf(policy, rootNamespace),
    action: action === "DENY" ? Action.DENY : Action.ALLOW,
    groups,
    dryRun,
  });
  return { authorization, condition: sentCondition(policy, [...httpAttributes].sort()) };
}

function notSent(policy: AuthorizationPolicy, message: string): ConvertedPolicy {
  return { authorization: undefined, condition: condition(policy, "False", "UnsupportedValue", message) };
}

function sentCondition(policy: AuthorizationPolicy, http: readonly string[]): StatusCondition {
  if (http.length === 0) return condition(policy, "True", "Accepted", "attached to ztunnel");
  const effect =
    policy.action === "ALLOW"
      ? "Rules of this ALLOW policy that match them are left out: less is allowed than written."
      : "This DENY policy is enforced without them: more is denied than written, and a rule of nothing else denies nothing.";
  return condition(
    policy,
    "True",
    "UnsupportedValue",
    `ztunnel does not see HTTP attributes (found: ${http.join(", ")}); a waypoint enforces them. ${effect}`,
  );
}

const condition = (
  { meta }: AuthorizationPolicy,
  status: "True" | "False",
  reason: string,
  message: string,
): StatusCondition => ({
  type: "ZtunnelAccepted",
  status,
  reason,
  message,
  observedGeneration: String(meta.generation),
});

function scopeOf({ selector, meta }: AuthorizationPolicy, rootNamespace: string): Scope {
  if (selector !== undefined) return Scope.WORKLOAD_SELECTOR;
  return meta.namespace === rootNamespace ? Scope.GLOBAL : Scope.NAMESPACE;
}

/** Clauses in the order to, from, when; and the HTTP attributes that could not be converted. */
function convertRule(
  rule: AuthorizationRule,
  namespace: string,
): { readonly group: GroupInit; readonly http: readonly string[] } {
  const http: string[] = [];
  const convert = (attributes: Attributes): MatchInit => {
    const match: MatchInit = {};
    for (const [name, values] of attributes) {
      const field = sourceAndOperationFields.get(name);
      if (field !== undefined) field(match, values, namespace);
      else http.push(name);
    }
    return match;
  };
  const clauses: { matches: MatchInit[] }[] = [];
  if (rule.to.length > 0) clauses.push({ matches: rule.to.map(convert) });
  if (rule.from.length > 0) clauses.push({ matches: rule.from.map(convert) });
  for (const { key, values, notValues } of rule.when) {
    const match: MatchInit = {};
    const fields = conditionFields.get(key);
    if (fields === undefined) http.push(key);
    else {
      if (values.length > 0) fields.is(match, values, namespace);
      if (notValues.length > 0) fields.not(match, notValues, namespace);
    }
    clauses.push({ matches: [match] });
  }
  return { group: { rules: clauses }, http };
}

type Fill = (match: MatchInit, values: readonly string[], namespace: string) => void;

const fills = {
  principals: (match, values) => void (match.principals = values.map(stringMatch)),
  notPrincipals: (match, values) => void (match.notPrincipals = values.map(stringMatch)),
  namespaces: (match, values) => void (match.namespaces = values.map(stringMatch)),
  notNamespaces: (match, values) => void (match.notNamespaces = values.map(stringMatch)),
  serviceAccounts: (match, values, namespace) => void (match.serviceAccounts = accounts(values, namespace)),
  notServiceAccounts: (match, values, namespace) => void (match.notServiceAccounts = accounts(values, namespace)),
  sourceIps: (match, values) => void (match.sourceIps = ranges(values)),
  notSourceIps: (match, values) => void (match.notSourceIps = ranges(values)),
  destinationIps: (match, values) => void (match.destinationIps = ranges(values)),
  notDestinationIps: (match, values) => void (match.notDestinationIps = ranges(values)),
  destinationPorts: (match, values) => void (match.destinationPorts = ports(values)),
  notDestinationPorts: (match, values) => void (match.notDestinationPorts = ports(values)),
} as const satisfies Record<string, Fill>;

const sourceAndOperationFields: ReadonlyMap<string, Fill> = new Map<string, Fill>([
  ["principals", fills.principals],
  ["notPrincipals", fills.notPrincipals],
  ["namespaces", fills.namespaces],
  ["notNamespaces", fills.notNamespaces],
  ["serviceAccounts", fills.serviceAccounts],
  ["notServiceAccounts", fills.notServiceAccounts],
  ["ipBlocks", fills.sourceIps],
  ["notIpBlocks", fills.notSourceIps],
  ["ports", fills.destinationPorts],
  ["notPorts", fills.notDestinationPorts],
]);

const conditionFields: ReadonlyMap<string, { readonly is: Fill; readonly not: Fill }> = new Map([
  ["source.ip", { is: fills.sourceIps, not: fills.notSourceIps }],
  ["source.namespace", { is: fills.namespaces, not: fills.notNamespaces }],
  ["source.principal", { is: fills.principals, not: fills.notPrincipals }],
  ["destination.ip", { is: fills.destinationIps, not: fills.notDestinationIps }],
  ["destination.port", { is: fills.destinationPorts, not: fills.notDestinationPorts }],
]);

/** `*` anything, `*x` suffix, `x*` prefix, else exact. */
function stringMatch(text: string): MessageInitShape<typeof StringMatchSchema> {
  if (text === "*") return { matchType: { case: "presence", value: {} } };
  if (text.startsWith("*")) return { matchType: { case: "suffix", value: text.slice(1) } };
  if (text.endsWith("*")) return { matchType: { case: "prefix", value: text.slice(0, -1) } };
  return { matchType: { case: "exact", value: text } };
}

/** `namespace/account`, or an account of the policy's namespace. */
function accounts(values: readonly string[], own: string): { namespace: string; serviceAccount: string }[] {
  return values.map((value) => {
    const slash = value.indexOf("/");
    if (slash < 0) return { namespace: own, serviceAccount: value };
    return { namespace: value.slice(0, slash), serviceAccount: value.slice(slash + 1) };
  });
}

/** What cannot be read is left out: validation has refused it before. */
const ranges = (values: readonly string[]): { address: Uint8Array; length: number }[] =>
  values.map(rangeBytes).filter((range) => range !== undefined);

const ports = (values: readonly string[]): number[] =>
  values
    .filter((value) => /^\d{1,10}$/.test(value))
    .map(Number)
    .filter((port) => port <= 65_535);
