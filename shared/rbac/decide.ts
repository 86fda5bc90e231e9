/** Whether a connection may pass: no I/O, no clock, no log. */
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Ip } from "#shared/net/ip.ts";

/** What policies look at. */
export interface PolicyConnection {
  readonly sourceIp: Ip;
  /** Proven by mutual TLS; absent for plaintext. */
  readonly sourceIdentity?: SpiffeId;
  /** The pod's address for HBONE, the original destination for plaintext. */
  readonly destinationIp: Ip;
  /** The port that the application listens on. */
  readonly destinationPort: number;
}

/** A policy turned into a test, once, when it arrived. */
export interface CompiledPolicy {
  /** `namespace/name`. */
  readonly key: string;
  readonly action: "ALLOW" | "DENY";
  readonly dryRun: boolean;
  /** The index of the first rule that matches, or -1. */
  matchedRule(connection: PolicyConnection): number;
}

/** The policies of one workload, sorted by what they do. */
export interface PolicySet {
  readonly deny: readonly CompiledPolicy[];
  readonly allow: readonly CompiledPolicy[];
  readonly dryRun: readonly CompiledPolicy[];
}

export interface Verdict {
  readonly allowed: boolean;
  /** A sentence for logs: names the policy that denied, or says that none allowed. */
  readonly why: string;
  /** `namespace/name` of the policy that settled it, if one did. */
  readonly policy?: string;
  /** Index of the rule in that policy. */
  readonly rule?: number;
}

const noPolicies: Verdict = { allowed: true, why: "no policy applies" };
const notDenied: Verdict = { allowed: true, why: "no policy denies, and none restricts" };
const notAllowed: Verdict = { allowed: false, why: "allow policies exist, but none allowed" };

/** Deny wins; with no ALLOW policy, what is not denied passes. Dry-run policies change nothing. */
export function decide({ deny, allow }: PolicySet, connection: PolicyConnection): Verdict {
  for (const policy of deny) {
    const rule = policy.matchedRule(connection);
    if (rule >= 0) return { allowed: false, why: `explicitly denied by: ${policy.key}`, policy: policy.key, rule };
  }
  if (allow.length === 0) return deny.length === 0 ? noPolicies : notDenied;
  for (const policy of allow) {
    const rule = policy.matchedRule(connection);
    if (rule >= 0) return { allowed: true, why: `allowed by: ${policy.key}`, policy: policy.key, rule };
  }
  return notAllowed;
}

/** Dry-run policies that would have had a say, for the log. */
export function dryRunMatches({ dryRun }: PolicySet, connection: PolicyConnection): readonly CompiledPolicy[] {
  return dryRun.filter((policy) => policy.matchedRule(connection) >= 0);
}
