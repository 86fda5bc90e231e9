/** A client's connection on an HTTP chain: chooses the codec, and leads its requests to the chain now in force. */
import type { Duplex } from "node:stream";
import { explain } from "#shared/errors/mesh-error.ts";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import { Http1ServerConnection } from "#waypoint/http/http1-server.ts";
import type { Http1Failure } from "#waypoint/http/http1-syntax.ts";
import { Http2ServerConnection, type Http2Refusal } from "#waypoint/http/http2-server.ts";
import type { DownstreamStream } from "#waypoint/http/streams.ts";
import type { Sweeper } from "#waypoint/http/sweeper.ts";
import type { ConnectionRefusal } from "#waypoint/layers/network-layer.ts";
import type { ChainFacts } from "./chain-match.ts";
import type { Chain } from "./compiled-listener.ts";
import { runExchange } from "./exchange-runner.ts";
import type { HttpChain } from "./http-chain.ts";
import { startsWithPreface } from "./inspect.ts";
import { LayeredConnection } from "./network-layers.ts";
import { peek } from "./peek.ts";
import { reportRefused } from "./refused-request.ts";
import type { ServedConnection } from "./served-connection.ts";

export interface HttpConnectionDeps {
  readonly sweeper: Sweeper;
  /** Once, last. */
  readonly onClosed: (connection: HttpConnection) => void;
}

export type HttpProtocol = "HTTP/1" | "HTTP/2";

export class HttpConnection implements ServedConnection {
  readonly facts: ChainFacts;
  readonly chain: string;
  readonly connection: DownstreamConnection;
  readonly #duplex: Duplex;
  readonly #deps: HttpConnectionDeps;
  readonly #layered: LayeredConnection;
  #current: HttpChain;
  #codec: Http1ServerConnection | Http2ServerConnection | undefined;
  #requests = 0;
  #isDraining = false;
  #isClosed = false;
  #cancelAge: (() => void) | undefined;

  constructor(
    chain: HttpChain,
    facts: ChainFacts,
    connection: DownstreamConnection,
    duplex: Duplex,
    deps: HttpConnectionDeps,
  ) {
    this.#current = chain;
    this.chain = chain.name;
    this.facts = facts;
    this.connection = connection;
    this.#duplex = duplex;
    this.#deps = deps;
    this.#layered = new LayeredConnection(connection, chain.networkLayers);
  }

  /** @param protocol what inspection has found already */
  start(protocol: HttpProtocol | undefined): void {
    const duplex = this.#duplex;
    duplex.on("error", onLateError);
    duplex.once("close", this.#onGone);
    if (this.#current.networkLayers.length === 0) {
      this.#chooseCodec(protocol);
      return;
    }
    const refusal = this.#layered.ask();
    if (refusal instanceof Promise) void refusal.then((answer) => this.#admitted(answer, protocol));
    else this.#admitted(refusal, protocol);
  }

  /** Codecs keep what they were made with: other settings need another connection. */
  adopt(chain: Chain): boolean {
    if (chain === this.#current) return true;
    if (chain.kind !== "http" || chain.codec.key !== this.#current.codec.key) return false;
    this.#current = chain;
    if (chain.networkLayers.length > 0) this.#askAgain(chain);
    return true;
  }

  leave(): void {
    this.#isDraining = true;
    // HTTP/2 can say goodbye, and still serve what is on its way.
    if (this.#codec instanceof Http2ServerConnection) this.#codec.drain();
  }

  drain(): void {
    this.#isDraining = true;
    if (this.#codec !== undefined) this.#codec.drain();
  }

  abort(_why: string): void {
    this.#duplex.destroy();
  }

  // What a codec tells.

  onRequest(stream: DownstreamStream, codec: Http1ServerConnection | Http2ServerConnection): void {
    const chain = this.#current;
    this.#requests += 1;
    const { maxRequestsPerConnection } = chain.codec;
    if (this.#isDraining || (maxRequestsPerConnection > 0 && this.#requests >= maxRequestsPerConnection)) codec.drain();
    runExchange(chain, this.connection, stream);
  }

  onRefused(refusal: Http1Failure | Http2Refusal, _codec?: unknown, wasRequest = false): void {
    if (!wasRequest) reportRefused(this.#current, this.connection, { protocol: "HTTP/1.1", ...refusal });
  }

  onClosed(_codec: unknown, error: Error | undefined): void {
    if (error !== undefined) {
      this.#current.log.debug({ connection: this.connection.id, error: explain(error) }, "connection broke");
    }
    this.#closed();
  }

  /** Its policies have changed. */
  #askAgain({ networkLayers }: HttpChain): void {
    const layered = new LayeredConnection(this.connection, networkLayers);
    const settle = (refusal: ConnectionRefusal | undefined) => {
      layered.end();
      if (refusal !== undefined) this.abort(refusal.details);
    };
    const refusal = layered.ask();
    if (refusal instanceof Promise) void refusal.then(settle);
    else settle(refusal);
  }

  #admitted(refusal: ConnectionRefusal | undefined, protocol: HttpProtocol | undefined): void {
    if (this.#isClosed) return;
    if (refusal === undefined) this.#chooseCodec(protocol);
    else this.abort(refusal.details);
  }

  #chooseCodec(found: HttpProtocol | undefined): void {
    const { protocol: told, idleTimeoutMs } = this.#current.codec;
    const protocol = told === "auto" ? found : told;
    if (protocol !== undefined) {
      this.#serve(protocol);
      return;
    }
    peek<HttpProtocol>(this.#duplex, {
      clock: this.#current.clock,
      look: (bytes, isEnd) => {
        switch (startsWithPreface(bytes)) {
          case "yes":
            return "HTTP/2";
          case "no":
            return "HTTP/1";
          case "perhaps":
            return isEnd ? "HTTP/1" : undefined;
        }
      },
      deadlineMs: idleTimeoutMs,
      onDeadline: () => this.abort("idle"),
      onSeen: (seen) => this.#serve(seen),
      onGone: () => this.#duplex.destroy(),
    });
  }

  #serve(protocol: HttpProtocol): void {
    if (this.#isClosed) return;
    const { codec, clock } = this.#current;
    this.#duplex.off("close", this.#onGone);
    if (codec.maxConnectionDurationMs > 0) {
      this.#cancelAge = clock.schedule(codec.maxConnectionDurationMs, () => this.drain());
    }
    this.#codec =
      protocol === "HTTP/2"
        ? new Http2ServerConnection(this.#duplex, this, codec.http2, clock)
        : new Http1ServerConnection(this.#duplex, this, codec.http1, this.#deps.sweeper);
  }

  readonly #onGone = () => this.#closed();

  #closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelAge?.();
    this.#layered.end();
    this.#deps.onClosed(this);
  }
}

const onLateError = () => {};
