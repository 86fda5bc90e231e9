/** Labels, annotations and names that the control plane reads, with Istio's meaning. */
import type { Labels } from "#controlplane/mesh/objects.ts";

export const revisionLabel = "istio.io/rev";
export const useWaypointLabel = "istio.io/use-waypoint";
export const useWaypointNamespaceLabel = "istio.io/use-waypoint-namespace";
export const canaryLabel = "istio.io/use-waypoint-canary";
export const canaryNamespaceLabel = "istio.io/use-waypoint-canary-namespace";
export const canaryWeightAnnotation = "istio.io/use-waypoint-canary-weight";
export const waypointForLabel = "istio.io/waypoint-for";
export const ingressUseWaypointLabel = "istio.io/ingress-use-waypoint";
export const inboundBindingAnnotation = "ambient.istio.io/waypoint-inbound-binding";
export const managedLabel = "gateway.istio.io/managed";
export const gatewayNameLabel = "gateway.networking.k8s.io/gateway-name";
export const nameOverrideAnnotation = "gateway.istio.io/name-override";
export const gatewayServiceAccountAnnotation = "gateway.istio.io/service-account";
export const serviceTypeAnnotation = "networking.istio.io/service-type";
export const addressTypeAnnotation = "networking.istio.io/address-type";
export const redirectionAnnotation = "ambient.istio.io/redirection";
export const tunnelLabel = "networking.istio.io/tunnel";
export const networkLabel = "topology.istio.io/network";
export const subzoneLabel = "topology.istio.io/subzone";
export const regionLabel = "topology.kubernetes.io/region";
export const zoneLabel = "topology.kubernetes.io/zone";
export const sliceServiceLabel = "kubernetes.io/service-name";
export const workloadNameLabel = "service.istio.io/workload-name";
export const registrationGroupAnnotation = "istio.io/autoRegistrationGroup";
export const trafficDistributionAnnotation = "networking.istio.io/traffic-distribution";
export const autoAllocateLabel = "networking.istio.io/enable-autoallocate-ip";
export const connectStrategyAnnotation = "istio.io/connect-strategy";
export const dryRunAnnotation = "istio.io/dry-run";
/** On an AuthorizationPolicy or a Gateway of ours: refusals name policy and rule in the header `x-ambit-denied-by`. */
export const explainDenialsAnnotation = "ambit.dev/explain-denials";

export const canonicalNameLabels = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"] as const;
export const canonicalRevisionLabels = [
  "service.istio.io/canonical-revision",
  "app.kubernetes.io/version",
  "version",
] as const;

/** Whether connections to all addresses of a name are tried at once, and the first that is there is taken. */
export const racesConnections = (annotations: Labels): boolean =>
  annotations.get(connectStrategyAnnotation)?.toUpperCase() === "RACE_FIRST_TCP_CONNECT";

/** Go's ParseBool, which Istio reads booleans in labels with; undefined where it fails. */
export function parseFlag(text: string): boolean | undefined {
  if (["1", "t", "T", "true", "TRUE", "True"].includes(text)) return true;
  if (["0", "f", "F", "false", "FALSE", "False"].includes(text)) return false;
  return undefined;
}
