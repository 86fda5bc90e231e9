/**
 * One HTTP/2 connection (RFC 9113) on any duplex: frames in and out, flow control, and the bounds within which a peer
 * may keep us busy. What streams mean is up to the server's and the client's side of it.
 *
 * It is our own, where tunnels use node:http2, for two reasons: a request costs a third of what it costs there (a
 * stream of Node is a dozen objects and as many turns of the loop), and every frame passes here to be counted, of which
 * nghttp2 bounds some kinds only.
 */
import type { Duplex } from "node:stream";
import type { Clock } from "#shared/clock/clock.ts";
import type { Headers } from "./headers.ts";
import { brokenStreams, Budget, earnedByFrame, idleFrames } from "./http2-budget.ts";
import {
  ConnectionError,
  defaultWindow,
  errorCodes,
  errorName,
  flags,
  frameHeadBytes,
  frameTypes,
  maxFrameBytes,
  maxWindow,
  type ErrorCode,
} from "./http2-frames.ts";
import { HpackDecoder, HpackError } from "./http2-hpack-decoder.ts";
import { fieldOverhead, HpackEncoder, roomFor } from "./http2-hpack-encoder.ts";
import { FrameOutput } from "./http2-output.ts";
import { readSettings, writeSettings, type PeerSettings } from "./http2-settings.ts";
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
  /** PING when nothing was heard for `intervalMs`; the connection is dead if nothing comes within `timeoutMs`. */
  readonly keepAlive?: { readonly intervalMs: number; readonly timeoutMs: number } | undefined;
}

export const connectionLimitsDefault: Http2ConnectionLimits = {
  maxHeaderBytes: 61_440,
  maxHeaders: 100,
  streamWindow: 262_144,
  connectionWindow: 4_194_304,
  stalledMs: 300_000,
};

/** Unsent octets of frames other than DATA from which on nothing more is read: a peer that does not listen gets no answers. */
const unsentBytesBound = 262_144;
/** Frames that one section of fields may come in, and how many times its bound it may be, uncompressed, before it is an attack. */
const [maxSectionFrames, bombFactor] = [32, 16];
/** How long a connection that we have ended waits for the peer to take the last frame and hang up. Milliseconds. */
const lingerMs = 1_000;
/** Octets that such a peer may still send. */
const lingerBytes = 4_194_304;

/** A section of fields that comes in several frames. */
interface PartialSection {
  readonly id: number;
  readonly endsStream: boolean;
  readonly parts: Buffer[];
  bytes: number;
}

export abstract class Http2Connection<Stream extends Http2Stream, Head> implements StreamHost, BytesSink {
  protected readonly duplex: Duplex;
  protected readonly clock: Clock;
  protected readonly limits: Http2ConnectionLimits;
  protected readonly streams = new Map<number, Stream>();
  protected readonly decoder: HpackDecoder;
  protected readonly encoder = new HpackEncoder();
  protected readonly output: FrameOutput;
  /** Octets that peers may make us spend on nothing. */
  protected readonly broken: Budget;
  readonly #idle: Budget;
  /** The peer's. */
  protected peer: PeerSettings = {
    maxConcurrentStreams: Number.POSITIVE_INFINITY,
    initialWindow: defaultWindow,
    maxFrameBytes,
    tableBytes: 4_096,
    hasExtendedConnect: false,
  };
  protected hasPeerSettings = false;

  /** `ended`: GOAWAY with an error is out, or the peer is gone; nothing is read any more. */
  #state: "open" | "ended" | "closed" = "open";
  #failure: Error | undefined;
  #sendWindow = defaultWindow;
  #receiveWindow: number;
  #unreturned = 0;
  /** Streams with something to send, or whose writer waits. */
  readonly #waiting = new Set<Stream>();
  #isPumping = false;
  #cancelStallCheck: (() => void) | undefined;
  #blockedSinceMs = 0;

  /** Whether the bytes being read may be kept. */
  #isOwned = true;
  #held: Buffer[] = [];
  #heldBytes = 0;
  #neededBytes = 0;
  #section: PartialSection | undefined;
  /** The DATA frame that is being read. */
  #dataStream: Stream | undefined;
  #dataLeft = 0;
  #paddingLeft = 0;
  #dataEnds = false;

  #lastHeardMs: number;
  #pongs: (() => void)[] = [];
  #cancelKeepAlive: (() => void) | undefined;
  #cancelLinger: (() => void) | undefined;
  #lingered = 0;

  protected constructor(duplex: Duplex, clock: Clock, limits: Http2ConnectionLimits) {
    this.duplex = duplex;
    this.clock = clock;
    this.limits = limits;
    this.decoder = new HpackDecoder({ maxBytes: limits.maxHeaderBytes, maxFields: limits.maxHeaders });
    this.output = new FrameOutput(duplex, () => this.#watchUnsent());
    this.#receiveWindow = limits.connectionWindow;
    this.#idle = new Budget(idleFrames, clock);
    this.broken = new Budget(brokenStreams, clock);
    this.#lastHeardMs = clock.now();
    if (limits.keepAlive !== undefined) this.#scheduleKeepAlive();
  }

  /** Streams open now. */
  get size(): number {
    return this.streams.size;
  }

  get isOpen(): boolean {
    return this.#state === "open";
  }

  get isBlocked(): boolean {
    return this.output.isBlocked;
  }

  // ---- what a side of the connection has to say

  /** A section of fields is in {@link decoder}. */
  protected abstract onSection(id: number, endsStream: boolean): void;
  protected abstract onPeerReset(stream: Stream, code: number): void;
  protected abstract onGoaway(lastStream: number, code: number): void;
  protected abstract onPeerSettings(): void;
  /** Whether the stream was never opened. */
  protected abstract isUnopened(id: number): boolean;
  /** The pseudo-fields of a head. */
  protected abstract writeHead(out: Buffer, at: number, head: Head): number;
  protected abstract roomForHead(head: Head): number;
  /** A stream is over. */
  protected abstract onForgotten(stream: Stream): void;
  /** Exactly once; every stream has heard of it before. */
  protected abstract onClosed(error: Error | undefined): void;

  // ---- life

  /** Begins to read; the derived class is complete. */
  protected start(ownSettings: readonly (readonly [id: number, value: number])[]): void {
    const { duplex } = this;
    writeSettings(this.output, ownSettings);
    this.#returnWindow(0, this.limits.connectionWindow - defaultWindow);
    // Sockets of `makeSocket` lend their bytes, others give them away.
    if (readStatically(duplex, this)) duplex.resume();
    else duplex.on("data", (chunk: Buffer) => this.takeBytes(chunk, chunk.length, true));
    duplex.on("drain", () => this.#drained());
    duplex.on("error", (error: Error) => this.#over(error));
    duplex.on("end", () => this.#peerEnded());
    duplex.on("close", () => this.#over(undefined));
    if (duplex.destroyed) this.#over(undefined);
  }

  /** Says goodbye with an error, resets every stream, and lets go of the peer. */
  protected failWith(code: ErrorCode, message: string): void {
    if (this.#state !== "open") return;
    this.#failure = new ConnectionError(code, message);
    this.goaway(code, message);
    this.#end("protocol-error", `${message} (${errorName(code)})`);
  }

  /** The last stream that we have looked at. */
  protected abstract get lastSeenStream(): number;

  protected goaway(code: ErrorCode, message = "", lastStream = this.lastSeenStream): void {
    const text = Buffer.from(message, "latin1");
    const { output } = this;
    output.frame(frameTypes.goaway, 0, 0, 8 + text.length);
    output.uint32(lastStream);
    output.uint32(code);
    text.copy(output.bytes, output.at);
    output.at += text.length;
  }

  /** No stream is left that could say more: flushes and hangs up. */
  protected finish(): void {
    if (this.#state === "open") this.#end("connection-termination", "the connection is over");
  }

  /** Breaks the connection now. */
  destroy(error?: Error): void {
    this.#failure ??= error;
    this.#over(error);
  }

  #end(reason: ResetReason, detail: string): void {
    this.#state = "ended";
    this.#resetStreams(reason, detail);
    this.output.flush();
    this.#stopTimers();
    this.#cancelLinger = this.clock.schedule(lingerMs, () => this.duplex.destroy());
    this.duplex.resume();
    this.duplex.end();
  }

  #peerEnded(): void {
    // No half-open connections in HTTP/2: without the peer's windows and answers there is nothing to do.
    if (this.#state === "open") this.#end("connection-termination", "the peer closed the connection");
  }

  #over(error: Error | undefined): void {
    if (this.#state === "closed") return;
    const failure = this.#failure ?? error;
    this.#state = "closed";
    this.#stopTimers();
    this.#cancelLinger?.();
    this.#held = [];
    this.#section = undefined;
    this.duplex.destroy();
    this.#resetStreams("connection-termination", failure?.message ?? "the connection was closed");
    this.onClosed(failure);
  }

  #resetStreams(reason: ResetReason, detail: string): void {
    this.#waiting.clear();
    this.#dataStream = undefined;
    for (const stream of this.streams.values()) stream.receiveReset(reason, detail);
    this.streams.clear();
  }

  #stopTimers(): void {
    this.#cancelStallCheck?.();
    this.#cancelStallCheck = undefined;
    this.#cancelKeepAlive?.();
    this.#cancelKeepAlive = undefined;
  }

  #scheduleKeepAlive(): void {
    const { keepAlive } = this.limits;
    if (keepAlive === undefined) return;
    const { intervalMs, timeoutMs } = keepAlive;
    this.#cancelKeepAlive = this.clock.schedule(intervalMs, () => {
      if (this.clock.now() - this.#lastHeardMs < intervalMs / 2) {
        this.#scheduleKeepAlive();
        return;
      }
      this.#cancelKeepAlive = this.clock.schedule(timeoutMs, () => {
        this.destroy(new Error(`the peer answered no PING within ${timeoutMs} ms`));
      });
      this.ping(() => {
        this.#cancelKeepAlive?.();
        this.#scheduleKeepAlive();
      });
    });
  }

  /** `onPong` runs when the answer comes; it never does on a connection that closes. */
  protected ping(onPong: () => void): void {
    this.#pongs.push(onPong);
    const { output } = this;
    output.frame(frameTypes.ping, 0, 0, 8);
    output.uint32(0x616d6269);
    output.uint32(this.#pongs.length);
  }

  // ---- in

  takeBytes(bytes: Buffer, length: number, isOwned: boolean): void {
    if (this.#state !== "open") {
      if ((this.#lingered += length) > lingerBytes) this.duplex.destroy();
      return;
    }
    if (this.limits.keepAlive !== undefined) this.#lastHeardMs = this.clock.now();
    try {
      this.#consume(bytes, length, isOwned);
    } catch (error) {
      if (error instanceof ConnectionError) this.failWith(error.code, error.message);
      else if (error instanceof HpackError) this.failWith(errorCodes.compressionError, error.message);
      else {
        this.failWith(errorCodes.internalError, "");
        throw error;
      }
    }
  }

  #consume(read: Buffer, length: number, isOwned: boolean): void {
    let [bytes, end] = [read, length];
    this.#isOwned = isOwned;
    if (this.#heldBytes > 0) {
      const chunk = read.subarray(0, length);
      this.#held.push(isOwned ? chunk : Buffer.from(chunk));
      this.#heldBytes += length;
      if (this.#heldBytes < this.#neededBytes) return;
      bytes = Buffer.concat(this.#held, this.#heldBytes);
      end = this.#heldBytes;
      this.#isOwned = true;
      this.#held = [];
      this.#heldBytes = 0;
    }
    let at = this.onPreface(bytes, 0, end);
    if (at < 0) {
      this.#hold(bytes, 0, end, end + 1);
      return;
    }
    while (at < end && this.#state === "open") {
      if (this.#dataLeft + this.#paddingLeft > 0) {
        at = this.#readData(bytes, at, end);
        continue;
      }
      if (end - at < frameHeadBytes) {
        this.#hold(bytes, at, end, frameHeadBytes);
        return;
      }
      const length = ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
      const type = bytes[at + 3] as number;
      if (length > maxFrameBytes) throw new ConnectionError(errorCodes.frameSizeError, `a frame of ${length} octets`);
      // Octets of DATA go on as they come, other frames are read whole.
      const isData = type === frameTypes.data;
      const needed = frameHeadBytes + (isData ? Math.min(length, 1) : length);
      if (end - at < needed) {
        this.#hold(bytes, at, end, needed);
        return;
      }
      const frameFlags = bytes[at + 4] as number;
      const id = bytes.readUInt32BE(at + 5) & 0x7fff_ffff;
      at += frameHeadBytes;
      if (!this.hasPeerSettings && type !== frameTypes.settings) {
        throw new ConnectionError(errorCodes.protocolError, "the first frame is not SETTINGS");
      }
      if (this.#section !== undefined && (type !== frameTypes.continuation || id !== this.#section.id)) {
        throw new ConnectionError(errorCodes.protocolError, "a frame within a section of fields");
      }
      if (isData) at = this.#beginData(id, frameFlags, length, bytes, at);
      else {
        this.#frame(type, frameFlags, id, bytes, at, at + length);
        at += length;
      }
    }
  }

  /** Where frames begin, at the start of a server's connection; -1 where there is too little to tell. @throws ConnectionError */
  protected onPreface(_bytes: Buffer, at: number, _end: number): number {
    return at;
  }

  #hold(bytes: Buffer, at: number, end: number, needed: number): void {
    // A copy: what is left is small, and would keep a large buffer alive.
    this.#held = [Buffer.from(bytes.subarray(at, end))];
    this.#heldBytes = end - at;
    this.#neededBytes = needed;
  }

  #frame(type: number, frameFlags: number, id: number, bytes: Buffer, at: number, end: number): void {
    switch (type) {
      case frameTypes.headers:
        this.#onHeaders(frameFlags, id, bytes, at, end);
        return;
      case frameTypes.continuation:
        this.#onContinuation(frameFlags, id, bytes, at, end);
        return;
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
        this.#onPing(frameFlags, id, bytes, at, end);
        return;
      case frameTypes.goaway:
        expectLength(end - at >= 8);
        expectStream(id === 0);
        this.spendIdle();
        this.onGoaway(bytes.readUInt32BE(at) & 0x7fff_ffff, bytes.readUInt32BE(at + 4));
        return;
      case frameTypes.priority:
        this.#onPriority(id, bytes, at, end);
        return;
      case frameTypes.pushPromise:
        throw new ConnectionError(errorCodes.protocolError, "PUSH_PROMISE");
      default:
        this.spendIdle(); // unknown types are allowed and mean nothing
    }
  }

  /** @throws ConnectionError where the peer has made us work for nothing too often */
  protected spendIdle(): void {
    if (!this.#idle.spend())
      throw new ConnectionError(errorCodes.enhanceYourCalm, "too many frames that carry nothing");
  }

  /** @throws ConnectionError where too many streams were begun for nothing */
  protected spendBroken(): void {
    if (!this.broken.spend()) throw new ConnectionError(errorCodes.enhanceYourCalm, "too many streams that were reset");
  }

  #onHeaders(frameFlags: number, id: number, bytes: Buffer, at: number, end: number): void {
    expectStream(id !== 0);
    if ((frameFlags & flags.padded) !== 0) {
      const padding = at < end ? (bytes[at++] as number) : 256;
      end -= padding;
    }
    if ((frameFlags & flags.priority) !== 0) {
      if (end - at >= 5) expectNoSelfDependency(id, bytes, at);
      at += 5;
    }
    if (at > end) throw new ConnectionError(errorCodes.protocolError, "padding longer than its frame");
    const endsStream = (frameFlags & flags.endStream) !== 0;
    if ((frameFlags & flags.endHeaders) !== 0) this.#decode(id, endsStream, bytes, at, end);
    else this.#section = { id, endsStream, parts: [Buffer.from(bytes.subarray(at, end))], bytes: end - at };
  }

  #onContinuation(frameFlags: number, id: number, bytes: Buffer, at: number, end: number): void {
    const section = this.#section;
    if (section === undefined) throw new ConnectionError(errorCodes.protocolError, "CONTINUATION of nothing");
    section.bytes += end - at;
    const isTooMuch = section.bytes > 2 * this.limits.maxHeaderBytes || section.parts.length >= maxSectionFrames;
    if (isTooMuch) throw new ConnectionError(errorCodes.enhanceYourCalm, "a section of fields without end");
    section.parts.push(Buffer.from(bytes.subarray(at, end)));
    if ((frameFlags & flags.endHeaders) === 0) return;
    this.#section = undefined;
    const whole = Buffer.concat(section.parts, section.bytes);
    this.#decode(id, section.endsStream, whole, 0, whole.length);
  }

  #decode(id: number, endsStream: boolean, bytes: Buffer, at: number, end: number): void {
    this.decoder.decode(bytes, at, end);
    if (this.decoder.bytes > bombFactor * this.limits.maxHeaderBytes) {
      throw new ConnectionError(errorCodes.enhanceYourCalm, "a section of fields that unpacks without bounds");
    }
    this.onSection(id, endsStream);
  }

  protected earn(): void {
    this.#idle.earn(earnedByFrame);
  }

  /** Reads a DATA frame up to its octets. Returns where they start. */
  #beginData(id: number, frameFlags: number, length: number, bytes: Buffer, at: number): number {
    expectStream(id !== 0);
    let padding = 0;
    let overhead = 0;
    if ((frameFlags & flags.padded) !== 0) {
      padding = length > 0 ? (bytes[at++] as number) : 256;
      overhead = 1 + padding;
      if (overhead > length) throw new ConnectionError(errorCodes.protocolError, "padding longer than its frame");
    }
    const endsStream = (frameFlags & flags.endStream) !== 0;
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0) throw new ConnectionError(errorCodes.flowControlError, "data past the window");
    if (length - overhead === 0 && !endsStream) this.spendIdle();
    const stream = this.#streamForData(id, length);
    if (stream === undefined) this.consumed(undefined, overhead);
    else {
      if (length - overhead > 0) this.earn();
      stream.receiveWindow -= length;
      this.consumed(stream, overhead);
    }
    this.#dataStream = stream;
    this.#dataLeft = length - overhead;
    this.#paddingLeft = padding;
    this.#dataEnds = endsStream;
    if (length - overhead === 0) this.#endData();
    return at;
  }

  /** Undefined where nobody wants the data. */
  #streamForData(id: number, length: number): Stream | undefined {
    const stream = this.streams.get(id);
    if (stream === undefined) {
      if (this.isUnopened(id)) throw new ConnectionError(errorCodes.protocolError, "data on a stream that is not open");
      // Very likely on its way when we ended the stream.
      this.spendIdle();
      return undefined;
    }
    if (stream.hasReceivedEnd) {
      this.spendBroken();
      stream.fail(errorCodes.streamClosed, "data after the end of the stream");
      return undefined;
    }
    if (stream.receiveWindow < length) {
      this.spendBroken();
      stream.fail(errorCodes.flowControlError, "data past the stream's window");
      return undefined;
    }
    return stream;
  }

  #readData(bytes: Buffer, at: number, end: number): number {
    if (this.#dataLeft > 0) {
      const upTo = Math.min(end, at + this.#dataLeft);
      this.#dataLeft -= upTo - at;
      const stream = this.#dataStream;
      if (stream === undefined || stream.isClosed) this.consumed(undefined, upTo - at);
      else {
        const chunk = bytes.subarray(at, upTo);
        stream.receive(this.#isOwned ? chunk : Buffer.from(chunk));
      }
      if (this.#dataLeft === 0) this.#endData();
      return upTo;
    }
    const upTo = Math.min(end, at + this.#paddingLeft);
    this.#paddingLeft -= upTo - at;
    return upTo;
  }

  #endData(): void {
    const stream = this.#dataStream;
    this.#dataStream = undefined;
    if (this.#dataEnds && stream !== undefined && !stream.isClosed) stream.receiveEnd(undefined);
  }

  #onWindowUpdate(id: number, bytes: Buffer, at: number, end: number): void {
    expectLength(end - at === 4);
    this.spendIdle();
    const increment = bytes.readUInt32BE(at) & 0x7fff_ffff;
    if (id === 0) {
      if (increment === 0) throw new ConnectionError(errorCodes.protocolError, "a window opened by nothing");
      this.#sendWindow += increment;
      if (this.#sendWindow > maxWindow) throw new ConnectionError(errorCodes.flowControlError, "a window past 2^31");
      this.#pump();
      return;
    }
    const stream = this.streams.get(id);
    if (stream === undefined) {
      if (this.isUnopened(id))
        throw new ConnectionError(errorCodes.protocolError, "WINDOW_UPDATE for a stream not open");
      return;
    }
    stream.sendWindow += increment;
    if (increment === 0 || stream.sendWindow > maxWindow) {
      this.spendBroken();
      const code = increment === 0 ? errorCodes.protocolError : errorCodes.flowControlError;
      stream.fail(code, "a window that cannot be");
    } else if (stream.isPending && !this.isBlocked) this.#pumpStream(stream, this.clock.now());
  }

  #onReset(id: number, bytes: Buffer, at: number, end: number): void {
    expectLength(end - at === 4);
    expectStream(id !== 0);
    const stream = this.streams.get(id);
    if (stream !== undefined) this.onPeerReset(stream, bytes.readUInt32BE(at));
    else if (this.isUnopened(id))
      throw new ConnectionError(errorCodes.protocolError, "RST_STREAM for a stream not open");
    else this.spendIdle();
  }

  #onSettings(frameFlags: number, id: number, bytes: Buffer, at: number, end: number): void {
    expectStream(id === 0);
    const isAck = (frameFlags & flags.ack) !== 0;
    expectLength(isAck ? end === at : (end - at) % 6 === 0);
    if (this.hasPeerSettings) this.spendIdle();
    if (isAck) {
      if (!this.hasPeerSettings) throw new ConnectionError(errorCodes.protocolError, "the first frame is not SETTINGS");
      return;
    }
    const before = this.peer.initialWindow;
    this.peer = readSettings(this.peer, bytes, at, end);
    this.encoder.limit(this.peer.tableBytes);
    const difference = this.peer.initialWindow - before;
    this.output.frame(frameTypes.settings, flags.ack, 0, 0);
    this.hasPeerSettings = true;
    if (difference !== 0) {
      for (const stream of this.streams.values()) {
        stream.sendWindow += difference;
        if (stream.sendWindow > maxWindow) throw new ConnectionError(errorCodes.flowControlError, "a window past 2^31");
      }
    }
    this.onPeerSettings();
    if (difference > 0) this.#pump();
  }

  #onPing(frameFlags: number, id: number, bytes: Buffer, at: number, end: number): void {
    expectLength(end - at === 8);
    expectStream(id === 0);
    this.spendIdle();
    if ((frameFlags & flags.ack) !== 0) {
      this.#pongs.shift()?.();
      return;
    }
    const { output } = this;
    output.frame(frameTypes.ping, flags.ack, 0, 8);
    bytes.copy(output.bytes, output.at, at, end);
    output.at += 8;
  }

  #onPriority(id: number, bytes: Buffer, at: number, end: number): void {
    expectStream(id !== 0);
    expectLength(end - at === 5);
    expectNoSelfDependency(id, bytes, at);
    this.spendIdle();
  }

  /** RST_STREAM for a stream that we did not make. */
  protected refuse(id: number, code: ErrorCode): void {
    this.spendBroken();
    this.#writeReset(id, code);
  }

  // ---- out

  sendData(stream: Http2Stream, chunk: Buffer, from: number, endsStream: boolean): number {
    const { output } = this;
    const most = Math.min(this.peer.maxFrameBytes, maxFrameBytes);
    let at = from;
    while (at < chunk.length && !output.isBlocked && this.#state === "open") {
      const length = Math.min(chunk.length - at, most, this.#sendWindow, stream.sendWindow);
      if (length <= 0) break;
      const isLast = at + length === chunk.length;
      output.frame(frameTypes.data, isLast && endsStream ? flags.endStream : 0, stream.id, length);
      chunk.copy(output.bytes, output.at, at, at + length);
      output.at += length;
      this.#sendWindow -= length;
      stream.sendWindow -= length;
      at += length;
      // What a peer lets through by the octet earns it nothing.
      if (isLast || length >= 1_024) this.earn();
    }
    return at;
  }

  sendEnd(stream: Http2Stream): void {
    if (this.#state !== "open" || this.output.flagLastFrame(stream.id, flags.endStream)) return;
    this.output.frame(frameTypes.data, flags.endStream, stream.id, 0);
  }

  sendTrailers(stream: Http2Stream, trailers: Headers): void {
    this.sendSection(stream.id, true, undefined, trailers.pairs);
  }

  sendReset(stream: Http2Stream, code: ErrorCode): void {
    if (this.#state === "open") this.#writeReset(stream.id, code);
  }

  #writeReset(id: number, code: ErrorCode): void {
    this.output.frame(frameTypes.reset, 0, id, 4);
    this.output.uint32(code);
  }

  /** HEADERS, and CONTINUATION where it is too much for one frame. `head` is undefined for trailers. */
  protected sendSection(id: number, endsStream: boolean, head: Head | undefined, pairs: readonly string[]): void {
    if (this.#state !== "open") return;
    let room = 16 + (head === undefined ? 0 : this.roomForHead(head));
    for (let i = 0; i < pairs.length; i += 2) {
      room += roomFor(pairs[i] as string) + roomFor(pairs[i + 1] as string) + fieldOverhead;
    }
    const { output } = this;
    const streamFlag = endsStream ? flags.endStream : 0;
    if (room <= maxFrameBytes) {
      output.reserve(frameHeadBytes + room);
      const frameAt = output.at;
      const start = frameAt + frameHeadBytes;
      const end = this.#encode(output.bytes, start, head, pairs);
      output.head(frameAt, frameTypes.headers, flags.endHeaders | streamFlag, id, end - start);
      output.at = end;
      output.lastFrameAt = frameAt;
      output.lastFrameStream = id;
      return;
    }
    const section = Buffer.allocUnsafe(room);
    const length = this.#encode(section, 0, head, pairs);
    for (let at = 0; at === 0 || at < length; at += maxFrameBytes) {
      const upTo = Math.min(length, at + maxFrameBytes);
      const type = at === 0 ? frameTypes.headers : frameTypes.continuation;
      output.frame(type, (at === 0 ? streamFlag : 0) | (upTo === length ? flags.endHeaders : 0), id, upTo - at);
      section.copy(output.bytes, output.at, at, upTo);
      output.at += upTo - at;
    }
    output.lastFrameAt = -1; // END_STREAM stands on HEADERS, not on the last of these
  }

  #encode(out: Buffer, at: number, head: Head | undefined, pairs: readonly string[]): number {
    const { encoder } = this;
    let end = encoder.begin(out, at);
    if (head !== undefined) end = this.writeHead(out, end, head);
    for (let i = 0; i < pairs.length; i += 2) {
      end = encoder.field(out, end, pairs[i] as string, pairs[i + 1] as string);
    }
    return end;
  }

  consumed(stream: Http2Stream | undefined, bytes: number): void {
    if (bytes === 0 || this.#state !== "open") return;
    this.#unreturned += bytes;
    if (this.#unreturned >= this.limits.connectionWindow / 2) {
      this.#returnWindow(0, this.#unreturned);
      this.#receiveWindow += this.#unreturned;
      this.#unreturned = 0;
    }
    if (stream === undefined || stream.hasReceivedEnd || stream.isClosed) return;
    stream.unreturned += bytes;
    if (stream.unreturned < this.limits.streamWindow / 2) return;
    this.#returnWindow(stream.id, stream.unreturned);
    stream.receiveWindow += stream.unreturned;
    stream.unreturned = 0;
  }

  #returnWindow(id: number, bytes: number): void {
    if (bytes <= 0) return;
    this.output.frame(frameTypes.windowUpdate, 0, id, 4);
    this.output.uint32(bytes);
  }

  forget(stream: Http2Stream): void {
    this.#waiting.delete(stream as Stream);
    if (!this.streams.delete(stream.id)) return;
    this.onForgotten(stream as Stream);
  }

  wait(stream: Http2Stream): void {
    if (this.#state !== "open") return;
    stream.progressMs = this.clock.now();
    this.#waiting.add(stream as Stream);
    this.#cancelStallCheck ??= this.clock.schedule(this.limits.stalledMs / 2, () => this.#checkStalls());
  }

  #drained(): void {
    if (this.#state === "closed") return;
    this.#blockedSinceMs = 0;
    this.output.drained();
    if (!this.output.isBlocked && this.duplex.isPaused()) this.duplex.resume();
    this.#pump();
  }

  #pump(): void {
    if (this.#isPumping || this.output.isBlocked || this.#waiting.size === 0) return;
    this.#isPumping = true;
    const nowMs = this.clock.now();
    // As many as there are now: who still waits afterwards goes to the end of the queue.
    for (const stream of Array.from(this.#waiting)) {
      if (this.output.isBlocked || this.#state !== "open") break;
      if (this.#waiting.has(stream)) this.#pumpStream(stream, nowMs);
    }
    this.#isPumping = false;
  }

  #pumpStream(stream: Stream, nowMs: number): void {
    this.#waiting.delete(stream);
    if (!stream.pump(nowMs) && !stream.isClosed) this.#waiting.add(stream);
  }

  /** The transport has enough: whether the peer listens at all. */
  #watchUnsent(): void {
    if (this.#state !== "open") return;
    if (this.#blockedSinceMs === 0) {
      this.#blockedSinceMs = this.clock.now();
      this.#cancelStallCheck ??= this.clock.schedule(this.limits.stalledMs / 2, () => this.#checkStalls());
    }
    if (this.duplex.writableLength > unsentBytesBound) this.duplex.pause();
  }

  #checkStalls(): void {
    this.#cancelStallCheck = undefined;
    const sinceMs = this.clock.now() - this.limits.stalledMs;
    if (this.#blockedSinceMs !== 0 && this.#blockedSinceMs <= sinceMs) {
      this.destroy(new Error(`the peer read nothing for ${this.limits.stalledMs} ms`));
      return;
    }
    if (!this.output.isBlocked) {
      for (const stream of this.#waiting) {
        if (stream.progressMs <= sinceMs) stream.fail(errorCodes.enhanceYourCalm, "the peer opened no window");
      }
    }
    if (this.#waiting.size > 0 || this.output.isBlocked) {
      this.#cancelStallCheck = this.clock.schedule(this.limits.stalledMs / 2, () => this.#checkStalls());
    }
  }
}

function expectLength(isRight: boolean): void {
  if (!isRight) throw new ConnectionError(errorCodes.frameSizeError, "a frame of a length that its type does not have");
}

function expectStream(isRight: boolean): void {
  if (!isRight)
    throw new ConnectionError(errorCodes.protocolError, "a frame on a stream where its type does not belong");
}

function expectNoSelfDependency(id: number, bytes: Buffer, at: number): void {
  if ((bytes.readUInt32BE(at) & 0x7fff_ffff) !== id) return;
  throw new ConnectionError(errorCodes.protocolError, "a stream that depends on itself");
}
