/**
 * Limits that the service itself knows, in the file format of the widely used reference service: a domain and nested
 * descriptors. Limits that ride along in a request need none of this.
 */
import { parseAllDocuments } from "yaml";
import { MeshError } from "#shared/errors/mesh-error.ts";

export const unitSeconds = {
  second: 1,
  minute: 60,
  hour: 3_600,
  day: 86_400,
  week: 604_800,
  month: 2_592_000,
  year: 31_536_000,
} as const;
export type Unit = keyof typeof unitSeconds;

export interface Quota {
  readonly requestsPerUnit: number;
  readonly unit: Unit;
  /** Empty where it has none. */
  readonly name: string;
  /** Names of limits that do not count where this one does. */
  readonly replaces: readonly string[];
}

/** What is known of a descriptor. */
export type Known =
  | {
      readonly kind: "quota";
      readonly quota: Quota;
      readonly isShadow: boolean;
      /** Place of an entry → the text under which all its values count together. */
      readonly sharedValues: ReadonlyMap<number, string>;
    }
  | { readonly kind: "unlimited" };

interface Entry {
  readonly key: string;
  readonly value: string;
}

interface Node {
  readonly exact: Map<string, Node>;
  /** `value*`, longest first. */
  readonly prefixes: {
    readonly key: string;
    readonly prefix: string;
    readonly isShared: boolean;
    readonly node: Node;
  }[];
  known: Known | undefined;
}

const emptyNode = (): Node => ({ exact: new Map(), prefixes: [], known: undefined });
const keyOf = (key: string, value: string | undefined): string => (value === undefined ? key : `${key}\n${value}`);

export class Limits {
  readonly #domains = new Map<string, Node>();

  /** The limit of exactly these entries: at each step a value that is written, then one by its beginning, then any value. */
  find(domain: string, entries: readonly Entry[]): Known | undefined {
    let node = this.#domains.get(domain);
    let sharedValues: Map<number, string> | undefined;
    for (const [index, { key, value }] of entries.entries()) {
      if (node === undefined) return undefined;
      const exact = node.exact.get(keyOf(key, value));
      const prefixed =
        exact === undefined
          ? node.prefixes.find((each) => each.key === key && value.startsWith(each.prefix))
          : undefined;
      if (prefixed?.isShared === true) (sharedValues ??= new Map()).set(index, `${prefixed.prefix}*`);
      node = exact ?? prefixed?.node ?? node.exact.get(keyOf(key, undefined));
    }
    const known = entries.length === 0 ? undefined : node?.known;
    return known?.kind === "quota" && sharedValues !== undefined ? { ...known, sharedValues } : known;
  }

  /**
   * Adds the documents of one file.
   *
   * @throws MeshError CONFIG_INVALID with everything that is wrong
   */
  add(file: string, text: string): void {
    const problems: string[] = [];
    const documents = parseAllDocuments(text);
    for (const document of "empty" in documents ? [] : documents) {
      problems.push(...document.errors.map(({ message }) => message.split("\n")[0] ?? message));
      if (document.errors.length > 0) continue;
      const root = document.toJS({ maxAliasCount: 100 }) as unknown;
      if (!isRecord(root)) {
        problems.push("is no object: write domain and descriptors");
        continue;
      }
      refuseUnknown(root, rootFields, "", problems);
      const { domain } = root;
      if (typeof domain !== "string" || domain === "") {
        problems.push("domain: is missing");
        continue;
      }
      if (this.#domains.has(domain)) problems.push(`domain: "${domain}" is there twice`);
      const node = emptyNode();
      readDescriptors(root["descriptors"], node, "descriptors", problems, 0);
      this.#domains.set(domain, node);
    }
    if (problems.length > 0) {
      throw new MeshError("CONFIG_INVALID", `Cannot use the limits in ${file}: ${problems.join("; ")}`);
    }
  }
}

const textOf = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value ?? ""));

type Plain = Readonly<Record<string, unknown>>;
const isRecord = (value: unknown): value is Plain =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const rootFields = ["domain", "descriptors"];
/** Those of metrics are without effect: limits are counted by policy and name. */
const descriptorFields = [
  "key",
  "value",
  "rate_limit",
  "descriptors",
  "shadow_mode",
  "share_threshold",
  "detailed_metric",
  "value_to_metric",
];
const limitFields = ["unit", "requests_per_unit", "unlimited", "name", "replaces"];

function refuseUnknown(object: Plain, known: readonly string[], at: string, problems: string[]): void {
  for (const field of Object.keys(object)) {
    if (!known.includes(field)) problems.push(`${at}${field}: is not known; known are ${known.join(", ")}`);
  }
}

/** `replaces: [{ name }]`. */
function readReplaces(limit: Plain, path: string, problems: string[]): readonly string[] {
  const list = limit["replaces"] ?? [];
  if (!Array.isArray(list)) {
    problems.push(`${path}.rate_limit.replaces: is no list`);
    return [];
  }
  return (list as readonly unknown[]).flatMap((each, index) => {
    const name = isRecord(each) ? each["name"] : undefined;
    if (typeof name === "string" && name !== "") return [name];
    problems.push(`${path}.rate_limit.replaces[${index}].name: is missing`);
    return [];
  });
}

const deepest = 32;

function readDescriptors(list: unknown, parent: Node, path: string, problems: string[], depth: number): void {
  if (list === undefined || list === null) return;
  if (!Array.isArray(list)) {
    problems.push(`${path}: is no list`);
    return;
  }
  if (depth > deepest) {
    problems.push(`${path}: is nested more than ${deepest} deep`);
    return;
  }
  for (const [index, item] of (list as readonly unknown[]).entries()) {
    const at = `${path}[${index}]`;
    if (!isRecord(item) || typeof item["key"] !== "string" || item["key"] === "") {
      problems.push(`${at}.key: is missing`);
      continue;
    }
    refuseUnknown(item, descriptorFields, `${at}.`, problems);
    const { key } = item;
    const value = item["value"] === undefined ? undefined : textOf(item["value"]);
    const node = emptyNode();
    if (value?.endsWith("*") === true) {
      parent.prefixes.push({ key, prefix: value.slice(0, -1), isShared: item["share_threshold"] === true, node });
      parent.prefixes.sort((a, b) => b.prefix.length - a.prefix.length);
    } else if (parent.exact.has(keyOf(key, value))) problems.push(`${at}: "${key}" is there twice`);
    else parent.exact.set(keyOf(key, value), node);
    node.known = readLimit(item, at, problems);
    readDescriptors(item["descriptors"], node, `${at}.descriptors`, problems, depth + 1);
  }
}

function readLimit(item: Plain, path: string, problems: string[]): Known | undefined {
  const limit = item["rate_limit"];
  if (limit === undefined || limit === null) return undefined;
  if (!isRecord(limit)) {
    problems.push(`${path}.rate_limit: is no object`);
    return undefined;
  }
  refuseUnknown(limit, limitFields, `${path}.rate_limit.`, problems);
  if (limit["unlimited"] === true) return { kind: "unlimited" };
  const unit = textOf(limit["unit"]).toLowerCase();
  const requests = limit["requests_per_unit"];
  if (!Object.hasOwn(unitSeconds, unit)) {
    problems.push(`${path}.rate_limit.unit: "${unit}" is none of ${Object.keys(unitSeconds).join(", ")}`);
    return undefined;
  }
  if (typeof requests !== "number" || !Number.isInteger(requests) || requests < 0) {
    problems.push(`${path}.rate_limit.requests_per_unit: "${textOf(requests)}" is no whole number`);
    return undefined;
  }
  const name = typeof limit["name"] === "string" ? limit["name"] : "";
  return {
    kind: "quota",
    quota: { requestsPerUnit: requests, unit: unit as Unit, name, replaces: readReplaces(limit, path, problems) },
    isShadow: item["shadow_mode"] === true,
    sharedValues: new Map(),
  };
}
