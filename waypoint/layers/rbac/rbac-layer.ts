/** Authorization of requests: `envoy.filters.http.rbac`. */
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import {
  RBACPerRouteSchema,
  RBACSchema,
  type RBAC,
} from "#shared/proto/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import type { Exchange } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { Layer, LayerContext, LayerKind, LayerResult } from "#waypoint/layers/layer.ts";
import { recordMetadata } from "#waypoint/layers/metadata.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { compileRules, enforce, newCounters, type RbacCounters, type RbacRules } from "./enforce.ts";
import { deniedBy, deniedByHeader } from "./explain.ts";
import { sourcedMetadataFields } from "./sourced-metadata.ts";

/** Metadata is written under this name, whatever the filter is called. */
const metadataName = "envoy.filters.http.rbac";
const knows = (typeName: string, field: number): boolean => sourcedMetadataFields[typeName] === field;

export const rbacLayer: LayerKind = {
  type: RBACSchema.typeName,
  compile(name, any, context) {
    const config = anyUnpack(any, RBACSchema);
    if (config === undefined) return undefined;
    reportUnknownFields(config, context.problem, knows);
    return new RbacLayer(name, compileRules(config, "", context.problem));
  },
  routeTypes: {
    [RBACPerRouteSchema.typeName]: (any: Any, context: LayerContext): RbacRules | undefined => {
      const config = anyUnpack(any, RBACPerRouteSchema);
      if (config === undefined) return undefined;
      reportUnknownFields(config, context.problem, knows);
      const rbac: RBAC | undefined = config.rbac;
      // Without rules it switches the filter off.
      return rbac === undefined ? nothing : compileRules(rbac, "rbac", context.problem);
    },
  },
};

const nothing: RbacRules = { enforced: undefined, shadow: undefined, shadowPrefix: "" };

export class RbacLayer implements Layer {
  readonly name: string;
  readonly counters: RbacCounters = newCounters();
  readonly #rules: RbacRules;

  constructor(name: string, rules: RbacRules) {
    this.name = name;
    this.#rules = rules;
  }

  onRequest(exchange: Exchange): LayerResult {
    const own = exchange.route?.layerConfigs.get(this.name) as RbacRules | undefined;
    const rules = own ?? this.#rules;
    const refusal = enforce(rules, this.counters, exchange, recordMetadata, metadataName);
    if (refusal === undefined) return undefined;
    const explains = rules.enforced?.explains;
    const by = explains === undefined ? undefined : deniedBy(explains, refusal.policy);
    return {
      status: 403,
      body: "RBAC: access denied",
      details: refusal.details,
      ...(by === undefined ? {} : { headers: new Headers([deniedByHeader, by]) }),
    };
  }
}
