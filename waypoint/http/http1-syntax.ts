/** Which bytes may stand where in an HTTP/1.1 message (RFC 9110 §5, RFC 9112), and the names that most messages use. */

/** Why a message is refused. `details` are Envoy's RESPONSE_CODE_DETAILS where it has one for the case. */
export interface Http1Failure {
  /** For a request; what an upstream sends becomes 502 whatever it was. */
  readonly status: number;
  readonly details: string;
  /** In a sentence, for logs. */
  readonly message: string;
}

const failure = (status: number, details: string, message: string): Http1Failure => ({ status, details, message });

export const failures = {
  firstLine: failure(400, "http1.codec_error", "the first line of a message is malformed"),
  target: failure(400, "http1.invalid_url", "the request target is malformed"),
  targetTooLong: failure(414, "http1.url_too_long", "the request target is too long"),
  version: failure(400, "http1.invalid_version", "the version is neither HTTP/1.1 nor HTTP/1.0"),
  lowVersion: failure(426, "low_version", "HTTP/1.0 is not enabled here"),
  name: failure(400, "http1.invalid_header_name", "a field name is not a token followed by a colon"),
  value: failure(
    400,
    "http1.invalid_characters",
    "a field value has a control byte in it, or a line does not end with CRLF",
  ),
  headTooLarge: failure(431, "http1.headers_too_large", "the head is too large"),
  tooManyHeaders: failure(431, "http1.too_many_headers", "the message has too many fields"),
  trailersTooLarge: failure(431, "http1.trailers_too_large", "the trailers are too large"),
  hostCount: failure(400, "http1.multiple_host_headers", "the request has more than one Host"),
  hostMissing: failure(400, "missing_host_header", "the request has no Host"),
  hostInvalid: failure(400, "http1.invalid_host", "Host is not a host with an optional port"),
  contentLength: failure(400, "http1.invalid_content_length", "Content-Length is not a number"),
  contentLengthCount: failure(400, "http1.multiple_content_length", "the message has more than one Content-Length"),
  bothLengths: failure(
    400,
    "http1.content_length_and_chunked_not_allowed",
    "the message has both Content-Length and Transfer-Encoding",
  ),
  transferEncoding: failure(400, "http1.invalid_transfer_encoding", "Transfer-Encoding is not exactly chunked"),
  transferEncodingUnknown: failure(501, "http1.invalid_transfer_encoding", "Transfer-Encoding names an unknown coding"),
  transferEncodingNotAllowed: failure(
    400,
    "http1.transfer_encoding_not_allowed",
    "Transfer-Encoding is not allowed on this message",
  ),
  bodyNotAllowed: failure(400, "http1.body_disallowed", "a body is not allowed on this message"),
  connection: failure(400, "http1.connection_header_rejected", "Connection nominates a field that has to stay"),
  connect: failure(403, "upgrade_failed", "CONNECT is not enabled here"),
  chunk: failure(400, "http1.invalid_chunk", "a chunk is malformed"),
  chunkExtension: failure(400, "http1.chunk_extension_too_large", "chunk extensions are too large"),
  trailer: failure(400, "http1.invalid_trailer", "a trailer must not have this name"),
  headTimeout: failure(408, "request_header_timeout", "the head did not arrive in time"),
  status: failure(502, "http1.invalid_status", "the status is not one of HTTP/1.1"),
  unexpected: failure(502, "http1.unexpected_bytes", "the upstream sent bytes that belong to no exchange"),
} as const satisfies Record<string, Http1Failure>;

function table(isIn: (byte: number) => boolean, value: (byte: number) => number = () => 1): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => (isIn(byte) ? value(byte) : 0));
}

const symbols = new Set(Buffer.from("!#$%&'*+-.^_`|~"));
const isDigit = (byte: number) => byte >= 0x30 && byte <= 0x39;
const isUpper = (byte: number) => byte >= 0x41 && byte <= 0x5a;
const isLower = (byte: number) => byte >= 0x61 && byte <= 0x7a;

/** Bytes of a token, mapped to their lower case; 0 for what is none. */
export const tokenByte = table(
  (byte) => symbols.has(byte) || isDigit(byte) || isUpper(byte) || isLower(byte),
  (byte) => (isUpper(byte) ? byte + 0x20 : byte),
);

/** Bytes of a field value, spaces and tabs included; everything but control bytes. */
export const valueByte = table((byte) => byte === 0x09 || (byte >= 0x20 && byte !== 0x7f));

/** Visible ASCII but `#`: a fragment is not for servers. */
export const targetByte = table((byte) => byte > 0x20 && byte < 0x7f && byte !== 0x23);

/** `0`-`9`, `a`-`f`, `A`-`F`, as their value plus one; 0 for what is none. */
export const hexByte = table(
  (byte) => isDigit(byte) || (byte >= 0x41 && byte <= 0x46) || (byte >= 0x61 && byte <= 0x66),
  (byte) => (isDigit(byte) ? byte - 0x2f : (byte | 0x20) - 0x56),
);

/** host [":" port]: a name, an IPv4 address, or an IPv6 address in brackets. User information has no place here. */
const authorityForm = /^(?:[A-Za-z0-9\-._~!$&'()*+;=%]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9\-._~]+)?\])(?::\d{0,5})?$/;

let lastAuthority = "";

export function isAuthority(text: string): boolean {
  if (text === lastAuthority && text !== "") return true;
  if (text.length > 1_024 || !authorityForm.test(text)) return false;
  const port = text.lastIndexOf(":");
  if (port > text.lastIndexOf("]") && Number(text.slice(port + 1)) > 65_535) return false;
  lastAuthority = text;
  return true;
}

/** What the codec itself has to do with a field; everything else it only passes on. */
export type Role = (typeof role)[keyof typeof role];
export const role = {
  none: 0,
  host: 1,
  connection: 2,
  contentLength: 3,
  transferEncoding: 4,
  upgrade: 5,
  expect: 6,
  te: 7,
  /** Belongs to this connection, and means nothing to us. */
  hop: 8,
} as const;

const roles: Readonly<Record<string, Role>> = {
  host: role.host,
  connection: role.connection,
  "content-length": role.contentLength,
  "transfer-encoding": role.transferEncoding,
  upgrade: role.upgrade,
  expect: role.expect,
  te: role.te,
  "keep-alive": role.hop,
  "proxy-connection": role.hop,
};

export interface KnownName {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly role: Role;
}

/** Power of two. */
const slots = 1_024;
export const hashMask = slots - 1;
/** Known names by the hash that the parser makes on its way: finding one saves making a string of it. */
export const knownNames: (KnownName | undefined)[] = Array.from({ length: slots }, () => undefined);

export function hashOf(name: string): number {
  let hash = 0;
  for (let i = 0; i < name.length; i++) hash = (hash * 31 + name.charCodeAt(i)) & 0xff_ff;
  return hash & hashMask;
}

/** A name seen for the first time takes its slot if that is free. The table is bounded: whoever comes later does without. */
export function learn(name: string): KnownName {
  const known = { name, bytes: Buffer.from(name, "latin1"), role: roles[name] ?? role.none };
  const hash = hashOf(name);
  if (knownNames[hash] === undefined && name.length <= 64) knownNames[hash] = known;
  return known;
}

// Roles go first: they must never lose their slot.
for (const name of Object.keys(roles)) {
  if (knownNames[hashOf(name)] !== undefined) throw new TypeError(`The slot of ${name} is taken: change the hash`);
  learn(name);
}
for (const name of (
  "accept accept-encoding accept-language authorization cache-control content-encoding content-type cookie date etag " +
  "last-modified location origin referer server set-cookie trailer traceparent tracestate b3 user-agent vary via " +
  "x-b3-traceid x-b3-spanid x-b3-parentspanid x-b3-sampled x-envoy-attempt-count x-envoy-upstream-service-time " +
  "x-forwarded-client-cert x-forwarded-for x-forwarded-proto x-forwarded-host x-request-id grpc-status grpc-message " +
  "grpc-timeout accept-ranges age if-modified-since if-none-match range content-range content-length"
).split(" "))
  if (knownNames[hashOf(name)] === undefined) learn(name);
