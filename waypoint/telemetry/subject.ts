/** What expressions, filters and tags look at when something has ended. */
import { Exchange } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { DownstreamStream, RequestHead } from "#waypoint/http/streams.ts";
import type { FormatSubject } from "#waypoint/routing/format-subject.ts";
import type { ExchangeEnd, RefusedConnect, TcpConnectionFacts } from "./observers.ts";
import type { Peers } from "./peers.ts";

export interface Subject extends FormatSubject {
  readonly end: ExchangeEnd | undefined;
  readonly peers: Peers;
  /** Name of the filter chain. */
  readonly chain: string;
  /** Whether it is a request at all, not a connection whose bytes are passed on. */
  readonly isHttp: boolean;
}

/** A TCP connection in the form of a request that says nothing. */
export function tcpSubject(facts: TcpConnectionFacts, durationMs: number, peers: Peers): Subject {
  const request: RequestHead = { method: "", scheme: "", authority: "", path: "", headers: new Headers() };
  const stream = { protocol: "" as string, request, endsWithHead: true } as DownstreamStream;
  const exchange = new Exchange(facts.connection, stream, 0, facts.startedAtMs);
  for (const flag of facts.flags) exchange.flags.add(flag);
  exchange.connectionTerminationDetails = facts.terminationDetails;
  exchange.upstreamFailure = facts.upstreamFailure;
  exchange.upstreamCluster = facts.cluster;
  exchange.upstreamHost = facts.host;
  const { bytesReceived, bytesSent } = facts;
  const end: ExchangeEnd = { responseTrailers: undefined, bytesReceived, bytesSent, durationMs };
  return { exchange, response: undefined, end, peers, chain: facts.chain, isHttp: false };
}

/** A request for a tunnel, and the answer that it got. */
export function connectSubject(refused: RefusedConnect, peers: Peers): Subject {
  const { connection, method, authority, status, details, atMs } = refused;
  const request: RequestHead = { method, scheme: "https", authority, path: "", headers: new Headers() };
  const stream = { protocol: "HTTP/2", request, endsWithHead: true } as DownstreamStream;
  const exchange = new Exchange(connection, stream, 0, atMs);
  const response = { status, headers: new Headers() };
  exchange.response = response;
  exchange.responseCodeDetails = details;
  const end: ExchangeEnd = { responseTrailers: undefined, bytesReceived: 0, bytesSent: 0, durationMs: 0 };
  return { exchange, response, end, peers, chain: "", isHttp: true };
}
