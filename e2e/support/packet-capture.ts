/**
 * Looks at what crosses a wire: run inside a network namespace, it reads every packet of one interface and says, per
 * TCP port, how many carried data, how many of those were TLS records, and whether a given text was readable in them.
 *
 *   node e2e/support/packet-capture.ts --interface eth0 --seconds 3 --needle "A Mesh of One's Own"
 *
 * Prints one JSON object of the form {@link CaptureSummary}. Needs CAP_NET_RAW, no libpcap.
 */
import { parseArgs } from "node:util";
import koffi from "koffi";

export interface CaptureSummary {
  readonly packets: number;
  /** Keyed by the lower of the two ports, which is the server's. */
  readonly ports: Readonly<Record<string, { readonly data: number; readonly tls: number; readonly continued: number }>>;
  /** How many packets held the needle in clear. */
  readonly needleSeen: number;
}

/** A TCP segment's ports and payload, or undefined where the frame carries none. Ethernet II, IPv4 and IPv6. */
export function tcpPayload(
  frame: Buffer,
): { sourcePort: number; destinationPort: number; payload: Buffer } | undefined {
  if (frame.length < 34) return undefined;
  const etherType = frame.readUInt16BE(12);
  let tcpAt: number;
  let end: number;
  if (etherType === 0x0800) {
    if (frame[23] !== 6) return undefined;
    tcpAt = 14 + ((frame[14] ?? 0) & 0x0f) * 4;
    end = 14 + frame.readUInt16BE(16);
  } else if (etherType === 0x86dd) {
    if (frame[20] !== 6) return undefined;
    tcpAt = 14 + 40;
    end = tcpAt + frame.readUInt16BE(18);
  } else return undefined;
  if (frame.length < tcpAt + 20) return undefined;
  const payloadAt = tcpAt + ((frame[tcpAt + 12] ?? 0) >> 4) * 4;
  const payload = frame.subarray(payloadAt, Math.min(end, frame.length));
  return { sourcePort: frame.readUInt16BE(tcpAt), destinationPort: frame.readUInt16BE(tcpAt + 2), payload };
}

/** A TLS record's header: a known content type and a version of the 3.x family. */
export const startsTlsRecord = (payload: Buffer): boolean =>
  payload.length >= 5 && payload[0] !== undefined && payload[0] >= 20 && payload[0] <= 23 && payload[1] === 3;

function capture(interfaceName: string, seconds: number, needle: Buffer): CaptureSummary {
  const libc = koffi.load("libc.so.6");
  const socket = libc.func("int socket(int, int, int)");
  const bind = libc.func("int bind(int, const void *, uint32_t)");
  const recv = libc.func("long recv(int, void *, size_t, int)");
  const setsockopt = libc.func("int setsockopt(int, int, int, const void *, uint32_t)");
  const indexOf = libc.func("uint32_t if_nametoindex(const char *)");
  const [afPacket, sockRaw, everyProtocol] = [17, 3, 0x0300];
  const fd = socket(afPacket, sockRaw, everyProtocol) as number;
  if (fd < 0) throw new Error("Cannot open a packet socket: CAP_NET_RAW is needed");
  const address = Buffer.alloc(20);
  address.writeUInt16LE(afPacket, 0);
  address.writeUInt16LE(everyProtocol, 2);
  address.writeInt32LE(indexOf(interfaceName) as number, 4);
  if ((bind(fd, address, address.length) as number) !== 0)
    throw new Error(`Cannot listen on interface "${interfaceName}"`);
  const timeout = Buffer.alloc(16);
  timeout.writeBigInt64LE(100_000n, 8); // 100 ms, so that the end is noticed on a silent wire
  setsockopt(fd, 1, 20, timeout, timeout.length); // SOL_SOCKET, SO_RCVTIMEO
  const ports: Record<string, { data: number; tls: number; continued: number }> = {};
  let packets = 0;
  let needleSeen = 0;
  const frame = Buffer.alloc(70_000);
  console.log("capturing");
  const endsAt = Date.now() + seconds * 1_000;
  while (Date.now() < endsAt) {
    const length = Number(recv(fd, frame, frame.length, 0));
    if (length <= 0) continue;
    packets++;
    const segment = tcpPayload(frame.subarray(0, length));
    if (segment === undefined || segment.payload.length === 0) continue;
    const port = String(Math.min(segment.sourcePort, segment.destinationPort));
    const count = (ports[port] ??= { data: 0, tls: 0, continued: 0 });
    count.data++;
    // A record longer than a packet goes on in the next one, which then starts anywhere in it.
    if (startsTlsRecord(segment.payload)) count.tls++;
    else count.continued++;
    if (needle.length > 0 && segment.payload.includes(needle)) needleSeen++;
  }
  return { packets, ports, needleSeen };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      interface: { type: "string", default: "eth0" },
      seconds: { type: "string", default: "3" },
      needle: { type: "string", default: "" },
    },
  });
  console.log(JSON.stringify(capture(values.interface, Number(values.seconds), Buffer.from(values.needle))));
}
