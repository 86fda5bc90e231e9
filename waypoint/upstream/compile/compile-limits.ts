/** Circuit breakers and outlier detection, with Envoy's defaults. */
import {
  CircuitBreakersSchema,
  CircuitBreakers_ThresholdsSchema,
  CircuitBreakers_Thresholds_RetryBudgetSchema,
  type CircuitBreakers,
  type CircuitBreakers_Thresholds,
} from "#shared/proto/gen/envoy/config/cluster/v3/circuit_breaker_pb.js";
import {
  OutlierDetectionSchema,
  type OutlierDetection,
} from "#shared/proto/gen/envoy/config/cluster/v3/outlier_detection_pb.js";
import { RoutingPriority as PriorityEnum } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import { thresholdsDefault, type RetryBudget, type Thresholds } from "../circuit-breaker.ts";
import type { RoutingPriority } from "../routing-priority.ts";
import type { OutlierConfig } from "../outlier-detection.ts";
import { readPercent } from "./balancer-settings.ts";
import { checkFields, newerDuration } from "./set-fields.ts";

export type Breakers = Readonly<Record<RoutingPriority, Thresholds>>;

/** `budget_interval`, newer than the schema. */
const budgetIntervalField = 3;

export function compileBreakers(breakers: CircuitBreakers | undefined, problem: Problem): Breakers {
  const path = "circuit_breakers";
  const compiled: Record<RoutingPriority, Thresholds> = { default: thresholdsDefault, high: thresholdsDefault };
  if (breakers === undefined) return compiled;
  checkFields(CircuitBreakersSchema, breakers, ["thresholds"], path, problem);
  const seen = new Set<RoutingPriority>();
  for (const [index, thresholds] of breakers.thresholds.entries()) {
    const priority = thresholds.priority === PriorityEnum.HIGH ? "high" : "default";
    // The first of a priority counts, as in Envoy.
    const read = compileThresholds(thresholds, `${path}.thresholds[${index}]`, problem);
    if (!seen.has(priority)) compiled[priority] = read;
    seen.add(priority);
  }
  return compiled;
}

function compileThresholds(thresholds: CircuitBreakers_Thresholds, path: string, problem: Problem): Thresholds {
  const supported = [
    "priority",
    "maxConnections",
    "maxPendingRequests",
    "maxRequests",
    "maxRetries",
    "retryBudget",
    // What is left of each limit is always in the statistics.
    "trackRemaining",
  ];
  checkFields(CircuitBreakers_ThresholdsSchema, thresholds, supported, path, problem);
  return {
    maxConnections: thresholds.maxConnections ?? thresholdsDefault.maxConnections,
    maxPendingRequests: thresholds.maxPendingRequests ?? thresholdsDefault.maxPendingRequests,
    maxRequests: thresholds.maxRequests ?? thresholdsDefault.maxRequests,
    maxRetries: thresholds.maxRetries ?? thresholdsDefault.maxRetries,
    retryBudget: compileBudget(thresholds.retryBudget, `${path}.retry_budget`, problem),
  };
}

function compileBudget(
  budget: CircuitBreakers_Thresholds["retryBudget"],
  path: string,
  problem: Problem,
): RetryBudget | undefined {
  if (budget === undefined) return undefined;
  const schema = CircuitBreakers_Thresholds_RetryBudgetSchema;
  checkFields(schema, budget, ["budgetPercent", "minRetryConcurrency"], path, problem, [budgetIntervalField]);
  return {
    percent: readPercent(budget.budgetPercent, `${path}.budget_percent`, problem) ?? 20,
    minConcurrency: budget.minRetryConcurrency ?? 3,
    intervalMs: newerDuration(budget, budgetIntervalField, `${path}.budget_interval`, problem),
  };
}

const notSupportedByOutlierDetection = new Set(["monitors"]);

export function compileOutlierDetection(
  detection: OutlierDetection | undefined,
  errorStatuses: ReadonlySet<number> | undefined,
  problem: Problem,
): OutlierConfig | undefined {
  if (detection === undefined) return undefined;
  const path = "outlier_detection";
  const supported = OutlierDetectionSchema.fields
    .map(({ localName }) => localName)
    .filter((name) => !notSupportedByOutlierDetection.has(name));
  checkFields(OutlierDetectionSchema, detection, supported, path, problem);
  const percent = (name: string, value: number | undefined, byDefault: number): number => {
    if (value !== undefined && value > 100) problem(`${path}.${name}`, `${value} is above 100`);
    return value ?? byDefault;
  };
  const positive = (name: string, ms: number | undefined, byDefault: number): number => {
    if (ms === 0) problem(`${path}.${name}`, "is not above 0");
    return ms === undefined || ms === 0 ? byDefault : ms;
  };
  const duration = (
    name: "interval" | "baseEjectionTime" | "maxEjectionTime" | "maxEjectionTimeJitter",
    text: string,
  ) => readMs(detection[name], `${path}.${text}`, problem);
  const baseEjectionMs = positive("base_ejection_time", duration("baseEjectionTime", "base_ejection_time"), 30_000);
  return {
    intervalMs: positive("interval", duration("interval", "interval"), 10_000),
    baseEjectionMs,
    maxEjectionMs: positive("max_ejection_time", duration("maxEjectionTime", "max_ejection_time"), 300_000),
    maxJitterMs: duration("maxEjectionTimeJitter", "max_ejection_time_jitter") ?? 0,
    maxEjectionPercent: percent("max_ejection_percent", detection.maxEjectionPercent, 10),
    alwaysEjectsOne: detection.alwaysEjectOneHost === true,
    errorStatuses,
    consecutive5xx: {
      threshold: detection.consecutive5xx ?? 5,
      enforcing: percent("enforcing_consecutive_5xx", detection.enforcingConsecutive5xx, 100),
    },
    consecutiveGatewayFailures: {
      threshold: detection.consecutiveGatewayFailure ?? 5,
      enforcing: percent("enforcing_consecutive_gateway_failure", detection.enforcingConsecutiveGatewayFailure, 0),
    },
    consecutiveLocalOriginFailures: {
      threshold: detection.consecutiveLocalOriginFailure ?? 5,
      enforcing: percent(
        "enforcing_consecutive_local_origin_failure",
        detection.enforcingConsecutiveLocalOriginFailure,
        100,
      ),
    },
    splitsLocalOrigin: detection.splitExternalLocalOriginErrors,
    successRate: {
      minHosts: detection.successRateMinimumHosts ?? 5,
      minRequests: detection.successRateRequestVolume ?? 100,
      stdevFactor: detection.successRateStdevFactor ?? 1900,
      enforcing: percent("enforcing_success_rate", detection.enforcingSuccessRate, 100),
      enforcingLocalOrigin: percent(
        "enforcing_local_origin_success_rate",
        detection.enforcingLocalOriginSuccessRate,
        100,
      ),
    },
    failurePercentage: {
      minHosts: detection.failurePercentageMinimumHosts ?? 5,
      minRequests: detection.failurePercentageRequestVolume ?? 50,
      threshold: percent("failure_percentage_threshold", detection.failurePercentageThreshold, 85),
      enforcing: percent("enforcing_failure_percentage", detection.enforcingFailurePercentage, 0),
      enforcingLocalOrigin: percent(
        "enforcing_failure_percentage_local_origin",
        detection.enforcingFailurePercentageLocalOrigin,
        0,
      ),
    },
  };
}
