/** Decides by one set of policies, and says which policy it was. Pure: nothing is counted or written here. */
import type { Policy, RBAC } from "#shared/proto/gen/envoy/config/rbac/v3/rbac_pb.js";
import { RBAC_Action } from "#shared/proto/gen/envoy/config/rbac/v3/rbac_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { allOf, anyOf, compilePermission, compilePrincipal } from "./compile-conditions.ts";
import { explainsFrom, type Explains } from "./explain.ts";
import type { Subject, SubjectTest } from "./subject.ts";

export type Action = "ALLOW" | "DENY" | "LOG";

export interface RbacPolicy {
  readonly name: string;
  readonly matches: SubjectTest;
}

export interface RbacEngine {
  readonly action: Action;
  /** In order of their names: the first that matches is the one that is told. */
  readonly policies: readonly RbacPolicy[];
  readonly explains: Explains | undefined;
}

export function compileEngine(rules: RBAC, path: string, problem: Problem): RbacEngine {
  const names = Object.keys(rules.policies).sort();
  return {
    action: actionOf(rules, path, problem),
    policies: names.map((name) => ({
      name,
      matches: compilePolicy(rules.policies[name] as Policy, `${path}.policies[${name}]`, problem),
    })),
    explains: explainsFrom(rules, `${path}.audit_logging_options`, problem),
  };
}

function actionOf({ action }: RBAC, path: string, problem: Problem): Action {
  switch (action) {
    case RBAC_Action.ALLOW:
      return "ALLOW";
    case RBAC_Action.DENY:
      return "DENY";
    case RBAC_Action.LOG:
      return "LOG";
    default:
      problem(`${path}.action`, `${String(action)} is not known`);
      return "ALLOW";
  }
}

export function compilePolicy(policy: Policy, path: string, problem: Problem): SubjectTest {
  if (policy.condition !== undefined || policy.checkedCondition !== undefined) {
    problem(`${path}.condition`, "conditions in CEL are not supported");
  }
  if (policy.permissions.length === 0) problem(`${path}.permissions`, "must not be empty");
  if (policy.principals.length === 0) problem(`${path}.principals`, "must not be empty");
  const permissions = policy.permissions.map((permission, index) =>
    compilePermission(permission, `${path}.permissions[${index}]`, problem),
  );
  const principals = policy.principals.map((principal, index) =>
    compilePrincipal(principal, `${path}.principals[${index}]`, problem),
  );
  return allOf([anyOf(permissions), anyOf(principals)]);
}

/** The first policy that matches. */
export function matchingPolicy(engine: RbacEngine, subject: Subject): RbacPolicy | undefined {
  for (const policy of engine.policies) if (policy.matches(subject)) return policy;
  return undefined;
}

/** What follows from the policy that matched, if any did. */
export function isAllowed(action: Action, matched: RbacPolicy | undefined): boolean {
  switch (action) {
    case "ALLOW":
      return matched !== undefined;
    case "DENY":
      return matched === undefined;
    case "LOG":
      return true;
  }
}
