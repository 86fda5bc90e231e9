/** RequestAuthentications of a chain as one JWT filter. A request without a token passes: policies say who may. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  JwtAuthenticationSchema,
  type JwtProviderSchema,
  type JwtRequirementSchema,
} from "#shared/proto/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import type { RequestAuthentication } from "#controlplane/mesh/objects.ts";
import type { JwtRule } from "#controlplane/mesh/request-authentication.ts";
import type { EnvoyContext } from "#controlplane/translate/envoy/context.ts";
import { pack } from "#controlplane/translate/envoy/messages.ts";
import { jwtPayload } from "./attributes.ts";
import { httpFilter, type HttpFilterInit } from "./filters.ts";
import { keysOf } from "#controlplane/mesh/token-keys.ts";

type Requirement = Exclude<MessageInitShape<typeof JwtRequirementSchema>, { $typeName: string }>;
type Provider = Exclude<MessageInitShape<typeof JwtProviderSchema>, { $typeName: string }>;

/** Claims that hold a list in one text, by their standards. */
const alwaysSpaceDelimited = ["scope", "permission"];

export function jwtAuthentication(
  context: EnvoyContext,
  authentications: readonly RequestAuthentication[],
): readonly HttpFilterInit[] {
  const rules = authentications
    .flatMap((each) => each.rules)
    .sort((a, b) => (a.issuer === b.issuer ? 0 : a.issuer < b.issuer ? -1 : 1));
  if (rules.length === 0) return [];
  const names = rules.map((_, index) => `origins-${index}`);
  const config: MessageInitShape<typeof JwtAuthenticationSchema> = {
    providers: Object.fromEntries(rules.map((rule, index) => [names[index] as string, provider(context, rule)])),
    rules: [
      {
        match: { pathSpecifier: { case: "prefix", value: "/" } },
        requirementType: { case: "requires", value: anyValidOrNone(names) },
      },
    ],
    bypassCorsPreflight: true,
  };
  return [httpFilter("envoy.filters.http.jwt_authn", pack(JwtAuthenticationSchema, config))];
}

const valid = (name: string): Requirement => ({ requiresType: { case: "providerName", value: name } });
const missing: Requirement = { requiresType: { case: "allowMissing", value: {} } };
const anyOf = (requirements: Requirement[]): Requirement => ({
  requiresType: { case: "requiresAny", value: { requirements } },
});

/** One rule accepts the token, or for each rule there is none where it looks. */
function anyValidOrNone(names: readonly string[]): Requirement {
  const [single, ...more] = names;
  if (single !== undefined && more.length === 0) return anyOf([valid(single), missing]);
  return anyOf([
    ...names.map(valid),
    {
      requiresType: {
        case: "requiresAll",
        value: { requirements: names.map((name) => anyOf([valid(name), missing])) },
      },
    },
  ]);
}

function provider({ world }: EnvoyContext, rule: JwtRule): Provider {
  return {
    issuer: rule.issuer,
    audiences: [...rule.audiences],
    forward: rule.forwardOriginalToken,
    fromHeaders: rule.fromHeaders.map(({ name, prefix }) => ({ name, valuePrefix: prefix })),
    fromParams: [...rule.fromParams],
    fromCookies: [...rule.fromCookies],
    forwardPayloadHeader: rule.outputPayloadToHeader,
    claimToHeaders: rule.outputClaimToHeaders.map(({ header, claim }) => ({ headerName: header, claimName: claim })),
    payloadInMetadata: jwtPayload,
    normalizePayloadInMetadata: {
      spaceDelimitedClaims: [...new Set([...alwaysSpaceDelimited, ...rule.spaceDelimitedClaims])],
    },
    clearRouteCache: true,
    jwksSourceSpecifier: {
      case: "localJwks",
      value: { specifier: { case: "inlineString", value: keysOf(rule, world.fetchedKeys).jwks } },
    },
  };
}
