/** What the control plane said last of each resource of one type, and what was refused: for the dump. */
import type { Rejection, ResourceHandler, XdsResource } from "#shared/xds/delta-client.ts";

export interface AcceptedResource {
  readonly version: string;
  readonly value: Uint8Array;
  readonly atMs: number;
}

export interface RefusedResource extends AcceptedResource {
  readonly reason: string;
}

/** Refused resources that never came into force are remembered so many at most. */
const maxRefused = 1_000;

export class ResourceLog {
  readonly accepted = new Map<string, AcceptedResource>();
  /** The latest version of a resource where that was refused; its accepted one stays in force. */
  readonly refused = new Map<string, RefusedResource>();
  readonly #now: () => number;
  /** Resolves once the control plane has spoken of this type, whatever became of it. */
  readonly heard: Promise<void>;
  readonly #hear: () => void;

  constructor(now: () => number) {
    this.#now = now;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.heard = promise;
    this.#hear = resolve;
  }

  /** The same handler, watched. */
  watch(handler: ResourceHandler): ResourceHandler {
    return (resources, removed) => {
      const rejections = handler(resources, removed);
      this.#record(resources, removed, rejections);
      this.#hear();
      return rejections;
    };
  }

  #record(resources: readonly XdsResource[], removed: readonly string[], rejections: readonly Rejection[]): void {
    const reasons = new Map(rejections.map(({ name, reason }) => [name, reason]));
    const atMs = this.#now();
    for (const { name, version, value } of resources) {
      const reason = reasons.get(name);
      if (reason === undefined) {
        this.accepted.set(name, { version, value, atMs });
        this.refused.delete(name);
      } else if (this.refused.size < maxRefused || this.refused.has(name)) {
        this.refused.set(name, { version, value, atMs, reason });
      }
    }
    for (const name of removed) {
      this.accepted.delete(name);
      this.refused.delete(name);
    }
  }
}
