/** What a client speaks, told from its first bytes. Pure; nothing is consumed. */
import { http1RequestLine } from "./request-line.ts";
import { readClientHello } from "./client-hello.ts";

export type Inspection =
  /** Not to be told yet. */
  | { readonly kind: "more" }
  | { readonly kind: "http"; readonly protocol: "http/1.0" | "http/1.1" | "h2c" }
  | { readonly kind: "tls"; readonly serverName: string; readonly alpn: readonly string[] }
  | { readonly kind: "other" };

export interface Inspectors {
  readonly http: boolean;
  readonly tls: boolean;
}

/** What an HTTP/2 client says first (RFC 9113 §3.4). */
export const http2Preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** Envoy's bounds: a ClientHello of 16 KiB (larger since post-quantum key shares), a request line of 8 KiB. */
export const maxInspectedBytes = 65_536;
const maxRequestLineBytes = 8_192;

const more: Inspection = { kind: "more" };
const other: Inspection = { kind: "other" };
const handshakeRecord = 0x16;

/** @param isEnd whether the client has said that it will send no more */
export function inspect(bytes: Buffer, { http, tls }: Inspectors, isEnd = false): Inspection {
  if (bytes.length === 0) return isEnd ? other : more;
  const found = tls && bytes[0] === handshakeRecord ? inspectTls(bytes) : http ? inspectHttp(bytes) : other;
  return found.kind === "more" && isEnd ? other : found;
}

function inspectTls(bytes: Buffer): Inspection {
  const hello = readClientHello(bytes);
  if (hello === "more") return bytes.length >= maxInspectedBytes ? other : more;
  return hello === undefined ? other : { kind: "tls", ...hello };
}

function inspectHttp(bytes: Buffer): Inspection {
  switch (startsWithPreface(bytes)) {
    case "yes":
      return { kind: "http", protocol: "h2c" };
    case "perhaps":
      return more;
    case "no": {
      const version = http1RequestLine(bytes, maxRequestLineBytes);
      if (version === "more") return more;
      return version === undefined ? other : { kind: "http", protocol: version };
    }
  }
}

/** `perhaps` where all there is so far is a part of it. */
export function startsWithPreface(bytes: Buffer): "yes" | "no" | "perhaps" {
  const length = Math.min(bytes.length, http2Preface.length);
  if (bytes.compare(http2Preface, 0, length, 0, length) !== 0) return "no";
  return length === http2Preface.length ? "yes" : "perhaps";
}
