import { z } from "zod";
import { attachment, checkAttachment } from "./attachment.ts";
import type { Field } from "./field.ts";
import { age, networkingKind, type KindDefinition } from "./kind.ts";

const places = [
  "INVALID",
  "LISTENER",
  "FILTER_CHAIN",
  "NETWORK_FILTER",
  "HTTP_FILTER",
  "ROUTE_CONFIGURATION",
  "VIRTUAL_HOST",
  "HTTP_ROUTE",
  "CLUSTER",
  "EXTENSION_CONFIG",
  "BOOTSTRAP",
  "LISTENER_FILTER",
] as const;

const operations = [
  "INVALID",
  "MERGE",
  "ADD",
  "REMOVE",
  "INSERT_BEFORE",
  "INSERT_AFTER",
  "INSERT_FIRST",
  "REPLACE",
  "MERGE_AND_REPLACE_LIST",
] as const;

const bag = z.looseObject({});

const configPatch = z.strictObject({
  applyTo: z
    .enum(places)
    .describe("What of the configuration is changed; HTTP_FILTER, VIRTUAL_HOST and HTTP_ROUTE have an effect here"),
  match: bag
    .extend({
      context: z
        .enum(["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"])
        .optional()
        .describe("Kind of proxy; ANY if not written. Waypoints take ANY, SIDECAR_INBOUND and WAYPOINT"),
    })
    .optional()
    .describe("Where: ports, filters, virtual hosts and routes, in Istio's words"),
  patch: z
    .strictObject({
      operation: z
        .enum(operations)
        .optional()
        .describe("How: INSERT_BEFORE or INSERT_FIRST for an HTTP_FILTER, otherwise MERGE"),
      value: bag.optional().describe("In Envoy's own words: a LocalRateLimit, or rate_limits with their actions"),
      filterClass: z
        .enum(["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"])
        .optional()
        .describe("Place of a filter that is added; without effect"),
    })
    .optional()
    .describe("The change"),
});

const spec = z
  .strictObject({
    workloadSelector: z
      .strictObject({
        labels: z.record(z.string(), z.string().max(63)).optional().describe("Labels of those pods"),
      })
      .optional()
      .describe("Pods with sidecars, which an ambient mesh has none of"),
    targetRefs: attachment.targetRefs.describe(
      "The waypoint (Gateway), or in the root namespace all of them (GatewayClass)",
    ),
    configPatches: z
      .array(configPatch)
      .optional()
      .describe("Changes, one after the other; status tells of those without effect"),
    priority: z
      .int()
      .min(-2_147_483_648)
      .max(2_147_483_647)
      .optional()
      .describe("Order among such objects of a namespace, the smallest first; 0 if not written"),
  })
  .describe(
    "Which waypoints, and what is changed of their configuration; a RateLimitPolicy says the same in plain words",
  );

function check(object: Field): void {
  if (object.has("workloadSelector") && object.has("targetRefs")) {
    object.error("workloadSelector and targetRefs exclude each other", "keep targetRefs, which waypoints look at");
  }
  checkAttachment(object);
  for (const entry of object.at("configPatches").items()) {
    const patch = entry.at("patch");
    if (patch.at("operation").text !== "REMOVE" && !patch.has("value")) {
      patch.error("has no value", "write what is to be merged or inserted");
    }
  }
}

export const envoyFilter: KindDefinition = {
  ...networkingKind,
  versions: ["v1alpha3"],
  kind: "EnvoyFilter",
  plural: "envoyfilters",
  shortNames: [],
  description:
    "Local rate limits as they are written for Envoy. Other patches have no effect here; the status tells what has.",
  columns: [age],
  spec,
  check,
};
