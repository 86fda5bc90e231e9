import type { KubeObject, ObjectStore } from "./object-store.ts";
import { ids } from "./resources.ts";
import { child, listOf, objectsOf, textOf, type JsonObject } from "./schema.ts";
import { fromSelectorObject, matchesLabels } from "./selectors.ts";
import type { User } from "./service-account-tokens.ts";

/** One thing a user wants to do. */
export type Attributes =
  | {
      readonly kind: "resource";
      readonly verb: string;
      readonly group: string;
      readonly resource: string;
      readonly subresource?: string;
      readonly namespace?: string;
      readonly name?: string;
    }
  | { readonly kind: "other"; readonly verb: string; readonly path: string };

export interface Verdict {
  readonly allowed: boolean;
  readonly reason: string;
}

export type Rules = Pick<ObjectStore, "get" | "list">;

/** Decides by the roles and bindings in the store; members of `system:masters` may do everything. */
export function authorize(user: User, asked: Attributes, store: Rules): Verdict {
  if (user.groups.includes("system:masters")) return { allowed: true, reason: "member of system:masters" };
  const namespace = asked.kind === "resource" ? asked.namespace : undefined;
  for (const grant of grantsFor(user, namespace, store)) {
    if (grant.rules.some((rule) => ruleAllows(rule, asked)))
      return { allowed: true, reason: `RBAC: allowed by ${grant.by}` };
  }
  return { allowed: false, reason: "" };
}

export interface Grant {
  readonly by: string;
  readonly rules: readonly JsonObject[];
}

/** Every role that is bound to a user, cluster-wide first. */
export function* grantsFor(user: User, namespace: string | undefined, store: Rules): Generator<Grant> {
  for (const binding of store.list(ids.clusterRoleBindings)) {
    const grant = readBinding(binding, user, store);
    if (grant !== undefined) yield grant;
  }
  if (namespace === undefined) return;
  for (const binding of store.list(ids.roleBindings, { namespace })) {
    const grant = readBinding(binding, user, store);
    if (grant !== undefined) yield grant;
  }
}

function readBinding(binding: KubeObject, user: User, store: Rules): Grant | undefined {
  const { namespace } = binding.metadata;
  if (!objectsOf(binding, "subjects").some((subject) => isSubject(subject, user, namespace))) return undefined;
  const reference = child(binding, "roleRef");
  const name = textOf(reference, "name") ?? "";
  const role =
    reference["kind"] === "Role" ? store.get(ids.roles, namespace, name) : store.get(ids.clusterRoles, undefined, name);
  if (role === undefined) return undefined;
  const by = `${binding.kind} "${binding.metadata.name}${namespace === undefined ? "" : `/${namespace}`}" of ${role.kind} "${name}"`;
  return { by, rules: rulesOf(role, store) };
}

/** A cluster role may be the sum of others, chosen by label. */
function rulesOf(role: KubeObject, store: Rules): readonly JsonObject[] {
  const selectors = objectsOf(child(role, "aggregationRule"), "clusterRoleSelectors");
  if (selectors.length === 0) return objectsOf(role, "rules");
  const parsed = selectors.map((selector) => fromSelectorObject(selector));
  return store
    .list(ids.clusterRoles)
    .filter(
      ({ metadata }) =>
        metadata.uid !== role.metadata.uid && parsed.some((selector) => matchesLabels(selector, metadata.labels)),
    )
    .flatMap((one) => objectsOf(one, "rules"))
    .concat(objectsOf(role, "rules"));
}

function isSubject(subject: JsonObject, user: User, namespace: string | undefined): boolean {
  const name = textOf(subject, "name") ?? "";
  switch (subject["kind"]) {
    case "User":
      return name === user.name;
    case "Group":
      return user.groups.includes(name);
    case "ServiceAccount":
      return user.name === `system:serviceaccount:${textOf(subject, "namespace") ?? namespace ?? ""}:${name}`;
    default:
      return false;
  }
}

export function ruleAllows(rule: JsonObject, asked: Attributes): boolean {
  if (!has(rule, "verbs", asked.verb)) return false;
  if (asked.kind === "other") {
    return listOf(rule, "nonResourceURLs").some((pattern) => matchesPath(String(pattern), asked.path));
  }
  const { group, resource, subresource, name } = asked;
  if (!has(rule, "apiGroups", group)) return false;
  const full = subresource === undefined ? resource : `${resource}/${subresource}`;
  const names = listOf(rule, "resources");
  const isNamed =
    names.includes("*") || names.includes(full) || (subresource !== undefined && names.includes(`*/${subresource}`));
  if (!isNamed) return false;
  const only = listOf(rule, "resourceNames");
  return only.length === 0 || (name !== undefined && only.includes(name));
}

function has(rule: JsonObject, field: string, value: string): boolean {
  const values = listOf(rule, field);
  return values.includes("*") || values.includes(value);
}

function matchesPath(pattern: string, path: string): boolean {
  return pattern === "*" || pattern === path || (pattern.endsWith("*") && path.startsWith(pattern.slice(0, -1)));
}

/** Kubernetes' sentence for a refusal, which users paste into search engines. */
export function refusalText(user: User, asked: Attributes): string {
  if (asked.kind === "other") return `forbidden: User "${user.name}" cannot ${asked.verb} path "${asked.path}"`;
  const { group, resource, subresource, namespace, name, verb } = asked;
  const qualified = group === "" ? resource : `${resource}.${group}`;
  const about = name === undefined || name === "" ? qualified : `${qualified} "${name}"`;
  const full = subresource === undefined ? resource : `${resource}/${subresource}`;
  const scope = namespace === undefined ? "at the cluster scope" : `in the namespace "${namespace}"`;
  return `${about} is forbidden: User "${user.name}" cannot ${verb} resource "${full}" in API group "${group}" ${scope}`;
}
