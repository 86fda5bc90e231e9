import type { Clock } from "#shared/clock/clock.ts";
import type { KubeObject, ObjectStore, ResourceId } from "../apiserver/object-store.ts";
import type { EventRecorder } from "../events.ts";
import { Reconciler } from "./reconciler.ts";

/** What every controller works with. */
export interface ControllerContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly events: EventRecorder;
  /** For failures that the controller will try again. */
  readonly onError: (controller: string, key: string, error: unknown) => void;
}

export interface Controller {
  close(): void;
}

export interface ControllerDefinition {
  readonly name: string;
  readonly reconcile: (namespace: string, name: string) => number | void;
  /** Which of its objects an event concerns, as `[namespace, name]`. */
  readonly watches: readonly {
    readonly id: ResourceId;
    readonly concerns: (object: KubeObject) => readonly (readonly [string, string])[];
  }[];
}

/** Runs a controller until it is closed. */
export function startController(context: ControllerContext, definition: ControllerDefinition): Controller {
  const reconciler = new Reconciler({
    clock: context.clock,
    reconcile: (key) => {
      const [namespace = "", name = ""] = key.split("/");
      return definition.reconcile(namespace, name);
    },
    onError: (key, error) => context.onError(definition.name, key, error),
  });
  const stops = definition.watches.map(({ id, concerns }) =>
    context.store.watch(
      id,
      ({ object }) => {
        for (const [namespace, name] of concerns(object)) reconciler.enqueue(`${namespace}/${name}`);
      },
      { replay: true },
    ),
  );
  return {
    close: () => {
      for (const stop of stops) stop();
      reconciler.close();
    },
  };
}

/** The object itself. */
export const itself = ({ metadata }: KubeObject): [string, string][] => [[metadata.namespace ?? "", metadata.name]];

/** The controller of this kind that owns the object. */
export const ownerOf =
  (kind: string) =>
  ({ metadata }: KubeObject): [string, string][] =>
    (metadata.ownerReferences ?? [])
      .filter((owner) => owner.controller === true && owner.kind === kind)
      .map((owner) => [metadata.namespace ?? "", owner.name]);

export const timestamp = (clock: Clock): string => `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
