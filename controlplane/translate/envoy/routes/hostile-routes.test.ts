/** Whatever stands in a route object, routes can be made and sent; and many objects take no more than their time. */
import { join } from "node:path";
import { toBinary } from "@bufbuild/protobuf";
import { expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { RouteSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { damaged } from "#controlplane/translate/damage.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { object, service } from "#controlplane/translate/small-world.ts";
import { translate } from "#controlplane/translate/translate.ts";
import { casesIn, objectsIn } from "../golden-cases.ts";
import { envoyContext, proxyFacts } from "../view.ts";
import { httpRoutesFor } from "./routes-for.ts";
import { tcpRoutesFor } from "./tcp-routes.ts";

const folder = join(import.meta.dirname, "../../testdata/envoy/routes");
const base = objectsIn(folder, "base");

/** Makes all routes of the waypoint, as bytes; how many. */
function routesOf(objects: readonly KubeObject[]): number {
  const world = new World();
  for (const each of withApiDefaults([...base, ...objects].map((written) => ({ object: written })))) world.upsert(each);
  const { collected } = translate(world, defaultOptions);
  const waypoint = collected.waypoints.get("shop", "waypoint");
  if (waypoint === undefined) throw new Error("the base has no waypoint");
  const instance = { namespace: "shop", name: "waypoint-1", node: "node-1", ips: [] };
  const context = envoyContext(collected, waypoint, proxyFacts(world, "", instance));
  let count = 0;
  for (const each of context.served) {
    for (const port of each.ports) {
      for (const route of httpRoutesFor(context, each, port).routes) {
        toBinary(RouteSchema, route);
        count++;
      }
      count += tcpRoutesFor(context, each, port).clusters.length;
    }
  }
  return count;
}

test.each(casesIn(folder))("junk in %s", (name) => {
  const objects = objectsIn(folder, name).filter(({ spec }) => typeof spec === "object");
  fc.assert(
    fc.property(
      fc
        .constantFrom(...objects.keys())
        .chain((index) => damaged(objects[index] ?? {}, "spec").map((broken) => [index, broken] as const)),
      ([index, broken]) => {
        routesOf(objects.with(index, broken));
      },
    ),
    { numRuns: 15 },
  );
});

test("a thousand services with routes of their own", () => {
  const names = Array.from({ length: 1000 }, (_, index) => `svc-${index}`);
  const to = (name: string) => [{ destination: { host: name } }];
  const objects = names.flatMap((name) => [
    service(`shop/${name}`, { clusterIP: "" }),
    object("networking.istio.io/v1", "VirtualService", `shop/${name}`, {
      spec: { hosts: [name], http: [{ match: [{ uri: { prefix: "/a" } }], route: to(name) }, { route: to(name) }] },
    }),
    object("gateway.networking.k8s.io/v1", "HTTPRoute", `shop/${name}`, {
      spec: {
        parentRefs: [{ group: "", kind: "Service", name }],
        rules: [{ backendRefs: [{ name, port: 80 }] }],
      },
    }),
  ]);
  const startedMs = process.cpuUsage().user / 1000;
  expect(routesOf(objects)).toBe(2000);
  // Half a second on a slow core; a quadratic loop takes many times that.
  expect(process.cpuUsage().user / 1000 - startedMs).toBeLessThan(5000);
});
