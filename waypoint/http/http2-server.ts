/** The server's side of HTTP/2: a connection that a client opened, with prior knowledge, and its requests. */
import type { Duplex } from "node:stream";
import type { Clock } from "#shared/clock/clock.ts";
import { Headers } from "./headers.ts";
import { connectionLimitsDefault, Http2Connection, type Http2ConnectionLimits } from "./http2-connection.ts";
import {
  codeOfReset,
  ConnectionError,
  errorCodes,
  errorName,
  maxWindow,
  preface,
  reasonOf,
  settingIds,
} from "./http2-frames.ts";
import type { HpackEncoder } from "./http2-hpack-encoder.ts";
import { readRequest, readTrailers, type ReadRequest } from "./http2-messages.ts";
import { Http2Stream, type StreamHost } from "./http2-stream.ts";
import type { BodyReader, DownstreamStream, RequestHead, ResetReason, ResponseHead } from "./streams.ts";

export interface Http2ServerOptions extends Http2ConnectionLimits {
  readonly maxConcurrentStreams: number;
  /** Streams after which the client is asked to open another connection; 0: without bound. */
  readonly maxRequests: number;
  /** Without a request. 0: for ever. Milliseconds. */
  readonly idleTimeoutMs: number;
  /** Header fields of answers that the codec gives by itself, such as `server`. */
  readonly ownFields: Headers;
}

export const http2ServerDefaults: Http2ServerOptions = {
  ...connectionLimitsDefault,
  maxConcurrentStreams: 100,
  maxRequests: 0,
  idleTimeoutMs: 3_600_000,
  ownFields: new Headers(),
};

/** Status 0: without an answer, by a reset of its stream. */
export interface Http2Refusal {
  readonly protocol: "HTTP/2";
  readonly status: number;
  /** For `RESPONSE_CODE_DETAILS`. */
  readonly details: string;
}

/** What becomes of a connection's requests. One object for many connections: no closures for each. */
export interface Http2ServerOwner {
  /** A request. Its body waits until {@link DownstreamStream.read}. */
  onRequest(stream: DownstreamStream, connection: Http2ServerConnection): void;
  /** A request of which nothing could be made: no {@link DownstreamStream} came about. */
  onRefused?(refusal: Http2Refusal): void;
  /** Once, last; every stream has been reset before. The error tells what the client did wrong, or what broke. */
  onClosed?(connection: Http2ServerConnection, error: Error | undefined): void;
}

const detailsOf = (why: string): string => `http2.${why.replaceAll(/\W+/g, "_").replace(/^_/, "")}`;

/** How long a client that was told to go away may take to acknowledge, before it is told which stream was the last. */
const drainNoticeMs = 1_000;

export class Http2ServerConnection extends Http2Connection<Http2ServerStream, ResponseHead> {
  readonly #owner: Http2ServerOwner;
  readonly #options: Http2ServerOptions;
  #idleSinceMs: number;
  #cancelIdle: (() => void) | undefined;
  #prefaceRead = false;
  #lastStream = 0;
  #requests = 0;
  #state: "serving" | "noticed" | "draining" = "serving";
  #cancelNotice: (() => void) | undefined;

  /** Owns the duplex. What was read of it already is to be put back with `unshift`. */
  constructor(duplex: Duplex, owner: Http2ServerOwner, options: Partial<Http2ServerOptions>, clock: Clock) {
    const whole = { ...http2ServerDefaults, ...options };
    super(duplex, clock, whole);
    this.#owner = owner;
    this.#options = whole;
    this.#idleSinceMs = clock.now();
    this.start([
      [settingIds.maxConcurrentStreams, whole.maxConcurrentStreams],
      [settingIds.initialWindowSize, whole.streamWindow],
      [settingIds.maxHeaderListSize, whole.maxHeaderBytes],
      [settingIds.enableConnectProtocol, 1],
    ]);
    this.#watchIdle(whole.idleTimeoutMs);
  }

  /** No request is under way. */
  get isIdle(): boolean {
    return this.streams.size === 0;
  }

  /**
   * Asks the client to open no more streams; those that are open, and those on their way, are served. The connection
   * closes with the last one.
   */
  drain(): void {
    if (this.#state !== "serving" || !this.isOpen) return;
    this.#state = "noticed";
    this.writer.goaway(maxWindow, errorCodes.noError, "");
    const settle = () => {
      this.#cancelNotice?.();
      if (this.#state !== "noticed" || !this.isOpen) return;
      this.#state = "draining";
      this.writer.goaway(this.#lastStream, errorCodes.noError, "");
      if (this.streams.size === 0) this.finish();
    };
    // Whatever the client sent before it heard of it arrives before the answer to this PING.
    this.pinger.ping(settle);
    this.#cancelNotice = this.clock.schedule(drainNoticeMs, settle);
  }

  protected override get lastSeenStream(): number {
    return this.#lastStream;
  }

  override onPreface(bytes: Buffer, at: number, end: number): number {
    if (this.#prefaceRead) return at;
    const length = Math.min(end - at, preface.length);
    if (preface.compare(bytes, at, at + length, 0, length) !== 0) {
      throw new ConnectionError(errorCodes.protocolError, "not the preface of HTTP/2");
    }
    if (length < preface.length) return -1;
    this.#prefaceRead = true;
    return at + length;
  }

  protected override onFields(id: number, endsStream: boolean): void {
    const stream = this.streams.get(id);
    if (stream !== undefined) {
      this.#onTrailers(stream, endsStream);
      return;
    }
    if (id % 2 === 0) throw new ConnectionError(errorCodes.protocolError, `a request on stream ${id}`);
    if (id <= this.#lastStream) {
      // Trailers of what we have ended, or a stream opened out of order: nobody can tell.
      this.refuse(id, errorCodes.streamClosed);
      return;
    }
    if (this.#state === "draining") {
      this.refuse(id, errorCodes.refusedStream);
      return;
    }
    this.#lastStream = id;
    if (this.streams.size >= this.#options.maxConcurrentStreams) {
      this.refuse(id, errorCodes.refusedStream);
      return;
    }
    const request = readRequest(this.decoder, endsStream);
    if (typeof request === "string") {
      this.refuse(id, errorCodes.protocolError);
      this.#owner.onRefused?.({ protocol: "HTTP/2", status: 0, details: detailsOf(request) });
      return;
    }
    if (this.decoder.isTooLarge) {
      this.spendBroken();
      this.#owner.onRefused?.({ protocol: "HTTP/2", status: 431, details: "http2.headers_too_large" });
      this.#refuseTooLarge(id, request, endsStream);
      return;
    }
    this.earn();
    const { initialWindow } = this.peer;
    const made = new Http2ServerStream(this, id, initialWindow, this.#options.streamWindow, request, endsStream);
    this.streams.set(id, made);
    this.#owner.onRequest(made, this);
    if (this.#options.maxRequests > 0 && ++this.#requests >= this.#options.maxRequests) this.drain();
  }

  #onTrailers(stream: Http2ServerStream, endsStream: boolean): void {
    const trailers = readTrailers(this.decoder);
    if (stream.hasReceivedEnd) {
      this.breakStream(stream, errorCodes.streamClosed, "fields after the end of the stream");
    } else if (!endsStream) {
      this.breakStream(stream, errorCodes.protocolError, "fields in the middle of a stream");
    } else if (trailers === undefined) this.breakStream(stream, errorCodes.protocolError, "malformed trailers");
    else stream.receiveEnd(trailers);
  }

  #refuseTooLarge(id: number, request: ReadRequest, endsStream: boolean): void {
    const { initialWindow } = this.peer;
    const stream = new Http2ServerStream(this, id, initialWindow, this.#options.streamWindow, request, endsStream);
    this.streams.set(id, stream);
    stream.respond({ status: 431, headers: this.#options.ownFields.clone() }, true);
  }

  protected override onPeerReset(stream: Http2ServerStream, code: number): void {
    this.spendBroken();
    stream.receiveReset(reasonOf(code), `the client reset the stream (${errorName(code)})`);
  }

  protected override onGoaway(_lastStream: number, code: number): void {
    if (code !== errorCodes.noError) this.destroy(new Error(`the client ended the connection (${errorName(code)})`));
  }

  protected override onPeerSettings(): void {}

  protected override isUnopened(id: number): boolean {
    return id % 2 === 0 || id > this.#lastStream;
  }

  override writeHead(encoder: HpackEncoder, out: Buffer, at: number, head: ResponseHead): number {
    return encoder.status(out, at, head.status);
  }

  override roomForHead(): number {
    return 16;
  }

  protected override onForgotten(): void {
    if (this.streams.size > 0 || !this.isOpen) return;
    if (this.#state === "draining") this.finish();
    else this.#idleSinceMs = this.clock.now();
  }

  /** One timer for each connection, which looks at how things are when it fires. */
  #watchIdle(waitMs: number): void {
    const { idleTimeoutMs } = this.#options;
    if (idleTimeoutMs === 0 || !this.isOpen) return;
    this.#cancelIdle = this.clock.schedule(waitMs, () => {
      const leftMs = this.streams.size > 0 ? idleTimeoutMs : this.#idleSinceMs + idleTimeoutMs - this.clock.now();
      if (leftMs <= 0) this.drain();
      else this.#watchIdle(leftMs);
    });
  }

  protected override onClosed(error: Error | undefined): void {
    this.#cancelNotice?.();
    this.#cancelIdle?.();
    this.#owner.onClosed?.(this, error);
  }

  /** For the streams: the head of an answer, interim ones and final. */
  sendHead(id: number, head: ResponseHead, endsStream: boolean): void {
    this.sendSection(id, endsStream, head, head.headers);
  }
}

interface ServerHost extends StreamHost {
  sendHead(id: number, head: ResponseHead, endsStream: boolean): void;
}

class Http2ServerStream extends Http2Stream implements DownstreamStream {
  readonly protocol = "HTTP/2";
  readonly request: RequestHead;
  readonly endsWithHead: boolean;
  #expectsContinue: boolean;
  #hasResponded = false;

  constructor(
    host: ServerHost,
    id: number,
    sendWindow: number,
    receiveWindow: number,
    { head, expectedBytes, expectsContinue }: ReadRequest,
    endsStream: boolean,
  ) {
    super(host, id, sendWindow, receiveWindow);
    this.request = head;
    this.endsWithHead = endsStream;
    this.expectedBytes = expectedBytes;
    this.#expectsContinue = expectsContinue;
    if (endsStream) this.receivedWithHead();
  }

  read(reader: BodyReader): void {
    if (this.reader !== undefined) return;
    if (this.#expectsContinue && !this.#hasResponded && !this.isClosed) {
      this.inform({ status: 100, headers: new Headers() });
    }
    this.startReading(reader);
  }

  inform(head: ResponseHead): void {
    if (this.#hasResponded || this.isClosed || head.status === 101) return;
    if (head.status === 100) {
      if (!this.#expectsContinue) return;
      this.#expectsContinue = false;
    }
    this.#host.sendHead(this.id, head, false);
  }

  respond(head: ResponseHead, endsWithHead: boolean): void {
    if (this.#hasResponded || this.isClosed) return;
    this.#hasResponded = true;
    if (head.status === 101) {
      // Extended CONNECT is answered with 200 (RFC 8441 §5), and without what proves a handshake of HTTP/1.1.
      const headers = new Headers([...head.headers.pairs]);
      headers.delete("sec-websocket-accept");
      this.#host.sendHead(this.id, { status: 200, headers }, endsWithHead);
    } else this.#host.sendHead(this.id, head, endsWithHead);
    if (endsWithHead) this.sentWithHead();
  }

  reset(reason: ResetReason): void {
    // A whole answer needs no rest of the request; a half one must not look whole.
    if (this.hasSentEnd) this.abandon(errorCodes.noError);
    else this.abandon(codeOfReset(reason));
  }

  /** The answer is out: the client may stop sending (RFC 9113 §8.1). */
  protected override onSentEnd(): void {
    if (this.hasReceivedEnd) this.dropUnread();
    else this.abandon(errorCodes.noError);
  }

  get #host(): ServerHost {
    return this.host as ServerHost;
  }
}
