/** SETTINGS of either side (RFC 9113 §6.5). */
import { ConnectionError, defaultWindow, errorCodes, maxWindow, settingIds } from "./http2-frames.ts";

export interface PeerSettings {
  /** Streams that it lets us have open at once. */
  readonly maxConcurrentStreams: number;
  readonly initialWindow: number;
  readonly tableBytes: number;
  /** Takes CONNECT with `:protocol` (RFC 8441). */
  readonly hasExtendedConnect: boolean;
}

/** Until it has said otherwise. */
export const peerSettingsDefault: PeerSettings = {
  maxConcurrentStreams: Number.POSITIVE_INFINITY,
  initialWindow: defaultWindow,
  tableBytes: 4_096,
  hasExtendedConnect: false,
};

/** @throws ConnectionError */
export function readSettings(before: PeerSettings, bytes: Buffer, at: number, end: number): PeerSettings {
  let { maxConcurrentStreams, initialWindow, tableBytes, hasExtendedConnect } = before;
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
      case settingIds.maxFrameSize: // ours are never larger than every peer has to take
        expect(value >= 16_384 && value <= 16_777_215, "MAX_FRAME_SIZE", value);
        break;
      case settingIds.enableConnectProtocol:
        expect(value <= 1, "ENABLE_CONNECT_PROTOCOL", value);
        hasExtendedConnect = value === 1;
        break;
      default: // MAX_HEADER_LIST_SIZE is advice; what is unknown is to be ignored
    }
  }
  return { maxConcurrentStreams, initialWindow, tableBytes, hasExtendedConnect };
}

function expect(isRight: boolean, name: string, value: number): void {
  if (!isRight) throw new ConnectionError(errorCodes.protocolError, `SETTINGS_${name} ${value}`);
}
