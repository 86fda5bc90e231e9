/** Rules of HTTPRoutes and GRPCRoutes as routes, the more specific ones first. */
import type {
  GatewayCors,
  NamedMatch,
  PathChange,
  Route,
  RouteFilter,
  RouteMatch,
  RouteRule,
} from "#controlplane/mesh/gateway-route.ts";
import type { RetryPolicy } from "#controlplane/mesh/retry-policy.ts";
import type { CorsPolicy, HeaderChanges, HeaderOperations, StringMatch } from "#controlplane/mesh/virtual-service.ts";
import { backendFilterFault, filterFault, resolveBackend, type BackendContext } from "./backends.ts";
import {
  anyPath,
  type EntryMatch,
  type ForwardEntry,
  type MirrorTarget,
  type PathMatch,
  type PathRewrite,
  type RedirectEntry,
  type RespondEntry,
  type RouteEntry,
  type Target,
  type WeightedTarget,
} from "./route-entry.ts";

/** `routes` are those attached to one port of a service, the oldest first, all of one kind. */
export function gatewayEntries(context: BackendContext, routes: readonly Route[]): readonly RouteEntry[] {
  const ranked = routes.flatMap((route) =>
    route.rules.flatMap((rule, index) =>
      (rule.matches.length === 0 ? [anyMatch] : rule.matches).map((match) => ({
        entry: entryOf(context, { route, rule, index }, match),
        rank: route.kind === "GRPCRoute" ? grpcRank(match) : httpRank(match),
      })),
    ),
  );
  // Sorting is stable: equals stay in order of age, and of the rules in a route.
  return ranked.sort((a, b) => compareRanks(a.rank, b.rank)).map(({ entry }) => entry);
}

const anyMatch: RouteMatch = { path: undefined, grpc: undefined, method: undefined, headers: [], queryParams: [] };

type Rank = readonly number[];

/** The greater first, the first difference decides. */
function compareRanks(a: Rank, b: Rank): number {
  const at = a.findIndex((value, index) => value !== b[index]);
  return at < 0 ? 0 : (b[at] ?? 0) - (a[at] ?? 0);
}

const pathRank = { Exact: 3, PathPrefix: 2, RegularExpression: 1 } as const;

const httpRank = ({ path, method, headers, queryParams }: RouteMatch): Rank => [
  pathRank[path?.type ?? "PathPrefix"],
  // With a slash at its end or without, a prefix is the same.
  path?.type === "PathPrefix" ? prefixOf(path.value).length : (path?.value.length ?? 0),
  method === undefined ? 0 : 1,
  headers.length,
  queryParams.length,
];

const grpcRank = ({ grpc, headers }: RouteMatch): Rank => [
  grpc?.service.length ?? 0,
  grpc?.method.length ?? 0,
  headers.length,
];

interface RuleOfRoute {
  readonly route: Route;
  readonly rule: RouteRule;
  readonly index: number;
}

function entryOf(context: BackendContext, { route, rule, index }: RuleOfRoute, match: RouteMatch): RouteEntry {
  const { namespace, name } = route.meta;
  const path = pathOf(match);
  const cors = rule.filters.find((filter) => filter.type === "CORS");
  const changes = rule.filters.flatMap((filter) => headerOperations(filter));
  return {
    name: `${namespace}.${name}.${rule.name || String(index)}`,
    source: { kind: route.kind === "GRPCRoute" ? "GRPCRoute" : "HTTPRoute", namespace, name },
    match: matchOf(match, path),
    action: actionOf(context, route, rule, path),
    headers: changes,
    fault: undefined,
    cors: cors === undefined ? undefined : corsOf(cors.cors),
    statPrefix: "",
  };
}

const matchOf = ({ method, headers, queryParams }: RouteMatch, path: PathMatch): EntryMatch => ({
  callers: "",
  path,
  ignoreCase: false,
  headers: [
    ...headers.map(named).sort((a, b) => (a.name < b.name ? -1 : 1)),
    ...(method === undefined ? [] : [{ name: ":method", match: { kind: "exact", value: method } as const }]),
  ],
  queryParams: queryParams.map(named),
  claims: [],
});

const named = ({ name, isRegex, value }: NamedMatch): { readonly name: string; readonly match: StringMatch } => ({
  name,
  match: { kind: isRegex ? "regex" : "exact", value },
});

function pathOf({ path, grpc }: RouteMatch): PathMatch {
  if (grpc !== undefined) return grpcPath(grpc);
  if (path === undefined) return anyPath;
  switch (path.type) {
    case "Exact":
      return { kind: "exact", value: path.value };
    case "RegularExpression":
      return { kind: "regex", value: path.value };
    case "PathPrefix": {
      const value = prefixOf(path.value);
      return value === "" ? anyPath : { kind: "segments", value };
    }
  }
}

/** A gRPC method is called at `/service/method`. */
function grpcPath({ isRegex, service, method }: NonNullable<RouteMatch["grpc"]>): PathMatch {
  if (service === "" && method === "") return anyPath;
  if (isRegex) return { kind: "regex", value: `/${part(service)}/${part(method)}` };
  if (method === "") return { kind: "prefix", value: `/${service}/` };
  return service === ""
    ? { kind: "regex", value: `/[^/]+/${quoteRegex(method)}` }
    : { kind: "exact", value: `/${service}/${method}` };
}

/** Alternatives end where the part of the path ends. */
const part = (regex: string): string => (regex === "" ? "[^/]+" : regex.includes("|") ? `(?:${regex})` : regex);

const quoteRegex = (text: string): string => text.replaceAll(/[\\.+*?()|[\]{}^$]/g, String.raw`\$&`);

/** Empty for the prefix of everything. */
const prefixOf = (value: string): string => value.replace(/\/+$/, "");

const noChanges: HeaderChanges = { set: new Map(), add: new Map(), remove: [] };

function headerOperations(filter: RouteFilter): readonly HeaderOperations[] {
  if (filter.type === "RequestHeaderModifier") return [{ request: filter.changes, response: noChanges }];
  return filter.type === "ResponseHeaderModifier" ? [{ request: noChanges, response: filter.changes }] : [];
}

/** What a request is told that cannot be sent where its route says: gRPC knows 503 as unavailable. */
const failedStatus = ({ kind }: Route): 500 | 503 => (kind === "GRPCRoute" ? 503 : 500);

/** A rule that cannot do what it says answers so: to leave a filter out would be another rule than written. */
function actionOf(
  context: BackendContext,
  route: Route,
  rule: RouteRule,
  path: PathMatch,
): RedirectEntry | RespondEntry | ForwardEntry {
  const failure: RespondEntry = { kind: "respond", status: failedStatus(route), body: undefined };
  if (rule.filters.some((filter) => filterFault(filter) !== undefined)) return failure;
  const redirect = rule.filters.find((filter) => filter.type === "RequestRedirect");
  if (redirect !== undefined) return redirectOf(redirect, path);
  const targets = rule.backends.filter(({ weight }) => weight > 0);
  if (targets.length === 0) return failure;
  const rewrite = rule.filters.find((filter) => filter.type === "URLRewrite");
  return {
    kind: "forward",
    targets: targets.map((ref): WeightedTarget => {
      const isBroken = ref.filters.some((filter) => backendFilterFault(filter) !== undefined);
      return {
        target: isBroken ? nowhere : targetOf(context, route, ref),
        weight: ref.weight,
        headers: ref.filters.flatMap((filter) => headerOperations(filter)),
      };
    }),
    rewrite: rewrite?.path === undefined ? undefined : rewriteOf(rewrite.path, path),
    authority: rewrite?.hostname ?? "",
    ...timesOf(rule),
    mirrors: mirrorsOf(context, route, rule),
    missingStatus: failedStatus(route),
  };
}

const nowhere: Target = { hostname: undefined, port: undefined, subset: "" };

function targetOf(context: BackendContext, route: Route, ref: RouteRule["backends"][number]): Target {
  const backend = resolveBackend(context, route, ref);
  return backend.kind === "fault" ? nowhere : { hostname: backend.hostname, port: backend.port, subset: "" };
}

/** A mirror that leads nowhere is left out: the requests themselves go their way. */
const mirrorsOf = (context: BackendContext, route: Route, rule: RouteRule): readonly MirrorTarget[] =>
  rule.filters.flatMap((filter) => {
    if (filter.type !== "RequestMirror") return [];
    const target = targetOf(context, route, filter.backend);
    return target.hostname === undefined ? [] : [{ target, percent: filter.percent }];
  });

const retriedFailures = "connect-failure,refused-stream,unavailable,cancelled";

/** The time for one try is the time for all where there is no other try. */
function timesOf({ requestTimeoutMs = 0, backendTimeoutMs = 0, retry }: RouteRule): {
  readonly timeoutMs: number;
  readonly retries: RetryPolicy | undefined;
} {
  if (retry === undefined) return { timeoutMs: backendTimeoutMs || requestTimeoutMs, retries: undefined };
  return {
    timeoutMs: requestTimeoutMs,
    retries: {
      attempts: retry.attempts,
      perTryTimeoutMs: backendTimeoutMs === 0 ? undefined : backendTimeoutMs,
      retryOn: [retriedFailures, ...retry.codes].join(","),
      retryRemoteLocalities: false,
      retryIgnorePreviousHosts: undefined,
      backoffMs: retry.backoffMs === 0 ? undefined : retry.backoffMs,
    },
  };
}

const escapeSubstitution = (text: string): string => text.replaceAll("\\", String.raw`\\`);

function rewriteOf({ type, value }: PathChange, path: PathMatch): PathRewrite {
  if (type === "ReplaceFullPath")
    return { kind: "regex", pattern: "/.*", substitution: escapeSubstitution(value || "/") };
  return prefixRewrite(value, path);
}

/** Whole segments are replaced: what is left begins with exactly one slash. */
function prefixRewrite(replacement: string, path: PathMatch): PathRewrite {
  const value = replacement.replace(/\/+$/, "");
  if (path.kind !== "segments") return { kind: "prefix", value: `${value}/` };
  if (value !== "") return { kind: "prefix", value };
  return { kind: "regex", pattern: `^${quoteRegex(path.value)}(/?)(.*)`, substitution: String.raw`/\2` };
}

function redirectOf(redirect: Extract<RouteFilter, { type: "RequestRedirect" }>, match: PathMatch): RedirectEntry {
  const { scheme, hostname, path, port, code } = redirect;
  return {
    kind: "redirect",
    scheme,
    host: hostname,
    path:
      path === undefined
        ? undefined
        : path.type === "ReplaceFullPath"
          ? { kind: "full", value: path.value || "/" }
          : prefixRewrite(path.value, match),
    port,
    // The port that belongs to a scheme goes with it; without a scheme the request's own stays.
    keepsRequestPort: scheme === "",
    code,
  };
}

const corsOf = ({ allowOrigins, maxAgeSeconds, ...cors }: GatewayCors): CorsPolicy => ({
  ...cors,
  allowOrigins: allowOrigins.map(originMatch),
  maxAgeMs: maxAgeSeconds * 1000,
  ignoresUnmatchedPreflights: true,
});

/** A star within an origin stands for one or more labels. */
function originMatch(origin: string): StringMatch {
  if (origin === "*" || !origin.includes("*")) return { kind: "exact", value: origin };
  return { kind: "regex", value: origin.split("*").map(quoteRegex).join("[-A-Za-z0-9_.]+") };
}
