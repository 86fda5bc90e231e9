/** Writes heads, chunks and trailers as bytes. What it writes it has looked at: no value can begin a line of its own. */
import { STATUS_CODES } from "node:http";
import type { Headers } from "./headers.ts";
import { latin1Write, toBytes } from "./latin1.ts";

export type HeaderCase = "lower" | "preserve" | "proper";

const cr = 0x0d;
const lf = 0x0a;
const tab = 0x09;

/** A string of one-byte characters lets this fail without a look at it. */
const wide = /[^\0-\xff]/;
/** Characters that need UTF-8; strings that came in as bytes have none above U+00FF. */
const wideAll = /[^\0-\xff]/gu;

export const statusLines: readonly string[] = Array.from({ length: 1_000 }, (_, status) => {
  return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n`;
});

export const statusLine10 = (status: number): string => `HTTP/1.0 ${(statusLines[status] ?? "").slice(9)}`;

/** Bytes of a head, and what follows it at once; undefined where the head is not exactly so many clean lines. */
export function encodeHead(text: string, lines: number, body?: Buffer, tail?: Buffer): Buffer | undefined {
  const head = wide.test(text) ? text.replace(wideAll, toBytes) : text;
  const { length } = head;
  const bodyEnd = body === undefined ? length : length + body.length;
  const bytes = Buffer.allocUnsafe(tail === undefined ? bodyEnd : bodyEnd + tail.length);
  latin1Write(bytes, head, 0);
  let found = 0;
  for (let i = 0; i < length; i++) {
    const byte = bytes[i] as number;
    if (byte >= 0x20 && byte !== 0x7f) continue;
    if (byte === cr && bytes[i + 1] === lf) {
      found++;
      i++;
    } else if (byte !== tab) return undefined;
  }
  if (found !== lines) return undefined;
  if (body !== undefined) bytes.set(body, length);
  if (tail !== undefined) bytes.set(tail, bodyEnd);
  return bytes;
}

const lengthForm = /^\d{1,15}$/;

/** What {@link fieldLines} found besides. */
export interface WrittenFields {
  lines: number;
  contentLength: string | undefined;
}

/** Reused: read it before the next call. */
export const written: WrittenFields = { lines: 0, contentLength: undefined };

/** Lines for `headers`, without what is the codec's own business; `content-length` among that is in {@link written}. */
export function fieldLines(headers: Headers, headerCase: HeaderCase): string {
  const { pairs } = headers;
  let text = "";
  let lines = 0;
  let contentLength: string | undefined;
  for (let i = 0; i < pairs.length; i += 2) {
    const name = pairs[i] as string;
    const value = pairs[i + 1] as string;
    switch (name.length) {
      case 4:
        if (name === "host") continue;
        break;
      case 7:
        if (name === "upgrade") continue;
        break;
      case 10:
        if (name === "connection" || name === "keep-alive") continue;
        break;
      case 14:
        if (name === "content-length") {
          contentLength = value;
          continue;
        }
        break;
      case 16:
        if (name === "proxy-connection") continue;
        break;
      case 17:
        if (name === "transfer-encoding") continue;
        break;
      default:
    }
    text += (headerCase === "lower" ? name : spelled(name, headers, headerCase)) + ": " + value + "\r\n";
    lines++;
  }
  written.lines = lines;
  // Whatever a layer made of it: what cannot be a length is none.
  written.contentLength = contentLength !== undefined && lengthForm.test(contentLength) ? contentLength : undefined;
  return text;
}

export function spelled(name: string, headers: Headers, headerCase: HeaderCase): string {
  if (headerCase === "proper") return name.replace(/(?:^|-)[a-z]/g, (start) => start.toUpperCase());
  return headers.spelling?.get(name) ?? name;
}

export const nameForm = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

export const crlf = Buffer.from("\r\n");
export const lastChunk = Buffer.from("0\r\n\r\n");
/** Behind a chunk that is the only one. */
export const crlfLastChunk = Buffer.from("\r\n0\r\n\r\n");

/** The last chunk with trailers; undefined where one cannot be written. */
export function frameTrailers(trailers: Headers, headerCase: HeaderCase): Buffer | undefined {
  const text = fieldLines(trailers, headerCase);
  const { lines } = written;
  return encodeHead(`0\r\n${text}\r\n`, lines + 2);
}
