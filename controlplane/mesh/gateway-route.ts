/**
 * Routes of Gateway API: HTTPRoute, GRPCRoute, TCPRoute and TLSRoute in one form. What a kind has no field for is empty
 * or undefined.
 */
import { durationMs } from "./duration.ts";
import type { Field } from "./field.ts";
import type { Labels, Meta } from "./meta.ts";
import type { HeaderChanges } from "./virtual-service.ts";

export type RouteKind = "HTTPRoute" | "GRPCRoute" | "TCPRoute" | "TLSRoute";

/** Under this name Istio writes what becomes of the parents of a route, Gateways and services alike. */
export const routeController = "istio.io/gateway-controller";

export interface ParentRef {
  readonly group: string;
  readonly kind: string;
  /** Empty: that of the route. */
  readonly namespace: string;
  readonly name: string;
  /** Name of a port of the service; undefined: every port. */
  readonly sectionName: string | undefined;
  readonly port: number | undefined;
  /** As it stands in the route with its defaults: a status repeats it. */
  readonly written: Readonly<Record<string, string | number>>;
}

export interface BackendRef {
  readonly group: string;
  readonly kind: string;
  /** Empty: that of the route. */
  readonly namespace: string;
  readonly name: string;
  readonly port: number | undefined;
  readonly weight: number;
  readonly filters: readonly RouteFilter[];
}

export interface PathChange {
  readonly type: "ReplaceFullPath" | "ReplacePrefixMatch";
  readonly value: string;
}

export interface GatewayCors {
  readonly allowOrigins: readonly string[];
  readonly allowMethods: readonly string[];
  readonly allowHeaders: readonly string[];
  readonly exposeHeaders: readonly string[];
  readonly allowCredentials: boolean | undefined;
  readonly maxAgeSeconds: number;
}

export type RouteFilter =
  | { readonly type: "RequestHeaderModifier" | "ResponseHeaderModifier"; readonly changes: HeaderChanges }
  | { readonly type: "RequestMirror"; readonly backend: BackendRef; readonly percent: number }
  | {
      readonly type: "RequestRedirect";
      readonly scheme: string;
      readonly hostname: string;
      readonly path: PathChange | undefined;
      readonly port: number | undefined;
      readonly code: number;
    }
  | { readonly type: "URLRewrite"; readonly hostname: string; readonly path: PathChange | undefined }
  | { readonly type: "CORS"; readonly cors: GatewayCors }
  /** One that no waypoint has. */
  | { readonly type: "unsupported"; readonly name: string };

export interface NamedMatch {
  readonly name: string;
  readonly isRegex: boolean;
  readonly value: string;
}

export interface RouteMatch {
  readonly path: { readonly type: "Exact" | "PathPrefix" | "RegularExpression"; readonly value: string } | undefined;
  readonly grpc: { readonly isRegex: boolean; readonly service: string; readonly method: string } | undefined;
  readonly method: string | undefined;
  readonly headers: readonly NamedMatch[];
  readonly queryParams: readonly NamedMatch[];
}

export interface RouteRule {
  readonly name: string;
  /** Any of them; empty: every request. */
  readonly matches: readonly RouteMatch[];
  readonly filters: readonly RouteFilter[];
  readonly backends: readonly BackendRef[];
  /** 0 and undefined: without end. */
  readonly requestTimeoutMs: number | undefined;
  readonly backendTimeoutMs: number | undefined;
  readonly retry:
    | { readonly codes: readonly number[]; readonly attempts: number; readonly backoffMs: number | undefined }
    | undefined;
  readonly hasSessionPersistence: boolean;
}

export interface Route {
  readonly apiVersion: string;
  readonly kind: RouteKind;
  readonly meta: Meta;
  readonly parents: readonly ParentRef[];
  /** Requests to services are told apart by address, so only TLSRoutes use them: as SNI. */
  readonly hostnames: readonly string[];
  readonly rules: readonly RouteRule[];
  /** Its status tells of a parent that is a Service or ServiceEntry, written by us. */
  readonly hasServiceParentStatus: boolean;
}

const gatewayGroup = "gateway.networking.k8s.io";

export function readGatewayRoute(kind: RouteKind, meta: Meta, object: Field): Route {
  const spec = object.at("spec");
  return {
    apiVersion: object.at("apiVersion").text(),
    kind,
    meta,
    parents: spec.at("parentRefs").list().map(readParentRef),
    hostnames: spec.at("hostnames").texts(),
    rules: spec.at("rules").isPresent ? spec.at("rules").list().map(readRule) : defaultRules(kind),
    hasServiceParentStatus: object
      .at("status")
      .at("parents")
      .list()
      .some(
        (parent) =>
          parent.at("controllerName").text() === routeController &&
          ["Service", "ServiceEntry"].includes(parent.at("parentRef").at("kind").text()),
      ),
  };
}

const emptyRule: RouteRule = {
  name: "",
  matches: [],
  filters: [],
  backends: [],
  requestTimeoutMs: undefined,
  backendTimeoutMs: undefined,
  retry: undefined,
  hasSessionPersistence: false,
};

/** An API server writes one rule into an HTTPRoute without any. */
const defaultRules = (kind: RouteKind): readonly RouteRule[] => (kind === "HTTPRoute" ? [emptyRule] : []);

function readParentRef(ref: Field): ParentRef {
  const names = {
    group: ref.at("group").text(gatewayGroup),
    kind: ref.at("kind").text("Gateway"),
    name: ref.at("name").text(),
  };
  const [namespace, section] = [ref.at("namespace").optionalText(), ref.at("sectionName").optionalText()];
  const port = ref.at("port").isPresent ? ref.at("port").port() : undefined;
  return {
    ...names,
    namespace: namespace ?? "",
    sectionName: section,
    port,
    written: {
      ...names,
      ...(namespace === undefined ? {} : { namespace }),
      ...(section === undefined ? {} : { sectionName: section }),
      ...(port === undefined ? {} : { port }),
    },
  };
}

/** Where a rule wants retries and does not say how many. */
const defaultAttempts = 2;

function readRule(rule: Field): RouteRule {
  const timeouts = rule.at("timeouts");
  const retry = rule.at("retry");
  return {
    name: rule.at("name").text(),
    matches: rule.at("matches").list().map(readMatch),
    filters: rule.at("filters").list().map(readFilter),
    backends: rule.at("backendRefs").list().map(readBackendRef),
    requestTimeoutMs: durationMs(timeouts.at("request")),
    backendTimeoutMs: durationMs(timeouts.at("backendRequest")),
    retry: retry.isPresent
      ? {
          codes: retry
            .at("codes")
            .list()
            .map((code) => code.uint32()),
          attempts: retry.at("attempts").isPresent ? retry.at("attempts").uint32() : defaultAttempts,
          backoffMs: durationMs(retry.at("backoff")),
        }
      : undefined,
    hasSessionPersistence: rule.at("sessionPersistence").isPresent,
  };
}

/** `method` is a word in an HTTPRoute and an object in a GRPCRoute. */
function readMatch(match: Field): RouteMatch {
  const path = match.at("path");
  const method = match.at("method");
  return {
    path: path.isPresent ? { type: pathType(path.at("type").text()), value: path.at("value").text("/") } : undefined,
    grpc: method.isObject
      ? {
          isRegex: method.at("type").text() === "RegularExpression",
          service: method.at("service").text(),
          method: method.at("method").text(),
        }
      : undefined,
    method: method.isObject ? undefined : method.optionalText(),
    headers: readNamed(match.at("headers"), (name) => name.toLowerCase()),
    queryParams: readNamed(match.at("queryParams"), (name) => name),
  };
}

const pathType = (text: string): "Exact" | "PathPrefix" | "RegularExpression" =>
  text === "Exact" || text === "RegularExpression" ? text : "PathPrefix";

/** Of several with one name the first counts. */
function readNamed(list: Field, keyOf: (name: string) => string): readonly NamedMatch[] {
  const byName = new Map<string, NamedMatch>();
  for (const item of list.list()) {
    const name = keyOf(item.at("name").text());
    if (byName.has(name)) continue;
    byName.set(name, {
      name,
      isRegex: item.at("type").text() === "RegularExpression",
      value: item.at("value").text(),
    });
  }
  return [...byName.values()];
}

function readBackendRef(ref: Field): BackendRef {
  return {
    group: ref.at("group").text(),
    kind: ref.at("kind").text("Service"),
    namespace: ref.at("namespace").text(),
    name: ref.at("name").text(),
    port: ref.at("port").isPresent ? ref.at("port").port() : undefined,
    weight: ref.at("weight").isPresent ? ref.at("weight").uint32() : 1,
    filters: ref.at("filters").list().map(readFilter),
  };
}

function readFilter(filter: Field): RouteFilter {
  const type = filter.at("type").text();
  switch (type) {
    case "RequestHeaderModifier":
      return { type, changes: readChanges(filter.at("requestHeaderModifier")) };
    case "ResponseHeaderModifier":
      return { type, changes: readChanges(filter.at("responseHeaderModifier")) };
    case "RequestMirror": {
      const mirror = filter.at("requestMirror");
      return { type, backend: readBackendRef(mirror.at("backendRef")), percent: readShare(mirror) };
    }
    case "RequestRedirect": {
      const redirect = filter.at("requestRedirect");
      return {
        type,
        scheme: redirect.at("scheme").text(),
        hostname: redirect.at("hostname").text(),
        path: readPathChange(redirect.at("path")),
        port: redirect.at("port").isPresent ? redirect.at("port").port() : undefined,
        code: redirect.at("statusCode").whole(302),
      };
    }
    case "URLRewrite": {
      const rewrite = filter.at("urlRewrite");
      return { type, hostname: rewrite.at("hostname").text(), path: readPathChange(rewrite.at("path")) };
    }
    case "CORS":
      return { type, cors: readCors(filter.at("cors")) };
    default:
      return { type: "unsupported", name: type };
  }
}

/** Names without regard to case; of several with one name the first counts. */
function readChanges(changes: Field): HeaderChanges {
  const pairs = (name: string): Labels => {
    const byName = new Map<string, string>();
    for (const item of changes.at(name).list()) {
      const key = item.at("name").text().toLowerCase();
      if (!byName.has(key)) byName.set(key, item.at("value").text());
    }
    return byName;
  };
  return {
    set: pairs("set"),
    add: pairs("add"),
    remove: changes
      .at("remove")
      .texts()
      .map((name) => name.toLowerCase()),
  };
}

function readShare(mirror: Field): number {
  const fraction = mirror.at("fraction");
  if (fraction.isPresent) {
    return (fraction.at("numerator").whole() * 100) / Math.max(fraction.at("denominator").whole(100), 1);
  }
  return mirror.at("percent").whole(100);
}

function readPathChange(path: Field): PathChange | undefined {
  if (!path.isPresent) return undefined;
  return path.at("type").text() === "ReplacePrefixMatch"
    ? { type: "ReplacePrefixMatch", value: path.at("replacePrefixMatch").text() }
    : { type: "ReplaceFullPath", value: path.at("replaceFullPath").text() };
}

function readCors(cors: Field): GatewayCors {
  return {
    allowOrigins: cors.at("allowOrigins").texts(),
    allowMethods: cors.at("allowMethods").texts(),
    allowHeaders: cors.at("allowHeaders").texts(),
    exposeHeaders: cors.at("exposeHeaders").texts(),
    allowCredentials: cors.at("allowCredentials").optionalFlag(),
    maxAgeSeconds: cors.at("maxAge").whole(5),
  };
}
