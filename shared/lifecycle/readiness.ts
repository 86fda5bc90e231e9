/** Ready once nothing that was named as a blocker is left. */
export class Readiness {
  readonly #blockers = new Map<string, number>();

  /** Not ready until the returned blocker is disposed of. The same name may block several times. */
  block(name: string): Disposable {
    this.#blockers.set(name, (this.#blockers.get(name) ?? 0) + 1);
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        const left = (this.#blockers.get(name) ?? 0) - 1;
        if (left > 0) this.#blockers.set(name, left);
        else this.#blockers.delete(name);
      },
    };
  }

  get isReady(): boolean {
    return this.#blockers.size === 0;
  }

  /** Names of what is waited for, sorted. */
  get pending(): readonly string[] {
    return [...this.#blockers.keys()].toSorted();
  }
}
