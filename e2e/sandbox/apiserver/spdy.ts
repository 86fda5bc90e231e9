import { Duplex } from "node:stream";
import { createInflate, type Inflate } from "node:zlib";
import { spdyDictionary, spdyDictionaryId } from "./spdy-dictionary.ts";

/*
 * The server's half of SPDY/3.1, as far as `kubectl` speaks it: exec and attach before kubectl 1.31, and port-forward in
 * every version (since 1.31 inside a WebSocket). Flow control by window updates is not used by these clients.
 */

const frameType = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9,
} as const;
const finFlag = 1;

/** Largest frame: clients send 32 KiB pieces, the format would allow 16 MiB. */
const maxFrameBytes = 1024 * 1024;
/** Streams of one connection at once. A port-forward uses two per connection that it carries. */
const maxStreams = 512;
/** Bytes of one stream that may wait to be read before the whole connection pauses. */
const maxWaitingBytes = 1024 * 1024;
/** How long the peer has to close its half. */
const closeTimeoutMs = 5_000;
/** Header bytes of one frame once unpacked. */
const maxHeaderBytes = 64 * 1024;

export type SpdyHeaders = ReadonlyMap<string, string>;

/** One two-way stream of bytes. Ending it ends our half only. */
export class SpdyStream extends Duplex {
  readonly id: number;
  readonly headers: SpdyHeaders;
  readonly #connection: SpdyConnection;
  #resume: (() => void) | undefined;

  constructor(connection: SpdyConnection, id: number, headers: SpdyHeaders) {
    super({ allowHalfOpen: true });
    this.id = id;
    this.headers = headers;
    this.#connection = connection;
    this.on("error", () => {}); // a broken connection is reported once, by the connection
  }

  override _read(): void {
    this.#resume?.();
    this.#resume = undefined;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#connection.sendData(this.id, chunk, false, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#connection.sendData(this.id, Buffer.alloc(0), true, done);
  }

  /** Takes in what the peer sent; resolves when more may come. */
  async receive(data: Buffer): Promise<void> {
    if (this.readableEnded || this.destroyed || data.length === 0) return;
    if (this.push(data) || this.readableLength < maxWaitingBytes) return;
    await new Promise<void>((resolve) => {
      this.#resume = resolve;
      this.once("close", resolve);
    });
  }
}

export interface SpdyHandlers {
  onStream(stream: SpdyStream): void;
  /** The connection has ended, for whatever reason. */
  onClose(): void;
}

/** A connection that a client has upgraded to SPDY/3.1. */
export class SpdyConnection {
  readonly #socket: Duplex;
  readonly #handlers: SpdyHandlers;
  readonly #streams = new Map<number, SpdyStream>();
  readonly #inflate: Inflate = createInflate({ dictionary: spdyDictionary });
  #unpacked: Buffer[] = [];
  #sentHeaders = false;
  #isOpen = true;

  constructor(socket: Duplex, handlers: SpdyHandlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    this.#inflate.on("data", (chunk: Buffer) => this.#unpacked.push(chunk));
    socket.on("error", () => this.close());
    socket.on("close", () => this.close());
  }

  /** Reads until the peer goes; `head` is what arrived together with the upgrade. */
  async run(head: Buffer): Promise<void> {
    try {
      let rest = await this.#consume(head);
      for await (const chunk of this.#socket) rest = await this.#consume(Buffer.concat([rest, chunk as Buffer]));
    } catch {
      // Whatever was wrong with the frames or the socket, this connection is over; its streams see it end.
    }
    this.close();
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    for (const stream of this.#streams.values()) {
      stream.push(null);
      stream.destroy();
    }
    this.#inflate.close();
    this.#socket.end();
    // At once would cut off what is still on its way; a peer that never closes must not keep the socket.
    setTimeout(() => this.#socket.destroy(), closeTimeoutMs).unref();
    this.#handlers.onClose();
  }

  async #consume(bytes: Buffer): Promise<Buffer> {
    let rest = bytes;
    while (rest.length >= 8) {
      const length = rest.readUIntBE(5, 3);
      if (length > maxFrameBytes) throw new RangeError(`frame of ${length} bytes`);
      if (rest.length < 8 + length) break;
      await this.#onFrame(rest.readUInt32BE(0), rest[4] ?? 0, rest.subarray(8, 8 + length));
      rest = rest.subarray(8 + length);
    }
    return rest;
  }

  async #onFrame(word: number, flags: number, body: Buffer): Promise<void> {
    if (word >>> 31 === 0) {
      const stream = this.#streams.get(word);
      await stream?.receive(body);
      if ((flags & finFlag) !== 0) stream?.push(null);
      return;
    }
    switch (word & 0xffff) {
      case frameType.synStream:
        await this.#onSynStream(flags, body);
        break;
      case frameType.headers:
        await this.#unpack(body.subarray(4)); // keeps the compression in step
        break;
      case frameType.rstStream:
        this.#reset(body.readUInt32BE(0) & 0x7fffffff);
        break;
      case frameType.ping:
        this.#sendControl(frameType.ping, 0, body);
        break;
      case frameType.goAway:
        this.close();
        break;
      default: // settings and window updates change nothing here
    }
  }

  async #onSynStream(flags: number, body: Buffer): Promise<void> {
    const id = body.readUInt32BE(0) & 0x7fffffff;
    const headers = readHeaders(await this.#unpack(body.subarray(10)));
    if (this.#streams.size >= maxStreams || this.#streams.has(id)) {
      this.#sendControl(frameType.rstStream, 0, words(id, 3)); // refused
      return;
    }
    const stream = new SpdyStream(this, id, headers);
    this.#streams.set(id, stream);
    stream.on("close", () => this.#streams.delete(id));
    this.#sendControl(frameType.synReply, 0, Buffer.concat([words(id), this.#packNoHeaders()]));
    if ((flags & finFlag) !== 0) stream.push(null);
    this.#handlers.onStream(stream);
  }

  #reset(id: number): void {
    this.#streams.get(id)?.destroy();
  }

  async #unpack(block: Buffer): Promise<Buffer> {
    this.#unpacked = [];
    await new Promise<void>((resolve, reject) => {
      this.#inflate.once("error", reject);
      this.#inflate.write(block, (error) => {
        this.#inflate.off("error", reject);
        if (error) reject(error);
        else resolve();
      });
    });
    const headers = Buffer.concat(this.#unpacked);
    if (headers.length > maxHeaderBytes) throw new RangeError(`headers of ${headers.length} bytes`);
    return headers;
  }

  /**
   * A header block with no headers, packed without a compressor: zlib's head once (naming the dictionary), then a
   * stored block each time. The empty block behind it is what a flush writes, and what makes Go's reader hand out data.
   */
  #packNoHeaders(): Buffer {
    const stored = Buffer.from([0x00, 0x04, 0x00, 0xfb, 0xff, 0, 0, 0, 0, 0x00, 0x00, 0x00, 0xff, 0xff]);
    if (this.#sentHeaders) return stored;
    this.#sentHeaders = true;
    return Buffer.concat([Buffer.from([0x78, 0xbb]), words(spdyDictionaryId), stored]);
  }

  #sendControl(type: number, flags: number, body: Buffer): void {
    if (!this.#isOpen) return;
    const head = Buffer.alloc(8);
    head.writeUInt32BE(((0x8003 << 16) | type) >>> 0);
    head.writeUIntBE(flags, 4, 1);
    head.writeUIntBE(body.length, 5, 3);
    this.#socket.write(Buffer.concat([head, body]));
  }

  sendData(id: number, data: Buffer, isLast: boolean, done: (error?: Error | null) => void): void {
    if (!this.#isOpen) {
      done();
      return;
    }
    const head = Buffer.alloc(8);
    head.writeUInt32BE(id);
    head.writeUIntBE(isLast ? finFlag : 0, 4, 1);
    head.writeUIntBE(data.length, 5, 3);
    this.#socket.write(data.length === 0 ? head : Buffer.concat([head, data]), done);
  }
}

function words(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [at, value] of values.entries()) bytes.writeUInt32BE(value, at * 4);
  return bytes;
}

function readHeaders(block: Buffer): SpdyHeaders {
  const headers = new Map<string, string>();
  let at = 4;
  const text = () => {
    const length = block.readUInt32BE(at);
    at += 4 + length;
    return block.toString("utf8", at - length, at);
  };
  for (let left = block.readUInt32BE(0); left > 0; left--) {
    const name = text().toLowerCase();
    headers.set(name, text().split("\0")[0] ?? "");
  }
  return headers;
}
