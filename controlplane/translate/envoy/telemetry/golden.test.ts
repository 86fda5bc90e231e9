/** Telemetry as users write it, with what the chains of a waypoint are told. `UPDATE_GOLDEN=1` writes the answers anew. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { expect, test } from "@jest/globals";
import { parseAllDocuments } from "yaml";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { checkObject } from "#controlplane/schema/validate.ts";
import { envoyForm } from "#controlplane/translate/envoy/envoy-form.ts";
import { envoyResources } from "#controlplane/translate/envoy/resources.ts";
import { envoyContext, proxyFacts } from "#controlplane/translate/envoy/view.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { translate } from "#controlplane/translate/translate.ts";

const folder = join(import.meta.dirname, "../../testdata/envoy/telemetry");

const readObjects = (name: string): readonly KubeObject[] =>
  parseAllDocuments(readFileSync(join(folder, name), "utf8")).map((document) => document.toJS() as KubeObject);

function answerFor(objects: readonly KubeObject[]): JsonObject {
  const world = new World();
  for (const object of withApiDefaults(objects.map((each) => ({ object: each })))) {
    expect(checkObject(object).problems.filter(({ severity }) => severity === "error")).toEqual([]);
    world.upsert(object);
  }
  expect(world.problems).toEqual([]);
  const { collected } = translate(world, defaultOptions);
  const waypoint = collected.waypoints.get("shop", "waypoint");
  if (waypoint === undefined) throw new Error("the base has no waypoint");
  const instance = { namespace: "shop", name: "waypoint-1", node: "node-1", ips: ["10.244.0.1"] };
  const resources = envoyResources(envoyContext(collected, waypoint, proxyFacts(world, "", instance)));
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

const cases = readdirSync(folder)
  .filter((name) => name.endsWith(".yaml") && name !== "base.yaml")
  .sort();

test.each(cases)("%s", (name) => {
  const answer = answerFor([...readObjects("base.yaml"), ...readObjects(name)]);
  const file = join(folder, `${basename(name, ".yaml")}.json`);
  if (process.env["UPDATE_GOLDEN"] !== undefined) writeFileSync(file, `${JSON.stringify(answer, undefined, 2)}\n`);
  expect(answer).toEqual(JSON.parse(readFileSync(file, "utf8")));
});
