/**
 * Rules of AuthorizationPolicies as Envoy's RBAC. On a TCP chain nothing is known of requests: an ALLOW rule that asks
 * for them is left out (less is allowed), any other rule goes without what it cannot ask (more is refused).
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PolicySchema } from "#shared/proto/gen/envoy/config/rbac/v3/rbac_pb.js";
import type { Attributes, AuthorizationPolicy, AuthorizationRule } from "#controlplane/mesh/objects.ts";
import {
  conditionAttribute,
  fields,
  type AnyAttribute,
  type PermissionInit,
  type PolicyScope,
  type PrincipalInit,
} from "./attributes.ts";

export type PolicyInit = Exclude<MessageInitShape<typeof PolicySchema>, { $typeName: string }>;

const anyPermission: PermissionInit = { rule: { case: "any", value: true } };
const anyPrincipal: PrincipalInit = { identifier: { case: "any", value: true } };

/** Stands for a policy without rules, so that it counts and never matches. */
export const neverPolicy: PolicyInit = {
  permissions: [{ rule: { case: "notRule", value: anyPermission } }],
  principals: [{ identifier: { case: "notId", value: anyPrincipal } }],
};

export interface ConvertedRule {
  /** Undefined: the rule is left out. */
  readonly policy: PolicyInit | undefined;
  /** Attributes that are not looked at here. */
  readonly lost: readonly string[];
}

/** What one rule asks of one request, in pieces that must all hold. */
interface Clauses {
  readonly permissions: PermissionInit[];
  readonly principals: PrincipalInit[];
}

export function convertRule(
  rule: AuthorizationRule,
  { action }: Pick<AuthorizationPolicy, "action">,
  chain: "http" | "tcp",
  scope: PolicyScope,
): ConvertedRule {
  const lost: string[] = [];
  const add = (
    clauses: Clauses,
    name: string,
    attribute: AnyAttribute | undefined,
    { values, notValues }: { readonly values: readonly string[]; readonly notValues: readonly string[] },
  ): void => {
    if (attribute === undefined || (attribute.isHttp && chain === "tcp")) lost.push(name);
    else if (attribute.kind === "permission") {
      const make = (value: string): PermissionInit | undefined => attribute.make(value, scope);
      clauses.permissions.push(...permissionClauses(made(values, make, name, lost), made(notValues, make, name, lost)));
    } else {
      const make = (value: string): PrincipalInit | undefined => attribute.make(value, scope);
      clauses.principals.push(...principalClauses(made(values, make, name, lost), made(notValues, make, name, lost)));
    }
  };
  const convertFields = (written: Attributes): Clauses => {
    const clauses: Clauses = { permissions: [], principals: [] };
    for (const [name, values] of written) {
      const positive = name.startsWith("not") ? `${name.charAt(3).toLowerCase()}${name.slice(4)}` : name;
      const both = positive === name ? { values, notValues: [] } : { values: [], notValues: values };
      add(clauses, name, fields.get(positive), both);
    }
    return clauses;
  };
  const when: Clauses = { permissions: [], principals: [] };
  for (const { key, values, notValues } of rule.when) {
    add(when, key, conditionAttribute(key), { values, notValues });
  }
  const to = rule.to.length === 0 ? [[]] : rule.to.map((each) => convertFields(each).permissions);
  const from = rule.from.length === 0 ? [[]] : rule.from.map((each) => convertFields(each).principals);
  if (lost.length > 0 && action === "ALLOW") return { policy: undefined, lost };
  return {
    lost,
    policy: {
      permissions: to.map((clauses) => allPermissions([...clauses, ...when.permissions])),
      principals: from.map((clauses) => allPrincipals([...clauses, ...when.principals])),
    },
  };
}

/** A value that cannot be matched (validation refuses it before) counts like an attribute that cannot. */
function made<T>(values: readonly string[], make: (value: string) => T | undefined, name: string, lost: string[]): T[] {
  return values.flatMap((value) => {
    const init = make(value);
    if (init === undefined) lost.push(name);
    return init === undefined ? [] : [init];
  });
}

function permissionClauses(is: PermissionInit[], not: PermissionInit[]): PermissionInit[] {
  const any = (rules: PermissionInit[]): PermissionInit => ({ rule: { case: "orRules", value: { rules } } });
  return [
    ...(is.length > 0 ? [any(is)] : []),
    ...(not.length > 0 ? [{ rule: { case: "notRule" as const, value: any(not) } }] : []),
  ];
}

function principalClauses(is: PrincipalInit[], not: PrincipalInit[]): PrincipalInit[] {
  const any = (ids: PrincipalInit[]): PrincipalInit => ({ identifier: { case: "orIds", value: { ids } } });
  return [
    ...(is.length > 0 ? [any(is)] : []),
    ...(not.length > 0 ? [{ identifier: { case: "notId" as const, value: any(not) } }] : []),
  ];
}

const allPermissions = (rules: PermissionInit[]): PermissionInit => ({
  rule: { case: "andRules", value: { rules: rules.length === 0 ? [anyPermission] : rules } },
});
const allPrincipals = (ids: PrincipalInit[]): PrincipalInit => ({
  identifier: { case: "andIds", value: { ids: ids.length === 0 ? [anyPrincipal] : ids } },
});
