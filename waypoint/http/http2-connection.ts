/**
 * One HTTP/2 connection (RFC 9113) on any duplex: what frames mean, flow control, and the bounds within which a peer may
 * keep us busy. What streams mean is up to the server's and the client's side of it.
 *
 * It is our own, where tunnels use node:http2, for two reasons: a request costs a fraction of what it costs there (a
 * stream of Node is a dozen objects and as many turns of the loop), and every frame passes here to be counted, of which
 * nghttp2 bounds some kinds only.
 */
import type { Duplex } from "node:stream";
import type { Clock } from "#shared/clock/clock.ts";
import { piecePassed } from "#shared/lifecycle/garbage.ts";
import type { Headers } from "./headers.ts";
import { brokenStreams, Budget, earnedByFrame, idleFrames } from "./http2-budget.ts";
import { Farewell } from "./http2-farewell.ts";
import { expectNoSelfDependency, FrameReader } from "./http2-frame-reader.ts";
import { FrameWriter, type HeadWriter } from "./http2-frame-writer.ts";
import {
  ConnectionError,
  defaultWindow,
  errorCodes,
  errorName,
  flags,
  frameTypes,
  maxFrameBytes,
  maxWindow,
  type ErrorCode,
  type FrameSink,
} from "./http2-frames.ts";
import { HpackDecoder, HpackError } from "./http2-hpack-decoder.ts";
import type { HpackEncoder } from "./http2-hpack-encoder.ts";
import { FrameOutput } from "./http2-output.ts";
import { Pinger, type KeepAlive } from "./http2-pinger.ts";
import { SendQueue } from "./http2-send-queue.ts";
import { peerSettingsDefault, readSettings, type PeerSettings } from "./http2-settings.ts";
import type { Http2Stream, StreamHost } from "./http2-stream.ts";
import { readStatically, type BytesSink } from "./static-read.ts";
import type { ResetReason } from "./streams.ts";

export interface Http2ConnectionLimits {
  /** Octets of names and values in one section of fields. */
  readonly maxHeaderBytes: number;
  readonly maxHeaders: number;
  /** Octets that a peer may send ahead of a stream's reader. */
  readonly streamWindow: number;
  /** Octets for all streams together: what a connection can make us hold at most. */
  readonly connectionWindow: number;
  /** How long octets of ours may wait for a peer that takes none. Milliseconds. */
  readonly stalledMs: number;
  /** PING when nothing was heard for a while; undefined: none. */
  readonly keepAlive?: KeepAlive | undefined;
}

export const connectionLimitsDefault: Http2ConnectionLimits = {
  maxHeaderBytes: 61_440,
  maxHeaders: 100,
  streamWindow: 262_144,
  connectionWindow: 4_194_304,
  stalledMs: 300_000,
};

/** Smaller pieces share the memory of a pool. */
const pooledBytes = Buffer.poolSize >>> 1;
/** Unsent octets of frames other than DATA from which on nothing more is read: a peer that does not listen gets no answers. */
const unsentBytesBound = 262_144;
/** How many times the bound of a section it may be, uncompressed, before it is an attack. */
const bombFactor = 16;

export abstract class Http2Connection<Stream extends Http2Stream, Head>
  implements StreamHost, BytesSink, FrameSink<Stream>, HeadWriter<Head>
{
  protected readonly duplex: Duplex;
  protected readonly clock: Clock;
  protected readonly limits: Http2ConnectionLimits;
  protected readonly streams = new Map<number, Stream>();
  protected readonly decoder: HpackDecoder;
  protected readonly output: FrameOutput;
  protected readonly writer: FrameWriter<Head>;
  protected readonly pinger: Pinger;
  /** What the peer has told of itself. */
  protected peer: PeerSettings = peerSettingsDefault;
  protected hasPeerSettings = false;
  readonly #reader: FrameReader<Stream>;
  readonly #queue: SendQueue;
  readonly #idle: Budget;
  readonly #broken: Budget;
  /** `ended`: our last frame is out, or the peer is gone; nothing is read any more. */
  #state: "open" | "ended" | "closed" = "open";
  #failure: Error | undefined;
  #farewell: Farewell | undefined;
  #receiveWindow: number;
  /** Octets taken and not yet given back to the connection's window. */
  #unreturned = 0;

  protected constructor(duplex: Duplex, clock: Clock, limits: Http2ConnectionLimits) {
    this.duplex = duplex;
    this.clock = clock;
    this.limits = limits;
    const { maxHeaderBytes, maxHeaders, stalledMs } = limits;
    this.decoder = new HpackDecoder({ maxBytes: maxHeaderBytes, maxFields: maxHeaders });
    this.output = new FrameOutput(duplex, () => this.#blocked());
    this.writer = new FrameWriter(this.output, this);
    this.#reader = new FrameReader(this, 2 * maxHeaderBytes);
    const onDead = (error: Error) => this.destroy(error);
    this.#queue = new SendQueue({ clock, output: this.output, stalledMs, onDead });
    this.pinger = new Pinger({ clock, keepAlive: limits.keepAlive, writer: this.writer, onDead });
    this.#receiveWindow = limits.connectionWindow;
    this.#idle = new Budget(idleFrames, clock);
    this.#broken = new Budget(brokenStreams, clock);
  }

  /** Streams open now. */
  get size(): number {
    return this.streams.size;
  }

  protected get isOpen(): boolean {
    return this.#state === "open";
  }

  get isBlocked(): boolean {
    return this.output.isBlocked;
  }

  // ---- what a side of the connection has to say

  /** The stream that we have looked at last, for GOAWAY. */
  protected abstract get lastSeenStream(): number;
  /** A section of fields is in {@link decoder}. */
  protected abstract onFields(id: number, endsStream: boolean): void;
  protected abstract onPeerReset(stream: Stream, code: number): void;
  protected abstract onGoaway(lastStream: number, code: number): void;
  protected abstract onPeerSettings(): void;
  /** Whether the stream was never opened. */
  protected abstract isUnopened(id: number): boolean;
  /** A stream is over. */
  protected abstract onForgotten(): void;
  /** Exactly once; every stream has heard of it before. */
  protected abstract onClosed(error: Error | undefined): void;
  abstract writeHead(encoder: HpackEncoder, out: Buffer, at: number, head: Head): number;
  abstract roomForHead(head: Head): number;

  onPreface(_bytes: Buffer, at: number, _end: number): number {
    return at;
  }

  // ---- life

  /** Begins to read; the derived class is complete. */
  protected start(ownSettings: readonly (readonly [id: number, value: number])[]): void {
    const { duplex, writer } = this;
    writer.settings(ownSettings);
    writer.windowUpdate(0, this.limits.connectionWindow - defaultWindow);
    duplex.on("drain", () => this.#drained());
    duplex.on("error", (error: Error) => this.#over(error));
    // No half-open connections in HTTP/2: without the peer's windows and answers there is nothing to do.
    duplex.on("end", () => this.#end("connection-termination", "the peer closed the connection"));
    duplex.on("close", () => this.#over(undefined));
    if (duplex.destroyed) this.#over(undefined);
    // Sockets of `makeSocket` lend their bytes, others give them away.
    else if (readStatically(duplex, this)) duplex.resume();
    else duplex.on("data", (chunk: Buffer) => this.takeBytes(chunk, chunk.length, true));
  }

  takeBytes(bytes: Buffer, length: number, isOwned: boolean): void {
    if (this.#state !== "open") {
      this.#farewell?.heard(length);
      return;
    }
    this.pinger.heard();
    try {
      this.#reader.read(bytes, length, isOwned);
    } catch (error) {
      if (error instanceof ConnectionError) this.failWith(error.code, error.message);
      else if (error instanceof HpackError) this.failWith(errorCodes.compressionError, error.message);
      else {
        this.failWith(errorCodes.internalError, "");
        throw error;
      }
    }
  }

  /** Says goodbye with an error, resets every stream, and lets go of the peer. */
  protected failWith(code: ErrorCode, message: string): void {
    if (this.#state !== "open") return;
    this.#failure = new ConnectionError(code, message);
    this.writer.goaway(this.lastSeenStream, code, message);
    this.#end("protocol-error", `${message} (${errorName(code)})`);
  }

  /** No stream is left that could say more: flushes and hangs up. */
  protected finish(): void {
    this.#end("connection-termination", "the connection is over");
  }

  /** Breaks the connection now. */
  destroy(error?: Error): void {
    this.#failure ??= error;
    this.#over(error);
  }

  #end(reason: ResetReason, detail: string): void {
    if (this.#state !== "open") return;
    this.#state = "ended";
    this.#resetStreams(reason, detail);
    this.output.flush();
    this.#farewell = new Farewell(this.duplex, this.clock);
  }

  #over(error: Error | undefined): void {
    if (this.#state === "closed") return;
    const failure = this.#failure ?? error;
    this.#state = "closed";
    this.#farewell?.cancel();
    this.duplex.destroy();
    this.#resetStreams("connection-termination", failure?.message ?? "the connection was closed");
    this.onClosed(failure);
  }

  #resetStreams(reason: ResetReason, detail: string): void {
    this.#reader.close();
    this.#queue.clear();
    this.pinger.stop();
    for (const stream of this.streams.values()) stream.receiveReset(reason, detail);
    this.streams.clear();
  }

  // ---- in

  onSection(id: number, endsStream: boolean, bytes: Buffer, at: number, end: number): void {
    this.#expectSettings();
    this.decoder.decode(bytes, at, end);
    if (this.decoder.bytes > bombFactor * this.limits.maxHeaderBytes) {
      throw new ConnectionError(errorCodes.enhanceYourCalm, "a section of fields that unpacks without bounds");
    }
    this.onFields(id, endsStream);
  }

  onData(id: number, length: number, overhead: number, endsStream: boolean): Stream | undefined {
    this.#expectSettings();
    expectStream(id !== 0);
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0) throw new ConnectionError(errorCodes.flowControlError, "data past the window");
    const isEmpty = length === overhead;
    if (isEmpty && !endsStream) this.spendIdle();
    const stream = this.#streamForData(id, length);
    if (stream !== undefined) {
      stream.receiveWindow -= length;
      if (!isEmpty) this.earn();
    }
    this.consumed(stream, overhead);
    return stream;
  }

  /** Undefined where nobody wants the data. */
  #streamForData(id: number, length: number): Stream | undefined {
    const stream = this.streams.get(id);
    if (stream === undefined) {
      if (this.isUnopened(id)) throw new ConnectionError(errorCodes.protocolError, "data on a stream that is not open");
      // Very likely on its way when we ended the stream.
      this.spendIdle();
    } else if (stream.hasReceivedEnd) {
      this.breakStream(stream, errorCodes.streamClosed, "data after the end of the stream");
      return undefined;
    } else if (stream.receiveWindow < length) {
      this.breakStream(stream, errorCodes.flowControlError, "data past the stream's window");
      return undefined;
    }
    return stream;
  }

  onDataPart(stream: Stream | undefined, bytes: Buffer, at: number, end: number, isOwned: boolean): void {
    if (stream === undefined || stream.isClosed) {
      this.consumed(undefined, end - at);
      return;
    }
    const chunk = bytes.subarray(at, end);
    if (end - at > pooledBytes) piecePassed(end - at);
    stream.receive(isOwned ? chunk : Buffer.from(chunk));
  }

  onDataEnd(stream: Stream): void {
    if (!stream.isClosed) stream.receiveEnd(undefined);
  }

  onControl(type: number, frameFlags: number, id: number, bytes: Buffer, at: number, end: number): void {
    if (type !== frameTypes.settings) this.#expectSettings();
    switch (type) {
      case frameTypes.windowUpdate:
        this.#onWindowUpdate(id, bytes, at, end);
        return;
      case frameTypes.reset:
        this.#onReset(id, bytes, at, end);
        return;
      case frameTypes.settings:
        this.#onSettings(frameFlags, id, bytes, at, end);
        return;
      case frameTypes.ping:
        expectLength(end - at === 8);
        expectStream(id === 0);
        this.spendIdle();
        if ((frameFlags & flags.ack) !== 0) this.pinger.answered();
        else this.writer.pong(bytes, at);
        return;
      case frameTypes.goaway:
        expectLength(end - at >= 8);
        expectStream(id === 0);
        this.spendIdle();
        this.onGoaway(bytes.readUInt32BE(at) & 0x7fff_ffff, bytes.readUInt32BE(at + 4));
        return;
      case frameTypes.priority:
        expectStream(id !== 0);
        expectLength(end - at === 5);
        expectNoSelfDependency(id, bytes, at);
        this.spendIdle();
        return;
      case frameTypes.pushPromise:
        throw new ConnectionError(errorCodes.protocolError, "PUSH_PROMISE");
      default:
        this.spendIdle(); // unknown types are allowed and mean nothing
    }
  }

  #expectSettings(): void {
    if (this.hasPeerSettings) return;
    throw new ConnectionError(errorCodes.protocolError, "the first frame is not SETTINGS");
  }

  #onWindowUpdate(id: number, bytes: Buffer, at: number, end: number): void {
    expectLength(end - at === 4);
    this.spendIdle();
    const increment = bytes.readUInt32BE(at) & 0x7fff_ffff;
    if (id === 0) {
      if (increment === 0) throw new ConnectionError(errorCodes.protocolError, "a window opened by nothing");
      this.#queue.widen(increment);
      return;
    }
    const stream = this.streams.get(id);
    if (stream === undefined) {
      if (!this.isUnopened(id)) return;
      throw new ConnectionError(errorCodes.protocolError, "WINDOW_UPDATE for a stream that is not open");
    }
    stream.sendWindow += increment;
    if (increment === 0) this.breakStream(stream, errorCodes.protocolError, "a window opened by nothing");
    else if (stream.sendWindow > maxWindow) {
      this.breakStream(stream, errorCodes.flowControlError, "a window past 2^31");
    } else if (stream.isPending && !this.isBlocked) this.#queue.pumpStream(stream, this.clock.now());
  }

  #onReset(id: number, bytes: Buffer, at: number, end: number): void {
    expectLength(end - at === 4);
    expectStream(id !== 0);
    const stream = this.streams.get(id);
    if (stream !== undefined) this.onPeerReset(stream, bytes.readUInt32BE(at));
    else if (!this.isUnopened(id)) this.spendIdle();
    else throw new ConnectionError(errorCodes.protocolError, "RST_STREAM for a stream that is not open");
  }

  #onSettings(frameFlags: number, id: number, bytes: Buffer, at: number, end: number): void {
    expectStream(id === 0);
    const isAck = (frameFlags & flags.ack) !== 0;
    expectLength(isAck ? end === at : (end - at) % 6 === 0);
    if (isAck) this.#expectSettings();
    if (this.hasPeerSettings) this.spendIdle();
    if (isAck) return;
    const before = this.peer.initialWindow;
    this.peer = readSettings(this.peer, bytes, at, end);
    this.hasPeerSettings = true;
    this.writer.encoder.limit(this.peer.tableBytes);
    this.writer.settingsAck();
    const difference = this.peer.initialWindow - before;
    for (const stream of difference === 0 ? [] : this.streams.values()) {
      stream.sendWindow += difference;
      if (stream.sendWindow > maxWindow) throw new ConnectionError(errorCodes.flowControlError, "a window past 2^31");
    }
    this.onPeerSettings();
    if (difference > 0) this.#queue.pump();
  }

  // ---- bounds

  /** @throws ConnectionError where the peer has made us work for nothing too often */
  protected spendIdle(): void {
    if (!this.#idle.spend()) {
      throw new ConnectionError(errorCodes.enhanceYourCalm, "too many frames that carry nothing");
    }
  }

  /** @throws ConnectionError where too many streams were begun for nothing */
  protected spendBroken(): void {
    if (!this.#broken.spend())
      throw new ConnectionError(errorCodes.enhanceYourCalm, "too many streams that were reset");
  }

  protected earn(): void {
    this.#idle.earn(earnedByFrame);
  }

  /** The peer broke a rule on this stream. */
  protected breakStream(stream: Stream, code: ErrorCode, detail: string): void {
    this.spendBroken();
    stream.fail(code, detail);
  }

  /** RST_STREAM for a stream that we did not make. */
  protected refuse(id: number, code: ErrorCode): void {
    this.spendBroken();
    this.writer.reset(id, code);
  }

  // ---- out, for the streams

  sendData(stream: Http2Stream, chunk: Buffer, from: number, endsStream: boolean): number {
    const queue = this.#queue;
    let at = from;
    while (at < chunk.length && !this.output.isBlocked && this.#state === "open") {
      const length = Math.min(chunk.length - at, maxFrameBytes, queue.window, stream.sendWindow);
      if (length <= 0) break;
      const isLast = at + length === chunk.length;
      this.writer.data(stream.id, chunk, at, at + length, isLast && endsStream);
      queue.window -= length;
      stream.sendWindow -= length;
      at += length;
      // What a peer lets through by the octet earns it nothing.
      if (isLast || length >= 1_024) this.earn();
    }
    return at;
  }

  sendEnd(stream: Http2Stream): void {
    if (this.#state === "open") this.writer.end(stream.id);
  }

  sendTrailers(stream: Http2Stream, trailers: Headers): void {
    this.sendSection(stream.id, true, undefined, trailers);
  }

  protected sendSection(id: number, endsStream: boolean, head: Head | undefined, { pairs }: Headers): void {
    if (this.#state === "open") this.writer.section(id, endsStream, head, pairs);
  }

  sendReset(stream: Http2Stream, code: ErrorCode): void {
    if (this.#state === "open") this.writer.reset(stream.id, code);
  }

  consumed(stream: Http2Stream | undefined, bytes: number): void {
    if (bytes === 0 || this.#state !== "open") return;
    this.#unreturned += bytes;
    if (this.#unreturned >= this.limits.connectionWindow / 2) {
      this.writer.windowUpdate(0, this.#unreturned);
      this.#receiveWindow += this.#unreturned;
      this.#unreturned = 0;
    }
    if (stream === undefined || stream.hasReceivedEnd || stream.isClosed) return;
    stream.unreturned += bytes;
    if (stream.unreturned < this.limits.streamWindow / 2) return;
    this.writer.windowUpdate(stream.id, stream.unreturned);
    stream.receiveWindow += stream.unreturned;
    stream.unreturned = 0;
  }

  wait(stream: Http2Stream): void {
    if (this.#state === "open") this.#queue.add(stream);
  }

  forget(stream: Http2Stream): void {
    this.#queue.delete(stream);
    if (this.streams.delete(stream.id)) this.onForgotten();
  }

  #blocked(): void {
    if (this.#state !== "open") return;
    this.#queue.blocked();
    if (this.duplex.writableLength > unsentBytesBound) this.duplex.pause();
  }

  #drained(): void {
    if (this.#state === "closed") return;
    this.output.drained();
    if (this.output.isBlocked) return;
    if (this.duplex.isPaused()) this.duplex.resume();
    this.#queue.drained();
  }
}

function expectLength(isRight: boolean): void {
  if (!isRight) throw new ConnectionError(errorCodes.frameSizeError, "a frame of a length that its type does not have");
}

function expectStream(isRight: boolean): void {
  if (!isRight)
    throw new ConnectionError(errorCodes.protocolError, "a frame on a stream where its type does not belong");
}
