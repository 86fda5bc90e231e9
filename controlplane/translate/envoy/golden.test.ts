/** Small worlds with what their waypoint is served; `UPDATE_GOLDEN=1` writes the answers anew. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { expect, test } from "@jest/globals";
import { parseAllDocuments } from "yaml";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { checkObject } from "#controlplane/schema/validate.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { translate } from "#controlplane/translate/translate.ts";
import { envoyForm } from "./envoy-form.ts";
import { envoyResources } from "./resources.ts";
import { envoyContext, proxyFacts } from "./view.ts";

const folder = join(import.meta.dirname, "../testdata/envoy");
const cases = readdirSync(folder)
  .filter((name) => name.endsWith(".yaml"))
  .map((name) => basename(name, ".yaml"));

test.each(cases)("%s", (name) => {
  const world = new World();
  const objects = parseAllDocuments(readFileSync(join(folder, `${name}.yaml`), "utf8")).map((document) => ({
    object: document.toJS() as KubeObject,
  }));
  for (const object of withApiDefaults(objects)) {
    // No case shows what a user could not apply.
    expect(checkObject(object).problems.filter(({ severity }) => severity === "error")).toEqual([]);
    world.upsert(object);
  }
  expect(world.problems).toEqual([]);
  const { collected } = translate(world, defaultOptions);
  const waypoint = collected.waypoints.get("shop", "wp");
  if (waypoint === undefined) throw new TypeError("The case has no waypoint shop/wp");
  const proxy = proxyFacts(world, "", { namespace: "shop", name: "wp-1", node: "near", ips: ["10.1.0.9"] });
  const resources = envoyResources(envoyContext(collected, waypoint, proxy));
  expect(resources.problems).toEqual([]);
  const answer = envoyForm(resources);
  const file = join(folder, `${name}.json`);
  if (process.env["UPDATE_GOLDEN"] !== undefined) {
    writeFileSync(file, `${JSON.stringify(answer, undefined, 2)}\n`);
    return;
  }
  expect(answer).toEqual(JSON.parse(readFileSync(file, "utf8")));
});
