import { create } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "@jest/globals";
import { CircuitBreakers_Thresholds_RetryBudgetSchema as RetryBudgetSchema } from "#shared/proto/gen/envoy/config/cluster/v3/circuit_breaker_pb.js";
import { HttpProtocolOptionsSchema } from "#shared/proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { decodeErrorStatuses } from "#shared/xds/error-statuses.ts";
import { readDestinationRule } from "#controlplane/mesh/destination-rule.ts";
import { Field } from "#controlplane/mesh/field.ts";
import { defaultMeshConfig } from "#controlplane/mesh/mesh-config.ts";
import { connecting, httpProtocol, limits, upstreamVersion } from "./cluster-policy.ts";
import { noPolicy } from "./destination-rules.ts";

const policyOf = (trafficPolicy: object) => ({
  ...noPolicy,
  ...readDestinationRule(new Field({ host: "a", trafficPolicy })).policy,
});
const poolOf = (connectionPool: object) => policyOf({ connectionPool }).connectionPool;

// prettier-ignore
test.each([ // protocol of the port, settings of the rule, of the mesh: what is spoken upstream
  ["http",        {},                                                     false, "http1"],
  ["http",        {},                                                     true,  "http2"],
  ["http",        { h2UpgradePolicy: "DO_NOT_UPGRADE" },                  true,  "http1"],
  ["http",        { h2UpgradePolicy: "UPGRADE" },                         false, "http2"],
  ["http",        { h2UpgradePolicy: "UPGRADE", useClientProtocol: true }, false, "downstream"],
  ["http",        { useClientProtocol: true },                            true,  "downstream"],
  ["grpc",        {},                                                     false, "http2"],
  ["grpc",        { h2UpgradePolicy: "DO_NOT_UPGRADE" },                  false, "http2"],
  ["grpc",        { useClientProtocol: true },                            false, "downstream"],
  ["unsupported", {},                                                     false, "downstream"],
  ["unsupported", {},                                                     true,  "downstream"],
  ["unsupported", { h2UpgradePolicy: "UPGRADE" },                         false, "http2"],
] as const)("port %s, rule %j, mesh upgrades %s: %s", (protocol, http, h2Upgrade, expected) => {
  expect(upstreamVersion(protocol, poolOf({ http }), { ...defaultMeshConfig, h2Upgrade })).toBe(expected);
});

describe("keepalive", () => {
  const mesh = { ...defaultMeshConfig, tcpKeepalive: { probes: 3, timeMs: 10_000, intervalMs: 5000 } };
  test.each([
    [undefined, { keepaliveProbes: 3, keepaliveTime: 10, keepaliveInterval: 5 }],
    [{ time: "7s" }, { keepaliveProbes: 3, keepaliveTime: 7, keepaliveInterval: 5 }],
    [
      { probes: 9, interval: "1s" },
      { keepaliveProbes: 9, keepaliveTime: 10, keepaliveInterval: 1 },
    ],
  ])("what the rule leaves out is as in the mesh: %j", (tcpKeepalive, expected) => {
    const pool = poolOf({ tcp: tcpKeepalive === undefined ? {} : { tcpKeepalive } });
    expect(connecting(pool, mesh).upstreamConnectionOptions).toEqual({ tcpKeepalive: expected });
  });

  test("nobody says anything", () => {
    expect(connecting(undefined, defaultMeshConfig).upstreamConnectionOptions).toBeUndefined();
  });
});

describe("retry budgets", () => {
  const budgetOf = (retryBudget: object) => {
    const [threshold] = limits(policyOf({ retryBudget }))?.thresholds ?? [];
    const { budgetPercent, minRetryConcurrency, $unknown } = create(RetryBudgetSchema, threshold?.retryBudget);
    return {
      percent: budgetPercent?.value,
      least: minRetryConcurrency,
      newer: $unknown?.map(({ no, data }) => [no, ...data]),
    };
  };
  test.each([
    [{}, { percent: 20, least: 3 }],
    [
      { percent: 0, minRetryConcurrency: 0 },
      { percent: 0, least: 3 },
    ],
    [
      { percent: 50.5, minRetryConcurrency: 9 },
      { percent: 50.5, least: 9 },
    ],
    [{ budgetInterval: "0s" }, { percent: 20, least: 3 }],
    // Field 3: a Duration of two bytes, whose field 1 is 10.
    [{ budgetInterval: "10s" }, { percent: 20, least: 3, newer: [[3, 2, 8, 10]] }],
  ])("%j", (written, expected) => {
    expect(budgetOf(written)).toEqual(expected);
  });
});

// prettier-ignore
test.each([ // written, what counts as an error
  [undefined,  undefined],
  [[],         undefined],
  [[429],      [429]],
  [[503, 500], [503, 500]],
])("outlierDetectionHttpErrorCodes %j", (outlierDetectionHttpErrorCodes, expected) => {
  const policy = policyOf({ outlierDetection: { outlierDetectionHttpErrorCodes } });
  const sni = { isAutomatic: false, verifiesHost: false };
  const [options] = Object.values(httpProtocol("http", policy, defaultMeshConfig, sni).typedExtensionProtocolOptions ?? {});
  const [newer] = anyUnpack(options as Any, HttpProtocolOptionsSchema)?.$unknown ?? [];
  const statuses = newer === undefined ? undefined : decodeErrorStatuses(new BinaryReader(newer.data).bytes());
  expect([newer?.no, statuses && [...statuses]]).toEqual([expected && 8, expected]);
});
