/**
 * Reads one head (first line and fields), or the trailers of a message, from bytes that may come in any pieces. Strict:
 * whatever two implementations might read differently is refused.
 */
import type { Http1Failure } from "./http1-syntax.ts";
import { failures, hashMask, knownNames, learn, role, targetByte, tokenByte, valueByte } from "./http1-syntax.ts";
import { latin1Slice } from "./latin1.ts";

export interface HeadLimits {
  /** Of a head, and of trailers. */
  readonly maxHeadBytes: number;
  readonly maxHeaders: number;
}

/** Result of {@link HeadParser.feed} that is not a position. */
export const refused = -1;

export type FirstLine = "request" | "response";

const space = 0x20;
const tab = 0x09;
const cr = 0x0d;
const lf = 0x0a;
const colon = 0x3a;

const maxMethodLength = 64;
/** Lines up to this are read anew with every piece of them that comes. */
const shortLine = 1_024;
/** Header text is cut out of one string at a time; a body behind it need not be in that. */
const windowBytes = 2_048;

/** Names that have no place in trailers: framing, routing, authentication (RFC 9110 §6.5.1). */
const notTrailers: ReadonlySet<string> = new Set([
  "authorization",
  "connection",
  "content-encoding",
  "content-length",
  "content-range",
  "content-type",
  "cookie",
  "expect",
  "host",
  "keep-alive",
  "max-forwards",
  "proxy-authorization",
  "proxy-connection",
  "range",
  "set-cookie",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Sentinel of {@link HeadParser.contentLength}. */
const noLength = -1;

export class HeadParser {
  readonly #limits: HeadLimits;
  readonly #kind: FirstLine;
  /** Spelling of names, for those who write them as they came. */
  readonly #keepsSpelling: boolean;

  // What was read. Valid from the moment that `feed` returned a position until `reset`.
  method = "";
  target = "";
  status = 0;
  /** 0 or 1, of HTTP/1.x. */
  minorVersion = 1;
  /** Without the fields that belong to the connection. */
  pairs: string[] = [];
  spelling: Map<string, string> | undefined;
  host: string | undefined;
  /** -1 without the field. */
  contentLength = noLength;
  isChunked = false;
  /** In lower case; every member of every Connection field. */
  connectionOptions: string[] | undefined;
  upgrade: string | undefined;
  expectsContinue = false;
  acceptsTrailers = false;
  failure: Http1Failure | undefined;

  /** The last `feed` has not come to the end. */
  isWaiting = false;
  #beforeFields = true;
  #hadEmptyLine = false;
  #inTrailers = false;
  #fields = 0;
  #bytes = 0;
  /** Length of the line that waits, when it was last looked at. */
  #searched = 0;

  constructor(kind: FirstLine, limits: HeadLimits, keepsSpelling = false) {
    this.#kind = kind;
    this.#limits = limits;
    this.#keepsSpelling = keepsSpelling;
  }

  /** Nothing of a message has been seen yet. */
  get isFresh(): boolean {
    return this.#bytes === 0 && this.#searched === 0;
  }

  /** Gets ready for the next head. */
  reset(): void {
    this.#begin(false);
    this.host = undefined;
    this.contentLength = noLength;
    this.isChunked = false;
    this.connectionOptions = undefined;
    this.upgrade = undefined;
    this.expectsContinue = false;
    this.acceptsTrailers = false;
    this.#hadEmptyLine = false;
  }

  /** Gets ready for the trailers of the message whose head was read. */
  beginTrailers(): void {
    this.#begin(true);
  }

  #begin(inTrailers: boolean): void {
    this.pairs = [];
    this.spelling = undefined;
    this.#inTrailers = inTrailers;
    this.#beforeFields = !inTrailers;
    this.#fields = 0;
    this.#bytes = 0;
    this.#searched = 0;
  }

  /**
   * How far it came: behind the empty line or, while it {@link isWaiting}, to where bytes are needed again, with more behind
   * them. Or {@link refused}: see {@link failure}.
   */
  feed(buffer: Buffer, start: number, end: number): number {
    this.isWaiting = false;
    // A long line that comes in drops is looked at when it has doubled or is whole: no byte is read again and again.
    if (this.#searched > shortLine && end - start < 2 * this.#searched) {
      const at = buffer.indexOf(lf, start);
      if (at === -1 || at >= end) {
        this.isWaiting = true;
        return this.#bytes + end - start > this.#limits.maxHeadBytes ? this.#tooLarge() : start;
      }
    }
    this.#searched = 0;
    let at = start;
    if (this.#beforeFields) {
      at = this.#kind === "request" ? this.#requestLine(buffer, at, end) : this.#statusLine(buffer, at, end);
      if (at === refused || this.isWaiting) return at;
      this.#beforeFields = false;
      this.#bytes += at - start;
    }
    return this.#fieldLines(buffer, at, end);
  }

  #fieldLines(buffer: Buffer, start: number, end: number): number {
    let at = start;
    let text = "";
    let textStart = start;
    let textEnd = start;
    const { pairs } = this;
    for (;;) {
      if (at === end) return this.#waitFrom(start, at, end);
      if (buffer[at] === cr) {
        if (at + 1 === end) return this.#waitFrom(start, at, end);
        if (buffer[at + 1] !== lf) return this.#refuse(failures.value);
        this.#bytes += at + 2 - start;
        if (this.#bytes > this.#limits.maxHeadBytes) return this.#tooLarge();
        return at + 2;
      }
      let i = at;
      let hash = 0;
      let lower = 0;
      while (i < end && (lower = tokenByte[buffer[i] as number] as number) !== 0) {
        hash = (hash * 31 + lower) & 0xff_ff;
        i++;
      }
      if (i === end) return this.#waitFrom(start, at, end);
      if (buffer[i] !== colon || i === at) return this.#refuse(failures.name);
      const nameEnd = i++;
      while (i < end && (buffer[i] === space || buffer[i] === tab)) i++;
      const valueStart = i;
      while (i < end && valueByte[buffer[i] as number] === 1) i++;
      if (i === end) return this.#waitFrom(start, at, end);
      if (buffer[i] !== cr) return this.#refuse(failures.value);
      if (i + 1 === end) return this.#waitFrom(start, at, end);
      if (buffer[i + 1] !== lf) return this.#refuse(failures.value);
      const next = i + 2;
      while (i > valueStart && (buffer[i - 1] === space || buffer[i - 1] === tab)) i--;
      if (++this.#fields > this.#limits.maxHeaders) return this.#refuse(failures.tooManyHeaders);
      if (i > textEnd) {
        textStart = at;
        textEnd = Math.min(end, Math.max(at + windowBytes, i));
        text = latin1Slice(buffer, textStart, textEnd);
      }
      const value = text.substring(valueStart - textStart, i - textStart);

      let known = knownNames[hash & hashMask];
      if (known === undefined || !isSameName(known.bytes, buffer, at, nameEnd))
        known = learn(latin1Slice(buffer, at, nameEnd).toLowerCase());
      if (this.#inTrailers && notTrailers.has(known.name)) return this.#refuse(failures.trailer);
      if (known.role === role.none) pairs.push(known.name, value);
      else if (!this.#takeSpecial(known.role, value)) return refused;
      if (this.#keepsSpelling) this.#spell(known.name, latin1Slice(buffer, at, nameEnd));
      at = next;
    }
  }

  /** @returns whether the field is acceptable */
  #takeSpecial(of: number, value: string): boolean {
    switch (of) {
      case role.host:
        // An answer may have one; it means nothing.
        if (this.host !== undefined && this.#kind === "request") return this.#fail(failures.hostCount);
        this.host = value;
        return true;
      case role.connection:
        return this.#takeConnection(value);
      case role.contentLength:
        return this.#takeContentLength(value);
      case role.transferEncoding:
        return this.#takeTransferEncoding(value);
      case role.upgrade:
        this.upgrade = this.upgrade === undefined ? value : `${this.upgrade}, ${value}`;
        return true;
      case role.expect:
        if (value.toLowerCase() === "100-continue") this.expectsContinue = true;
        else this.pairs.push("expect", value);
        return true;
      case role.te:
        // The only member that is not about this connection alone (RFC 9110 §10.1.4); gRPC needs it.
        if (!this.acceptsTrailers && /(?:^|,)[ \t]*trailers[ \t]*(?:,|$)/i.test(value)) {
          this.acceptsTrailers = true;
          this.pairs.push("te", "trailers");
        }
        return true;
      default:
        return true;
    }
  }

  #takeContentLength(value: string): boolean {
    if (this.contentLength !== noLength) return this.#fail(failures.contentLengthCount);
    if (this.isChunked) return this.#fail(failures.bothLengths);
    // 15 digits: no number beyond what a double holds exactly.
    if (!/^\d{1,15}$/.test(value)) return this.#fail(failures.contentLength);
    this.contentLength = Number(value);
    this.pairs.push("content-length", value);
    return true;
  }

  #takeTransferEncoding(value: string): boolean {
    if (this.contentLength !== noLength) return this.#fail(failures.bothLengths);
    if (this.isChunked) return this.#fail(failures.transferEncoding);
    if (value.toLowerCase() !== "chunked") {
      const codings = value.toLowerCase().split(",");
      const isListOfTokens = codings.every((coding) => /^[ \t]*[!#$%&'*+\-.^_`|~0-9a-z]+[ \t]*$/.test(coding));
      const unknown = isListOfTokens && codings.some((coding) => coding.trim() !== "chunked");
      return this.#fail(unknown ? failures.transferEncodingUnknown : failures.transferEncoding);
    }
    this.isChunked = true;
    return true;
  }

  #takeConnection(value: string): boolean {
    const options = (this.connectionOptions ??= []);
    if (value === "keep-alive" || value === "close") {
      options.push(value);
      return true;
    }
    for (const part of value.toLowerCase().split(",")) {
      const option = part.trim();
      if (option !== "") options.push(option);
    }
    return true;
  }

  #spell(name: string, spelling: string): void {
    if (spelling !== name) (this.spelling ??= new Map()).set(name, spelling);
  }

  /** Method SP target SP HTTP/1.x CRLF */
  #requestLine(buffer: Buffer, start: number, end: number): number {
    let at = start;
    // Some clients send an empty line after a body (RFC 9112 §2.2). One is enough.
    if (buffer[at] === cr && !this.#hadEmptyLine) {
      if (at + 1 >= end) return this.#waitFrom(start, at, end);
      if (buffer[at + 1] !== lf) return this.#refuse(failures.firstLine);
      this.#hadEmptyLine = true;
      at += 2;
    }
    let i = at;
    while (i < end && tokenByte[buffer[i] as number] !== 0) i++;
    if (i - at > maxMethodLength) return this.#refuse(failures.firstLine);
    if (i === end) return this.#waitFrom(start, at, end);
    if (i === at || buffer[i] !== space) return this.#refuse(failures.firstLine);
    const methodEnd = i++;
    const targetStart = i;
    while (i < end && targetByte[buffer[i] as number] === 1) i++;
    if (i === end) return this.#waitFrom(start, at, end);
    if (buffer[i] !== space || i === targetStart) return this.#refuse(failures.target);
    const targetEnd = i++;
    if (i + 10 > end) {
      // Refused now rather than when it is whole: it may never be.
      return isVersionSoFar(buffer, i, end) ? this.#waitFrom(start, at, end) : this.#refuse(failures.version);
    }
    const minor = versionAt(buffer, i);
    if (minor === -1) return this.#refuse(failures.version);
    if (buffer[i + 8] !== cr || buffer[i + 9] !== lf) return this.#refuse(failures.version);
    this.minorVersion = minor;
    this.method = methodOf(buffer, at, methodEnd);
    this.target = latin1Slice(buffer, targetStart, targetEnd);
    return i + 10;
  }

  /** HTTP/1.x SP status [SP reason] CRLF */
  #statusLine(buffer: Buffer, start: number, end: number): number {
    let i = start + 12;
    if (i + 2 > end)
      return isVersionSoFar(buffer, start, end) ? this.#waitFrom(start, start, end) : this.#refuse(failures.version);
    const minor = versionAt(buffer, start);
    if (minor === -1 || buffer[start + 8] !== space) return this.#refuse(failures.version);
    const status = digitsAt(buffer, start + 9);
    if (status < 100) return this.#refuse(failures.status);
    if (buffer[i] !== space && buffer[i] !== cr) return this.#refuse(failures.status);
    while (i < end && valueByte[buffer[i] as number] === 1) i++;
    if (i === end) return this.#waitFrom(start, start, end);
    if (buffer[i] !== cr) return this.#refuse(failures.firstLine);
    if (i + 1 === end) return this.#waitFrom(start, start, end);
    if (buffer[i + 1] !== lf) return this.#refuse(failures.firstLine);
    this.minorVersion = minor;
    this.status = status;
    return i + 2;
  }

  /** Everything up to `at` has been read; the line that begins there is not complete. */
  #waitFrom(start: number, at: number, end: number): number {
    this.#bytes += at - start;
    return this.#wait(at, end);
  }

  #wait(at: number, end: number): number {
    this.isWaiting = true;
    this.#searched = end - at;
    return this.#bytes + end - at > this.#limits.maxHeadBytes ? this.#tooLarge() : at;
  }

  #tooLarge(): number {
    if (this.#inTrailers) return this.#refuse(failures.trailersTooLarge);
    return this.#refuse(this.#beforeFields ? failures.targetTooLong : failures.headTooLarge);
  }

  #refuse(why: Http1Failure): number {
    this.failure = why;
    return refused;
  }

  #fail(why: Http1Failure): false {
    this.failure = why;
    return false;
  }
}

function isSameName(name: Uint8Array, buffer: Buffer, start: number, end: number): boolean {
  const { length } = name;
  if (length !== end - start) return false;
  for (let i = 0; i < length; i++) if (tokenByte[buffer[start + i] as number] !== name[i]) return false;
  return true;
}

/** The minor version, or -1 unless `HTTP/1.0` or `HTTP/1.1` stands there. */
function versionAt(buffer: Buffer, at: number): number {
  // H T T P / 1 .
  if (
    buffer[at] !== 0x48 ||
    buffer[at + 1] !== 0x54 ||
    buffer[at + 2] !== 0x54 ||
    buffer[at + 3] !== 0x50 ||
    buffer[at + 4] !== 0x2f ||
    buffer[at + 5] !== 0x31 ||
    buffer[at + 6] !== 0x2e
  )
    return -1;
  const minor = (buffer[at + 7] as number) - 0x30;
  return minor === 0 || minor === 1 ? minor : -1;
}

const versionPrefix = Buffer.from("HTTP/1.");

function isVersionSoFar(buffer: Buffer, at: number, end: number): boolean {
  const seen = Math.min(end - at, versionPrefix.length);
  for (let i = 0; i < seen; i++) if (buffer[at + i] !== versionPrefix[i]) return false;
  return true;
}

/** Three digits, or -1. */
function digitsAt(buffer: Buffer, at: number): number {
  let value = 0;
  for (let i = at; i < at + 3; i++) {
    const digit = (buffer[i] as number) - 0x30;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}

function methodOf(buffer: Buffer, start: number, end: number): string {
  // G E T
  if (end - start === 3 && buffer[start] === 0x47 && buffer[start + 1] === 0x45 && buffer[start + 2] === 0x54)
    return "GET";
  return latin1Slice(buffer, start, end);
}
