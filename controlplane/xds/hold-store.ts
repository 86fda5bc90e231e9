/**
 * A type of one client's own. What is taken out is held for a moment: a listener that still sends to a cluster is
 * changed before that cluster goes.
 */
import type { Clock } from "#shared/clock/clock.ts";
import {
  ResourceStore,
  type ChangeListener,
  type OnDemand,
  type ResourceSource,
  type ServedResource,
} from "#shared/xds/resource-store.ts";

export type Resources = ReadonlyMap<string, ServedResource>;

export class HoldStore implements ResourceSource, Disposable {
  readonly typeUrl: string;
  readonly onDemand: OnDemand;
  readonly #store: ResourceStore;
  readonly #clock: Clock;
  readonly #holdMs: number;
  #wanted: Resources = new Map();
  #held: Resources = new Map();
  #cancel: () => void = () => {};

  /** @param holdMs how long what is taken out stays; 0: not at all */
  constructor(typeUrl: string, clock: Clock, holdMs: number) {
    this.typeUrl = typeUrl;
    this.#store = new ResourceStore(typeUrl);
    this.#clock = clock;
    this.#holdMs = holdMs;
    this.onDemand = {
      resolve: (key) => (this.#store.get(key) === undefined ? [] : [key]),
      implied: () => [],
      onNode: () => [],
      isOnNode: () => false,
    };
  }

  get(name: string): ServedResource | undefined {
    return this.#store.get(name);
  }

  all(): Iterable<ServedResource> {
    return this.#store.all();
  }

  onChange(listener: ChangeListener): () => void {
    return this.#store.onChange(listener);
  }

  /**
   * Swaps everything in; returns the names that are told as changed. `touched` are told even where they are the same: a
   * client that has built something anew waits for them.
   */
  replace(next: Resources, touched: ReadonlySet<string> = new Set()): ReadonlySet<string> {
    const gone = [...this.#wanted, ...this.#held].filter(([name]) => !next.has(name));
    this.#wanted = next;
    this.#cancel();
    if (this.#holdMs > 0 && gone.length > 0) {
      this.#held = new Map(gone);
      this.#cancel = this.#clock.schedule(this.#holdMs, () => this.#letGo());
    } else this.#held = new Map();
    return this.#apply(touched);
  }

  #letGo(): void {
    this.#held = new Map();
    this.#apply(new Set());
  }

  #apply(touched: ReadonlySet<string>): ReadonlySet<string> {
    const all = this.#held.size === 0 ? this.#wanted : new Map([...this.#held, ...this.#wanted]);
    return this.#store.replace(all, (a, b) => a.version === b.version && !touched.has(a.name));
  }

  [Symbol.dispose](): void {
    this.#cancel();
  }
}
