/** Who is told of what the proxy did: metrics, access logs and traces stand behind these. */
import type { DownstreamConnection, Exchange, ResponseFlag } from "#waypoint/http/exchange.ts";
import type { Headers } from "#waypoint/http/headers.ts";
import type { Host } from "#waypoint/upstream/host.ts";

/** How an exchange ended. */
export interface ExchangeEnd {
  /** Of the answer or of the request, whichever came; for gRPC's status and messages. */
  readonly responseTrailers: Headers | undefined;
  /** Bodies on the wire. */
  readonly bytesReceived: number;
  readonly bytesSent: number;
  readonly durationMs: number;
  /** Messages of a gRPC call, counted as they passed; undefined for any other request. */
  readonly messages?: { readonly received: number; readonly sent: number } | undefined;
}

/** Of HTTP chains. */
export interface ExchangeObserver {
  /** Head read and a route looked for, nothing else done with it yet: where a trace begins. */
  onStart?(exchange: Exchange): void;
  /** Exactly once for each exchange, on every way out. */
  onEnd(exchange: Exchange, end: ExchangeEnd): void;
}

/** One connection of a TCP chain. */
export interface TcpConnectionFacts {
  readonly connection: DownstreamConnection;
  /** Name of the filter chain. */
  readonly chain: string;
  readonly startedAtMs: number;
  readonly cluster: string;
  readonly host: Host | undefined;
  readonly flags: ReadonlySet<ResponseFlag>;
  readonly terminationDetails: string;
  readonly upstreamFailure: string;
  readonly bytesReceived: number;
  readonly bytesSent: number;
}

/** Of TCP chains. Open and end come exactly once for each connection that reached a chain. */
export interface TcpObserver {
  onOpen?(facts: TcpConnectionFacts): void;
  /** Bytes flow now. */
  onConnected?(facts: TcpConnectionFacts): void;
  onEnd(facts: TcpConnectionFacts, durationMs: number): void;
}

/** A request to CONNECT that was refused, so that there is no connection in a tunnel. */
export interface RefusedConnect {
  /** The client; its destination is our own port where none was asked for. */
  readonly connection: DownstreamConnection;
  readonly method: string;
  readonly authority: string;
  readonly status: number;
  readonly details: string;
  readonly atMs: number;
}
