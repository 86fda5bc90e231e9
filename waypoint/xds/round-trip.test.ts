/** What is decoded is encoded again byte for byte, fields of newer senders included: nothing is lost on the way to a dump. */
import { readdirSync, readFileSync } from "node:fs";
import {
  fromBinary,
  fromJson,
  isMessage,
  toBinary,
  type DescMessage,
  type JsonObject,
  type Message,
} from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { expect, test } from "@jest/globals";
import { ClusterSchema } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { anyTypes } from "./any-types.ts";

const golden = new URL("../../controlplane/translate/testdata/envoy/", import.meta.url);
const schemas: Readonly<Record<string, DescMessage>> = {
  listeners: ListenerSchema,
  clusters: ClusterSchema,
  endpoints: ClusterLoadAssignmentSchema,
};

function resources(file: string): readonly (readonly [DescMessage, Message])[] {
  const lists = JSON.parse(readFileSync(new URL(file, golden), "utf8")) as Record<string, readonly JsonObject[]>;
  return Object.entries(schemas).flatMap(([kind, schema]) =>
    (lists[kind] ?? []).map((json) => [schema, fromJson(schema, json, { registry: anyTypes })] as const),
  );
}

/** Of no message of Envoy's. */
const newer = { no: 60_001, wireType: WireType.LengthDelimited, data: Uint8Array.of(3, 1, 2, 3) };

/** Says something new in a message and in each one within; in how many. */
function sayNew(value: unknown): number {
  if (Array.isArray(value)) return value.reduce((sum: number, each) => sum + sayNew(each), 0);
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return 0;
  const inner = Object.entries(value).reduce((sum, [name, each]) => sum + (name.startsWith("$") ? 0 : sayNew(each)), 0);
  if (!isMessage(value)) return inner;
  value.$unknown = [newer];
  return inner + 1;
}

const countNew = (bytes: Uint8Array): number => Buffer.from(bytes).toString("hex").split("8aa61d03010203").length - 1;

test.each(readdirSync(golden).filter((name) => name.endsWith(".json")))("%s", (file) => {
  const all = resources(file);
  expect(all.length).toBeGreaterThanOrEqual(3);
  for (const [schema, message] of all) {
    const plain = toBinary(schema, message);
    expect(Buffer.from(toBinary(schema, fromBinary(schema, plain))).equals(plain)).toBe(true);
    const said = sayNew(message);
    const extended = toBinary(schema, message);
    expect(countNew(extended)).toBe(said);
    expect(Buffer.from(toBinary(schema, fromBinary(schema, extended))).equals(extended)).toBe(true);
  }
});
