/** One HTTP request with its whole answer, over a cluster: how layers ask external services and fetch documents. */
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import type { Headers } from "#waypoint/http/headers.ts";
import type { RequestHead, UpstreamStream } from "#waypoint/http/streams.ts";
import type { AttemptOutcome, Cluster, Clusters } from "./clusters.ts";
import type { Host } from "./host.ts";

export interface HttpCall {
  /** Name of the cluster. */
  readonly cluster: string;
  readonly head: RequestHead;
  readonly body?: Buffer | undefined;
  /** Of everything, connecting included; 0: {@link longestMs}. */
  readonly timeoutMs: number;
  /** A longer answer is a failure. */
  readonly maxAnswerBytes: number;
  readonly connection?: DownstreamConnection | undefined;
  /** What the call is, for clusters that speak as the client does. Default HTTP/1.1. */
  readonly protocol?: "HTTP/1.1" | "HTTP/2";
  /** What the answer says of the host, for outlier detection. Default: its status. */
  readonly outcomeOf?: (answer: HttpAnswer) => AttemptOutcome;
  /** Says why a host may not be called; undefined where it may. */
  readonly forbids?: (host: Host) => string | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer;
  readonly trailers: Headers | undefined;
}

/** A call without a deadline of its own. Milliseconds. */
const longestMs = 60_000;

/** @throws MeshError UPSTREAM_CONNECT_FAILED, whatever kept the service from answering */
export async function callHttp(clusters: Clusters, call: HttpCall): Promise<HttpAnswer> {
  const deadlineMs = performance.now() + (call.timeoutMs > 0 ? call.timeoutMs : longestMs);
  const cluster = clusters.get(call.cluster);
  if (cluster === undefined) throw failed(call, `there is no cluster "${call.cluster}"`);
  const host = await pickHost(cluster, call, deadlineMs);
  const forbidden = call.forbids?.(host);
  if (forbidden !== undefined) throw failed(call, forbidden);
  const permit = cluster.admitRequest();
  if (permit === undefined) throw failed(call, "its circuit breaker is open");
  host.active++;
  try {
    const answer = await exchange(cluster, host, call, Math.max(deadlineMs - performance.now(), 0));
    cluster.report(host, call.outcomeOf?.(answer) ?? { kind: "answered", status: answer.status });
    return answer;
  } catch (thrown) {
    cluster.report(host, { kind: "reset" });
    throw thrown;
  } finally {
    host.active--;
    permit.release();
  }
}

const failed = (call: HttpCall, why: string): MeshError =>
  new MeshError("UPSTREAM_CONNECT_FAILED", `Cannot call "${call.cluster}": ${why}`);

async function pickHost(cluster: Cluster, call: HttpCall, deadlineMs: number): Promise<Host> {
  for (;;) {
    const pick = cluster.pick({});
    if (pick.kind === "host") return pick.host;
    if (pick.kind === "none") throw failed(call, pick.why);
    const leftMs = deadlineMs - performance.now();
    if (leftMs <= 0) throw failed(call, "no endpoint is known in time");
    await Promise.race([pick.ready, after(leftMs)]);
  }
}

const after = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });

function exchange(cluster: Cluster, host: Host, call: HttpCall, timeoutMs: number): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    let stream: UpstreamStream | undefined;
    const answer = { status: 0, headers: undefined as Headers | undefined };
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
    const finish = (trailers?: Headers): void => {
      if (isDone || answer.headers === undefined) return;
      isDone = true;
      clearTimeout(timer);
      resolve({ status: answer.status, headers: answer.headers, body: Buffer.concat(chunks), trailers });
    };
    stream = cluster.send(
      host,
      call.head,
      call.body === undefined,
      {
        inform: () => {},
        head: ({ status, headers }, endsWithHead) => {
          answer.status = status;
          answer.headers = headers;
          if (endsWithHead) finish();
        },
        data: (chunk) => {
          bytes += chunk.length;
          if (bytes > call.maxAnswerBytes) fail(`its answer exceeds ${call.maxAnswerBytes} bytes`);
          else chunks.push(chunk);
        },
        end: finish,
        reset: (reason, detail) => fail(detail === "" ? reason : `${reason}: ${detail}`),
        drained: () => {},
      },
      {
        downstreamProtocol: call.protocol ?? "HTTP/1.1",
        ...(call.connection === undefined ? {} : { connection: call.connection }),
      },
    );
    if (isDone) {
      stream.reset("local-reset");
      return;
    }
    if (call.body === undefined) return;
    stream.write(call.body);
    stream.end();
  });
}
