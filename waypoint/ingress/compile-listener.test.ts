import { expect, test } from "@jest/globals";
import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { ListenerSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { layerKinds, networkLayerKinds } from "#waypoint/layers/registry.ts";
import { noFacts } from "#waypoint/layers/testing.ts";
import { clustersOf } from "#waypoint/routing/testing.ts";
import { noTelemetry } from "#waypoint/telemetry/telemetry-kinds.ts";
import { httpFilter, listener, routeTo, tcpFilter, typed } from "#waypoint/testing/resources.ts";
import { anyTypes } from "#waypoint/xds/any-types.ts";
import { compileListener } from "./compile-listener.ts";
import type { CompiledListener } from "./compiled-listener.ts";

function compile(chains: readonly JsonObject[], before?: CompiledListener, more: JsonObject = {}): CompiledListener {
  const problems: string[] = [];
  const message = fromJson(ListenerSchema, listener("l", chains, more), { registry: anyTypes });
  const compiled = compileListener(
    message,
    {
      clock: new FakeClock(),
      log: silentLogger,
      clusters: clustersOf(),
      random: () => 0,
      facts: noFacts,
      layerKinds,
      networkLayerKinds,
      telemetry: noTelemetry,
      problem: (path, why) => void problems.push(`${path}: ${why}`),
      skipped: () => {},
    },
    before,
  );
  expect(problems).toEqual([]);
  return compiled;
}

const chain = (port: number, filter: JsonObject) => ({
  name: `chain ${port}`,
  filter_chain_match: { destination_port: port },
  filters: [filter],
});
const optional = { ...typed("who knows", "xds.type.v3.TypedStruct", { type_url: "a.b/none.Such" }), is_optional: true };
const router = typed("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router");

test("a chain whose configuration has not changed is taken over, wherever it stands", () => {
  const http = chain(80, httpFilter([routeTo("a")], { http_filters: [optional, router] }));
  const before = compile([http, chain(81, tcpFilter("b"))]);
  expect(before.skipped).toHaveLength(1);

  const after = compile([chain(81, tcpFilter("c")), http, chain(82, tcpFilter("d"))], before);
  expect(after.chains.get("chain 80")).toBe(before.chains.get("chain 80"));
  expect(after.chains.get("chain 81")).not.toBe(before.chains.get("chain 81"));
  expect([...after.chains.keys()]).toEqual(["chain 81", "chain 80", "chain 82"]);
  expect(after.skipped).toEqual(before.skipped);

  const other = compile([http], after, { per_connection_buffer_limit_bytes: 1024 });
  expect(other.chains.get("chain 80")).not.toBe(before.chains.get("chain 80"));
});

test("a chain that cannot be compiled leaves the last good one, which is taken over when its configuration comes back", () => {
  const before = compile([chain(80, tcpFilter("a"))]);
  const wrong = compile([chain(80, tcpFilter(""))], before);
  expect(wrong.broken.get("chain 80")).toHaveLength(1);
  expect(wrong.chains.get("chain 80")).toBe(before.chains.get("chain 80"));
  const again = compile([chain(80, tcpFilter("a"))], wrong);
  expect(again.broken.size).toBe(0);
  expect(again.chains.get("chain 80")).toBe(before.chains.get("chain 80"));
});
