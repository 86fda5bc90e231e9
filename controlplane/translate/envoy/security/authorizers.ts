/** External authorizers that CUSTOM policies name: whether they can be used, and where they are. */
import type { ExtAuthzProvider } from "#controlplane/mesh/extension-provider.ts";
import type { AuthorizationPolicy } from "#controlplane/mesh/objects.ts";
import { clusterOf } from "#controlplane/translate/envoy/cluster-names.ts";
import type { Destination, EnvoyContext } from "#controlplane/translate/envoy/context.ts";
import { findAuthorizer } from "./find-authorizer.ts";

export type Authorizer =
  | { readonly provider: ExtAuthzProvider; readonly destination: Destination; readonly cluster: string }
  /** What is wrong with it: nobody may pass then. */
  | { readonly problem: string };

export function authorizer(context: EnvoyContext, name: string): Authorizer {
  const { meshConfig, waypoint } = context;
  const found = findAuthorizer(meshConfig, name, waypoint.namespace, (hostname, namespace) =>
    context.findService(hostname, namespace),
  );
  if ("problem" in found) return found;
  const { provider, service, port } = found;
  const destination: Destination = { service, port, subset: "", protocol: "http" };
  return { provider, destination, cluster: clusterOf(context, service, port, "http", "") };
}

/** By provider, in the order of their first policies. */
export function byProvider(
  policies: readonly AuthorizationPolicy[],
): ReadonlyMap<string, readonly AuthorizationPolicy[]> {
  return Map.groupBy(
    policies.filter(({ action }) => action === "CUSTOM"),
    ({ provider }) => provider,
  );
}
