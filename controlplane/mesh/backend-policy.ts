/** How services are called, as Gateway API says it: BackendTLSPolicy and XBackendTrafficPolicy. */
import type { RetryBudget } from "./destination-rule.ts";
import { durationMs } from "./duration.ts";
import type { Field } from "./field.ts";
import { routeController } from "./gateway-route.ts";
import type { Meta } from "./meta.ts";
import { readSectionTargets, type SectionTarget } from "./section-target.ts";

/** What both kinds have. */
export interface BackendPolicy {
  readonly apiVersion: string;
  readonly meta: Meta;
  readonly targets: readonly SectionTarget[];
  /** Its status tells of a Service or ServiceEntry, written by us. */
  readonly hasOwnStatus: boolean;
}

export interface AuthorityRef {
  readonly group: string;
  readonly kind: string;
  readonly name: string;
}

export interface BackendTlsPolicy extends BackendPolicy {
  /** The name that is asked for in SNI. */
  readonly hostname: string;
  /** Names of which the certificate must have one: the hostname, where no others are written. */
  readonly subjectAltNames: readonly string[];
  /** Of the policy's own namespace. */
  readonly authorities: readonly AuthorityRef[];
  /** `System`; empty where references stand instead. */
  readonly wellKnownAuthorities: string;
}

export interface BackendTrafficPolicy extends BackendPolicy {
  readonly retryBudget: RetryBudget | undefined;
  readonly hasSessionPersistence: boolean;
}

const readPolicy = (meta: Meta, object: Field): BackendPolicy => ({
  apiVersion: object.at("apiVersion").text(),
  meta,
  targets: readSectionTargets(object.at("spec")),
  hasOwnStatus: object
    .at("status")
    .at("ancestors")
    .list()
    .some(
      (ancestor) =>
        ancestor.at("controllerName").text() === routeController &&
        ["Service", "ServiceEntry"].includes(ancestor.at("ancestorRef").at("kind").text()),
    ),
});

export function readBackendTlsPolicy(meta: Meta, object: Field): BackendTlsPolicy {
  const validation = object.at("spec").at("validation");
  const hostname = validation.at("hostname").text();
  const names = validation
    .at("subjectAltNames")
    .list()
    .map((each) => each.at("hostname").text() || each.at("uri").text());
  return {
    ...readPolicy(meta, object),
    hostname,
    subjectAltNames: names.length > 0 ? names : [hostname],
    authorities: validation
      .at("caCertificateRefs")
      .list()
      .map((ref) => ({ group: ref.at("group").text(), kind: ref.at("kind").text(), name: ref.at("name").text() })),
    wellKnownAuthorities: validation.at("wellKnownCACertificates").text(),
  };
}

export function readBackendTrafficPolicy(meta: Meta, object: Field): BackendTrafficPolicy {
  const spec = object.at("spec");
  const constraint = spec.at("retryConstraint");
  return {
    ...readPolicy(meta, object),
    retryBudget: constraint.isPresent ? readConstraint(constraint) : undefined,
    hasSessionPersistence: spec.at("sessionPersistence").isPresent,
  };
}

/**
 * Proxies bound retries that are under way at a time, so a rate becomes the number that are under way if each takes a
 * second.
 */
function readConstraint(constraint: Field): RetryBudget {
  const budget = constraint.at("budget");
  const rate = constraint.at("minRetryRate");
  const count = rate.at("count").isPresent ? rate.at("count").uint32() : 10;
  return {
    percent: budget.at("percent").decimal() ?? 20,
    intervalMs: durationMs(budget.at("interval")) ?? 10_000,
    minRetryConcurrency: Math.max(Math.ceil((count * 1_000) / (durationMs(rate.at("interval")) || 1_000)), 1),
  };
}
