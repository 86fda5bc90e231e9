/** Telemetry as users write it, with what the chains of a waypoint are told. `UPDATE_GOLDEN=1` writes the answers anew. */
import { join } from "node:path";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { test } from "@jest/globals";
import type { EnvoyContext } from "../context.ts";
import { envoyForm } from "../envoy-form.ts";
import { casesIn, contextOf, expectGolden, objectsIn } from "../golden-cases.ts";
import { envoyResources } from "../resources.ts";

const folder = join(import.meta.dirname, "../../testdata/envoy/telemetry");

function observedOf(context: EnvoyContext): JsonObject {
  const resources = envoyResources(context);
  const { listeners, clusters } = envoyForm(resources);
  const [listener] = listeners as unknown as { readonly filterChains: readonly Chain[] }[];
  return {
    chains: Object.fromEntries((listener?.filterChains ?? []).map((chain) => [chain.name, observed(chain)])),
    otherClusters: (clusters as { readonly name: string }[])
      .map(({ name }) => name)
      .filter((name) => name.startsWith("outbound|")),
    problems: [...resources.problems],
  };
}

interface Chain {
  readonly name: string;
  readonly metadata?: JsonValue;
  readonly filters: readonly {
    readonly typedConfig: JsonObject & { readonly httpFilters?: readonly { readonly name: string }[] };
  }[];
}

/** What telemetry is about, of a whole chain. */
function observed({ metadata, filters }: Chain): JsonObject {
  const end = filters.at(-1)?.typedConfig;
  const stats = end?.httpFilters?.find(({ name }) => name === "istio.stats");
  const parts = {
    accessLog: end?.["accessLog"],
    tracing: end?.["tracing"],
    requestIdExtension: end?.["requestIdExtension"],
    stats,
    metadata,
  };
  return JSON.parse(JSON.stringify(parts)) as JsonObject;
}

test.each(casesIn(folder))("%s", (name) => {
  expectGolden(folder, name, observedOf(contextOf([...objectsIn(folder, "base"), ...objectsIn(folder, name)])));
});
