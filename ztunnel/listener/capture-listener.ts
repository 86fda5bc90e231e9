/** Serves a listening socket of a pod until it is drained. What it accepts is counted and can be waited for. */
import { createServer, type Server, type Socket } from "node:net";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { endsOf, type SocketEnds } from "#shared/sockets/socket-ends.ts";
import { ConnectionSet } from "./connection-set.ts";

export interface Accepted extends SocketEnds {
  readonly socket: Socket;
}

export interface CaptureListenerOptions {
  /** A socket that listens already; owned from here on. */
  readonly fd: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** Do not read before the handler asks to: for connections whose peer has to wait for us. */
  readonly paused: boolean;
  readonly onAccept: (accepted: Accepted) => void;
}

/** How long connections may go on once no new ones are accepted; 0 breaks them at once. */
export interface StopOptions {
  readonly deadlineMs: number;
}

/** Turns of the event loop without a connection after which the queue is empty: the first may not have looked. */
const turnsToBeSure = 3;
/** More than the kernel keeps for us: callers who come as fast as we take them do not hold up a drain. */
const queueLength = 512;

export class CaptureListener {
  /** Connections that a drain waits for: the handler adds and removes them. */
  readonly connections = new ConnectionSet();
  readonly #server: Server;
  readonly #clock: Clock;
  #accepted = 0;

  private constructor(server: Server, clock: Clock) {
    this.#server = server;
    this.#clock = clock;
    server.on("connection", () => this.#accepted++);
  }

  static async open({ fd, clock, log, paused, onAccept }: CaptureListenerOptions): Promise<CaptureListener> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: paused, noDelay: true }, (socket) => {
      const ends = endsOf(socket);
      if (ends === undefined) socket.destroy();
      else onAccept({ socket, ...ends });
    });
    server.on("error", (error) => log.warn({ error: explain(error) }, "cannot accept a connection"));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ fd }, () => {
        server.off("error", reject);
        resolve();
      });
    });
    return new CaptureListener(server, clock);
  }

  /** Resolves when the connections are taken that the kernel had accepted for us: closing would reset them. */
  async stopAccepting(): Promise<void> {
    const first = this.#accepted;
    // One is taken in each turn of the event loop.
    for (let idleTurns = 0; idleTurns < turnsToBeSure && this.#accepted - first < queueLength; idleTurns++) {
      const before = this.#accepted;
      await new Promise(setImmediate);
      if (this.#accepted !== before) idleTurns = 0;
    }
    this.#server.close();
  }

  /** No new connections from here on; resolves when the last has ended, by itself or by force after the deadline. */
  async stop({ deadlineMs }: StopOptions): Promise<void> {
    let cancel = () => {};
    const force = () => this.connections.abortAll(new Error("connection closed due to connection drain"));
    if (deadlineMs <= 0) {
      this.#server.close();
      force();
    } else {
      cancel = this.#clock.schedule(deadlineMs, force);
      await this.stopAccepting();
    }
    await this.connections.whenEmpty();
    cancel();
  }
}
