/**
 * The server side of HTTP/1.1 on one connection. Requests are handled one after the other; what a client sends ahead waits,
 * up to a bound. Whatever is ambiguous is refused and ends the connection.
 */
import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { Headers } from "./headers.ts";
import type { HeadLimits } from "./http1-head.ts";
import type { Framing } from "./http1-output.ts";
import type { RequestRules } from "./http1-request.ts";
import { keepsAlive, readRequest } from "./http1-request.ts";
import type { Http1Failure } from "./http1-syntax.ts";
import { failures } from "./http1-syntax.ts";
import { Http1Wire } from "./http1-wire.ts";
import type { HeaderCase } from "./http1-write.ts";
import { fieldLines, statusLine10, statusLines, written } from "./http1-write.ts";
import type { BodyReader, DownstreamStream, Protocol, RequestHead, ResetReason, ResponseHead } from "./streams.ts";
import type { Swept, Sweeper } from "./sweeper.ts";

export interface Http1ServerOwner {
  /** A request. Its body waits until {@link DownstreamStream.read}. */
  onRequest(stream: DownstreamStream, connection: Http1ServerConnection): void;
  /**
   * The codec has answered by itself: no {@link DownstreamStream} came about, or (`wasRequest`) one ended, and was told so,
   * before it was answered.
   */
  onRefused?(failure: Http1Failure, connection: Http1ServerConnection, wasRequest: boolean): void;
  /** Once, last. */
  onClosed?(connection: Http1ServerConnection, error: Error | undefined): void;
}

export interface Http1ServerOptions extends HeadLimits, RequestRules {
  /** How names are written. `preserve` needs answers whose codec kept the spelling. */
  readonly headerCase: HeaderCase;
  /** From the first byte of a head to its last. 0 for none. */
  readonly headTimeoutMs: number;
  /** Without an exchange. 0 for none. */
  readonly idleTimeoutMs: number;
  /** How long what a client still sends is read and dropped after our last word, so that it gets to read that. */
  readonly lingerMs: number;
  /** A client that has closed its half is taken to be gone when nothing has been written to it for so long. */
  readonly halfCloseMs: number;
  /** Header fields of answers that the codec gives by itself, such as `server`. */
  readonly ownFields: Headers;
}

/** Envoy's limits, and its deadlines where it has any. */
export const http1ServerDefaults: Http1ServerOptions = {
  maxHeadBytes: 60 * 1024,
  maxHeaders: 100,
  maxTargetBytes: 32 * 1024,
  scheme: "http",
  acceptsHttp10: false,
  defaultHost: undefined,
  acceptsConnect: false,
  headerCase: "lower",
  headTimeoutMs: 30_000,
  idleTimeoutMs: 3_600_000,
  lingerMs: 1_000,
  halfCloseMs: 1_000,
  ownFields: new Headers(),
};

const never = -1;

export class Http1ServerConnection extends Http1Wire implements Swept {
  readonly #owner: Http1ServerOwner;
  readonly #options: Http1ServerOptions;
  readonly #sweeper: Sweeper;
  #stream: Http1ServerStream | undefined;
  /** Whether another request may follow the current one. */
  #keepsAlive = true;
  #isDraining = false;
  /** Our last word has been said; nothing is answered any more. */
  #isLingering = false;
  /** Tick at which what is under way began: idleness, a head, lingering, or silence towards a client that closed its half. */
  #since: number;
  #bytesAtLastSweep = 0;
  /** Tick at which a sweep first saw the head that is still coming. */
  #headSince = never;

  constructor(duplex: Duplex, owner: Http1ServerOwner, options: Http1ServerOptions, sweeper: Sweeper) {
    super(duplex, "request", options, options.headerCase);
    this.#owner = owner;
    this.#options = options;
    this.#sweeper = sweeper;
    this.#since = sweeper.tick;
    sweeper.add(this);
    this.attach();
  }

  /** No request is under way. */
  get isIdle(): boolean {
    return this.#stream === undefined && this.parser.isFresh;
  }

  /** Lets the current exchange finish and accepts no other. */
  drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    this.#keepsAlive = false;
    if (this.isIdle && !this.isClosed) this.#finish();
  }

  destroy(error?: Error): void {
    this.duplex.destroy(error);
  }

  sweep(tick: number): void {
    const { headTimeoutMs, idleTimeoutMs, lingerMs, halfCloseMs } = this.#options;
    if (this.#isLingering) {
      if (this.#isOver(tick, lingerMs)) this.duplex.destroy();
    } else if (this.#stream !== undefined) {
      if (!this.hasEnded || this.mode === "raw") return;
      if (this.output.bytesWritten !== this.#bytesAtLastSweep) this.#since = tick;
      this.#bytesAtLastSweep = this.output.bytesWritten;
      if (tick - this.#since >= this.#sweeper.ticks(halfCloseMs)) this.duplex.destroy();
    } else if (this.parser.isFresh) {
      if (this.#isOver(tick, idleTimeoutMs)) this.#finish();
    } else if (this.#headSince === never) this.#headSince = tick;
    else if (headTimeoutMs !== 0 && tick - this.#headSince >= this.#sweeper.ticks(headTimeoutMs)) {
      this.discardInput();
      this.inputRefused(failures.headTimeout);
    }
  }

  #isOver(tick: number, ms: number): boolean {
    return ms !== 0 && tick - this.#since >= this.#sweeper.ticks(ms);
  }

  // --- the request ---

  protected headRead(): void {
    const { parser } = this;
    this.#headSince = never;
    const request = readRequest(parser, this.#options);
    if ("details" in request) {
      this.discardInput();
      this.inputRefused(request);
      return;
    }
    this.#keepsAlive = keepsAlive(parser) && !this.#isDraining;
    const isSwitch = request.upgrade !== undefined || request.method === "CONNECT";
    const hasBody = this.expectBody();
    this.isHeld = true;
    const stream = new Http1ServerStream(this, request, !hasBody && !isSwitch, parser);
    this.#stream = stream;
    parser.reset();
    this.inputBytes = 0;
    this.output.bytesWritten = 0;
    this.#owner.onRequest(stream, this);
  }

  protected bodyRead(chunk: Buffer): void {
    this.#stream?.reader?.data(chunk);
  }

  protected messageRead(trailers: Headers | undefined): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    stream.isRead = true;
    stream.reader?.end(trailers);
  }

  protected inputRefused(failure: Http1Failure): void {
    const stream = this.#stream;
    const isAnswered = stream?.isAnswered === true;
    this.#stream = undefined;
    this.#owner.onRefused?.(failure, this, stream !== undefined);
    stream?.leave("protocol-error", failure.details);
    if (isAnswered) this.duplex.destroy();
    else this.#refuse(failure);
  }

  #refuse(failure: Http1Failure): void {
    this.output.drop();
    const { status } = failure;
    const body = STATUS_CODES[status] ?? "";
    const fields = fieldLines(this.#options.ownFields, "lower");
    const head =
      `${statusLines[status]}content-length: ${body.length}\r\ncontent-type: text/plain\r\n` +
      `${fields}date: ${new Date().toUTCString()}\r\nconnection: close\r\n`;
    this.output.begin(head, written.lines + 5, "length", body.length);
    this.output.write(Buffer.from(body));
    this.output.end(undefined);
    this.#finish();
  }

  protected inputEnded(isNew: boolean): void {
    const stream = this.#stream;
    if (stream === undefined) this.#finish();
    else if (this.mode === "raw") {
      if (isNew) stream.reader?.end(undefined);
    } else if (this.mode === "wait" || stream.isRead) this.#since = this.#sweeper.tick;
    else this.duplex.destroy();
  }

  // --- the answer ---

  inform(stream: Http1ServerStream, head: ResponseHead): void {
    if (stream !== this.#stream || stream.isAnswered || stream.protocol === "HTTP/1.0") return;
    if (head.status < 100 || head.status > 199 || head.status === 101) return;
    const text = `${statusLines[head.status]}${fieldLines(head.headers, this.output.headerCase)}`;
    this.output.writeHead(text, written.lines + 1);
  }

  respond(stream: Http1ServerStream, head: ResponseHead, endsWithHead: boolean): void {
    if (stream !== this.#stream) return;
    const { status } = head;
    const { method, upgrade } = stream.request;
    if (upgrade !== undefined && status === 101)
      return this.#switch(head, `connection: upgrade\r\nupgrade: ${upgrade}\r\n`, 2);
    if (method === "CONNECT" && status >= 200 && status < 300) return this.#switch(head, "", 0);
    // Nobody waits for the rest of a request that has its answer; and who was refused a switch may speak the other protocol.
    if (!stream.isRead) this.#keepsAlive = false;

    const isOld = stream.protocol === "HTTP/1.0";
    let text = isOld ? statusLine10(status) : (statusLines[status] as string);
    text += fieldLines(head.headers, this.output.headerCase);
    let lines = written.lines + 1;
    const { contentLength } = written;
    let framing: Framing = "none";
    if (method === "HEAD" || status === 304) {
      if (contentLength !== undefined) {
        text += `content-length: ${contentLength}\r\n`;
        lines++;
      }
    } else if (status !== 204) {
      if (endsWithHead) {
        text += "content-length: 0\r\n";
        lines++;
      } else if (contentLength !== undefined) {
        framing = "length";
        text += `content-length: ${contentLength}\r\n`;
        lines++;
      } else if (isOld) {
        framing = "until-close";
        this.#keepsAlive = false;
      } else {
        framing = "chunks";
        text += "transfer-encoding: chunked\r\n";
        lines++;
      }
    }
    if (!this.#keepsAlive) {
      text += "connection: close\r\n";
      lines++;
    } else if (isOld) {
      text += "connection: keep-alive\r\n";
      lines++;
    }
    if (framing !== "none") {
      this.output.begin(text, lines, framing, Number(contentLength));
      return;
    }
    this.output.writeHead(text, lines);
    if (endsWithHead) this.#answered(stream);
  }

  #switch(head: ResponseHead, own: string, ownLines: number): void {
    const text = `${statusLines[head.status]}${own}${fieldLines(head.headers, this.output.headerCase)}`;
    this.output.writeHead(text, written.lines + 1 + ownLines);
    this.output.switchToRaw();
    this.mode = "raw";
    this.resumeInput();
  }

  write(stream: Http1ServerStream, chunk: Buffer): boolean {
    return stream === this.#stream ? this.output.write(chunk) : true;
  }

  end(stream: Http1ServerStream, trailers: Headers | undefined): void {
    if (stream !== this.#stream) return;
    if (this.mode === "raw") {
      stream.isEnded = true;
      this.duplex.end();
      return;
    }
    // Trailers go only to those who said that they take them (RFC 9110 §6.5.1).
    this.output.end(stream.acceptsTrailers ? trailers : undefined);
    if (stream === this.#stream) this.#answered(stream);
  }

  reset(stream: Http1ServerStream): void {
    if (stream !== this.#stream) return;
    this.#stream = undefined;
    this.output.drop();
    this.duplex.destroy();
  }

  startReading(stream: Http1ServerStream): void {
    if (stream !== this.#stream) return;
    this.isHeld = false;
    this.resumeInput();
  }

  hold(stream: Http1ServerStream): void {
    if (stream === this.#stream) this.isHeld = true;
  }

  #answered(stream: Http1ServerStream): void {
    stream.settle();
    this.#stream = undefined;
    if (!stream.isRead || !this.#keepsAlive) {
      this.#finish();
      return;
    }
    this.mode = "head";
    this.isHeld = false;
    this.#since = this.#sweeper.tick;
    this.resumeInput();
  }

  /** Says goodbye: what was written is delivered, what still comes is dropped for a while. */
  #finish(): void {
    if (this.#isLingering || this.isClosed) return;
    this.#isLingering = true;
    this.#since = this.#sweeper.tick;
    this.output.flush();
    this.discardInput();
    this.duplex.end();
  }

  outputInvalid(why: string): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    this.#stream = undefined;
    stream.leave("protocol-error", why);
    this.duplex.destroy();
  }

  protected outputDrained(): void {
    this.#stream?.reader?.drained();
  }

  protected closed(error: Error | undefined): void {
    this.#sweeper.delete(this);
    const stream = this.#stream;
    this.#stream = undefined;
    const isComplete = stream?.isEnded === true && this.hasEnded;
    if (!isComplete) stream?.leave("connection-termination", error?.message ?? "the client closed the connection");
    this.#owner.onClosed?.(this, error);
  }
}

class Http1ServerStream implements DownstreamStream {
  readonly protocol: Protocol;
  readonly request: RequestHead;
  readonly endsWithHead: boolean;
  reader: BodyReader | undefined;
  /** The request has been read to its end. */
  isRead: boolean;
  isAnswered = false;
  isDone = false;
  /** After a switch: our half is closed. */
  isEnded = false;
  readonly acceptsTrailers: boolean;
  readonly #connection: Http1ServerConnection;
  #wantsContinue: boolean;
  /** Negative while the connection counts for this request. */
  #settledRead = -1;
  #settledWritten = 0;

  constructor(connection: Http1ServerConnection, request: RequestHead, endsWithHead: boolean, head: Facts) {
    this.#connection = connection;
    this.protocol = head.minorVersion === 1 ? "HTTP/1.1" : "HTTP/1.0";
    this.request = request;
    this.endsWithHead = endsWithHead;
    this.isRead = endsWithHead;
    this.acceptsTrailers = head.acceptsTrailers;
    this.#wantsContinue = head.expectsContinue && head.minorVersion === 1 && !endsWithHead;
  }

  get bytesRead(): number {
    return this.#settledRead < 0 ? this.#connection.inputBytes : this.#settledRead;
  }

  get bytesWritten(): number {
    return this.#settledRead < 0 ? this.#connection.output.bytesWritten : this.#settledWritten;
  }

  /** The connection counts for the next request from now on. */
  settle(): void {
    this.isDone = true;
    this.#settledRead = this.#connection.inputBytes;
    this.#settledWritten = this.#connection.output.bytesWritten;
  }

  read(reader: BodyReader): void {
    if (this.reader !== undefined || this.isDone) return;
    this.reader = reader;
    if (this.endsWithHead) {
      reader.end(undefined);
      return;
    }
    if (this.#wantsContinue) this.inform(continueHead);
    this.#connection.startReading(this);
  }

  pause(): void {
    this.#connection.hold(this);
  }

  resume(): void {
    if (this.reader !== undefined) this.#connection.startReading(this);
  }

  inform(head: ResponseHead): void {
    if (head.status === 100) {
      if (!this.#wantsContinue) return;
      this.#wantsContinue = false;
    }
    this.#connection.inform(this, head);
  }

  respond(head: ResponseHead, endsWithHead: boolean): void {
    if (this.isAnswered) return;
    this.isAnswered = true;
    this.#connection.respond(this, head, endsWithHead);
  }

  write(chunk: Buffer): boolean {
    return this.isAnswered ? this.#connection.write(this, chunk) : true;
  }

  end(trailers?: Headers): void {
    if (this.isAnswered) this.#connection.end(this, trailers);
  }

  reset(_reason: ResetReason): void {
    this.reader = undefined;
    this.#connection.reset(this);
  }

  /** The connection has nothing to do with it any more. */
  leave(reason: ResetReason, detail: string): void {
    this.isDone = true;
    this.reader?.reset(reason, detail);
  }
}

interface Facts {
  readonly minorVersion: number;
  readonly acceptsTrailers: boolean;
  readonly expectsContinue: boolean;
}

const continueHead: ResponseHead = { status: 100, headers: new Headers() };
