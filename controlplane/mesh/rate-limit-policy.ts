/** How many requests of whom are taken: our RateLimitPolicy, with its defaults filled in. */
import { durationMs } from "./duration.ts";
import type { Field } from "./field.ts";
import { readSectionTargets, type SectionTarget } from "./section-target.ts";

/** One way in which a text must look. */
export interface TextTest {
  readonly name: string;
  readonly kind: "exact" | "prefix" | "suffix" | "regex" | "present";
  /** `true` or `false` for `present`. */
  readonly value: string;
}

export interface RequestMatch {
  /** Fields of an AuthorizationPolicy's source and operation, by name. */
  readonly attributes: ReadonlyMap<string, readonly string[]>;
  readonly headers: readonly TextTest[];
  readonly queryParams: readonly TextTest[];
  readonly claims: readonly { readonly path: readonly string[]; readonly values: readonly string[] }[];
  /** CEL; all of it must hold. */
  readonly when: readonly string[];
}

export interface RateWindow {
  readonly requests: number;
  readonly perMs: number;
  readonly burst: number;
}

export type LimitKeySource =
  | { readonly kind: "header" | "cookie" | "queryParam"; readonly name: string }
  | { readonly kind: "path"; readonly isTemplate: boolean }
  | { readonly kind: "remoteAddress"; readonly v4: number; readonly v6: number }
  | { readonly kind: "jwtClaim"; readonly path: readonly string[]; readonly issuer: string }
  | { readonly kind: "literal"; readonly value: string }
  | { readonly kind: "expression"; readonly cel: string }
  | {
      readonly kind:
        | "method"
        | "host"
        | "sourcePrincipal"
        | "sourceNamespace"
        | "sourceServiceAccount"
        | "sourceWorkload"
        | "requestPrincipal"
        | "route";
    };

export interface LimitKey {
  readonly source: LimitKeySource;
  readonly onMissing: "Skip" | "UseEmpty" | "Ignore";
}

export type LimitCost =
  | { readonly kind: "value"; readonly value: number }
  | { readonly kind: "request" | "response"; readonly header: string }
  | { readonly kind: "requestExpression" | "responseExpression"; readonly cel: string };

export interface Limit {
  readonly name: string;
  readonly isGlobal: boolean;
  readonly sharesReplicas: boolean;
  readonly match: readonly RequestMatch[];
  readonly key: readonly LimitKey[];
  readonly rates: readonly RateWindow[];
  readonly cost: LimitCost;
  /** Without rates: unlimited. */
  readonly overrides: readonly { readonly when: RequestMatch; readonly rates: readonly RateWindow[] }[];
  readonly maxKeys: number;
}

export interface RateLimitBody {
  readonly isShadow: boolean;
  readonly isEarly: boolean;
  readonly limits: readonly Limit[];
  readonly response: {
    readonly status: number;
    /** Empty: a rate limit service's words, or the proxy's. */
    readonly body: string;
    readonly contentType: string;
    readonly headers: ReadonlyMap<string, string>;
    readonly retryAfter: boolean;
    readonly standardHeaders: "Off" | "DraftVersion03" | "IETF";
    readonly grpcStatus: number;
  };
  readonly deniesOnError: boolean;
  readonly errorStatus: number;
  readonly service:
    | {
        readonly name: string;
        /** Empty: that of the policy. */
        readonly namespace: string;
        readonly port: number;
        readonly domain: string;
        readonly timeoutMs: number;
      }
    | undefined;
}

/** How policies of a Gateway and narrower ones go together. */
export type Precedence = "all" | "defaults" | "overrides";

export interface RateLimitSpec {
  readonly targets: readonly SectionTarget[];
  readonly precedence: Precedence;
  /** The whole policy counts, or none of it; otherwise limit by limit. */
  readonly isAtomic: boolean;
  readonly body: RateLimitBody;
}

const defaultMaxKeys = 10_000;
const defaultTimeoutMs = 20;

export function readRateLimitSpec(spec: Field): RateLimitSpec {
  const targets = readSectionTargets(spec);
  for (const precedence of ["defaults", "overrides"] as const) {
    const part = spec.at(precedence);
    if (!part.isPresent) continue;
    return { targets, precedence, isAtomic: part.at("strategy").text() === "Atomic", body: readBody(part) };
  }
  return { targets, precedence: "all", isAtomic: false, body: readBody(spec) };
}

function readBody(part: Field): RateLimitBody {
  const response = part.at("response");
  const global = part.at("global");
  const service = global.at("service");
  return {
    isShadow: part.at("mode").text() === "Shadow",
    isEarly: part.at("phase").text() === "PreAuth",
    limits: part.at("limits").list().map(readLimit),
    response: {
      status: response.at("status").whole(429),
      body: response.at("body").text(),
      contentType: response.at("contentType").text("text/plain"),
      headers: response.at("headers").at("set").textMap(),
      retryAfter: orTrue(response.at("retryAfter")),
      standardHeaders: response.at("standardHeaders").text("Off") as "Off" | "DraftVersion03" | "IETF",
      grpcStatus: response.at("grpcStatus").text() === "UNAVAILABLE" ? 14 : 8,
    },
    deniesOnError: part.at("onError").text() === "Deny",
    errorStatus: part.at("errorStatus").whole(500),
    service: global.isPresent
      ? {
          name: service.at("name").text(),
          namespace: service.at("namespace").text(),
          port: service.at("port").port(),
          domain: global.at("domain").text(),
          timeoutMs: durationMs(global.at("timeout")) ?? defaultTimeoutMs,
        }
      : undefined,
  };
}

function readLimit(limit: Field): Limit {
  return {
    name: limit.at("name").text(),
    isGlobal: limit.at("scope").text() === "Global",
    sharesReplicas: limit.at("shareReplicas").flag(),
    match: limit.at("match").list().map(readMatch),
    key: limit.at("key").list().map(readKey),
    rates: limit.at("rates").list().map(readRate),
    cost: readCost(limit.at("cost")),
    overrides: limit
      .at("overrides")
      .list()
      .map((override) => ({ when: readMatch(override.at("when")), rates: override.at("rates").list().map(readRate) })),
    maxKeys: limit.at("maxKeys").whole(defaultMaxKeys),
  };
}

const ownLists = new Set(["headers", "queryParams", "claims", "when"]);

/** `a.b` or `[a][b]`. */
const claimPath = (text: string): readonly string[] =>
  text.startsWith("[") ? text.slice(1, -1).split("][") : text.split(".");

function readMatch(match: Field): RequestMatch {
  return {
    attributes: new Map(
      match
        .entries()
        .filter(([name]) => !ownLists.has(name))
        .map(([name, values]) => [name, values.texts()] as const),
    ),
    headers: match.at("headers").list().map(readTest),
    queryParams: match.at("queryParams").list().map(readTest),
    claims: match
      .at("claims")
      .list()
      .map((claim) => ({ path: claimPath(claim.at("name").text()), values: claim.at("values").texts() })),
    when: match.at("when").texts(),
  };
}

const orTrue = (field: Field): boolean => !field.isPresent || field.flag();

function readTest(test: Field): TextTest {
  const name = test.at("name").text();
  for (const kind of ["exact", "prefix", "suffix", "regex"] as const) {
    const value = test.at(kind).optionalText();
    if (value !== undefined) return { name, kind, value };
  }
  return { name, kind: "present", value: String(orTrue(test.at("present"))) };
}

function readRate(rate: Field): RateWindow {
  const requests = rate.at("requests").whole();
  return { requests, perMs: durationMs(rate.at("per")) ?? 0, burst: rate.at("burst").whole(requests) };
}

function readCost(cost: Field): LimitCost {
  for (const kind of ["request", "response"] as const) {
    const part = cost.at(kind);
    if (!part.isPresent) continue;
    const cel = part.at("expression").text();
    return cel === "" ? { kind, header: part.at("header").text() } : { kind: `${kind}Expression`, cel };
  }
  return { kind: "value", value: cost.at("value").whole(1) };
}

function readKey(key: Field): LimitKey {
  return {
    source: readSource(key),
    onMissing: key.at("onMissing").text("UseEmpty") as LimitKey["onMissing"],
  };
}

function readSource(key: Field): LimitKeySource {
  for (const kind of ["header", "cookie", "queryParam"] as const) {
    if (key.at(kind).isPresent) return { kind, name: key.at(kind).at("name").text() };
  }
  if (key.at("path").isPresent)
    return { kind: "path", isTemplate: key.at("path").at("normalise").text() === "Template" };
  const remote = key.at("remoteAddress");
  if (remote.isPresent) {
    return {
      kind: "remoteAddress",
      v4: remote.at("v4PrefixLength").whole(32),
      v6: remote.at("v6PrefixLength").whole(64),
    };
  }
  const claim = key.at("jwtClaim");
  if (claim.isPresent) {
    return { kind: "jwtClaim", path: claimPath(claim.at("name").text()), issuer: claim.at("issuer").text() };
  }
  if (key.at("literal").isPresent) return { kind: "literal", value: key.at("literal").at("value").text() };
  const expression = key.at("expression");
  if (expression.isPresent) return { kind: "expression", cel: expression.at("cel").text() };
  for (const kind of [
    "method",
    "host",
    "sourcePrincipal",
    "sourceNamespace",
    "sourceServiceAccount",
    "sourceWorkload",
    "requestPrincipal",
    "route",
  ] as const) {
    if (key.at(kind).isPresent) return { kind };
  }
  // The schema has said so already; counted together, which is the stricter reading.
  return { kind: "literal", value: "" };
}
