/** Every attribute of Istio's policies as Envoy's permission or principal. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PermissionSchema, PrincipalSchema } from "#shared/proto/gen/envoy/config/rbac/v3/rbac_pb.js";
import { UriTemplateMatchConfigSchema } from "#shared/proto/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import type { MetadataMatcherSchema } from "#shared/proto/gen/envoy/type/matcher/v3/metadata_pb.js";
import type { ValueMatcherSchema } from "#shared/proto/gen/envoy/type/matcher/v3/value_pb.js";
import { tryCidr } from "#shared/net/cidr.ts";
import { pack } from "#controlplane/translate/envoy/messages.ts";
import { namesOfMesh, underEveryName, type MeshNames } from "./trust-domains.ts";
import {
  headerMatch,
  exactly,
  prefixedMatch,
  quoteRegex,
  regex,
  stringMatch,
  type StringMatcherInit,
} from "./string-match.ts";

type Init<T> = Exclude<T, { $typeName: string }>;
export type PermissionInit = Init<MessageInitShape<typeof PermissionSchema>>;
export type PrincipalInit = Init<MessageInitShape<typeof PrincipalSchema>>;
type MetadataInit = Init<MessageInitShape<typeof MetadataMatcherSchema>>;
type ValueInit = Init<MessageInitShape<typeof ValueMatcherSchema>>;

export interface PolicyScope extends MeshNames {
  /** That of the policy. */
  readonly namespace: string;
}

interface Attribute {
  /** Only requests have it: on a TCP chain nothing is known of it. */
  readonly isHttp: boolean;
}

export interface PermissionAttribute extends Attribute {
  readonly kind: "permission";
  /** Undefined where the value cannot be matched. */
  make(value: string, scope: PolicyScope): PermissionInit | undefined;
}

export interface PrincipalAttribute extends Attribute {
  readonly kind: "principal";
  make(value: string, scope: PolicyScope): PrincipalInit | undefined;
}

export type AnyAttribute = PermissionAttribute | PrincipalAttribute;

const permission = (make: PermissionAttribute["make"], isHttp = false): PermissionAttribute => ({
  kind: "permission",
  isHttp,
  make,
});
const principal = (make: PrincipalAttribute["make"], isHttp = false): PrincipalAttribute => ({
  kind: "principal",
  isHttp,
  make,
});

/** The tunnel's client, as its certificate proves it. */
export const peerKey = "io.istio.peer_principal";
const peer = (value: StringMatcherInit): PrincipalInit => ({
  identifier: { case: "filterState", value: { key: peerKey, matcher: { case: "stringMatch", value } } },
});

const anyId = (ids: readonly PrincipalInit[]): PrincipalInit => ({
  identifier: { case: "orIds", value: { ids: [...ids] } },
});

function range(value: string): { addressPrefix: string; prefixLen: number } | undefined {
  const cidr = tryCidr(value);
  return cidr && { addressPrefix: cidr.base, prefixLen: cidr.length };
}

const jwtFilter = "envoy.filters.http.jwt_authn";
/** Under this key the filter keeps what a valid token says. */
export const jwtPayload = "payload";

const text = (value: StringMatcherInit): ValueInit => ({ matchPattern: { case: "stringMatch", value } });
const element = (value: StringMatcherInit): ValueInit => ({
  matchPattern: { case: "listMatch", value: { matchPattern: { case: "oneOf", value: text(value) } } },
});
const textOrElement = (value: StringMatcherInit): ValueInit => ({
  matchPattern: { case: "orMatch", value: { valueMatchers: [text(value), element(value)] } },
});
const metadata = (filter: string, keys: readonly string[], value: ValueInit): MetadataInit => ({
  filter,
  path: keys.map((key) => ({ segment: { case: "key" as const, value: key } })),
  value,
});
const claim = (keys: readonly string[], value: ValueInit): PrincipalInit => ({
  identifier: { case: "metadata", value: metadata(jwtFilter, [jwtPayload, ...keys], value) },
});

const oneOf = (ids: readonly PrincipalInit[]): PrincipalInit | undefined => (ids.length === 1 ? ids[0] : anyId(ids));

const principals = principal((value, scope) =>
  oneOf(underEveryName(value, scope).map((each) => peer(prefixedMatch("spiffe://", each)))),
);

const namespaces = principal((value) => peer(regex(`.*/ns/${value.split("*").map(quoteRegex).join(".*")}/.*`)));

const serviceAccounts = principal((value, { namespace }) => {
  const slash = value.indexOf("/");
  const [ns, account] = slash < 0 ? [namespace, value] : [value.slice(0, slash), value.slice(slash + 1)];
  return peer(regex(`spiffe://.+/ns/${quoteRegex(ns)}/(.+/|)sa/${quoteRegex(account)}(/.+)?`));
});

const trustDomains = principal((value, scope) =>
  oneOf(
    namesOfMesh(value, scope).map((each) =>
      peer(
        each.includes("*")
          ? regex(`spiffe://${each.split("*").map(quoteRegex).join("[^/]*")}/.*`)
          : { matchPattern: { case: "prefix", value: `spiffe://${each}/` } },
      ),
    ),
  ),
);

/** `issuer/subject`, split at the last slash; the star only counts at either end of the whole. */
const requestPrincipals = principal((value) => {
  const slash = value.lastIndexOf("/");
  const both = (issuer: StringMatcherInit, subject: StringMatcherInit): PrincipalInit => ({
    identifier: { case: "andIds", value: { ids: [claim(["iss"], text(issuer)), claim(["sub"], text(subject))] } },
  });
  const anything = regex(".+");
  if (value === "*") return both(anything, anything);
  if (slash < 0) {
    if (value.startsWith("*")) return both(anything, stringMatch(value));
    return both(stringMatch(value), value.endsWith("*") ? anything : exactly(""));
  }
  const [issuer, subject] = [value.slice(0, slash), value.slice(slash + 1)];
  if (value.startsWith("*")) return both(stringMatch(issuer), exactly(subject));
  return both(exactly(issuer), value.endsWith("*") ? stringMatch(subject) : exactly(subject));
}, true);

const sourceIp = principal((value) => {
  const found = range(value);
  return found && { identifier: { case: "directRemoteIp", value: found } };
});
const remoteIp = principal((value) => {
  const found = range(value);
  return found && { identifier: { case: "remoteIp", value: found } };
});
const destinationIp = permission((value) => {
  const found = range(value);
  return found && { rule: { case: "destinationIp", value: found } };
});
const ports = permission((value) =>
  /^\d{1,5}$/.test(value) && Number(value) <= 65_535
    ? { rule: { case: "destinationPort", value: Number(value) } }
    : undefined,
);

const hosts = permission(
  (value) => ({ rule: { case: "header", value: headerMatch(":authority", value, true) } }),
  true,
);
const methods = permission((value) => ({ rule: { case: "header", value: headerMatch(":method", value) } }), true);
const paths = permission(
  (value) =>
    value.includes("{*}") || value.includes("{**}")
      ? { rule: { case: "uriTemplate", value: pathTemplate(value) } }
      : { rule: { case: "urlPath", value: { rule: { case: "path", value: stringMatch(value) } } } },
  true,
);
const pathTemplate = (value: string) => ({
  name: "uri-template",
  typedConfig: pack(UriTemplateMatchConfigSchema, {
    pathTemplate: value.replaceAll("{*}", "*").replaceAll("{**}", "**"),
  }),
});

const serverName = permission((value) => ({ rule: { case: "requestedServerName", value: stringMatch(value) } }));
const audiences = principal((value) => claim(["aud"], textOrElement(stringMatch(value))), true);
const presenter = principal((value) => claim(["azp"], textOrElement(stringMatch(value))), true);

/** Attributes of `from` and `to`, by their names there. */
export const fields: ReadonlyMap<string, AnyAttribute> = new Map<string, AnyAttribute>([
  ["principals", principals],
  ["requestPrincipals", requestPrincipals],
  ["namespaces", namespaces],
  ["serviceAccounts", serviceAccounts],
  ["trustDomains", trustDomains],
  ["ipBlocks", sourceIp],
  ["remoteIpBlocks", remoteIp],
  ["hosts", hosts],
  ["ports", ports],
  ["methods", methods],
  ["paths", paths],
]);

const conditions: ReadonlyMap<string, AnyAttribute> = new Map<string, AnyAttribute>([
  ["source.ip", sourceIp],
  ["remote.ip", remoteIp],
  ["source.namespace", namespaces],
  ["source.serviceAccount", serviceAccounts],
  ["source.principal", principals],
  ["source.trustDomain", trustDomains],
  ["request.auth.principal", requestPrincipals],
  ["request.auth.audiences", audiences],
  ["request.auth.presenter", presenter],
  ["destination.ip", destinationIp],
  ["destination.port", ports],
  ["connection.sni", serverName],
]);

/** The attribute that a key of `when` means; undefined for one that is not known. */
export function conditionAttribute(key: string): AnyAttribute | undefined {
  const plain = conditions.get(key);
  if (plain !== undefined) return plain;
  const header = /^request\.headers\[([^[\]]+)\]$/.exec(key)?.[1];
  if (header !== undefined) {
    return principal((value) => ({ identifier: { case: "header", value: headerMatch(header, value) } }), true);
  }
  const claims = /^request\.auth\.claims((?:\[[^[\]]+\])+)$/.exec(key)?.[1];
  if (claims !== undefined) {
    const keys = claims.slice(1, -1).split("][");
    return principal((value) => claim(keys, textOrElement(stringMatch(value))), true);
  }
  const filter = /^experimental\.(envoy\.filters\.[^[\]]+)\[([^[\]]+)\]$/.exec(key);
  return filter === null ? undefined : filterMetadata(filter[1] as string, filter[2] as string);
}

/** `[v]` asks for an element of a list. */
function filterMetadata(filter: string, key: string): PermissionAttribute {
  return permission((value) => {
    const isList = value.startsWith("[") && value.endsWith("]");
    const match = isList ? element(stringMatch(value.slice(1, -1))) : text(stringMatch(value));
    return { rule: { case: "metadata", value: metadata(filter, [key], match) } };
  });
}
