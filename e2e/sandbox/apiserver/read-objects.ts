import { ApiError } from "./api-error.ts";
import type { KubeObject, MemoryObjectStore, ResourceId } from "./object-store.ts";
import type { ResourceInfo, ResourceVersion } from "./resources.ts";
import {
  checkFieldSelector,
  matchesFields,
  matchesLabels,
  parseFieldSelector,
  parseLabelSelector,
} from "./selectors.ts";
import { isObject } from "./schema.ts";
import { toCoreEvent, toNewEvent } from "./event-forms.ts";

/** Where a resource's objects are kept: both event APIs show the same objects. */
export function storageOf({ group, resource }: ResourceId): ResourceId {
  return group === "events.k8s.io" && resource === "events" ? { group: "", resource: "events" } : { group, resource };
}

/** A stored object as one served version shows it. */
export function present(object: KubeObject, info: ResourceInfo, version: ResourceVersion): KubeObject {
  if (info.group === "events.k8s.io") return toNewEvent(object) as KubeObject;
  const apiVersion = info.group === "" ? version.name : `${info.group}/${version.name}`;
  return object.apiVersion === apiVersion ? object : { ...object, apiVersion };
}

export function toStored(object: KubeObject, info: ResourceInfo): KubeObject {
  return info.group === "events.k8s.io" ? (toCoreEvent(object) as KubeObject) : object;
}

export type Matcher = (object: KubeObject) => boolean;

/** The selectors of a query as one test. */
export function readSelectors(
  query: URLSearchParams,
  info: ResourceInfo,
  version: ResourceVersion,
  name?: string,
): Matcher {
  const labels = parseLabelSelector(query.get("labelSelector") ?? "");
  const fields = parseFieldSelector(query.get("fieldSelector") ?? "");
  checkFieldSelector(info.resource, fields, version.selectableFields ?? []);
  return (object) =>
    (name === undefined || object.metadata.name === name) &&
    matchesLabels(labels, object.metadata.labels) &&
    matchesFields(fields, object);
}

export interface Page {
  readonly items: readonly KubeObject[];
  readonly resourceVersion: string;
  readonly continue?: string;
  readonly remaining?: number;
}

/** One page of a list. A continued list goes on behind the last name, in the state of now. */
export function listPage(
  store: MemoryObjectStore,
  info: ResourceInfo,
  namespace: string | undefined,
  query: URLSearchParams,
  matches: Matcher,
): Page {
  const after = readContinue(query.get("continue"));
  const limit = readCount(query, "limit");
  const all = store.list(storageOf(info), namespace === undefined ? {} : { namespace }).filter(matches);
  const rest = after === undefined ? all : all.filter((object) => keyOf(object) > after);
  const items = limit === undefined || limit === 0 ? rest : rest.slice(0, limit);
  const remaining = rest.length - items.length;
  const last = items.at(-1);
  const resourceVersion = String(store.resourceVersion);
  if (remaining === 0 || last === undefined) return { items, resourceVersion };
  const token = Buffer.from(JSON.stringify({ v: "meta.k8s.io/v1", start: keyOf(last) })).toString("base64url");
  return { items, resourceVersion, continue: token, remaining };
}

const keyOf = ({ metadata }: KubeObject) => `${metadata.namespace ?? ""}/${metadata.name}`;

function readContinue(token: string | null): string | undefined {
  if (token === null || token === "") return undefined;
  try {
    const value: unknown = JSON.parse(Buffer.from(token, "base64url").toString("utf8"));
    if (isObject(value) && typeof value["start"] === "string") return value["start"];
  } catch {
    // falls through to the refusal
  }
  throw new ApiError("BadRequest", "continue key is not valid");
}

/** A query parameter that counts something. */
export function readCount(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === "") return undefined;
  if (!/^\d{1,12}$/u.test(text))
    throw new ApiError("BadRequest", `strconv.ParseInt: parsing "${text}": invalid syntax (query parameter ${name})`);
  return Number(text);
}

export function readFlag(query: URLSearchParams, name: string): boolean {
  const text = query.get(name);
  return text === "true" || text === "1" || text === "";
}
