/**
 * Leads one request through its chain: rules for its head, route, layers, router; and the answer back. Everything happens
 * at once unless a layer has to wait. However it ends, it ends once.
 */
import { explain } from "#shared/errors/mesh-error.ts";
import { Exchange, type DownstreamConnection, type LocalReply } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import { renderLocalReply } from "#waypoint/http/local-reply.ts";
import { normalisePath } from "#waypoint/http/normalise-path.ts";
import type {
  BodyReader,
  DownstreamStream,
  ResetReason,
  ResponseHead,
  UpstreamStream,
} from "#waypoint/http/streams.ts";
import type { BodyTransform, LayerResult, RequestBody } from "#waypoint/layers/layer.ts";
import type { CompiledRoute, ForwardAction } from "#waypoint/routing/compiled-route.ts";
import type { ForwardReader } from "#waypoint/routing/router-contract.ts";
import { GrpcMessageCounter } from "#waypoint/telemetry/grpc-messages.ts";
import type { HttpChain } from "./http-chain.ts";

/** A request's body as far as a layer asked for it. */
interface Peek {
  readonly maxBytes: number;
  readonly resolve: (peeked: { readonly bytes: Buffer; readonly isComplete: boolean }) => void;
}

const noRoute: LocalReply = { status: 404, details: "route_not_found", flag: "NR" };
const upgradeRefused: LocalReply = { status: 403, details: "upgrade_failed" };
const requestTooSlow: LocalReply = { status: 408, body: "request timeout", details: "request_overall_timeout" };
/** It is not what its head says. */
const bodyRefused: LocalReply = { status: 400, body: "malformed request body", details: "request_body_malformed" };
const layerFailed: LocalReply = { status: 500, details: "filter_failed" };

/** Called by a codec for each request of a connection. */
export function runExchange(chain: HttpChain, connection: DownstreamConnection, stream: DownstreamStream): void {
  const run = new ExchangeRun(chain, connection, stream);
  try {
    run.start();
  } catch (error) {
    run.broke(error);
  }
}

class ExchangeRun implements BodyReader, RequestBody {
  readonly exchange: Exchange;
  readonly stream: DownstreamStream;
  readonly #chain: HttpChain;
  readonly #pathRefusal: LocalReply | undefined;
  /** `answering`: an answer of our own is on its way; nothing else may be said. */
  #at: "layers" | "forwarding" | "answering" | "over" = "layers";
  #nextLayer = 0;
  #upstream: UpstreamStream | undefined;
  #isReading = false;
  #isRequestComplete: boolean;
  #requestTrailers: Headers | undefined;
  /** What layers have made us read before there is anywhere to send it. */
  #held: Buffer[] | undefined;
  #heldBytes = 0;
  #peeks: Peek[] | undefined;
  #cancelTimeout: (() => void) | undefined;
  /** Of gRPC calls only. */
  #messages: { readonly received: GrpcMessageCounter; readonly sent: GrpcMessageCounter } | undefined;
  /** Of layers that change bodies. */
  #transforms: readonly BodyTransform[] | undefined;

  constructor(chain: HttpChain, connection: DownstreamConnection, stream: DownstreamStream) {
    this.#chain = chain;
    this.stream = stream;
    this.#isRequestComplete = stream.endsWithHead;
    const { request } = stream;
    chain.rules.apply(request, stream.protocol, connection);
    this.#pathRefusal = normalisePath(request, chain.rules.settings.path);
    this.exchange = new Exchange(connection, stream, performance.now(), Date.now());
  }

  start(): void {
    const { exchange } = this;
    const { observers, routes, requestTimeoutMs, clock } = this.#chain;
    if (this.#pathRefusal === undefined) exchange.route = routes.match(exchange);
    for (const observer of observers) observer.onStart?.(exchange);
    if (this.#pathRefusal !== undefined) {
      this.#answer(this.#pathRefusal);
      return;
    }
    if (requestTimeoutMs > 0 && !this.#isRequestComplete) {
      this.#cancelTimeout = clock.schedule(requestTimeoutMs, () => this.#giveUp(requestTooSlow));
    }
    if (observers.length > 0 && exchange.isGrpc) {
      this.#messages = { received: new GrpcMessageCounter(), sent: new GrpcMessageCounter() };
    }
    if (exchange.request.upgrade !== undefined && !this.#allowsUpgrade(exchange.request.upgrade, exchange.route)) {
      this.#answer(upgradeRefused);
      return;
    }
    this.#runLayers();
  }

  #allowsUpgrade(upgrade: string, route: CompiledRoute | undefined): boolean {
    const own = route?.action.kind === "forward" ? route.action.upgrades.get(upgrade) : undefined;
    return own ?? this.#chain.upgrades.has(upgrade);
  }

  #runLayers(): void {
    const { layers } = this.#chain;
    const { request } = layers;
    const { exchange } = this;
    while (this.#nextLayer < request.length) {
      const stacked = request[this.#nextLayer++];
      if (stacked === undefined || !layers.isOn(stacked, exchange.route)) continue;
      const { route } = exchange;
      let result: LayerResult | Promise<LayerResult>;
      try {
        result = stacked.layer.onRequest?.(exchange, this);
      } catch (error) {
        this.#layerFailed(stacked.layer.name, error);
        return;
      }
      if (result instanceof Promise) {
        void this.#awaitLayer(stacked.layer.name, result, route);
        return;
      }
      if (result !== undefined) {
        this.#answer(result);
        return;
      }
      this.#routeAgain(route);
    }
    this.#forward();
  }

  async #awaitLayer(name: string, waiting: Promise<LayerResult>, route: CompiledRoute | undefined): Promise<void> {
    // Without a body nothing but its loss can be told of the client: listen for that.
    if (this.#isRequestComplete) this.#read();
    let result: LayerResult;
    try {
      result = await waiting;
    } catch (error) {
      if (this.#at === "layers") this.#layerFailed(name, error);
      return;
    }
    if (this.#at !== "layers") return;
    if (result !== undefined) {
      this.#answer(result);
      return;
    }
    try {
      this.#routeAgain(route);
      this.#runLayers();
    } catch (error) {
      this.broke(error);
    }
  }

  /** A mistake of ours costs this one request. */
  broke(error: unknown): void {
    const stack = error instanceof Error ? error.stack : undefined;
    this.#chain.log.error({ error: explain(error), stack }, "a request failed unexpectedly");
    if (this.#at === "over") return;
    const upstream = this.#upstream;
    this.stream.reset("local-reset");
    this.#finish(undefined);
    upstream?.reset("local-reset");
  }

  /** A layer has changed what routes match on. */
  #routeAgain(before: CompiledRoute | undefined): void {
    const { exchange } = this;
    if (exchange.route === undefined && before !== undefined) exchange.route = this.#chain.routes.match(exchange);
  }

  /** A layer that fails may have been there to refuse. */
  #layerFailed(layer: string, error: unknown): void {
    this.#chain.log.error({ layer, error: explain(error) }, "a layer failed: request refused");
    this.#answer(layerFailed);
  }

  #forward(): void {
    const { exchange, stream } = this;
    const route = (exchange.route ??= this.#chain.routes.match(exchange));
    if (route === undefined) {
      this.#answer(noRoute);
      return;
    }
    if (route.action.kind === "reply") {
      this.#answer(route.action.reply(exchange));
      return;
    }
    route.editRequest(exchange);
    this.#transforms = this.#chain.layers.transforms(exchange);
    this.#at = "forwarding";
    const endsNow = this.#isRequestComplete && this.#held === undefined;
    const forwarded = route as CompiledRoute & { readonly action: ForwardAction };
    const upstream = this.#chain.router.forward(exchange, forwarded, endsNow, new AnswerSide(this));
    this.#upstream = upstream;
    if (!this.#isReading) this.#read();
    else if (!endsNow) this.#sendHeld(upstream, stream);
  }

  #sendHeld(upstream: UpstreamStream, stream: DownstreamStream): void {
    let takesMore = true;
    for (const chunk of this.#held ?? []) takesMore = this.#sendOn(upstream, chunk);
    this.#held = undefined;
    if (this.#isRequestComplete) upstream.end(this.#requestTrailers);
    else if (takesMore) stream.resume();
    else stream.pause();
  }

  /** Whether upstream takes more. */
  #sendOn(upstream: UpstreamStream, chunk: Buffer): boolean {
    if (this.#transforms === undefined) return upstream.write(chunk);
    let changed = chunk;
    try {
      for (const transform of this.#transforms) changed = transform.request(changed);
    } catch {
      this.#giveUp(bodyRefused);
      return true;
    }
    return changed.length === 0 || upstream.write(changed);
  }

  #read(): void {
    if (this.#isReading) return;
    this.#isReading = true;
    this.stream.read(this);
  }

  // The request's body, as layers see it.

  peek(maxBytes: number): Promise<{ readonly bytes: Buffer; readonly isComplete: boolean }> {
    return new Promise((resolve) => {
      this.#peeks ??= [];
      this.#peeks.push({ maxBytes, resolve });
      this.#servePeeks();
      if (this.#peeks.length === 0) return;
      if (this.#isReading) this.stream.resume();
      else this.#read();
    });
  }

  #servePeeks(): void {
    const peeks = this.#peeks;
    if (peeks === undefined || peeks.length === 0) return;
    const isComplete = this.#isRequestComplete;
    const waiting = peeks.filter((peek) => {
      if (!isComplete && this.#heldBytes < peek.maxBytes) return true;
      const bytes = this.#held === undefined ? Buffer.alloc(0) : Buffer.concat(this.#held);
      const isAll = isComplete && bytes.length <= peek.maxBytes;
      peek.resolve({ bytes: bytes.subarray(0, peek.maxBytes), isComplete: isAll });
      return false;
    });
    this.#peeks = waiting;
    if (waiting.length === 0 && !isComplete && this.#isReading) this.stream.pause();
  }

  // The request's body, as it comes.

  data(chunk: Buffer): void {
    this.#messages?.received.data(chunk);
    if (this.#at === "forwarding") {
      if (this.#upstream !== undefined && !this.#sendOn(this.#upstream, chunk)) this.stream.pause();
    } else if (this.#at === "layers") {
      this.#held ??= [];
      this.#held.push(chunk);
      this.#heldBytes += chunk.length;
      this.#servePeeks();
    }
  }

  end(trailers: Headers | undefined): void {
    this.#isRequestComplete = true;
    this.#requestTrailers = trailers;
    this.#cancelTimeout?.();
    if (this.#at === "forwarding") this.#upstream?.end(trailers);
    else if (this.#at === "layers") {
      if (trailers !== undefined) this.#held ??= [];
      this.#servePeeks();
    }
  }

  /** The client went away, or broke the protocol. */
  reset(reason: ResetReason, detail: string): void {
    if (this.#at === "over") return;
    const { exchange } = this;
    const isProtocolError = reason === "protocol-error";
    const { flag, details } = isProtocolError
      ? ({ flag: "DPE", details: detail.replaceAll(" ", "_") } as const)
      : reason === "connection-termination"
        ? ({ flag: "DC", details: "downstream_remote_disconnect" } as const)
        : ({ flag: "DR", details: "http2.remote_reset" } as const);
    exchange.flags.add(flag);
    if (exchange.responseCodeDetails === "" || exchange.response === undefined) exchange.responseCodeDetails = details;
    // The codec of HTTP/1 has a word for it, which it says by itself.
    if (isProtocolError && exchange.response === undefined && this.stream.protocol !== "HTTP/2") {
      exchange.response = { status: 400, headers: new Headers() };
    }
    const upstream = this.#upstream;
    this.#finish(undefined);
    upstream?.reset("local-reset");
  }

  /** The client takes more of the answer. */
  drained(): void {
    this.#upstream?.resume();
  }

  // The answer.

  answerInterim(head: ResponseHead): void {
    if (this.#at === "forwarding") this.stream.inform(head);
  }

  answerHead(head: ResponseHead, endsWithHead: boolean): void {
    if (this.#at !== "forwarding") return;
    const { exchange } = this;
    if (exchange.responseCodeDetails === "") exchange.responseCodeDetails = "via_upstream";
    exchange.route?.editResponse(exchange, head);
    this.#respond(head, endsWithHead);
    if (endsWithHead) this.#finish(undefined);
  }

  answerData(chunk: Buffer): void {
    if (this.#at !== "forwarding") return;
    this.#messages?.sent.data(chunk);
    const bytes = this.#transforms === undefined ? chunk : this.#changed(chunk, this.#transforms);
    if (bytes.length > 0 && !this.stream.write(bytes)) this.#upstream?.pause();
  }

  #changed(chunk: Buffer, transforms: readonly BodyTransform[]): Buffer {
    let changed = chunk;
    for (const transform of transforms.toReversed()) changed = transform.response(changed);
    return changed;
  }

  answerEnd(trailers: Headers | undefined): void {
    if (this.#at !== "forwarding") return;
    let own = trailers;
    for (const transform of this.#transforms?.toReversed() ?? []) {
      const { rest, trailers: left } = transform.responseEnd(own);
      if (rest !== undefined) this.stream.write(rest);
      own = left;
    }
    this.stream.end(own);
    this.#finish(trailers);
  }

  /** The router has no answer from upstream. */
  answerLocally(reply: LocalReply): void {
    if (this.#at === "forwarding") this.#answer(reply);
  }

  answerReset(reason: ResetReason): void {
    if (this.#at !== "forwarding") return;
    this.#upstream = undefined;
    this.stream.reset(reason);
    this.#finish(undefined);
  }

  /** More of the request may be written. */
  upstreamDrained(): void {
    if (this.#at === "forwarding" && this.#isReading && !this.#isRequestComplete) this.stream.resume();
  }

  #giveUp(reply: LocalReply): void {
    if (this.#at === "over") return;
    const upstream = this.#upstream;
    this.#upstream = undefined;
    if (this.exchange.response === undefined) this.#answer(reply);
    else {
      this.stream.reset("local-reset");
      this.#finish(undefined);
    }
    upstream?.reset("local-reset");
  }

  #answer(reply: LocalReply): void {
    if (this.#at === "over") return;
    this.#at = "answering";
    const { exchange, stream } = this;
    const { head, body } = renderLocalReply(exchange, reply, (answer) => {
      if (reply.isFinal !== true) exchange.route?.editResponse(exchange, answer);
    });
    const isEmpty = body === undefined || body.length === 0;
    this.#respond(head, isEmpty);
    if (!isEmpty) {
      stream.write(body);
      stream.end();
    }
    this.#finish(undefined);
  }

  #respond(head: ResponseHead, endsWithHead: boolean): void {
    const { exchange } = this;
    const { layers, answers, log } = this.#chain;
    exchange.response = head;
    try {
      layers.onResponse(exchange, head);
    } catch (error) {
      log.error({ error: explain(error) }, "a layer failed on an answer, which goes out as it is");
    }
    answers.apply(head, exchange.request.headers);
    this.stream.respond(head, endsWithHead);
  }

  #finish(responseTrailers: Headers | undefined): void {
    if (this.#at === "over") return;
    this.#at = "over";
    this.#cancelTimeout?.();
    this.#held = undefined;
    this.#upstream = undefined;
    const { exchange, stream } = this;
    const { layers, observers, log } = this.#chain;
    if (this.#peeks !== undefined) this.#endPeeks();
    const end = {
      responseTrailers,
      bytesReceived: stream.bytesRead,
      bytesSent: stream.bytesWritten,
      durationMs: performance.now() - exchange.startedMs,
      messages: this.#messages && { received: this.#messages.received.messages, sent: this.#messages.sent.messages },
    };
    layers.onEnd(exchange, end, (layer, error) =>
      log.error({ layer, error: explain(error) }, "a layer failed at the end"),
    );
    for (const observer of observers) observer.onEnd(exchange, end);
  }

  /** Whoever still waits for a body gets what there is: its answer counts no more. */
  #endPeeks(): void {
    for (const { resolve } of this.#peeks ?? []) resolve({ bytes: Buffer.alloc(0), isComplete: false });
    this.#peeks = undefined;
  }
}

/** The answer's side: its events have the same names as those of the request's body. */
class AnswerSide implements ForwardReader {
  readonly #run: ExchangeRun;

  constructor(run: ExchangeRun) {
    this.#run = run;
  }

  inform(head: ResponseHead): void {
    this.#run.answerInterim(head);
  }

  head(head: ResponseHead, endsWithHead: boolean): void {
    this.#run.answerHead(head, endsWithHead);
  }

  data(chunk: Buffer): void {
    this.#run.answerData(chunk);
  }

  end(trailers: Headers | undefined): void {
    this.#run.answerEnd(trailers);
  }

  reply(reply: LocalReply): void {
    this.#run.answerLocally(reply);
  }

  reset(reason: ResetReason): void {
    this.#run.answerReset(reason);
  }

  drained(): void {
    this.#run.upstreamDrained();
  }
}
