import { ApiError } from "./api-error.ts";

/** One requirement of a label selector. */
export type LabelRequirement =
  | { readonly key: string; readonly operator: "in" | "notin"; readonly values: readonly string[] }
  | { readonly key: string; readonly operator: "exists" | "absent" }
  | { readonly key: string; readonly operator: "gt" | "lt"; readonly bound: number };

export type LabelSelector = readonly LabelRequirement[];

const labelKey = /^([a-z0-9A-Z]([-a-z0-9A-Z.]*[a-z0-9A-Z])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/u;
const labelValue = /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/u;

/** Reads `app=web,tier!=cache,env in (a,b),!legacy,owner`: all requirements must hold. */
export function parseLabelSelector(text: string): LabelSelector {
  return splitOutsideParentheses(text)
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map((part) => parseRequirement(part, text));
}

function parseRequirement(part: string, whole: string): LabelRequirement {
  const set = /^(\S+)\s+(in|notin)\s*\((.*)\)$/u.exec(part);
  if (set !== null) {
    const values = (set[3] ?? "").split(",").map((value) => checkValue(value.trim(), whole));
    return { key: checkKey(set[1] ?? "", whole), operator: set[2] === "in" ? "in" : "notin", values };
  }
  if (part.startsWith("!")) return { key: checkKey(part.slice(1).trim(), whole), operator: "absent" };
  const comparison = /^([^=!<>\s]+)\s*(==|=|!=|>|<)\s*(.*)$/u.exec(part);
  if (comparison === null) return { key: checkKey(part, whole), operator: "exists" };
  const key = checkKey(comparison[1] ?? "", whole);
  const value = (comparison[3] ?? "").trim();
  const operator = comparison[2] ?? "=";
  switch (operator) {
    case "!=":
      return { key, operator: "notin", values: [checkValue(value, whole)] };
    case ">":
    case "<": {
      if (!/^-?\d+$/u.test(value)) throw malformed(whole, `"${value}" is not an integer`);
      return { key, operator: operator === ">" ? "gt" : "lt", bound: Number(value) };
    }
    default:
      return { key, operator: "in", values: [checkValue(value, whole)] };
  }
}

function splitOutsideParentheses(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "(") depth++;
    else if (text[at] === ")") depth--;
    else if (text[at] === "," && depth === 0) {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

function checkKey(key: string, whole: string): string {
  if (!labelKey.test(key)) throw malformed(whole, `"${key}" is not a label key`);
  return key;
}

function checkValue(value: string, whole: string): string {
  if (value.length > 63 || !labelValue.test(value)) throw malformed(whole, `"${value}" is not a label value`);
  return value;
}

function malformed(text: string, why: string): ApiError {
  return new ApiError("BadRequest", `unable to parse requirement in selector "${text}": ${why}`);
}

export function matchesLabels(selector: LabelSelector, labels: Readonly<Record<string, string>> = {}): boolean {
  return selector.every((requirement) => holds(requirement, labels));
}

function holds(requirement: LabelRequirement, labels: Readonly<Record<string, string>>): boolean {
  const value = Object.hasOwn(labels, requirement.key) ? labels[requirement.key] : undefined;
  switch (requirement.operator) {
    case "in":
      return value !== undefined && requirement.values.includes(value);
    case "notin":
      return value === undefined || !requirement.values.includes(value);
    case "exists":
      return value !== undefined;
    case "absent":
      return value === undefined;
    case "gt":
      return value !== undefined && Number(value) > requirement.bound;
    case "lt":
      return value !== undefined && Number(value) < requirement.bound;
  }
}

/** The selector form inside objects: `{ matchLabels, matchExpressions }`. */
export interface LabelSelectorObject {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

/** Turns the object form into requirements; an absent selector is the caller's question (nothing or everything). */
export function fromSelectorObject(selector: LabelSelectorObject): LabelSelector {
  const equal = Object.entries(selector.matchLabels ?? {}).map(([key, value]): LabelRequirement => ({
    key,
    operator: "in",
    values: [value],
  }));
  const expressions = (selector.matchExpressions ?? []).map(({ key, operator, values = [] }): LabelRequirement => {
    switch (operator) {
      case "In":
        return { key, operator: "in", values };
      case "NotIn":
        return { key, operator: "notin", values };
      case "Exists":
        return { key, operator: "exists" };
      case "DoesNotExist":
        return { key, operator: "absent" };
      default:
        throw new ApiError("BadRequest", `"${operator}" is not a valid label selector operator`);
    }
  });
  return [...equal, ...expressions];
}

/** One term of a field selector. */
export interface FieldTerm {
  readonly path: string;
  readonly equal: boolean;
  readonly value: string;
}

/** Reads `status.phase=Running,metadata.namespace!=kube-system`. */
export function parseFieldSelector(text: string): readonly FieldTerm[] {
  return text
    .split(/(?<!\\),/u)
    .filter((part) => part.trim() !== "")
    .map((part) => {
      const term = /^([^=!]+?)\s*(==|=|!=)(.*)$/u.exec(part);
      if (term === null) throw new ApiError("BadRequest", `invalid selector: "${text}"; can't understand "${part}"`);
      const value = (term[3] ?? "").replaceAll(/\\([\\,=])/gu, "$1");
      return { path: (term[1] ?? "").trim(), equal: term[2] !== "!=", value };
    });
}

/** Field paths that a resource may be selected by; every resource has the first two. */
const commonFields = ["metadata.name", "metadata.namespace"];
const fieldsOf: Readonly<Record<string, readonly string[]>> = {
  pods: [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
  ],
  events: [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
  ],
  secrets: ["type"],
  namespaces: ["status.phase"],
  nodes: ["spec.unschedulable"],
  services: ["spec.clusterIP", "spec.type"],
  replicasets: ["status.replicas"],
  jobs: ["status.successful"],
};

/** Refuses a path that the resource does not index, as Kubernetes does, rather than matching nothing in silence. */
export function checkFieldSelector(
  resource: string,
  selector: readonly FieldTerm[],
  extra: readonly string[] = [],
): void {
  for (const { path } of selector) {
    const known = commonFields.includes(path) || fieldsOf[resource]?.includes(path) === true || extra.includes(path);
    if (!known) throw new ApiError("BadRequest", `field label not supported: ${path}`);
  }
}

export function matchesFields(selector: readonly FieldTerm[], object: object): boolean {
  return selector.every(({ path, equal, value }) => (readPath(object, path) === value) === equal);
}

/** The value at a dotted path as the text a field selector compares; absent is the empty text. */
function readPath(object: object, path: string): string {
  if (path === "source") return readPath(object, "source.component");
  let value: unknown = object;
  for (const step of path.split(".")) {
    value = typeof value === "object" && value !== null ? (value as Record<string, unknown>)[step] : undefined;
  }
  if (value === undefined || value === null)
    return path.endsWith("unschedulable") || path.endsWith("hostNetwork") ? "false" : "";
  return typeof value === "string" ? value : JSON.stringify(value);
}
