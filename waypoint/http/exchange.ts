/** One request and its answer on their way through the waypoint, and the connection that they came on. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { CompiledRoute } from "#waypoint/routing/compiled-route.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import { isGrpcContentType } from "./grpc-content-type.ts";
import type { DownstreamConnection, RequestView, ResponseFlag, SocketAddress } from "./request-view.ts";
import type { DownstreamStream, RequestHead, ResponseHead } from "./streams.ts";

export type { DownstreamConnection, LocalReply, ResponseFlag, SocketAddress } from "./request-view.ts";

/** Name of a filter → what it said about this request; the form in which Envoy keeps dynamic metadata. */
export type DynamicMetadata = Map<string, JsonObject>;

/** Ids are hexadecimal digits. */
export interface ExchangeTrace {
  readonly traceId: string;
  readonly spanId: string;
  readonly isSampled: boolean;
  /** What the caller told. */
  readonly parent: { readonly spanId: string; readonly state: string } | undefined;
  /** Of the span for the upstream's side, where there is one. */
  readonly upstreamSpanId: string | undefined;
  /** Before anything rewrote it. */
  readonly path: string;
}

export class Exchange implements RequestView {
  readonly connection: DownstreamConnection;
  readonly stream: DownstreamStream;
  readonly request: RequestHead;
  /** As the client sent it, normalised: `request.path` may be rewritten. For logs and policies after routing. */
  readonly originalPath: string;
  /** `performance.now()`. */
  readonly startedMs: number;
  /** Unix milliseconds. */
  readonly startedAtMs: number;
  /** Set by routing; a layer that changes what routes match on sets it to undefined and it is looked up again. */
  route: CompiledRoute | undefined;
  response: ResponseHead | undefined;
  readonly flags = new Set<ResponseFlag>();
  responseCodeDetails = "";
  connectionTerminationDetails = "";
  upstreamFailure = "";
  /** Of the attempt that answered, or the last one. */
  upstreamHost: Host | undefined;
  upstreamCluster = "";
  upstreamLocalAddress: SocketAddress | undefined;
  attempts = 0;
  /** [0, 1), drawn once by routing for everything that is a matter of chance there, so that a second look finds the same; -1 before. */
  draw = -1;
  /** Until the first byte of the answer's head from upstream, milliseconds. */
  upstreamServiceMs: number | undefined;
  /** Set where the request is traced, or a caller's trace is handed on. */
  trace: ExchangeTrace | undefined;
  #metadata: DynamicMetadata | undefined;

  constructor(connection: DownstreamConnection, stream: DownstreamStream, startedMs: number, startedAtMs: number) {
    this.connection = connection;
    this.stream = stream;
    this.request = stream.request;
    this.originalPath = stream.request.path;
    this.startedMs = startedMs;
    this.startedAtMs = startedAtMs;
  }

  get metadata(): DynamicMetadata {
    return (this.#metadata ??= new Map());
  }

  /** Without making an empty one. */
  metadataOf(filter: string): JsonObject | undefined {
    return this.#metadata?.get(filter);
  }

  get isGrpc(): boolean {
    return isGrpcContentType(this.request.headers.get("content-type"));
  }
}
