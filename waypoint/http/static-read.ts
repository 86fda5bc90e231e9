/**
 * Sockets that read into one buffer of the process instead of one for each read: the kernel's bytes are looked at before
 * the next socket is read, so one is enough. What has to outlive the call is copied by whoever takes it.
 */
import type { SocketConstructorOpts } from "node:net";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";

export interface BytesSink {
  /** Bytes from 0 to `length`. Unless `isOwned`, they are only there during the call. */
  takeBytes(buffer: Buffer, length: number, isOwned: boolean): void;
}

const sharedBytes = 64 * 1024;
const shared = Buffer.allocUnsafeSlow(sharedBytes);

class StaticReader {
  sink: BytesSink | undefined;
  /** What came before somebody was interested. */
  early: Buffer[] = [];

  readonly callback = (length: number): boolean => {
    if (this.sink === undefined) this.early.push(Buffer.from(shared.subarray(0, length)));
    else this.sink.takeBytes(shared, length, false);
    return true;
  };
}

const readerOf = Symbol("static reader");
type Adopted = Socket & { [readerOf]?: StaticReader };

/** An unconnected socket, as `new net.Socket(options)` makes it, that emits no `data` events: see {@link readStatically}. */
export function makeSocket(options: SocketConstructorOpts = {}): Socket {
  const reader = new StaticReader();
  const socket: Adopted = new Socket({ ...options, onread: { buffer: shared, callback: reader.callback } });
  socket[readerOf] = reader;
  return socket;
}

/**
 * Gives the bytes of a duplex to `sink` from now on, if it is a socket of {@link makeSocket}, or one that a server has
 * accepted and nobody listens to. @returns whether it is
 */
export function readStatically(duplex: Duplex, sink: BytesSink): boolean {
  const reader = (duplex as Adopted)[readerOf] ?? adopt(duplex);
  if (reader === undefined) return false;
  reader.sink = sink;
  const { early } = reader;
  reader.early = [];
  for (const bytes of early) sink.takeBytes(bytes, bytes.length, true);
  return true;
}

/**
 * Where a socket keeps the buffer that it was made with. Node offers `onread` only to those who make a socket, not to a
 * server that accepts one; what that saves is a good part of what a small request costs. If Node ever keeps it elsewhere,
 * these are not found, and `data` events do.
 */
const probe = makeSocket();
const slotOf = (description: string) =>
  Object.getOwnPropertySymbols(probe).find((key) => key.description === description);
const bufferSlot = slotOf("kBuffer");
const callbackSlot = slotOf("kBufferCb");

interface Internals {
  [slot: symbol]: unknown;
  readonly _handle?: { useUserBuffer?: (buffer: Buffer) => void } | null;
}

function adopt(duplex: Duplex): StaticReader | undefined {
  if (bufferSlot === undefined || callbackSlot === undefined) return undefined;
  // A TLS socket is another thing, although it inherits.
  if (Object.getPrototypeOf(duplex) !== Socket.prototype || duplex.listenerCount("data") > 0) return undefined;
  const internals = duplex as unknown as Internals;
  const handle = internals._handle;
  if (internals[bufferSlot] !== null || typeof handle?.useUserBuffer !== "function") return undefined;
  const reader = new StaticReader();
  for (let bytes = readWaiting(duplex); bytes !== undefined; bytes = readWaiting(duplex)) reader.early.push(bytes);
  internals[bufferSlot] = shared;
  internals[callbackSlot] = reader.callback;
  handle.useUserBuffer(shared);
  (duplex as Adopted)[readerOf] = reader;
  return reader;
}

/** What has been read before, by whoever looked at the first bytes. */
function readWaiting(duplex: Duplex): Buffer | undefined {
  return duplex.readableLength > 0 ? ((duplex.read() as Buffer | null) ?? undefined) : undefined;
}
