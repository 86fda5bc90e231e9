/** Frames on their way out: gathered in one buffer for each turn of the loop, so that many cost one system call. */
import type { Duplex } from "node:stream";
import { frameHeadBytes, frameTypes } from "./http2-frames.ts";

/** The largest frame that a peer has to take, thrice. */
const pieceBytes = 49_152 + 3 * frameHeadBytes;
/** Pieces kept for reuse by all connections. */
const maxIdlePieces = 16;
const idlePieces: Piece[] = [];

class Piece {
  readonly bytes = Buffer.allocUnsafeSlow(pieceBytes);
  /** Called when the transport has taken the bytes, or will never do so. */
  readonly release = (): void => {
    if (idlePieces.length < maxIdlePieces) idlePieces.push(this);
  };
}

const nothing = Buffer.alloc(0);

export class FrameOutput {
  /** What {@link reserve} found room in. */
  bytes: Buffer = nothing;
  /** Where to write next. */
  at = 0;
  /** The transport has enough for now; `onDrained` follows. */
  isBlocked = false;
  /**
   * Where the last frame starts, if it is DATA or HEADERS that may still be changed, and whose it is: a stream's end is often known one
   * call after its last octets.
   */
  lastFrameAt = -1;
  lastFrameStream = 0;

  readonly #duplex: Duplex;
  readonly #flush = (): void => {
    this.#isScheduled = false;
    // A piece is filled before it waits: small ones would pile up with a peer that does not read.
    if (!this.isBlocked) this.flush();
  };
  #piece: Piece | undefined;
  #isScheduled = false;

  readonly #onBlocked: () => void;

  /** @param onBlocked called whenever the transport was given octets and wants no more */
  constructor(duplex: Duplex, onBlocked: () => void) {
    this.#duplex = duplex;
    this.#onBlocked = onBlocked;
  }

  /** Makes room for `length` octets at {@link at}; at most three of the largest frames. Whoever writes them moves `at`. */
  reserve(length: number): void {
    if (this.#piece !== undefined && this.at + length > pieceBytes) this.flush();
    if (this.#piece === undefined) {
      this.#piece = idlePieces.pop() ?? new Piece();
      this.bytes = this.#piece.bytes;
      this.at = 0;
      this.lastFrameAt = -1;
    }
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    process.nextTick(this.#flush);
  }

  /** Room for a whole frame, whose head is written. */
  frame(type: number, flags: number, stream: number, length: number): void {
    this.reserve(frameHeadBytes + length);
    // A stream ends with octets or fields of its own: on any other frame the flag would mean nothing, and the end be lost.
    this.lastFrameAt = type === frameTypes.data ? this.at : -1;
    this.lastFrameStream = stream;
    this.head(this.at, type, flags, stream, length);
    this.at += frameHeadBytes;
  }

  /** Writes a frame's head at a place reserved before. */
  head(at: number, type: number, flags: number, stream: number, length: number): void {
    const { bytes } = this;
    bytes[at] = length >> 16;
    bytes[at + 1] = length >> 8;
    bytes[at + 2] = length;
    bytes[at + 3] = type;
    bytes[at + 4] = flags;
    bytes[at + 5] = stream >>> 24;
    bytes[at + 6] = stream >> 16;
    bytes[at + 7] = stream >> 8;
    bytes[at + 8] = stream;
  }

  uint32(value: number): void {
    const { bytes, at } = this;
    bytes[at] = value >>> 24;
    bytes[at + 1] = value >> 16;
    bytes[at + 2] = value >> 8;
    bytes[at + 3] = value;
    this.at = at + 4;
  }

  /** Sets a flag of the last frame; false where that frame is another stream's or on its way. */
  flagLastFrame(stream: number, flag: number): boolean {
    if (this.lastFrameAt < 0 || this.lastFrameStream !== stream) return false;
    this.bytes[this.lastFrameAt + 4] = (this.bytes[this.lastFrameAt + 4] as number) | flag;
    return true;
  }

  /** The transport took what it had. */
  drained(): void {
    this.isBlocked = false;
    this.flush();
  }

  flush(): void {
    const piece = this.#piece;
    if (piece === undefined) return;
    const { at } = this;
    this.#piece = undefined;
    this.bytes = nothing;
    this.lastFrameAt = -1;
    if (at === 0 || this.#duplex.destroyed || this.#duplex.writableEnded) {
      piece.release();
      return;
    }
    if (this.#duplex.write(piece.bytes.subarray(0, at), piece.release)) return;
    this.isBlocked = true;
    this.#onBlocked();
  }
}
