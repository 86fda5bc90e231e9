/**
 * What every HTTP codec looks like from the inside: one request and its answer, as events and calls, the same for
 * HTTP/1.0, HTTP/1.1 and HTTP/2. Layers, routing and the router know nothing else of a protocol.
 *
 * Rules for both directions: a codec delivers nothing before {@link DownstreamStream.read} (or the reader given to an
 * upstream) is there; `end` or `reset` comes exactly once and last (but a client that goes away before its answer is finished
 * is told by `reset` also after `end`, and `drained` comes after `end` too); calls after the end are ignored, never thrown;
 * a chunk belongs to the receiver and may be kept.
 */
import type { Headers } from "./headers.ts";

export type Protocol = "HTTP/1.0" | "HTTP/1.1" | "HTTP/2";

/** Mutable: layers and routes edit it before it is sent on. Connection-level fields are the codecs' business and not in it. */
export interface RequestHead {
  method: string;
  /** As the client's side of the proxy saw it. */
  scheme: string;
  /** Host header or `:authority`. */
  authority: string;
  /** Origin form with the query; `*` for OPTIONS; normalised once, before anything looks at it. */
  path: string;
  readonly headers: Headers;
  /** Protocol that an HTTP/1.1 client asks to switch to (`websocket`), in lower case. */
  readonly upgrade?: string | undefined;
}

export interface ResponseHead {
  status: number;
  readonly headers: Headers;
}

/** Why a message ended before its end. */
export type ResetReason =
  /** The peer or the network closed the connection. */
  | "connection-termination"
  /** No connection came about: refused, unreachable, or TLS failed. */
  | "connect-failure"
  | "connect-timeout"
  /** The peer reset this stream. */
  | "remote-reset"
  /** The peer certainly did not act on it (REFUSED_STREAM, GOAWAY). */
  | "refused-stream"
  /** A pooled connection was closed before a byte of the answer, and the request may be sent twice without harm. */
  | "closed-unanswered"
  | "protocol-error"
  /** We gave up: a timeout, a limit, or the other side of the exchange is gone. */
  | "local-reset"
  /** A limit of this proxy: connections, pending requests, buffers. */
  | "overflow";

/** Takes the body of a request, or of an answer. */
export interface BodyReader {
  data(chunk: Buffer): void;
  /** The message is complete. */
  end(trailers: Headers | undefined): void;
  reset(reason: ResetReason, detail: string): void;
  /** What was written to the same stream has been taken; writing may go on. */
  drained(): void;
}

/** One request from a client, and the way to answer it. Made by the server side of a codec. */
export interface DownstreamStream {
  readonly protocol: Protocol;
  readonly request: RequestHead;
  /** Whether the request has no body at all, known from its head. */
  readonly endsWithHead: boolean;
  /** Begins delivery of the body (and answers `expect: 100-continue`, a field that layers do not see). Once. */
  read(reader: BodyReader): void;
  /** Stops delivery of the body until {@link resume}. */
  pause(): void;
  resume(): void;
  /** An interim answer (100, 103). Not for 101. */
  inform(head: ResponseHead): void;
  /**
   * The answer's head. Status 101 switches: from then on `write`, `end` and the body's events carry raw bytes both ways.
   * The same holds for 200 on CONNECT.
   */
  respond(head: ResponseHead, endsWithHead: boolean): void;
  /** Whether more may be written now; otherwise wait for {@link BodyReader.drained}. The chunk is taken in any case. */
  write(chunk: Buffer): boolean;
  end(trailers?: Headers): void;
  /** Gives the exchange up: RST_STREAM, or closing of the connection where HTTP/1.1 has no other way to say it. */
  reset(reason: ResetReason): void;
  /** Bytes on the wire so far, bodies only. */
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/** Takes the answer of an upstream. */
export interface ResponseReader extends BodyReader {
  inform(head: ResponseHead): void;
  head(head: ResponseHead, endsWithHead: boolean): void;
}

/** One request to an upstream. Made by the client side of a codec, or by a pool that still waits for a connection. */
export interface UpstreamStream {
  write(chunk: Buffer): boolean;
  end(trailers?: Headers): void;
  reset(reason: ResetReason): void;
  pause(): void;
  resume(): void;
}
