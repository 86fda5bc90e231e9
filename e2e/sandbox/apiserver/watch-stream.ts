import type { ServerResponse } from "node:http";
import type { Clock } from "#shared/clock/clock.ts";
import { ApiError } from "./api-error.ts";
import type { KubeObject, MemoryObjectStore, StoreEvent } from "./object-store.ts";
import { storageOf, type Matcher } from "./read-objects.ts";
import type { ResourceInfo } from "./resources.ts";
import type { JsonObject } from "./schema.ts";

/** Bytes that may wait for a slow watcher before it is cut off; it then lists and watches again. */
export const maxQueuedBytes = 16 * 1024 * 1024;
/** Time between bookmarks, which tell an idle watcher how far it has come: a minute, as Kubernetes. */
const bookmarkMs = 60_000;
/** Kubernetes ends watches after half an hour to an hour, so that clients spread over servers; ours after this. */
const defaultTimeoutMs = 45 * 60_000;

export interface WatchOptions {
  readonly namespace?: string;
  readonly matches: Matcher;
  readonly resourceVersion?: string;
  readonly timeoutSeconds?: number;
  readonly allowBookmarks: boolean;
  readonly sendInitialEvents: boolean;
  /** What is sent for an object: the object itself, its metadata, or a table. */
  readonly render: (object: KubeObject) => unknown;
  readonly bookmark: (metadata: JsonObject) => unknown;
}

/**
 * Streams changes as lines of JSON until the client goes, time is up, or the client is too slow. Throws before the first
 * byte when the resource version is no longer known.
 */
export function streamWatch(
  store: MemoryObjectStore,
  info: ResourceInfo,
  options: WatchOptions,
  response: ServerResponse,
  clock: Clock,
): () => void {
  const { since, replay } = readStart(options, store.resourceVersion);
  let bookmarkTimer = () => {};
  let unsubscribe = () => {};
  let isOpen = true;
  let seen = store.resourceVersion;
  const stop = () => {
    if (!isOpen) return;
    isOpen = false;
    unsubscribe();
    bookmarkTimer();
    endTimer();
    response.end();
  };
  const send = (type: string, object: unknown) => {
    if (!isOpen) return;
    response.write(`${JSON.stringify({ type, object })}\n`);
    if (response.writableLength > maxQueuedBytes) {
      stop();
      response.destroy();
    }
  };
  const onEvent = (event: StoreEvent) => {
    seen = Math.max(seen, event.resourceVersion);
    const change = translate(event, options);
    if (change !== undefined) send(change.type, options.render(change.object));
  };
  const initial = replay ? store.list(storageOf(info)) : [];
  unsubscribe = store.subscribe(storageOf(info), onEvent, { since });
  const endTimer = clock.schedule(
    options.timeoutSeconds === undefined ? defaultTimeoutMs : options.timeoutSeconds * 1000,
    stop,
  );
  response.on("close", stop);
  response.writeHead(200, { "content-type": "application/json", "cache-control": "no-cache, private" });
  response.flushHeaders();
  for (const object of initial) if (isWatched(object, options)) send("ADDED", options.render(object));
  if (options.sendInitialEvents && options.allowBookmarks) {
    const annotations = { "k8s.io/initial-events-end": "true" };
    send("BOOKMARK", options.bookmark({ resourceVersion: String(seen), creationTimestamp: null, annotations }));
  }
  const scheduleBookmark = () => {
    bookmarkTimer = clock.schedule(bookmarkMs, () => {
      send("BOOKMARK", options.bookmark({ resourceVersion: String(store.resourceVersion), creationTimestamp: null }));
      if (isOpen) scheduleBookmark();
    });
  };
  if (options.allowBookmarks) scheduleBookmark();
  return stop;
}

/** Without a version, or from 0, a watch begins with everything that exists. */
function readStart(
  { resourceVersion, sendInitialEvents }: WatchOptions,
  current: number,
): { since: number; replay: boolean } {
  const isFresh = resourceVersion === undefined || resourceVersion === "" || resourceVersion === "0";
  if (sendInitialEvents || isFresh) return { since: current, replay: true };
  if (!/^\d+$/u.test(resourceVersion))
    throw new ApiError("BadRequest", `Invalid value: "${resourceVersion}": resourceVersion is not a number`);
  // A version from another life of this server: only a new list can help.
  if (Number(resourceVersion) > current)
    throw new ApiError("Expired", `Too large resource version: ${resourceVersion}, current: ${current}`);
  return { since: Number(resourceVersion), replay: false };
}

function isWatched(object: KubeObject, { namespace, matches }: WatchOptions): boolean {
  return (namespace === undefined || object.metadata.namespace === namespace) && matches(object);
}

/** What a change means to a watcher with a selector: an object may come into or go out of sight. */
function translate(event: StoreEvent, options: WatchOptions): { type: string; object: KubeObject } | undefined {
  const { type, object, previous } = event;
  const before = previous !== undefined && isWatched(previous, options);
  if (type === "DELETED") return before ? { type, object } : undefined;
  const now = isWatched(object, options);
  if (now) return { type: before ? "MODIFIED" : "ADDED", object };
  if (!before) return undefined;
  return { type: "DELETED", object };
}
