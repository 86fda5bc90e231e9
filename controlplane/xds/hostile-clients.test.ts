/** Clients that follow no rules: the server ends their streams, keeps little of them, and serves the others. */
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { once } from "node:events";
import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { ipToBytes, parseIp } from "#shared/net/ip.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { DeltaDiscoveryRequestSchema } from "#shared/proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import { AddressSchema } from "#shared/proto/gen/workload/workload_pb.js";
import { until } from "#shared/testing/loopback.ts";
import { DiscoveryServer } from "#shared/xds/discovery-server.ts";
import { deltaMethod, typeUrls } from "#shared/xds/type-urls.ts";
import { keyBound } from "#shared/xds/watch.ts";
import { AddressSource } from "./address-source.ts";
import { listenPlain, type GrpcListener } from "./grpc-listener.ts";

const mebibyte = 1024 * 1024;
const node = { id: "ztunnel~10.0.0.1~ztunnel-1.istio-system~istio-system.svc.cluster.local" };

let clock: FakeClock;
let server: DiscoveryServer;
let listener: GrpcListener;
let addresses: AddressSource;
const sessions: ClientHttp2Session[] = [];

beforeEach(async () => {
  clock = new FakeClock();
  addresses = new AddressSource();
  server = new DiscoveryServer({
    sources: [addresses],
    isSynced: () => true,
    clock,
    log: silentLogger,
    streamsPerSecond: Number.POSITIVE_INFINITY,
  });
  listener = await listenPlain({
    address: { host: "127.0.0.1", port: 0 },
    addServices: (grpc) => server.addTo(grpc, () => Promise.resolve({ checked: false })),
    log: silentLogger,
    maxConnectionAgeMs: 3_600_000,
  });
});

afterEach(async () => {
  for (const session of sessions.splice(0)) session.destroy();
  server[Symbol.dispose]();
  await listener[Symbol.asyncDispose]();
});

function dial(settings: { initialWindowSize?: number } = {}): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${listener.port}`, { settings });
  session.on("error", () => {});
  sessions.push(session);
  return session;
}

function openStream(session: ClientHttp2Session): ClientHttp2Stream {
  const stream = session.request({
    ":method": "POST",
    ":path": deltaMethod,
    "content-type": "application/grpc",
    te: "trailers",
  });
  return stream.on("error", () => {});
}

type Request = Exclude<MessageInitShape<typeof DeltaDiscoveryRequestSchema>, { readonly $typeName: string }>;
const encode = (request: Request) =>
  toBinary(
    DeltaDiscoveryRequestSchema,
    create(DeltaDiscoveryRequestSchema, { typeUrl: typeUrls.address, node, ...request }),
  );

/** One message as gRPC frames it. */
function framed(bytes: Uint8Array, length = bytes.length, compressed = 0): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(compressed, 0);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, bytes]);
}

/** However it comes: with an error or without. */
const closeOf = (stream: ClientHttp2Stream): Promise<void> =>
  stream.closed ? Promise.resolve() : new Promise((resolve) => stream.once("close", () => resolve()));

/** The gRPC status that a stream ends with; undefined where it is cut off without one. */
async function endOf(stream: ClientHttp2Stream): Promise<number | undefined> {
  let code: number | undefined;
  const read = (headers: Record<string, unknown>) => {
    if (headers["grpc-status"] !== undefined) code = Number(headers["grpc-status"]);
  };
  stream.on("response", read).on("trailers", read).resume();
  stream.once("end", () => stream.end()); // gRPC's server waits for the client's own goodbye
  await closeOf(stream);
  return code;
}

async function expectServed(): Promise<void> {
  const stream = openStream(dial());
  stream.write(framed(encode({})));
  const [answer] = (await once(stream, "data")) as [Buffer];
  expect(answer.length).toBeGreaterThan(5);
  stream.close();
}

const names = (count: number) =>
  Array.from({ length: count }, (_, at) => `cluster/10.${at >> 16}.${(at >> 8) & 255}.${at & 255}`);

// prettier-ignore
test.each<readonly [string, Buffer]>([
  ["no protobuf",                        framed(Buffer.alloc(1_000, 0xff))],
  ["a field longer than the message",            framed(Buffer.from([0x0a, 0xff, 0xff, 0xff, 0x7f]))],
  ["groups nested without end",          framed(Buffer.alloc(100_000, 0x0b))],
  ["a message longer than allowed",      framed(Buffer.alloc(100), 0xffff_ffff)],
  ["what claims to be compressed",       framed(Buffer.alloc(100), 100, 1)],
  ["an unknown kind of compression",     framed(Buffer.alloc(100), 100, 7)],
  ["no node",                            framed(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, { typeUrl: typeUrls.address })))],
  ["a node id of a megabyte",            framed(encode({ node: { id: "x".repeat(mebibyte) } }))],
  ["metadata of a megabyte",             framed(encode({ node: { ...node, metadata: { LABELS: "x".repeat(mebibyte) } } }))],
  ["a node of lines and escapes",        framed(encode({ node: { id: "ztunnel~10.0.0.1\n~\u001b[2J.b~c" } }))],
  ["more names at once than are kept",   framed(encode({ resourceNamesSubscribe: names(keyBound + 1) }))],
])("a first request of %s ends the stream with an error", async (_what, bytes) => {
  const stream = openStream(dial());
  const ended = endOf(stream);
  stream.write(bytes);
  const code = await ended;
  expect(code).toBeDefined();
  expect(code).not.toBe(status.OK);
  expect(server.clients()).toEqual([]);
  await expectServed();
});

test("what a client says of a refusal is kept in bounded length", async () => {
  const stream = openStream(dial());
  stream.write(framed(encode({})));
  await once(stream, "data");
  stream.write(framed(encode({ responseNonce: "x".repeat(mebibyte), errorDetail: { message: "y".repeat(mebibyte) } })));
  await until(() => server.clients()[0]?.types[0]?.lastError !== undefined, "the refusal is known");
  expect(JSON.stringify(server.clients()).length).toBeLessThan(8_192);
});

test("types that are not served cost nothing", async () => {
  const stream = openStream(dial());
  for (let at = 0; at < 500; at++)
    stream.write(framed(encode({ typeUrl: `type.googleapis.com/${at}`, resourceNamesSubscribe: names(100) })));
  stream.write(framed(encode({})));
  await once(stream, "data");
  expect(server.clients()[0]?.types).toHaveLength(1);
});

test("a client that takes no response loses its stream, and what was written for it", async () => {
  const filler = "f".repeat(1_000);
  addresses.stage(
    Array.from({ length: 5_000 }, (_, at) =>
      create(AddressSchema, {
        type: {
          case: "workload",
          value: {
            uid: `Kubernetes//Pod/ns/${at}`,
            name: `${at}${filler}`,
            addresses: [ipToBytes(parseIp(`10.1.${at >> 8}.${at & 255}`))],
          },
        },
      }),
    ),
  )();
  const session = dial({ initialWindowSize: 0 });
  const streams = Array.from({ length: 20 }, () => openStream(session));
  const ended = streams.map(closeOf);
  // Some have said goodbye already, which must not keep what they do not take.
  for (const [at, stream] of streams.entries()) {
    stream.write(framed(encode({})));
    if (at % 2 === 1) stream.once("response", () => stream.end());
  }
  await Promise.all(streams.map((stream) => once(stream, "response")));
  await until(() => server.clients().length === streams.length / 2, "half have gone, the others wait");
  await clock.advance(61_000);
  await Promise.all(ended);
  await until(() => server.clients().length === 0, "the others have gone too");
  expect(streams.every(({ rstCode }) => rstCode !== constants.NGHTTP2_NO_ERROR)).toBe(true);
  await expectServed();
});

describe("a thousand streams that say nothing", () => {
  test("are let go after half a minute, and one more than allowed is refused", async () => {
    const session = dial();
    await once(session, "remoteSettings");
    const streams = Array.from({ length: 1_000 }, () => openStream(session));
    const ended = Promise.all(streams.map(endOf));
    await expectServed();
    await until(() => streams.every(({ pending }) => !pending), "all are open");
    await new Promise((resolve) => session.ping(resolve)); // all have arrived
    await clock.advance(31_000);
    expect(new Set(await ended)).toEqual(new Set([status.DEADLINE_EXCEEDED]));
  });
});
