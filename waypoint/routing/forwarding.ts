/**
 * One request on its way through the router: its attempts one after the other, its timeouts, its copies.
 *
 *   picking → trying → (waiting → picking …) → answering → over
 *
 * `picking` lasts only where a cluster is not ready yet, `waiting` is a back-off. From `answering` on the client has the
 * head of an answer and nothing is tried again. What happens before {@link Forwarding.start} has returned is told after it.
 */
import type { Clock } from "#shared/clock/clock.ts";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { ResetReason, ResponseHead, UpstreamStream } from "#waypoint/http/streams.ts";
import type { Cluster, Clusters, Permit, PickContext } from "#waypoint/upstream/clusters.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import { Attempt, type AttemptOwner } from "./attempt.ts";
import type { ForwardAction } from "./compiled-route.ts";
import { rewriteHost } from "./host-rewrite.ts";
import { IdleTimer } from "./idle-timer.ts";
import { startMirrors, type Mirror } from "./mirror.ts";
import { RequestCopy } from "./request-copy.ts";
import type { RetryPolicy } from "./retry-policy.ts";
import { retriesOnFailure, retriesOnHead, RetryState, type Failure } from "./retry-state.ts";
import type { ForwardReader } from "./router-contract.ts";
import { announceTimeout, type Timeouts } from "./timeouts.ts";
import * as replies from "./upstream-replies.ts";

export interface ForwardingContext {
  readonly clusters: Clusters;
  readonly clock: Clock;
  readonly random: () => number;
  readonly suppressesEnvoyHeaders: boolean;
}

export interface ForwardingPlan {
  readonly action: ForwardAction;
  readonly timeouts: Timeouts;
  /** Undefined where nothing is tried again. */
  readonly retryPolicy: RetryPolicy | undefined;
  readonly bufferLimitBytes: number;
  readonly isGrpc: boolean;
}

/** Of requests without a body; there is nothing in it to change. */
const bodiless = RequestCopy.bodiless();

/** How often one attempt asks a cluster that is not ready; each wait has its own deadline. */
const maxWaits = 8;

export class Forwarding implements UpstreamStream, AttemptOwner {
  readonly #context: ForwardingContext;
  readonly #plan: ForwardingPlan;
  readonly #exchange: Exchange;
  readonly #reader: ForwardReader;
  #at: "picking" | "trying" | "waiting" | "answering" | "over" = "picking";
  #cluster: Cluster | undefined;
  #attempt: Attempt | undefined;
  /** Undefined where no further attempt can come: its body is not kept then. */
  #copy: RequestCopy | undefined;
  #isRequestComplete: boolean;
  readonly #endsWithHead: boolean;
  #requestCompleteMs = 0;
  #mirrors: readonly Mirror[] | undefined;
  #retry: RetryState | undefined;
  #retryPermit: Permit | undefined;
  #tried: Host[] | undefined;
  #hash: bigint | undefined;
  #setCookies: string[] | undefined;
  #isStarting = true;
  #isTimeoutRetry = false;
  #takesMore = true;
  #idle: IdleTimer | undefined;
  #tryIdle: IdleTimer | undefined;
  #cancelRoute: (() => void) | undefined;
  #cancelStream: (() => void) | undefined;
  #cancelBackOff: (() => void) | undefined;

  constructor(
    context: ForwardingContext,
    plan: ForwardingPlan,
    exchange: Exchange,
    endsWithHead: boolean,
    reader: ForwardReader,
  ) {
    this.#context = context;
    this.#plan = plan;
    this.#exchange = exchange;
    this.#endsWithHead = endsWithHead;
    this.#isRequestComplete = endsWithHead;
    this.#reader = reader;
  }

  start(): void {
    const { action, retryPolicy, timeouts } = this.#plan;
    const exchange = this.#exchange;
    const name = action.pickCluster(exchange);
    exchange.upstreamCluster = name;
    const cluster = this.#context.clusters.get(name);
    if (cluster === undefined) {
      this.#fail(replies.clusterNotFound(action.clusterNotFoundStatus));
      this.#isStarting = false;
      return;
    }
    this.#cluster = cluster;
    if (!this.#endsWithHead) this.#copy = new RequestCopy();
    else if (retryPolicy !== undefined) this.#copy = bodiless;
    if (action.hashPolicy !== undefined && cluster.hashes) {
      this.#setCookies = [];
      this.#hash = action.hashPolicy.hash(exchange, this.#setCookies);
    }
    this.#startTimers(timeouts);
    if (this.#isRequestComplete) this.#requestComplete();
    this.#pick(0);
    if (action.mirrors.length > 0 && this.#isLive()) this.#startMirrors();
    this.#isStarting = false;
  }

  // The request's body.

  write(chunk: Buffer): boolean {
    if (this.#at === "over" || this.#isRequestComplete) return true;
    this.#idle?.touch();
    if (this.#mirrors !== undefined) for (const mirror of this.#mirrors) mirror.write(chunk);
    const copy = this.#copy;
    copy?.add(chunk);
    if (this.#at === "picking" || this.#at === "waiting") {
      this.#takesMore = false;
      return false;
    }
    const takesMore = this.#attempt === undefined || this.#attempt.write(chunk);
    if (copy !== undefined && (this.#plan.retryPolicy === undefined || copy.bytes > this.#plan.bufferLimitBytes))
      this.#copy = undefined;
    this.#takesMore = takesMore;
    return takesMore;
  }

  end(trailers?: Headers): void {
    if (this.#at === "over" || this.#isRequestComplete) return;
    this.#isRequestComplete = true;
    this.#idle?.touch();
    this.#copy?.complete(trailers);
    if (this.#mirrors !== undefined) for (const mirror of this.#mirrors) mirror.endRequest(trailers);
    this.#requestComplete();
    if (this.#at !== "picking" && this.#at !== "waiting") this.#attempt?.endRequest(trailers);
  }

  /** The client is gone. */
  reset(_reason: ResetReason): void {
    if (this.#at === "over") return;
    const attempt = this.#attempt;
    this.#finish();
    attempt?.giveUp();
  }

  pause(): void {
    this.#attempt?.pause();
  }

  resume(): void {
    this.#idle?.touch();
    this.#attempt?.resume();
  }

  // Attempts.

  #pick(waits: number): void {
    const cluster = this.#cluster;
    if (cluster === undefined || !this.#isLive()) return;
    this.#at = "picking";
    if (waits === 0) this.#exchange.attempts++;
    const pick = cluster.pick(this.#pickContext());
    if (pick.kind === "wait" && waits < maxWaits) {
      pick.ready.then(
        () => this.#at === "picking" && this.#pick(waits + 1),
        () => this.#fail(replies.noHealthyUpstream),
      );
      return;
    }
    if (pick.kind !== "host") {
      this.#fail(replies.noHealthyUpstream);
      return;
    }
    const permit = cluster.admitRequest(this.#plan.action.priority);
    if (permit === undefined) {
      this.#exchange.upstreamHost = pick.host;
      this.#fail(replies.overflowReply(this.#exchange.attempts > 1));
      return;
    }
    this.#try(cluster, pick.host, permit);
  }

  #pickContext(): PickContext {
    const { action, retryPolicy } = this.#plan;
    const tried = this.#tried;
    const exchange = this.#exchange;
    const { metadataMatch } = action;
    if (tried === undefined || retryPolicy === undefined) return { hash: this.#hash, exchange, metadataMatch };
    const { hostPicks, priorityUpdateFrequency: updateFrequency } = retryPolicy;
    return {
      hash: this.#hash,
      exchange,
      metadataMatch,
      ...(hostPicks > 0 ? { tried: new Set(tried), attempts: hostPicks + 1 } : {}),
      ...(updateFrequency === undefined ? {} : { previousPriorities: { updateFrequency, attempted: tried } }),
    };
  }

  #try(cluster: Cluster, host: Host, permit: Permit): void {
    const { action, timeouts, retryPolicy } = this.#plan;
    const exchange = this.#exchange;
    const { request, connection, stream } = exchange;
    this.#at = "trying";
    exchange.upstreamHost = host;
    this.#announce(timeouts);
    if (action.rewritesHostAutomatically && host.hostname !== "") {
      const isFirst = exchange.attempts === 1;
      rewriteHost(request, host.hostname, {
        appendsForwardedHost: isFirst && action.appendsForwardedHost,
        keepsOriginal: isFirst && !this.#context.suppressesEnvoyHeaders,
      });
    }
    const attempt = new Attempt(this, cluster, host, permit, this.#plan.isGrpc);
    this.#attempt = attempt;
    const copy = this.#copy;
    const endsNow = this.#endsWithHead || (copy !== undefined && copy.isEmpty);
    attempt.send(request, endsNow, { downstreamProtocol: stream.protocol, connection, priority: action.priority });
    if (attempt.isOver) return;
    if (!endsNow && copy !== undefined) {
      const waited = !this.#takesMore;
      this.#takesMore = copy.replay(attempt);
      if (waited && this.#takesMore && !this.#isRequestComplete) this.#reader.drained();
      if (retryPolicy === undefined || copy.bytes > this.#plan.bufferLimitBytes) this.#copy = undefined;
    }
    if (this.#isRequestComplete) this.#timeAttempt(attempt);
  }

  /** Headers that differ from attempt to attempt. */
  #announce(timeouts: Timeouts): void {
    const { action } = this.#plan;
    const { isGrpc } = this.#plan;
    const { attempts, request } = this.#exchange;
    if (action.countsAttempts) request.headers.set("x-envoy-attempt-count", String(attempts));
    if (action.tellsTimeoutRetries && this.#isTimeoutRetry) request.headers.set("x-envoy-is-timeout-retry", "true");
    if (timeouts.routeMs === 0 && timeouts.perTryMs === 0) return;
    announceTimeout(request, timeouts, {
      elapsedMs: attempts === 1 || this.#requestCompleteMs === 0 ? 0 : performance.now() - this.#requestCompleteMs,
      announces: !this.#context.suppressesEnvoyHeaders,
      setsGrpcTimeout: isGrpc && action.grpcTimeout !== undefined && action.maxStreamDuration === undefined,
    });
  }

  /** Whether the next attempt was arranged. */
  #tryAgain(head: ResponseHead | undefined): boolean {
    const { retryPolicy, action } = this.#plan;
    const { clock, random } = this.#context;
    const cluster = this.#cluster;
    if (retryPolicy === undefined || cluster === undefined || this.#copy === undefined) return false;
    this.#retry ??= new RetryState(retryPolicy, random);
    if (!this.#retry.take()) {
      this.#exchange.flags.add("URX");
      return false;
    }
    this.#retryPermit?.release();
    this.#retryPermit = cluster.admitRetry(action.priority);
    if (this.#retryPermit === undefined) {
      this.#exchange.flags.add("UO");
      return false;
    }
    this.#at = "waiting";
    if (this.#attempt !== undefined) (this.#tried ??= []).push(this.#attempt.host);
    this.#cancelBackOff = clock.schedule(this.#retry.delayMs(head, clock.now()), () => {
      this.#cancelBackOff = undefined;
      this.#pick(0);
    });
    return true;
  }

  #failedBefore(failure: Failure): boolean {
    const { retryPolicy } = this.#plan;
    if (retryPolicy === undefined || this.#copy === undefined) return false;
    const sent = failure !== "connect-failure" && failure !== "connect-timeout";
    if (!retriesOnFailure(retryPolicy, failure, sent)) return false;
    this.#isTimeoutRetry = failure === "timeout";
    return this.#tryAgain(undefined);
  }

  // What an attempt says.

  onInform(attempt: Attempt, head: ResponseHead): void {
    if (attempt === this.#attempt && this.#at === "trying") this.#reader.inform(head);
  }

  onHead(attempt: Attempt, head: ResponseHead, endsWithHead: boolean): void {
    if (attempt !== this.#attempt || this.#at !== "trying") return;
    const { retryPolicy, action } = this.#plan;
    this.#idle?.touch();
    this.#tryIdle?.touch();
    if (retryPolicy !== undefined && retriesOnHead(retryPolicy, head)) {
      this.#isTimeoutRetry = false;
      if (this.#tryAgain(head)) {
        attempt.giveUp();
        return;
      }
    }
    this.#at = "answering";
    attempt.cancelTimeout?.();
    attempt.cancelTimeout = undefined;
    this.#copy = undefined;
    const exchange = this.#exchange;
    if (this.#requestCompleteMs > 0) {
      exchange.upstreamServiceMs = performance.now() - this.#requestCompleteMs;
      if (!this.#context.suppressesEnvoyHeaders)
        head.headers.set("x-envoy-upstream-service-time", String(Math.floor(exchange.upstreamServiceMs)));
    }
    if (action.countsAttemptsInResponse) head.headers.set("x-envoy-attempt-count", String(exchange.attempts));
    if (this.#setCookies !== undefined)
      for (const cookie of this.#setCookies) head.headers.append("set-cookie", cookie);
    if (endsWithHead) this.#ended(attempt);
    this.#reader.head(head, endsWithHead);
  }

  onData(attempt: Attempt, chunk: Buffer): void {
    if (attempt !== this.#attempt || this.#at !== "answering") return;
    this.#idle?.touch();
    this.#tryIdle?.touch();
    this.#reader.data(chunk);
  }

  onEnd(attempt: Attempt, trailers: Headers | undefined): void {
    if (attempt !== this.#attempt || this.#at !== "answering") return;
    this.#ended(attempt);
    this.#reader.end(trailers);
  }

  onReset(attempt: Attempt, reason: ResetReason, detail: string): void {
    if (attempt !== this.#attempt) return;
    if (this.#isStarting) {
      // The reader hears of nothing before it can write.
      queueMicrotask(() => this.#failed(attempt, reason, detail));
    } else this.#failed(attempt, reason, detail);
  }

  onDrained(attempt: Attempt): void {
    if (attempt !== this.#attempt || this.#isRequestComplete) return;
    this.#takesMore = true;
    this.#reader.drained();
  }

  #failed(attempt: Attempt, reason: ResetReason, detail: string): void {
    if (attempt !== this.#attempt) return;
    const exchange = this.#exchange;
    const transport = replies.transportReason(reason, detail);
    if (transport !== "") exchange.upstreamFailure = transport;
    if (this.#at === "answering") {
      exchange.flags.add(replies.resetFlag(reason));
      exchange.responseCodeDetails = replies.resetDetails(reason, detail, true);
      this.#breakOff(reason);
    } else if (this.#at === "trying" && !this.#failedBefore(reason)) {
      this.#fail(replies.resetReply(reason, detail, exchange.attempts > 1));
    }
  }

  // Timeouts.

  #startTimers({ idleMs, streamMs }: Timeouts): void {
    const { clock } = this.#context;
    if (idleMs > 0)
      this.#idle = new IdleTimer(clock, idleMs, () => this.#timedOut(replies.idleTimeout(this.#isRequestComplete)));
    if (streamMs > 0) {
      const leftMs = streamMs - (performance.now() - this.#exchange.startedMs);
      this.#cancelStream = clock.schedule(Math.max(leftMs, 0), () =>
        this.#timedOut(replies.streamTimeout(this.#isRequestComplete)),
      );
    }
  }

  #requestComplete(): void {
    this.#requestCompleteMs = performance.now();
    const { routeMs } = this.#plan.timeouts;
    if (routeMs > 0)
      this.#cancelRoute = this.#context.clock.schedule(routeMs, () => this.#timedOut(replies.routeTimeout));
    if (this.#attempt !== undefined && this.#at === "trying") this.#timeAttempt(this.#attempt);
  }

  #timeAttempt(attempt: Attempt): void {
    const { perTryMs, perTryIdleMs } = this.#plan.timeouts;
    const { clock } = this.#context;
    if (perTryMs > 0 && !attempt.isAnswered)
      attempt.cancelTimeout = clock.schedule(perTryMs, () => this.#tryTimedOut(attempt, replies.perTryTimeout));
    if (perTryIdleMs > 0) {
      this.#tryIdle?.cancel();
      this.#tryIdle = new IdleTimer(clock, perTryIdleMs, () => this.#tryTimedOut(attempt, replies.perTryIdleTimeout));
    }
  }

  #tryTimedOut(attempt: Attempt, reply: LocalReply): void {
    if (attempt !== this.#attempt || attempt.isOver) return;
    const isWaiting = this.#at === "trying";
    attempt.giveUp(isWaiting ? { kind: "timeout" } : undefined);
    if (isWaiting && this.#failedBefore("timeout")) return;
    this.#timedOut(reply);
  }

  #timedOut(reply: LocalReply): void {
    if (!this.#isLive()) return;
    this.#attempt?.giveUp(this.#at === "trying" ? { kind: "timeout" } : undefined);
    if (this.#at !== "answering") {
      this.#fail(reply);
      return;
    }
    if (reply.flag !== undefined) this.#exchange.flags.add(reply.flag);
    this.#exchange.responseCodeDetails = reply.details;
    this.#breakOff("local-reset");
  }

  // Ends.

  #isLive(): boolean {
    return this.#at !== "over";
  }

  /** The answer is complete. What is missing of the request is not wanted any more. */
  #ended(attempt: Attempt): void {
    if (!this.#isRequestComplete) attempt.dropRequest();
    this.#finish();
  }

  #breakOff(reason: ResetReason): void {
    this.#finish();
    this.#reader.reset(reason, this.#exchange.responseCodeDetails);
  }

  #fail(reply: LocalReply): void {
    if (!this.#isLive()) return;
    this.#finish();
    const told = this.#countsAttempts(reply);
    if (this.#isStarting) queueMicrotask(() => this.#reader.reply(told));
    else this.#reader.reply(told);
  }

  #countsAttempts(reply: LocalReply): LocalReply {
    const { attempts } = this.#exchange;
    if (!this.#plan.action.countsAttemptsInResponse || attempts === 0) return reply;
    const headers = reply.headers?.clone() ?? new Headers();
    headers.set("x-envoy-attempt-count", String(attempts));
    return { ...reply, headers };
  }

  #finish(): void {
    this.#at = "over";
    this.#attempt = undefined;
    this.#copy = undefined;
    this.#retryPermit?.release();
    this.#retryPermit = undefined;
    this.#idle?.cancel();
    this.#tryIdle?.cancel();
    this.#cancelRoute?.();
    this.#cancelStream?.();
    this.#cancelBackOff?.();
    if (this.#mirrors !== undefined) for (const mirror of this.#mirrors) mirror.requestLost();
  }

  #startMirrors(): void {
    const { clusters, clock, random } = this.#context;
    const { action, timeouts } = this.#plan;
    const mirrors = startMirrors(action.mirrors, this.#exchange, this.#endsWithHead, {
      clusters,
      clock,
      random,
      timeoutMs: timeouts.routeMs,
    });
    if (mirrors.length > 0) this.#mirrors = mirrors;
  }
}
