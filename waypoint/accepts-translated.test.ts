import { expect, test } from "@jest/globals";
import { readdirSync, readFileSync } from "node:fs";
import { fromJson, toBinary, type DescMessage, type JsonObject } from "@bufbuild/protobuf";
import { systemClock } from "#shared/clock/clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { ClusterSchema } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { ListenerSet } from "./ingress/listener-set.ts";
import { layerKinds, networkLayerKinds } from "./layers/registry.ts";
import { noFacts } from "./layers/testing.ts";
import { noTelemetry } from "./telemetry/telemetry-kinds.ts";
import { ClusterSet } from "./upstream/cluster-set.ts";
import { anyTypes } from "./xds/any-types.ts";

/** What the control plane is tested to make of Istio's objects: the contract between the two, as files. */
const golden = new URL("../controlplane/translate/testdata/envoy/", import.meta.url);

interface Translated {
  readonly listeners: readonly (JsonObject & { readonly name: string })[];
  readonly clusters: readonly JsonObject[];
  readonly endpoints: readonly JsonObject[];
}

const files = readdirSync(golden).filter((name) => name.endsWith(".json"));

test.each(files)("a waypoint accepts all of %s", (file) => {
  const translated = JSON.parse(readFileSync(new URL(file, golden), "utf8")) as Translated;
  using clusters = new ClusterSet({
    clock: systemClock,
    log: silentLogger,
    isTunnelled: () => false,
    makePool: () => {
      throw new TypeError("nobody connects");
    },
  });
  const resource = (schema: DescMessage, json: JsonObject, name: unknown) => ({
    name: String(name),
    version: "1",
    aliases: [],
    value: toBinary(schema, fromJson(schema, json, { registry: anyTypes })),
  });
  const staged = translated.clusters.map((json) => resource(ClusterSchema, json, json["name"]));
  expect(clusters.stageClusters(staged, [])).toEqual([]);
  const assigned = translated.endpoints.map((json) => resource(ClusterLoadAssignmentSchema, json, json["clusterName"]));
  expect(clusters.applyAssignments(assigned, [])).toEqual([]);
  const listeners = new ListenerSet({
    clock: systemClock,
    log: silentLogger,
    drainMs: 0,
    context: {
      clock: systemClock,
      log: silentLogger,
      clusters,
      random: Math.random,
      facts: noFacts,
      layerKinds,
      networkLayerKinds,
      telemetry: noTelemetry,
    },
  });
  const problems = translated.listeners.flatMap((json) =>
    listeners.apply(json.name, fromJson(ListenerSchema, { ...json, bindToPort: false }, { registry: anyTypes })),
  );
  expect(problems).toEqual([]);
});
