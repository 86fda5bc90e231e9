/** The server's end of tunnels: mutual TLS and HTTP/2 over accepted sockets, one event per CONNECT. */
import {
  constants,
  performServerHandshake,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerStreamResponseOptions,
} from "node:http2";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Ip } from "#shared/net/ip.ts";
import { handshakeDeadlineMs } from "#shared/tls/tls-options.ts";
import { TlsServer } from "#shared/tls/tls-server.ts";
import { readBaggage, type Baggage } from "./baggage.ts";
import { forwardedHost, forwardedPort } from "./forwarded.ts";
import { serverSessionOptions, widenConnectionWindow, type WindowSizes } from "./http2-settings.ts";
import { keepAlive } from "./keepalive.ts";
import { ResetBudget } from "./reset-budget.ts";

export interface SocketEnds {
  readonly local: { readonly ip: Ip; readonly port: number };
  readonly peer: { readonly ip: Ip; readonly port: number };
}

export interface ServerTunnel extends SocketEnds {
  /** Proven by the client's certificate. */
  readonly identity: SpiffeId;
}

/** What a client asks for. */
export interface IncomingConnect {
  readonly stream: ServerHttp2Stream;
  readonly tunnel: ServerTunnel;
  readonly method: string;
  readonly authority: string;
  /** `host` of `forwarded`. */
  readonly forwardedHost: string | undefined;
  /** Port in `for` of `forwarded`, where its address is the peer's own. */
  readonly forwardedPort: number | undefined;
  readonly traceparent: string | undefined;
  readonly forwardedNetwork: string | undefined;
  /** Read when asked for. */
  readonly baggage: () => Baggage;
}

export interface HboneServerOptions {
  readonly clock: Clock;
  readonly windows: WindowSizes;
  /** Streams that a client may have open at once on one connection. Default 200, as Istio's ztunnel. */
  readonly maxStreams?: number;
  /** The certificate to present now; an error refuses the connection. */
  readonly certificate: () => WorkloadCertificate | Promise<WorkloadCertificate>;
  /** Answers with {@link acceptConnect} or {@link refuseConnect}, or resets the stream. */
  readonly onConnect: (connect: IncomingConnect) => void;
  /** A connection that ended before it was a tunnel, or a tunnel that was broken off for its client's behaviour. */
  readonly onRefused: (ends: SocketEnds, why: string) => void;
  /** A socket is gone, whatever it was. */
  readonly onClosed?: () => void;
  /** Default {@link handshakeDeadlineMs}. */
  readonly handshakeMs?: number;
  /** Also accept TLS 1.2; 1.3 only otherwise. */
  readonly allowTls12?: boolean;
  /** Whether a client of another trust domain than our own may come. Default: none may. */
  readonly isMember?: (identity: SpiffeId) => boolean;
}

/**
 * A client opens a tunnel because it has a connection to carry. One that asks for nothing at all for this long is
 * turned away; afterwards it may stay idle for as long as it answers pings. Milliseconds.
 */
const firstConnectDeadlineMs = 120_000;

/** How long a client may take to answer the ping before a goodbye. Milliseconds. */
const goodbyeDeadlineMs = 500;

/**
 * Clients in the TLS handshake at once, about 60 KiB each. An honest one is through in milliseconds; so when there are
 * more, the one that takes longest makes room.
 */
export const maxHandshakes = 1_024;

export class HboneServer {
  readonly #options: HboneServerOptions;
  readonly #tls: TlsServer;
  readonly #sessions = new Set<ServerHttp2Session>();
  /** Accepted sockets that are no tunnels yet. */
  readonly #handshakes = new Set<Socket>();
  /** Those that have spoken, oldest first, and how to refuse each. */
  readonly #shaking = new Map<Socket, (why: string) => void>();
  #state: "serving" | "draining" | "closed" = "serving";

  constructor(options: HboneServerOptions) {
    this.#options = options;
    const { handshakeMs: deadlineMs = handshakeDeadlineMs, allowTls12 = false, isMember } = options;
    this.#tls = new TlsServer({ deadlineMs, allowTls12, isMember });
  }

  /** Sockets held: tunnels and those on their way to become one. */
  get size(): number {
    return this.#sessions.size + this.#handshakes.size;
  }

  /** Takes over an accepted socket. */
  accept(socket: Socket, ends: SocketEnds): void {
    const { certificate, clock, handshakeMs = handshakeDeadlineMs, onRefused, onClosed } = this.#options;
    this.#handshakes.add(socket);
    const refused = (why: string) => {
      socket.destroy();
      cancelDeadline();
      this.#shaking.delete(socket);
      if (this.#handshakes.delete(socket)) onRefused(ends, why);
    };
    socket.on("error", (error) => refused(explain(error)));
    socket.on("close", () => {
      refused("the client closed the connection during the TLS handshake");
      onClosed?.();
    });
    const begin = (current: WorkloadCertificate) => {
      if (socket.destroyed) return;
      try {
        this.#tls.handshake(socket, current, {
          refused,
          secured: (secure, identity) => {
            this.#handshakes.delete(socket);
            this.#shaking.delete(socket);
            this.#serve(secure, { ...ends, identity });
          },
        });
      } catch (error) {
        refused(explain(error));
      }
    };
    const cancelDeadline = clock.schedule(handshakeMs, () =>
      refused(`the client sent nothing within ${handshakeMs} ms`),
    );
    // TLS state is dear: a client gets it when it speaks. Thousands that only connect cost a socket each.
    socket.once("readable", () => {
      cancelDeadline();
      if (socket.destroyed) return;
      this.#makeRoom();
      this.#shaking.set(socket, refused);
      try {
        const now = certificate();
        if (now instanceof Promise) now.then(begin, (error: unknown) => refused(explain(error)));
        else begin(now);
      } catch (error) {
        refused(explain(error));
      }
    });
  }

  /** Tells every client to open no more streams here; those that are open go on. Resolves when all are told. */
  async drain(): Promise<void> {
    if (this.#state !== "serving") return;
    this.#state = "draining";
    await Promise.all([...this.#sessions].map((session) => this.#sayGoodbye(session)));
  }

  /** Breaks everything now. */
  close(): void {
    this.#state = "closed";
    for (const session of this.#sessions) session.destroy();
    for (const socket of this.#handshakes) socket.destroy();
  }

  /**
   * A goodbye refuses every stream that we have not read of yet, and Istio's ztunnel gives a connection up that is
   * refused. So first everything is read that the client sent before it answers a ping.
   */
  #sayGoodbye(session: ServerHttp2Session): Promise<void> {
    if (session.destroyed || session.closed) return Promise.resolve();
    return new Promise((resolve) => {
      const say = () => {
        cancel();
        session.close();
        resolve();
      };
      const cancel = this.#options.clock.schedule(goodbyeDeadlineMs, say);
      // The answer may have come in one piece with requests: they are read first.
      if (!session.ping(() => void setImmediate(say))) say();
    });
  }

  #makeRoom(): void {
    if (this.#shaking.size < maxHandshakes) return;
    const [oldest] = this.#shaking.values();
    oldest?.(`${maxHandshakes} others came to the TLS handshake since`);
  }

  #serve(socket: TLSSocket, tunnel: ServerTunnel): void {
    const { clock, windows, maxStreams, onConnect, onRefused } = this.#options;
    socket.on("error", () => {}); // the session hears of it too
    if (this.#state === "closed") {
      socket.destroy();
      return;
    }
    const session = performServerHandshake(socket, serverSessionOptions(windows, maxStreams));
    this.#sessions.add(session);
    session.on("error", () => {}); // every stream hears of it, and `close` follows
    session.once("close", () => {
      cancelDeadline();
      this.#sessions.delete(session);
    });
    widenConnectionWindow(session, windows);
    keepAlive(session, socket, clock, () => session.destroy());
    const cancelDeadline = clock.schedule(firstConnectDeadlineMs, () => session.close());
    session.once("stream", cancelDeadline);
    const resets = new ResetBudget(clock);
    const onStreamClosed = function (this: ServerHttp2Stream) {
      const isTakenBack = !this.headersSent && this.rstCode !== constants.NGHTTP2_NO_ERROR;
      if (!isTakenBack || session.destroyed || resets.take()) return;
      session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
      onRefused(tunnel, "the client resets streams faster than it can be served");
    };
    session.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _flags: number, raw: string[]) => {
      stream.once("close", onStreamClosed);
      onConnect(incomingConnect(stream, tunnel, headers, raw));
    });
    if (this.#state === "draining") void this.#sayGoodbye(session);
  }
}

function incomingConnect(
  stream: ServerHttp2Stream,
  tunnel: ServerTunnel,
  headers: IncomingHttpHeaders,
  raw: readonly string[],
): IncomingConnect {
  return {
    stream,
    tunnel,
    method: headers[":method"] ?? "",
    authority: headers[":authority"] ?? "",
    forwardedHost: forwardedHost(single(headers.forwarded)),
    forwardedPort: forwardedPort(single(headers.forwarded), tunnel.peer.ip),
    traceparent: single(headers["traceparent"]),
    forwardedNetwork: single(headers["x-forwarded-network"]),
    baggage: () => readBaggage(linesOf(raw, "baggage")),
  };
}

const single = (value: string | string[] | undefined): string | undefined =>
  Array.isArray(value) ? value.join(",") : value;

/** Every line of one header; node:http2 would join them. */
function linesOf(raw: readonly string[], name: string): readonly string[] {
  return raw.filter((_, index) => index % 2 === 1 && raw[index - 1] === name);
}

/** The types omit `sendDate`; a tunnel's answer has no use for a date. */
const withoutDate = { sendDate: false } as ServerStreamResponseOptions;

/** Says that the application is connected; data may flow. False where the client has gone meanwhile. */
export function acceptConnect(stream: ServerHttp2Stream, baggage: string | undefined): boolean {
  if (stream.destroyed || stream.closed) return false;
  stream.respond(baggage === undefined ? { ":status": 200 } : { ":status": 200, baggage }, withoutDate);
  return true;
}

/** Headers alone end the stream, which must not have been read from. */
export function refuseConnect(stream: ServerHttp2Stream, status: 400 | 401 | 403 | 404 | 503): void {
  if (stream.destroyed || stream.closed) return;
  stream.on("error", () => {});
  // Node resets the stream once the answer is out, as nobody reads it; a reset of ours could overtake the answer.
  stream.respond({ ":status": status }, { ...withoutDate, endStream: true });
}
