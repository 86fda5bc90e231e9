/**
 * Istio's stats filter (`stats.PluginConfig`): what users change about metrics. Metrics are counted when a request has
 * ended and by no layer, so this only makes the filter known; `compile-http-chain.ts` hands its configuration on.
 */
import { statsConfigType } from "#waypoint/telemetry/metrics/stats-config.ts";
import type { LayerKind } from "#waypoint/layers/layer.ts";
import type { NetworkLayerKind } from "#waypoint/layers/network-layer.ts";

export const statsLayer: LayerKind = { type: statsConfigType, compile: () => undefined };

/** The same for TCP chains. */
export const statsNetworkLayer: NetworkLayerKind = { type: statsConfigType, compile: () => undefined };
