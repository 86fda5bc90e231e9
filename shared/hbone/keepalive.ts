import type { Http2Session } from "node:http2";
import type { Clock } from "#shared/clock/clock.ts";

/** As Istio's ztunnel: a PING 10 s after the last answer, dead when none comes within 20 s. Milliseconds. */
const pingIntervalMs = 10_000;
const pongDeadlineMs = 20_000;

/**
 * Pings for as long as the session lives, whether or not data flows: a peer whose node has gone away says nothing.
 * Calls `onDead` at most once. Stops by itself when the session closes, or starts to close: node:http2 sends no PING
 * then, and a draining session has the drain's own deadline.
 */
export function keepAlive(session: Http2Session, clock: Clock, onDead: () => void): void {
  let cancel = clock.schedule(pingIntervalMs, ping);
  function ping() {
    if (session.closed || session.destroyed) return;
    cancel = clock.schedule(pongDeadlineMs, onDead);
    session.ping((error) => {
      cancel();
      if (error === null) cancel = clock.schedule(pingIntervalMs, ping);
    });
  }
  session.once("close", () => cancel());
}
