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

const readerOf = Symbol("static reader");

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

/** An unconnected socket, as `new net.Socket(options)` makes it, that emits no `data` events: see {@link readStatically}. */
export function makeSocket(options: SocketConstructorOpts = {}): Socket {
  const reader = new StaticReader();
  const socket = new Socket({ ...options, onread: { buffer: shared, callback: reader.callback } });
  (socket as Socket & { [readerOf]: StaticReader })[readerOf] = reader;
  return socket;
}

/** Whether the duplex is one of {@link makeSocket}; then its bytes go to `sink` from now on. */
export function readStatically(duplex: Duplex, sink: BytesSink): boolean {
  const reader = (duplex as Partial<Duplex & { [readerOf]: StaticReader }>)[readerOf];
  if (reader === undefined) return false;
  reader.sink = sink;
  const { early } = reader;
  reader.early = [];
  for (const bytes of early) sink.takeBytes(bytes, bytes.length, true);
  return true;
}
