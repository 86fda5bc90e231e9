/** What the HTTP and the network filter share: both sets of rules, what is written of their verdicts, and counters. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { RBAC } from "#shared/proto/gen/envoy/config/rbac/v3/rbac_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { compileEngine, isAllowed, matchingPolicy, type RbacEngine } from "./engine.ts";
import { countVerdict } from "./rbac-counts.ts";
import type { Subject } from "./subject.ts";

/** Since the configuration came into force. */
export interface RbacCounters {
  allowed: number;
  denied: number;
  shadowAllowed: number;
  shadowDenied: number;
}

export interface RbacRules {
  readonly enforced: RbacEngine | undefined;
  readonly shadow: RbacEngine | undefined;
  readonly shadowPrefix: string;
}

export interface RbacConfig {
  readonly rules?: RBAC | undefined;
  readonly shadowRules?: RBAC | undefined;
  readonly shadowRulesStatPrefix: string;
  readonly matcher?: unknown;
  readonly shadowMatcher?: unknown;
}

export function compileRules(config: RbacConfig, path: string, problem: Problem): RbacRules {
  const at = (field: string): string => (path === "" ? field : `${path}.${field}`);
  if (config.matcher !== undefined) problem(at("matcher"), "matchers are not supported: use rules");
  if (config.shadowMatcher !== undefined) problem(at("shadow_matcher"), "matchers are not supported: use shadow_rules");
  return {
    enforced: config.rules && compileEngine(config.rules, at("rules"), problem),
    shadow: config.shadowRules && compileEngine(config.shadowRules, at("shadow_rules"), problem),
    shadowPrefix: config.shadowRulesStatPrefix,
  };
}

/** Where Envoy's filters, and what reads them, look for the hint of AUDIT policies. */
const commonMetadata = "envoy.common";

export interface Refusal {
  /** Undefined: nothing allowed it. */
  readonly policy: string | undefined;
  /** As response code details, or details of the connection's end. */
  readonly details: string;
}

/** Undefined: it may go on. Shadow rules are looked at first and only told of. */
export function enforce<T extends Subject>(
  rules: RbacRules,
  counters: RbacCounters,
  subject: T,
  record: (subject: T, filter: string, values: JsonObject) => void,
  metadataName: string,
): Refusal | undefined {
  const { shadow, enforced } = rules;
  if (shadow !== undefined) {
    const matched = matchingPolicy(shadow, subject);
    const allowed = isAllowed(shadow.action, matched);
    if (allowed) counters.shadowAllowed++;
    else counters.shadowDenied++;
    countVerdict(allowed ? "shadow_allowed" : "shadow_denied", matched?.name);
    record(subject, metadataName, {
      [`${rules.shadowPrefix}shadow_engine_result`]: allowed ? "allowed" : "denied",
      ...(matched === undefined ? {} : { [`${rules.shadowPrefix}shadow_effective_policy_id`]: matched.name }),
    });
  }
  if (enforced === undefined) return undefined;
  const matched = matchingPolicy(enforced, subject);
  if (enforced.action === "LOG") record(subject, commonMetadata, { access_log_hint: matched !== undefined });
  if (isAllowed(enforced.action, matched)) {
    counters.allowed++;
    countVerdict("allowed", matched?.name);
    return undefined;
  }
  counters.denied++;
  countVerdict("denied", matched?.name);
  const policy = matched?.name;
  return { policy, details: `rbac_access_denied_matched_policy[${(policy ?? "none").replace(/\s/g, "_")}]` };
}

export const newCounters = (): RbacCounters => ({ allowed: 0, denied: 0, shadowAllowed: 0, shadowDenied: 0 });
