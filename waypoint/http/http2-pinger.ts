/** PING: to learn whether the peer is there, and that it has read what was sent before. */
import type { Clock } from "#shared/clock/clock.ts";

export interface KeepAlive {
  /** Silence after which the peer is asked. Milliseconds. */
  readonly intervalMs: number;
  /** How long it may take to answer. Milliseconds. */
  readonly timeoutMs: number;
}

export interface PingerOptions {
  readonly clock: Clock;
  readonly keepAlive: KeepAlive | undefined;
  readonly writer: { ping(high: number, low: number): void };
  readonly onDead: (error: Error) => void;
}

export class Pinger {
  readonly #options: PingerOptions;
  #heardMs = 0;
  /** In the order of the pings, which is that of the answers. */
  #waiting: (() => void)[] = [];
  #pings = 0;
  #cancel: (() => void) | undefined;
  #isStopped = false;

  constructor(options: PingerOptions) {
    this.#options = options;
    if (options.keepAlive !== undefined) this.#schedule(options.keepAlive);
  }

  /** `onAnswer` never runs on a connection that closes. */
  ping(onAnswer: () => void): void {
    this.#waiting.push(onAnswer);
    this.#options.writer.ping(0, ++this.#pings);
  }

  answered(): void {
    this.#waiting.shift()?.();
  }

  /** The peer has said something. */
  heard(): void {
    if (this.#options.keepAlive !== undefined) this.#heardMs = this.#options.clock.now();
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel?.();
    this.#waiting = [];
  }

  #schedule(keepAlive: KeepAlive): void {
    if (this.#isStopped) return;
    const { clock, onDead } = this.#options;
    const { intervalMs, timeoutMs } = keepAlive;
    this.#cancel = clock.schedule(intervalMs, () => {
      if (clock.now() - this.#heardMs < intervalMs / 2) {
        this.#schedule(keepAlive);
        return;
      }
      this.#cancel = clock.schedule(timeoutMs, () =>
        onDead(new Error(`the peer answered no PING within ${timeoutMs} ms`)),
      );
      this.ping(() => {
        this.#cancel?.();
        this.#schedule(keepAlive);
      });
    });
  }
}
