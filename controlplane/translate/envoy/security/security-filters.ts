/** Everything that decides about requests and connections on one chain of a waypoint, in the order in which it does. */
import type { EnvoyContext, Destination } from "#controlplane/translate/envoy/context.ts";
import { attached, type SecurityTargets } from "./attached.ts";
import { httpAuthorization, networkAuthorization } from "./authorization-filters.ts";
import { authorizer, byProvider } from "./authorizers.ts";
import { httpExternalAuthorization, networkExternalAuthorization } from "./ext-authz-filters.ts";
import type { HttpFilterInit, NetworkFilterInit } from "./filters.ts";
import { jwtAuthentication } from "./jwt-filter.ts";

export type { SecurityTargets };

/** External authorizers, then tokens, then AUDIT, DENY and ALLOW. */
export function httpSecurityFilters(context: EnvoyContext, targets: SecurityTargets): readonly HttpFilterInit[] {
  const policies = attached(context, targets, context.world.all("AuthorizationPolicy"));
  const authentications = attached(context, targets, context.world.all("RequestAuthentication"));
  return [
    ...httpExternalAuthorization(context, policies),
    ...jwtAuthentication(context, authentications),
    ...httpAuthorization(context, policies),
  ];
}

export function networkSecurityFilters(context: EnvoyContext, targets: SecurityTargets): readonly NetworkFilterInit[] {
  const policies = attached(context, targets, context.world.all("AuthorizationPolicy"));
  return [...networkExternalAuthorization(context, policies), ...networkAuthorization(context, policies)];
}

/** Where the external authorizers of these chains are: clusters are made for them. */
export function securityDestinations(context: EnvoyContext, targets: SecurityTargets): readonly Destination[] {
  const policies = attached(context, targets, context.world.all("AuthorizationPolicy"));
  return [...byProvider(policies).keys()].flatMap((name) => {
    const found = authorizer(context, name);
    return "destination" in found ? [found.destination] : [];
  });
}
