/**
 * The client side of HTTP/1.1 on one connection: one exchange at a time, the next one when both its messages are complete.
 * Any duplex will do: a socket, a TLS socket, the stream of a tunnel.
 */
import type { Duplex } from "node:stream";
import type { RequestHead, ResponseReader, UpstreamStream } from "./streams.ts";

/** What the pool wants to know. One object for many connections: no closures for each. */
export interface Http1ClientOwner {
  /** The exchange is over and the connection may carry another. Called outside of `send`, last thing on its stack. */
  connectionIdle(connection: Http1ClientConnection): void;
  /** Exactly once, when the connection cannot be used any more; what was in flight has been reset before. */
  connectionClosed(connection: Http1ClientConnection, error: Error | undefined): void;
}

export interface Http1ClientOptions {
  /** Of one response head, and of trailers. Default 60 KiB. */
  readonly maxHeadBytes?: number;
  /** Fields of one response head. Default 100. */
  readonly maxHeaders?: number;
  /** How names are written. `preserve` needs heads whose codec kept the spelling. Default `lower`. */
  readonly headerCase?: "lower" | "preserve" | "proper";
}

export declare class Http1ClientConnection {
  constructor(duplex: Duplex, owner: Http1ClientOwner, options?: Http1ClientOptions);
  /** Exchanges begun so far. */
  readonly exchanges: number;
  /** Open, idle, and not about to close: {@link send} may be called. */
  readonly isUsable: boolean;
  /** No exchange is under way. */
  readonly isIdle: boolean;
  /** Writes the head at once (together with the first piece of the body where that comes in the same turn). Only while `isUsable`. */
  send(head: RequestHead, endsWithHead: boolean, reader: ResponseReader): UpstreamStream;
  /** Closes: now when idle, otherwise after the exchange. */
  close(): void;
  /** Closes at once; an exchange under way is reset. */
  destroy(error?: Error): void;
}
