/** The external authorizer that a CUSTOM policy names: whether it is there and can be used. */
import { StatusCode } from "#shared/proto/gen/envoy/type/v3/http_status_pb.js";
import type { ExtAuthzProvider } from "#controlplane/mesh/extension-provider.ts";
import type { MeshConfig } from "#controlplane/mesh/mesh-config.ts";
import { statusCode } from "#controlplane/translate/envoy/messages.ts";
import type { PortInfo, ServiceInfo } from "#controlplane/translate/services.ts";

export type FoundAuthorizer =
  | { readonly provider: ExtAuthzProvider; readonly service: ServiceInfo; readonly port: PortInfo }
  /** What is wrong with it: nobody may pass then. */
  | { readonly problem: string };

/** `namespace`: where a hostname is looked for first when the provider does not say. */
export function findAuthorizer(
  meshConfig: MeshConfig,
  name: string,
  namespace: string,
  find: (hostname: string, namespace: string) => ServiceInfo | undefined,
): FoundAuthorizer {
  const provider = meshConfig.extAuthzProviders.find((each) => each.name === name);
  if (provider === undefined) {
    return { problem: `the mesh has no extension provider "${name}" that authorizes: add it to extensionProviders` };
  }
  const slash = provider.service.indexOf("/");
  const service = find(provider.service.slice(slash + 1), slash < 0 ? namespace : provider.service.slice(0, slash));
  const port = service?.ports.find((each) => each.port === provider.port);
  if (service === undefined || port === undefined) {
    const place = `service "${provider.service}" port ${provider.port}`;
    return { problem: `${place} of extension provider "${name}" was not found` };
  }
  const problem = unusable(provider);
  return problem === undefined ? { provider, service, port } : { problem };
}

/** By number; undefined for one that Envoy does not know. */
export function errorStatus({ statusOnError }: ExtAuthzProvider): StatusCode | undefined {
  if (statusOnError === "") return StatusCode.Forbidden;
  return statusCode(statusOnError);
}

/** What Istio refuses in a provider. */
function unusable(provider: ExtAuthzProvider): string | undefined {
  const where = `extension provider "${provider.name}"`;
  if (errorStatus(provider) === undefined) {
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
