/** From decoded field sections to the heads of messages (RFC 9113 §8). No I/O. */
import { randomBytes } from "node:crypto";
import { Headers } from "./headers.ts";
import type { HpackDecoder } from "./http2-hpack-decoder.ts";
import { pseudoFields, seen } from "./http2-hpack-tables.ts";
import type { RequestHead, ResponseHead } from "./streams.ts";

export interface ReadRequest {
  readonly head: RequestHead;
  /** Content-Length; -1: none. */
  readonly expectedBytes: number;
  readonly expectsContinue: boolean;
}

/** What is wrong, in a few words. */
type Malformed = string;

const forbiddenInRequests = seen.malformed | seen.connection | seen.status;
const forbiddenInResponses = seen.malformed | seen.connection | (pseudoFields & ~seen.status);
const requiredInRequests = seen.method | seen.scheme | seen.path;
/** Fields that need a closer look. */
const special = seen.te | seen.host | seen.contentLength | seen.cookie | seen.expect;

/** @param endsStream whether the message has neither body nor trailers */
export function readRequest(section: HpackDecoder, endsStream: boolean): ReadRequest | Malformed {
  const { seen: which, method } = section;
  if ((which & forbiddenInRequests) !== 0) return "a field that requests must not have";
  if ((which & seen.method) === 0) return "no :method";
  const isConnect = method === "CONNECT";
  const isExtended = (which & seen.protocol) !== 0;
  if (isConnect && !isExtended) {
    if ((which & (seen.scheme | seen.path)) !== 0 || section.authority === "")
      return "CONNECT is not what it should be";
  } else {
    if ((which & requiredInRequests) !== requiredInRequests) return "a pseudo-field is missing";
    if (isExtended && (!isConnect || section.authority === "" || section.protocol === ""))
      return ":protocol is for CONNECT";
    if (!isScheme(section.scheme)) return ":scheme is not one";
    if (!isTarget(section.path, method)) return ":path is not one";
  }
  if (!isToken(method)) return ":method is no token";
  if (!isAuthority(section.authority)) return ":authority is not one";
  let { authority } = section;
  const { pairs } = section;
  let expectedBytes = -1;
  let expectsContinue = false;
  if ((which & special) !== 0) {
    if ((which & seen.te) !== 0 && !every(pairs, "te", "trailers")) return "te is not trailers";
    if ((which & seen.host) !== 0) {
      const hosts = valuesOf(pairs, "host");
      const [host] = hosts as [string];
      if (hosts.length > 1 || !isAuthority(host)) return "host is not one";
      if ((which & seen.authority) === 0) authority = host;
      else if (authority.toLowerCase() !== host.toLowerCase()) return "host and :authority differ";
      remove(pairs, "host");
    }
    if ((which & seen.contentLength) !== 0) {
      const lengths = valuesOf(pairs, "content-length");
      if (lengths.length > 1 || !/^\d{1,15}$/.test(lengths[0] as string)) return "content-length is no length";
      expectedBytes = Number(lengths[0]);
      if (endsStream && expectedBytes > 0) return "content-length without a body";
    }
    if ((which & seen.cookie) !== 0) joinCookies(pairs);
    if ((which & seen.expect) !== 0 && every(pairs, "expect", "100-continue")) {
      expectsContinue = !endsStream;
      remove(pairs, "expect");
    }
  }
  if (authority === "") return "no authority";
  if (isExtended) return { head: upgradeOf(section, new Headers(pairs)), expectedBytes: -1, expectsContinue: false };
  const head: RequestHead = {
    method,
    scheme: isConnect ? "http" : section.scheme,
    authority,
    path: isConnect ? "" : escaped(section.path),
    headers: new Headers(pairs),
  };
  return { head, expectedBytes, expectsContinue };
}

/** As HTTP/1.1 asks for the same (RFC 8441 §5): a GET that wants to switch protocols. */
function upgradeOf(section: HpackDecoder, headers: Headers): RequestHead {
  const upgrade = section.protocol.toLowerCase();
  // HTTP/2 has no use for the key; a server that speaks HTTP/1.1 insists on one.
  if (upgrade === "websocket" && !headers.has("sec-websocket-key")) {
    headers.append("sec-websocket-key", randomBytes(16).toString("base64"));
  }
  return {
    method: "GET",
    scheme: section.scheme,
    authority: section.authority,
    path: escaped(section.path),
    headers,
    upgrade,
  };
}

export interface ReadResponse {
  readonly head: ResponseHead;
  readonly expectedBytes: number;
}

/** @param method of the request: HEAD has no body, whatever content-length says */
export function readResponse(section: HpackDecoder, method: string, endsStream: boolean): ReadResponse | Malformed {
  const { seen: which, pairs } = section;
  if ((which & forbiddenInResponses) !== 0) return "a field that answers must not have";
  if (!/^[1-5]\d\d$/.test(section.status) || section.status === "101") return ":status is not one";
  const status = Number(section.status);
  if (status < 200 && endsStream) return "an interim answer that ends the stream";
  let expectedBytes = -1;
  if ((which & seen.contentLength) !== 0) {
    const lengths = valuesOf(pairs, "content-length");
    if (lengths.length > 1 || !/^\d{1,15}$/.test(lengths[0] as string)) return "content-length is no length";
    const hasBody = method !== "HEAD" && status >= 200 && status !== 204 && status !== 304;
    if (hasBody) expectedBytes = Number(lengths[0]);
    if (hasBody && endsStream && expectedBytes > 0) return "content-length without a body";
  }
  return { head: { status, headers: new Headers(pairs) }, expectedBytes };
}

/** Undefined where they are malformed. */
export function readTrailers(section: HpackDecoder): Headers | undefined {
  if ((section.seen & (seen.malformed | seen.connection | pseudoFields)) !== 0 || section.isTooLarge) return undefined;
  // They frame or route a message, which they come too late for (RFC 9110 §6.5.1).
  if ((section.seen & (seen.host | seen.contentLength | seen.te)) !== 0) return undefined;
  return new Headers(section.pairs);
}

const isToken = (text: string): boolean =>
  text === "GET" || text === "POST" || /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(text);
const isScheme = (text: string): boolean => text === "http" || text === "https" || /^[a-z][a-z0-9+\-.]*$/i.test(text);
/** What a host and port may consist of: no user, no path, no blanks (RFC 3986 §3.2). */
const isAuthority = (text: string): boolean => /^[\w.\-~!$&'()*+,;=:%[\]]*$/.test(text);

/** Origin form, or `*` for OPTIONS; visible characters without a fragment. */
function isTarget(path: string, method: string): boolean {
  if (path === "*") return method === "OPTIONS";
  return path.startsWith("/") && /^[^\s#\x7f]*$/.test(path);
}

/** HTTP/1 and URIs have nothing beyond ASCII (RFC 3986 §2.1). */
const escaped = (path: string): string =>
  /[\x80-\xff]/.test(path)
    ? path.replace(/[\x80-\xff]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase()}`)
    : path;

function every(pairs: readonly string[], name: string, value: string): boolean {
  for (let i = 0; i < pairs.length; i += 2) {
    if (pairs[i] === name && (pairs[i + 1] as string).toLowerCase() !== value) return false;
  }
  return true;
}

function valuesOf(pairs: readonly string[], name: string): readonly string[] {
  const values: string[] = [];
  for (let i = 0; i < pairs.length; i += 2) if (pairs[i] === name) values.push(pairs[i + 1] as string);
  return values;
}

function remove(pairs: string[], name: string): void {
  let kept = 0;
  for (let i = 0; i < pairs.length; i += 2) {
    if (pairs[i] === name) continue;
    pairs[kept++] = pairs[i] as string;
    pairs[kept++] = pairs[i + 1] as string;
  }
  pairs.length = kept;
}

/** One line again, as it was before it was cut for compression (RFC 9113 §8.2.3). */
function joinCookies(pairs: string[]): void {
  const crumbs = valuesOf(pairs, "cookie");
  if (crumbs.length < 2) return;
  remove(pairs, "cookie");
  pairs.push("cookie", crumbs.join("; "));
}
