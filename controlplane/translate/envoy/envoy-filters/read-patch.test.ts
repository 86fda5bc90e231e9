import { describe, expect, test } from "@jest/globals";
import type { JsonObject } from "@bufbuild/protobuf";
import type { ConfigPatch } from "#controlplane/mesh/envoy-filter.ts";
import { PatchProblem, readPatch } from "./read-patch.ts";

const type = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const limit: JsonObject = { "@type": type, stat_prefix: "x" };
const filter: JsonObject = { name: "envoy.filters.http.local_ratelimit", typed_config: limit };
const perFilter: JsonObject = { typed_per_filter_config: { "envoy.filters.http.local_ratelimit": limit } };

const aPatch = (patch: Partial<ConfigPatch>): ConfigPatch => ({
  applyTo: "HTTP_FILTER",
  operation: "INSERT_BEFORE",
  match: {},
  value: filter,
  ...patch,
});

describe("understood", () => {
  test.each<[string, Partial<ConfigPatch>, object]>([
    ["a filter before the first", {}, { kind: "filter", before: undefined, port: undefined }],
    ["a filter at the beginning", { operation: "INSERT_FIRST" }, { before: undefined }],
    [
      "a filter before another, on one port",
      {
        match: {
          context: "SIDECAR_INBOUND",
          listener: { portNumber: 80, filterChain: { filter: { subFilter: { name: "envoy.filters.http.router" } } } },
        },
      },
      { before: "envoy.filters.http.router", port: 80 },
    ],
    ["the context of waypoints", { match: { context: "WAYPOINT", waypoint: { portNumber: 81 } } }, { port: 81 }],
    [
      "a struct that stands for the message",
      {
        value: {
          name: "limit",
          typedConfig: {
            "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            type_url: type,
            value: { statPrefix: "y" },
          },
        },
      },
      { name: "limit", config: expect.objectContaining({ statPrefix: "y" }) as unknown },
    ],
    [
      "limits of a virtual host",
      { applyTo: "VIRTUAL_HOST", operation: "MERGE", value: perFilter },
      { kind: "route", route: undefined, virtualHost: undefined },
    ],
    [
      "limits of a route",
      {
        applyTo: "HTTP_ROUTE",
        operation: "MERGE",
        match: { routeConfiguration: { vhost: { name: "inbound|http|80", route: { name: "r" } } } },
        value: { ...perFilter, route: { rate_limits: [{ actions: [{ generic_key: { descriptor_value: "v" } }] }] } },
      },
      {
        virtualHost: "inbound|http|80",
        route: { name: "r" },
        actions: [expect.objectContaining({ $typeName: "envoy.config.route.v3.RateLimit" }) as unknown],
      },
    ],
  ])("%s", (_what, patch, expected) => {
    expect(readPatch(aPatch(patch))).toMatchObject(expected);
  });
});

describe("not understood, and said so", () => {
  test.each<[string, Partial<ConfigPatch>, RegExp]>([
    ["clients' sidecars", { match: { context: "SIDECAR_OUTBOUND" } }, /SIDECAR_OUTBOUND is no waypoint's/],
    ["gateways", { match: { context: "GATEWAY" } }, /GATEWAY is no waypoint's/],
    [
      "another filter",
      { value: { name: "lua", typed_config: { "@type": "x/Lua" } } },
      /of lua is not supported: .*Virtual/,
    ],
    ["a filter without its configuration", { value: { name: "x" } }, /of x is not supported/],
    ["another operation", { operation: "REMOVE" }, /HTTP_FILTER REMOVE is not supported/],
    ["clusters", { applyTo: "CLUSTER", operation: "MERGE" }, /CLUSTER MERGE .* DestinationRule/],
    ["processes", { applyTo: "BOOTSTRAP", operation: "MERGE" }, /environment variables/],
    ["unknown fields", { value: { ...filter, typed_config: { ...limit, nonsense: 1 } } }, /cannot be read: .*nonsense/],
    [
      "headers of a virtual host",
      { applyTo: "VIRTUAL_HOST", operation: "MERGE", value: { request_headers_to_add: [] } },
      /request_headers_to_add is not supported/,
    ],
    [
      "timeouts of a route",
      { applyTo: "HTTP_ROUTE", operation: "MERGE", value: { route: { timeout: "1s" } } },
      /route\.timeout is not supported/,
    ],
    [
      "other configuration of a route",
      { applyTo: "HTTP_ROUTE", operation: "MERGE", value: { typed_per_filter_config: { lua: { "@type": "x/Lua" } } } },
      /configuration for lua is not supported/,
    ],
  ])("%s", (_what, patch, why) => {
    expect(() => readPatch(aPatch(patch))).toThrow(PatchProblem);
    expect(() => readPatch(aPatch(patch))).toThrow(why);
  });
});
