/** One gRPC call with one message each way, over a cluster: how layers ask external services. */
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { RequestHead } from "#waypoint/http/streams.ts";
import type { Clusters } from "./clusters.ts";
import { callHttp, type HttpAnswer } from "./http-call.ts";

export interface UnaryCall {
  /** Name of the cluster. */
  readonly cluster: string;
  /** Default: the host name in the cluster's name, its last part; servers refuse the whole of it as a name. */
  readonly authority?: string;
  /** `/package.Service/Method`. */
  readonly method: string;
  readonly message: Uint8Array;
  /** Of everything, connecting included; 0: a minute. */
  readonly timeoutMs: number;
  /** Names in lower case. */
  readonly metadata?: Headers;
  readonly connection?: DownstreamConnection | undefined;
}

/** An answer; gRPC's own default. */
const maxAnswerBytes = 4 * 1024 * 1024;
const prefixBytes = 5;

/**
 * The answer's message.
 *
 * @throws MeshError UPSTREAM_CONNECT_FAILED, whatever kept the service from answering with status 0
 */
export async function callUnary(clusters: Clusters, call: UnaryCall): Promise<Uint8Array> {
  const answer = await callHttp(clusters, {
    cluster: call.cluster,
    head: requestHead(call),
    body: framed(call.message),
    timeoutMs: call.timeoutMs,
    maxAnswerBytes,
    protocol: "HTTP/2",
    outcomeOf: (each) => ({
      kind: "answered",
      status: each.status,
      grpcStatus: Number(grpcField(each, "status") ?? 2),
    }),
    ...(call.connection === undefined ? {} : { connection: call.connection }),
  });
  const { status, body } = answer;
  if (status !== 200) throw failed(call, `HTTP status ${status}`);
  const grpcStatus = grpcField(answer, "status");
  if (grpcStatus === undefined) throw failed(call, "it answered without a status");
  if (grpcStatus !== "0") throw failed(call, `status ${grpcStatus}: ${grpcField(answer, "message") ?? ""}`);
  if (body.length < prefixBytes || body[0] !== 0 || body.readUInt32BE(1) !== body.length - prefixBytes) {
    throw failed(call, "its answer is not one plain message");
  }
  return body.subarray(prefixBytes);
}

const failed = (call: UnaryCall, why: string): MeshError =>
  new MeshError("UPSTREAM_CONNECT_FAILED", `Cannot call ${call.method} of "${call.cluster}": ${why}`);

/** In trailers, or in the head where there is nothing else. */
const grpcField = ({ headers, trailers }: HttpAnswer, name: "status" | "message"): string | undefined =>
  trailers?.get(`grpc-${name}`) ?? headers.get(`grpc-${name}`);

function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(prefixBytes + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, prefixBytes);
  return frame;
}

const hostOf = (cluster: string): string => cluster.slice(cluster.lastIndexOf("|") + 1);

function requestHead({ authority, cluster, method, metadata, timeoutMs }: UnaryCall): RequestHead {
  const headers = new Headers([...(metadata?.pairs ?? [])]);
  headers.append("content-type", "application/grpc");
  headers.append("te", "trailers");
  if (timeoutMs > 0) headers.append("grpc-timeout", `${Math.min(Math.max(Math.ceil(timeoutMs), 1), 99_999_999)}m`);
  return { method: "POST", scheme: "http", authority: authority ?? hostOf(cluster), path: method, headers };
}
