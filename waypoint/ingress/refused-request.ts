/** A request of which the codec could make nothing: its refusal is told as every other answer is. */
import { STATUS_CODES } from "node:http";
import { Exchange, type DownstreamConnection } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { Http1Failure } from "#waypoint/http/http1-syntax.ts";
import type { DownstreamStream, RequestHead } from "#waypoint/http/streams.ts";
import type { HttpChain } from "./http-chain.ts";

/** Nothing of its head is told, even where some could be read: what it seems to say is not what it is. */
export function reportRefused(
  chain: HttpChain,
  connection: DownstreamConnection,
  { status, details }: Http1Failure,
): void {
  if (chain.observers.length === 0) return;
  const request: RequestHead = { method: "", scheme: "", authority: "", path: "", headers: new Headers() };
  const stream = { protocol: "HTTP/1.1", request, endsWithHead: true } as DownstreamStream;
  const exchange = new Exchange(connection, stream, performance.now(), Date.now());
  exchange.flags.add("DPE");
  exchange.responseCodeDetails = details;
  exchange.response = { status, headers: new Headers() };
  // The codec's answer is the text of its status.
  const bytesSent = STATUS_CODES[status]?.length ?? 0;
  const end = { responseTrailers: undefined, bytesReceived: 0, bytesSent, durationMs: 0 };
  for (const observer of chain.observers) observer.onEnd(exchange, end);
}
