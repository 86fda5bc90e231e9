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

export class CaptureListener {
  /** Connections that a drain waits for: the handler adds and removes them. */
  readonly connections = new ConnectionSet();
  readonly #server: Server;
  readonly #clock: Clock;

  private constructor(server: Server, clock: Clock) {
    this.#server = server;
    this.#clock = clock;
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

  stopAccepting(): void {
    this.#server.close();
  }

  /** No new connections from here on; resolves when the last has ended, by itself or by force after the deadline. */
  async stop({ deadlineMs }: StopOptions): Promise<void> {
    this.stopAccepting();
    let cancel = () => {};
    const force = () => this.connections.abortAll(new Error("connection closed due to connection drain"));
    if (deadlineMs <= 0) force();
    else cancel = this.#clock.schedule(deadlineMs, force);
    await this.connections.whenEmpty();
    cancel();
  }
}
