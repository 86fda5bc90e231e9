import type { Clock } from "#shared/clock/clock.ts";
import type { Logging } from "#shared/observe/logging.ts";
import { AccessLog } from "./access-log.ts";
import type { ConnectionFacts, ConnectionFlag, ConnectionRecord, ConnectionReporter } from "./connection-record.ts";
import type { BoundTraffic, TrafficMetrics } from "./traffic-metrics.ts";

/** Why a connection that nobody finished ended. */
const cancelled = "connection closed by drain";

/** Reports to the access log and to Istio's TCP metrics. */
export function openReporter({
  metrics,
  logging,
  clock,
}: {
  readonly metrics: TrafficMetrics;
  readonly logging: Logging;
  readonly clock: Clock;
}): ConnectionReporter {
  const log = new AccessLog(logging.format, logging.sink);
  const observers: Observers = { metrics, logging, clock, log };
  return {
    openRecord: (facts) => new Recording(facts, observers),
    failEarly: (failure) => {
      if (logging.isEnabled("access", "warn")) log.failed(clock.now(), failure);
    },
    socketOpened: (reporter) => void (metrics.openSockets(reporter).value += 1),
    socketClosed: (reporter) => void (metrics.openSockets(reporter).value -= 1),
  };
}

interface Observers {
  readonly metrics: TrafficMetrics;
  readonly logging: Logging;
  readonly clock: Clock;
  readonly log: AccessLog;
}

class Recording implements ConnectionRecord {
  readonly #facts: ConnectionFacts;
  readonly #observers: Observers;
  readonly #startedMs: number;
  readonly #series: BoundTraffic;
  #requestBytes = 0;
  #responseBytes = 0;
  #isFinished = false;

  constructor(facts: ConnectionFacts, observers: Observers) {
    this.#facts = facts;
    this.#observers = observers;
    this.#startedMs = observers.clock.now();
    this.#series = observers.metrics.bind(facts);
    this.#series.opened.value += 1;
    if (observers.logging.isEnabled("access", "debug")) observers.log.opened(this.#startedMs, facts);
  }

  requestBytes(bytes: number): void {
    this.#requestBytes += bytes;
    this.#series.received.value += bytes;
  }

  responseBytes(bytes: number): void {
    this.#responseBytes += bytes;
    this.#series.sent.value += bytes;
  }

  finish(flag: ConnectionFlag, error?: string): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    const { metrics, logging, clock, log } = this.#observers;
    metrics.closed(this.#series, this.#facts, flag);
    if (!logging.isEnabled("access", error === undefined ? "info" : "error")) return;
    const nowMs = clock.now();
    log.completed(nowMs, this.#facts, {
      requestBytes: this.#requestBytes,
      responseBytes: this.#responseBytes,
      durationMs: nowMs - this.#startedMs,
      ...(error !== undefined && { error }),
    });
  }

  [Symbol.dispose](): void {
    this.finish("-", cancelled);
  }
}
