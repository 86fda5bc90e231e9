/** Policies as users write them, with the filters that a waypoint is told for them. */
import { join } from "node:path";
import { create, createRegistry, toJson } from "@bufbuild/protobuf";
import { test } from "@jest/globals";
import { FilterSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { ExtAuthzSchema } from "#shared/proto/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { JwtAuthenticationSchema } from "#shared/proto/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { RBACSchema } from "#shared/proto/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { ExtAuthzSchema as NetworkExtAuthzSchema } from "#shared/proto/gen/envoy/extensions/filters/network/ext_authz/v3/ext_authz_pb.js";
import { HttpFilterSchema } from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { RBACSchema as NetworkRbacSchema } from "#shared/proto/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import { UriTemplateMatchConfigSchema } from "#shared/proto/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { TypedStructSchema } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";
import { clusterOf } from "#controlplane/translate/envoy/cluster-names.ts";
import type { EnvoyContext } from "#controlplane/translate/envoy/context.ts";
import { casesIn, contextOf, expectGolden, objectsIn } from "#controlplane/translate/envoy/golden-cases.ts";
import { inspection } from "#controlplane/translate/protocol.ts";
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

test.each(casesIn(folder))("%s", (name) => {
  expectGolden(folder, name, filtersOf(contextOf([...objectsIn(folder, "base"), ...objectsIn(folder, name)])));
});
