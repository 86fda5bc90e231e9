/** A user connection that can be broken off. */
export interface Abortable {
  abort(error: Error): void;
}

/** The connections that one listener serves, so that a drain can wait for them and then end them. */
export class ConnectionSet {
  readonly #open = new Set<Abortable>();
  #onEmpty: (() => void) | undefined;

  get size(): number {
    return this.#open.size;
  }

  add(connection: Abortable): void {
    this.#open.add(connection);
  }

  delete(connection: Abortable): void {
    this.#open.delete(connection);
    if (this.#open.size === 0) this.#onEmpty?.();
  }

  /** Resolves at once when there is none. One caller at a time. */
  whenEmpty(): Promise<void> {
    if (this.#open.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onEmpty = resolve;
    });
  }

  abortAll(error: Error): void {
    for (const connection of this.#open) connection.abort(error);
  }
}
