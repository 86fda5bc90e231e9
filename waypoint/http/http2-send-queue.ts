/** The connection's own send window, and the streams that wait for it, for their own, or for the transport. */
import type { Clock } from "#shared/clock/clock.ts";
import { ConnectionError, defaultWindow, errorCodes, maxWindow } from "./http2-frames.ts";
import type { FrameOutput } from "./http2-output.ts";
import type { Http2Stream } from "./http2-stream.ts";

export interface SendQueueOptions {
  readonly clock: Clock;
  readonly output: FrameOutput;
  /** How long octets of ours may wait for a peer that takes none. Milliseconds. */
  readonly stalledMs: number;
  /** The peer's transport has taken nothing for so long. */
  readonly onDead: (error: Error) => void;
}

export class SendQueue {
  /** Octets that the peer lets the whole connection send. */
  window = defaultWindow;
  readonly #options: SendQueueOptions;
  readonly #waiting = new Set<Http2Stream>();
  #isPumping = false;
  #blockedSinceMs = 0;
  #cancelCheck: (() => void) | undefined;

  constructor(options: SendQueueOptions) {
    this.#options = options;
  }

  add(stream: Http2Stream): void {
    stream.progressMs = this.#options.clock.now();
    this.#waiting.add(stream);
    this.#watch();
  }

  delete(stream: Http2Stream): void {
    this.#waiting.delete(stream);
  }

  clear(): void {
    this.#waiting.clear();
    this.#cancelCheck?.();
    this.#cancelCheck = undefined;
  }

  /** @throws ConnectionError */
  widen(increment: number): void {
    this.window += increment;
    if (this.window > maxWindow) throw new ConnectionError(errorCodes.flowControlError, "a window past 2^31");
    this.pump();
  }

  /** The transport has enough; {@link drained} follows, or else the peer is dead. */
  blocked(): void {
    if (this.#blockedSinceMs === 0) this.#blockedSinceMs = this.#options.clock.now();
    this.#watch();
  }

  drained(): void {
    this.#blockedSinceMs = 0;
    this.pump();
  }

  /** There is room: everybody has a turn, and who still waits afterwards goes to the end of the queue. */
  pump(): void {
    const { output, clock } = this.#options;
    if (this.#isPumping || output.isBlocked || this.#waiting.size === 0) return;
    this.#isPumping = true;
    const nowMs = clock.now();
    for (const stream of Array.from(this.#waiting)) {
      if (output.isBlocked) break;
      if (this.#waiting.has(stream)) this.pumpStream(stream, nowMs);
    }
    this.#isPumping = false;
  }

  pumpStream(stream: Http2Stream, nowMs: number): void {
    this.#waiting.delete(stream);
    if (!stream.pump(nowMs) && !stream.isClosed) this.#waiting.add(stream);
  }

  #watch(): void {
    const { clock, stalledMs } = this.#options;
    this.#cancelCheck ??= clock.schedule(stalledMs / 2, () => this.#check());
  }

  #check(): void {
    const { clock, output, stalledMs, onDead } = this.#options;
    this.#cancelCheck = undefined;
    const sinceMs = clock.now() - stalledMs;
    if (output.isBlocked && this.#blockedSinceMs <= sinceMs) {
      onDead(new Error(`the peer read nothing for ${stalledMs} ms`));
      return;
    }
    if (!output.isBlocked) {
      for (const stream of this.#waiting) {
        if (stream.progressMs <= sinceMs) stream.fail(errorCodes.enhanceYourCalm, "the peer opened no window");
      }
    }
    if (this.#waiting.size > 0 || output.isBlocked) this.#watch();
  }
}
