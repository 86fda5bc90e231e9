/** One resource as the server sends it; its message is encoded once, when it changes. */
export interface ServedResource {
  readonly name: string;
  /** Content hash; empty where the type has none, and then a client's claim never spares a resend. */
  readonly version: string;
  /** Other names under which a client may ask for it. Sent only to those who ask by name. */
  readonly aliases: readonly string[];
  /** The encoded message. */
  readonly value: Uint8Array;
}

/** Names whose resource is new, different or gone. What became of a name is read from the source when it is sent. */
export type ChangeListener = (names: ReadonlySet<string>) => void;

/** What a {@link DiscoveryServer} serves for one type. */
export interface ResourceSource {
  readonly typeUrl: string;
  /** Of its resources, where that is not the type that is asked for. */
  readonly resourceType?: string;
  /** Identifier of the control plane that goes with each response; absent: none does. */
  readonly controlPlane?: string;
  get(name: string): ServedResource | undefined;
  all(): Iterable<ServedResource>;
  onChange(listener: ChangeListener): () => void;
  /** How clients ask for single names; absent where the type always comes whole. */
  readonly onDemand?: OnDemand;
}

export interface OnDemand {
  /** Primary names for a key that a client asks for: a name or an alias. Empty where nothing is known of it. */
  resolve(key: string): readonly string[];
  /** What a client needs too when it needs `name`; it is subscribed to that as well. */
  implied(name: string): readonly string[];
  /** What a client gets unasked, for its node. */
  onNode(nodeName: string): readonly string[];
  isOnNode(name: string, nodeName: string): boolean;
}

/** A whole type in memory, replaced at once and told as difference. */
export class ResourceStore implements ResourceSource {
  readonly typeUrl: string;
  readonly #listeners = new Set<ChangeListener>();
  #resources: ReadonlyMap<string, ServedResource> = new Map();

  constructor(typeUrl: string) {
    this.typeUrl = typeUrl;
  }

  get(name: string): ServedResource | undefined {
    return this.#resources.get(name);
  }

  all(): Iterable<ServedResource> {
    return this.#resources.values();
  }

  get size(): number {
    return this.#resources.size;
  }

  onChange(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Swaps the whole type in and tells who listens what differs; returns that. `same` says whether two are equal. */
  replace(
    next: ReadonlyMap<string, ServedResource>,
    same: (a: ServedResource, b: ServedResource) => boolean,
  ): ReadonlySet<string> {
    const before = this.#resources;
    const changed = new Set<string>();
    for (const [name, resource] of next) {
      const old = before.get(name);
      if (old === undefined || !same(old, resource)) changed.add(name);
    }
    for (const name of before.keys()) if (!next.has(name)) changed.add(name);
    this.#resources = next;
    if (changed.size > 0) for (const listener of this.#listeners) listener(changed);
    return changed;
  }
}
