/** Looks at the first bytes of a connection and leaves them there, for whoever serves it to read them first. */
import type { Duplex } from "node:stream";
import type { Clock } from "#shared/clock/clock.ts";

export interface PeekOptions<T> {
  readonly clock: Clock;
  /** Undefined for: not to be told yet. `isEnd` says that nothing more can be looked at; then it has to be told. */
  readonly look: (bytes: Buffer, isEnd: boolean) => T | undefined;
  /** 0 for none. Milliseconds. */
  readonly deadlineMs: number;
  readonly onDeadline: () => void;
  readonly onSeen: (seen: T) => void;
  /** It went away without a byte. */
  readonly onGone: () => void;
}

/** Whether the peer has ended, though what it said before is still to be read; Node keeps that to itself. */
const hasEnded = (stream: Duplex): boolean =>
  (stream as unknown as { readonly _readableState: { readonly ended: boolean } })._readableState.ended;

/** Calls exactly one of the three, later. Its listeners are gone by then, errors excepted, which are nobody's yet. */
export function peek<T>(stream: Duplex, options: PeekOptions<T>): void {
  const { clock, look, deadlineMs, onDeadline, onSeen, onGone } = options;
  let seenBytes = 0;
  const stop = () => {
    cancel?.();
    stream.off("readable", onReadable);
    stream.off("end", onClose);
    stream.off("close", onClose);
  };
  const onReadable = () => {
    const isEnd = hasEnded(stream) || stream.readableLength >= stream.readableHighWaterMark;
    if (stream.readableLength === 0 || (stream.readableLength === seenBytes && !isEnd)) return;
    const bytes = readAll(stream);
    seenBytes = bytes.length;
    const seen = look(bytes, isEnd);
    if (seen !== undefined) stop();
    // While it waits in the stream, the stream does not say that it has ended.
    stream.unshift(bytes);
    if (seen !== undefined) onSeen(seen);
  };
  const onClose = () => {
    stop();
    onGone();
  };
  const cancel =
    deadlineMs > 0
      ? clock.schedule(deadlineMs, () => {
          stop();
          onDeadline();
        })
      : undefined;
  stream.on("readable", onReadable);
  stream.once("end", onClose);
  stream.once("close", onClose);
}

function readAll(stream: Duplex): Buffer {
  const chunks: Buffer[] = [];
  for (let chunk = stream.read() as Buffer | null; chunk !== null; chunk = stream.read() as Buffer | null) {
    chunks.push(chunk);
  }
  return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
}
