/**
 * A program of its own, as readiness comes by a signal that test runners keep for themselves: sends a real receiver
 * what our own sender never sends, and prints what became of it.
 *
 * Arguments: for each case `<bytes>:<descriptors>`.
 */
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import koffi from "koffi";
import { libc, linux, systemError } from "#shared/sockets/libc.ts";
import { connectSeqpacket, listenSeqpacket, type SeqpacketSocket } from "./seqpacket.ts";

export interface ProbeReport {
  /** Of the socket's file. */
  readonly mode: number;
  readonly outcomes: readonly { readonly outcome: string; readonly leaked: number; readonly next: string }[];
  /** How the wait ended when the sender went away. */
  readonly end: string;
}

const maxBytes = 1_024;

class BareSocket implements Disposable {
  readonly #socket: SeqpacketSocket;

  constructor(path: string) {
    this.#socket = connectSeqpacket(path, maxBytes);
  }

  /** `struct msghdr` with as many descriptors as one likes. */
  send(bytes: Buffer, fds: readonly number[]): void {
    const control = new DataView(new ArrayBuffer(16 + 8 * Math.ceil(fds.length / 2)));
    control.setBigUint64(0, BigInt(16 + 4 * fds.length), true);
    control.setInt32(8, linux.SOL_SOCKET, true);
    control.setInt32(12, linux.SCM_RIGHTS, true);
    for (const [at, fd] of fds.entries()) control.setInt32(16 + 4 * at, fd, true);
    const body = new Uint8Array(new ArrayBuffer(bytes.length));
    body.set(bytes);
    const vector = new DataView(new ArrayBuffer(16));
    vector.setBigUint64(0, koffi.address(body), true);
    vector.setBigUint64(8, BigInt(bytes.length), true);
    const header = new DataView(new ArrayBuffer(56));
    header.setBigUint64(16, koffi.address(vector.buffer), true);
    header.setBigUint64(24, 1n, true);
    if (fds.length > 0) {
      header.setBigUint64(32, koffi.address(control.buffer), true);
      header.setBigUint64(40, BigInt(control.byteLength), true);
    }
    const { fd } = this.#socket as unknown as { readonly fd: number };
    if (libc.sendmsg(fd, new Uint8Array(header.buffer), linux.MSG_NOSIGNAL) !== bytes.length) throw systemError("send");
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

const openDescriptors = () => readdirSync("/proc/self/fd").length;

async function receiveOne(receiver: SeqpacketSocket): Promise<string> {
  try {
    const packet = await receiver.receive();
    if (packet === undefined) return "end";
    if (packet.fd !== undefined) closeSync(packet.fd);
    return `${packet.bytes.length} bytes${packet.fd === undefined ? "" : " and a descriptor"}`;
  } catch (error) {
    return error instanceof Error ? error.name : "?";
  }
}

async function probe(path: string, cases: readonly string[]): Promise<ProbeReport> {
  process.umask(0);
  using listener = listenSeqpacket(path, maxBytes);
  const accepted = listener.accept();
  const sender = new BareSocket(path);
  using receiver = await accepted;
  const outcomes = [];
  for (const each of cases) {
    const [bytes = 0, descriptors = 0] = each.split(":").map(Number);
    const sent = Array.from({ length: descriptors }, () => openSync("/dev/null", "r"));
    const before = openDescriptors();
    sender.send(Buffer.alloc(bytes, "x"), sent);
    const outcome = await receiveOne(receiver);
    const leaked = openDescriptors() - before;
    sender.send(Buffer.from("next"), []);
    outcomes.push({ outcome, leaked, next: await receiveOne(receiver) });
    for (const fd of sent) closeSync(fd);
  }
  const { mode } = statSync(path);
  const waiting = receiveOne(receiver);
  sender[Symbol.dispose]();
  return { mode: mode & 0o777, outcomes, end: await waiting };
}

const folder = mkdtempSync(join(tmpdir(), "ambit-zds-"));
try {
  console.log(JSON.stringify(await probe(join(folder, "socket"), process.argv.slice(2))));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
