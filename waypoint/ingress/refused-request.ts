/** A request of which the codec could make nothing: its refusal is told as every other answer is. */
import { STATUS_CODES } from "node:http";
import { Exchange, type DownstreamConnection } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { DownstreamStream, Protocol, RequestHead } from "#waypoint/http/streams.ts";
import type { HttpChain } from "./http-chain.ts";

export interface Refusal {
  readonly protocol: Protocol;
  /** 0 where its stream was reset without an answer. */
  readonly status: number;
  readonly details: string;
}

/** Nothing of its head is told, even where some could be read: what it seems to say is not what it is. */
export function reportRefused(
  chain: HttpChain,
  connection: DownstreamConnection,
  { protocol, status, details }: Refusal,
): void {
  if (chain.observers.length === 0) return;
  const request: RequestHead = { method: "", scheme: "", authority: "", path: "", headers: new Headers() };
  const stream = { protocol, request, endsWithHead: true } as DownstreamStream;
  const exchange = new Exchange(connection, stream, performance.now(), Date.now());
  exchange.flags.add("DPE");
  exchange.responseCodeDetails = details;
  if (status > 0) exchange.response = { status, headers: new Headers() };
  // The codec of HTTP/1 answers with the text of the status, that of HTTP/2 with the status alone.
  const bytesSent = protocol === "HTTP/2" ? 0 : (STATUS_CODES[status]?.length ?? 0);
  const end = { responseTrailers: undefined, bytesReceived: 0, bytesSent, durationMs: 0 };
  for (const observer of chain.observers) observer.onEnd(exchange, end);
}
