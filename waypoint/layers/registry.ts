/**
 * Every kind of filter that this proxy knows, by the type of its configuration. A filter that is not here refuses its
 * listener, unless the configuration says that it may be left out. Whoever adds a kind adds a line.
 */
import { corsLayer } from "./cors/cors-layer.ts";
import { faultLayer } from "./fault/fault-layer.ts";
import { extAuthzLayer } from "./ext-authz/ext-authz-layer.ts";
import { extAuthzNetworkLayer } from "./ext-authz/ext-authz-network-layer.ts";
import { jwtLayer } from "./jwt/jwt-layer.ts";
import { forwardProxyLayer } from "./forward-proxy/forward-proxy-layer.ts";
import { sniForwardProxyLayer } from "./forward-proxy/sni-forward-proxy-layer.ts";
import { grpcStatsLayer } from "./grpc/grpc-stats-layer.ts";
import { grpcWebLayer } from "./grpc/grpc-web-layer.ts";
import { headerMutationLayer } from "./header-mutation/header-mutation-layer.ts";
import type { LayerKind } from "./layer.ts";
import type { NetworkLayerKind } from "./network-layer.ts";
import { metadataExchangeLayer, peerMetadataLayer, peerMetadataNetworkLayer } from "./peer-metadata.ts";
import { globalRateLimitLayer } from "./rate-limit/global-rate-limit.ts";
import { localRateLimitLayer } from "./rate-limit/local-rate-limit.ts";
import { rateLimitPolicyLayer } from "./rate-limit/policy-layer.ts";
import { mongoLayer } from "./mongo-layer.ts";
import { setFilterStateNetworkLayer } from "./set-filter-state.ts";
import { statsLayer, statsNetworkLayer } from "./stats/stats-layer.ts";
import { rbacLayer } from "./rbac/rbac-layer.ts";
import { rbacNetworkLayer } from "./rbac/rbac-network-layer.ts";

/** HTTP filters. The router is not one of them: it is where the layers end. */
export const layerKinds: readonly LayerKind[] = [
  rbacLayer,
  jwtLayer,
  extAuthzLayer,
  localRateLimitLayer,
  globalRateLimitLayer,
  faultLayer,
  corsLayer,
  rateLimitPolicyLayer,
  headerMutationLayer,
  forwardProxyLayer,
  grpcStatsLayer,
  statsLayer,
  grpcWebLayer,
  peerMetadataLayer,
];

/** Network filters besides the connection manager and the TCP proxy, which end a chain. */
export const networkLayerKinds: readonly NetworkLayerKind[] = [
  rbacNetworkLayer,
  extAuthzNetworkLayer,
  sniForwardProxyLayer,
  setFilterStateNetworkLayer,
  mongoLayer,
  metadataExchangeLayer,
  peerMetadataNetworkLayer,
  statsNetworkLayer,
];
