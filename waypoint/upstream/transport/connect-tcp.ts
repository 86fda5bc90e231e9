import { Socket } from "node:net";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { hostPort } from "#shared/net/ip.ts";
import { linux, setOption } from "#shared/sockets/libc.ts";
import { makeSocket } from "#waypoint/http/static-read.ts";
import type { TcpKeepAlive, Transport } from "./transport.ts";

export interface TcpTarget {
  readonly ip: string;
  readonly port: number;
}

/**
 * @param isForCodec the socket's bytes go to one of our codecs, which reads without streams
 * @throws MeshError UPSTREAM_CONNECT_FAILED, or the signal's reason
 */
export function connectTcp(
  { ip, port }: TcpTarget,
  { keepAlive, localAddress }: Pick<Transport, "keepAlive" | "localAddress">,
  signal: AbortSignal,
  isForCodec = false,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const socket = isForCodec ? makeSocket({ allowHalfOpen: true }) : new Socket({ allowHalfOpen: true });
    const done = () => {
      signal.removeEventListener("abort", onAbort);
      socket.off("error", onError);
    };
    const onAbort = () => {
      done();
      socket.on("error", () => {});
      socket.destroy();
      reject(signal.reason as Error);
    };
    const onError = (error: Error) => {
      done();
      reject(new MeshError("UPSTREAM_CONNECT_FAILED", `Cannot connect to "${hostPort(ip, port)}"`, error));
    };
    signal.addEventListener("abort", onAbort);
    socket.once("error", onError);
    socket.once("connect", () => {
      done();
      if (keepAlive !== undefined) keepTcpAlive(socket, keepAlive);
      resolve(socket);
    });
    socket.setNoDelay(true);
    socket.connect({ host: ip, port, ...(localAddress !== undefined && { localAddress }) });
  });
}

/** Node sets the time before the first probe; the rest is between us and the kernel. */
function keepTcpAlive(socket: Socket, { probes, timeSeconds, intervalSeconds }: TcpKeepAlive): void {
  socket.setKeepAlive(true, (timeSeconds ?? 0) * 1_000);
  const { fd = -1 } = (socket as Socket & { readonly _handle?: { readonly fd?: number } })._handle ?? {};
  if (fd < 0) return;
  if (intervalSeconds !== undefined) setOption(fd, linux.IPPROTO_TCP, linux.TCP_KEEPINTVL, intervalSeconds);
  if (probes !== undefined) setOption(fd, linux.IPPROTO_TCP, linux.TCP_KEEPCNT, probes);
}
