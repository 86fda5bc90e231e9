/**
 * Takes hosts out of balancing for a while when they answer with errors. Fed with how each attempt went; every interval it
 * looks at rates and lets hosts back whose time has passed.
 */
import type { Clock } from "#shared/clock/clock.ts";
import type { AttemptOutcome } from "./clusters.ts";
import type { OutlierRecord } from "./outlier-record.ts";

/** Percentages are 0 to 100; `enforcing` is how likely a finding becomes an ejection. */
export interface OutlierConfig {
  readonly intervalMs: number;
  readonly baseEjectionMs: number;
  readonly maxEjectionMs: number;
  readonly maxJitterMs: number;
  readonly maxEjectionPercent: number;
  readonly alwaysEjectsOne: boolean;
  readonly consecutive5xx: ConsecutiveRule;
  readonly consecutiveGatewayFailures: ConsecutiveRule;
  readonly consecutiveLocalOriginFailures: ConsecutiveRule;
  /** Answers that count as errors, by their status alone; undefined: those from 500 on. */
  readonly errorStatuses: ReadonlySet<number> | undefined;
  /** Failures of connections count apart from answers. */
  readonly splitsLocalOrigin: boolean;
  readonly successRate: {
    readonly minHosts: number;
    readonly minRequests: number;
    /** Thousandths of a standard deviation below the mean. */
    readonly stdevFactor: number;
    readonly enforcing: number;
    readonly enforcingLocalOrigin: number;
  };
  readonly failurePercentage: {
    readonly minHosts: number;
    readonly minRequests: number;
    readonly threshold: number;
    readonly enforcing: number;
    readonly enforcingLocalOrigin: number;
  };
}

export interface ConsecutiveRule {
  readonly threshold: number;
  readonly enforcing: number;
}

export interface Watched {
  readonly outlier: OutlierRecord;
  readySinceMs: number;
}

export type EjectionReason =
  | "consecutive_5xx"
  | "consecutive_gateway_failure"
  | "consecutive_local_origin_failure"
  | "success_rate"
  | "success_rate_local_origin"
  | "failure_percentage"
  | "failure_percentage_local_origin";

export interface OutlierDetectorOptions<T> {
  readonly config: OutlierConfig;
  readonly clock: Clock;
  /** [0, 1). */
  readonly random: () => number;
  /** The cluster's hosts now, ejected ones included. */
  readonly hosts: () => readonly T[];
  /** A host went or came back. */
  readonly onChange: (host: T, change: { readonly ejected: EjectionReason } | "returned") => void;
}

export class OutlierDetector<T extends Watched> implements Disposable {
  readonly #options: OutlierDetectorOptions<T>;
  #cancel: () => void;
  /** Found, whether or not ejected for it. */
  readonly detected = new Map<EjectionReason, number>();
  readonly enforced = new Map<EjectionReason, number>();

  constructor(options: OutlierDetectorOptions<T>) {
    this.#options = options;
    this.#cancel = this.#schedule();
  }

  /** Lets nobody out: hosts keep what they are until another detector takes over or they are gone. */
  [Symbol.dispose](): void {
    this.#cancel();
  }

  get ejected(): number {
    return this.#options.hosts().reduce((count, { outlier }) => count + Number(outlier.isEjected), 0);
  }

  report(host: T, outcome: AttemptOutcome): void {
    const { splitsLocalOrigin } = this.#options.config;
    // What went wrong on a connection says that there was one, which ends a run of failures to connect.
    if (splitsLocalOrigin && outcome.kind !== "connect-failure") this.#reportLocalSuccess(host);
    switch (outcome.kind) {
      case "answered":
        this.#reportStatus(host, judged(outcome, this.#options.config.errorStatuses));
        break;
      case "connected":
        if (!splitsLocalOrigin) this.#reportStatus(host, 200);
        break;
      case "connect-failure":
      case "reset":
      case "timeout":
        if (splitsLocalOrigin) this.#reportLocalFailure(host);
        else this.#reportStatus(host, outcome.kind === "timeout" ? 504 : 503);
        break;
    }
  }

  #reportStatus(host: T, status: number): void {
    const { config } = this.#options;
    const { outlier } = host;
    outlier.external.total++;
    if (status < 500 || status > 599) {
      outlier.external.succeeded++;
      outlier.consecutive5xx = 0;
      outlier.consecutiveGatewayFailures = 0;
      return;
    }
    if (status === 502 || status === 503 || status === 504) {
      if (++outlier.consecutiveGatewayFailures === config.consecutiveGatewayFailures.threshold) {
        this.#onConsecutive(host, "consecutive_gateway_failure", config.consecutiveGatewayFailures);
        outlier.consecutiveGatewayFailures = 0;
      }
    } else {
      outlier.consecutiveGatewayFailures = 0;
    }
    if (++outlier.consecutive5xx === config.consecutive5xx.threshold) {
      this.#onConsecutive(host, "consecutive_5xx", config.consecutive5xx);
      outlier.consecutive5xx = 0;
    }
  }

  #reportLocalSuccess({ outlier }: T): void {
    outlier.local.total++;
    outlier.local.succeeded++;
    outlier.consecutiveLocalOriginFailures = 0;
  }

  #reportLocalFailure(host: T): void {
    const { config } = this.#options;
    host.outlier.local.total++;
    if (++host.outlier.consecutiveLocalOriginFailures !== config.consecutiveLocalOriginFailures.threshold) return;
    this.#onConsecutive(host, "consecutive_local_origin_failure", config.consecutiveLocalOriginFailures);
    host.outlier.consecutiveLocalOriginFailures = 0;
  }

  #onConsecutive(host: T, reason: EjectionReason, { enforcing }: ConsecutiveRule): void {
    if (!host.outlier.isEjected) this.#found(host, reason, enforcing);
  }

  #found(host: T, reason: EjectionReason, enforcing: number): void {
    const { config, random, clock, onChange } = this.#options;
    count(this.detected, reason);
    if (host.outlier.isEjected || !this.#mayEject() || Math.floor(random() * 100) >= enforcing) return;
    count(this.enforced, reason);
    const { outlier } = host;
    outlier.isEjected = true;
    outlier.ejections++;
    outlier.ejectedAtMs = clock.now();
    outlier.jitterMs = Math.floor(random() * (config.maxJitterMs + 1));
    // Stops growing where it would have no effect any more.
    if (outlier.multiplier * config.baseEjectionMs < maxEjectionMs(config) + config.baseEjectionMs) {
      outlier.multiplier++;
    }
    onChange(host, { ejected: reason });
  }

  #mayEject(): boolean {
    const { config, hosts } = this.#options;
    const { ejected } = this;
    if (config.alwaysEjectsOne && ejected === 0) return true;
    return (100 * (ejected + 1)) / hosts().length <= config.maxEjectionPercent;
  }

  #schedule(): () => void {
    return this.#options.clock.schedule(this.#options.config.intervalMs, () => {
      this.#cancel = this.#schedule();
      this.#onInterval();
    });
  }

  #onInterval(): void {
    const { config, hosts } = this.#options;
    const watched = hosts();
    for (const host of watched) this.#letBack(host);
    const { successRate, failurePercentage } = config;
    this.#checkRates(watched, "external", successRate.enforcing, failurePercentage.enforcing);
    if (config.splitsLocalOrigin) {
      this.#checkRates(watched, "local", successRate.enforcingLocalOrigin, failurePercentage.enforcingLocalOrigin);
    }
    for (const { outlier } of watched) {
      outlier.external = { total: 0, succeeded: 0 };
      outlier.local = { total: 0, succeeded: 0 };
    }
  }

  #letBack(host: T): void {
    const { config, clock, onChange } = this.#options;
    const { outlier } = host;
    if (!outlier.isEjected) {
      if (outlier.multiplier > 0) outlier.multiplier--;
      return;
    }
    if (clock.now() - outlier.ejectedAtMs < ejectionMs(config, outlier)) return;
    outlier.isEjected = false;
    outlier.resetCounters();
    host.readySinceMs = clock.now();
    onChange(host, "returned");
  }

  #checkRates(
    hosts: readonly T[],
    origin: "external" | "local",
    enforcingSuccessRate: number,
    enforcingFailure: number,
  ): void {
    const { successRate, failurePercentage } = this.#options.config;
    const suffix = origin === "local" ? "_local_origin" : "";
    const rated = hosts
      .filter(({ outlier }) => !outlier.isEjected && outlier[origin].total > 0)
      .map((host) => ({ host, total: host.outlier[origin].total, rate: rateOf(host.outlier[origin]) }));

    const compared = rated.filter(({ total }) => total >= successRate.minRequests);
    if (compared.length > 0 && compared.length >= successRate.minHosts) {
      const threshold = successRateThreshold(
        compared.map(({ rate }) => rate),
        successRate.stdevFactor,
      );
      for (const { host, rate } of compared) {
        if (rate < threshold) this.#found(host, `success_rate${suffix}`, enforcingSuccessRate);
      }
    }

    const measured = rated.filter(({ total }) => total >= failurePercentage.minRequests);
    if (measured.length > 0 && measured.length >= failurePercentage.minHosts) {
      for (const { host, rate } of measured) {
        const failed = 100 - rate >= failurePercentage.threshold;
        if (failed && !host.outlier.isEjected) this.#found(host, `failure_percentage${suffix}`, enforcingFailure);
      }
    }
  }
}

/** How long an ejected host stays away. */
export function ejectionMs(config: OutlierConfig, { multiplier, jitterMs }: OutlierRecord): number {
  return Math.min(config.baseEjectionMs * multiplier, maxEjectionMs(config)) + jitterMs;
}

/** Percent below which a host is an outlier among these. */
export function successRateThreshold(rates: readonly number[], stdevFactor: number): number {
  const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
  const variance = rates.reduce((sum, rate) => sum + (rate - mean) ** 2, 0) / rates.length;
  return mean - (stdevFactor / 1000) * Math.sqrt(variance);
}

const maxEjectionMs = (config: OutlierConfig): number => Math.max(config.maxEjectionMs, config.baseEjectionMs);
const rateOf = ({ total, succeeded }: OutlierRecord["external"]): number => (succeeded * 100) / total;

function count(counts: Map<EjectionReason, number>, reason: EjectionReason): void {
  counts.set(reason, (counts.get(reason) ?? 0) + 1);
}

/** What the answer counts as. */
function judged(
  outcome: Extract<AttemptOutcome, { readonly kind: "answered" }>,
  errors: ReadonlySet<number> | undefined,
): number {
  if (errors === undefined) return statusOf(outcome);
  return errors.has(outcome.status) ? Math.max(outcome.status, 500) : 200;
}

/** gRPC says in its status what others say in the HTTP status. The codes are those of the gRPC-to-HTTP mapping. */
function statusOf({ status, grpcStatus }: Extract<AttemptOutcome, { readonly kind: "answered" }>): number {
  if (grpcStatus === undefined || status !== 200) return status;
  return grpcToHttp[grpcStatus] ?? 500;
}

const grpcToHttp: readonly number[] = [
  200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
];
