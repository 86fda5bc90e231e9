/** Which validating webhooks a write concerns. Pure. */
import { compileCel, stepBudget, type CelProgram } from "./cel-evaluator.ts";
import { CelError } from "./cel-parser.ts";
import type { KubeObject } from "./object-store.ts";
import type { ResourceInfo, ResourceVersion } from "./resources.ts";
import { child, listOf, objectsOf, textOf, type JsonObject } from "./schema.ts";
import { fromSelectorObject, matchesLabels } from "./selectors.ts";

/** What is asked for, before anything is known of the object. */
export interface WriteKind {
  readonly operation: "CREATE" | "UPDATE" | "DELETE";
  readonly info: ResourceInfo;
  /** The version that the request speaks. */
  readonly version: ResourceVersion;
  readonly subresource: string | undefined;
}

/** The version in which the webhook wants to see the object; undefined where its rules name something else. */
export function versionFor(webhook: JsonObject, write: WriteKind): ResourceVersion | undefined {
  const { info, version } = write;
  // Who could keep others from changing webhooks could not be removed.
  if (info.group === "admissionregistration.k8s.io" && info.resource.endsWith("webhookconfigurations"))
    return undefined;
  const rules = objectsOf(webhook, "rules");
  if (rules.some((rule) => matchesRule(rule, write, version.name))) return version;
  if (webhook["matchPolicy"] === "Exact") return undefined;
  return info.versions.find((other) => rules.some((rule) => matchesRule(rule, write, other.name)));
}

function matchesRule(rule: JsonObject, { operation, info, subresource = "" }: WriteKind, version: string): boolean {
  const has = (field: string, value: string): boolean => {
    const values = listOf(rule, field);
    return values.includes("*") || values.includes(value);
  };
  const scope = textOf(rule, "scope") ?? "*";
  return (
    (scope === "*" || scope === (info.namespaced ? "Namespaced" : "Cluster")) &&
    has("operations", operation) &&
    has("apiGroups", info.group) &&
    has("apiVersions", version) &&
    listOf(rule, "resources").some((pattern) => {
      const [resource = "", part = ""] = String(pattern).split("/");
      return (resource === "*" || resource === info.resource) && (part === "*" || part === subresource);
    })
  );
}

/** @param home the object's namespace; undefined for objects of cluster scope */
export function selects(
  webhook: JsonObject,
  { info }: WriteKind,
  objects: readonly (KubeObject | undefined)[],
  home: KubeObject | undefined,
): boolean {
  const written = objects.filter((object) => object !== undefined);
  const namespace = info.group === "" && info.resource === "namespaces" ? written[0] : home;
  const byNamespace = fromSelectorObject(child(webhook, "namespaceSelector"));
  if (namespace !== undefined && !matchesLabels(byNamespace, namespace.metadata.labels)) return false;
  const byObject = fromSelectorObject(child(webhook, "objectSelector"));
  return written.some(({ metadata }) => matchesLabels(byObject, metadata.labels));
}

interface Condition {
  readonly name: string;
  readonly program: CelProgram;
}

const compiled = new WeakMap<JsonObject, readonly Condition[]>();

/** Validation has refused what is no expression. */
function compileConditions(webhook: JsonObject): readonly Condition[] {
  let conditions = compiled.get(webhook);
  if (conditions === undefined) {
    conditions = objectsOf(webhook, "matchConditions").map((condition) => ({
      name: textOf(condition, "name") ?? "",
      program: compileCel(textOf(condition, "expression") ?? ""),
    }));
    compiled.set(webhook, conditions);
  }
  return conditions;
}

/** Whether all match conditions hold. One that is false decides, whatever others fail at; else a failure is answered. */
export function meetsConditions(webhook: JsonObject, request: JsonObject): boolean | { readonly failed: string } {
  const names = new Map<string, unknown>([
    ["object", request["object"] ?? null],
    ["oldObject", request["oldObject"] ?? null],
    ["request", request],
  ]);
  const budget = { steps: stepBudget };
  let failed: string | undefined;
  for (const { name, program } of compileConditions(webhook)) {
    try {
      if (program(names, budget) === false) return false;
    } catch (error) {
      if (!(error instanceof CelError)) throw error;
      failed ??= `match condition "${name}": ${error.message}`;
    }
  }
  return failed === undefined ? true : { failed };
}

/** The webhooks of a configuration, as stored: complete, with their defaults. */
export const webhooksIn = (configuration: KubeObject): readonly JsonObject[] => objectsOf(configuration, "webhooks");
