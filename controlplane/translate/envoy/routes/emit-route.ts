/** One route in Envoy's words. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  RedirectAction_RedirectResponseCode as RedirectCode,
  RouteAction_ClusterNotFoundResponseCode as NotFoundCode,
  RouteSchema,
  type RedirectActionSchema,
  type Route,
  type RouteActionSchema,
  type RouteAction_RequestMirrorPolicySchema,
} from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { Any } from "@bufbuild/protobuf/wkt";
import { trustDomainsOf, type MeshConfig } from "#controlplane/mesh/mesh-config.ts";
import type { RetryPolicy } from "#controlplane/mesh/retry-policy.ts";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import { builtInRetries, retryPolicy } from "../default-route.ts";
import { hashPoliciesFor } from "../hash-policies.ts";
import type { Destination, EnvoyContext } from "../context.ts";
import { duration, istioMetadata } from "../messages.ts";
import { corsFilter, emitCors, emitFault, faultFilter, millionths } from "./emit-filters.ts";
import { authorityOf, emitHeaders } from "./emit-headers.ts";
import { emitMatch } from "./emit-match.ts";
import type {
  ForwardEntry,
  MirrorTarget,
  PathMatch,
  PathRewrite,
  RedirectEntry,
  RespondEntry,
  RouteEntry,
  RouteSource,
  WeightedTarget,
} from "./route-entry.ts";
import { resolveTarget } from "./targets.ts";

/** The port of a service whose requests are routed, and where what they may be sent to is noted. */
export interface Arrival {
  readonly context: EnvoyContext;
  readonly service: ServiceInfo;
  readonly port: number;
  readonly note: (destination: Destination) => void;
}

type RouteInit = MessageInitShape<typeof RouteSchema>;

export function emitRoute(arrival: Arrival, entry: RouteEntry): Route {
  const { name, source, match, action, statPrefix } = entry;
  const { meshConfig } = arrival.context;
  // What a single destination says of headers is said of the route.
  const single = action.kind === "forward" ? only(weighted(action.targets)) : undefined;
  const operations = [...entry.headers, ...(single?.headers ?? [])];
  return create(RouteSchema, {
    name,
    match: emitMatch(match, trustDomainsOf(meshConfig)),
    action: emitAction(arrival, entry, single),
    metadata: istioMetadata({ config: pathOf(source) }),
    decorator: { operation: operationOf(arrival, match.path, single) },
    ...emitHeaders(operations),
    typedPerFilterConfig: filterConfigs(entry),
    ...(statPrefix === "" ? {} : { statPrefix }),
  });
}

const only = <T>(list: readonly T[]): T | undefined => (list.length === 1 ? list[0] : undefined);

/** One without weight gets nothing, unless it is the only one. */
const weighted = (targets: readonly WeightedTarget[]): readonly WeightedTarget[] =>
  targets.length === 1 ? targets : targets.filter(({ weight }) => weight > 0);

const apiPaths: Readonly<Record<RouteSource["kind"], string>> = {
  VirtualService: "networking.istio.io/v1/namespaces/{}/virtual-service",
  HTTPRoute: "gateway.networking.k8s.io/v1/namespaces/{}/http-route",
  GRPCRoute: "gateway.networking.k8s.io/v1/namespaces/{}/grpc-route",
};

/** Where the object stands that the route comes from. */
const pathOf = ({ kind, namespace, name }: RouteSource): string =>
  `/apis/${apiPaths[kind].replace("{}", namespace)}/${name}`;

/** What traces call it: `host:port/path*`. */
function operationOf({ service, port }: Arrival, path: PathMatch, single: WeightedTarget | undefined): string {
  const host = single?.target.hostname ?? service.hostname;
  const suffix = path.kind === "prefix" || path.kind === "segments" ? `${path.value}*` : path.value;
  return `${host}:${single?.target.port ?? port}${suffix}`;
}

function filterConfigs({ fault, cors }: RouteEntry): { [filter: string]: Any } {
  const emitted = fault === undefined ? undefined : emitFault(fault);
  return {
    ...(emitted === undefined ? {} : { [faultFilter]: emitted }),
    ...(cors === undefined ? {} : { [corsFilter]: emitCors(cors) }),
  };
}

function emitAction(
  arrival: Arrival,
  { action, headers }: RouteEntry,
  single: WeightedTarget | undefined,
): NonNullable<RouteInit["action"]> {
  switch (action.kind) {
    case "redirect":
      return { case: "redirect", value: emitRedirect(action, arrival.port) };
    case "respond":
      return { case: "directResponse", value: emitResponse(action) };
    case "forward":
      // Of several that name the host, what is said of the whole route counts.
      return {
        case: "route",
        value: emitForward(
          arrival,
          action,
          action.authority || authorityOf(headers) || authorityOf(single?.headers ?? []),
        ),
      };
  }
}

function emitResponse({ status, body }: RespondEntry) {
  if (body === undefined) return { status };
  return {
    status,
    body: {
      specifier:
        typeof body === "string"
          ? ({ case: "inlineString", value: body } as const)
          : ({ case: "inlineBytes", value: body } as const),
    },
  };
}

const redirectCodes: Readonly<Record<number, RedirectCode>> = {
  301: RedirectCode.MOVED_PERMANENTLY,
  302: RedirectCode.FOUND,
  303: RedirectCode.SEE_OTHER,
  307: RedirectCode.TEMPORARY_REDIRECT,
  308: RedirectCode.PERMANENT_REDIRECT,
};

const schemePorts: Readonly<Record<string, number>> = { http: 80, https: 443 };

function emitRedirect(redirect: RedirectEntry, requestPort: number): MessageInitShape<typeof RedirectActionSchema> {
  const { scheme, host, path, keepsRequestPort, code } = redirect;
  const port = redirect.port ?? (keepsRequestPort ? requestPort : undefined);
  // Requests come to a waypoint in the clear. The port that belongs to the scheme goes without saying.
  const isImplied = port === schemePorts[scheme === "" ? "http" : scheme];
  return {
    hostRedirect: host,
    ...(scheme === "" ? {} : { schemeRewriteSpecifier: { case: "schemeRedirect", value: scheme } as const }),
    ...(port === undefined || isImplied ? {} : { portRedirect: port }),
    ...(path === undefined ? {} : { pathRewriteSpecifier: redirectPath(path) }),
    responseCode: redirectCodes[code] ?? RedirectCode.MOVED_PERMANENTLY,
  };
}

function redirectPath(
  path: NonNullable<RedirectEntry["path"]>,
): NonNullable<MessageInitShape<typeof RedirectActionSchema>["pathRewriteSpecifier"]> {
  switch (path.kind) {
    case "full":
      return { case: "pathRedirect", value: path.value };
    case "prefix":
      return { case: "prefixRewrite", value: path.value };
    case "regex":
      return { case: "regexRewrite", value: regexRewrite(path) };
  }
}

const regexRewrite = ({ pattern, substitution }: Extract<PathRewrite, { kind: "regex" }>) => ({
  pattern: { regex: pattern },
  substitution,
});

type ActionInit = MessageInitShape<typeof RouteActionSchema>;

function emitForward(arrival: Arrival, action: ForwardEntry, authority: string | undefined): ActionInit {
  const { context, note } = arrival;
  const targets = weighted(action.targets).map((each) => ({ each, ...resolve(arrival, each) }));
  for (const { destination } of targets) if (destination !== undefined) note(destination);
  const hashes = targets.flatMap(({ destination }) =>
    destination === undefined ? [] : hashPoliciesFor(context, destination),
  );
  const isHashed = hashes.length > 0 && only(targets) !== undefined;
  const retries = retryPolicy(retriesOf(action, context.meshConfig), isHashed);
  return {
    ...clusters(targets),
    ...(authority === undefined || authority === ""
      ? {}
      : { hostRewriteSpecifier: { case: "hostRewriteLiteral", value: authority } as const }),
    ...rewriteFields(action.rewrite),
    timeout: duration(action.timeoutMs),
    // A gRPC client's own deadline counts, within that of the route. `max_stream_duration`, which took this field's place,
    // would set the timeout aside.
    maxGrpcTimeout: duration(action.timeoutMs),
    ...(retries === undefined ? {} : { retryPolicy: retries }),
    appendXForwardedHost: context.meshConfig.proxyHeaders.forwardedHost,
    hashPolicy: hashes,
    requestMirrorPolicies: action.mirrors.flatMap((mirror) => emitMirror(arrival, mirror)),
    ...(action.missingStatus === 500 ? { clusterNotFoundResponseCode: NotFoundCode.INTERNAL_SERVER_ERROR } : {}),
  };
}

const resolve = ({ context, port }: Arrival, { target }: WeightedTarget) => resolveTarget(context, target, port);

/** What the mesh says is for routes that say nothing: a route that says how often, but not when, means what is built in. */
const retriesOf = ({ retries }: ForwardEntry, { defaultHttpRetryPolicy: ofMesh }: MeshConfig): RetryPolicy =>
  retries ?? ofMesh ?? builtInRetries;

function clusters(
  targets: readonly { readonly each: WeightedTarget; readonly cluster: string }[],
): Pick<ActionInit, "clusterSpecifier"> {
  const single = only(targets);
  if (single !== undefined) return { clusterSpecifier: { case: "cluster", value: single.cluster } };
  return {
    clusterSpecifier: {
      case: "weightedClusters",
      value: {
        clusters: targets.map(({ each, cluster }) => {
          const authority = authorityOf(each.headers);
          return {
            name: cluster,
            weight: each.weight,
            ...emitHeaders(each.headers),
            ...(authority === undefined
              ? {}
              : { hostRewriteSpecifier: { case: "hostRewriteLiteral", value: authority } as const }),
          };
        }),
      },
    },
  };
}

function rewriteFields(rewrite: PathRewrite | undefined): Pick<ActionInit, "prefixRewrite" | "regexRewrite"> {
  if (rewrite === undefined) return {};
  return rewrite.kind === "prefix" ? { prefixRewrite: rewrite.value } : { regexRewrite: regexRewrite(rewrite) };
}

function emitMirror(
  { context, port, note }: Arrival,
  { target, percent }: MirrorTarget,
): MessageInitShape<typeof RouteAction_RequestMirrorPolicySchema>[] {
  if (percent <= 0) return [];
  const { cluster, destination } = resolveTarget(context, target, port);
  if (destination !== undefined) note(destination);
  return [{ cluster, runtimeFraction: { defaultValue: millionths(percent) }, traceSampled: false }];
}
