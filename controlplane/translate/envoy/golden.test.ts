/** Small worlds with what their waypoint is served; `UPDATE_GOLDEN=1` writes the answers anew. */
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { envoyForm } from "./envoy-form.ts";
import { casesIn, contextOf, expectGolden, objectsIn } from "./golden-cases.ts";
import { envoyResources } from "./resources.ts";

const folder = join(import.meta.dirname, "../testdata/envoy");

test.each(casesIn(folder))("%s", (name) => {
  const context = contextOf(objectsIn(folder, name), { waypoint: "wp", node: "near", ip: "10.1.0.9" });
  const resources = envoyResources(context);
  expect(resources.problems).toEqual([]);
  expectGolden(folder, name, envoyForm(resources));
});
