/** The client's side of HTTP/2: a connection that we opened, with prior knowledge or by ALPN, and requests on it. */
import { createHash } from "node:crypto";
import type { Duplex } from "node:stream";
import type { Clock } from "#shared/clock/clock.ts";
import type { Headers } from "./headers.ts";
import { connectionLimitsDefault, Http2Connection, type Http2ConnectionLimits } from "./http2-connection.ts";
import { errorCodes, errorName, maxWindow, preface, reasonOf, settingIds } from "./http2-frames.ts";
import { fieldOverhead, roomFor, type HpackEncoder } from "./http2-hpack-encoder.ts";
import { readResponse, readTrailers, type ReadResponse } from "./http2-messages.ts";
import { Http2Stream, type StreamHost } from "./http2-stream.ts";
import type { RequestHead, ResetReason, ResponseReader, UpstreamStream } from "./streams.ts";

/** What the pool wants to know. One object for many connections: no closures for each. */
export interface Http2ClientOwner {
  /** There may be room for a request that was not there: a stream has ended, or the server allows more. */
  connectionHasRoom(connection: Http2ClientConnection): void;
  /** The server takes no new streams; those that are open go on. */
  connectionDraining(connection: Http2ClientConnection): void;
  /** Exactly once; what was in flight has been reset before. */
  connectionClosed(connection: Http2ClientConnection, error: Error | undefined): void;
}

export interface Http2ClientLimits extends Http2ConnectionLimits {
  /** Streams that we open at most at once. The server's own limit may be lower. */
  readonly maxConcurrentStreams: number;
  /** Streams to open before the server has said how many it takes; what it said last time, or what RFC 9113 §6.5.2 hopes for. */
  readonly streamsBeforeSettings: number;
}

export const clientLimitsDefault: Http2ClientLimits = {
  ...connectionLimitsDefault,
  maxConcurrentStreams: 2 ** 31 - 1,
  streamsBeforeSettings: 100,
};

export class Http2ClientConnection extends Http2Connection<Http2ClientStream, RequestHead> {
  readonly #owner: Http2ClientOwner;
  readonly #limits: Http2ClientLimits;
  #nextStream = 1;
  /** Set by GOAWAY or by us: no further stream. */
  #isDraining = false;
  #requests = 0;

  /** Owns the duplex, on which nothing has been said yet. */
  constructor(duplex: Duplex, owner: Http2ClientOwner, clock: Clock, limits: Partial<Http2ClientLimits> = {}) {
    const whole = { ...clientLimitsDefault, ...limits };
    super(duplex, clock, whole);
    this.#owner = owner;
    this.#limits = whole;
    this.output.reserve(preface.length);
    preface.copy(this.output.bytes, this.output.at);
    this.output.at += preface.length;
    this.start([
      [settingIds.enablePush, 0],
      [settingIds.initialWindowSize, whole.streamWindow],
      [settingIds.maxHeaderListSize, whole.maxHeaderBytes],
    ]);
  }

  /** Requests begun so far. */
  get requests(): number {
    return this.#requests;
  }

  /** Whether {@link send} may be called now. */
  get hasRoom(): boolean {
    if (this.#isDraining || !this.isOpen || this.#nextStream > maxWindow) return false;
    return this.streams.size < this.maxStreams;
  }

  /** Streams that may be open at once. */
  get maxStreams(): number {
    const { maxConcurrentStreams, streamsBeforeSettings } = this.#limits;
    return Math.min(
      maxConcurrentStreams,
      this.hasPeerSettings ? this.peer.maxConcurrentStreams : streamsBeforeSettings,
    );
  }

  /** Whether the server takes WebSocket and its like (RFC 8441); known once its settings have come. */
  get hasExtendedConnect(): boolean {
    return this.peer.hasExtendedConnect;
  }

  /** Whether the server has said anything. */
  get hasSettings(): boolean {
    return this.hasPeerSettings;
  }

  /** Sends the head at once. Only while {@link hasRoom}. */
  send(head: RequestHead, endsWithHead: boolean, reader: ResponseReader): UpstreamStream {
    const id = this.#nextStream;
    this.#nextStream += 2;
    this.#requests++;
    const isUpgrade = head.upgrade !== undefined;
    const stream = new Http2ClientStream(
      this,
      id,
      this.peer.initialWindow,
      this.#limits.streamWindow,
      isUpgrade ? "CONNECT" : head.method,
      isUpgrade ? (head.headers.get("sec-websocket-key") ?? "") : undefined,
      reader,
    );
    this.streams.set(id, stream);
    // What switches protocols has no body of its own: its stream stays open for the bytes to come.
    const endsStream = endsWithHead && !isUpgrade && head.method !== "CONNECT";
    this.sendSection(id, endsStream, head, head.headers);
    if (endsStream) stream.sentAll();
    return stream;
  }

  /** No further stream; closes when the last one has ended. */
  close(): void {
    this.#isDraining = true;
    if (this.streams.size === 0 && this.isOpen) {
      this.writer.goaway(0, errorCodes.noError, "");
      this.finish();
    }
  }

  protected override get lastSeenStream(): number {
    return 0; // servers open none
  }

  protected override onFields(id: number, endsStream: boolean): void {
    const stream = this.streams.get(id);
    if (stream === undefined) {
      if (this.isUnopened(id)) this.failWith(errorCodes.protocolError, `an answer on stream ${id}, which is not open`);
      else this.spendIdle(); // on its way when we gave the stream up
      return;
    }
    this.earn();
    if (stream.hasReceivedEnd) {
      stream.fail(errorCodes.streamClosed, "fields after the end of the stream");
    } else if (stream.hasHead) {
      const trailers = readTrailers(this.decoder);
      if (endsStream && trailers !== undefined) stream.receiveEnd(trailers);
      else
        stream.fail(errorCodes.protocolError, endsStream ? "malformed trailers" : "fields in the middle of a stream");
    } else {
      const answer = readResponse(this.decoder, stream.method, endsStream);
      if (typeof answer === "string") stream.fail(errorCodes.protocolError, answer);
      else if (this.decoder.isTooLarge) stream.fail(errorCodes.enhanceYourCalm, "the answer's head is too large");
      else stream.receiveHead(answer, endsStream);
    }
  }

  protected override onPeerReset(stream: Http2ClientStream, code: number): void {
    // A server that has answered in full may not want the rest of the request.
    stream.receiveReset(reasonOf(code), `the server reset the stream (${errorName(code)})`);
  }

  protected override onGoaway(lastStream: number, code: number): void {
    const wasDraining = this.#isDraining;
    this.#isDraining = true;
    const detail = `the server ended the connection (${errorName(code)})`;
    for (const stream of this.streams.values()) {
      if (stream.id > lastStream) stream.receiveReset("refused-stream", detail);
    }
    if (!wasDraining) this.#owner.connectionDraining(this);
    if (this.streams.size === 0) this.finish();
  }

  protected override onPeerSettings(): void {
    if (this.hasRoom) this.#owner.connectionHasRoom(this);
  }

  protected override isUnopened(id: number): boolean {
    return id % 2 === 0 || id >= this.#nextStream;
  }

  override writeHead(encoder: HpackEncoder, out: Buffer, at: number, head: RequestHead): number {
    if (head.upgrade !== undefined) {
      at = encoder.method(out, at, "CONNECT");
      at = encoder.field(out, at, ":protocol", head.upgrade);
    } else at = encoder.method(out, at, head.method);
    if (head.method !== "CONNECT") {
      at = encoder.scheme(out, at, head.scheme);
      at = encoder.path(out, at, head.path);
    }
    return head.authority === "" ? at : encoder.field(out, at, ":authority", head.authority);
  }

  override roomForHead({ method, scheme, path, authority, upgrade = "" }: RequestHead): number {
    return (
      roomFor(method) + roomFor(scheme) + roomFor(path) + roomFor(authority) + roomFor(upgrade) + 8 * fieldOverhead
    );
  }

  protected override onForgotten(): void {
    if (!this.isOpen) return;
    if (this.#isDraining && this.streams.size === 0) this.finish();
    else this.#owner.connectionHasRoom(this);
  }

  protected override onClosed(error: Error | undefined): void {
    this.#owner.connectionClosed(this, error);
  }
}

/** What proves to a client of HTTP/1.1 that its handshake was understood (RFC 6455 §4.2.2); HTTP/2 has no such thing. */
const acceptOf = (key: string): string =>
  createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");

class Http2ClientStream extends Http2Stream implements UpstreamStream {
  readonly method: string;
  readonly #reader: ResponseReader;
  /** Of a request to switch protocols; empty where there is none. */
  readonly #webSocketKey: string | undefined;
  #hasHead = false;

  constructor(
    host: StreamHost,
    id: number,
    sendWindow: number,
    receiveWindow: number,
    method: string,
    webSocketKey: string | undefined,
    reader: ResponseReader,
  ) {
    super(host, id, sendWindow, receiveWindow);
    this.method = method;
    this.#webSocketKey = webSocketKey;
    this.#reader = reader;
    this.reader = reader;
  }

  /** Whether the final head has come. */
  get hasHead(): boolean {
    return this.#hasHead;
  }

  receiveHead({ head, expectedBytes }: ReadResponse, endsStream: boolean): void {
    if (head.status < 200) {
      this.#reader.inform(head);
      return;
    }
    this.#hasHead = true;
    this.expectedBytes = expectedBytes;
    // What HTTP/1.1 calls switching protocols (RFC 8441 §5).
    if (this.#webSocketKey !== undefined && head.status === 200 && !endsStream) {
      head.status = 101;
      if (this.#webSocketKey !== "") head.headers.set("sec-websocket-accept", acceptOf(this.#webSocketKey));
    }
    this.#reader.head(head, endsStream);
    if (endsStream && !this.isClosed) this.receiveEnd(undefined);
  }

  /** DATA before the head means nothing. */
  override receive(chunk: Buffer): void {
    if (this.#hasHead) super.receive(chunk);
    else {
      this.host.consumed(undefined, chunk.length);
      this.fail(errorCodes.protocolError, "data before the answer's head");
    }
  }

  override receiveEnd(trailers: Headers | undefined): void {
    if (this.#hasHead) super.receiveEnd(trailers);
    else this.fail(errorCodes.protocolError, "an end before the answer's head");
  }

  sentAll(): void {
    this.sentWithHead();
  }

  reset(_reason: ResetReason): void {
    this.abandon(errorCodes.cancel);
  }
}
