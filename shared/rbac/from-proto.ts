/** `istio.security.Authorization` → our own form. Reports every mistake at once, each naming the field and the value. */
import { cidrFromBytes, type Cidr } from "#shared/net/cidr.ts";
import {
  Action,
  Scope,
  type Address,
  type Authorization,
  type Match,
  type StringMatch as ProtoStringMatch,
} from "#shared/proto/gen/security/authorization_pb.js";
import type { Policy, PolicyMatch, StringMatch } from "./policy.ts";

export type PolicyReadResult =
  { readonly ok: true; readonly value: Policy } | { readonly ok: false; readonly errors: readonly string[] };

/**
 * An address range that cannot be read rejects the policy. Istio's ztunnel drops the entry, which can widen a rule or
 * make it match nothing; the old version staying in force, and the control plane hearing of it, is safer than both.
 */
export function policyFromProto(from: Authorization): PolicyReadResult {
  const errors: string[] = [];
  const scope = scopes.get(from.scope);
  const action = actions.get(from.action);
  if (scope === undefined)
    errors.push(`scope: ${from.scope} is none of 0 (GLOBAL), 1 (NAMESPACE), 2 (WORKLOAD_SELECTOR)`);
  if (action === undefined) errors.push(`action: ${from.action} is none of 0 (ALLOW), 1 (DENY)`);
  const rules = from.groups.map(({ rules: clauses }, rule) =>
    clauses.map(({ matches }, clause) =>
      matches.map((match, index) => readMatch(match, `groups[${rule}].rules[${clause}].matches[${index}]`, errors)),
    ),
  );
  if (scope === undefined || action === undefined || errors.length > 0) return { ok: false, errors };
  const { name, namespace, dryRun } = from;
  return { ok: true, value: { key: `${namespace}/${name}`, name, namespace, scope, action, dryRun, rules } };
}

function readMatch(from: Match, field: string, errors: string[]): PolicyMatch {
  const cidrs = (addresses: readonly Address[], name: string): readonly Cidr[] =>
    addresses.flatMap(({ address, length }, index) => {
      const cidr = cidrFromBytes(address, length);
      if (cidr === undefined) {
        errors.push(
          `${field}.${name}[${index}]: ${address.length} bytes with prefix length ${length} are no address range`,
        );
      }
      return cidr ?? [];
    });
  const accounts = (from_: readonly { readonly namespace: string; readonly serviceAccount: string }[]) =>
    from_.map(({ namespace, serviceAccount }) => ({ namespace, serviceAccount }));
  const ports = (values: readonly number[]) => values.map((port) => port & 0xffff);
  return {
    namespaces: readStrings(from.namespaces),
    notNamespaces: readStrings(from.notNamespaces),
    principals: readStrings(from.principals),
    notPrincipals: readStrings(from.notPrincipals),
    serviceAccounts: accounts(from.serviceAccounts),
    notServiceAccounts: accounts(from.notServiceAccounts),
    sourceIps: cidrs(from.sourceIps, "source_ips"),
    notSourceIps: cidrs(from.notSourceIps, "not_source_ips"),
    destinationIps: cidrs(from.destinationIps, "destination_ips"),
    notDestinationIps: cidrs(from.notDestinationIps, "not_destination_ips"),
    destinationPorts: ports(from.destinationPorts),
    notDestinationPorts: ports(from.notDestinationPorts),
  };
}

/** An entry without a kind says nothing and is left out, as Istio's ztunnel does. */
const readStrings = (from: readonly ProtoStringMatch[]): readonly StringMatch[] =>
  from.flatMap(({ matchType }): StringMatch[] => {
    switch (matchType.case) {
      case "exact":
      case "prefix":
      case "suffix":
        return [{ kind: matchType.case, value: matchType.value }];
      case "presence":
        return [{ kind: "presence" }];
      case undefined:
        return [];
    }
  });

const scopes: ReadonlyMap<number, Policy["scope"]> = new Map([
  [Scope.GLOBAL, "GLOBAL"],
  [Scope.NAMESPACE, "NAMESPACE"],
  [Scope.WORKLOAD_SELECTOR, "WORKLOAD_SELECTOR"],
]);
const actions: ReadonlyMap<number, Policy["action"]> = new Map([
  [Action.ALLOW, "ALLOW"],
  [Action.DENY, "DENY"],
]);
