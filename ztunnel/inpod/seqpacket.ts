/**
 * SOCK_SEQPACKET unix sockets, which Node does not have: each message arrives whole, and a descriptor may ride along
 * (SCM_RIGHTS). Every wait ends with its signal, with the peer's close, or with {@link SeqpacketSocket.close}.
 */
import { chmodSync, closeSync } from "node:fs";
import koffi from "koffi";
import { lastError, libc, linux, systemError } from "#shared/sockets/libc.ts";
import { watchReadiness } from "./readiness-signal.ts";

export interface Packet {
  readonly bytes: Uint8Array;
  /** Close-on-exec; whoever takes the packet closes it. */
  readonly fd?: number;
}

/** The peer sent what this protocol never does: an oversized message, or several descriptors. */
export class PacketMalformed extends Error {
  override readonly name = "PacketMalformed";
}

const socketType = linux.SOCK_SEQPACKET | linux.SOCK_NONBLOCK | linux.SOCK_CLOEXEC;
/** `sun_path` holds 108 bytes with its final zero. */
const longestPath = 107;

/** Wakes the waiting operations of one socket after each change of its state. */
class Waiters {
  readonly #wake = new Set<() => void>();

  readonly wakeAll = (): void => {
    const woken = [...this.#wake];
    this.#wake.clear();
    for (const wake of woken) wake();
  };

  /** Resolves at the next change; rejects with the signal's reason. */
  next(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const wake = () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      };
      const onAbort = () => {
        this.#wake.delete(wake);
        reject(signal?.reason as Error);
      };
      this.#wake.add(wake);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }
}

/** Common to connections and listeners: a descriptor, its readiness, its end. */
class WatchedSocket implements Disposable {
  protected readonly fd: number;
  protected isOpen = true;
  readonly #waiters = new Waiters();
  readonly #unwatch: () => void;

  constructor(fd: number) {
    this.fd = fd;
    try {
      this.#unwatch = watchReadiness(fd, this.#waiters.wakeAll);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Runs `attempt` until it has an answer; undefined says "not now". After close it throws EBADF. */
  protected async until<T>(what: string, signal: AbortSignal | undefined, attempt: () => T | undefined): Promise<T> {
    for (;;) {
      signal?.throwIfAborted();
      if (!this.isOpen) throw systemError(what, "EBADF");
      const answer = attempt();
      if (answer !== undefined) return answer;
      await this.#waiters.next(signal);
    }
  }

  /** Ends every wait. Closing twice is harmless. */
  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.#unwatch();
    libc.shutdown(this.fd, linux.SHUT_RDWR);
    closeSync(this.fd);
    this.#waiters.wakeAll();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export class SeqpacketSocket extends WatchedSocket {
  readonly #maxBytes: number;

  /** @param maxBytes a longer message is {@link PacketMalformed} */
  constructor(fd: number, maxBytes: number) {
    super(fd);
    this.#maxBytes = maxBytes;
  }

  /** @throws MeshError SYSTEM_CALL_FAILED with `errno`, EPIPE where the peer is gone */
  async send(bytes: Uint8Array, { fd, signal }: { fd?: number; signal?: AbortSignal } = {}): Promise<void> {
    await this.until("send a message", signal, () => {
      if (sendPacket(this.fd, bytes, fd)) return true;
      if (lastError() === "EAGAIN") return undefined;
      throw systemError("send a message");
    });
  }

  /**
   * The next message, or undefined when the peer has closed.
   *
   * @throws PacketMalformed, after closing every descriptor that came along
   */
  async receive(signal?: AbortSignal): Promise<Packet | undefined> {
    const packet = await this.until("receive a message", signal, () => {
      const received = receivePacket(this.fd, this.#maxBytes);
      if (received !== "refused") return received;
      const error = lastError();
      if (error === "EAGAIN") return undefined;
      if (error === "ECONNRESET") return "end";
      throw systemError("receive a message", error);
    });
    return packet === "end" ? undefined : packet;
  }
}

export class SeqpacketListener extends WatchedSocket {
  readonly #maxBytes: number;

  constructor(fd: number, maxBytes: number) {
    super(fd);
    this.#maxBytes = maxBytes;
  }

  async accept(signal?: AbortSignal): Promise<SeqpacketSocket> {
    const fd = await this.until("accept a connection", signal, () => {
      const accepted = libc.accept4(this.fd, null, null, linux.SOCK_NONBLOCK | linux.SOCK_CLOEXEC);
      if (accepted >= 0) return accepted;
      const error = lastError();
      if (error === "EAGAIN" || error === "ECONNABORTED") return undefined;
      throw systemError("accept a connection", error);
    });
    return new SeqpacketSocket(fd, this.#maxBytes);
  }
}

/** @throws MeshError SYSTEM_CALL_FAILED with `errno`: ENOENT or ECONNREFUSED where nobody listens */
export function connectSeqpacket(path: string, maxBytes: number): SeqpacketSocket {
  return withUnixSocket(`connect to "${path}"`, path, (fd, address) =>
    libc.connect(fd, address, address.length) === 0 ? new SeqpacketSocket(fd, maxBytes) : undefined,
  );
}

/**
 * `path` must not exist. Only our own user may connect, whatever the umask: descriptors are handed out here.
 *
 * @throws MeshError SYSTEM_CALL_FAILED with `errno`
 */
export function listenSeqpacket(path: string, maxBytes: number): SeqpacketListener {
  const backlog = 16;
  return withUnixSocket(`listen on "${path}"`, path, (fd, address) => {
    if (libc.bind(fd, address, address.length) !== 0) return undefined;
    chmodSync(path, 0o600); // before anybody can connect
    return libc.listen(fd, backlog) === 0 ? new SeqpacketListener(fd, maxBytes) : undefined;
  });
}

function withUnixSocket<T>(what: string, path: string, use: (fd: number, address: Uint8Array) => T | undefined): T {
  const address = unixAddress(path);
  if (address === undefined) throw systemError(`${what}, whose path is over ${longestPath} bytes`, "ENAMETOOLONG");
  const fd = libc.socket(linux.AF_UNIX, socketType, 0);
  if (fd < 0) throw systemError(what);
  const used = use(fd, address);
  if (used !== undefined) return used;
  const error = systemError(what);
  closeSync(fd);
  throw error;
}

function unixAddress(path: string): Uint8Array | undefined {
  const text = Buffer.from(path);
  if (text.length > longestPath) return undefined;
  const bytes = new Uint8Array(2 + text.length + 1);
  new Uint16Array(bytes.buffer, 0, 1)[0] = linux.AF_UNIX;
  bytes.set(text, 2);
  return bytes;
}

/**
 * `struct msghdr` of 64-bit Linux with one iovec and room for two descriptors, so that a peer who sends several is
 * found out (the kernel itself closes those beyond). One set serves all sockets: a call never waits.
 */
const controlSpace = 24; // CMSG_SPACE(sizeof(int)): a 16-byte cmsghdr and 8 bytes
const controlWithOne = 20; // CMSG_LEN(sizeof(int))
const header = new DataView(new ArrayBuffer(56));
const headerBytes = new Uint8Array(header.buffer);
const vector = new DataView(new ArrayBuffer(16));
const control = new DataView(new ArrayBuffer(controlSpace));
const little = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

function fillHeader(bytes: Uint8Array, controlLength: number): void {
  vector.setBigUint64(0, koffi.address(bytes), little);
  vector.setBigUint64(8, BigInt(bytes.length), little);
  header.setBigUint64(0, 0n, little); // msg_name
  header.setUint32(8, 0, little); // msg_namelen
  header.setBigUint64(16, koffi.address(vector.buffer), little); // msg_iov
  header.setBigUint64(24, 1n, little); // msg_iovlen
  header.setBigUint64(32, controlLength === 0 ? 0n : koffi.address(control.buffer), little); // msg_control
  header.setBigUint64(40, BigInt(controlLength), little); // msg_controllen
  header.setInt32(48, 0, little); // msg_flags
}

function sendPacket(socketFd: number, bytes: Uint8Array, fd: number | undefined): boolean {
  // Small typed arrays may live where the collector moves them; a buffer of its own stays put.
  const pinned = new Uint8Array(new ArrayBuffer(bytes.length));
  pinned.set(bytes);
  fillHeader(pinned, fd === undefined ? 0 : controlSpace);
  if (fd !== undefined) {
    control.setBigUint64(0, BigInt(controlWithOne), little);
    control.setInt32(8, linux.SOL_SOCKET, little);
    control.setInt32(12, linux.SCM_RIGHTS, little);
    control.setInt32(16, fd, little);
    control.setInt32(20, 0, little);
  }
  return libc.sendmsg(socketFd, headerBytes, linux.MSG_NOSIGNAL | linux.MSG_DONTWAIT) === bytes.length;
}

function receivePacket(socketFd: number, maxBytes: number): Packet | "end" | "refused" {
  const buffer = new Uint8Array(new ArrayBuffer(maxBytes));
  fillHeader(buffer, controlSpace);
  const length = libc.recvmsg(socketFd, headerBytes, linux.MSG_DONTWAIT | linux.MSG_CMSG_CLOEXEC);
  if (length < 0) return "refused";
  const [fd, ...surplus] = receivedDescriptors();
  const flags = header.getInt32(48, little);
  const refusal =
    (flags & linux.MSG_TRUNC) !== 0
      ? `the message is longer than ${maxBytes} bytes`
      : (flags & linux.MSG_CTRUNC) !== 0 || surplus.length > 0
        ? "more than one descriptor came with the message"
        : undefined;
  if (refusal !== undefined) {
    for (const extra of [fd, ...surplus]) if (extra !== undefined) closeSync(extra);
    throw new PacketMalformed(`Cannot take a message: ${refusal}`);
  }
  if (length === 0) {
    if (fd !== undefined) closeSync(fd);
    return "end";
  }
  const bytes = buffer.subarray(0, length);
  return fd === undefined ? { bytes } : { bytes, fd };
}

function receivedDescriptors(): number[] {
  const filled = Number(header.getBigUint64(40, little));
  if (filled < controlWithOne) return [];
  if (control.getInt32(8, little) !== linux.SOL_SOCKET || control.getInt32(12, little) !== linux.SCM_RIGHTS) return [];
  const count = Math.min(2, (Number(control.getBigUint64(0, little)) - 16) / 4);
  return Array.from({ length: count }, (_, index) => control.getInt32(16 + 4 * index, little));
}
