/** Listening sockets made at once, so that whoever asks knows at once whether the address can be had. */
import { closeSync } from "node:fs";
import { hostPort, isIpv6, type Ip } from "#shared/net/ip.ts";
import { libc, linux, setOption, systemError } from "./libc.ts";
import { localEndpoint } from "./original-destination.ts";
import { encodeAddress } from "./socket-address.ts";

const streamType = linux.SOCK_STREAM | linux.SOCK_NONBLOCK | linux.SOCK_CLOEXEC;

/**
 * A TCP socket that listens; `::` takes IPv4 too. The descriptor is for `Server.listen({ fd })`, which then owns it.
 *
 * @throws MeshError SYSTEM_CALL_FAILED, with `errno`, naming the address
 */
export function listenAt(ip: Ip, port: number, backlog = 1_024): { readonly fd: number; readonly port: number } {
  const family = isIpv6(ip) ? linux.AF_INET6 : linux.AF_INET;
  const where = `listen on ${hostPort(ip, port)}`;
  const fd = libc.socket(family, streamType, 0);
  if (fd < 0) throw systemError(where);
  try {
    setOption(fd, linux.SOL_SOCKET, linux.SO_REUSEADDR, 1);
    if (family === linux.AF_INET6) setOption(fd, linux.SOL_IPV6, linux.IPV6_V6ONLY, 0);
    setOption(fd, linux.IPPROTO_TCP, linux.TCP_NODELAY, 1); // accepted sockets inherit it
    const address = encodeAddress(ip, port);
    if (libc.bind(fd, address, address.length) !== 0) throw systemError(where);
    if (libc.listen(fd, backlog) !== 0) throw systemError(where);
    return { fd, port: localEndpoint(fd)?.port ?? port };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
