/**
 * A network layer is one filter of a TCP chain, or of an HTTP chain before its connection manager: it says whether a
 * connection may go on at all. Layers run in the order of the configuration.
 */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { DownstreamConnection, ResponseFlag } from "#waypoint/http/exchange.ts";
import type { LayerContext } from "./layer.ts";

/** One connection as network layers see it. */
export interface NetworkConnection {
  readonly connection: DownstreamConnection;
  /** Port for clusters that go by server name, instead of the destination's; a layer may set it. */
  dynamicPort?: number | undefined;
  /** What layers said of it, by filter name; for the access log. Made at first use. */
  metadataOf(filter: string): JsonObject | undefined;
  setMetadata(filter: string, value: JsonObject): void;
}

/** The connection is closed at once. */
export interface ConnectionRefusal {
  /** CONNECTION_TERMINATION_DETAILS, such as `rbac_access_denied_matched_policy[none]`. */
  readonly details: string;
  readonly flag?: ResponseFlag;
}

export type NetworkLayerResult = ConnectionRefusal | undefined;

export interface NetworkLayer {
  /** As configured, such as `envoy.filters.network.rbac`. */
  readonly name: string;
  /** Called once, when the connection has said its first bytes or is about to be forwarded. At once where it can. */
  onConnection(connection: NetworkConnection): NetworkLayerResult | Promise<NetworkLayerResult>;
  /** Once, however the connection ended; only after {@link onConnection} let it pass. */
  onEnd?(connection: NetworkConnection): void;
}

/** How to make one kind of network layer; registered by the type of its configuration. */
export interface NetworkLayerKind {
  /** Full message name, such as `envoy.extensions.filters.network.rbac.v3.RBAC`. */
  readonly type: string;
  /** Undefined where the configuration makes it do nothing. */
  compile(name: string, config: Any, context: LayerContext): NetworkLayer | undefined;
}
