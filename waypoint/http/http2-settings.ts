/** SETTINGS of either side (RFC 9113 §6.5). */
import { ConnectionError, errorCodes, frameTypes, maxWindow, settingIds } from "./http2-frames.ts";
import type { FrameOutput } from "./http2-output.ts";

export interface PeerSettings {
  /** Streams that it lets us have open at once. */
  readonly maxConcurrentStreams: number;
  readonly initialWindow: number;
  readonly maxFrameBytes: number;
  readonly tableBytes: number;
  /** Takes CONNECT with `:protocol` (RFC 8441). */
  readonly hasExtendedConnect: boolean;
}

/** @throws ConnectionError */
export function readSettings(before: PeerSettings, bytes: Buffer, at: number, end: number): PeerSettings {
  let { maxConcurrentStreams, initialWindow, maxFrameBytes, tableBytes, hasExtendedConnect } = before;
  for (; at < end; at += 6) {
    const value = bytes.readUInt32BE(at + 2);
    switch (bytes.readUInt16BE(at)) {
      case settingIds.headerTableSize:
        tableBytes = value;
        break;
      case settingIds.enablePush:
        expect(value <= 1, "ENABLE_PUSH", value);
        break;
      case settingIds.maxConcurrentStreams:
        maxConcurrentStreams = value;
        break;
      case settingIds.initialWindowSize:
        if (value > maxWindow) throw new ConnectionError(errorCodes.flowControlError, `an initial window of ${value}`);
        initialWindow = value;
        break;
      case settingIds.maxFrameSize:
        expect(value >= 16_384 && value <= 16_777_215, "MAX_FRAME_SIZE", value);
        maxFrameBytes = value;
        break;
      case settingIds.enableConnectProtocol:
        expect(value <= 1, "ENABLE_CONNECT_PROTOCOL", value);
        hasExtendedConnect = value === 1;
        break;
      default: // MAX_HEADER_LIST_SIZE is advice; what is unknown is to be ignored
    }
  }
  return { maxConcurrentStreams, initialWindow, maxFrameBytes, tableBytes, hasExtendedConnect };
}

function expect(isRight: boolean, name: string, value: number): void {
  if (!isRight) throw new ConnectionError(errorCodes.protocolError, `SETTINGS_${name} ${value}`);
}

export function writeSettings(output: FrameOutput, settings: readonly (readonly [id: number, value: number])[]): void {
  output.frame(frameTypes.settings, 0, 0, 6 * settings.length);
  for (const [id, value] of settings) {
    output.bytes[output.at++] = id >> 8;
    output.bytes[output.at++] = id;
    output.uint32(value);
  }
}
