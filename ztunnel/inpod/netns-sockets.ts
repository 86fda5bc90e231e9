/**
 * The only place that makes sockets in another network namespace. A thread enters the namespace, makes the socket and
 * returns, without giving way to anything else; the socket belongs to that namespace from then on, and Node serves it
 * by its descriptor like any other. Options that accepted sockets need are set on the listener, which hands them on.
 */
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { closeSync, fstatSync, openSync } from "node:fs";
import { Socket } from "node:net";
import process from "node:process";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { hostPort, isIpv6, tryIp, type Ip } from "#shared/net/ip.ts";
import { lastError, libc, linux, setOption, systemError } from "#shared/sockets/libc.ts";
import { localEndpoint } from "#shared/sockets/original-destination.ts";
import { encodeAddress, type Endpoint } from "#shared/sockets/socket-address.ts";

export type { Endpoint } from "#shared/sockets/socket-address.ts";

/** A network namespace held open. Closing twice is harmless. */
export interface NetworkNamespace extends Disposable {
  readonly fd: number;
  /** Device and inode: equal for two descriptors of one namespace. */
  readonly identity: string;
  /** Once closed, `fd` may be somebody else's. */
  readonly isOpen: boolean;
  close(): void;
}

/** TCP keepalive of one socket. */
export interface KeepAlive {
  readonly idleSeconds: number;
  readonly intervalSeconds: number;
  readonly probes: number;
  /** Also give up on unacknowledged data after idle + probes × interval (TCP_USER_TIMEOUT). */
  readonly userTimeout: boolean;
}

/** As ztunnel's KEEPALIVE_TIME, KEEPALIVE_INTERVAL and KEEPALIVE_RETRIES. */
const keepAliveDefault: KeepAlive = { idleSeconds: 180, intervalSeconds: 180, probes: 9, userTimeout: false };

export interface ListenOptions {
  /** `::` takes IPv4 too, and becomes `0.0.0.0` where the kernel has no IPv6. */
  readonly address: string;
  /** 0 lets the kernel choose. */
  readonly port: number;
  /** Accept connections for addresses that are not ours, and allow {@link ConnectTarget.sourceIp}. Default `off`. */
  readonly transparent?: "best-effort" | "required" | "off";
  /** SO_REUSEPORT: lets an old and a new process overlap. */
  readonly reusePort?: boolean;
  /** SO_MARK, set before bind. */
  readonly mark?: number;
  /** For the accepted sockets. */
  readonly keepAlive?: KeepAlive;
  /** Connections waiting to be accepted; default 128. `Server.listen({ fd })` may raise it. */
  readonly backlog?: number;
}

export interface ListeningSocket {
  /** For `Server.listen({ fd })`, which then owns it. */
  readonly fd: number;
  readonly port: number;
  /** Whether IP_TRANSPARENT is set. */
  readonly transparent: boolean;
}

export interface ConnectTarget extends Endpoint {
  /** Connect from this address instead of our own (IP_TRANSPARENT), if it can be had; ignored if equal to `ip`. */
  readonly sourceIp?: Ip | undefined;
  /** With `sourceIp`: connect from this port if it can be bound; else, and if absent, the kernel chooses. */
  readonly sourcePort?: number | undefined;
  readonly mark?: number | undefined;
  /** Default {@link keepAliveDefault}; `off` for none. */
  readonly keepAlive?: KeepAlive | "off";
  /** Told why `sourceIp` could not be had; the connection is then made from our own address. */
  readonly onUnspoofed?: (why: string) => void;
}

/** As ztunnel's connect timeout towards applications and peers. */
const connectTimeoutMsDefault = 10_000;

/** @throws MeshError SYSTEM_CALL_FAILED where `path` cannot be opened */
export function openNamespace(path: string): NetworkNamespace {
  try {
    return adoptNamespace(openSync(path, "r"));
  } catch (error) {
    throw new MeshError("SYSTEM_CALL_FAILED", `Cannot open the network namespace "${path}"`, error);
  }
}

/** Takes over a descriptor, for example one that came with SCM_RIGHTS. */
export function adoptNamespace(fd: number): NetworkNamespace {
  let isOpen = true;
  const close = () => {
    if (isOpen) closeSync(fd);
    isOpen = false;
  };
  return {
    fd,
    identity: namespaceIdentity(fd),
    get isOpen() {
      return isOpen;
    },
    close,
    [Symbol.dispose]: close,
  };
}

function namespaceIdentity(fd: number): string {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return `${dev}:${ino}`;
}

/** The namespace this thread was started in; opened at first need and kept for the thread's life. */
let ownNamespaceFd: number | undefined;

/**
 * Runs `action` with this thread inside the namespace; undefined means our own. `action` must not wait: what it
 * promises for later happens outside. A thread that cannot come back would serve one pod's traffic in another's
 * namespace, so then the process ends at once.
 *
 * @throws MeshError SYSTEM_CALL_FAILED where the namespace cannot be entered
 */
export function inNamespace<T>(netnsFd: number | undefined, action: () => T): T {
  if (netnsFd === undefined) return action();
  const ownFd = (ownNamespaceFd ??= openSync("/proc/thread-self/ns/net", "r"));
  if (libc.setns(netnsFd, linux.CLONE_NEWNET) !== 0) throw systemError(`enter the network namespace of fd ${netnsFd}`);
  try {
    return action();
  } finally {
    if (libc.setns(ownFd, linux.CLONE_NEWNET) !== 0) process.abort();
  }
}

/** Negative where the kernel refuses. */
function makeSocket(netnsFd: number | undefined, family: number, type: number = linux.SOCK_STREAM): number {
  return inNamespace(netnsFd, () => libc.socket(family, type | linux.SOCK_NONBLOCK | linux.SOCK_CLOEXEC, 0));
}

/**
 * Fails early, with one sentence, where this process may not do its work.
 *
 * @throws MeshError SYSTEM_CALL_FAILED naming what is not allowed
 */
export function assertNamespacePowers(mark: number): void {
  using own = openNamespace("/proc/thread-self/ns/net");
  const fd = makeSocket(own.fd, linux.AF_INET);
  if (fd < 0) throw systemError("make a TCP socket");
  try {
    if (!setOption(fd, linux.SOL_SOCKET, linux.SO_MARK, mark)) throw systemError(`mark a socket with ${mark}`);
  } finally {
    closeSync(fd);
  }
}

/**
 * A socket that listens in the namespace (undefined: our own).
 *
 * @throws MeshError SYSTEM_CALL_FAILED, with `errno`, naming the address
 */
export function listenInNamespace(netnsFd: number | undefined, options: ListenOptions): ListeningSocket {
  const ip = tryIp(options.address);
  if (ip === undefined) throw new MeshError("ADDRESS_MALFORMED", `Cannot listen on "${options.address}"`);
  let family: number = isIpv6(ip) ? linux.AF_INET6 : linux.AF_INET;
  let bound = ip;
  let fd = makeSocket(netnsFd, family);
  if (fd < 0 && ip === "::" && lastError() === "EAFNOSUPPORT") {
    family = linux.AF_INET;
    bound = "0.0.0.0" as Ip;
    fd = makeSocket(netnsFd, family);
  }
  const where = `listen on ${hostPort(bound, options.port)}`;
  if (fd < 0) throw systemError(where);
  try {
    const transparent = prepareListener(fd, family, options, where);
    const address = encodeAddress(bound, options.port);
    if (libc.bind(fd, address, address.length) !== 0) throw systemError(where);
    if (libc.listen(fd, options.backlog ?? 128) !== 0) throw systemError(where);
    return { fd, port: localEndpoint(fd)?.port ?? options.port, transparent };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function prepareListener(fd: number, family: number, options: ListenOptions, where: string): boolean {
  const must = (level: number, name: number, value: number, what: string) => {
    if (!setOption(fd, level, name, value)) throw systemError(`${where}, setting ${what}`);
  };
  must(linux.SOL_SOCKET, linux.SO_REUSEADDR, 1, "SO_REUSEADDR");
  if (options.mark !== undefined) must(linux.SOL_SOCKET, linux.SO_MARK, options.mark, "SO_MARK");
  if (options.reusePort === true) must(linux.SOL_SOCKET, linux.SO_REUSEPORT, 1, "SO_REUSEPORT");
  if (family === linux.AF_INET6) must(linux.SOL_IPV6, linux.IPV6_V6ONLY, 0, "IPV6_V6ONLY");
  must(linux.IPPROTO_TCP, linux.TCP_NODELAY, 1, "TCP_NODELAY");
  if (options.keepAlive !== undefined) setKeepAlive(fd, options.keepAlive);
  if (options.transparent === undefined || options.transparent === "off") return false;
  if (setTransparent(fd, family)) return true;
  if (options.transparent === "required") throw systemError(`${where}, setting IP_TRANSPARENT`);
  return false;
}

/** Also frees a bind from owning its address, so IP_FREEBIND would add nothing but a system call. */
function setTransparent(fd: number, family: number): boolean {
  return family === linux.AF_INET6
    ? setOption(fd, linux.SOL_IPV6, linux.IPV6_TRANSPARENT, 1)
    : setOption(fd, linux.SOL_IP, linux.IP_TRANSPARENT, 1);
}

/** Best effort: a connection without keepalive still works. */
function setKeepAlive(fd: number, keepAlive: KeepAlive): void {
  const { idleSeconds, intervalSeconds, probes } = keepAlive;
  setOption(fd, linux.SOL_SOCKET, linux.SO_KEEPALIVE, 1);
  setOption(fd, linux.IPPROTO_TCP, linux.TCP_KEEPIDLE, idleSeconds);
  setOption(fd, linux.IPPROTO_TCP, linux.TCP_KEEPINTVL, intervalSeconds);
  setOption(fd, linux.IPPROTO_TCP, linux.TCP_KEEPCNT, probes);
  if (!keepAlive.userTimeout) return;
  setOption(fd, linux.IPPROTO_TCP, linux.TCP_USER_TIMEOUT, (idleSeconds + probes * intervalSeconds) * 1_000);
}

/** `manualStart`, which the types omit, keeps Node from reading before the socket is connected. */
const unconnectedSocketOptions = { readable: true, writable: true, allowHalfOpen: true, manualStart: true };

/**
 * A TCP connection out of the namespace (undefined: our own), still connecting: wait for `connect` or `error`.
 * Half-open is allowed, TCP_NODELAY set. After `timeoutMs` it is destroyed with UPSTREAM_CONNECT_FAILED.
 *
 * @throws MeshError SYSTEM_CALL_FAILED where no socket can be made at all
 */
export function connectInNamespace(
  netnsFd: number | undefined,
  target: ConnectTarget,
  timeoutMs: number = connectTimeoutMsDefault,
): Socket {
  const fd = outboundSocket(netnsFd, target);
  let socket: Socket;
  try {
    socket = new Socket({ fd, ...unconnectedSocketOptions });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  const where = hostPort(target.ip, target.port);
  const timer = setTimeout(() => {
    const message = `Cannot connect to "${where}": timed out after ${timeoutMs} ms`;
    socket.destroy(new MeshError("UPSTREAM_CONNECT_FAILED", message));
  }, timeoutMs);
  const settled = () => clearTimeout(timer);
  socket.once("connect", settled);
  socket.once("close", settled);
  socket.connect({ host: target.ip, port: target.port });
  return socket;
}

function outboundSocket(netnsFd: number | undefined, target: ConnectTarget): number {
  const { ip, sourceIp, sourcePort } = target;
  if (sourceIp === undefined || sourceIp === ip) return preparedSocket(netnsFd, target);
  const fd = preparedSocket(netnsFd, target);
  const refusal = bindToSource(fd, ip, sourceIp, sourcePort);
  if (refusal === undefined) return fd;
  closeSync(fd); // it may be half prepared: start afresh
  target.onUnspoofed?.(`Cannot connect to ${hostPort(ip, target.port)} from ${sourceIp}: ${refusal}`);
  return preparedSocket(netnsFd, target);
}

function preparedSocket(netnsFd: number | undefined, target: ConnectTarget): number {
  const fd = makeSocket(netnsFd, isIpv6(target.ip) ? linux.AF_INET6 : linux.AF_INET);
  if (fd < 0) throw systemError(`make a socket for ${hostPort(target.ip, target.port)}`);
  const marked = target.mark === undefined || setOption(fd, linux.SOL_SOCKET, linux.SO_MARK, target.mark);
  if (!marked) {
    // Unmarked it would be captured again, and again.
    const error = systemError(`mark a socket with ${target.mark}`);
    closeSync(fd);
    throw error;
  }
  setOption(fd, linux.IPPROTO_TCP, linux.TCP_NODELAY, 1);
  if (target.keepAlive !== "off") setKeepAlive(fd, target.keepAlive ?? keepAliveDefault);
  return fd;
}

/** Why `sourceIp` cannot be had, or undefined. */
function bindToSource(fd: number, ip: Ip, sourceIp: Ip, sourcePort?: number): string | undefined {
  if (isIpv6(ip) !== isIpv6(sourceIp)) return "the families differ";
  if (!setTransparent(fd, isIpv6(ip) ? linux.AF_INET6 : linux.AF_INET)) return `IP_TRANSPARENT: ${lastError()}`;
  if (sourcePort !== undefined) {
    // Another connection of the same caller, to another port, may be bound to it too.
    setOption(fd, linux.SOL_SOCKET, linux.SO_REUSEADDR, 1);
    const wanted = encodeAddress(sourceIp, sourcePort);
    if (libc.bind(fd, wanted, wanted.length) === 0) return undefined;
  }
  // The port is chosen when the destination is known, so that ports are shared between destinations.
  setOption(fd, linux.SOL_IP, linux.IP_BIND_ADDRESS_NO_PORT, 1);
  const address = encodeAddress(sourceIp, 0);
  return libc.bind(fd, address, address.length) === 0 ? undefined : `bind: ${lastError()}`;
}

export interface DatagramOptions extends Endpoint {
  /** SO_REUSEPORT: lets an old and a new process overlap. */
  readonly reusePort?: boolean | undefined;
  readonly mark?: number | undefined;
}

const descriptors = new WeakMap<DatagramSocket, { readonly fd: number; readonly ip: Ip }>();

/** TCPMUX, which nobody speaks. */
const nobodysPort = 1;

/**
 * From here on the kernel gives what arrives to the other sockets of the port, or refuses it. What the socket has is
 * still received, and can still be answered: closing it instead would lose both. Connected to itself on a port that
 * nobody uses it is in nobody's way (sockets that are connected are no part of a SO_REUSEPORT group's choice), and
 * Node, which does not know, goes on sending to whom it is told.
 */
export function leavePort(socket: DatagramSocket): void {
  const known = descriptors.get(socket);
  if (known === undefined) throw new TypeError("the socket was not made here");
  const address = encodeAddress(known.ip, nobodysPort);
  libc.connect(known.fd, address, address.length);
}

/** dgram would look addresses up, in a later turn, which addresses do not need. */
const lookup = (ip: string, _options: unknown, found: (error: null, address: string, family: number) => void): void =>
  found(null, ip, ip.includes(":") ? 6 : 4);

/**
 * A UDP socket bound in the namespace (undefined: our own); it receives from now on. Port 0 lets the kernel choose
 * one that cannot be foreseen. The caller closes it.
 *
 * @throws MeshError SYSTEM_CALL_FAILED, with `errno`, naming the address
 */
export function bindDatagrams(netnsFd: number | undefined, options: DatagramOptions): DatagramSocket {
  const { ip, port, reusePort, mark } = options;
  const family = isIpv6(ip) ? linux.AF_INET6 : linux.AF_INET;
  const where = `receive datagrams on ${hostPort(ip, port)}`;
  const fd = makeSocket(netnsFd, family, linux.SOCK_DGRAM);
  if (fd < 0) throw systemError(where);
  try {
    const isSet = (name: number, value: number) => setOption(fd, linux.SOL_SOCKET, name, value);
    if (mark !== undefined && !isSet(linux.SO_MARK, mark)) throw systemError(`${where}, setting SO_MARK`);
    if (reusePort === true && !isSet(linux.SO_REUSEPORT, 1)) throw systemError(`${where}, setting SO_REUSEPORT`);
    const address = encodeAddress(ip, port);
    if (libc.bind(fd, address, address.length) !== 0) throw systemError(where);
    const socket = createSocket({ type: isIpv6(ip) ? "udp6" : "udp4", lookup }).bind({ fd });
    descriptors.set(socket, { fd, ip });
    return socket;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
