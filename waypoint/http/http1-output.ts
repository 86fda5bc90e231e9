/** The outgoing half of a connection: one message after the other, each framed as its head says. */
import type { Duplex } from "node:stream";
import type { Headers } from "./headers.ts";
import type { HeaderCase } from "./http1-write.ts";
import { crlf, crlfLastChunk, encodeHead, frameTrailers, lastChunk } from "./http1-write.ts";
import type { Flushed } from "./turn.ts";
import { flushLater } from "./turn.ts";

/** How the body that is being written is framed. */
export type Framing = "none" | "length" | "chunks" | "until-close" | "raw";

export interface OutputOwner {
  /** What was to be written cannot be: a field would begin a line of its own, or a body is not as long as its head says. */
  outputInvalid(why: string): void;
}

/** Up to this size a piece of a body is copied behind its head; larger ones are written by themselves, in one writev. */
const maxCopiedBytes = 16 * 1024;

export class Http1Output implements Flushed {
  readonly headerCase: HeaderCase;
  readonly #duplex: Duplex;
  readonly #owner: OutputOwner;
  framing: Framing = "none";
  /** Of bodies. */
  bytesWritten = 0;
  /** A head that has not been written yet, without the empty line at its end. */
  #head: string | undefined;
  #lines = 0;
  /** The first piece of the body, waiting with the head. */
  #piece: Buffer | undefined;
  #lengthLeft = 0;
  #isFlushDue = false;

  constructor(duplex: Duplex, owner: OutputOwner, headerCase: HeaderCase) {
    this.#duplex = duplex;
    this.#owner = owner;
    this.headerCase = headerCase;
  }

  /** Whether the head of the message still waits: more fields may be added by {@link addField}. */
  get hasHead(): boolean {
    return this.#head !== undefined;
  }

  /** A message that is only a head. `lines` counts those in `head`, which ends without its empty line. */
  writeHead(head: string, lines: number): void {
    const bytes = encodeHead(`${head}\r\n`, lines + 1);
    if (bytes === undefined) this.#invalid("a field of the head");
    else this.#duplex.write(bytes);
  }

  /** A message with a body. Its head waits for the first piece of that, until the end of the turn. `length` for framing `length`. */
  begin(head: string, lines: number, framing: Framing, length = 0): void {
    this.#head = head;
    this.#lines = lines;
    this.framing = framing;
    this.#lengthLeft = length;
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    flushLater(this);
  }

  addField(line: string): void {
    if (this.#head === undefined) return;
    this.#head += line;
    this.#lines++;
  }

  /** From now on bytes go out as they are. */
  switchToRaw(): void {
    this.#writeWaiting();
    this.framing = "raw";
  }

  /** @returns whether more may be written now */
  write(chunk: Buffer): boolean {
    const { length } = chunk;
    if (length === 0 || this.framing === "none") return true;
    this.bytesWritten += length;
    if (this.framing === "length") {
      this.#lengthLeft -= length;
      if (this.#lengthLeft < 0) {
        this.#invalid("a body longer than its content-length");
        return true;
      }
      const head = this.#takeHead();
      if (head === undefined) return this.#duplex.write(chunk);
      return this.#writeBehind(head, this.#lines + 1, chunk);
    }
    if (this.#head !== undefined) {
      if (this.#piece === undefined && length <= maxCopiedBytes) {
        this.#piece = chunk;
        return true;
      }
      this.#writeWaiting();
    }
    return this.framing === "chunks" ? this.#writeChunk(chunk) : this.#duplex.write(chunk);
  }

  /** Ends the message. */
  end(trailers: Headers | undefined): void {
    const { framing } = this;
    if (framing === "none") return;
    if (framing === "length" && this.#lengthLeft > 0) {
      this.#invalid("a body shorter than its content-length");
      return;
    }
    if (framing !== "chunks") this.#writeWaiting();
    else if (trailers === undefined) this.#writeLast();
    else {
      this.#writeWaiting();
      const bytes = frameTrailers(trailers, this.headerCase);
      if (bytes === undefined) return this.#invalid("a trailer");
      this.#duplex.write(bytes);
    }
    this.framing = "none";
  }

  /** Forgets what waits. */
  drop(): void {
    this.#head = undefined;
    this.#piece = undefined;
    this.framing = "none";
  }

  flush(): void {
    this.#isFlushDue = false;
    this.#writeWaiting();
  }

  #takeHead(): string | undefined {
    const head = this.#head;
    if (head === undefined) return undefined;
    this.#head = undefined;
    return `${head}\r\n`;
  }

  /** What has to go out before anything else may. */
  #writeWaiting(): void {
    const head = this.#takeHead();
    if (head === undefined) return;
    const piece = this.#piece;
    this.#piece = undefined;
    if (piece !== undefined && this.framing === "chunks")
      this.#writeEncoded(encodeHead(head + sizeLine(piece), this.#lines + 2, piece, crlf));
    else this.#writeEncoded(encodeHead(head, this.#lines + 1, piece));
  }

  #writeLast(): void {
    const head = this.#takeHead();
    const piece = this.#piece;
    this.#piece = undefined;
    if (head === undefined) this.#duplex.write(lastChunk);
    else if (piece === undefined) this.#writeEncoded(encodeHead(head, this.#lines + 1, lastChunk));
    else this.#writeEncoded(encodeHead(head + sizeLine(piece), this.#lines + 2, piece, crlfLastChunk));
  }

  #writeBehind(head: string, lines: number, chunk: Buffer): boolean {
    if (chunk.length <= maxCopiedBytes) return this.#writeEncoded(encodeHead(head, lines, chunk));
    const duplex = this.#duplex;
    duplex.cork();
    const isFine = this.#writeEncoded(encodeHead(head, lines));
    if (isFine || this.framing !== "none") duplex.write(chunk);
    duplex.uncork();
    return !duplex.writableNeedDrain;
  }

  #writeChunk(chunk: Buffer): boolean {
    const duplex = this.#duplex;
    if (chunk.length <= maxCopiedBytes) return this.#writeEncoded(encodeHead(sizeLine(chunk), 1, chunk, crlf));
    // No strings: of one that is written to an HTTP/2 stream, Node (26.10) may free the bytes before they are sent.
    const size = Buffer.from(sizeLine(chunk), "latin1");
    duplex.cork();
    duplex.write(size);
    duplex.write(chunk);
    duplex.write(crlf);
    duplex.uncork();
    return !duplex.writableNeedDrain;
  }

  #writeEncoded(bytes: Buffer | undefined): boolean {
    if (bytes !== undefined) return this.#duplex.write(bytes);
    this.#invalid("a field of the head");
    return true;
  }

  #invalid(why: string): void {
    this.drop();
    this.#owner.outputInvalid(`the message to write has ${why}`);
  }
}

const sizeLine = (chunk: Buffer): string => `${chunk.length.toString(16)}\r\n`;
