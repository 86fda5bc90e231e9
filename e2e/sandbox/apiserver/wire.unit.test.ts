import { Duplex } from "node:stream";
import { constants, createDeflate } from "node:zlib";
import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { ApiError } from "./api-error.ts";
import { decodeProtobufBody } from "./protobuf-body.ts";
import { SpdyConnection, type SpdyStream } from "./spdy.ts";
import { spdyDictionary } from "./spdy-dictionary.ts";

const field = (number: number, value: string | Buffer): Buffer =>
  Buffer.concat([Buffer.from([(number << 3) | 2]), length(Buffer.from(value).length), Buffer.from(value)]);
const varint = (number: number, value: number): Buffer => Buffer.concat([Buffer.from([number << 3]), length(value)]);
const length = (value: number): Buffer =>
  value < 128 ? Buffer.from([value]) : Buffer.from([(value & 0x7f) | 0x80, value >> 7]);
const body = (apiVersion: string, kind: string, raw: Buffer): Buffer =>
  Buffer.concat([Buffer.from("k8s\0"), field(1, Buffer.concat([field(1, apiVersion), field(2, kind)])), field(2, raw)]);

describe("protobuf bodies", () => {
  test("become the JSON form, without Go's zero values", () => {
    const metadata = Buffer.concat([
      field(1, "web"),
      field(2, ""),
      field(8, Buffer.alloc(0)),
      field(11, Buffer.concat([field(1, "app"), field(2, "web")])),
    ]);
    const port = Buffer.concat([
      field(1, "http"),
      field(2, ""),
      varint(3, 80),
      field(4, Buffer.concat([varint(1, 1), field(3, "web")])),
      varint(5, 0),
    ]);
    expect(
      decodeProtobufBody(body("v1", "Service", Buffer.concat([field(1, metadata), field(2, field(1, port))]))),
    ).toEqual({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web", labels: { app: "web" } },
      spec: { ports: [{ name: "http", port: 80, targetPort: "web" }] },
    });
  });

  test("keep a zero that a pointer says was meant", () => {
    const spec = Buffer.concat([varint(1, 0)]);
    expect(decodeProtobufBody(body("apps/v1", "Deployment", field(2, spec)))).toMatchObject({ spec: { replicas: 0 } });
  });

  test("put inlined structs into their parent and keep bytes as base64", () => {
    const source = field(2, field(1, "Memory")); // VolumeSource.emptyDir
    const pod = field(2, field(1, Buffer.concat([field(1, "v"), field(2, source)])));
    expect(decodeProtobufBody(body("v1", "Pod", pod))).toMatchObject({
      spec: { volumes: [{ name: "v", emptyDir: { medium: "Memory" } }] },
    });
    expect(
      decodeProtobufBody(
        body("v1", "Secret", field(2, Buffer.concat([field(1, "k"), field(2, Buffer.from([0, 255]))]))),
      ),
    ).toMatchObject({ data: { k: "AP8=" } });
  });

  test("of unknown kinds are refused by media type, broken ones as bad requests", () => {
    expect(() => decodeProtobufBody(body("x.io/v1", "Thing", Buffer.alloc(0)))).toThrow("send application/json");
    expect(() => decodeProtobufBody(Buffer.from("{}"))).toThrow("does not begin with the prefix");
    expect(() => decodeProtobufBody(body("v1", "Pod", Buffer.from([0x0a, 0x50])))).toThrow("ends within a field");
  });

  test("never break the server, whatever they hold", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.constantFrom("Pod", "Service", "Event", "ConfigMap"),
        (bytes, kind) => {
          try {
            decodeProtobufBody(body("v1", kind, Buffer.from(bytes)));
          } catch (error) {
            if (!(error instanceof ApiError)) throw error;
          }
        },
      ),
    );
  });
});

/** The client's half: packs headers with one compressor over the whole connection. */
class SpdyPeer {
  readonly socket: Duplex;
  readonly received: Buffer[] = [];
  readonly #deflate = createDeflate({ dictionary: spdyDictionary });

  constructor() {
    this.socket = new Duplex({
      read: () => {},
      final: (done) => {
        this.socket.push(null);
        done();
      },
      write: (chunk: Buffer, _encoding, done) => {
        this.received.push(chunk);
        done();
      },
    });
  }

  async open(id: number, headers: Readonly<Record<string, string>>): Promise<void> {
    const words = (...values: number[]) =>
      Buffer.concat(
        values.map((value) => Buffer.from([value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255])),
      );
    const text = (value: string) => Buffer.concat([words(value.length), Buffer.from(value)]);
    const block = Buffer.concat([
      words(Object.keys(headers).length),
      ...Object.entries(headers).flatMap(([name, value]) => [text(name), text(value)]),
    ]);
    const packed: Buffer[] = [];
    const onData = (chunk: Buffer) => packed.push(chunk);
    this.#deflate.on("data", onData);
    this.#deflate.write(block);
    await new Promise<void>((resolve) => this.#deflate.flush(constants.Z_SYNC_FLUSH, resolve));
    this.#deflate.off("data", onData);
    const content = Buffer.concat([words(id, 0), Buffer.from([0, 0]), ...packed]);
    this.socket.push(
      Buffer.concat([Buffer.from([0x80, 3, 0, 1, 0, 0, content.length >> 8, content.length & 255]), content]),
    );
  }

  data(id: number, content: string, last = false): void {
    this.socket.push(
      Buffer.concat([Buffer.from([0, 0, 0, id, last ? 1 : 0, 0, 0, content.length]), Buffer.from(content)]),
    );
  }
}

describe("SPDY", () => {
  test("opens streams with their headers and carries bytes both ways", async () => {
    const peer = new SpdyPeer();
    const streams: SpdyStream[] = [];
    const connection = new SpdyConnection(peer.socket, {
      onStream: (stream) => streams.push(stream),
      onClose: () => {},
    });
    const running = connection.run(Buffer.alloc(0));
    await peer.open(1, { streamType: "error" });
    await peer.open(3, { streamType: "data", port: "80" });
    peer.data(3, "hello", true);
    const read: Buffer[] = [];
    while (streams.length < 2) await new Promise((resolve) => setImmediate(resolve));
    streams[1]?.on("data", (chunk: Buffer) => read.push(chunk));
    await new Promise((resolve) => streams[1]?.once("end", resolve));
    expect([
      Buffer.concat(read).toString(),
      streams.map(({ headers }) => headers.get("streamtype")),
      streams[1]?.headers.get("port"),
    ]).toEqual(["hello", ["error", "data"], "80"]);
    await new Promise<void>((resolve) => streams[1]?.end("bye", resolve));
    connection.close();
    await running;
    expect(Buffer.concat(peer.received).includes(Buffer.from([0, 0, 0, 3, 0, 0, 0, 3, 98, 121, 101]))).toBe(true);
  });

  test.each([
    ["a frame that is too long", Buffer.from([0, 0, 0, 1, 0, 0xff, 0xff, 0xff])],
    ["headers that do not unpack", Buffer.from([0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 9, 9])],
    ["a control frame without content", Buffer.from([0x80, 3, 0, 1, 0, 0, 0, 0])],
  ])("closes the connection on %s", async (_name, bytes) => {
    const peer = new SpdyPeer();
    let closed = 0;
    const connection = new SpdyConnection(peer.socket, { onStream: () => {}, onClose: () => closed++ });
    await connection.run(bytes);
    expect(closed).toBe(1);
  });
});
