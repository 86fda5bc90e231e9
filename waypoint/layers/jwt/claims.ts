/** What valid tokens of a request claim; the JWT layer has put it into the request's metadata. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

/** Metadata of tokens stands under this name, whatever the filter is called. */
export const metadataName = "envoy.filters.http.jwt_authn";

interface HasMetadata {
  metadataOf(filter: string): JsonObject | undefined;
}

/** The value at a path of names, in the first token that has it; only of tokens of `issuer`, where that is not empty. */
export function claimOf(subject: HasMetadata, path: readonly string[], issuer = ""): JsonValue | undefined {
  const metadata = subject.metadataOf(metadataName);
  if (metadata === undefined) return undefined;
  for (const payload of Object.values(metadata)) {
    if (issuer !== "" && member(payload, "iss") !== issuer) continue;
    let value: JsonValue | undefined = payload;
    for (const name of path) value = member(value, name);
    if (value !== undefined) return value;
  }
  return undefined;
}

/** `issuer/subject`, both of one token. */
export function requestPrincipalOf(subject: HasMetadata): string | undefined {
  for (const payload of Object.values(subject.metadataOf(metadataName) ?? {})) {
    const [iss, sub] = [member(payload, "iss"), member(payload, "sub")];
    if (typeof iss === "string" && typeof sub === "string") return `${iss}/${sub}`;
  }
  return undefined;
}

const member = (value: JsonValue | undefined, name: string): JsonValue | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) && Object.hasOwn(value, name)
    ? value[name]
    : undefined;
