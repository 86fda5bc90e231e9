/** The client's end of a tunnel: one HTTP/2 connection over mutual TLS, on which CONNECT streams are opened. */
import { STATUS_CODES } from "node:http";
import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { Clock } from "#shared/clock/clock.ts";
import { codeOf, MeshError } from "#shared/errors/mesh-error.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import { connectTls, type TlsClientOptions } from "#shared/tls/tls-client.ts";
import { clientSessionOptions, widenConnectionWindow, type WindowSizes } from "./http2-settings.ts";
import { keepAlive } from "./keepalive.ts";

export interface HboneClientOptions extends TlsClientOptions {
  readonly windows: WindowSizes;
  /** Streams that we open at most on one connection; the peer's own limit may be lower. */
  readonly maxStreams: number;
}

export interface ConnectHeaders {
  /** `ip:port`, `[ip]:port` or `hostname:port`. */
  readonly authority: string;
  readonly baggage: string;
  readonly forwarded: string;
  readonly traceparent: string;
  /** Inner tunnel of two only. */
  readonly forwardedNetwork?: string;
}

/** An answered CONNECT; the stream is the application's connection from now on. */
export interface Tunnel {
  readonly stream: ClientHttp2Stream;
  /** Who the peer proved to be. */
  readonly identity: SpiffeId;
  /** `baggage` of the answer. */
  readonly baggage: readonly string[];
}

/** How long a peer may take to reach the application; ztunnel gives itself 10 s for that. Milliseconds. */
const connectResponseDeadlineMs = 60_000;
/** How long a peer may take to send its SETTINGS after TLS stands. Milliseconds. */
const settingsDeadlineMs = 10_000;

/** A CONNECT that the peer certainly did not act on: it may be sent again on another connection. */
export class UnprocessedConnect extends MeshError {
  constructor(cause: unknown) {
    super("HBONE_PROTOCOL", "Cannot open a stream: the tunnel is closing", cause);
  }
}

export class HboneConnection {
  readonly identity: SpiffeId;
  readonly #session: ClientHttp2Session;
  readonly #clock: Clock;
  #maxStreams: number;
  #streams = 0;
  #onStreamEnded: () => void = () => {};

  private constructor(
    session: ClientHttp2Session,
    socket: TLSSocket,
    { identity, clock, maxStreams }: { identity: SpiffeId; clock: Clock; maxStreams: number },
  ) {
    this.#session = session;
    this.identity = identity;
    this.#clock = clock;
    this.#maxStreams = maxStreams;
    session.on("remoteSettings", ({ maxConcurrentStreams = maxStreams }) => {
      this.#maxStreams = Math.min(maxStreams, maxConcurrentStreams);
    });
    keepAlive(session, socket, clock, () => this.destroy(tunnelDead()));
  }

  /**
   * Sets up TLS and HTTP/2 over a transport (still connecting, or connected), which it owns from then on.
   *
   * @throws MeshError as {@link connectTls}, or HBONE_PROTOCOL
   */
  static async open(transport: Duplex, options: HboneClientOptions): Promise<HboneConnection> {
    const { socket, identity } = await connectTls(transport, options);
    const session = connect("https://hbone", {
      ...clientSessionOptions(options.windows, options.maxStreams),
      createConnection: () => socket,
    });
    widenOnConnect(session, options.windows);
    const connection = new HboneConnection(session, socket, { ...options, identity });
    await settingsOf(session, socket, options.clock);
    return connection;
  }

  /** Streams open, those waiting for their answer included. */
  get streams(): number {
    return this.#streams;
  }

  get isUsable(): boolean {
    return !this.#session.closed && !this.#session.destroyed;
  }

  /** Whether another stream may be opened now. */
  get hasRoom(): boolean {
    return this.isUsable && this.#streams < this.#maxStreams;
  }

  /** Takes room for one stream; whoever got it calls {@link connect} exactly once. */
  reserve(): boolean {
    if (!this.hasRoom) return false;
    this.#streams++;
    return true;
  }

  /** `action` runs whenever a stream has ended. */
  onStreamEnded(action: () => void): void {
    this.#onStreamEnded = action;
  }

  onClosed(action: () => void): void {
    if (this.#session.destroyed) action();
    else this.#session.once("close", action);
  }

  /**
   * Asks the peer to connect, in the room that {@link reserve} took. Resolves when it has: only status 200 counts.
   *
   * @throws UnprocessedConnect, or MeshError HBONE_REFUSED or HBONE_PROTOCOL
   */
  connect(headers: ConnectHeaders): Promise<Tunnel> {
    const stream = this.#session.request(requestHeaders(headers), { endStream: false });
    stream.once("close", () => {
      this.#streams--;
      this.#onStreamEnded();
    });
    return new Promise((resolve, reject) => {
      const fail = (error: MeshError) => {
        cancel();
        stream.close(constants.NGHTTP2_CANCEL);
        reject(error);
      };
      const onError = (error: Error) => fail(streamError(stream, error));
      const onClose = () => fail(streamError(stream, undefined));
      const cancel = this.#clock.schedule(connectResponseDeadlineMs, () => {
        const message = `Cannot open a tunnel to "${headers.authority}": no answer within ${connectResponseDeadlineMs} ms`;
        fail(new MeshError("HBONE_PROTOCOL", message));
      });
      stream.on("error", onError);
      stream.once("close", onClose);
      stream.once("response", (response) => {
        cancel();
        stream.off("close", onClose);
        stream.off("error", onError);
        // Whoever takes the stream over comes a microtask later, and an error may be on its way already.
        stream.on("error", () => {});
        const status = response[":status"];
        if (status === 200) {
          const { baggage } = response;
          resolve({
            stream,
            identity: this.identity,
            baggage: typeof baggage === "string" ? [baggage] : (baggage ?? []),
          });
        } else {
          const said = `http status: ${status} ${STATUS_CODES[status ?? 0] ?? "<unknown status code>"}`;
          fail(new MeshError("HBONE_REFUSED", `Cannot open a tunnel to "${headers.authority}": ${said}`));
        }
      });
    });
  }

  /** No further stream; closes when the last one has ended. */
  retire(): void {
    this.#session.close();
  }

  /** Streams that are open hear of the error, here and at the peer, for whom a mere goodbye would look like their end. */
  destroy(error?: Error): void {
    this.#session.destroy(error, this.#streams > 0 ? constants.NGHTTP2_INTERNAL_ERROR : constants.NGHTTP2_NO_ERROR);
  }
}

const tunnelDead = () => new MeshError("HBONE_PROTOCOL", "The tunnel's peer does not answer pings any more");

/** The connection's window can be set once the session has its handle. */
function widenOnConnect(session: ClientHttp2Session, windows: WindowSizes): void {
  if (session.connecting) session.once("connect", () => widenConnectionWindow(session, windows));
  else widenConnectionWindow(session, windows);
}

/** Pairs of names and values: node:http2 takes them as they are. */
function requestHeaders(headers: ConnectHeaders): string[] {
  const pairs = [":method", "CONNECT", ":authority", headers.authority];
  pairs.push("baggage", headers.baggage, "forwarded", headers.forwarded, "traceparent", headers.traceparent);
  if (headers.forwardedNetwork !== undefined) pairs.push("x-forwarded-network", headers.forwardedNetwork);
  return pairs;
}

/** Waits for the peer's SETTINGS, so that its limit of streams is known before the first is opened. */
function settingsOf(session: ClientHttp2Session, socket: TLSSocket, clock: Clock): Promise<void> {
  return new Promise((resolve, reject) => {
    let failure: Error | undefined;
    const onClose = () => {
      cancel();
      reject(
        new MeshError("HBONE_PROTOCOL", "Cannot set up HTTP/2 with the peer", failure ?? socket.errored ?? undefined),
      );
    };
    const cancel = clock.schedule(settingsDeadlineMs, () => {
      session.destroy(new Error(`no SETTINGS within ${settingsDeadlineMs} ms`));
    });
    session.on("error", (error) => (failure ??= error));
    session.once("close", onClose);
    session.once("remoteSettings", () => {
      cancel();
      session.off("close", onClose);
      resolve();
    });
  });
}

function streamError(stream: ClientHttp2Stream, error: Error | undefined): MeshError {
  const code = codeOf(error);
  const unprocessed =
    stream.rstCode === constants.NGHTTP2_REFUSED_STREAM ||
    code === "ERR_HTTP2_GOAWAY_SESSION" ||
    code === "ERR_HTTP2_INVALID_SESSION" ||
    (code === "ERR_HTTP2_STREAM_CANCEL" && stream.id === undefined);
  if (unprocessed) return new UnprocessedConnect(error);
  const how = stream.rstCode === undefined ? "" : ` with code ${stream.rstCode}`;
  return new MeshError(
    "HBONE_PROTOCOL",
    `Cannot open a tunnel: the peer closed the stream before answering${how}`,
    error,
  );
}
