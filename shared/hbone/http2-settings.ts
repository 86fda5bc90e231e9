/** HTTP/2 as HBONE peers configure it, and the bounds within which we serve a hostile one. */
import type { ClientSessionOptions, Http2Session, ServerSessionOptions } from "node:http2";

export interface WindowSizes {
  /** Bytes that a peer may send on one stream ahead of its reader. */
  readonly streamBytes: number;
  /** Same for all streams of a connection together: several times one stream's, so that a stalled one starves nobody. */
  readonly connectionBytes: number;
  readonly maxFrameBytes: number;
}

/** As Istio's ztunnel: HTTP2_STREAM_WINDOW_SIZE, HTTP2_CONNECTION_WINDOW_SIZE, HTTP2_FRAME_SIZE. */
export const windowSizesDefault: WindowSizes = {
  streamBytes: 4_194_304,
  connectionBytes: 16_777_216,
  maxFrameBytes: 1_048_576,
};

/** Streams that a client may have open at once on one connection; as Istio's ztunnel. */
export const maxServerStreams = 200;

/**
 * Bounds per connection. nghttp2 itself bounds CONTINUATION frames and unanswered acknowledgements (PING and SETTINGS
 * floods); Node counts empty and invalid frames, refused streams and resets with these.
 */
const floodBounds = {
  /** Mebibytes of nghttp2's own state; above the default because it has to hold a whole connection window. */
  maxSessionMemory: 64,
  maxSessionInvalidFrames: 1_000,
  maxSessionRejectedStreams: 1_000,
  maxOutstandingPings: 4,
  maxOutstandingSettings: 4,
  /** A CONNECT has five headers of its own; a peer's own additions fit thrice over. */
  maxHeaderListPairs: 64,
};

/**
 * Resets of any stream, counted by nghttp2. A client's applications end their connections by resets as fast as they
 * like, so this is above what one client can have served; floods that wait for no answer meet {@link ResetBudget} first.
 */
const streamResets = { streamResetBurst: 10_000, streamResetRate: 5_000 };

/** The types omit the two bounds on resets. */
type ServerOptions = ServerSessionOptions & typeof streamResets;

export const serverSessionOptions = (sizes: WindowSizes, maxStreams = maxServerStreams): ServerOptions => ({
  ...floodBounds,
  ...streamResets,
  settings: {
    initialWindowSize: sizes.streamBytes,
    maxFrameSize: sizes.maxFrameBytes,
    maxHeaderListSize: 65_536,
    maxConcurrentStreams: maxStreams,
  },
});

export const clientSessionOptions = (sizes: WindowSizes, maxStreams: number): ClientSessionOptions => ({
  ...floodBounds,
  peerMaxConcurrentStreams: maxStreams,
  settings: {
    enablePush: false,
    initialWindowSize: sizes.streamBytes,
    maxFrameSize: sizes.maxFrameBytes,
    maxHeaderListSize: 16_384,
  },
});

/** Opens the connection's window; node:http2 has no option for it. */
export function widenConnectionWindow(session: Http2Session, sizes: WindowSizes): void {
  session.setLocalWindowSize(sizes.connectionBytes);
}
