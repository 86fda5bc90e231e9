import type { Duplex } from "node:stream";
import type { Clock } from "#shared/clock/clock.ts";

/** How long the peer may take to hang up. Milliseconds. */
const patienceMs = 1_000;
/** Octets that it may still send meanwhile. */
const maxBytes = 4_194_304;

/**
 * The end of a connection whose last frame is written. It is not torn down at once: what the peer still sends would make
 * the kernel answer with a reset, which can overtake that frame.
 */
export class Farewell {
  readonly cancel: () => void;
  readonly #duplex: Duplex;
  #bytes = 0;

  constructor(duplex: Duplex, clock: Clock) {
    this.#duplex = duplex;
    this.cancel = clock.schedule(patienceMs, () => duplex.destroy());
    duplex.resume();
    duplex.end();
  }

  /** The peer goes on. */
  heard(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > maxBytes) this.#duplex.destroy();
  }
}
