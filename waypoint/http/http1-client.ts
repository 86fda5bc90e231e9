/**
 * The client side of HTTP/1.1 on one connection: one exchange at a time, the next one when both its messages are complete.
 * Any duplex will do: a socket, a TLS socket, the stream of a tunnel. Sockets of `makeSocket` cost least.
 */
import type { Duplex } from "node:stream";
import { Headers } from "./headers.ts";
import type { Framing } from "./http1-output.ts";
import { keepsAlive, removeNominated } from "./http1-request.ts";
import type { Http1Failure } from "./http1-syntax.ts";
import { failures, isAuthority } from "./http1-syntax.ts";
import { Http1Wire } from "./http1-wire.ts";
import type { HeaderCase } from "./http1-write.ts";
import { fieldLines, nameForm, written } from "./http1-write.ts";
import type { RequestHead, ResetReason, ResponseReader, UpstreamStream } from "./streams.ts";

/** What the pool wants to know. One object for many connections: no closures for each. */
export interface Http1ClientOwner {
  /** The exchange is over and the connection may carry another. Called last: `send` may be called from within. */
  connectionIdle(connection: Http1ClientConnection): void;
  /** Exactly once, when the connection cannot be used any more; what was in flight has been reset before. */
  connectionClosed(connection: Http1ClientConnection, error: Error | undefined): void;
}

export interface Http1ClientOptions {
  /** Of one response head, and of trailers. Default 60 KiB. */
  readonly maxHeadBytes?: number;
  /** Fields of one response head. Default 100. */
  readonly maxHeaders?: number;
  /** How names are written. `preserve` needs heads whose codec kept the spelling. Default `lower`. */
  readonly headerCase?: HeaderCase;
}

/** Interim answers to one request; more than that is no dialogue. */
const maxInterim = 32;

/** What may be sent twice without harm (RFC 9110 §9.2.2). */
const idempotent: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);

/** Methods whose requests have no body by their nature; others say so where they have none. */
const usuallyWithoutBody: ReadonlySet<string> = new Set(["GET", "HEAD", "DELETE", "TRACE"]);

const targetForm = /^[\x21-\x7e]+$/;

export class Http1ClientConnection extends Http1Wire {
  /** Exchanges begun so far. */
  exchanges = 0;
  readonly #owner: Http1ClientOwner;
  #stream: Http1ClientStream | undefined;
  #isClosing = false;
  #error: Error | undefined;

  constructor(duplex: Duplex, owner: Http1ClientOwner, options: Http1ClientOptions = {}) {
    const { maxHeadBytes = 60 * 1024, maxHeaders = 100, headerCase = "lower" } = options;
    super(duplex, "response", { maxHeadBytes, maxHeaders }, headerCase);
    this.#owner = owner;
    this.attach();
  }

  /** Open, idle, and not about to close: {@link send} may be called. */
  get isUsable(): boolean {
    return this.#stream === undefined && !this.#isClosing && !this.isClosed && !this.hasEnded && !this.duplex.destroyed;
  }

  /** No exchange is under way. */
  get isIdle(): boolean {
    return this.#stream === undefined;
  }

  /** Sends the head together with the first piece of the body, where that comes in the same turn. Only while {@link isUsable}. */
  send(head: RequestHead, endsWithHead: boolean, reader: ResponseReader): UpstreamStream {
    const stream = new Http1ClientStream(this, head, reader);
    if (!this.isUsable) {
      process.nextTick(leaveUnsent, stream);
      return stream;
    }
    this.exchanges++;
    this.#stream = stream;
    this.isHeld = false;
    this.inputBytes = 0;
    this.output.bytesWritten = 0;
    if (!isWritable(head)) {
      process.nextTick(failInvalid, this);
      return stream;
    }
    this.#write(head, endsWithHead, stream);
    return stream;
  }

  #write(head: RequestHead, endsWithHead: boolean, stream: Http1ClientStream): void {
    const { method, upgrade } = head;
    const { output } = this;
    const { headerCase } = output;
    let text =
      `${method} ${method === "CONNECT" ? head.authority : head.path} HTTP/1.1\r\n` +
      `${headerCase === "proper" ? "Host" : "host"}: ${head.authority}\r\n${fieldLines(head.headers, headerCase)}`;
    let lines = written.lines + 2;
    const { contentLength } = written;
    let framing: Framing = "none";
    if (upgrade !== undefined) {
      text += `connection: upgrade\r\nupgrade: ${upgrade}\r\n`;
      lines += 2;
    } else if (method === "CONNECT") {
      // Neither body nor length, whatever comes.
    } else if (endsWithHead) {
      if (contentLength !== undefined || !usuallyWithoutBody.has(method)) {
        text += "content-length: 0\r\n";
        lines++;
      }
    } else if (contentLength !== undefined) {
      framing = "length";
      text += `content-length: ${contentLength}\r\n`;
      lines++;
    } else {
      framing = "chunks";
      text += "transfer-encoding: chunked\r\n";
      lines++;
    }
    if (framing !== "none") output.begin(text, lines, framing, Number(contentLength));
    else {
      stream.isSent = endsWithHead;
      output.writeHead(text, lines);
    }
  }

  /** Closes: now when idle, otherwise after the exchange. */
  close(): void {
    this.#isClosing = true;
    if (this.isIdle) this.#finish();
  }

  /** Closes at once; an exchange under way is reset. */
  destroy(error?: Error): void {
    this.#isClosing = true;
    this.#error ??= error;
    this.duplex.destroy();
  }

  /** Nothing is under way: the peer takes the end of our half as the end of the connection. */
  #finish(): void {
    this.#isClosing = true;
    this.discardInput();
    this.duplex.destroy();
  }

  // --- the answer ---

  protected headRead(): void {
    const { parser } = this;
    const stream = this.#stream;
    if (stream === undefined) return this.#refuse(failures.unexpected);
    const { status } = parser;
    if (status < 200 && status !== 101) return this.#interim(stream, status);
    const { method, upgrade } = stream.request;
    const isSwitch = status === 101 || (method === "CONNECT" && status < 300);
    if (status === 101 && upgrade === undefined) return this.#refuse(failures.status);
    const hasNoBody = method === "HEAD" || status === 204 || status === 304;
    if (parser.isChunked && (parser.minorVersion === 0 || status === 204 || isSwitch))
      return this.#refuse(failures.transferEncodingNotAllowed);
    if (status === 204 && parser.contentLength > 0) return this.#refuse(failures.bodyNotAllowed);
    const headers = new Headers(parser.pairs, parser.spelling);
    if (!removeNominated(headers, parser.connectionOptions)) return this.#refuse(failures.connection);

    if (!keepsAlive(parser)) this.#isClosing = true;
    stream.isAnswered = true;
    let endsWithHead = false;
    if (isSwitch) {
      this.#isClosing = true;
      this.mode = "raw";
      this.output.switchToRaw();
    } else if (hasNoBody) {
      this.mode = "wait";
      endsWithHead = true;
    } else if (parser.isChunked || parser.contentLength >= 0) endsWithHead = !this.expectBody();
    else {
      this.#isClosing = true;
      this.mode = "until-close";
    }
    const { hasMore } = this;
    parser.reset();
    stream.reader.head({ status, headers }, endsWithHead);
    if (!endsWithHead) return;
    this.hasMore = hasMore;
    this.messageRead(undefined);
  }

  #interim(stream: Http1ClientStream, status: number): void {
    const { parser } = this;
    if (parser.isChunked || parser.contentLength > 0) return this.#refuse(failures.transferEncodingNotAllowed);
    if (++stream.interim > maxInterim) return this.#refuse(failures.status);
    const headers = new Headers(parser.pairs, parser.spelling);
    if (!removeNominated(headers, parser.connectionOptions)) return this.#refuse(failures.connection);
    parser.reset();
    stream.reader.inform({ status, headers });
  }

  protected bodyRead(chunk: Buffer): void {
    this.#stream?.reader.data(chunk);
  }

  protected messageRead(trailers: Headers | undefined): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    this.#stream = undefined;
    const { hasMore } = this;
    // An answer that comes before its request is complete, or bytes behind it: nothing can be told apart any more.
    const isReusable = stream.isSent && !hasMore && !this.#isClosing && !this.hasEnded;
    stream.isDone = true;
    if (!isReusable) {
      this.#isClosing = true;
      this.output.drop();
    }
    stream.reader.end(trailers);
    if (!isReusable) {
      this.#finish();
      return;
    }
    this.mode = "head";
    this.#owner.connectionIdle(this);
  }

  #refuse(failure: Http1Failure): void {
    this.discardInput();
    this.inputRefused(failure);
  }

  protected inputRefused(failure: Http1Failure): void {
    this.#fail("protocol-error", failure.message);
  }

  protected inputEnded(isNew: boolean): void {
    const stream = this.#stream;
    if (this.mode !== "raw" || stream === undefined) this.duplex.destroy();
    else if (isNew) {
      stream.isReadEnded = true;
      stream.reader.end(undefined);
    }
  }

  outputInvalid(why: string): void {
    this.#fail("protocol-error", why);
  }

  #fail(reason: ResetReason, why: string): void {
    const stream = this.#stream;
    this.#stream = undefined;
    this.#isClosing = true;
    this.#error ??= new Error(why);
    this.output.drop();
    stream?.leave(reason, why);
    this.duplex.destroy();
  }

  protected outputDrained(): void {
    this.#stream?.reader.drained();
  }

  protected closed(error: Error | undefined): void {
    const why = this.#error ?? error;
    const stream = this.#stream;
    this.#stream = undefined;
    if (stream !== undefined && !stream.isReadEnded) {
      // The peer closes idle connections as it likes: one that dies under a second request has probably not seen that.
      const isSafe =
        this.exchanges > 1 && !stream.isAnswered && this.parser.isFresh && idempotent.has(stream.request.method);
      stream.leave(
        isSafe ? "closed-unanswered" : "connection-termination",
        why?.message ?? "the upstream closed the connection",
      );
    }
    this.#owner.connectionClosed(this, why);
  }

  // --- the request ---

  write(stream: Http1ClientStream, chunk: Buffer): boolean {
    return stream === this.#stream ? this.output.write(chunk) : true;
  }

  end(stream: Http1ClientStream, trailers: Headers | undefined): void {
    if (stream !== this.#stream || stream.isSent) return;
    if (this.mode === "raw") {
      stream.isSent = true;
      this.duplex.end();
      return;
    }
    // An upgrade has no body; what comes before the answer to it waits for that.
    if (stream.request.upgrade !== undefined || stream.request.method === "CONNECT") return;
    stream.isSent = true;
    this.output.end(trailers);
  }

  reset(stream: Http1ClientStream): void {
    if (stream !== this.#stream) return;
    this.#stream = undefined;
    this.#isClosing = true;
    this.output.drop();
    this.duplex.destroy();
  }

  hold(stream: Http1ClientStream, isHeld: boolean): void {
    if (stream !== this.#stream) return;
    this.isHeld = isHeld;
    if (!isHeld) this.resumeInput();
  }
}

function isWritable({ method, authority, path }: RequestHead): boolean {
  return nameForm.test(method) && isAuthority(authority) && (method === "CONNECT" || targetForm.test(path));
}

const leaveUnsent = (stream: Http1ClientStream) => stream.leave("refused-stream", "the connection is closed");
const failInvalid = (connection: Http1ClientConnection) => connection.outputInvalid("a malformed first line or host");

class Http1ClientStream implements UpstreamStream {
  readonly request: RequestHead;
  readonly reader: ResponseReader;
  /** The request has been written to its end. */
  isSent = false;
  /** The head of the answer has come. */
  isAnswered = false;
  isDone = false;
  /** After a switch: the peer's half is closed. */
  isReadEnded = false;
  interim = 0;
  readonly #connection: Http1ClientConnection;

  constructor(connection: Http1ClientConnection, request: RequestHead, reader: ResponseReader) {
    this.#connection = connection;
    this.request = request;
    this.reader = reader;
  }

  write(chunk: Buffer): boolean {
    return this.#connection.write(this, chunk);
  }

  end(trailers?: Headers): void {
    this.#connection.end(this, trailers);
  }

  reset(_reason: ResetReason): void {
    this.isDone = true;
    this.#connection.reset(this);
  }

  pause(): void {
    this.#connection.hold(this, true);
  }

  resume(): void {
    this.#connection.hold(this, false);
  }

  /** The connection has nothing to do with it any more. */
  leave(reason: ResetReason, detail: string): void {
    if (this.isDone) return;
    this.isDone = true;
    this.reader.reset(reason, detail);
  }
}
