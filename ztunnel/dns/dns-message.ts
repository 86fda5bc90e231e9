/**
 * DNS messages (RFC 1035, EDNS of RFC 6891) as far as a resolver in the middle needs them: questions are read, answers
 * with addresses are written, other people's answers are passed on as the bytes that they are. Pure. What comes from a
 * pod may be anything, so nothing here reads past the end of a message or follows a pointer.
 */
import { ipToBytes, isIpv6, type Ip } from "#shared/net/ip.ts";

export const recordTypes = { A: 1, CNAME: 5, AAAA: 28, OPT: 41 } as const;
const internetClass = 1;

export const responseCodes = {
  noError: 0,
  formatError: 1,
  serverFailure: 2,
  nameError: 3,
  notImplemented: 4,
  refused: 5,
  /** Of RFC 6891: the upper bits stand in the OPT record. */
  badVersion: 16,
} as const;
export type ResponseCode = (typeof responseCodes)[keyof typeof responseCodes];

/** Bits of the header's second word. */
const flags = {
  response: 0x8000,
  opcode: 0x7800,
  authoritative: 0x0400,
  truncated: 0x0200,
  recursionDesired: 0x0100,
  recursionAvailable: 0x0080,
  authenticData: 0x0020,
  responseCode: 0x000f,
} as const;

const headerBytes = 12;
/** What a UDP answer may have where the asker does not say more (RFC 1035 section 4.2.1). */
const plainUdpBytes = 512;
/** Of a whole name on the wire (RFC 1035 section 2.3.4). */
const maxNameBytes = 255;
const maxLabelBytes = 63;
/** A name that stands right behind the header, for answers about it: a pointer to octet 12. */
const pointerToQuestion = 0xc000 | headerBytes;
/** Root name, type, class, TTL, length of no options. */
const optBytes = 11;

interface Edns {
  /** Largest UDP answer that the asker takes. */
  readonly payloadBytes: number;
  readonly version: number;
  readonly dnssecOk: boolean;
}

export interface Query {
  readonly id: number;
  /**
   * In lower case, without the final dot; undefined for what no host is called: the root, and labels of other octets
   * than letters, digits, `-`, `_` and `*`.
   */
  readonly name: string | undefined;
  readonly type: number;
  readonly isInternet: boolean;
  readonly recursionDesired: boolean;
  readonly edns?: Edns;
  /** Name, type and class as they were spelled. */
  readonly question: Buffer;
  readonly bytes: Buffer;
}

export type ReadQuery =
  | { readonly kind: "query"; readonly query: Query }
  /** Not to be understood, but its sender can be told. */
  | { readonly kind: "refused"; readonly answer: Buffer }
  /** Not even a header. */
  | { readonly kind: "unanswerable" };

export function readQuery(bytes: Buffer): ReadQuery {
  if (bytes.length < headerBytes) return { kind: "unanswerable" };
  const bits = bytes.readUInt16BE(2);
  const refuse = (code: ResponseCode): ReadQuery => ({ kind: "refused", answer: bareAnswer(bytes, code) });
  if ((bits & flags.response) !== 0) return refuse(responseCodes.formatError);
  if ((bits & flags.opcode) !== 0) return refuse(responseCodes.notImplemented);
  if (bytes.readUInt16BE(4) !== 1) return refuse(responseCodes.formatError);
  const nameEnd = endOfPlainName(bytes, headerBytes);
  if (nameEnd === undefined || nameEnd + 4 > bytes.length) return refuse(responseCodes.formatError);
  const records = bytes.readUInt16BE(6) + bytes.readUInt16BE(8) + bytes.readUInt16BE(10);
  const edns = readEdns(bytes, nameEnd + 4, records);
  if (edns === "malformed") return refuse(responseCodes.formatError);
  const query: Query = {
    id: bytes.readUInt16BE(0),
    name: hostNameIn(bytes, headerBytes, nameEnd),
    type: bytes.readUInt16BE(nameEnd),
    isInternet: bytes.readUInt16BE(nameEnd + 2) === internetClass,
    recursionDesired: (bits & flags.recursionDesired) !== 0,
    ...(edns !== undefined && { edns }),
    question: bytes.subarray(headerBytes, nameEnd + 4),
    bytes,
  };
  if (edns === undefined || edns.version === 0) return { kind: "query", query };
  return { kind: "refused", answer: failureAnswer(query, responseCodes.badVersion) };
}

/** Where a name without pointers ends, which is how questions are written; undefined where it is none. */
function endOfPlainName(bytes: Buffer, start: number): number | undefined {
  let at = start;
  for (;;) {
    const length = bytes[at];
    if (length === undefined || length > maxLabelBytes) return undefined;
    at += length + 1;
    if (at - start > maxNameBytes) return undefined;
    if (length === 0) return at;
  }
}

/** Where any name ends: a pointer is its last part, and is not followed. */
function endOfName(bytes: Buffer, start: number): number | undefined {
  let at = start;
  for (;;) {
    const length = bytes[at];
    if (length === undefined) return undefined;
    if (length >= 0xc0) return at + 2;
    if (length > maxLabelBytes) return undefined;
    at += length + 1;
    if (length === 0) return at;
  }
}

/** The OPT record among a query's records, of which there may be one. */
function readEdns(bytes: Buffer, start: number, records: number): Edns | undefined | "malformed" {
  let edns: Edns | undefined;
  let at = start;
  for (let left = records; left > 0; left--) {
    const nameEnd = endOfName(bytes, at);
    if (nameEnd === undefined || nameEnd + 10 > bytes.length) return "malformed";
    const end = nameEnd + 10 + bytes.readUInt16BE(nameEnd + 8);
    if (end > bytes.length) return "malformed";
    if (bytes.readUInt16BE(nameEnd) === recordTypes.OPT) {
      if (edns !== undefined || bytes[at] !== 0) return "malformed";
      edns = {
        payloadBytes: bytes.readUInt16BE(nameEnd + 2),
        version: bytes.readUInt8(nameEnd + 5),
        dnssecOk: (bytes.readUInt16BE(nameEnd + 6) & 0x8000) !== 0,
      };
    }
    at = end;
  }
  return edns;
}

/** What host names are made of. A dot within a label would read like one between labels. */
const hostLabel = /^[A-Za-z0-9_*-]+$/;

function hostNameIn(bytes: Buffer, start: number, end: number): string | undefined {
  const labels: string[] = [];
  for (let at = start; at < end - 1;) {
    const next = at + 1 + (bytes[at] ?? 0);
    const label = bytes.toString("latin1", at + 1, next);
    if (!hostLabel.test(label)) return undefined;
    labels.push(label);
    at = next;
  }
  return labels.length === 0 ? undefined : labels.join(".").toLowerCase();
}

/** Header alone: for what could not be read any further. */
function bareAnswer(query: Buffer, code: ResponseCode): Buffer {
  const answer = Buffer.alloc(headerBytes);
  query.copy(answer, 0, 0, 2);
  const kept = query.readUInt16BE(2) & (flags.opcode | flags.recursionDesired);
  answer.writeUInt16BE(flags.response | kept | flags.recursionAvailable | code, 2);
  return answer;
}

/** What a name means: addresses of one family, said of the name itself or of another that it stands for. */
export interface AddressAnswer {
  readonly ips: readonly Ip[];
  /** In lower case; then the answer begins with a CNAME record. */
  readonly alias?: string;
  readonly ttlSeconds: number;
}

/**
 * An authoritative answer. What does not fit into `maxBytes` is left out, and the answer says so.
 *
 * @param maxBytes see {@link udpLimit}; TCP takes everything
 */
export function addressAnswer(query: Query, { ips, alias, ttlSeconds }: AddressAnswer, maxBytes: number): Buffer {
  const room = maxBytes - (query.edns === undefined ? 0 : optBytes);
  const bytes = Buffer.allocUnsafe(headerBytes + query.question.length + 300 + ips.length * 28 + optBytes);
  query.question.copy(bytes, headerBytes);
  let at = headerBytes + query.question.length;
  let owner = pointerToQuestion;
  let records = 0;
  if (alias !== undefined) {
    const data = at + 12;
    const end = writeName(bytes, data, alias);
    writeRecordHead(bytes, at, { owner, type: recordTypes.CNAME, ttlSeconds, length: end - data });
    owner = 0xc000 | data;
    at = end;
    records++;
  }
  let isWhole = at <= room;
  if (!isWhole) {
    at = headerBytes + query.question.length;
    records = 0;
  }
  for (const ip of isWhole ? ips : []) {
    const data = ipToBytes(ip);
    if (at + 12 + data.length > room) {
      isWhole = false;
      break;
    }
    const type = isIpv6(ip) ? recordTypes.AAAA : recordTypes.A;
    writeRecordHead(bytes, at, { owner, type, ttlSeconds, length: data.length });
    bytes.set(data, at + 12);
    at += 12 + data.length;
    records++;
  }
  writeHeader(bytes, query, { authoritative: true, isWhole, code: responseCodes.noError, records });
  return bytes.subarray(0, writeEdns(bytes, at, query, responseCodes.noError));
}

/** The answer that there is none, with the reason; not authoritative. */
export function failureAnswer(query: Query, code: ResponseCode): Buffer {
  const bytes = Buffer.allocUnsafe(headerBytes + query.question.length + optBytes);
  query.question.copy(bytes, headerBytes);
  writeHeader(bytes, query, { authoritative: false, isWhole: true, code, records: 0 });
  return bytes.subarray(0, writeEdns(bytes, headerBytes + query.question.length, query, code));
}

/** How large an answer over UDP may be. */
export const udpLimit = ({ edns }: Query): number => Math.max(edns?.payloadBytes ?? 0, plainUdpBytes);

/** Pointers reach the first 16 KiB; a question ends long before. */
function writeRecordHead(
  bytes: Buffer,
  at: number,
  { owner, type, ttlSeconds, length }: { owner: number; type: number; ttlSeconds: number; length: number },
): void {
  bytes.writeUInt16BE(owner, at);
  bytes.writeUInt16BE(type, at + 2);
  bytes.writeUInt16BE(internetClass, at + 4);
  bytes.writeUInt32BE(ttlSeconds, at + 6);
  bytes.writeUInt16BE(length, at + 10);
}

/** Of a name that came in a question, so it fits. Returns where it ends. */
function writeName(bytes: Buffer, start: number, name: string): number {
  let at = start;
  for (const label of name.split(".")) {
    bytes[at] = label.length;
    at += 1 + bytes.write(label, at + 1, "latin1");
  }
  bytes[at] = 0;
  return at + 1;
}

function writeHeader(
  bytes: Buffer,
  query: Query,
  about: { authoritative: boolean; isWhole: boolean; code: ResponseCode; records: number },
): void {
  bytes.writeUInt16BE(query.id, 0);
  bytes.writeUInt16BE(
    flags.response |
      flags.recursionAvailable |
      (query.recursionDesired ? flags.recursionDesired : 0) |
      (about.authoritative ? flags.authoritative : 0) |
      (about.isWhole ? 0 : flags.truncated) |
      (about.code & flags.responseCode),
    2,
  );
  bytes.writeUInt16BE(1, 4);
  bytes.writeUInt16BE(about.records, 6);
  bytes.writeUInt16BE(0, 8);
  bytes.writeUInt16BE(query.edns === undefined ? 0 : 1, 10);
}

/** Who speaks EDNS is answered in it. Returns where the message ends. */
function writeEdns(bytes: Buffer, at: number, query: Query, code: ResponseCode): number {
  if (query.edns === undefined) return at;
  bytes[at] = 0;
  bytes.writeUInt16BE(recordTypes.OPT, at + 1);
  bytes.writeUInt16BE(udpLimit(query), at + 3);
  bytes[at + 5] = code >> 4;
  bytes[at + 6] = 0; // the version that we know
  bytes.writeUInt16BE(query.edns.dnssecOk ? 0x8000 : 0, at + 7);
  bytes.writeUInt16BE(0, at + 9);
  return at + optBytes;
}

/** The query as it goes to a resolver, under an id of our own. */
export function withId(query: Buffer, id: number): Buffer {
  const bytes = Buffer.from(query);
  bytes.writeUInt16BE(id, 0);
  return bytes;
}

/** The response code if `response` answers `query` sent under `id`; undefined if it is something else. */
export function codeOfResponse(response: Buffer, { question }: Query, id: number): number | undefined {
  if (response.length < headerBytes || response.readUInt16BE(0) !== id) return undefined;
  const bits = response.readUInt16BE(2);
  if ((bits & flags.response) === 0 || (bits & flags.opcode) !== 0) return undefined;
  const code = bits & flags.responseCode;
  const questions = response.readUInt16BE(4);
  // Who cannot read a question does not repeat it.
  if (questions === 0) return code === responseCodes.noError ? undefined : code;
  if (questions !== 1) return undefined;
  const repeated = response.subarray(headerBytes, headerBytes + question.length);
  return sameQuestion(repeated, question) ? code : undefined;
}

/** Some resolvers change the case of letters. Lengths of labels are below the codes of letters, so they stay apart. */
function sameQuestion(a: Buffer, b: Buffer): boolean {
  if (a.equals(b)) return true;
  const nameBytes = b.length - 4;
  return (
    a.length === b.length &&
    a.subarray(nameBytes).equals(b.subarray(nameBytes)) &&
    a.toString("latin1", 0, nameBytes).toLowerCase() === b.toString("latin1", 0, nameBytes).toLowerCase()
  );
}

/**
 * A resolver's answer as the asker gets it: under its id, not authoritative, and without the claim that somebody
 * checked it, which nobody on this way did. Too large for `maxBytes`: the question alone, marked as cut off.
 */
export function relayedAnswer(response: Buffer, query: Query, maxBytes: number): Buffer {
  const isWhole = response.length <= maxBytes;
  const bytes = isWhole ? Buffer.from(response) : Buffer.concat([response.subarray(0, headerBytes), query.question]);
  const cleared = flags.authoritative | flags.authenticData;
  const bits = (bytes.readUInt16BE(2) & ~cleared) | flags.recursionAvailable | (isWhole ? 0 : flags.truncated);
  bytes.writeUInt16BE(query.id, 0);
  bytes.writeUInt16BE(bits, 2);
  if (!isWhole) {
    bytes.writeUInt16BE(1, 4);
    bytes.fill(0, 6, headerBytes);
  }
  return bytes;
}
