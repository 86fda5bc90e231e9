/** Writes field sections (RFC 7541), with a dynamic table for what repeats and plain text for what does not. */
import { latin1Write } from "./latin1.ts";
import { entryOverhead, staticCount, staticIndexOf } from "./http2-hpack-tables.ts";

/** Octets of the table that we use at most, whatever the peer offers. */
const largestTable = 4_096;
/** Names whose habits are remembered; further ones are sent as text. */
const maxHabits = 256;
/** Points of fickleness from which on a name's values are not put into the table any more. */
const fickleFrom = 12;
/** Values that must not enter a table: shared compression state tells about secrets by size (RFC 7541 §7.1.3). */
const secrets: ReadonlySet<string> = new Set(["authorization", "proxy-authorization", "cookie", "set-cookie"]);
/** Never sent in HTTP/2, wherever they come from (RFC 9113 §8.2.2). */
const connectionFields: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "host",
]);

/** How one name is used on this connection. */
interface Habit {
  readonly staticIndex: number;
  readonly kind: "ordinary" | "secret" | "unsendable" | "te";
  /** The value used last. */
  value: string;
  /** Which insertion put `value` into the table; 0: it is not there, or not any more. */
  inserted: number;
  /** Rises when a value differs from the one before, falls when it repeats. */
  fickleness: number;
}

/** How many octets a field takes at most beside its text. */
export const fieldOverhead = 16;

export class HpackEncoder {
  readonly #habits = new Map<string, Habit>();
  /** Insertions so far; the newest entry of the table is number `#insertions`. */
  #insertions = 0;
  /** The oldest entry that is still there. */
  #oldest = 1;
  /** Sizes of entries, by number modulo length. */
  readonly #sizes = new Uint16Array(largestTable / entryOverhead);
  #size = 0;
  #capacity = largestTable;
  /** Smallest and last capacity that the peer has to be told of; undefined: nothing to tell. */
  #announce: { smallest: number } | undefined;

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. */
  limit(bytes: number): void {
    const capacity = Math.min(bytes, largestTable);
    if (capacity === this.#capacity) return;
    this.#capacity = capacity;
    this.#evict(capacity);
    this.#announce = { smallest: Math.min(capacity, this.#announce?.smallest ?? capacity) };
  }

  /** Has to be called first for each section. Returns where to write next; at most 8 octets. */
  begin(out: Buffer, at: number): number {
    if (this.#announce === undefined) return at;
    const { smallest } = this.#announce;
    this.#announce = undefined;
    if (smallest < this.#capacity) at = writeInteger(out, at, 0x20, 0x1f, smallest);
    return writeInteger(out, at, 0x20, 0x1f, this.#capacity);
  }

  status(out: Buffer, at: number, status: number): number {
    switch (status) {
      case 200:
        out[at] = 0x88;
        return at + 1;
      case 204:
        out[at] = 0x89;
        return at + 1;
      case 304:
        out[at] = 0x8b;
        return at + 1;
      case 404:
        out[at] = 0x8d;
        return at + 1;
      default:
        return this.field(out, at, ":status", String(status));
    }
  }

  method(out: Buffer, at: number, method: string): number {
    if (method === "GET") out[at] = 0x82;
    else if (method === "POST") out[at] = 0x83;
    else return this.field(out, at, ":method", method);
    return at + 1;
  }

  scheme(out: Buffer, at: number, scheme: string): number {
    if (scheme === "http") out[at] = 0x86;
    else if (scheme === "https") out[at] = 0x87;
    else return this.field(out, at, ":scheme", scheme);
    return at + 1;
  }

  path(out: Buffer, at: number, path: string): number {
    if (path !== "/") return this.field(out, at, ":path", path);
    out[at] = 0x84;
    return at + 1;
  }

  /** `out` has room for the text and {@link fieldOverhead} more. Fields that HTTP/2 does not have are left out. */
  field(out: Buffer, at: number, name: string, value: string): number {
    const habit = this.#habits.get(name) ?? this.#newHabit(name);
    if (habit === undefined) return writeText(out, writeName(out, at, 0x00, 0x0f, 0, name), value);
    if (habit.kind !== "ordinary") {
      if (habit.kind === "unsendable" || (habit.kind === "te" && value !== "trailers")) return at;
      if (habit.kind === "secret") {
        return writeText(out, writeName(out, at, 0x10, 0x0f, habit.staticIndex, name), value);
      }
    }
    const isThere = habit.inserted >= this.#oldest;
    if (habit.value === value) {
      if (habit.fickleness > 0) habit.fickleness--;
      if (isThere) return writeInteger(out, at, 0x80, 0x7f, staticCount + 1 + this.#insertions - habit.inserted);
    } else if (habit.fickleness < 2 * fickleFrom) habit.fickleness += 2;
    const size = name.length + value.length + entryOverhead;
    const nameIndex =
      habit.staticIndex > 0 ? habit.staticIndex : isThere ? staticCount + 1 + this.#insertions - habit.inserted : 0;
    habit.value = value;
    if (habit.fickleness >= fickleFrom || size > this.#capacity / 4 || isWide(name) || isWide(value)) {
      // What was in the table stays there for its name only.
      habit.inserted = 0;
      return writeText(out, writeName(out, at, 0x00, 0x0f, nameIndex, name), value);
    }
    at = writeText(out, writeName(out, at, 0x40, 0x3f, nameIndex, name), value);
    this.#evict(this.#capacity - size);
    habit.inserted = ++this.#insertions;
    this.#sizes[habit.inserted % this.#sizes.length] = size;
    this.#size += size;
    return at;
  }

  #newHabit(name: string): Habit | undefined {
    if (this.#habits.size >= maxHabits) {
      // Strange names must not push out what must be left out.
      return connectionFields.has(name) || name === "te" || secrets.has(name) ? habitOf(name) : undefined;
    }
    const habit = habitOf(name);
    this.#habits.set(name, habit);
    return habit;
  }

  #evict(untilSize: number): void {
    while (this.#size > untilSize && this.#oldest <= this.#insertions) {
      this.#size -= this.#sizes[this.#oldest++ % this.#sizes.length] as number;
    }
  }
}

function habitOf(name: string): Habit {
  const kind = connectionFields.has(name)
    ? "unsendable"
    : name === "te"
      ? "te"
      : secrets.has(name)
        ? "secret"
        : "ordinary";
  return { staticIndex: staticIndexOf.get(name) ?? 0, kind, value: "\0", inserted: 0, fickleness: 0 };
}

function writeName(out: Buffer, at: number, opcode: number, mask: number, index: number, name: string): number {
  return index > 0 ? writeInteger(out, at, opcode, mask, index) : writeText(out, writeOctet(out, at, opcode), name);
}

function writeOctet(out: Buffer, at: number, octet: number): number {
  out[at] = octet;
  return at + 1;
}

function writeInteger(out: Buffer, at: number, opcode: number, mask: number, value: number): number {
  if (value < mask) {
    out[at] = opcode | value;
    return at + 1;
  }
  out[at++] = opcode | mask;
  let rest = value - mask;
  for (; rest >= 0x80; rest >>= 7) out[at++] = (rest & 0x7f) | 0x80;
  out[at] = rest;
  return at + 1;
}

/** Up to here a loop is faster than a call into Node. */
const shortText = 48;

/** Text is Latin-1: one octet for each character. Only configuration can hold others; those go as UTF-8. */
function writeText(out: Buffer, at: number, text: string): number {
  const { length } = text;
  if (length > shortText) return writeLongText(out, at, text);
  const start = writeOctet(out, at, length);
  let all = 0;
  for (let index = 0; index < length; index++) {
    const code = text.charCodeAt(index);
    all |= code;
    out[start + index] = code;
  }
  return all < 0x100 ? start + length : writeUtf8(out, at, text);
}

/** Such text is longer on the wire than here: tables would count differently. */
// oxlint-disable-next-line no-control-regex -- a range of bytes, from the first on
const isWide = (text: string): boolean => /[^\0-\xff]/.test(text);

function writeLongText(out: Buffer, at: number, text: string): number {
  if (isWide(text)) return writeUtf8(out, at, text);
  const start = writeInteger(out, at, 0x00, 0x7f, text.length);
  return start + latin1Write(out, text, start);
}

function writeUtf8(out: Buffer, at: number, text: string): number {
  const length = Buffer.byteLength(text);
  const start = writeInteger(out, at, 0x00, 0x7f, length);
  return start + out.write(text, start, "utf8");
}

/** Octets that the text may take at most, UTF-8 included. */
export const roomFor = (text: string): number => 3 * text.length;
