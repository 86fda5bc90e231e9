/** Reads field sections (RFC 7541): compressed octets of one connection in, fields out. */
import { latin1Slice } from "./latin1.ts";
import {
  entryOverhead,
  huffman,
  huffmanAccepts,
  huffmanSteps,
  meaningOf,
  pseudoFields,
  seen,
  staticCount,
  staticMeanings,
  staticNames,
  staticValues,
} from "./http2-hpack-tables.ts";

/** The connection's compression state is lost: COMPRESSION_ERROR. */
export class HpackError extends Error {}

/** Octets of the dynamic table: the protocol's default, which we never announce otherwise. */
export const tableBytes = 4_096;
/** An entry counts for at least 32 octets, so that many fit; a power of two. */
const slots = tableBytes / entryOverhead;

export interface FieldLimits {
  /** Octets of names and values in one section. */
  readonly maxBytes: number;
  readonly maxFields: number;
}

/** Text is uncompressed here first; grows to what a section may have. */
let scratch = Buffer.allocUnsafeSlow(16_384);

/**
 * One per connection and direction. What a section said stands in the public members until the next one is decoded:
 * nothing is allocated for a section but its list of fields.
 */
export class HpackDecoder {
  /** Which fields came, see {@link seen}. A pseudo-field that came twice or late counts as malformed. */
  seen = 0;
  /** Whether there was more than the limits allow; what is too much is not in {@link pairs}. */
  isTooLarge = false;
  /** Octets of names and values, whether kept or not. */
  bytes = 0;
  /** Regular fields: name, value, … The receiver's own from then on. */
  pairs: string[] = [];
  authority = "";
  method = "";
  path = "";
  scheme = "";
  status = "";
  protocol = "";

  readonly #limits: FieldLimits;
  readonly #names: string[] = Array.from({ length: slots }, () => "");
  readonly #values: string[] = Array.from({ length: slots }, () => "");
  readonly #meanings = new Uint16Array(slots);
  /** Entries ever inserted; the newest lies at `inserted - 1`, modulo {@link slots}. */
  #inserted = 0;
  #entries = 0;
  #size = 0;
  #capacity = tableBytes;
  #at = 0;

  constructor(limits: FieldLimits) {
    this.#limits = limits;
  }

  /** @throws HpackError */
  decode(block: Buffer, start: number, end: number): void {
    this.seen = 0;
    this.isTooLarge = false;
    this.bytes = 0;
    this.pairs = [];
    this.#at = start;
    let isFirst = true;
    while (this.#at < end) {
      const octet = block[this.#at] as number;
      if (octet >= 0x80) this.#indexed(this.#integer(block, end, 0x7f));
      else if (octet >= 0x40) this.#literal(block, end, 0x3f, true);
      else if (octet < 0x20) this.#literal(block, end, 0x0f, false);
      else {
        if (!isFirst) throw new HpackError("the table's size changes in the middle of a section");
        this.#resize(this.#integer(block, end, 0x1f));
        continue; // more than one is allowed
      }
      isFirst = false;
    }
  }

  #indexed(index: number): void {
    if (index <= staticCount) {
      if (index === 0) throw new HpackError("index 0");
      this.#add(staticNames[index] as string, staticValues[index] as string, staticMeanings[index] as number);
      return;
    }
    const slot = this.#slotOf(index);
    this.#add(this.#names[slot] as string, this.#values[slot] as string, this.#meanings[slot] as number);
  }

  #literal(block: Buffer, end: number, mask: number, isKept: boolean): void {
    const index = this.#integer(block, end, mask);
    let name: string;
    if (index === 0) name = this.#text(block, end);
    else if (index <= staticCount) name = staticNames[index] as string;
    else name = this.#names[this.#slotOf(index)] as string;
    const value = this.#text(block, end);
    const meaning = meaningOf(name, value);
    if (isKept) this.#insert(name, value, meaning);
    this.#add(name, value, meaning);
  }

  #add(name: string, value: string, meaning: number): void {
    const { maxBytes, maxFields } = this.#limits;
    this.bytes += name.length + value.length;
    if ((meaning & pseudoFields) !== 0) this.#pseudo(value, meaning);
    else if (this.bytes > maxBytes || this.pairs.length >= 2 * maxFields) this.isTooLarge = true;
    else this.pairs.push(name, value);
    this.seen |= meaning;
  }

  #pseudo(value: string, meaning: number): void {
    if (this.bytes > this.#limits.maxBytes) this.isTooLarge = true;
    if ((this.seen & meaning) !== 0 || this.pairs.length > 0) this.seen |= seen.malformed;
    switch (meaning & pseudoFields) {
      case seen.authority:
        this.authority = value;
        return;
      case seen.method:
        this.method = value;
        return;
      case seen.path:
        this.path = value;
        return;
      case seen.scheme:
        this.scheme = value;
        return;
      case seen.status:
        this.status = value;
        return;
      default:
        this.protocol = value;
    }
  }

  #slotOf(index: number): number {
    const age = index - staticCount;
    if (age > this.#entries) throw new HpackError(`index ${index} with ${this.#entries} entries in the table`);
    return (this.#inserted - age) & (slots - 1);
  }

  #insert(name: string, value: string, meaning: number): void {
    const size = name.length + value.length + entryOverhead;
    this.#evict(this.#capacity - size);
    if (size > this.#capacity) return; // an entry too large empties the table and is not kept
    const slot = this.#inserted++ & (slots - 1);
    this.#names[slot] = name;
    this.#values[slot] = value;
    this.#meanings[slot] = meaning;
    this.#entries++;
    this.#size += size;
  }

  #resize(capacity: number): void {
    if (capacity > tableBytes) throw new HpackError(`a table of ${capacity} octets`);
    this.#capacity = capacity;
    this.#evict(capacity);
  }

  #evict(untilSize: number): void {
    while (this.#size > untilSize && this.#entries > 0) {
      const slot = (this.#inserted - this.#entries) & (slots - 1);
      this.#size -= (this.#names[slot] as string).length + (this.#values[slot] as string).length + entryOverhead;
      this.#names[slot] = this.#values[slot] = "";
      this.#entries--;
    }
  }

  /** RFC 7541 §5.1, at most 2^28: nothing of ours is as large. */
  #integer(block: Buffer, end: number, mask: number): number {
    let value = (block[this.#at++] as number) & mask;
    if (value < mask) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      if (this.#at >= end) throw new HpackError("the section ends within a number");
      const octet = block[this.#at++] as number;
      value += (octet & 0x7f) << shift;
      if (octet < 0x80) return value;
    }
    throw new HpackError("a number out of range");
  }

  #text(block: Buffer, end: number): string {
    if (this.#at >= end) throw new HpackError("the section ends before a string");
    const isHuffman = (block[this.#at] as number) >= 0x80;
    const length = this.#integer(block, end, 0x7f);
    const start = this.#at;
    this.#at += length;
    if (this.#at > end) throw new HpackError("the section ends within a string");
    return isHuffman ? huffmanText(block, start, this.#at) : latin1Slice(block, start, this.#at);
  }
}

function huffmanText(block: Buffer, start: number, end: number): string {
  // The shortest code has five bits.
  const most = Math.ceil(((end - start) * 8) / 5);
  if (most > scratch.length) scratch = Buffer.allocUnsafeSlow(2 * most);
  const text = scratch;
  let length = 0;
  let state = 0;
  for (let at = start; at < end; at++) {
    const octet = block[at] as number;
    const high = huffmanSteps[16 * state + (octet >> 4)] as number;
    if ((high & huffman.hasOctet) !== 0) text[length++] = (high >> 8) & 0xff;
    const low = huffmanSteps[16 * (high & 0xff) + (octet & 0xf)] as number;
    if ((low & huffman.hasOctet) !== 0) text[length++] = (low >> 8) & 0xff;
    if (((high | low) & huffman.fails) !== 0) throw new HpackError("the end-of-string symbol within a string");
    state = low & 0xff;
  }
  if (huffmanAccepts[state] !== 1) throw new HpackError("padding of a string that is none");
  return latin1Slice(text, 0, length);
}
