/** The samples that people apply first: each leads to routes, to nothing that does not exist, and to no complaint. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { parseAllDocuments } from "yaml";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { translate } from "#controlplane/translate/translate.ts";
import { envoyContext, proxyFacts } from "../view.ts";
import { httpRoutesFor } from "./routes-for.ts";
import { tcpRoutesFor } from "./tcp-routes.ts";

const shop = join(import.meta.dirname, "../../../../manifests/samples/bookshop");
const always = ["routing/waypoint.yaml", "routing/reviews-v2.yaml"];

const objectsIn = (name: string): readonly KubeObject[] =>
  parseAllDocuments(readFileSync(join(shop, name), "utf8")).map((document) => document.toJS() as KubeObject);

const yamlFiles = (folder: string): readonly string[] =>
  readdirSync(join(shop, folder)).filter((name) => name.endsWith(".yaml") && name !== "kustomization.yaml");

/** As the first lines of the sample say. */
const bound: KubeObject = {
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name: "bookshop", labels: { "istio.io/use-waypoint": "waypoint" } },
};

/** What the control plane writes once the waypoint runs. */
const address = { status: { addresses: [{ type: "Hostname", value: "waypoint.bookshop.svc.cluster.local" }] } };
const running = (object: KubeObject): KubeObject => (object.kind === "Gateway" ? { ...object, ...address } : object);

const samples = yamlFiles("routing").filter((name) => !always.includes(`routing/${name}`));

test.each(samples)("%s", (name) => {
  const written = [...yamlFiles("."), ...always, `routing/${name}`].flatMap(objectsIn);
  const world = new World();
  for (const object of withApiDefaults([...written, bound].map((each) => ({ object: running(each) }))))
    world.upsert(object);
  expect(world.problems).toEqual([]);
  const { collected, statuses } = translate(world, defaultOptions);
  const conditions = statuses
    .filter(({ kind }) => /Route$|VirtualService/.test(kind))
    .flatMap(({ status }) => [
      ...(status.conditions ?? []),
      ...(status.parents ?? []).flatMap((each) => each.conditions),
    ]);
  expect(conditions.filter(({ status }) => status === "False")).toEqual([]);

  const waypoint = collected.waypoints.get("bookshop", "waypoint");
  if (waypoint === undefined) throw new Error("the sample has no waypoint");
  const instance = { namespace: "bookshop", name: "waypoint-1", node: "node-1", ips: [] };
  const context = envoyContext(collected, waypoint, proxyFacts(world, "", instance));
  const routes = context.served.flatMap((service) =>
    service.ports.flatMap((port) => [
      ...httpRoutesFor(context, service, port).routes,
      ...tcpRoutesFor(context, service, port).clusters,
    ]),
  );
  expect(routes.length).toBeGreaterThan(0);
});
