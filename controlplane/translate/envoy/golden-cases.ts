/** For tests: folders of small worlds in YAML, the waypoint that stands in them, and the answers written beside them. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { expect } from "@jest/globals";
import { parseAllDocuments } from "yaml";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { checkObject } from "#controlplane/schema/validate.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { translate } from "#controlplane/translate/translate.ts";
import type { EnvoyContext } from "./context.ts";
import { envoyContext, proxyFacts } from "./view.ts";

/** Names of the cases in a folder. `base.yaml` is none: it is what they have in common. */
export const casesIn = (folder: string): readonly string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".yaml") && name !== "base.yaml")
    .map((name) => basename(name, ".yaml"))
    .sort();

export const objectsIn = (folder: string, name: string): readonly KubeObject[] =>
  parseAllDocuments(readFileSync(join(folder, `${name}.yaml`), "utf8")).map(
    (document) => document.toJS() as KubeObject,
  );

/** Of namespace `shop`. */
interface Instance {
  readonly waypoint: string;
  readonly node: string;
  readonly ip: string;
}

/** What a waypoint sees of a world without mistakes: no case shows what a user could not apply. */
export function contextOf(
  objects: readonly KubeObject[],
  { waypoint: name, node, ip }: Instance = { waypoint: "waypoint", node: "node-1", ip: "10.244.0.1" },
): EnvoyContext {
  const world = new World();
  for (const object of withApiDefaults(objects.map((each) => ({ object: each })))) {
    expect(checkObject(object).problems.filter(({ severity }) => severity === "error")).toEqual([]);
    world.upsert(object);
  }
  expect(world.problems).toEqual([]);
  const { collected } = translate(world, defaultOptions);
  const waypoint = collected.waypoints.get("shop", name);
  if (waypoint === undefined) throw new TypeError(`The case has no waypoint shop/${name}`);
  const instance = { namespace: "shop", name: `${name}-1`, node, ips: [ip] };
  return envoyContext(collected, waypoint, proxyFacts(world, "", instance));
}

/** Compares with the case's JSON; `UPDATE_GOLDEN=1` writes it anew. */
export function expectGolden(folder: string, name: string, answer: unknown): void {
  const file = join(folder, `${name}.json`);
  if (process.env["UPDATE_GOLDEN"] !== undefined) writeFileSync(file, `${JSON.stringify(answer, undefined, 2)}\n`);
  expect(answer).toEqual(JSON.parse(readFileSync(file, "utf8")));
}
