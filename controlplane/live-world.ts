import type { Logger } from "#shared/observe/logger.ts";
import type { MeshConfigPlace } from "#controlplane/mesh/mesh-config.ts";
import type { FetchedKeys } from "#controlplane/mesh/token-keys.ts";
import { World, type WorldView } from "#controlplane/mesh/world.ts";
import type { SourceFacts } from "#controlplane/debug/debug-server.ts";
import { refKey, type ObjectRef, type SourceEvent } from "#controlplane/sources/source.ts";

/** What an event changed, for metrics. */
export interface Change {
  readonly kind: string;
  readonly type: "upsert" | "remove" | "refuse";
}

/** The world that a source tells, and what is wrong in it. */
export class LiveWorld {
  readonly #world: World;
  readonly #log: Logger;
  readonly #counts = new Map<string, number>();
  readonly #known = new Set<string>();
  /** Lines of what is not in force as last written, by object or place. */
  readonly #errors = new Map<string, readonly string[]>();

  constructor(log: Logger, meshConfig: MeshConfigPlace) {
    this.#world = new World(meshConfig);
    this.#log = log;
  }

  get view(): WorldView {
    return this.#world;
  }

  /** Keys for tokens, fetched beside the objects that name them. */
  setFetchedKeys(keys: ReadonlyMap<string, FetchedKeys>): void {
    this.#world.setFetchedKeys(keys);
  }

  /** Takes an event in; what is returned may change what is served. */
  take(event: SourceEvent): Change | undefined {
    switch (event.type) {
      case "upsert": {
        this.#count(event.ref, 1);
        const problem = this.#world.upsert(event.object);
        const name = describe(event.ref);
        if (problem === undefined) this.#errors.delete(name);
        else {
          this.#errors.set(name, [`${problem.path}: ${problem.message}`]);
          this.#log.warn({ object: name, path: problem.path, error: problem.message }, "object is not in force");
        }
        return { kind: event.ref.kind, type: "upsert" };
      }
      case "remove":
        this.#count(event.ref, -1);
        this.#world.remove(event.object);
        this.#errors.delete(describe(event.ref));
        return { kind: event.ref.kind, type: "remove" };
      case "refuse":
        // The last valid version is in the world already, and the source has logged the reason.
        this.#errors.set(describe(event.ref), event.lines);
        return { kind: event.ref.kind, type: "refuse" };
      case "trouble":
        if (event.lines.length === 0) this.#errors.delete(event.place);
        else this.#errors.set(event.place, event.lines);
        return undefined;
      case "synced":
        return undefined;
    }
  }

  facts(source: string): SourceFacts {
    return {
      source,
      objects: Object.fromEntries([...this.#counts].filter(([, count]) => count > 0)),
      errors: [...this.#errors].map(([object, lines]) => ({ object, lines })),
    };
  }

  #count(ref: ObjectRef, by: 1 | -1): void {
    const key = refKey(ref);
    if (by === 1 ? this.#known.has(key) : !this.#known.delete(key)) return;
    if (by === 1) this.#known.add(key);
    this.#counts.set(ref.kind, (this.#counts.get(ref.kind) ?? 0) + by);
  }
}

const describe = ({ kind, namespace, name }: ObjectRef): string =>
  `${kind} ${namespace === "" ? name : `${namespace}/${name}`}`;
