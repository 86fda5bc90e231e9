/**
 * CUSTOM policies: an RBAC filter that only notes which rule matched, and the call of the external authorizer, made where
 * one did. Where the authorizer cannot be called as configured, what the rules match is refused.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ApiVersion } from "#shared/proto/gen/envoy/config/core/v3/config_source_pb.js";
import type { GrpcServiceSchema } from "#shared/proto/gen/envoy/config/core/v3/grpc_service_pb.js";
import { RBAC_Action } from "#shared/proto/gen/envoy/config/rbac/v3/rbac_pb.js";
import { ExtAuthzSchema } from "#shared/proto/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { RBACSchema as HttpRbacSchema } from "#shared/proto/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { ExtAuthzSchema as NetworkExtAuthzSchema } from "#shared/proto/gen/envoy/extensions/filters/network/ext_authz/v3/ext_authz_pb.js";
import { RBACSchema as NetworkRbacSchema } from "#shared/proto/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import type { MetadataMatcherSchema } from "#shared/proto/gen/envoy/type/matcher/v3/metadata_pb.js";
import type { ListStringMatcherSchema } from "#shared/proto/gen/envoy/type/matcher/v3/string_pb.js";
import { StatusCode } from "#shared/proto/gen/envoy/type/v3/http_status_pb.js";
import type { ExtAuthzProvider } from "#controlplane/mesh/extension-provider.ts";
import type { AuthorizationPolicy } from "#controlplane/mesh/objects.ts";
import type { EnvoyContext } from "#controlplane/translate/envoy/context.ts";
import { duration, pack } from "#controlplane/translate/envoy/messages.ts";
import { policyRules, type RbacInit } from "./authorization-filters.ts";
import { authorizer, byProvider, type Authorizer } from "./authorizers.ts";
import { errorStatus } from "./find-authorizer.ts";
import { httpFilter, networkFilter, type Chain, type HttpFilterInit, type NetworkFilterInit } from "./filters.ts";
import { stringMatch } from "./string-match.ts";

const shadowPrefix = "istio_ext_authz_";
const httpRbac = "envoy.filters.http.rbac";
const networkRbac = "envoy.filters.network.rbac";

type Usable = Extract<Authorizer, { cluster: string }>;

interface Call {
  readonly rules: RbacInit;
  /** Undefined: refuse what the rules match. */
  readonly authorizer: Usable | undefined;
  /** What names of its rules begin with. */
  readonly prefix: string;
}

/** Several authorizers for one target are refused: which of them was meant to decide is nowhere written. */
function calls(context: EnvoyContext, policies: readonly AuthorizationPolicy[], chain: Chain): readonly Call[] {
  const providers = byProvider(policies);
  return [...providers].map(([name, ours]) => {
    const prefix = `istio-ext-authz-${name}-`;
    const found = authorizer(context, name);
    const isUsable = "cluster" in found && providers.size === 1 && (chain === "http" || found.provider.kind === "grpc");
    return {
      prefix,
      authorizer: isUsable ? found : undefined,
      rules: {
        action: RBAC_Action.DENY,
        policies: Object.fromEntries(ours.flatMap((policy) => policyRules(context, policy, chain, prefix))),
      },
    };
  });
}

export function httpExternalAuthorization(
  context: EnvoyContext,
  policies: readonly AuthorizationPolicy[],
): readonly HttpFilterInit[] {
  return calls(context, policies, "http").flatMap(({ rules, authorizer: found, prefix }) => {
    if (found === undefined) return [httpFilter(httpRbac, pack(HttpRbacSchema, { rules }))];
    return [
      httpFilter(httpRbac, pack(HttpRbacSchema, { shadowRules: rules, shadowRulesStatPrefix: shadowPrefix })),
      httpFilter(
        "envoy.filters.http.ext_authz",
        pack(ExtAuthzSchema, httpConfig(found, whenMatched(httpRbac, prefix))),
      ),
    ];
  });
}

/** Only the gRPC form can be asked about connections. */
export function networkExternalAuthorization(
  context: EnvoyContext,
  policies: readonly AuthorizationPolicy[],
): readonly NetworkFilterInit[] {
  return calls(context, policies, "tcp").flatMap(({ rules, authorizer: found, prefix }) => {
    if (found === undefined)
      return [networkFilter(networkRbac, pack(NetworkRbacSchema, { rules, statPrefix: "tcp." }))];
    const config = { shadowRules: rules, shadowRulesStatPrefix: shadowPrefix, statPrefix: "tcp." };
    return [
      networkFilter(networkRbac, pack(NetworkRbacSchema, config)),
      networkFilter(
        "envoy.filters.network.ext_authz",
        pack(NetworkExtAuthzSchema, {
          statPrefix: "tcp.",
          transportApiVersion: ApiVersion.V3,
          failureModeAllow: found.provider.failOpen,
          includePeerCertificate: true,
          grpcService: grpcService(found),
          filterEnabledMetadata: whenMatched(networkRbac, prefix),
        }),
      ),
    ];
  });
}

const whenMatched = (filter: string, prefix: string): MessageInitShape<typeof MetadataMatcherSchema> => ({
  filter,
  path: [{ segment: { case: "key", value: `${shadowPrefix}shadow_effective_policy_id` } }],
  value: { matchPattern: { case: "stringMatch", value: { matchPattern: { case: "prefix", value: prefix } } } },
});

const hostOf = ({ destination }: Usable): string => destination.service.hostname;

function grpcService(found: Usable): MessageInitShape<typeof GrpcServiceSchema> {
  return {
    timeout: duration(found.provider.timeoutMs),
    targetSpecifier: { case: "envoyGrpc", value: { clusterName: found.cluster, authority: hostOf(found) } },
  };
}

function httpConfig(
  found: Usable,
  filterEnabledMetadata: MessageInitShape<typeof MetadataMatcherSchema>,
): MessageInitShape<typeof ExtAuthzSchema> {
  const { provider } = found;
  return {
    transportApiVersion: ApiVersion.V3,
    failureModeAllow: provider.failOpen,
    clearRouteCache: provider.clearRouteCache,
    includePeerCertificate: true,
    statusOnError: { code: errorStatus(provider) ?? StatusCode.Forbidden },
    filterEnabledMetadata,
    ...(provider.body === undefined
      ? {}
      : {
          withRequestBody: {
            maxRequestBytes: provider.body.maxBytes,
            allowPartialMessage: provider.body.allowPartial,
            packAsBytes: provider.body.asBytes,
          },
        }),
    ...(provider.kind === "grpc"
      ? { services: { case: "grpcService", value: grpcService(found) } }
      : httpService(found, provider)),
  };
}

function httpService(
  found: Usable,
  provider: Extract<ExtAuthzProvider, { kind: "http" }>,
): Pick<Exclude<MessageInitShape<typeof ExtAuthzSchema>, { $typeName: string }>, "services" | "allowedHeaders"> {
  return {
    ...names("allowedHeaders", provider.requestHeaders),
    services: {
      case: "httpService",
      value: {
        pathPrefix: provider.pathPrefix,
        serverUri: {
          uri: `http://${hostOf(found)}:${provider.port}`,
          httpUpstreamType: { case: "cluster", value: found.cluster },
          timeout: duration(provider.timeoutMs),
        },
        authorizationRequest: {
          headersToAdd: [...provider.additionalHeaders].map(([key, value]) => ({ key, value })),
        },
        authorizationResponse: {
          ...names("allowedUpstreamHeaders", provider.upstreamHeadersOnAllow),
          ...names("allowedClientHeaders", provider.clientHeadersOnDeny),
          ...names("allowedClientHeadersOnSuccess", provider.clientHeadersOnAllow),
        },
      },
    },
  };
}

/** Names of headers in any case; the field is absent where there are none. */
const names = <K extends string>(
  key: K,
  patterns: readonly string[],
): { [_ in K]?: MessageInitShape<typeof ListStringMatcherSchema> } =>
  (patterns.length === 0
    ? {}
    : { [key]: { patterns: patterns.map((each) => ({ ...stringMatch(each), ignoreCase: true })) } }) as {
    [_ in K]?: MessageInitShape<typeof ListStringMatcherSchema>;
  };
