/** What requests and connections to a destination are hashed by, as its DestinationRule says. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ConsistentHash } from "#controlplane/mesh/destination-rule.ts";
import type { RouteAction_HashPolicySchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { HashPolicySchema } from "#shared/proto/gen/envoy/type/v3/hash_policy_pb.js";
import type { Destination, EnvoyContext } from "./context.ts";
import { consistentHash, ruleFor } from "./destination-rules.ts";
import { optionalDuration } from "./messages.ts";

type RouteHash = MessageInitShape<typeof RouteAction_HashPolicySchema>;

/** For a route's action; of several destinations of a route, all are appended. Empty: nothing is hashed. */
export function hashPoliciesFor(context: EnvoyContext, { service, port, subset }: Destination): readonly RouteHash[] {
  const hash = consistentHash(ruleFor(context, service), port.port, subset);
  return hash === undefined ? [] : [routeHash(hash)];
}

function routeHash({ headerName, cookie, useSourceIp, queryParameterName }: ConsistentHash): RouteHash {
  if (headerName !== undefined) {
    return { policySpecifier: { case: "header", value: { headerName } } };
  }
  if (cookie !== undefined) {
    const { name, path, ttlMs, attributes } = cookie;
    const value = { name, path, ...optionalDuration("ttl", ttlMs), attributes: [...attributes] };
    return { policySpecifier: { case: "cookie", value } };
  }
  if (queryParameterName !== undefined) {
    return { policySpecifier: { case: "queryParameter", value: { name: queryParameterName } } };
  }
  return { policySpecifier: { case: "connectionProperties", value: { sourceIp: useSourceIp } } };
}

/** For the proxy of a TCP port, which can look at addresses only. */
export function tcpHashPoliciesFor(
  context: EnvoyContext,
  { service, port, subset }: Destination,
): readonly MessageInitShape<typeof HashPolicySchema>[] {
  const hash = consistentHash(ruleFor(context, service), port.port, subset);
  return hash?.useSourceIp === true ? [{ policySpecifier: { case: "sourceIp", value: {} } }] : [];
}
