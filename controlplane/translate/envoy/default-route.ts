/** What happens to requests for which nobody has written a route. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RetryPolicy } from "#controlplane/mesh/retry-policy.ts";
import type { RetryPolicySchema, RouteSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { PreviousHostsPredicateSchema } from "#shared/proto/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { PreviousPrioritiesConfigSchema } from "#shared/proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { clusterOf } from "./cluster-names.ts";
import type { Destination, EnvoyContext } from "./context.ts";
import { hashPoliciesFor } from "./hash-policies.ts";
import { duration, optionalDuration, pack } from "./messages.ts";

type RouteInit = MessageInitShape<typeof RouteSchema>;
type RetryInit = MessageInitShape<typeof RetryPolicySchema>;

/** Of routes that say nothing about retries, in a mesh that says nothing either. */
export const builtInRetries: RetryPolicy = {
  attempts: 2,
  perTryTimeoutMs: undefined,
  retryOn: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
  retryRemoteLocalities: false,
  retryIgnorePreviousHosts: undefined,
  backoffMs: undefined,
};

/**
 * Retries as a route carries them; undefined: none. `isHashed` where requests go by consistent hash: then another host is
 * not looked for, unless the route says so.
 */
export function retryPolicy(policy: RetryPolicy, isHashed: boolean): RetryInit | undefined {
  if (policy.attempts === 0) return undefined;
  const tokens = (policy.retryOn === "" ? builtInRetries.retryOn : policy.retryOn)
    .split(",")
    .map((token) => token.trim())
    .filter((token) => token !== "");
  const codes = tokens.filter((token) => /^\d{3}$/.test(token)).map(Number);
  const conditions = tokens.filter((token) => !/^\d{3}$/.test(token));
  if (codes.length > 0 && !conditions.includes("retriable-status-codes")) conditions.push("retriable-status-codes");
  const avoidsHosts = policy.retryIgnorePreviousHosts ?? !isHashed;
  return {
    retryOn: conditions.join(","),
    numRetries: policy.attempts,
    retriableStatusCodes: codes,
    ...optionalDuration("perTryTimeout", policy.perTryTimeoutMs),
    ...(avoidsHosts ? { retryHostPredicate: [previousHosts], hostSelectionRetryMaxAttempts: 5n } : {}),
    ...(policy.retryRemoteLocalities ? { retryPriority: previousPriorities } : {}),
    ...(policy.backoffMs === undefined ? {} : { retryBackOff: { baseInterval: duration(policy.backoffMs) } }),
  };
}

const previousHosts = {
  name: "envoy.retry_host_predicates.previous_hosts",
  configType: { case: "typedConfig", value: pack(PreviousHostsPredicateSchema) },
} as const;

const previousPriorities = {
  name: "envoy.retry_priorities.previous_priorities",
  configType: { case: "typedConfig", value: pack(PreviousPrioritiesConfigSchema, { updateFrequency: 2 }) },
} as const;

/** Everything to one cluster. */
export function defaultRoute(context: EnvoyContext, cluster: string, destination?: Destination): RouteInit {
  const hashPolicy = destination === undefined ? [] : hashPoliciesFor(context, destination);
  const retries = retryPolicy(context.meshConfig.defaultHttpRetryPolicy ?? builtInRetries, hashPolicy.length > 0);
  return {
    name: "default",
    match: { pathSpecifier: { case: "prefix", value: "/" } },
    decorator: {
      operation:
        destination === undefined ? `${cluster}/*` : `${destination.service.hostname}:${destination.port.port}/*`,
    },
    action: {
      case: "route",
      value: {
        clusterSpecifier: { case: "cluster", value: cluster },
        timeout: duration(0),
        maxStreamDuration: { maxStreamDuration: duration(0), grpcTimeoutHeaderMax: duration(0) },
        hashPolicy: [...hashPolicy],
        appendXForwardedHost: context.meshConfig.proxyHeaders.forwardedHost,
        ...(retries === undefined ? {} : { retryPolicy: retries }),
      },
    },
  };
}

export const defaultRoutes = (context: EnvoyContext, destination: Destination): RouteInit[] => [
  defaultRoute(
    context,
    clusterOf(context, destination.service, destination.port, destination.protocol, destination.subset),
    destination,
  ),
];
