/** One gRPC call with one message each way, over a cluster: how layers ask external services. */
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { RequestHead, UpstreamStream } from "#waypoint/http/streams.ts";
import type { Cluster, Clusters } from "./clusters.ts";
import type { Host } from "./host.ts";

export interface UnaryCall {
  /** Name of the cluster. */
  readonly cluster: string;
  /** Default: the host name in the cluster's name, its last part; servers refuse the whole of it as a name. */
  readonly authority?: string;
  /** `/package.Service/Method`. */
  readonly method: string;
  readonly message: Uint8Array;
  /** Of everything, connecting included; 0: {@link longestMs}. */
  readonly timeoutMs: number;
  /** Names in lower case. */
  readonly metadata?: Headers;
  readonly connection?: DownstreamConnection | undefined;
}

/** A call without a deadline of its own. Milliseconds. */
const longestMs = 60_000;
/** An answer; gRPC's own default. */
const maxAnswerBytes = 4 * 1024 * 1024;
const prefixBytes = 5;

/**
 * The answer's message.
 *
 * @throws MeshError UPSTREAM_CONNECT_FAILED, whatever kept the service from answering with status 0
 */
export async function callUnary(clusters: Clusters, call: UnaryCall): Promise<Uint8Array> {
  const deadlineMs = performance.now() + (call.timeoutMs > 0 ? call.timeoutMs : longestMs);
  const cluster = clusters.get(call.cluster);
  if (cluster === undefined) throw failed(call, `there is no cluster "${call.cluster}"`);
  const host = await pickHost(cluster, call, deadlineMs);
  const permit = cluster.admitRequest();
  if (permit === undefined) throw failed(call, "its circuit breaker is open");
  host.active++;
  try {
    const answer = await exchange(cluster, host, call, Math.max(deadlineMs - performance.now(), 0));
    cluster.report(host, { kind: "answered", status: 200, grpcStatus: 0 });
    return answer;
  } catch (thrown) {
    cluster.report(host, { kind: "reset" });
    throw thrown;
  } finally {
    host.active--;
    permit.release();
  }
}

const failed = (call: UnaryCall, why: string): MeshError =>
  new MeshError("UPSTREAM_CONNECT_FAILED", `Cannot call ${call.method} of "${call.cluster}": ${why}`);

async function pickHost(cluster: Cluster, call: UnaryCall, deadlineMs: number): Promise<Host> {
  for (;;) {
    const pick = cluster.pick({});
    if (pick.kind === "host") return pick.host;
    if (pick.kind === "none") throw failed(call, pick.why);
    if (performance.now() >= deadlineMs) throw failed(call, "no endpoint is known in time");
    await Promise.race([pick.ready, after(deadlineMs - performance.now())]);
  }
}

const after = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, Math.max(ms, 0)).unref();
  });

function exchange(cluster: Cluster, host: Host, call: UnaryCall, timeoutMs: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    let stream: UpstreamStream | undefined;
    const chunks: Buffer[] = [];
    let bytes = 0;
    let isDone = false;
    const fail = (why: string): void => {
      if (isDone) return;
      isDone = true;
      clearTimeout(timer);
      reject(failed(call, why));
      stream?.reset("local-reset");
    };
    const timer = setTimeout(() => fail(`no answer within ${Math.ceil(timeoutMs)} ms`), timeoutMs);
    timer.unref();
    const finish = (status: string | undefined, message: string | undefined): void => {
      if (isDone) return;
      if (status !== "0") {
        fail(status === undefined ? "it answered without a status" : `status ${status}: ${message ?? ""}`);
        return;
      }
      const body = Buffer.concat(chunks);
      if (body.length < prefixBytes || body[0] !== 0 || body.readUInt32BE(1) !== body.length - prefixBytes) {
        fail("its answer is not one plain message");
        return;
      }
      isDone = true;
      clearTimeout(timer);
      resolve(body.subarray(prefixBytes));
    };
    let grpcStatus: string | undefined;
    let grpcMessage: string | undefined;
    stream = cluster.send(
      host,
      requestHead(call, timeoutMs),
      false,
      {
        inform: () => {},
        head: ({ status, headers }, endsWithHead) => {
          if (status !== 200) {
            fail(`HTTP status ${status}`);
            return;
          }
          grpcStatus = headers.get("grpc-status");
          grpcMessage = headers.get("grpc-message");
          if (endsWithHead) finish(grpcStatus, grpcMessage);
        },
        data: (chunk) => {
          bytes += chunk.length;
          if (bytes > maxAnswerBytes) fail(`its answer exceeds ${maxAnswerBytes} bytes`);
          else chunks.push(chunk);
        },
        end: (trailers) =>
          finish(trailers?.get("grpc-status") ?? grpcStatus, trailers?.get("grpc-message") ?? grpcMessage),
        reset: (reason, detail) => fail(detail === "" ? reason : `${reason}: ${detail}`),
        drained: () => {},
      },
      { downstreamProtocol: "HTTP/2", ...(call.connection === undefined ? {} : { connection: call.connection }) },
    );
    if (isDone) {
      stream.reset("local-reset");
      return;
    }
    const frame = Buffer.allocUnsafe(prefixBytes + call.message.length);
    frame[0] = 0;
    frame.writeUInt32BE(call.message.length, 1);
    frame.set(call.message, prefixBytes);
    stream.write(frame);
    stream.end();
  });
}

const hostOf = (cluster: string): string => cluster.slice(cluster.lastIndexOf("|") + 1);

function requestHead(call: UnaryCall, timeoutMs: number): RequestHead {
  const headers = new Headers([...(call.metadata?.pairs ?? [])]);
  headers.append("content-type", "application/grpc");
  headers.append("te", "trailers");
  headers.append("grpc-timeout", `${Math.min(Math.max(Math.ceil(timeoutMs), 1), 99_999_999)}m`);
  return {
    method: "POST",
    scheme: "http",
    authority: call.authority ?? hostOf(call.cluster),
    path: call.method,
    headers,
  };
}
