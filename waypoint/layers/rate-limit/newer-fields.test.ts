import { describe, expect, test } from "@jest/globals";
import { create, fromJson, toBinary, type JsonObject } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { anyPack, UInt32ValueSchema } from "@bufbuild/protobuf/wkt";
import { RateLimitSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { LocalRateLimitSchema } from "#shared/proto/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import type { LocalReply } from "#waypoint/http/exchange.ts";
import { aContext, anExchange, noBody } from "#waypoint/layers/testing.ts";
import { localRateLimitLayer } from "./local-rate-limit.ts";

const all = { default_value: { numerator: 100 } };
const bucket = (max: number) => ({ max_tokens: max, tokens_per_fill: max, fill_interval: "3600s" });
const message = (no: number, bytes: Uint8Array) => ({
  no,
  wireType: WireType.LengthDelimited,
  data: new BinaryWriter().bytes(bytes).finish(),
});
const byUser = (): Uint8Array =>
  toBinary(
    RateLimitSchema,
    fromJson(RateLimitSchema, { actions: [{ request_headers: { header_name: "x-user", descriptor_key: "user" } }] }),
  );

interface Newer {
  readonly actions?: Uint8Array;
  readonly maxDynamic?: number;
  readonly isShadow?: boolean;
}

function layerOf(config: JsonObject, { actions, maxDynamic, isShadow }: Newer) {
  const limit = fromJson(LocalRateLimitSchema, {
    stat_prefix: "test",
    filter_enabled: all,
    filter_enforced: all,
    token_bucket: bucket(100),
    ...config,
  });
  limit.$unknown = [
    ...(actions === undefined ? [] : [message(17, actions)]),
    ...(maxDynamic === undefined
      ? []
      : [message(18, toBinary(UInt32ValueSchema, create(UInt32ValueSchema, { value: maxDynamic })))]),
  ];
  const [descriptor] = limit.descriptors;
  if (isShadow === true && descriptor !== undefined) {
    descriptor.$unknown = [{ no: 3, wireType: WireType.Varint, data: Uint8Array.of(1) }];
  }
  const context = aContext();
  const layer = localRateLimitLayer.compile("local", anyPack(LocalRateLimitSchema, limit), context);
  const ask = (user: string) =>
    (layer?.onRequest?.(anExchange({ headers: ["x-user", user] }), noBody) as LocalReply | undefined)?.status ?? 200;
  return { ask, problems: context.problems };
}

const wildcard = { descriptors: [{ entries: [{ key: "user", value: "" }], token_bucket: bucket(1) }] };

describe("rate_limits of the filter itself", () => {
  test("make descriptors without any route's help", () => {
    const { ask, problems } = layerOf(wildcard, { actions: byUser() });
    expect(problems).toEqual([]);
    expect([ask("ann"), ask("ben"), ask("ann"), ask("ben")]).toEqual([200, 200, 429, 429]);
  });

  test("that cannot be read are told", () => {
    expect(layerOf(wildcard, { actions: Uint8Array.of(0xff) }).problems[0]).toMatch(/^rate_limits: cannot be read/);
  });
});

test("max_dynamic_descriptors: the value longest unused is forgotten", () => {
  const { ask, problems } = layerOf(wildcard, { actions: byUser(), maxDynamic: 1 });
  expect(problems).toEqual([]);
  expect([ask("ann"), ask("ann"), ask("ben"), ask("ann")]).toEqual([200, 429, 200, 200]);
  expect(layerOf(wildcard, { maxDynamic: 0 }).problems[0]).toMatch(/^max_dynamic_descriptors: 0 is not in/);
});

test("shadow_mode: what a descriptor would refuse passes", () => {
  const { ask, problems } = layerOf(wildcard, { actions: byUser(), isShadow: true });
  expect(problems).toEqual([]);
  expect([ask("ann"), ask("ann"), ask("ann")]).toEqual([200, 200, 200]);
});
