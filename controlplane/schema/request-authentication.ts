import { z } from "zod";
import { attachment, checkAttachment, oneAttachment } from "./attachment.ts";
import type { Field } from "./field.ts";
import { checkMatchedName, checkWrittenName } from "./header-checks.ts";
import { age, securityKind, type KindDefinition } from "./kind.ts";
import { checkDuration, duration, filled } from "./scalars.ts";

const headerName = z.string().regex(/^[-_A-Za-z0-9]+$/, { error: 'a header name: use letters, digits, "-" and "_"' });

const jwtRule = z.strictObject({
  issuer: z
    .string()
    .optional()
    .describe("Who issued the token, compared with its iss claim; any if not written, which needs jwksUri"),
  audiences: z
    .array(filled)
    .optional()
    .describe("Audiences, one of which the token must be for (aud), else 403; any if not written"),
  jwksUri: z
    .string()
    .max(2048)
    .optional()
    .describe(
      "Where the issuer's public keys are fetched, by http or https; if not written, as the issuer publishes it. Until then no token is valid; link-local and metadata addresses are never asked",
    ),
  jwks_uri: z.string().max(2048).optional().describe("Another spelling of jwksUri"),
  jwks: z.string().optional().describe("The issuer's public keys themselves, as a JSON Web Key Set; excludes jwksUri"),
  fromHeaders: z
    .array(
      z.strictObject({
        name: filled.describe("Name of the header"),
        prefix: z
          .string()
          .optional()
          .describe('What stands before the token, such as "Bearer "; nothing if not written'),
      }),
    )
    .optional()
    .describe(
      "Headers that hold the token; Authorization with Bearer, and the parameter access_token, if no place is written",
    ),
  fromParams: z.array(filled).optional().describe("Parameters of the query that hold the token"),
  fromCookies: z.array(filled).optional().describe("Cookies that hold the token"),
  outputPayloadToHeader: z
    .string()
    .optional()
    .describe("Header in which the service gets the payload of a valid token, in base64url; none if not written"),
  outputClaimToHeaders: z
    .array(
      z.strictObject({
        header: headerName.describe("Name of the header; what clients write in it is taken away"),
        claim: filled.describe("Name of the claim, with dots before inner ones"),
      }),
    )
    .optional()
    .describe("Headers in which the service gets claims of a valid token; lists and objects as JSON in base64url"),
  forwardOriginalToken: z
    .boolean()
    .optional()
    .describe("Whether the service gets the token itself, too; false if not written"),
  timeout: duration.optional().describe("How long fetching the keys may take; 5s if not written"),
  spaceDelimitedClaims: z
    .array(filled)
    .max(64)
    .optional()
    .describe("Claims whose words are compared one by one, besides scope and permission"),
});

const spec = z
  .strictObject({
    ...attachment,
    jwtRules: z
      .array(jwtRule)
      .max(4096)
      .optional()
      .describe("Tokens that are accepted: any of them. A token that none accepts gets 401, no token passes"),
  })
  .meta({ description: "Where tokens are looked at, and which are accepted", ...oneAttachment });

function check(spec: Field): void {
  checkAttachment(spec);
  for (const rule of spec.at("jwtRules").items()) {
    const uri = rule.has("jwksUri") ? rule.at("jwksUri") : rule.at("jwks_uri");
    if ((rule.at("issuer").text ?? "") === "" && !uri.isSet) {
      rule.error("has neither issuer nor jwksUri", "write at least the issuer");
    }
    rule.atMostOne(["jwks", "jwksUri", "jwks_uri"]);
    checkUrl(uri);
    checkKeys(rule.at("jwks"));
    checkDuration(rule.at("timeout"));
    const payload = rule.at("outputPayloadToHeader");
    if (payload.text !== undefined && payload.text !== "") checkWrittenName(payload, payload.text);
    for (const output of rule.at("outputClaimToHeaders").items()) {
      const header = output.at("header");
      if (header.text !== undefined) checkWrittenName(header, header.text);
    }
    for (const place of rule.at("fromHeaders").items()) {
      const name = place.at("name");
      if (name.text !== undefined && name.text !== "") checkMatchedName(name, name.text);
    }
  }
}

function checkUrl(uri: Field): void {
  if (uri.text === undefined) return;
  const url = URL.canParse(uri.text) ? new URL(uri.text) : undefined;
  if (url === undefined || !["http:", "https:"].includes(url.protocol) || url.hostname === "") {
    uri.error(`${uri.quoted} is not a web address`, "write it as https://issuer.example.com/keys");
  }
}

function checkKeys(jwks: Field): void {
  if (jwks.text === undefined) return;
  const set = parseJson(jwks.text);
  const keys = typeof set === "object" && set !== null && "keys" in set ? set.keys : undefined;
  if (!Array.isArray(keys)) {
    jwks.error("is not a JSON Web Key Set", 'write JSON of the form {"keys": [...]}');
  } else if (keys.some((key: unknown) => typeof key === "object" && key !== null && "d" in key)) {
    jwks.warn("holds a private key", "write public keys only, and replace that key pair");
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

export const requestAuthentication: KindDefinition = {
  ...securityKind,
  kind: "RequestAuthentication",
  plural: "requestauthentications",
  shortNames: ["ra"],
  description: "Which JSON Web Tokens a waypoint accepts. A request without a token passes: deny it by policy.",
  columns: [age],
  spec,
  check,
};
