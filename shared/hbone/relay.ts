/**
 * Moves the bytes of one user connection between its two ends: TCP sockets, or streams of a tunnel, in any pairing.
 * The end of one direction (FIN, END_STREAM) is passed on while the other goes on.
 */
import type { Http2Session, Http2Stream } from "node:http2";
import { constants } from "node:http2";
import type { Socket } from "node:net";
import { codeOf } from "#shared/errors/mesh-error.ts";
import { piecePassed } from "#shared/lifecycle/garbage.ts";

export interface RelayObserver {
  /** Bytes that the downstream side sent. */
  requestBytes(bytes: number): void;
  /** Bytes that the upstream side sent. */
  responseBytes(bytes: number): void;
  /** Once, when both sides are closed; with an error unless each end said goodbye in an orderly way. */
  ended(error: Error | undefined): void;
}

export interface Relay {
  /** Closes both sides at once: RST to sockets, RST_STREAM to tunnels. `ended` follows with this error. */
  abort(error: Error): void;
}

/**
 * Bytes read from one side that may wait for the other to take them; then reading stops. It has to be above the 64 KiB
 * at which Node's streams begin to announce `drain`. Larger batches are encrypted and written with fewer calls.
 */
const highWaterBytes = 512 * 1024;

/** A tunnel delivers bulk in pieces of at most 16 KiB; pieces from this size on are gathered into one writev. */
const gatherFromBytes = 4_096;

/** What an application does when it crashes, and what a socket says that was closed under our hands. */
const orderlyErrors: ReadonlySet<string> = new Set(["ECONNRESET", "EPIPE", "ENOTCONN", "ERR_STREAM_WRITE_AFTER_END"]);

/** A peer that resets with one of these has merely lost interest, as Istio's ztunnel reads them. */
const orderlyResets: ReadonlySet<number> = new Set([
  constants.NGHTTP2_NO_ERROR,
  constants.NGHTTP2_CANCEL,
  constants.NGHTTP2_STREAM_CLOSED,
]);

/** Listeners are shared functions that find their side on the emitter: idle connections are many, closures are not free. */
const sideOf = Symbol("relay side");
type Relayed<T> = T & { [sideOf]: Side };

/** @param downstream who connected to us; `upstream` whom we connected to */
export function relay(
  { downstream, upstream }: { readonly downstream: Socket | Http2Stream; readonly upstream: Socket | Http2Stream },
  observer: RelayObserver,
): Relay {
  const pair = new Pair(observer);
  const down = sideFor(downstream, pair, true);
  const up = sideFor(upstream, pair, false);
  pair.join(down, up);
  return pair;
}

const isTunnelStream = (end: Socket | Http2Stream): end is Http2Stream => "rstCode" in end;

const sideFor = (end: Socket | Http2Stream, pair: Pair, isDownstream: boolean): Side =>
  isTunnelStream(end) ? new StreamSide(end, pair, isDownstream) : new SocketSide(end, pair, isDownstream);

class Pair implements Relay {
  readonly #observer: RelayObserver;
  #open = 2;
  #error: Error | undefined;
  #sides: readonly Side[] = [];

  constructor(observer: RelayObserver) {
    this.#observer = observer;
  }

  join(down: Side, up: Side): void {
    this.#sides = [down, up];
    down.start(up);
    up.start(down);
  }

  abort(error: Error): void {
    if (this.#open === 0) return;
    this.#error ??= error;
    for (const side of this.#sides) side.reset();
  }

  count(fromDownstream: boolean, bytes: number): void {
    if (fromDownstream) this.#observer.requestBytes(bytes);
    else this.#observer.responseBytes(bytes);
  }

  sideClosed(failure: Error | undefined): void {
    this.#error ??= failure;
    if (--this.#open === 0) this.#observer.ended(this.#error);
  }
}

/** One end. Reads go to the other; what the other read comes through {@link write} and {@link end}. */
abstract class Side {
  readonly #pair: Pair;
  readonly #isDownstream: boolean;
  protected readonly duplex: Socket | Http2Stream;
  protected error: Error | undefined;
  protected readEnded = false;
  #other!: Side;
  #paused = false;
  #closed = false;

  constructor(duplex: Socket | Http2Stream, pair: Pair, isDownstream: boolean) {
    this.duplex = duplex;
    this.#pair = pair;
    this.#isDownstream = isDownstream;
  }

  start(other: Side): void {
    this.#other = other;
    const duplex = this.duplex as Relayed<Socket>;
    duplex[sideOf] = this;
    duplex.on("error", onError);
    duplex.on("close", onClose);
    duplex.on("end", onEnd);
    duplex.on("drain", onDrain);
    duplex.on("data", onData);
    // It may have died between being opened and being joined; then `close` has been emitted already.
    if (duplex.closed && duplex.destroyed) process.nextTick(onClosedBefore, this);
    else duplex.resume();
  }

  received(chunk: Buffer): void {
    const other = this.#other;
    if (other.#closed) return;
    this.#pair.count(this.#isDownstream, chunk.length);
    other.write(chunk);
    piecePassed(chunk.length);
    if (other.duplex.writableLength <= highWaterBytes) return;
    this.#paused = true;
    this.duplex.pause();
  }

  drained(): void {
    const other = this.#other;
    if (!other.#paused) return;
    other.#paused = false;
    other.duplex.resume();
  }

  ended(): void {
    // A stream that is torn down says `end` too, although its data is cut off: then `close` decides.
    if (this.duplex.destroyed) return;
    this.readEnded = true;
    if (!this.#other.#closed) this.#other.end();
  }

  failed(error: Error): void {
    this.error ??= error;
  }

  closed(): void {
    if (this.#closed) return;
    this.#closed = true;
    const failure = this.failure();
    const other = this.#other;
    if (!other.#closed) {
      if (failure !== undefined) other.reset();
      else {
        if (!this.readEnded) other.end();
        if (!other.readEnded) other.finishWriting(); // nobody takes what it still says
      }
    }
    this.#pair.sideClosed(failure);
  }

  /** Passes the end of the other side's data on. */
  end(): void {
    this.duplex.end();
  }

  abstract write(chunk: Buffer): void;
  /** Why the side is gone, unless it went in an orderly way. */
  protected abstract failure(): Error | undefined;
  /** Closes as soon as what was written is delivered; what is still read is dropped. */
  abstract finishWriting(): void;
  abstract reset(): void;
}

const onError = function (this: unknown, error: Error) {
  (this as Relayed<Socket>)[sideOf].failed(error);
};
const onClose = function (this: unknown) {
  (this as Relayed<Socket>)[sideOf].closed();
};
const onEnd = function (this: unknown) {
  (this as Relayed<Socket>)[sideOf].ended();
};
const onDrain = function (this: unknown) {
  (this as Relayed<Socket>)[sideOf].drained();
};
const onData = function (this: unknown, chunk: Buffer) {
  (this as Relayed<Socket>)[sideOf].received(chunk);
};
const onClosedBefore = (side: Side) => side.closed();

class SocketSide extends Side {
  isGathering = false;

  get #socket(): Socket {
    return this.duplex as Socket;
  }

  write(chunk: Buffer): void {
    if (!this.isGathering && chunk.length >= gatherFromBytes) gather(this);
    this.#socket.write(chunk);
  }

  flush(): void {
    this.isGathering = false;
    this.#socket.uncork();
  }

  cork(): void {
    this.isGathering = true;
    this.#socket.cork();
  }

  protected failure(): Error | undefined {
    const { error } = this;
    return orderlyErrors.has(codeOf(error)) ? undefined : error;
  }

  finishWriting(): void {
    this.#socket.pause();
    this.#socket.destroySoon();
  }

  reset(): void {
    // Under TLS there is no RST to be had; closing without its farewell says the same.
    if ("encrypted" in this.#socket) this.#socket.destroy();
    else this.#socket.resetAndDestroy();
  }
}

/** Sockets with pieces to write in one go when this turn's reads are done. */
let gathering: SocketSide[] = [];

function gather(side: SocketSide): void {
  side.cork();
  if (gathering.push(side) === 1) setImmediate(flushGathered);
}

function flushGathered(): void {
  const sides = gathering;
  gathering = [];
  for (const side of sides) side.flush();
}

class StreamSide extends Side {
  readonly #session: Http2Session | undefined;

  constructor(stream: Http2Stream, pair: Pair, isDownstream: boolean) {
    super(stream, pair, isDownstream);
    this.#session = stream.session;
  }

  get #stream(): Http2Stream {
    return this.duplex as Http2Stream;
  }

  write(chunk: Buffer): void {
    this.#stream.write(chunk);
  }

  protected failure(): Error | undefined {
    if (this.readEnded) return undefined;
    // A tunnel that broke looks like a reset without error, but its data is cut off: the application has to see that.
    if (this.#session?.destroyed !== false) return this.error ?? new Error("the tunnel was lost");
    if (orderlyResets.has(this.#stream.rstCode ?? 0)) return undefined;
    return this.error ?? new Error(`the peer reset the stream with code ${this.#stream.rstCode}`);
  }

  finishWriting(): void {
    const stream = this.#stream;
    if (stream.writableFinished) stream.close(constants.NGHTTP2_CANCEL);
    else stream.once("finish", () => stream.close(constants.NGHTTP2_CANCEL));
  }

  reset(): void {
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }
}
