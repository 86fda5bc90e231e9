/** How requests and connections to hosts are routed: Istio's VirtualService. A member that is undefined is not written. */
import { durationMs } from "./duration.ts";
import type { Field } from "./field.ts";
import type { Condition, Labels, Meta } from "./meta.ts";
import { readRetryPolicy, type RetryPolicy } from "./retry-policy.ts";

/** `present`: any value will do. */
export type StringMatch =
  { readonly kind: "exact" | "prefix" | "regex"; readonly value: string } | { readonly kind: "present" };

export type StringMatches = ReadonlyMap<string, StringMatch>;

/** Where an L4 or HTTP rule applies, apart from what it says of the traffic itself. */
export interface Applicability {
  readonly port: number | undefined;
  readonly sourceLabels: Labels;
  readonly sourceNamespace: string;
  readonly gateways: readonly string[];
}

export interface HttpMatch extends Applicability {
  readonly name: string;
  readonly uri: StringMatch | undefined;
  readonly ignoreUriCase: boolean;
  readonly scheme: StringMatch | undefined;
  readonly method: StringMatch | undefined;
  readonly authority: StringMatch | undefined;
  readonly headers: StringMatches;
  readonly withoutHeaders: StringMatches;
  readonly queryParams: StringMatches;
  readonly statPrefix: string;
}

export interface RouteDestination {
  /** As written: a short name means a service of the object's namespace. */
  readonly host: string;
  readonly subset: string;
  readonly port: number | undefined;
}

export interface HeaderChanges {
  readonly set: Labels;
  readonly add: Labels;
  readonly remove: readonly string[];
}

export interface HeaderOperations {
  readonly request: HeaderChanges;
  readonly response: HeaderChanges;
}

export interface WeightedDestination {
  readonly destination: RouteDestination;
  readonly weight: number;
  readonly headers: HeaderOperations | undefined;
}

export interface HttpRedirect {
  readonly uri: string | undefined;
  readonly prefixRewrite: string | undefined;
  readonly authority: string;
  readonly port: number | undefined;
  /** Without `port`: whether the port of the request is named, or that of the scheme meant. */
  readonly derivePort: "FROM_PROTOCOL_DEFAULT" | "FROM_REQUEST_PORT";
  readonly scheme: string;
  readonly code: number;
}

export interface DirectResponse {
  readonly status: number;
  readonly body: string | Uint8Array | undefined;
}

export interface HttpRewrite {
  readonly uri: string | undefined;
  readonly authority: string;
  readonly regex: { readonly match: string; readonly rewrite: string } | undefined;
}

export interface Fault {
  readonly delay: { readonly fixedMs: number; readonly percent: number } | undefined;
  readonly abort:
    | { readonly httpStatus: number | undefined; readonly grpcStatus: string | undefined; readonly percent: number }
    | undefined;
}

export interface Mirror {
  readonly destination: RouteDestination;
  readonly percent: number;
}

export interface CorsPolicy {
  readonly allowOrigins: readonly StringMatch[];
  readonly allowMethods: readonly string[];
  readonly allowHeaders: readonly string[];
  readonly exposeHeaders: readonly string[];
  readonly maxAgeMs: number | undefined;
  readonly allowCredentials: boolean | undefined;
  /** Preflights of other origins are answered here, not sent on. */
  readonly ignoresUnmatchedPreflights: boolean;
}

export interface HttpRule {
  readonly name: string;
  /** Any of them; empty: every request. */
  readonly matches: readonly HttpMatch[];
  readonly route: readonly WeightedDestination[];
  readonly redirect: HttpRedirect | undefined;
  readonly directResponse: DirectResponse | undefined;
  readonly delegate: { readonly name: string; readonly namespace: string } | undefined;
  readonly rewrite: HttpRewrite | undefined;
  readonly timeoutMs: number | undefined;
  readonly retries: RetryPolicy | undefined;
  readonly fault: Fault | undefined;
  readonly mirrors: readonly Mirror[];
  readonly cors: CorsPolicy | undefined;
  readonly headers: HeaderOperations | undefined;
}

export interface L4Match extends Applicability {
  readonly destinationSubnets: readonly string[];
  /** Of TLS rules only. */
  readonly sniHosts: readonly string[];
}

export interface L4Rule {
  readonly matches: readonly L4Match[];
  readonly route: readonly WeightedDestination[];
}

export interface VirtualService {
  readonly meta: Meta;
  /** Empty: a delegate. */
  readonly hosts: readonly string[];
  readonly gateways: readonly string[];
  readonly http: readonly HttpRule[];
  readonly tls: readonly L4Rule[];
  readonly tcp: readonly L4Rule[];
  readonly exportTo: readonly string[];
  readonly conditions: readonly Condition[];
}

export function readVirtualService(meta: Meta, spec: Field, conditions: readonly Condition[]): VirtualService {
  const gateways = spec.at("gateways").texts();
  return {
    meta,
    hosts: spec.at("hosts").texts(),
    gateways: gateways.length > 0 ? gateways : ["mesh"],
    http: spec.at("http").list().map(readHttpRule),
    tls: spec.at("tls").list().map(readL4Rule),
    tcp: spec.at("tcp").list().map(readL4Rule),
    exportTo: spec.at("exportTo").texts(),
    conditions,
  };
}

function readHttpRule(rule: Field): HttpRule {
  const delegate = rule.at("delegate");
  return {
    name: rule.at("name").text(),
    matches: rule.at("match").list().map(readHttpMatch),
    route: rule.at("route").list().map(readWeighted),
    redirect: readRedirect(rule.at("redirect")),
    directResponse: readDirectResponse(rule.at("directResponse")),
    delegate: delegate.isPresent
      ? { name: delegate.at("name").text(), namespace: delegate.at("namespace").text() }
      : undefined,
    rewrite: readRewrite(rule.at("rewrite")),
    timeoutMs: durationMs(rule.at("timeout")),
    retries: readRetryPolicy(rule.at("retries")),
    fault: readFault(rule.at("fault")),
    mirrors: readMirrors(rule),
    cors: readCors(rule.at("corsPolicy")),
    headers: readHeaders(rule.at("headers")),
  };
}

function readApplicability(match: Field): Applicability {
  return {
    // 0 is any.
    port: match.at("port").port() || undefined,
    sourceLabels: match.at("sourceLabels").textMap(),
    sourceNamespace: match.at("sourceNamespace").text(),
    gateways: match.at("gateways").texts(),
  };
}

function readHttpMatch(match: Field): HttpMatch {
  return {
    ...readApplicability(match),
    name: match.at("name").text(),
    uri: readUri(match.at("uri")),
    ignoreUriCase: match.at("ignoreUriCase").flag(),
    scheme: optionalMatch(match.at("scheme")),
    method: optionalMatch(match.at("method")),
    authority: optionalMatch(match.at("authority")),
    headers: readMatches(match.at("headers")),
    withoutHeaders: readMatches(match.at("withoutHeaders")),
    queryParams: readMatches(match.at("queryParams")),
    statPrefix: match.at("statPrefix").text(),
  };
}

/** Every path there is, is present: no need to say so. */
function readUri(field: Field): StringMatch | undefined {
  const match = optionalMatch(field);
  return match?.kind === "present" ? undefined : match;
}

const optionalMatch = (field: Field): StringMatch | undefined => (field.isPresent ? readMatch(field) : undefined);

function readMatch(field: Field): StringMatch {
  for (const kind of ["exact", "prefix", "regex"] as const) {
    const value = field.at(kind).optionalText();
    if (value !== undefined) return kind === "regex" && value === "*" ? { kind: "present" } : { kind, value };
  }
  return { kind: "present" };
}

const readMatches = (field: Field): StringMatches =>
  new Map(
    field
      .entries()
      .map(([name, match]) => [name, readMatch(match)] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );

function readDestination(field: Field): RouteDestination {
  const port = field.at("port").at("number");
  return {
    host: field.at("host").text(),
    subset: field.at("subset").text(),
    port: port.isPresent ? port.port() : undefined,
  };
}

function readWeighted(entry: Field): WeightedDestination {
  return {
    destination: readDestination(entry.at("destination")),
    weight: entry.at("weight").uint32(),
    headers: readHeaders(entry.at("headers")),
  };
}

function readHeaders(headers: Field): HeaderOperations | undefined {
  if (!headers.isPresent) return undefined;
  const [request, response] = [readChanges(headers.at("request")), readChanges(headers.at("response"))];
  return { request, response };
}

function readChanges(changes: Field): HeaderChanges {
  return {
    set: changes.at("set").textMap(),
    add: changes.at("add").textMap(),
    remove: changes.at("remove").texts(),
  };
}

function readRedirect(redirect: Field): HttpRedirect | undefined {
  if (!redirect.isPresent) return undefined;
  const port = redirect.at("port");
  return {
    uri: redirect.at("uri").optionalText(),
    prefixRewrite: redirect.at("prefixRewrite").optionalText(),
    authority: redirect.at("authority").text(),
    port: port.isPresent ? port.port() : undefined,
    derivePort:
      redirect.at("derivePort").text() === "FROM_REQUEST_PORT" ? "FROM_REQUEST_PORT" : "FROM_PROTOCOL_DEFAULT",
    scheme: redirect.at("scheme").text(),
    code: redirect.at("redirectCode").whole() || 301,
  };
}

function readDirectResponse(response: Field): DirectResponse | undefined {
  if (!response.isPresent) return undefined;
  const body = response.at("body");
  const bytes = body.at("bytes");
  return {
    status: response.at("status").uint32(),
    body: bytes.isPresent ? new Uint8Array(Buffer.from(bytes.text(), "base64")) : body.at("string").optionalText(),
  };
}

function readRewrite(rewrite: Field): HttpRewrite | undefined {
  if (!rewrite.isPresent) return undefined;
  const regex = rewrite.at("uriRegexRewrite");
  return {
    uri: rewrite.at("uri").optionalText(),
    authority: rewrite.at("authority").text(),
    regex: regex.isPresent ? { match: regex.at("match").text(), rewrite: regex.at("rewrite").text() } : undefined,
  };
}

/** Without a percentage nothing happens. */
function readFault(fault: Field): Fault | undefined {
  if (!fault.isPresent) return undefined;
  const [delay, abort] = [fault.at("delay"), fault.at("abort")];
  const httpStatus = abort.at("httpStatus");
  return {
    delay: delay.isPresent
      ? {
          fixedMs: durationMs(delay.at("fixedDelay")) ?? 0,
          percent: percentOf(delay.at("percentage"), delay.at("percent").whole()),
        }
      : undefined,
    abort: abort.isPresent
      ? {
          httpStatus: httpStatus.isPresent ? httpStatus.uint32() : undefined,
          grpcStatus: abort.at("grpcStatus").optionalText(),
          percent: percentOf(abort.at("percentage"), 0),
        }
      : undefined,
  };
}

const percentOf = (percentage: Field, absent: number): number =>
  percentage.isPresent ? (percentage.at("value").decimal() ?? 0) : absent;

/** `mirror` is the single form of `mirrors`, and has two older spellings of its percentage. */
function readMirrors(rule: Field): readonly Mirror[] {
  const single = rule.at("mirror");
  if (single.isPresent) {
    const older = ["mirrorPercent", "mirror_percent"].map((name) => rule.at(name)).find(({ isPresent }) => isPresent);
    const percent = percentOf(rule.at("mirrorPercentage"), older?.whole() ?? 100);
    return [{ destination: readDestination(single), percent }];
  }
  return rule
    .at("mirrors")
    .list()
    .map((mirror) => ({
      destination: readDestination(mirror.at("destination")),
      percent: percentOf(mirror.at("percentage"), 100),
    }));
}

function readCors(cors: Field): CorsPolicy | undefined {
  if (!cors.isPresent) return undefined;
  const origins = cors.at("allowOrigins").list().map(readMatch);
  const former = cors.at("allowOrigin").texts();
  return {
    allowOrigins: origins.length > 0 ? origins : former.map((value) => ({ kind: "exact" as const, value })),
    allowMethods: cors.at("allowMethods").texts(),
    allowHeaders: cors.at("allowHeaders").texts(),
    exposeHeaders: cors.at("exposeHeaders").texts(),
    maxAgeMs: durationMs(cors.at("maxAge")),
    allowCredentials: cors.at("allowCredentials").optionalFlag(),
    ignoresUnmatchedPreflights: cors.at("unmatchedPreflights").text() === "IGNORE",
  };
}

function readL4Rule(rule: Field): L4Rule {
  return { matches: rule.at("match").list().map(readL4Match), route: rule.at("route").list().map(readWeighted) };
}

function readL4Match(match: Field): L4Match {
  return {
    ...readApplicability(match),
    destinationSubnets: match.at("destinationSubnets").texts(),
    sniHosts: match.at("sniHosts").texts(),
  };
}
