import type { Clock } from "#shared/clock/clock.ts";
import type { KubeObject, ObjectMeta, ObjectStore } from "./apiserver/object-store.ts";
import { resources } from "./kinds.ts";

export interface EventSubject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  /** For an event about one container: `spec.containers{web}`. */
  readonly fieldPath?: string;
}

/** What `kubectl describe` and `kubectl get events` show. */
export interface EventRecorder {
  record(subject: EventSubject, type: "Normal" | "Warning", reason: string, message: string): void;
}

/** Events of one sandbox; the oldest make room. A cluster drops them after an hour. */
const maxEvents = 1_000;

export function eventRecorder(store: ObjectStore, clock: Clock, component: string, host?: string): EventRecorder {
  const known = new Map<string, { readonly namespace: string; readonly name: string }>();
  const timestamp = () => `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;

  const again = (key: string): boolean => {
    const place = known.get(key);
    const event = place && store.get(resources.events, place.namespace, place.name);
    if (event === undefined) return false;
    store.update(resources.events, { ...event, count: Number(event["count"] ?? 1) + 1, lastTimestamp: timestamp() });
    return true;
  };

  const record: EventRecorder["record"] = (subject, type, reason, message) => {
    const { metadata, kind, apiVersion, fieldPath } = subject;
    const namespace = metadata.namespace ?? "default";
    const key = [metadata.uid, fieldPath, type, reason, message].join("\0");
    try {
      if (again(key)) return;
      const event = store.create(resources.events, {
        apiVersion: "v1",
        kind: "Event",
        metadata: { namespace, generateName: `${metadata.name}.` },
        involvedObject: {
          apiVersion,
          kind,
          name: metadata.name,
          uid: metadata.uid,
          resourceVersion: metadata.resourceVersion,
          ...(metadata.namespace === undefined ? {} : { namespace }),
          ...(fieldPath === undefined ? {} : { fieldPath }),
        },
        type,
        reason,
        message: message.slice(0, 1024),
        source: { component, ...(host === undefined ? {} : { host }) },
        reportingComponent: component,
        reportingInstance: host ?? "",
        count: 1,
        firstTimestamp: timestamp(),
        lastTimestamp: timestamp(),
      });
      known.set(key, { namespace, name: event.metadata.name });
      dropOldest();
    } catch {
      // A namespace on its way out takes no more events, and nobody misses them.
    }
  };

  const dropOldest = () => {
    if (known.size <= maxEvents) return;
    for (const [key, { namespace, name }] of known) {
      known.delete(key);
      const event: KubeObject | undefined = store.get(resources.events, namespace, name);
      if (event !== undefined) store.delete(resources.events, namespace, name);
      if (known.size <= maxEvents / 2) return;
    }
  };

  return { record };
}
