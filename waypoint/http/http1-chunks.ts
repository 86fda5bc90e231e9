/** Takes a chunked body apart (RFC 9112 §7.1), without its trailers: those are read as fields are. */
import type { Http1Failure } from "./http1-syntax.ts";
import { failures, hexByte, valueByte } from "./http1-syntax.ts";

const cr = 0x0d;
const lf = 0x0a;
const semicolon = 0x3b;

/** 2^52: no size that a double does not hold exactly. */
const maxSizeDigits = 13;
/** Of one chunk; nobody uses them, and they are a known way to keep a proxy busy. */
const maxExtensionBytes = 256;
/** Of all chunks of a body together. */
const maxAllExtensionBytes = 16 * 1024;

type State = "size" | "extension" | "size-lf" | "data" | "data-cr" | "data-lf" | "done";

export class ChunkParser {
  /** The last {@link step} found data here. */
  pieceStart = 0;
  pieceEnd = 0;
  failure: Http1Failure | undefined;
  #state: State = "size";
  #left = 0;
  #digits = 0;
  #extensionBytes = 0;
  #allExtensionBytes = 0;

  reset(): void {
    this.#state = "size";
    this.#left = 0;
    this.#digits = 0;
    this.#extensionBytes = 0;
    this.#allExtensionBytes = 0;
  }

  /** The last chunk has been read; trailers follow. */
  get isDone(): boolean {
    return this.#state === "done";
  }

  /** Goes to the end of the next piece of data, of the last chunk, or of the bytes. @returns the position, or -1 for {@link failure} */
  step(buffer: Buffer, start: number, end: number): number {
    let at = start;
    this.pieceStart = this.pieceEnd = at;
    while (at < end) {
      const byte = buffer[at] as number;
      switch (this.#state) {
        case "size": {
          const digit = hexByte[byte] as number;
          if (digit !== 0) {
            if (++this.#digits > maxSizeDigits) return this.#refuse(failures.chunk);
            this.#left = this.#left * 16 + digit - 1;
          } else if (this.#digits === 0) return this.#refuse(failures.chunk);
          else if (byte === cr) this.#state = "size-lf";
          else if (byte === semicolon) this.#state = "extension";
          else return this.#refuse(failures.chunk);
          at++;
          break;
        }
        case "extension":
          if (byte === cr) this.#state = "size-lf";
          else if (valueByte[byte] === 0) return this.#refuse(failures.chunk);
          else if (++this.#extensionBytes > maxExtensionBytes || ++this.#allExtensionBytes > maxAllExtensionBytes)
            return this.#refuse(failures.chunkExtension);
          at++;
          break;
        case "size-lf":
          if (byte !== lf) return this.#refuse(failures.chunk);
          at++;
          this.#digits = 0;
          this.#extensionBytes = 0;
          if (this.#left === 0) {
            this.#state = "done";
            return at;
          }
          this.#state = "data";
          break;
        case "data": {
          const length = Math.min(this.#left, end - at);
          this.pieceStart = at;
          this.pieceEnd = at + length;
          this.#left -= length;
          if (this.#left === 0) this.#state = "data-cr";
          return at + length;
        }
        case "data-cr":
          if (byte !== cr) return this.#refuse(failures.chunk);
          this.#state = "data-lf";
          at++;
          break;
        case "data-lf":
          if (byte !== lf) return this.#refuse(failures.chunk);
          this.#state = "size";
          at++;
          break;
        case "done":
          return at;
      }
    }
    return at;
  }

  #refuse(why: Http1Failure): number {
    this.failure = why;
    return -1;
  }
}
