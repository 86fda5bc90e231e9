/**
 * Istio's filters that find out who is at the two ends. The mesh's workload index tells that here, for every request
 * and connection, so they only have to be known; nothing of them is sent to peers either.
 */
import type { Any } from "@bufbuild/protobuf/wkt";
import { configType } from "./config-type.ts";
import type { LayerKind } from "./layer.ts";
import type { NetworkLayerKind } from "./network-layer.ts";

const httpType = "io.istio.http.peer_metadata.Config";

export const peerMetadataLayer: LayerKind = { type: httpType, compile: () => undefined };

const silent = (type: string): NetworkLayerKind => ({ type, compile: () => undefined });

export const peerMetadataNetworkLayer = silent("envoy.extensions.network_filters.peer_metadata.Config");
export const metadataExchangeLayer = silent("envoy.tcp.metadataexchange.config.MetadataExchange");

export const isPeerMetadata = (config: Any): boolean => configType(config) === httpType;
