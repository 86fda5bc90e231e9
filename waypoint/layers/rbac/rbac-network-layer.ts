/** Authorization of connections: `envoy.filters.network.rbac`. */
import type { JsonObject } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import {
  RBACSchema,
  RBAC_EnforcementType,
} from "#shared/proto/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import type {
  NetworkConnection,
  NetworkLayer,
  NetworkLayerKind,
  NetworkLayerResult,
} from "#waypoint/layers/network-layer.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { compileRules, enforce, newCounters, type RbacCounters, type RbacRules } from "./enforce.ts";
import { sourcedMetadataFields } from "./sourced-metadata.ts";

const metadataName = "envoy.filters.network.rbac";

export const rbacNetworkLayer: NetworkLayerKind = {
  type: RBACSchema.typeName,
  compile(name, any, { problem }) {
    const config = anyUnpack(any, RBACSchema);
    if (config === undefined) return undefined;
    reportUnknownFields(config, problem, (typeName, field) => sourcedMetadataFields[typeName] === field);
    if (config.statPrefix === "") problem("stat_prefix", "must not be empty");
    if (config.enforcementType === RBAC_EnforcementType.CONTINUOUS) {
      problem("enforcement_type", "CONTINUOUS is not supported: what a connection is judged by does not change");
    }
    const rules = compileRules(config, "", problem);
    if (rules.enforced === undefined && rules.shadow === undefined) return undefined;
    return new RbacNetworkLayer(name, rules);
  },
};

function record(connection: NetworkConnection, filter: string, values: JsonObject): void {
  connection.setMetadata(filter, { ...connection.metadataOf(filter), ...values });
}

class RbacNetworkLayer implements NetworkLayer {
  readonly name: string;
  readonly counters: RbacCounters = newCounters();
  readonly #rules: RbacRules;

  constructor(name: string, rules: RbacRules) {
    this.name = name;
    this.#rules = rules;
  }

  onConnection(connection: NetworkConnection): NetworkLayerResult {
    const refusal = enforce(this.#rules, this.counters, connection, record, metadataName);
    return refusal && { details: refusal.details };
  }
}
