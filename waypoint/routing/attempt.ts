/** One try of a request at one host: counts it there, times it, and tells the {@link AttemptOwner} what comes of it. */
import type { Headers } from "#waypoint/http/headers.ts";
import type { RequestHead, ResetReason, ResponseHead, ResponseReader, UpstreamStream } from "#waypoint/http/streams.ts";
import type { AttemptOutcome, Cluster, Permit, SendOptions } from "#waypoint/upstream/clusters.ts";
import type { Host } from "#waypoint/upstream/host.ts";

export interface AttemptOwner {
  onInform(attempt: Attempt, head: ResponseHead): void;
  onHead(attempt: Attempt, head: ResponseHead, endsWithHead: boolean): void;
  onData(attempt: Attempt, chunk: Buffer): void;
  onEnd(attempt: Attempt, trailers: Headers | undefined): void;
  onReset(attempt: Attempt, reason: ResetReason, detail: string): void;
  onDrained(attempt: Attempt): void;
}

export class Attempt implements ResponseReader {
  readonly host: Host;
  /** An answer's head has come. */
  isAnswered = false;
  /** Nothing more is heard of it: it ended, failed or was given up. */
  isOver = false;
  cancelTimeout: (() => void) | undefined;
  readonly #owner: AttemptOwner;
  readonly #cluster: Cluster;
  readonly #permit: Permit;
  readonly #isGrpc: boolean;
  #stream: UpstreamStream | undefined;
  #isReported = false;

  constructor(owner: AttemptOwner, cluster: Cluster, host: Host, permit: Permit, isGrpc: boolean) {
    this.#owner = owner;
    this.#cluster = cluster;
    this.host = host;
    this.#permit = permit;
    this.#isGrpc = isGrpc;
    host.active++;
  }

  send(head: RequestHead, endsWithHead: boolean, options: SendOptions): void {
    this.#stream = this.#cluster.send(this.host, head, endsWithHead, this, options);
    // It failed before it was there to be given up.
    if (this.isOver) this.#stream.reset("local-reset");
  }

  write(chunk: Buffer): boolean {
    return this.#stream === undefined || this.#stream.write(chunk);
  }

  endRequest(trailers: Headers | undefined): void {
    this.#stream?.end(trailers);
  }

  pause(): void {
    this.#stream?.pause();
  }

  resume(): void {
    this.#stream?.resume();
  }

  /** Nothing of it reaches the owner afterwards. */
  giveUp(outcome?: AttemptOutcome): void {
    if (this.isOver) return;
    if (outcome !== undefined) this.#report(outcome);
    this.#finish();
    this.#stream?.reset("local-reset");
  }

  /** The answer is complete before the request is. */
  dropRequest(): void {
    this.#stream?.reset("local-reset");
  }

  inform(head: ResponseHead): void {
    if (!this.isOver) this.#owner.onInform(this, head);
  }

  head(head: ResponseHead, endsWithHead: boolean): void {
    if (this.isOver || this.isAnswered) return;
    this.isAnswered = true;
    this.#reportHead(head);
    if (endsWithHead) this.#finish();
    this.#owner.onHead(this, head, endsWithHead);
  }

  data(chunk: Buffer): void {
    if (!this.isOver) this.#owner.onData(this, chunk);
  }

  end(trailers: Headers | undefined): void {
    if (this.isOver) return;
    if (!this.#isReported) this.#report({ kind: "answered", status: 200, grpcStatus: grpcStatus(trailers) });
    this.#finish();
    this.#owner.onEnd(this, trailers);
  }

  reset(reason: ResetReason, detail: string): void {
    if (this.isOver) return;
    if (reason === "connect-failure" || reason === "connect-timeout") this.#report({ kind: "connect-failure" });
    else if (reason !== "overflow" && reason !== "local-reset") this.#report({ kind: "reset" });
    this.#finish();
    this.#owner.onReset(this, reason, detail);
  }

  drained(): void {
    if (!this.isOver) this.#owner.onDrained(this);
  }

  /** What a call of gRPC came to stands in its trailers, or in the head of an answer without a body. */
  #reportHead(head: ResponseHead): void {
    const grpc = this.#isGrpc ? grpcStatus(head.headers) : undefined;
    if (this.#isGrpc && grpc === undefined && head.status === 200) return;
    this.#report({ kind: "answered", status: head.status, grpcStatus: grpc });
  }

  #report(outcome: AttemptOutcome): void {
    if (this.#isReported && outcome.kind === "answered") return;
    this.#isReported = true;
    this.#cluster.report(this.host, outcome);
  }

  #finish(): void {
    this.isOver = true;
    this.host.active--;
    this.#permit.release();
    this.cancelTimeout?.();
    this.cancelTimeout = undefined;
  }
}

function grpcStatus(headers: Headers | undefined): number | undefined {
  const text = headers?.get("grpc-status");
  return text !== undefined && /^\d{1,2}$/.test(text) ? Number(text) : undefined;
}
