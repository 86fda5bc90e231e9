/** Policies as users write them, with the filters that a waypoint is told for them. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { create, createRegistry, toJson } from "@bufbuild/protobuf";
import { expect, test } from "@jest/globals";
import { parseAllDocuments } from "yaml";
import { FilterSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { ExtAuthzSchema } from "#shared/proto/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { JwtAuthenticationSchema } from "#shared/proto/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { RBACSchema } from "#shared/proto/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { ExtAuthzSchema as NetworkExtAuthzSchema } from "#shared/proto/gen/envoy/extensions/filters/network/ext_authz/v3/ext_authz_pb.js";
import { HttpFilterSchema } from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { RBACSchema as NetworkRbacSchema } from "#shared/proto/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import { UriTemplateMatchConfigSchema } from "#shared/proto/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { TypedStructSchema } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { checkObject } from "#controlplane/schema/validate.ts";
import { clusterOf } from "#controlplane/translate/envoy/cluster-names.ts";
import type { EnvoyContext } from "#controlplane/translate/envoy/context.ts";
import { envoyContext, proxyFacts } from "#controlplane/translate/envoy/view.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { inspection } from "#controlplane/translate/protocol.ts";
import { translate } from "#controlplane/translate/translate.ts";
import {
  httpSecurityFilters,
  networkSecurityFilters,
  securityDestinations,
  type SecurityTargets,
} from "./security-filters.ts";

const folder = join(import.meta.dirname, "../../testdata/envoy/security");
const registry = createRegistry(
  ExtAuthzSchema,
  JwtAuthenticationSchema,
  RBACSchema,
  NetworkExtAuthzSchema,
  NetworkRbacSchema,
  UriTemplateMatchConfigSchema,
  TypedStructSchema,
);

const readObjects = (name: string): readonly KubeObject[] =>
  parseAllDocuments(readFileSync(join(folder, name), "utf8")).map((document) => document.toJS() as KubeObject);

function contextOf(objects: readonly KubeObject[]): EnvoyContext {
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
  return envoyContext(collected, waypoint, proxyFacts(world, "", instance));
}

function filtersOf(context: EnvoyContext): unknown {
  const answer: Record<string, unknown> = {};
  const add = (name: string, targets: SecurityTargets, hasTcp: boolean): void => {
    const http = httpSecurityFilters(context, targets);
    const tcp = hasTcp ? networkSecurityFilters(context, targets) : [];
    const destinations = securityDestinations(context, targets);
    if (http.length + tcp.length === 0) return;
    answer[name] = {
      http: http.map((each) => toJson(HttpFilterSchema, create(HttpFilterSchema, each), { registry })),
      ...(tcp.length === 0
        ? {}
        : { tcp: tcp.map((each) => toJson(FilterSchema, create(FilterSchema, each), { registry })) }),
      ...(destinations.length === 0
        ? {}
        : {
            clusters: destinations.map(({ service, port, protocol, subset }) =>
              clusterOf(context, service, port, protocol, subset),
            ),
          }),
    };
  };
  for (const service of context.served) {
    add(
      service.hostname,
      { service },
      service.ports.some(({ protocol }) => inspection(protocol) !== "http"),
    );
  }
  add("workloads", { service: undefined }, true);
  return answer;
}

const cases = readdirSync(folder)
  .filter((name) => name.endsWith(".yaml") && name !== "base.yaml")
  .sort();

test.each(cases)("%s", (name) => {
  const answer = filtersOf(contextOf([...readObjects("base.yaml"), ...readObjects(name)]));
  const file = join(folder, `${basename(name, ".yaml")}.json`);
  if (process.env["UPDATE_GOLDEN"] !== undefined) writeFileSync(file, `${JSON.stringify(answer, undefined, 2)}\n`);
  expect(answer).toEqual(JSON.parse(readFileSync(file, "utf8")));
});
