/**
 * PROXY protocol version 2 (haproxy.org/download/2.9/doc/proxy-protocol.txt §2.2): tells an application behind us who
 * the tunnel's peer is and where it meant to go.
 */
import { ipToBytes, isIpv6, type Ip } from "#shared/net/ip.ts";

interface Endpoint {
  readonly ip: Ip;
  readonly port: number;
}

const signature = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const versionAndCommand = 0x21; // version 2, PROXY
const streams = { unspecified: 0x00, ipv4: 0x11, ipv6: 0x21 } as const;
/** Istio's own type: the peer's SPIFFE id. */
const identityType = 0xd0;

/** Where the two families differ, addresses are left out, as the format demands. */
export function encodeProxyHeader(source: Endpoint, destination: Endpoint, identity: string | undefined): Buffer {
  const mixed = isIpv6(source.ip) !== isIpv6(destination.ip);
  const family = mixed ? streams.unspecified : isIpv6(source.ip) ? streams.ipv6 : streams.ipv4;
  const addresses = mixed
    ? Buffer.alloc(0)
    : Buffer.concat([ipToBytes(source.ip), ipToBytes(destination.ip), uint16(source.port), uint16(destination.port)]);
  const identityBytes = Buffer.from(identity ?? "", "utf8");
  const extension =
    identity === undefined
      ? Buffer.alloc(0)
      : Buffer.concat([Buffer.from([identityType]), uint16(identityBytes.length), identityBytes]);
  const length = uint16(addresses.length + extension.length);
  return Buffer.concat([signature, Buffer.from([versionAndCommand, family]), length, addresses, extension]);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
