/** Patches of a proxy's configuration, in Envoy's own words; what of them is understood is the translation's matter. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Field } from "./field.ts";

export interface ConfigPatch {
  readonly applyTo: string;
  readonly match: JsonObject;
  readonly operation: string;
  readonly value: JsonObject;
}

export interface EnvoyFilterSpec {
  readonly selectsWorkloads: boolean;
  readonly priority: number;
  readonly patches: readonly ConfigPatch[];
}

export function readEnvoyFilterSpec(spec: Field): EnvoyFilterSpec {
  return {
    selectsWorkloads: spec.at("workloadSelector").isPresent,
    priority: spec.at("priority").whole(),
    patches: spec
      .at("configPatches")
      .list()
      .map((entry) => ({
        applyTo: entry.at("applyTo").text("INVALID"),
        match: objectOf(entry.at("match")),
        operation: entry.at("patch").at("operation").text("INVALID"),
        value: objectOf(entry.at("patch").at("value")),
      })),
  };
}

const objectOf = (field: Field): JsonObject => (field.isObject ? (field.plain() as JsonObject) : {});
