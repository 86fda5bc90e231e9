/** Sends spans to a collector in batches. Bounded: what a collector does not take is dropped and counted, requests never wait. */
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { Series } from "#shared/observe/metrics.ts";
import type { Span } from "#shared/proto/gen/opentelemetry/proto/trace/v1/trace_pb.js";

/** As the batch processor of OpenTelemetry's SDKs, with a shorter wait: traces are looked for right after a request. */
const maxQueued = 2_048;
const maxBatch = 512;
const gatherMs = 1_000;

export interface SpanExporterParts {
  readonly clock: Clock;
  readonly log: Logger;
  /** Makes the request that carries a batch. */
  readonly encode: (spans: Span[]) => Uint8Array;
  /** Delivers one encoded request. */
  readonly send: (message: Uint8Array) => Promise<void>;
  readonly exported: Series;
  readonly dropped: Series;
}

export class SpanExporter {
  readonly #parts: SpanExporterParts;
  #queue: Span[] = [];
  #cancel: (() => void) | undefined;
  #sending: Promise<void> | undefined;
  #hasFailed = false;

  constructor(parts: SpanExporterParts) {
    this.#parts = parts;
  }

  add(span: Span): void {
    if (this.#queue.length >= maxQueued) {
      this.#parts.dropped.value += 1;
      return;
    }
    this.#queue.push(span);
    if (this.#sending !== undefined) return;
    if (this.#queue.length >= maxBatch) this.#start();
    else this.#cancel ??= this.#parts.clock.schedule(gatherMs, () => this.#start());
  }

  /** Everything that is queued now; resolves when it was sent, or given up. */
  async flush(): Promise<void> {
    while (this.#queue.length > 0 || this.#sending !== undefined) {
      if (this.#sending === undefined) this.#start();
      await this.#sending;
    }
  }

  #start(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    const batch = this.#queue.slice(0, maxBatch);
    this.#queue = this.#queue.slice(maxBatch);
    this.#sending = this.#send(batch).finally(() => {
      this.#sending = undefined;
      if (this.#queue.length >= maxBatch) this.#start();
      else if (this.#queue.length > 0) {
        this.#cancel ??= this.#parts.clock.schedule(gatherMs, () => this.#start());
      }
    });
  }

  async #send(spans: Span[]): Promise<void> {
    const { encode, send, exported, dropped, log } = this.#parts;
    try {
      await send(encode(spans));
      exported.value += spans.length;
      this.#hasFailed = false;
    } catch (error) {
      dropped.value += spans.length;
      // Once until it works again: a collector that is away is away for long.
      if (!this.#hasFailed) log.warn({ spans: spans.length, error: explain(error) }, "spans could not be sent");
      this.#hasFailed = true;
    }
  }
}
