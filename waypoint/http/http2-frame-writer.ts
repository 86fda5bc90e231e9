/** Frames of every type on their way out; fields are compressed here. */
import { flags, frameHeadBytes, frameTypes, maxFrameBytes, type ErrorCode } from "./http2-frames.ts";
import { fieldOverhead, HpackEncoder, roomFor } from "./http2-hpack-encoder.ts";
import type { FrameOutput } from "./http2-output.ts";

/** Writes the pseudo-fields of a head. */
export interface HeadWriter<Head> {
  writeHead(encoder: HpackEncoder, out: Buffer, at: number, head: Head): number;
  /** Octets that they take at most. */
  roomForHead(head: Head): number;
}

export class FrameWriter<Head> {
  readonly output: FrameOutput;
  readonly encoder = new HpackEncoder();
  readonly #heads: HeadWriter<Head>;

  constructor(output: FrameOutput, heads: HeadWriter<Head>) {
    this.output = output;
    this.#heads = heads;
  }

  data(id: number, chunk: Buffer, from: number, to: number, endsStream: boolean): void {
    const { output } = this;
    output.frame(frameTypes.data, endsStream ? flags.endStream : 0, id, to - from);
    output.at += chunk.copy(output.bytes, output.at, from, to);
  }

  /** The end without data: a flag of the stream's last frame as long as that one has not left. */
  end(id: number): void {
    const { output } = this;
    if (!output.flagLastFrame(id, flags.endStream)) output.frame(frameTypes.data, flags.endStream, id, 0);
  }

  reset(id: number, code: ErrorCode): void {
    this.output.frame(frameTypes.reset, 0, id, 4);
    this.output.uint32(code);
  }

  windowUpdate(id: number, bytes: number): void {
    if (bytes <= 0) return;
    this.output.frame(frameTypes.windowUpdate, 0, id, 4);
    this.output.uint32(bytes);
  }

  settings(settings: readonly (readonly [id: number, value: number])[]): void {
    const { output } = this;
    output.frame(frameTypes.settings, 0, 0, 6 * settings.length);
    for (const [id, value] of settings) {
      output.bytes[output.at++] = id >> 8;
      output.bytes[output.at++] = id;
      output.uint32(value);
    }
  }

  settingsAck(): void {
    this.output.frame(frameTypes.settings, flags.ack, 0, 0);
  }

  ping(high: number, low: number): void {
    this.output.frame(frameTypes.ping, 0, 0, 8);
    this.output.uint32(high);
    this.output.uint32(low);
  }

  pong(bytes: Buffer, at: number): void {
    const { output } = this;
    output.frame(frameTypes.ping, flags.ack, 0, 8);
    output.at += bytes.copy(output.bytes, output.at, at, at + 8);
  }

  goaway(lastStream: number, code: ErrorCode, message: string): void {
    const { output } = this;
    const text = Buffer.from(message, "latin1");
    output.frame(frameTypes.goaway, 0, 0, 8 + text.length);
    output.uint32(lastStream);
    output.uint32(code);
    output.at += text.copy(output.bytes, output.at);
  }

  /** HEADERS, and CONTINUATION where it is too much for one frame. `head` is undefined for trailers. */
  section(id: number, endsStream: boolean, head: Head | undefined, pairs: readonly string[]): void {
    let room = fieldOverhead + (head === undefined ? 0 : this.#heads.roomForHead(head));
    for (let i = 0; i < pairs.length; i += 2) {
      room += roomFor(pairs[i] as string) + roomFor(pairs[i + 1] as string) + fieldOverhead;
    }
    const streamFlag = endsStream ? flags.endStream : 0;
    if (room > maxFrameBytes) {
      this.#largeSection(id, streamFlag, head, pairs, room);
      return;
    }
    const { output } = this;
    output.reserve(frameHeadBytes + room);
    const frameAt = output.at;
    const start = frameAt + frameHeadBytes;
    const end = this.#encode(output.bytes, start, head, pairs);
    output.head(frameAt, frameTypes.headers, flags.endHeaders | streamFlag, id, end - start);
    output.at = end;
    output.lastFrameAt = frameAt;
    output.lastFrameStream = id;
  }

  #largeSection(id: number, streamFlag: number, head: Head | undefined, pairs: readonly string[], room: number): void {
    const { output } = this;
    const section = Buffer.allocUnsafe(room);
    const length = this.#encode(section, 0, head, pairs);
    for (let at = 0; at === 0 || at < length; at += maxFrameBytes) {
      const upTo = Math.min(length, at + maxFrameBytes);
      const type = at === 0 ? frameTypes.headers : frameTypes.continuation;
      output.frame(type, (at === 0 ? streamFlag : 0) | (upTo === length ? flags.endHeaders : 0), id, upTo - at);
      output.at += section.copy(output.bytes, output.at, at, upTo);
    }
    output.lastFrameAt = -1; // END_STREAM stands on HEADERS, not on the last of these
  }

  #encode(out: Buffer, at: number, head: Head | undefined, pairs: readonly string[]): number {
    const { encoder } = this;
    let end = encoder.begin(out, at);
    if (head !== undefined) end = this.#heads.writeHead(encoder, out, end, head);
    for (let i = 0; i < pairs.length; i += 2) {
      end = encoder.field(out, end, pairs[i] as string, pairs[i + 1] as string);
    }
    return end;
  }
}
