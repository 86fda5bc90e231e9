/** Octets in, frames out: however they are cut on the wire. DATA is passed on as it comes, everything else whole. */
import {
  ConnectionError,
  errorCodes,
  flags,
  frameHeadBytes,
  frameTypes,
  maxFrameBytes,
  type FrameSink,
} from "./http2-frames.ts";

/** Frames that one section of fields may come in. */
const maxSectionFrames = 32;

/** A section of fields that comes in several frames. */
interface PartialSection {
  readonly id: number;
  readonly endsStream: boolean;
  readonly parts: Buffer[];
  bytes: number;
}

export class FrameReader<Stream> {
  readonly #sink: FrameSink<Stream>;
  /** Octets of one section, still compressed. */
  readonly #maxSectionBytes: number;
  #isOpen = true;
  /** What is there of a frame that is not complete, and how much is needed to go on. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  #neededBytes = 0;
  #section: PartialSection | undefined;
  /** The DATA frame that is being read. */
  #stream: Stream | undefined;
  #dataLeft = 0;
  #paddingLeft = 0;
  #endsStream = false;

  constructor(sink: FrameSink<Stream>, maxSectionBytes: number) {
    this.#sink = sink;
    this.#maxSectionBytes = maxSectionBytes;
  }

  /** Nothing more is read, not even of what was given already. */
  close(): void {
    this.#isOpen = false;
    this.#held = [];
    this.#heldBytes = 0;
    this.#section = undefined;
    this.#stream = undefined;
  }

  /** @param isOwned whether the octets may be kept after the call @throws ConnectionError */
  read(bytes: Buffer, length: number, isOwned: boolean): void {
    if (this.#heldBytes === 0) {
      this.#frames(bytes, length, isOwned);
      return;
    }
    const chunk = bytes.subarray(0, length);
    this.#held.push(isOwned ? chunk : Buffer.from(chunk));
    this.#heldBytes += length;
    if (this.#heldBytes < this.#neededBytes) return;
    const whole = Buffer.concat(this.#held, this.#heldBytes);
    this.#held = [];
    this.#heldBytes = 0;
    this.#frames(whole, whole.length, true);
  }

  #frames(bytes: Buffer, end: number, isOwned: boolean): void {
    let at = this.#sink.onPreface(bytes, 0, end);
    if (at < 0) {
      this.#hold(bytes, 0, end, end + 1);
      return;
    }
    while (at < end && this.#isOpen) {
      if (this.#dataLeft > 0) at = this.#data(bytes, at, end, isOwned);
      else if (this.#paddingLeft > 0) {
        const skipped = Math.min(end - at, this.#paddingLeft);
        this.#paddingLeft -= skipped;
        at += skipped;
      } else {
        const next = this.#frame(bytes, at, end);
        if (next === at) return;
        at = next;
      }
    }
  }

  /** Reads one frame, or the head of one with data. Returns `at` where it is not complete. */
  #frame(bytes: Buffer, at: number, end: number): number {
    if (end - at < frameHeadBytes) return this.#hold(bytes, at, end, frameHeadBytes);
    const length = ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
    if (length > maxFrameBytes) throw new ConnectionError(errorCodes.frameSizeError, `a frame of ${length} octets`);
    const type = bytes[at + 3] as number;
    const isData = type === frameTypes.data;
    // Of DATA the length of the padding at most.
    const needed = frameHeadBytes + (isData ? Math.min(length, 1) : length);
    if (end - at < needed) return this.#hold(bytes, at, end, needed);
    const frameFlags = bytes[at + 4] as number;
    const id = bytes.readUInt32BE(at + 5) & 0x7fff_ffff;
    if (this.#section !== undefined && (type !== frameTypes.continuation || id !== this.#section.id)) {
      throw new ConnectionError(errorCodes.protocolError, "a frame within a section of fields");
    }
    const body = at + frameHeadBytes;
    if (isData) return this.#beginData(id, frameFlags, length, bytes, body);
    if (type === frameTypes.headers) this.#onHeaders(id, frameFlags, bytes, body, body + length);
    else if (type === frameTypes.continuation) this.#onContinuation(id, frameFlags, bytes, body, body + length);
    else this.#sink.onControl(type, frameFlags, id, bytes, body, body + length);
    return body + length;
  }

  #hold(bytes: Buffer, at: number, end: number, needed: number): number {
    // A copy: what is left is small, and would keep a large buffer alive.
    this.#held = [Buffer.from(bytes.subarray(at, end))];
    this.#heldBytes = end - at;
    this.#neededBytes = needed;
    return at;
  }

  #beginData(id: number, frameFlags: number, length: number, bytes: Buffer, at: number): number {
    let padding = 0;
    let overhead = 0;
    if ((frameFlags & flags.padded) !== 0) {
      padding = length > 0 ? (bytes[at++] as number) : maxFrameBytes;
      overhead = 1 + padding;
      if (overhead > length) throw new ConnectionError(errorCodes.protocolError, "padding longer than its frame");
    }
    this.#endsStream = (frameFlags & flags.endStream) !== 0;
    this.#stream = this.#sink.onData(id, length, overhead, this.#endsStream);
    this.#dataLeft = length - overhead;
    this.#paddingLeft = padding;
    if (this.#dataLeft === 0) this.#endData();
    return at;
  }

  #data(bytes: Buffer, at: number, end: number, isOwned: boolean): number {
    const upTo = Math.min(end, at + this.#dataLeft);
    this.#dataLeft -= upTo - at;
    this.#sink.onDataPart(this.#stream, bytes, at, upTo, isOwned);
    if (this.#dataLeft === 0) this.#endData();
    return upTo;
  }

  #endData(): void {
    const stream = this.#stream;
    this.#stream = undefined;
    if (this.#endsStream && stream !== undefined) this.#sink.onDataEnd(stream);
  }

  #onHeaders(id: number, frameFlags: number, bytes: Buffer, at: number, end: number): void {
    if (id === 0) throw new ConnectionError(errorCodes.protocolError, "fields on stream 0");
    if ((frameFlags & flags.padded) !== 0) {
      const padding = at < end ? (bytes[at++] as number) : maxFrameBytes;
      end -= padding;
    }
    if ((frameFlags & flags.priority) !== 0) {
      if (end - at >= 5) expectNoSelfDependency(id, bytes, at);
      at += 5;
    }
    if (at > end) throw new ConnectionError(errorCodes.protocolError, "padding longer than its frame");
    const endsStream = (frameFlags & flags.endStream) !== 0;
    if ((frameFlags & flags.endHeaders) !== 0) this.#sink.onSection(id, endsStream, bytes, at, end);
    else this.#section = { id, endsStream, parts: [Buffer.from(bytes.subarray(at, end))], bytes: end - at };
  }

  #onContinuation(id: number, frameFlags: number, bytes: Buffer, at: number, end: number): void {
    const section = this.#section;
    if (section === undefined) throw new ConnectionError(errorCodes.protocolError, "CONTINUATION of nothing");
    section.bytes += end - at;
    if (section.bytes > this.#maxSectionBytes || section.parts.length >= maxSectionFrames) {
      throw new ConnectionError(errorCodes.enhanceYourCalm, "a section of fields without end");
    }
    section.parts.push(Buffer.from(bytes.subarray(at, end)));
    if ((frameFlags & flags.endHeaders) === 0) return;
    this.#section = undefined;
    const whole = Buffer.concat(section.parts, section.bytes);
    this.#sink.onSection(id, section.endsStream, whole, 0, whole.length);
  }
}

/** @throws ConnectionError */
export function expectNoSelfDependency(id: number, bytes: Buffer, at: number): void {
  if ((bytes.readUInt32BE(at) & 0x7fff_ffff) !== id) return;
  throw new ConnectionError(errorCodes.protocolError, "a stream that depends on itself");
}
