/** Route objects as users write them, with the routes that a waypoint is told for them. */
import { join } from "node:path";
import { createRegistry, toJson } from "@bufbuild/protobuf";
import { test } from "@jest/globals";
import { RouteSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { CorsPolicySchema } from "#shared/proto/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { HTTPFaultSchema } from "#shared/proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { PreviousHostsPredicateSchema } from "#shared/proto/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { PreviousPrioritiesConfigSchema } from "#shared/proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { clusterOf } from "../cluster-names.ts";
import type { Destination, EnvoyContext } from "../context.ts";
import { casesIn, contextOf, expectGolden, objectsIn } from "../golden-cases.ts";
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

/** Only ports for which somebody has written something. */
function routesOf(context: EnvoyContext): unknown {
  const answer: Record<string, unknown> = {};
  const named = (each: Destination): string => clusterOf(context, each.service, each.port, each.protocol, each.subset);
  for (const service of context.served) {
    for (const port of service.ports) {
      const { routes, leavesRest, destinations } = httpRoutesFor(context, service, port);
      const where = `${service.hostname}:${port.port}`;
      if (routes.length > 0) {
        answer[`http ${where}`] = {
          routes: routes.map((route) => toJson(RouteSchema, route, { registry })),
          ...(leavesRest ? { leavesRest } : {}),
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

test.each(casesIn(folder))("%s", (name) => {
  expectGolden(folder, name, routesOf(contextOf([...objectsIn(folder, "base"), ...objectsIn(folder, name)])));
});
