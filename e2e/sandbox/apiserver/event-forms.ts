import type { JsonObject } from "./schema.ts";

/** Fields of an event that are named differently in the two APIs: `v1` ↔ `events.k8s.io/v1`. */
const renamed = [
  ["involvedObject", "regarding"],
  ["message", "note"],
  ["reportingComponent", "reportingController"],
  ["source", "deprecatedSource"],
  ["firstTimestamp", "deprecatedFirstTimestamp"],
  ["lastTimestamp", "deprecatedLastTimestamp"],
  ["count", "deprecatedCount"],
] as const;

const toNewNames = new Map<string, string>(renamed);
const toCoreNames = new Map<string, string>(renamed.map(([core, recent]) => [recent, core]));

function rename(event: JsonObject, names: ReadonlyMap<string, string>, apiVersion: string): JsonObject {
  const entries = Object.entries(event).map(([field, value]) => [names.get(field) ?? field, value] as const);
  return { ...Object.fromEntries(entries), apiVersion };
}

/** Events are stored in the form of the core group, whichever way they come. */
export const toCoreEvent = (event: JsonObject): JsonObject => rename(event, toCoreNames, "v1");
export const toNewEvent = (event: JsonObject): JsonObject => rename(event, toNewNames, "events.k8s.io/v1");
