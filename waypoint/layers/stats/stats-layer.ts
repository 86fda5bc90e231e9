/**
 * Istio's stats filter (`stats.PluginConfig`): what users change about metrics. Metrics are counted when a request has
 * ended and by no layer, so this only makes the filter known; `compile-http-chain.ts` hands its configuration on.
 */
import { statsConfigType } from "#waypoint/telemetry/metrics/stats-config.ts";
import type { LayerKind } from "#waypoint/layers/layer.ts";

export const statsLayer: LayerKind = { type: statsConfigType, compile: () => undefined };
