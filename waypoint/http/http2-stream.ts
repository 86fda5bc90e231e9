/** One stream of an HTTP/2 connection: its two directions, each with its window, and what waits in them. */
import type { Headers } from "./headers.ts";
import { errorCodes, type ErrorCode } from "./http2-frames.ts";
import { Inbox } from "./http2-inbox.ts";
import type { BodyReader, ResetReason } from "./streams.ts";

/** What a stream needs of its connection. */
export interface StreamHost {
  /** Sends what windows and transport allow of `chunk` from `from` on; returns up to where. */
  sendData(stream: Http2Stream, chunk: Buffer, from: number, endsStream: boolean): number;
  /** The end without data. */
  sendEnd(stream: Http2Stream): void;
  sendTrailers(stream: Http2Stream, trailers: Headers): void;
  /** RST_STREAM, and the stream is forgotten. */
  sendReset(stream: Http2Stream, code: ErrorCode): void;
  /** Octets were taken by their reader; the windows may be opened again by so many. */
  consumed(stream: Http2Stream | undefined, bytes: number): void;
  /** The stream has octets to send, or wants to hear when it may. */
  wait(stream: Http2Stream): void;
  /** Whether the transport takes more now. */
  readonly isBlocked: boolean;
  /** Both directions are over. */
  forget(stream: Http2Stream): void;
}

type End = "none" | "plain" | Headers;

export abstract class Http2Stream {
  readonly id: number;
  protected readonly host: StreamHost;
  /** Octets that the peer lets us send. */
  sendWindow: number;
  /** Octets that the peer may send. */
  receiveWindow: number;
  /** Octets taken and not yet given back to the peer's window. */
  unreturned = 0;
  /** When it last could send. */
  progressMs = 0;
  bytesRead = 0;
  bytesWritten = 0;

  protected reader: BodyReader | undefined;
  /** Content-Length of what we receive; -1: not said. */
  protected expectedBytes = -1;
  #paused = false;
  #inbox: Inbox | undefined;
  #isDelivering = false;
  /** END_STREAM has come. */
  #received = false;
  #trailers: Headers | undefined;
  /** `end` or `reset` was told. */
  #toldEnd = false;
  #reset: { readonly reason: ResetReason; readonly detail: string } | undefined;

  #outbox: Buffer[] | undefined;
  /** How much of the first piece is sent already. */
  #outboxFrom = 0;
  #ending: End = "none";
  /** END_STREAM is sent. */
  #sent = false;
  #wantsDrained = false;
  /** No frame of ours any more, none of the peer's counts. */
  #closed = false;

  constructor(host: StreamHost, id: number, sendWindow: number, receiveWindow: number) {
    this.host = host;
    this.id = id;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Whether the peer has said all. */
  get hasReceivedEnd(): boolean {
    return this.#received;
  }

  /** Whether we have said all, up to what still waits for windows. */
  get hasEnded(): boolean {
    return this.#sent || this.#ending !== "none";
  }

  get hasSentEnd(): boolean {
    return this.#sent;
  }

  /** Whether octets of ours wait. */
  get isPending(): boolean {
    return this.#outbox !== undefined || (this.#ending !== "none" && !this.#sent);
  }

  // ---- from the peer

  /** Octets of a DATA frame. */
  receive(chunk: Buffer): void {
    this.bytesRead += chunk.length;
    if (this.expectedBytes >= 0 && this.bytesRead > this.expectedBytes) {
      this.host.consumed(this, chunk.length);
      this.fail(errorCodes.protocolError, "more data than content-length says");
      return;
    }
    if (this.reader !== undefined && !this.#paused && this.#inbox === undefined) {
      this.reader.data(chunk);
      this.host.consumed(this, chunk.length);
      return;
    }
    (this.#inbox ??= new Inbox()).push(chunk);
  }

  receiveEnd(trailers: Headers | undefined): void {
    if (this.expectedBytes >= 0 && this.bytesRead !== this.expectedBytes) {
      this.fail(errorCodes.protocolError, "less data than content-length says");
      return;
    }
    this.#received = true;
    this.#trailers = trailers;
    if (this.#inbox === undefined && !this.#paused) this.#tellEnd();
    this.#closeIfOver();
  }

  /** Known from the head alone: nothing will be delivered but the end. */
  protected receivedWithHead(): void {
    this.#received = true;
  }

  /** The peer, or the connection, ended it. */
  receiveReset(reason: ResetReason, detail: string): void {
    this.#close();
    this.#tellReset(reason, detail);
  }

  /** The peer broke a rule on this stream. */
  fail(code: ErrorCode, detail: string): void {
    if (this.#closed) return;
    this.host.sendReset(this, code);
    this.#close();
    this.#tellReset("protocol-error", detail);
  }

  // ---- from its owner

  protected startReading(reader: BodyReader): void {
    this.reader = reader;
    if (this.#reset !== undefined) {
      const { reason, detail } = this.#reset;
      this.#tellReset(reason, detail);
    } else this.#deliver();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (!this.#isDelivering) this.#deliver();
  }

  write(chunk: Buffer): boolean {
    if (this.#closed || this.hasEnded || chunk.length === 0) return true;
    this.bytesWritten += chunk.length;
    if (this.#outbox === undefined) {
      const sent = this.host.sendData(this, chunk, 0, false);
      if (sent === chunk.length) {
        if (!this.host.isBlocked) return true;
      } else {
        this.#outbox = [chunk];
        this.#outboxFrom = sent;
      }
    } else this.#outbox.push(chunk);
    this.#wantsDrained = true;
    this.host.wait(this);
    return false;
  }

  end(trailers?: Headers): void {
    if (this.#closed || this.hasEnded) return;
    this.#ending = trailers === undefined || trailers.size === 0 ? "plain" : trailers;
    if (this.#outbox === undefined) this.#sendEnding();
  }

  /** What to tell the peer; nothing more comes from this stream. */
  protected abandon(code: ErrorCode): void {
    if (this.#closed) {
      this.dropUnread();
      return;
    }
    this.host.sendReset(this, code);
    this.#close();
    this.#toldEnd = true;
  }

  /** Nobody wants what has come and was not read: it must not keep the connection's window from other streams. */
  protected dropUnread(): void {
    const inbox = this.#inbox;
    if (inbox === undefined) return;
    this.#inbox = undefined;
    this.#toldEnd = true;
    this.host.consumed(undefined, inbox.bytes);
  }

  /** Windows or transport have room. Whether there is nothing left to wait for. */
  pump(nowMs: number): boolean {
    const outbox = this.#outbox;
    if (outbox !== undefined && !this.#closed) {
      while (outbox.length > 0) {
        const [chunk] = outbox as [Buffer];
        const isLast = outbox.length === 1 && this.#ending === "plain";
        const upTo = this.host.sendData(this, chunk, this.#outboxFrom, isLast);
        if (upTo > this.#outboxFrom) this.progressMs = nowMs;
        if (upTo < chunk.length) {
          this.#outboxFrom = upTo;
          return false;
        }
        this.#outboxFrom = 0;
        outbox.shift();
        if (isLast) this.#sent = true;
      }
      this.#outbox = undefined;
      if (this.#sent) this.onSentEnd();
      else if (this.#ending !== "none") this.#sendEnding();
      this.#closeIfOver();
    }
    if (!this.#wantsDrained || this.host.isBlocked) return !this.#wantsDrained;
    this.#wantsDrained = false;
    if (!this.#closed) this.reader?.drained();
    return true;
  }

  /** Called when END_STREAM of ours is out. */
  protected onSentEnd(): void {}

  /** The section that opened our direction ended it at once. */
  protected sentWithHead(): void {
    this.#ending = "plain";
    this.#sent = true;
    this.onSentEnd();
    this.#closeIfOver();
  }

  #sendEnding(): void {
    if (this.#ending === "plain") this.host.sendEnd(this);
    else if (this.#ending !== "none") this.host.sendTrailers(this, this.#ending);
    this.#sent = true;
    this.onSentEnd();
    this.#closeIfOver();
  }

  #deliver(): void {
    const { reader } = this;
    if (reader === undefined || this.#isDelivering) return;
    this.#isDelivering = true;
    while (!this.#paused && this.#inbox !== undefined) {
      const chunk = this.#inbox.shift();
      if (chunk === undefined) this.#inbox = undefined;
      else {
        reader.data(chunk);
        this.host.consumed(this.#received ? undefined : this, chunk.length);
      }
    }
    this.#isDelivering = false;
    if (this.#received && !this.#paused && this.#inbox === undefined) this.#tellEnd();
  }

  #tellEnd(): void {
    if (this.#toldEnd || this.reader === undefined) return;
    this.#toldEnd = true;
    this.reader.end(this.#trailers);
  }

  #tellReset(reason: ResetReason, detail: string): void {
    // Who has heard the end of the one direction is told as long as the other was open.
    if (this.#toldEnd && this.#sent) return;
    if (this.reader === undefined) {
      this.#reset = { reason, detail };
      return;
    }
    this.#toldEnd = true;
    this.reader.reset(reason, detail);
  }

  #closeIfOver(): void {
    if (!this.#received || !this.#sent || this.#closed) return;
    this.#closed = true;
    this.host.forget(this);
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#outbox = undefined;
    const inbox = this.#inbox;
    this.#inbox = undefined;
    this.host.forget(this);
    if (inbox !== undefined) this.host.consumed(undefined, inbox.bytes);
  }
}
