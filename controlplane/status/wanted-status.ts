/** What a status shall say, and what has to be written for it. Pure. */
import { formatProblem, hasErrors } from "#controlplane/schema/problem.ts";
import type { ObjectRef, SourceObject, Upsert, Refuse } from "#controlplane/sources/source.ts";
import { routeController } from "#controlplane/mesh/gateway-route.ts";
import { isDeepStrictEqual } from "node:util";

export interface WantedCondition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration?: number | string;
}

interface WantedListener {
  readonly conditions: readonly WantedCondition[];
  readonly [field: string]: unknown;
}

/** As translation says it; kinds of any group. */
export interface WantedStatus {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly fieldManager: string;
  /** Condition types of this field manager: one that is not in `status.conditions` is to be removed. */
  readonly ownedConditions: readonly string[];
  /** A field that is absent here is not written, and goes where this field manager wrote it before. */
  readonly status: {
    readonly conditions?: readonly WantedCondition[];
    readonly addresses?: readonly object[];
    readonly listeners?: readonly object[];
    readonly parents?: readonly WantedShare[];
    readonly ancestors?: readonly WantedShare[];
  };
}

/** What is said of one parent of a route or one ancestor of a policy. Others may be for other controllers to tell. */
interface WantedShare {
  readonly parentRef?: object;
  readonly ancestorRef?: object;
  readonly controllerName: string;
  readonly conditions: readonly WantedCondition[];
}

/** A list in a status that several controllers share: what its entries are about, and how many it may have. */
interface SharedList {
  readonly ref: "parentRef" | "ancestorRef";
  readonly mostEntries: number;
}

/** The bounds are Gateway API's. */
const parentList: SharedList = { ref: "parentRef", mostEntries: 32 };
const ancestorList: SharedList = { ref: "ancestorRef", mostEntries: 16 };

type Plain = Readonly<Record<string, unknown>>;

const isPlain = (value: unknown): value is Plain =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const listOf = (value: unknown): readonly Plain[] => (Array.isArray(value) ? value.filter(isPlain) : []);

const statusOf = (object: SourceObject | undefined): Plain => (isPlain(object?.["status"]) ? object["status"] : {});

/** Times do not count; numbers may come back as text, as Istio's own kinds write them. */
function isSameCondition(wanted: WantedCondition, found: Plain | undefined): boolean {
  if (found === undefined) return false;
  const generation = wanted.observedGeneration;
  return (
    found["status"] === wanted.status &&
    found["reason"] === wanted.reason &&
    found["message"] === wanted.message &&
    (generation === undefined || String(found["observedGeneration"]) === String(generation))
  );
}

const byType = (conditions: unknown, type: string): Plain | undefined =>
  listOf(conditions).find((condition) => condition["type"] === type);

function areSameConditions(wanted: readonly WantedCondition[], found: unknown): boolean {
  return wanted.every((condition) => isSameCondition(condition, byType(found, condition.type)));
}

/** Whether the object says already what it shall say. */
export function isWritten(wanted: WantedStatus, object: SourceObject): boolean {
  const found = statusOf(object);
  const { conditions = [], addresses, listeners, parents, ancestors } = wanted.status;
  if (!areSameConditions(conditions, found["conditions"])) return false;
  const kept = new Set(conditions.map(({ type }) => type));
  const isStale = (type: string): boolean => !kept.has(type) && byType(found["conditions"], type) !== undefined;
  if (wanted.ownedConditions.some(isStale)) return false;
  if (addresses !== undefined && !isDeepStrictEqual(addresses, found["addresses"])) return false;
  if (parents !== undefined && !areSameShares(parentList, parents, found["parents"])) return false;
  if (ancestors !== undefined && !areSameShares(ancestorList, ancestors, found["ancestors"])) return false;
  return listeners === undefined || areSameListeners(listeners as readonly WantedListener[], found["listeners"]);
}

/** Of such a list, Services and ServiceEntries are ours to tell of; Gateways have others. */
const isOurShare =
  ({ ref }: SharedList) =>
  (entry: Plain): boolean => {
    const { kind } = isPlain(entry[ref]) ? entry[ref] : {};
    return entry["controllerName"] === routeController && (kind === "Service" || kind === "ServiceEntry");
  };

const sameShare = ({ ref }: SharedList, wanted: WantedShare, found: readonly Plain[]): Plain | undefined =>
  found.find((each) => isDeepStrictEqual(each[ref], wanted[ref]));

/** What others say stands first, and stays; who finds a list full may not add to it. */
function othersAndOurs(list: SharedList, wanted: readonly WantedShare[], found: unknown) {
  const [others, ours]: [Plain[], Plain[]] = [[], []];
  const isOurs = isOurShare(list);
  for (const entry of listOf(found)) (isOurs(entry) ? ours : others).push(entry);
  return { others, ours, fitting: wanted.slice(0, Math.max(list.mostEntries - others.length, 0)) };
}

function areSameShares(list: SharedList, wanted: readonly WantedShare[], found: unknown): boolean {
  const { ours, fitting } = othersAndOurs(list, wanted, found);
  if (ours.length !== fitting.length) return false;
  return fitting.every((share) => {
    const same = sameShare(list, share, ours);
    return same !== undefined && areSameConditions(share.conditions, same["conditions"]) && hasNoMore(share, same);
  });
}

/** A condition that is wanted no more is to go. */
const hasNoMore = ({ conditions }: WantedShare, found: Plain): boolean =>
  listOf(found["conditions"]).every(({ type }) => conditions.some((each) => each.type === type));

/** The list is written as a whole, so what others say in it is said again. */
function sharesToApply(
  list: SharedList,
  wanted: readonly WantedShare[],
  found: unknown,
  now: string,
): readonly object[] {
  const { others, ours, fitting } = othersAndOurs(list, wanted, found);
  return [
    ...others,
    ...fitting.map((share) => ({
      ...share,
      conditions: withTimes(share.conditions, sameShare(list, share, ours)?.["conditions"], now),
    })),
  ];
}

function areSameListeners(wanted: readonly WantedListener[], found: unknown): boolean {
  const present = listOf(found);
  if (present.length !== wanted.length) return false;
  return wanted.every(({ conditions, ...facts }) => {
    const listener = present.find((each) => each["name"] === facts["name"]);
    if (listener === undefined) return false;
    const { conditions: foundConditions, ...foundFacts } = listener;
    return isDeepStrictEqual(facts, foundFacts) && areSameConditions(conditions, foundConditions);
  });
}

/** A time goes with its status: it changes when that does, not when a message does. */
function withTimes(wanted: readonly WantedCondition[], found: unknown, now: string): readonly object[] {
  return wanted.map((condition) => {
    const before = byType(found, condition.type);
    const kept = before?.["status"] === condition.status ? before["lastTransitionTime"] : undefined;
    return { ...condition, lastTransitionTime: typeof kept === "string" ? kept : now };
  });
}

/** The status to apply: what `wanted` says, with times, and nothing else, so that what is left out is given up. */
export function statusToApply(wanted: WantedStatus, object: SourceObject, nowMs: number): Plain {
  const now = `${new Date(nowMs).toISOString().slice(0, 19)}Z`;
  const found = statusOf(object);
  const { conditions = [], addresses, listeners, parents, ancestors } = wanted.status;
  return {
    ...(conditions.length === 0 ? {} : { conditions: withTimes(conditions, found["conditions"], now) }),
    ...(addresses === undefined ? {} : { addresses }),
    ...(parents === undefined ? {} : { parents: sharesToApply(parentList, parents, found["parents"], now) }),
    ...(ancestors === undefined ? {} : { ancestors: sharesToApply(ancestorList, ancestors, found["ancestors"], now) }),
    ...(listeners === undefined
      ? {}
      : {
          listeners: (listeners as readonly WantedListener[]).map((listener) => {
            const before = listOf(found["listeners"]).find((each) => each["name"] === listener["name"]);
            return { ...listener, conditions: withTimes(listener.conditions, before?.["conditions"], now) };
          }),
        }),
  };
}

/** Tells the author of an object that its newest version is not in force, and why; or what is odd about it. */
export const validCondition = "ambit.dev/Valid";
const validManager = "ambit-validation";
/** The API server bounds a message to 32 KiB; nobody reads as much. */
const longestMessage = 4_000;

/** What is said of an object's validity; undefined where nothing is, and nothing was. */
export function validity(event: Upsert | Refuse): WantedStatus | undefined {
  const { ref, object, problems } = event;
  const isRefused = event.type === "refuse" && hasErrors(problems);
  const hasCondition = byType(statusOf(object)["conditions"], validCondition) !== undefined;
  if (!isRefused && problems.length === 0 && !hasCondition) return undefined;
  const conditions = isRefused ? [invalidCondition(event)] : problems.length > 0 ? [oddCondition(event)] : [];
  return {
    apiVersion: object.apiVersion,
    kind: ref.kind,
    namespace: ref.namespace,
    name: ref.name,
    fieldManager: validManager,
    ownedConditions: [validCondition],
    status: { conditions },
  };
}

const condition = (object: SourceObject, facts: Pick<WantedCondition, "status" | "reason" | "message">) => ({
  type: validCondition,
  ...facts,
  ...(object.metadata.generation === undefined ? {} : { observedGeneration: object.metadata.generation }),
});

const shortened = (text: string): string =>
  text.length <= longestMessage ? text : `${text.slice(0, longestMessage)}…`;

function oddCondition({ object, problems }: Upsert | Refuse): WantedCondition {
  const text = `The object is in force, but may not do what it says: ${problems.map(formatProblem).join("; ")}`;
  return condition(object, { status: "True", reason: "Warnings", message: shortened(text) });
}

function invalidCondition({ object, kept, lines }: Refuse): WantedCondition {
  const effect =
    kept === undefined ? "The object has no effect" : "The version before, which was valid, stays in force";
  return condition(object, {
    status: "False",
    reason: "Invalid",
    message: shortened(`${effect}: ${lines.join("; ")}`),
  });
}

export const wantedRef = ({ apiVersion, kind, namespace, name }: WantedStatus): ObjectRef => {
  const slash = apiVersion.indexOf("/");
  return { group: slash < 0 ? "" : apiVersion.slice(0, slash), kind, namespace, name };
};
