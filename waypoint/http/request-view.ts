/** What routing looks at of a request and what it may answer: all of an exchange but the route that it leads to. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Ip } from "#shared/net/ip.ts";
import type { Headers } from "./headers.ts";
import type { DownstreamStream, RequestHead } from "./streams.ts";

export interface SocketAddress {
  readonly ip: Ip;
  readonly port: number;
}

/** Who is on the other side of a client's connection. Proven by mutual TLS or by the socket, never by a header. */
export interface DownstreamConnection {
  /** Unique in this process. */
  readonly id: number;
  /** URI of the client certificate (`spiffe://…`) of the tunnel; undefined on a listener without TLS. */
  readonly peerPrincipal: string | undefined;
  /** URI of our own certificate on that tunnel. */
  readonly localPrincipal: string | undefined;
  /** The client pod: the address from which the tunnel came. */
  readonly source: SocketAddress;
  /** Where the client was going: service address and service port, or pod address and port. */
  readonly destination: SocketAddress;
  /** Server name of a TLS ClientHello inside, for TCP chains. */
  readonly serverName: string | undefined;
  /** `namespace/name` of the workload behind {@link source}; undefined where the mesh knows none there. */
  readonly sourceWorkload?: (() => string | undefined) | undefined;
}

/** Envoy's response flags that a waypoint sets (short form, as access logs write them). */
export type ResponseFlag =
  | "UH" // no healthy upstream
  | "UF" // upstream connection failure
  | "UO" // upstream overflow
  | "NR" // no route
  | "NC" // no cluster
  | "URX" // retry limit exceeded
  | "UT" // upstream request timeout
  | "UC" // upstream connection termination
  | "UR" // upstream remote reset
  | "LR" // local reset
  | "UPE" // upstream protocol error
  | "DC" // downstream connection termination
  | "DR" // downstream remote reset
  | "DPE" // downstream protocol error
  | "DI" // delay injected
  | "FI" // fault injected
  | "RL" // rate limited
  | "RLSE" // rate limit service error
  | "UAEX" // unauthorised by an external service
  | "SI" // stream idle timeout
  | "DT" // connection or stream duration timeout
  | "OM"; // overload

/** An answer of our own. What is a gRPC call becomes a gRPC status (`local-reply.ts`). */
export interface LocalReply {
  readonly status: number;
  /** Text, or bytes as they are; content type text/plain unless `headers` has another. */
  readonly body?: string | Buffer;
  /** Added to the answer. */
  readonly headers?: Headers;
  /** RESPONSE_CODE_DETAILS, such as `rbac_access_denied_matched_policy[none]`. */
  readonly details: string;
  readonly flag?: ResponseFlag;
  /** Instead of what the HTTP status would become for a gRPC call. */
  readonly grpcStatus?: number;
  /** The route's operations on answers leave it as it is. */
  readonly isFinal?: boolean;
  /** Send no body and close afterwards, for protocol errors. */
  readonly closes?: boolean;
}

/** The part of an exchange that is there before its route. */
export interface RequestView {
  readonly connection: DownstreamConnection;
  readonly stream: DownstreamStream;
  readonly request: RequestHead;
  readonly originalPath: string;
  readonly startedAtMs: number;
  metadataOf(filter: string): JsonObject | undefined;
}
