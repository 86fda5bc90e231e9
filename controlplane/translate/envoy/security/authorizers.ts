/** External authorizers that CUSTOM policies name: whether they can be used, and where they are. */
import type { ExtAuthzProvider } from "#controlplane/mesh/extension-provider.ts";
import type { AuthorizationPolicy } from "#controlplane/mesh/objects.ts";
import { clusterOf } from "#controlplane/translate/envoy/cluster-names.ts";
import type { Destination, EnvoyContext } from "#controlplane/translate/envoy/context.ts";

export type Authorizer =
  | { readonly provider: ExtAuthzProvider; readonly destination: Destination; readonly cluster: string }
  /** What is wrong with it: nobody may pass then. */
  | { readonly problem: string };

export function authorizer(context: EnvoyContext, name: string): Authorizer {
  const provider = context.meshConfig.extAuthzProviders.find((each) => each.name === name);
  if (provider === undefined) {
    return { problem: `the mesh has no extension provider "${name}" that authorizes: add it to extensionProviders` };
  }
  const slash = provider.service.indexOf("/");
  const hostname = provider.service.slice(slash + 1);
  const namespace = slash < 0 ? context.waypoint.namespace : provider.service.slice(0, slash);
  const service = context.findService(hostname, namespace);
  const port = service?.ports.find((each) => each.port === provider.port);
  if (service === undefined || port === undefined) {
    return {
      problem: `service "${provider.service}" port ${provider.port} of extension provider "${name}" was not found`,
    };
  }
  const problem = unusable(provider);
  if (problem !== undefined) return { problem };
  const destination: Destination = { service, port, subset: "", protocol: "http" };
  return { provider, destination, cluster: clusterOf(context, service, port, "http", "") };
}

/** What Istio refuses in a provider. */
function unusable(provider: ExtAuthzProvider): string | undefined {
  const where = `extension provider "${provider.name}"`;
  if (provider.statusOnError !== "" && !/^[1-5]\d\d$/.test(provider.statusOnError)) {
    return `statusOnError "${provider.statusOnError}" of ${where} is no HTTP status`;
  }
  if (provider.body !== undefined && provider.body.maxBytes === 0) {
    return `includeRequestBodyInCheck.maxRequestBytes of ${where} is missing`;
  }
  if (provider.kind === "grpc") return undefined;
  if (provider.pathPrefix !== "" && !provider.pathPrefix.startsWith("/")) {
    return `pathPrefix "${provider.pathPrefix}" of ${where} does not begin with a slash`;
  }
  const names = [
    ...provider.requestHeaders,
    ...provider.upstreamHeadersOnAllow,
    ...provider.clientHeadersOnDeny,
    ...provider.clientHeadersOnAllow,
  ];
  return names.includes("*")
    ? `"*" is no name of a header in ${where}: write each one, "prefix*" or "*suffix"`
    : undefined;
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
