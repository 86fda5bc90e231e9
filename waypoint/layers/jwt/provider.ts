/** One issuer of tokens as configured, what is remembered of its tokens, and what a valid one changes in a request. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { JwtProvider } from "#shared/proto/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import type { Exchange } from "#waypoint/http/exchange.ts";
import { toBytes } from "#waypoint/http/latin1.ts";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import { recordMetadata } from "#waypoint/layers/metadata.ts";
import type { TextTest } from "#waypoint/matching/regex.ts";
import { compileString } from "#waypoint/matching/string-matcher.ts";
import { valueAt } from "#waypoint/matching/value-matcher.ts";
import { readKeySet, type KeySet, type KeySource } from "./key-set.ts";
import { locationsOf, removeTokens, type Location } from "./locations.ts";
import { RemoteKeys, type MayFetch } from "./remote-keys.ts";
import { jwt, ok, type JwtStatus } from "./status.ts";
import { metadataName } from "./claims.ts";
import type { Token } from "./token.ts";

/** Tokens whose signature was found good, for each provider; longer tokens are checked each time. */
const mostRemembered = 1_000;
const longestRemembered = 4_096;
const defaultSkewSeconds = 60;

export class Provider {
  readonly name: string;
  readonly issuer: string;
  readonly locations: readonly Location[];
  readonly keys: KeySource;
  readonly #config: JwtProvider;
  readonly #audiences: ReadonlySet<string>;
  readonly #subjects: TextTest | undefined;
  readonly #skewSeconds: number;
  readonly #maxLifetimeSeconds: number | undefined;
  readonly #known = new Map<string, Token>();
  #knownBy: KeySet | undefined;

  constructor(name: string, config: JwtProvider, path: string, context: LayerContext, mayFetch: MayFetch) {
    const { problem } = context;
    this.name = name;
    this.issuer = config.issuer;
    this.locations = locationsOf(config);
    this.keys = keySource(config, path, context, mayFetch);
    this.#config = config;
    this.#audiences = new Set(config.audiences.map(plainAudience));
    this.#subjects = config.subjects && compileString(config.subjects, `${path}.subjects`, problem);
    this.#skewSeconds = config.clockSkewSeconds || defaultSkewSeconds;
    this.#maxLifetimeSeconds = config.maxLifetime && Number(config.maxLifetime.seconds);
  }

  /** Whether valid tokens are taken out of requests. */
  get takes(): boolean {
    return !this.#config.forward;
  }

  /** A token of this provider that was verified before, by the keys of now. */
  recall(raw: string): Token | undefined {
    if (this.#knownBy !== this.keys.current) return undefined;
    return this.#known.get(raw);
  }

  remember(token: Token, keys: KeySet): void {
    if (token.raw.length > longestRemembered || keys !== this.keys.current) return;
    if (this.#knownBy !== keys) this.#known.clear();
    this.#knownBy = keys;
    if (this.#known.size >= mostRemembered) {
      const [oldest] = this.#known.keys();
      if (oldest !== undefined) this.#known.delete(oldest);
    }
    this.#known.set(token.raw, token);
  }

  /** Everything but the signature. `audiences` take the place of the configured ones. */
  checkClaims(token: Token, nowMs: number, audiences = this.#audiences): JwtStatus {
    const now = nowMs / 1000;
    if (this.issuer !== "" && token.issuer !== this.issuer) return jwt.unknownIssuer;
    if (token.notBefore !== undefined && now < token.notBefore - this.#skewSeconds) return jwt.notYetValid;
    if (token.expires !== undefined && now > token.expires + this.#skewSeconds) return jwt.expired;
    if (token.expires === undefined && this.#config.requireExpiration) return jwt.expiryRequired;
    if (this.#maxLifetimeSeconds !== undefined) {
      const lifetime = (token.expires ?? Infinity) - (token.issuedAt ?? token.notBefore ?? now);
      if (lifetime > this.#maxLifetimeSeconds) return jwt.lifetimeTooLong;
    }
    if (this.#subjects !== undefined && !this.#subjects(token.subject)) return jwt.subjectNotAllowed;
    const allowed = audiences.size === 0 || token.audiences.some((each) => audiences.has(plainAudience(each)));
    return allowed ? ok : jwt.audienceNotAllowed;
  }

  /** Headers that tell of tokens are ours alone: what a client wrote in them goes. */
  sanitize(exchange: Exchange): void {
    const { headers } = exchange.request;
    const { forwardPayloadHeader, claimToHeaders } = this.#config;
    if (forwardPayloadHeader !== "") headers.delete(forwardPayloadHeader.toLowerCase());
    for (const { headerName } of claimToHeaders) headers.delete(headerName.toLowerCase());
  }

  /** What a valid token means for its request. */
  accept(exchange: Exchange, token: Token, location: Location): void {
    const config = this.#config;
    const { headers } = exchange.request;
    if (!config.forward) removeTokens(exchange.request, location);
    if (config.forwardPayloadHeader !== "") {
      const text = token.payloadText;
      const padding = config.padForwardPayloadHeader ? "=".repeat((4 - (text.length % 4)) % 4) : "";
      headers.set(config.forwardPayloadHeader.toLowerCase(), `${text}${padding}`);
    }
    for (const { headerName, claimName } of config.claimToHeaders) {
      const value = claimText(claimAt(token.payload, claimName));
      if (value !== undefined) headers.set(headerName.toLowerCase(), toBytes(value));
    }
    if (config.payloadInMetadata !== "") {
      recordMetadata(exchange, metadataName, { [config.payloadInMetadata]: this.#normalised(token) });
    }
    if (config.clearRouteCache) exchange.route = undefined;
  }

  #normalised({ payload }: Token): JsonObject {
    const claims = this.#config.normalizePayloadInMetadata?.spaceDelimitedClaims ?? [];
    const split: JsonObject = {};
    for (const claim of claims) {
      const value = Object.hasOwn(payload, claim) ? payload[claim] : undefined;
      if (typeof value === "string") split[claim] = value.split(" ").filter((part) => part !== "");
    }
    return Object.keys(split).length === 0 ? payload : { ...payload, ...split };
  }
}

/** With or without scheme and closing slash it is the same audience. */
export const plainAudience = (audience: string): string => audience.replace(/^https?:\/\//, "").replace(/\/$/, "");

/** Names of claims may hold dots themselves; otherwise a dot leads into an object. */
function claimAt(payload: JsonObject, name: string): JsonValue | undefined {
  return Object.hasOwn(payload, name) ? payload[name] : valueAt(payload, name.split("."));
}

/** What a header cannot carry; a claim must not make a header of its own. */
const unfit = /[^\t\u0020-\u007e\u0080-\u00ff]/;

function claimText(value: JsonValue | undefined): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "object") return Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = String(value);
  return unfit.test(text) ? undefined : text;
}

function keySource(config: JwtProvider, path: string, context: LayerContext, mayFetch: MayFetch): KeySource {
  const source = config.jwksSourceSpecifier;
  switch (source.case) {
    case "localJwks": {
      const { specifier } = source.value;
      if (specifier.case === "inlineString") return fixedKeys(specifier.value);
      if (specifier.case === "inlineBytes") return fixedKeys(Buffer.from(specifier.value).toString("utf8"));
      context.problem(`${path}.local_jwks`, "only inline keys are supported");
      return fixedKeys("");
    }
    case "remoteJwks":
      return new RemoteKeys(source.value, `${path}.remote_jwks`, context, mayFetch);
    case undefined:
      context.problem(path, "has neither local_jwks nor remote_jwks");
      return fixedKeys("");
  }
}

/** Where the text is no key set there are no keys, and so no valid tokens. */
function fixedKeys(text: string): KeySource {
  const current = readKeySet(text) ?? { keys: [] };
  return { current, fetch: () => Promise.resolve(current) };
}
