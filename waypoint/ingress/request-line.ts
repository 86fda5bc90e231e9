/** Whether bytes begin like an HTTP/1 request; the codec, which reads them afterwards, is stricter. */

const space = 0x20;
const carriageReturn = 0x0d;
const lineFeed = 0x0a;
/** The longest method that is registered has 17 characters. */
const maxMethodBytes = 32;

/** The version of a complete request line, `more` where it is not complete yet, undefined where it is none. */
export function http1RequestLine(bytes: Buffer, maxBytes: number): "http/1.0" | "http/1.1" | "more" | undefined {
  let start = 0;
  // Empty lines in front are allowed (RFC 9112 §2.2).
  while (bytes[start] === carriageReturn || bytes[start] === lineFeed) start += 1;
  let at = start;
  while (isToken(bytes[at])) at += 1;
  if (at - start > maxMethodBytes) return undefined;
  if (at === bytes.length) return "more";
  if (at === start || bytes[at] !== space) return undefined;
  const end = bytes.indexOf(lineFeed, at);
  if (end < 0 || end - start > maxBytes) return bytes.length - start > maxBytes || end >= 0 ? undefined : "more";
  const line = bytes.toString("latin1", at + 1, bytes[end - 1] === carriageReturn ? end - 1 : end);
  const version = /^[^\s]+ HTTP\/1\.([01])$/.exec(line)?.[1];
  if (version === undefined) return undefined;
  return version === "0" ? "http/1.0" : "http/1.1";
}

/** Characters of methods (RFC 9110 §5.6.2). */
const tokens = new Uint8Array(256);
for (const character of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
  tokens[character.charCodeAt(0)] = 1;
}

const isToken = (byte: number | undefined): boolean => byte !== undefined && tokens[byte] === 1;
