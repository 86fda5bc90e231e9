/** HTTP/2 frame by frame, for tests: says anything, however wrong, and reads what comes back. */
import type { Duplex } from "node:stream";
import { errorName, frameTypes, preface } from "#waypoint/http/http2-frames.ts";
import { HpackDecoder } from "#waypoint/http/http2-hpack-decoder.ts";
import { until } from "#shared/testing/loopback.ts";

export { preface };

export const flag = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export function frame(kind: number, flags: number, stream: number, body: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head.writeUInt8(kind, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

export function uint32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, at) => bytes.writeUInt32BE(value >>> 0, 4 * at));
  return bytes;
}

export function setting(id: number, value: number): Buffer {
  const bytes = Buffer.alloc(6);
  bytes.writeUInt16BE(id);
  bytes.writeUInt32BE(value, 2);
  return bytes;
}

/** RFC 7541 §5.1. */
export function hpackInteger(opcode: number, bits: number, value: number): Buffer {
  const most = 2 ** bits - 1;
  if (value < most) return Buffer.from([opcode | value]);
  const bytes = [opcode | most];
  let rest = value - most;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

const text = (value: string): Buffer => Buffer.concat([hpackInteger(0, 7, value.length), Buffer.from(value, "latin1")]);

/** As text, and not remembered. */
export const literal = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.from([0]), text(name), text(value)]);

/** As text, and put into the peer's table. */
export const remembered = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.from([0x40]), text(name), text(value)]);

/** The newest entry of the table. */
export const latest = Buffer.from([0x80 | 62]);

export const fields = (...pairs: readonly (readonly [name: string, value: string])[]): Buffer =>
  Buffer.concat(pairs.map(([name, value]) => literal(name, value)));

export const getFields = fields([":method", "GET"], [":scheme", "http"], [":path", "/"], [":authority", "x"]);
export const postFields = fields([":method", "POST"], [":scheme", "http"], [":path", "/"], [":authority", "x"]);

/** A request in one frame. */
export const request = (stream: number, block: Uint8Array = getFields, flags: number = flag.endStream): Buffer =>
  frame(frameTypes.headers, flags | flag.endHeaders, stream, block);

export const times = (count: number, make: (at: number) => Uint8Array): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, at) => make(at)));

export const hello = (settings: Uint8Array = Buffer.alloc(0)): Buffer =>
  Buffer.concat([preface, frame(frameTypes.settings, 0, 0, settings)]);

export interface ReceivedFrame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly body: Buffer;
}

/** Everything that a peer said, frame by frame. */
export class RawPeer {
  readonly duplex: Duplex;
  readonly frames: ReceivedFrame[] = [];
  isOver = false;
  readonly #decoder = new HpackDecoder({ maxBytes: 1_000_000, maxFields: 10_000 });
  #rest = Buffer.alloc(0);

  /** @param skips octets before the first frame: a client's preface */
  constructor(duplex: Duplex, skips = 0) {
    this.duplex = duplex;
    duplex.on("error", () => {});
    duplex.on("end", () => (this.isOver = true));
    duplex.on("close", () => (this.isOver = true));
    let left = skips;
    duplex.on("data", (chunk: Buffer) => {
      const skipped = Math.min(left, chunk.length);
      left -= skipped;
      this.#read(chunk.subarray(skipped));
    });
  }

  write(...parts: readonly Uint8Array[]): void {
    this.duplex.write(Buffer.concat(parts));
  }

  of(type: number, stream?: number): readonly ReceivedFrame[] {
    return this.frames.filter((known) => known.type === type && (stream === undefined || known.stream === stream));
  }

  /** The first that matches, now or later. */
  async next(type: number, stream?: number, skip = 0): Promise<ReceivedFrame> {
    await until(() => this.of(type, stream).length > skip || this.isOver, `frame ${type} on stream ${stream ?? "any"}`);
    const found = this.of(type, stream)[skip];
    if (found === undefined) throw new Error(`the connection ended without frame ${type}: ${this.#said()}`);
    return found;
  }

  /** Name of the code of the RST_STREAM for a stream. */
  async resetOf(stream: number): Promise<string> {
    return errorName((await this.next(frameTypes.reset, stream)).body.readUInt32BE(0));
  }

  /** Name of the code with which the peer ended the connection. */
  async goaway(): Promise<string> {
    return errorName((await this.next(frameTypes.goaway)).body.readUInt32BE(4));
  }

  /** Fields of the HEADERS that came for a stream; each section has to be asked for once, in the order of arrival. */
  async section(stream: number, skip = 0): Promise<{ readonly status: string; readonly pairs: readonly string[] }> {
    const { body } = await this.next(frameTypes.headers, stream, skip);
    this.#decoder.decode(body, 0, body.length);
    return { status: this.#decoder.status, pairs: this.#decoder.pairs };
  }

  dataOf(stream: number): Buffer {
    return Buffer.concat(this.of(frameTypes.data, stream).map(({ body }) => body));
  }

  #read(chunk: Buffer): void {
    let bytes = Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= 9 && bytes.length >= 9 + bytes.readUIntBE(0, 3)) {
      const length = bytes.readUIntBE(0, 3);
      this.frames.push({
        type: bytes.readUInt8(3),
        flags: bytes.readUInt8(4),
        stream: bytes.readUInt32BE(5),
        body: bytes.subarray(9, 9 + length),
      });
      bytes = bytes.subarray(9 + length);
    }
    this.#rest = bytes;
  }

  #said(): string {
    return this.frames.map(({ type, stream }) => `${type}@${stream}`).join(" ");
  }
}
