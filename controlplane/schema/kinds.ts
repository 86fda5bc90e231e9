import { authorizationPolicy } from "./authorization-policy.ts";
import { backendTlsPolicy, backendTrafficPolicy } from "./backend-policies.ts";
import { destinationRule } from "./destination-rule.ts";
import { envoyFilter } from "./envoy-filter.ts";
import { gateway, gatewayClass, referenceGrant } from "./gateway.ts";
import type { KindDefinition } from "./kind.ts";
import { peerAuthentication } from "./peer-authentication.ts";
import { rateLimitPolicy } from "./rate-limit-policy.ts";
import { requestAuthentication } from "./request-authentication.ts";
import { grpcRoute, httpRoute, tcpRoute, tlsRoute } from "./routes.ts";
import { serviceEntry } from "./service-entry.ts";
import { telemetry } from "./telemetry.ts";
import { virtualService } from "./virtual-service.ts";
import { workloadEntry } from "./workload-entry.ts";

/** Every kind of configuration that the mesh brings to a cluster or reads as Gateway API. */
export const configKinds: readonly KindDefinition[] = [
  authorizationPolicy,
  peerAuthentication,
  requestAuthentication,
  serviceEntry,
  workloadEntry,
  virtualService,
  destinationRule,
  envoyFilter,
  telemetry,
  rateLimitPolicy,
  gatewayClass,
  gateway,
  httpRoute,
  grpcRoute,
  tcpRoute,
  tlsRoute,
  backendTlsPolicy,
  backendTrafficPolicy,
  referenceGrant,
];

const byKey = new Map(configKinds.map((definition) => [`${definition.group}/${definition.kind}`, definition]));

export const configKind = (group: string, kind: string): KindDefinition | undefined => byKey.get(`${group}/${kind}`);
