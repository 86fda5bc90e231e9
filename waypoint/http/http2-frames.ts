/** Numbers of HTTP/2 (RFC 9113), and what failures are called on the inside. */
import type { ResetReason } from "./streams.ts";

export const frameTypes = {
  data: 0x0,
  headers: 0x1,
  priority: 0x2,
  reset: 0x3,
  settings: 0x4,
  pushPromise: 0x5,
  ping: 0x6,
  goaway: 0x7,
  windowUpdate: 0x8,
  continuation: 0x9,
} as const;

/** `ack` and `endStream` are the same bit on different frames. */
export const flags = { ack: 0x1, endStream: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export const settingIds = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
  enableConnectProtocol: 8,
} as const;

export const errorCodes = {
  noError: 0x0,
  protocolError: 0x1,
  internalError: 0x2,
  flowControlError: 0x3,
  settingsTimeout: 0x4,
  streamClosed: 0x5,
  frameSizeError: 0x6,
  refusedStream: 0x7,
  cancel: 0x8,
  compressionError: 0x9,
  connectError: 0xa,
  enhanceYourCalm: 0xb,
  inadequateSecurity: 0xc,
  http11Required: 0xd,
} as const;

export type ErrorCode = (typeof errorCodes)[keyof typeof errorCodes];

const errorNames: ReadonlyMap<number, string> = new Map(
  Object.entries(errorCodes).map(([name, code]) => [code, name.replaceAll(/[A-Z]/g, "_$&").toUpperCase()]),
);

/** As the RFC writes it, such as `REFUSED_STREAM`. */
export const errorName = (code: number): string => errorNames.get(code) ?? `error ${code}`;

/** What RST_STREAM of the peer means. */
export function reasonOf(code: number): ResetReason {
  switch (code) {
    case errorCodes.refusedStream:
      return "refused-stream";
    case errorCodes.protocolError:
    case errorCodes.flowControlError:
    case errorCodes.frameSizeError:
    case errorCodes.compressionError:
    case errorCodes.streamClosed:
      return "protocol-error";
    default:
      return "remote-reset";
  }
}

/** What to tell a client whose answer cannot be finished. Never NO_ERROR: it would take half of a body for a whole one. */
export function codeOfReset(reason: ResetReason): ErrorCode {
  switch (reason) {
    case "refused-stream":
    case "closed-unanswered":
      return errorCodes.refusedStream;
    case "protocol-error":
      return errorCodes.protocolError;
    case "connect-failure":
    case "connect-timeout":
      return errorCodes.connectError;
    case "overflow":
      return errorCodes.enhanceYourCalm;
    case "connection-termination":
    case "remote-reset":
    case "local-reset":
      return errorCodes.internalError;
  }
}

export const frameHeadBytes = 9;
/** Octets in a frame that we take: the protocol's default. */
export const maxFrameBytes = 16_384;
export const defaultWindow = 65_535;
export const maxWindow = 2 ** 31 - 1;

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** Ends the connection with GOAWAY. */
export class ConnectionError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Who is told of what comes in. Each may throw a {@link ConnectionError}. */
export interface FrameSink<Stream> {
  /** Where frames begin, at the start of a server's connection; -1 where there is too little to tell. */
  onPreface(bytes: Buffer, at: number, end: number): number;
  /** HEADERS with all of its CONTINUATION, compressed. */
  onSection(id: number, endsStream: boolean, bytes: Buffer, at: number, end: number): void;
  /** A DATA frame begins, `length` octets long of which `overhead` are padding. Returns who wants its data. */
  onData(id: number, length: number, overhead: number, endsStream: boolean): Stream | undefined;
  onDataPart(stream: Stream | undefined, bytes: Buffer, at: number, end: number, isOwned: boolean): void;
  onDataEnd(stream: Stream): void;
  /** Any other frame, whole. */
  onControl(type: number, flags: number, id: number, bytes: Buffer, at: number, end: number): void;
}
