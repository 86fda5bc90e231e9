/**
 * What both sides of HTTP/1.1 have in common: messages come in over one duplex and go out over it, one at a time each way.
 * The server and the client say what a head means and what comes after a message.
 */
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { piecePassed } from "#shared/lifecycle/garbage.ts";
import { Headers } from "./headers.ts";
import { ChunkParser } from "./http1-chunks.ts";
import type { FirstLine, HeadLimits } from "./http1-head.ts";
import { HeadParser, refused } from "./http1-head.ts";
import type { OutputOwner } from "./http1-output.ts";
import { Http1Output } from "./http1-output.ts";
import type { Http1Failure } from "./http1-syntax.ts";
import { failures } from "./http1-syntax.ts";
import type { HeaderCase } from "./http1-write.ts";
import type { BytesSink } from "./static-read.ts";
import { readStatically } from "./static-read.ts";
import { enterTurn, leaveTurn } from "./turn.ts";

/** What the next bytes are. */
export type Mode =
  | "head"
  /** `content-length` bytes of body. */
  | "length"
  | "chunks"
  | "trailers"
  /** Body until the peer closes. */
  | "until-close"
  /** After an upgrade or CONNECT: no messages any more. */
  | "raw"
  /** Bytes wait: the exchange that they are behind is not over. */
  | "wait"
  /** Nobody wants them. */
  | "discard";

/** Bytes of a body that may wait for a reader, or of requests behind the current one; then reading stops. */
const maxHeldBytes = 64 * 1024;

/** Smaller pieces share the memory of a pool. */
const pooledBytes = Buffer.poolSize >>> 1;

/** Of {@link Http1Wire.#step}: nothing more can be read now. */
const stuck = -1;

const wireOf = Symbol("wire");
type Wired = Duplex & { [wireOf]: Http1Wire };

export abstract class Http1Wire implements BytesSink, OutputOwner {
  readonly duplex: Duplex;
  /** For the streams of this connection. */
  readonly output: Http1Output;
  protected readonly parser: HeadParser;
  protected mode: Mode = "head";
  /** The body is wanted no further for now: there is no reader yet, or it asked for a pause. */
  protected isHeld = false;
  protected isClosed = false;
  /** Whether bytes follow the message that was just read. */
  protected hasMore = false;
  /** The peer says nothing more, and all that it said has been read or waits behind an exchange. */
  protected hasEnded = false;
  /** Of bodies. */
  inputBytes = 0;

  #chunks: ChunkParser | undefined;
  /** Of the body being read, in mode `length`. */
  #left = 0;
  /** Bytes from `#stashStart` to `#stashEnd` wait to be read. */
  #stash: Buffer | undefined;
  #stashStart = 0;
  #stashEnd = 0;
  /** Whether the memory behind the stash is ours to write to. */
  #ownsStash = false;
  #isProcessing = false;
  #isPaused = false;
  #gotEnd = false;
  #error: Error | undefined;

  constructor(duplex: Duplex, kind: FirstLine, limits: HeadLimits, headerCase: HeaderCase) {
    this.duplex = duplex;
    this.parser = new HeadParser(kind, limits, headerCase === "preserve");
    this.output = new Http1Output(duplex, this, headerCase);
  }

  /** The parser holds a head. Sets the mode for what follows; whoever is told may act at once. */
  protected abstract headRead(): void;
  protected abstract bodyRead(chunk: Buffer): void;
  /** The mode is `wait`. */
  protected abstract messageRead(trailers: Headers | undefined): void;
  /** The mode is `discard`. */
  protected abstract inputRefused(failure: Http1Failure): void;
  /** Again whenever an exchange after that has come to its end. */
  protected abstract inputEnded(isNew: boolean): void;
  protected abstract outputDrained(): void;
  abstract outputInvalid(why: string): void;
  /** Once, last. */
  protected abstract closed(error: Error | undefined): void;

  /** Takes the duplex over. The last thing that a constructor does: bytes may come at once. */
  protected attach(): void {
    const duplex = this.duplex as Wired;
    duplex[wireOf] = this;
    duplex.allowHalfOpen = true;
    if (duplex instanceof Socket) duplex.setNoDelay(true);
    duplex.on("error", onError);
    duplex.on("close", onClose);
    duplex.on("end", onEnd);
    duplex.on("drain", onDrain);
    if (duplex.destroyed) process.nextTick(onClosedBefore, this);
    else if (readStatically(duplex, this)) duplex.resume();
    else duplex.on("data", onData);
  }

  takeBytes(buffer: Buffer, length: number, isOwned: boolean): void {
    if (this.isClosed) return;
    enterTurn();
    if (this.#stash !== undefined) {
      this.#append(buffer, 0, length);
      this.#processStash();
    } else {
      const rest = this.#process(buffer, 0, length, isOwned);
      if (rest < length && isOwned) {
        this.#stash = buffer;
        this.#stashStart = rest;
        this.#stashEnd = length;
      } else if (rest < length) this.#append(buffer, rest, length);
    }
    if (this.#stash !== undefined) this.#holdBack();
    leaveTurn();
  }

  /** To be called when what held the input up is gone. */
  protected resumeInput(): void {
    if (this.#isProcessing || this.isClosed) return;
    enterTurn();
    if (this.#stash !== undefined) this.#processStash();
    if (this.#isPaused && this.#stashEnd - this.#stashStart <= maxHeldBytes) this.#resume();
    if (this.#gotEnd) this.#checkEnd();
    leaveTurn();
  }

  /** Sets the mode for what follows a head with these fields. @returns whether there is a body */
  protected expectBody(): boolean {
    const { parser } = this;
    if (parser.isChunked) {
      if (this.#chunks === undefined) this.#chunks = new ChunkParser();
      else this.#chunks.reset();
      this.mode = "chunks";
      return true;
    }
    if (parser.contentLength > 0) {
      this.#left = parser.contentLength;
      this.mode = "length";
      return true;
    }
    this.mode = "wait";
    return false;
  }

  /** Reads on and drops everything. */
  protected discardInput(): void {
    this.mode = "discard";
    this.isHeld = false;
    this.#stash = undefined;
    this.#stashStart = this.#stashEnd = 0;
    if (this.#isPaused) this.#resume();
  }

  #resume(): void {
    this.#isPaused = false;
    this.duplex.resume();
  }

  /** Stops reading when too much waits. */
  #holdBack(): void {
    if (this.#isPaused || this.#stashEnd - this.#stashStart <= maxHeldBytes) return;
    this.#isPaused = true;
    this.duplex.pause();
  }

  #append(buffer: Buffer, start: number, end: number): void {
    const length = end - start;
    const stash = this.#stash;
    const waiting = this.#stashEnd - this.#stashStart;
    // Readers may hold pieces of it: memory is only ever written behind `#stashEnd`.
    if (stash === undefined || this.#stashEnd + length > stash.length || !this.#ownsStash) {
      const grown = Buffer.allocUnsafeSlow(Math.max(1_024, 2 * (waiting + length)));
      if (stash !== undefined) stash.copy(grown, 0, this.#stashStart, this.#stashEnd);
      this.#stash = grown;
      this.#ownsStash = true;
      this.#stashStart = 0;
      this.#stashEnd = waiting;
    }
    buffer.copy(this.#stash as Buffer, this.#stashEnd, start, end);
    this.#stashEnd += length;
  }

  #processStash(): void {
    if (this.#isProcessing) return;
    const end = this.#stashEnd;
    const rest = this.#process(this.#stash as Buffer, this.#stashStart, end, true);
    if (rest < end && this.#stash !== undefined) this.#stashStart = rest;
    else {
      this.#stash = undefined;
      this.#ownsStash = false;
      this.#stashStart = this.#stashEnd = 0;
    }
  }

  /** @returns how far it came */
  #process(buffer: Buffer, start: number, end: number, isOwned: boolean): number {
    this.#isProcessing = true;
    let at = start;
    while (at < end) {
      const next = this.#step(buffer, at, end, isOwned);
      if (next === stuck) break;
      at = next;
    }
    this.#isProcessing = false;
    return at;
  }

  #step(buffer: Buffer, at: number, end: number, isOwned: boolean): number {
    switch (this.mode) {
      case "head":
      case "trailers":
        return this.#stepFields(buffer, at, end);
      case "length": {
        if (this.isHeld) return stuck;
        const next = Math.min(at + this.#left, end);
        this.#left -= next - at;
        const isLast = this.#left === 0;
        this.#deliver(buffer, at, next, isOwned);
        if (isLast && this.mode === "length") this.#complete(next < end, undefined);
        return next;
      }
      case "chunks":
        return this.isHeld ? stuck : this.#stepChunks(buffer, at, end, isOwned);
      case "until-close":
      case "raw":
        if (this.isHeld) return stuck;
        this.#deliver(buffer, at, end, isOwned);
        return end;
      case "wait":
        return stuck;
      case "discard":
        return end;
    }
  }

  #stepFields(buffer: Buffer, at: number, end: number): number {
    if (this.isHeld && this.mode === "trailers") return stuck;
    const { parser } = this;
    const next = parser.feed(buffer, at, end);
    if (next === refused) return this.#refuse(parser.failure ?? failures.firstLine, end);
    if (parser.isWaiting) return next === at ? stuck : next;
    this.hasMore = next < end;
    if (this.mode === "head") this.headRead();
    else {
      const { pairs, spelling } = parser;
      parser.reset();
      this.#complete(next < end, pairs.length === 0 ? undefined : new Headers(pairs, spelling));
    }
    return next;
  }

  #stepChunks(buffer: Buffer, at: number, end: number, isOwned: boolean): number {
    const chunks = this.#chunks as ChunkParser;
    const next = chunks.step(buffer, at, end);
    if (next < 0) return this.#refuse(chunks.failure ?? failures.chunk, end);
    if (chunks.pieceEnd > chunks.pieceStart) this.#deliver(buffer, chunks.pieceStart, chunks.pieceEnd, isOwned);
    else if (chunks.isDone) {
      this.parser.beginTrailers();
      this.mode = "trailers";
    }
    return next;
  }

  #deliver(buffer: Buffer, start: number, end: number, isOwned: boolean): void {
    const length = end - start;
    this.inputBytes += length;
    let chunk: Buffer;
    if (!isOwned) {
      chunk = Buffer.allocUnsafe(length);
      buffer.copy(chunk, 0, start, end);
      if (length > pooledBytes) piecePassed(length);
    } else chunk = length === buffer.length ? buffer : buffer.subarray(start, end);
    this.bodyRead(chunk);
  }

  #complete(hasMore: boolean, trailers: Headers | undefined): void {
    this.hasMore = hasMore;
    this.mode = "wait";
    this.messageRead(trailers);
  }

  #refuse(failure: Http1Failure, end: number): number {
    this.mode = "discard";
    this.inputRefused(failure);
    return end;
  }

  #checkEnd(): void {
    if (this.isClosed || (this.#stash !== undefined && this.isHeld && this.mode !== "wait")) return;
    const isNew = !this.hasEnded;
    this.hasEnded = true;
    if (this.mode === "until-close") this.#complete(false, undefined);
    this.inputEnded(isNew);
  }

  // --- what the duplex says ---

  ended(): void {
    this.#gotEnd = true;
    if (this.isClosed) return;
    enterTurn();
    this.#checkEnd();
    leaveTurn();
  }

  failed(error: Error): void {
    this.#error ??= error;
  }

  closedDuplex(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#stash = undefined;
    this.output.drop();
    enterTurn();
    this.closed(this.#error);
    leaveTurn();
  }

  drained(): void {
    enterTurn();
    this.outputDrained();
    leaveTurn();
  }
}

// Shared by all: a connection costs no closures.
const onData = function (this: unknown, chunk: Buffer) {
  (this as Wired)[wireOf].takeBytes(chunk, chunk.length, true);
};
const onEnd = function (this: unknown) {
  (this as Wired)[wireOf].ended();
};
const onError = function (this: unknown, error: Error) {
  (this as Wired)[wireOf].failed(error);
};
const onClose = function (this: unknown) {
  (this as Wired)[wireOf].closedDuplex();
};
const onDrain = function (this: unknown) {
  (this as Wired)[wireOf].drained();
};
const onClosedBefore = (wire: Http1Wire) => wire.closedDuplex();
