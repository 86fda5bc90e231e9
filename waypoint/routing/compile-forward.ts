/** Compiles RouteAction: where a request goes and under which limits. */
import { RoutingPriority } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import {
  RouteAction_ClusterNotFoundResponseCode as NotFoundCode,
  RouteAction_InternalRedirectAction as InternalRedirect,
  type RouteAction,
} from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { RequestView } from "#waypoint/http/request-view.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { RouteDefaults } from "./route-context.ts";
import type { ForwardAction, GrpcTimeoutLimit, MaxStreamDuration } from "./compiled-route.ts";
import { readMs } from "./durations.ts";
import { compileHashPolicy } from "./hash-policy.ts";
import { compileMirrors } from "./mirror-policy.ts";
import { compileRetryPolicy } from "./retry-policy.ts";

/** Envoy's, where a route says nothing. */
const defaultTimeoutMs = 15_000;

const notFoundStatus: Readonly<Record<number, number>> = {
  [NotFoundCode.SERVICE_UNAVAILABLE]: 503,
  [NotFoundCode.NOT_FOUND]: 404,
  [NotFoundCode.INTERNAL_SERVER_ERROR]: 500,
};

export function compileForward(
  action: RouteAction,
  bufferLimitBytes: number | undefined,
  path: string,
  defaults: RouteDefaults,
): ForwardAction {
  const { problem } = defaults.context;
  reportUnsupported(action, path, problem);
  const status = notFoundStatus[action.clusterNotFoundResponseCode];
  if (status === undefined)
    problem(`${path}.cluster_not_found_response_code`, `${action.clusterNotFoundResponseCode} is unknown`);
  const mirrors = compileMirrors(action.requestMirrorPolicies, `${path}.request_mirror_policies`, problem);
  const { hostRewriteSpecifier: host } = action;
  return {
    kind: "forward",
    pickCluster: compilePick(action, path, defaults),
    clusterNotFoundStatus: status ?? 503,
    timeoutMs: readMs(action.timeout, `${path}.timeout`, problem) ?? defaultTimeoutMs,
    grpcTimeout: grpcLimit(
      readMs(action.maxGrpcTimeout, `${path}.max_grpc_timeout`, problem),
      readMs(action.grpcTimeoutOffset, `${path}.grpc_timeout_offset`, problem),
    ),
    idleTimeoutMs: readMs(action.idleTimeout, `${path}.idle_timeout`, problem),
    maxStreamDuration: readMaxStreamDuration(action, `${path}.max_stream_duration`, problem),
    priority: action.priority === RoutingPriority.HIGH ? "high" : "default",
    retryPolicy:
      action.retryPolicy === undefined
        ? defaults.retryPolicy
        : compileRetryPolicy(action.retryPolicy, `${path}.retry_policy`, problem),
    hashPolicy: compileHashPolicy(action.hashPolicy, `${path}.hash_policy`, problem),
    mirrors: mirrors.length > 0 ? mirrors : defaults.mirrors,
    metadataMatch: action.metadataMatch?.filterMetadata["envoy.lb"],
    upgrades: readUpgrades(action, `${path}.upgrade_configs`, problem),
    rewritesHostAutomatically: host.case === "autoHostRewrite" && host.value.value,
    appendsForwardedHost: action.appendXForwardedHost,
    countsAttempts: defaults.countsAttempts,
    countsAttemptsInResponse: defaults.countsAttemptsInResponse,
    tellsTimeoutRetries: defaults.tellsTimeoutRetries,
    bufferLimitBytes: bufferLimitBytes ?? defaults.bufferLimitBytes,
  };
}

function reportUnsupported(action: RouteAction, path: string, problem: Problem): void {
  if (action.cors !== undefined) problem(`${path}.cors`, "is out of date; use typed_per_filter_config");
  if (action.hedgePolicy !== undefined) problem(`${path}.hedge_policy`, "is not supported");
  if (action.retryPolicyTypedConfig !== undefined) problem(`${path}.retry_policy_typed_config`, "is not supported");
  if (action.earlyDataPolicy !== undefined) problem(`${path}.early_data_policy`, "is not supported");
  if (
    action.internalRedirectPolicy !== undefined ||
    action.maxInternalRedirects !== undefined ||
    action.internalRedirectAction !== InternalRedirect.PASS_THROUGH_INTERNAL_REDIRECT
  )
    problem(`${path}.internal_redirect_policy`, "is not supported: redirects are the client's to follow");
}

function compilePick(action: RouteAction, path: string, defaults: RouteDefaults): (exchange: RequestView) => string {
  const { problem, clusters } = defaults.context;
  const { clusterSpecifier: specifier } = action;
  switch (specifier.case) {
    case "cluster": {
      const { value } = specifier;
      if (value === "") problem(`${path}.cluster`, "must not be empty");
      if (defaults.validatesClusters && clusters.get(value) === undefined)
        problem(`${path}.cluster`, `cluster "${value}" does not exist`);
      return () => value;
    }
    case "clusterHeader": {
      const name = specifier.value.toLowerCase();
      if (name === "") problem(`${path}.cluster_header`, "must not be empty");
      return ({ request }) =>
        (name === ":authority" || name === "host" ? request.authority : request.headers.get(name)) ?? "";
    }
    // Drawn before: every choice has its own.
    case "weightedClusters":
      return () => "";
    case "clusterSpecifierPlugin":
    case "inlineClusterSpecifierPlugin":
      problem(`${path}.cluster_specifier_plugin`, "is not supported");
      return () => "";
    case undefined:
      problem(path, "set one of cluster, cluster_header or weighted_clusters");
      return () => "";
  }
}

function grpcLimit(maxMs: number | undefined, offsetMs: number | undefined): GrpcTimeoutLimit | undefined {
  return maxMs === undefined ? undefined : { maxMs, offsetMs: offsetMs ?? 0 };
}

function readMaxStreamDuration(
  { maxStreamDuration: config }: RouteAction,
  path: string,
  problem: Problem,
): MaxStreamDuration | undefined {
  if (config === undefined) return undefined;
  return {
    maxMs: readMs(config.maxStreamDuration, `${path}.max_stream_duration`, problem),
    grpcTimeout: grpcLimit(
      readMs(config.grpcTimeoutHeaderMax, `${path}.grpc_timeout_header_max`, problem),
      readMs(config.grpcTimeoutHeaderOffset, `${path}.grpc_timeout_header_offset`, problem),
    ),
  };
}

function readUpgrades(action: RouteAction, path: string, problem: Problem): ReadonlyMap<string, boolean> {
  const upgrades = new Map<string, boolean>();
  for (const [index, { upgradeType, enabled, connectConfig }] of action.upgradeConfigs.entries()) {
    const type = upgradeType.toLowerCase();
    if (type === "") problem(`${path}[${index}].upgrade_type`, "must not be empty");
    if (upgrades.has(type)) problem(`${path}[${index}].upgrade_type`, `"${upgradeType}" stands twice`);
    if (connectConfig !== undefined)
      problem(`${path}[${index}].connect_config`, "is not supported: a CONNECT inside the tunnel is passed on");
    upgrades.set(type, enabled ?? true);
  }
  return upgrades;
}
