import type { Http2Session } from "node:http2";
import type { Duplex } from "node:stream";
import type { Clock } from "#shared/clock/clock.ts";

/** As Istio's ztunnel: a PING 10 s after the last answer, dead when none comes within 20 s. Milliseconds. */
const pingIntervalMs = 10_000;
const pongDeadlineMs = 20_000;

/**
 * Pings for as long as the session lives, whether or not data flows: a peer whose node has gone away says nothing.
 * Calls `onDead` at most once. A session that has begun to close is not pinged, since node:http2 sends no PING then, and
 * its streams end by themselves or by their drain's deadline. Once closed it waits for the peer to hang up as well, and
 * is cut off if that does not happen: otherwise whoever never hangs up would keep our sockets for ever.
 */
export function keepAlive(session: Http2Session, socket: Duplex, clock: Clock, onDead: () => void): void {
  const next = () => {
    cancel = clock.schedule(pingIntervalMs, tick);
  };
  const tick = () => {
    if (session.destroyed) socket.destroy();
    else if (session.closed) next();
    else ping();
  };
  const ping = () => {
    cancel = clock.schedule(pongDeadlineMs, onDead);
    session.ping(() => {
      cancel();
      if (!isOver) next();
    });
  };
  let isOver = false;
  let cancel = clock.schedule(pingIntervalMs, tick);
  session.once("close", () => {
    isOver = true;
    cancel();
  });
}
