/** Asks an external service whether a connection may go on: `envoy.filters.network.ext_authz`. */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import {
  ExtAuthzSchema,
  type ExtAuthz,
} from "#shared/proto/gen/envoy/extensions/filters/network/ext_authz/v3/ext_authz_pb.js";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import type {
  NetworkConnection,
  NetworkLayer,
  NetworkLayerKind,
  NetworkLayerResult,
} from "#waypoint/layers/network-layer.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { compileMetadata, type HasMetadata } from "#waypoint/matching/value-matcher.ts";
import { askGrpc, compileTarget, connectionAttributes, type GrpcTarget } from "./grpc-authorizer.ts";

export const extAuthzNetworkLayer: NetworkLayerKind = {
  type: ExtAuthzSchema.typeName,
  compile(name, any, context) {
    const config = anyUnpack(any, ExtAuthzSchema);
    if (config === undefined) return undefined;
    reportUnknownFields(config, context.problem);
    if (config.statPrefix === "") context.problem("stat_prefix", "must not be empty");
    if (config.bootstrapMetadataLabelsKey !== "") {
      context.problem("bootstrap_metadata_labels_key", "is not supported");
    }
    return new ExtAuthzNetworkLayer(name, config, context);
  },
};

const metadataName = "envoy.filters.network.ext_authz";

class ExtAuthzNetworkLayer implements NetworkLayer {
  readonly name: string;
  readonly #config: ExtAuthz;
  readonly #context: LayerContext;
  readonly #target: GrpcTarget;
  readonly #isEnabled: ((subject: HasMetadata) => boolean) | undefined;

  constructor(name: string, config: ExtAuthz, context: LayerContext) {
    this.name = name;
    this.#config = config;
    this.#context = context;
    this.#target = compileTarget(config.grpcService, "grpc_service", context.problem);
    this.#isEnabled =
      config.filterEnabledMetadata &&
      compileMetadata(config.filterEnabledMetadata, "filter_enabled_metadata", context.problem);
  }

  onConnection(connection: NetworkConnection): NetworkLayerResult | Promise<NetworkLayerResult> {
    if (this.#isEnabled !== undefined && !this.#isEnabled(connection)) return undefined;
    return this.#check(connection);
  }

  async #check(asked: NetworkConnection): Promise<NetworkLayerResult> {
    const { connection } = asked;
    const attributes = connectionAttributes(connection, this.#config.includeTlsSession);
    const verdict = await askGrpc(this.#context.clusters, this.#target, attributes, connection);
    if (verdict.kind === "error") {
      this.#context.log.warn({ layer: this.name, error: verdict.why }, "the external authorizer did not decide");
      return this.#config.failureModeAllow ? undefined : { details: "ext_authz_error", flag: "UAEX" };
    }
    if (verdict.metadata !== undefined) {
      asked.setMetadata(metadataName, { ...asked.metadataOf(metadataName), ...verdict.metadata });
    }
    return verdict.kind === "allowed" ? undefined : { details: "ext_authz_denied", flag: "UAEX" };
  }
}
