/** Answers that the waypoint gives by itself, in the form that the client understands. */
import type { Exchange, LocalReply } from "./exchange.ts";
import { Headers } from "./headers.ts";
import type { ResponseHead } from "./streams.ts";

export interface RenderedReply {
  readonly head: ResponseHead;
  /** Undefined where there is none, or none may be sent. */
  readonly body: Buffer | undefined;
}

/**
 * Head and body of an answer; records its details, and its flag, in the exchange. A gRPC call gets status 200 and its
 * outcome as `grpc-status`, without a body.
 *
 * @param edit what is to be done with the head; a body then has a type in any case, and what is empty has none
 */
export function renderLocalReply(
  exchange: Exchange,
  reply: LocalReply,
  edit: (head: ResponseHead) => void = noEdit,
): RenderedReply {
  exchange.responseCodeDetails = reply.details;
  if (reply.flag !== undefined) exchange.flags.add(reply.flag);
  return exchange.isGrpc ? renderGrpc(reply, edit) : renderHttp(reply, edit, exchange.request.method);
}

const noEdit = () => {};

function renderHttp(reply: LocalReply, edit: (head: ResponseHead) => void, method: string): RenderedReply {
  const headers = new Headers();
  const head = { status: reply.status, headers };
  const body = bytesOf(reply);
  if (body !== undefined) headers.append("content-length", String(body.length));
  addAll(headers, reply.headers);
  edit(head);
  if (body === undefined) headers.delete("content-type");
  else if (!headers.has("content-type")) headers.append("content-type", "text/plain");
  // To HEAD the length is told, the bytes are not (RFC 9110 §9.3.2).
  return { head, body: method === "HEAD" ? undefined : body };
}

function renderGrpc(reply: LocalReply, edit: (head: ResponseHead) => void): RenderedReply {
  const headers = new Headers([
    "content-type",
    "application/grpc",
    "grpc-status",
    String(reply.grpcStatus ?? grpcStatusOf(reply.status)),
  ]);
  const message = bytesOf(reply);
  if (message !== undefined) headers.append("grpc-message", encodeGrpcMessage(message));
  addAll(headers, reply.headers, "content-type");
  const head = { status: 200, headers };
  edit(head);
  return { head, body: undefined };
}

const bytesOf = ({ body = "" }: LocalReply): Buffer | undefined =>
  body.length === 0 ? undefined : typeof body === "string" ? Buffer.from(body, "utf8") : body;

function addAll(headers: Headers, added: Headers | undefined, but?: string): void {
  if (added === undefined) return;
  for (const [name, value] of added) if (name !== "content-length" && name !== but) headers.append(name, value);
}

/** gRPC's mapping from the status of HTTP (doc/http-grpc-status-mapping.md). */
export function grpcStatusOf(httpStatus: number): number {
  switch (httpStatus) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    default:
      return 2;
  }
}

/** Printable ASCII but `%` stays; every other byte, those of UTF-8 too, is escaped (gRPC over HTTP/2, "Percent-Encoded"). */
export function encodeGrpcMessage(message: Buffer | string): string {
  const text = typeof message === "string" ? message : message.toString("latin1");
  if (/^[\x20-\x24\x26-\x7e]*$/.test(text)) return text;
  let encoded = "";
  for (const byte of typeof message === "string" ? Buffer.from(message, "utf8") : message) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    encoded += isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return encoded;
}
