import { checkBackendTls, checkBackendTraffic } from "./backend-policy-checks.ts";
import { backendTlsSpec, backendTrafficSpec } from "./backend-policy-forms.ts";
import { age, gatewayKind, type KindDefinition } from "./kind.ts";

/** By this label tools find the policies among the kinds of a cluster. */
const crdLabels = { "gateway.networking.k8s.io/policy": "Direct" };

export const backendTlsPolicy: KindDefinition = {
  ...gatewayKind,
  kind: "BackendTLSPolicy",
  plural: "backendtlspolicies",
  shortNames: ["btlspolicy"],
  versions: ["v1", "v1alpha3"],
  crdLabels,
  description: "TLS from waypoints to services: whom to ask for, and which certificates to take.",
  columns: [{ name: "Hostname", type: "string", jsonPath: ".spec.validation.hostname" }, age],
  spec: backendTlsSpec,
  check: checkBackendTls,
};

const { "api-approved.kubernetes.io": _approval, ...crdAnnotations } = gatewayKind.crdAnnotations;

export const backendTrafficPolicy: KindDefinition = {
  ...gatewayKind,
  group: "gateway.networking.x-k8s.io",
  crdAnnotations, // that group is nobody's to approve
  kind: "XBackendTrafficPolicy",
  plural: "xbackendtrafficpolicies",
  shortNames: ["xbtrafficpolicy"],
  versions: ["v1alpha1"],
  crdLabels,
  description: "How many requests to services may be retries.",
  columns: [age],
  spec: backendTrafficSpec,
  check: checkBackendTraffic,
};
