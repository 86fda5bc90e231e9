/**
 * What a destination is called with: what a DestinationRule says of it and, of what none says anything, what Gateway API's
 * backend policies say. A rule holds wherever it was found; with Istio one of the caller's own namespace hides policies.
 */
import type { BackendTlsPolicy } from "#controlplane/mesh/backend-policy.ts";
import type { ClientTls } from "#controlplane/mesh/destination-rule.ts";
import type { Meta } from "#controlplane/mesh/objects.ts";
import { backendPoliciesOf } from "#controlplane/translate/backend-policies.ts";
import type { EnvoyContext, Destination } from "./context.ts";
import { effectivePolicy, type EffectivePolicy, type MergedRule } from "./destination-rules.ts";

export interface AppliedPolicy extends EffectivePolicy {
  /** Where `tls` comes from, unless it comes from the rule. */
  readonly tlsPolicy: BackendTlsPolicy | undefined;
}

export function appliedPolicy(
  { collected }: Pick<EnvoyContext, "collected">,
  rule: MergedRule | undefined,
  { service, port, subset }: Omit<Destination, "protocol">,
): AppliedPolicy {
  const written = effectivePolicy(rule, port.port, subset);
  const policies = backendPoliciesOf(collected);
  const tlsPolicy = written.tls === undefined ? policies.tlsFor(service, port) : undefined;
  return {
    ...written,
    tls: tlsPolicy === undefined ? written.tls : tlsOf(tlsPolicy),
    tlsPolicy,
    retryBudget: written.retryBudget ?? policies.retriesFor(service)?.retryBudget,
  };
}

/** Whom it trusts is resolved apart: `authorities.ts`. */
const tlsOf = ({ hostname, subjectAltNames }: BackendTlsPolicy): ClientTls => ({
  mode: "SIMPLE",
  clientCertificate: "",
  privateKey: "",
  caCertificates: "",
  caCrl: "",
  credentialName: "",
  subjectAltNames,
  sni: hostname,
  insecureSkipVerify: false,
});

/** As kinds are named in paths of Istio's configuration. */
export const tlsPolicyPath = ({ namespace, name }: Pick<Meta, "namespace" | "name">): string =>
  `/apis/gateway.networking.k8s.io/v1/namespaces/${namespace}/backend-tls-policy/${name}`;
