/** Route objects as users write them, with the routes that a waypoint is told for them. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createRegistry, toJson } from "@bufbuild/protobuf";
import { expect, test } from "@jest/globals";
import { parseAllDocuments } from "yaml";
import { RouteSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { CorsPolicySchema } from "#shared/proto/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { HTTPFaultSchema } from "#shared/proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { PreviousHostsPredicateSchema } from "#shared/proto/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { PreviousPrioritiesConfigSchema } from "#shared/proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { checkObject } from "#controlplane/schema/validate.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { translate } from "#controlplane/translate/translate.ts";
import { clusterOf } from "../cluster-names.ts";
import type { Destination, EnvoyContext } from "../context.ts";
import { envoyContext, proxyFacts } from "../view.ts";
import { httpRoutesFor } from "./routes-for.ts";
import { namedTcpRoutesFor, tcpRoutesFor } from "./tcp-routes.ts";

const folder = join(import.meta.dirname, "../../testdata/envoy/routes");
const registry = createRegistry(
  RouteSchema,
  CorsPolicySchema,
  HTTPFaultSchema,
  PreviousHostsPredicateSchema,
  PreviousPrioritiesConfigSchema,
);

const readObjects = (name: string): readonly KubeObject[] =>
  parseAllDocuments(readFileSync(join(folder, name), "utf8")).map((document) => document.toJS() as KubeObject);

/** Errors of the schema, so that no case shows what a user could not apply. */
function refusals(object: KubeObject): readonly unknown[] {
  return checkObject(object).problems.filter(({ severity }) => severity === "error");
}

function contextOf(objects: readonly KubeObject[]): EnvoyContext {
  const world = new World();
  for (const object of withApiDefaults(objects.map((each) => ({ object: each })))) {
    expect(refusals(object)).toEqual([]);
    world.upsert(object);
  }
  expect(world.problems).toEqual([]);
  const { collected } = translate(world, defaultOptions);
  const waypoint = collected.waypoints.get("shop", "waypoint");
  if (waypoint === undefined) throw new Error("the base has no waypoint");
  return envoyContext(
    collected,
    waypoint,
    proxyFacts(world, "", { namespace: "shop", name: "waypoint-1", node: "node-1", ips: ["10.244.0.1"] }),
  );
}

/** Only ports for which somebody has written something. */
function routesOf(context: EnvoyContext): unknown {
  const answer: Record<string, unknown> = {};
  const named = (each: Destination): string => clusterOf(context, each.service, each.port, each.protocol, each.subset);
  for (const service of context.served) {
    for (const port of service.ports) {
      const { routes, destinations } = httpRoutesFor(context, service, port);
      const where = `${service.hostname}:${port.port}`;
      if (routes.length > 0) {
        answer[`http ${where}`] = {
          routes: routes.map((route) => toJson(RouteSchema, route, { registry })),
          destinations: destinations.map(named),
        };
      }
      const { clusters } = tcpRoutesFor(context, service, port);
      if (clusters.length > 0) answer[`tcp ${where}`] = clusters.map(({ name, weight }) => ({ name, weight }));
      for (const each of namedTcpRoutesFor(context, service, port)) {
        answer[`tls ${where} ${each.serverNames.join()}`] = each.clusters.map(({ name, weight }) => ({ name, weight }));
      }
    }
  }
  return answer;
}

const cases = readdirSync(folder)
  .filter((name) => name.endsWith(".yaml") && name !== "base.yaml")
  .sort();

test.each(cases)("%s", (name) => {
  const answer = routesOf(contextOf([...readObjects("base.yaml"), ...readObjects(name)]));
  const file = join(folder, `${basename(name, ".yaml")}.json`);
  if (process.env["UPDATE_GOLDEN"] !== undefined) writeFileSync(file, `${JSON.stringify(answer, undefined, 2)}\n`);
  expect(answer).toEqual(JSON.parse(readFileSync(file, "utf8")));
});
