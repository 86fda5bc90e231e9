/**
 * The system calls that Node does not offer, called synchronously on the calling thread. Whoever gets a descriptor
 * from here closes it. Arguments are plain integers and buffers: that is what makes a call cost well under 1 µs.
 */
import { getSystemErrorName } from "node:util";
import koffi from "koffi";
import { MeshError } from "#shared/errors/mesh-error.ts";

type Bytes = Uint8Array | Int32Array;

/** Each returns −1 where the kernel refuses; {@link lastError} then says why. */
export interface Libc {
  setns(fd: number, kind: number): number;
  socket(family: number, type: number, protocol: number): number;
  bind(fd: number, address: Bytes, length: number): number;
  listen(fd: number, backlog: number): number;
  connect(fd: number, address: Bytes, length: number): number;
  accept4(fd: number, address: null, length: null, flags: number): number;
  setsockopt(fd: number, level: number, name: number, value: Bytes, length: number): number;
  getsockopt(fd: number, level: number, name: number, value: Bytes, length: Int32Array): number;
  getsockname(fd: number, address: Bytes, length: Int32Array): number;
  sendmsg(fd: number, message: Bytes, flags: number): number;
  recvmsg(fd: number, message: Bytes, flags: number): number;
  shutdown(fd: number, how: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  close(fd: number): number;
}

const signatures: readonly string[] = [
  "int setns(int, int)",
  "int socket(int, int, int)",
  "int bind(int, void *, uint32_t)",
  "int listen(int, int)",
  "int connect(int, void *, uint32_t)",
  "int accept4(int, void *, void *, int)",
  "int setsockopt(int, int, int, void *, uint32_t)",
  "int getsockopt(int, int, int, void *, void *)",
  "int getsockname(int, void *, void *)",
  "intptr sendmsg(int, void *, int)",
  "intptr recvmsg(int, void *, int)",
  "int shutdown(int, int)",
  "int close(int)",
];

/** The process's own C library, whichever it is; nothing is loaded. */
export const libc: Libc = (() => {
  const library = koffi.load(null);
  const bound = signatures.map((signature) => {
    const call = library.func(signature);
    return [call.info.name, call];
  });
  const variadic = library.func("int fcntl(int, int, ...)");
  const fcntl = (fd: number, command: number, argument: number): number =>
    variadic(fd, command, "int", argument) as number;
  return { ...(Object.fromEntries(bound) as Omit<Libc, "fcntl">), fcntl };
})();

/** glibc's `malloc_trim(3)`: returns freed memory to the system. Does nothing with a C library that has no such call. */
export const trimMemory: () => void = (() => {
  try {
    const trim = koffi.load(null).func("int malloc_trim(size_t)");
    return () => void trim(0);
  } catch {
    return () => {};
  }
})();

/** Name of the error that the last call on this thread left, for example `EADDRINUSE`. */
export function lastError(): string {
  return getSystemErrorName(-koffi.errno());
}

/** A refused system call: `action` completes the sentence "Cannot …", `errno` is its name. */
export function systemError(action: string, errno = lastError()): MeshError & { readonly errno: string } {
  return Object.assign(new MeshError("SYSTEM_CALL_FAILED", `Cannot ${action}: ${errno}`), { errno });
}

/** Numbers of Linux's ABI, the same on every 64-bit architecture that Node runs on. */
export const linux = {
  CLONE_NEWNET: 0x4000_0000,
  AF_UNIX: 1,
  AF_INET: 2,
  AF_INET6: 10,
  SOCK_STREAM: 1,
  SOCK_DGRAM: 2,
  SOCK_SEQPACKET: 5,
  SOCK_NONBLOCK: 0o4000,
  SOCK_CLOEXEC: 0o2000000,
  SOL_IP: 0,
  SOL_SOCKET: 1,
  IPPROTO_TCP: 6,
  SOL_IPV6: 41,
  SO_REUSEADDR: 2,
  SO_KEEPALIVE: 9,
  SO_REUSEPORT: 15,
  SO_MARK: 36,
  IP_TRANSPARENT: 19,
  IP_BIND_ADDRESS_NO_PORT: 24,
  IPV6_V6ONLY: 26,
  IPV6_TRANSPARENT: 75,
  SO_ORIGINAL_DST: 80,
  TCP_NODELAY: 1,
  TCP_KEEPIDLE: 4,
  TCP_KEEPINTVL: 5,
  TCP_KEEPCNT: 6,
  TCP_USER_TIMEOUT: 18,
  MSG_TRUNC: 0x20,
  MSG_CTRUNC: 0x8,
  MSG_DONTWAIT: 0x40,
  MSG_NOSIGNAL: 0x4000,
  MSG_CMSG_CLOEXEC: 0x4000_0000,
  SCM_RIGHTS: 1,
  SHUT_RDWR: 2,
  F_SETFL: 4,
  F_SETOWN: 8,
  O_NONBLOCK: 0o4000,
  O_ASYNC: 0o20000,
} as const;

const optionValue = new Int32Array(1);

/** Sets an integer socket option; false where the kernel refuses. */
export function setOption(fd: number, level: number, name: number, value: number): boolean {
  optionValue[0] = value;
  return libc.setsockopt(fd, level, name, optionValue, 4) === 0;
}
