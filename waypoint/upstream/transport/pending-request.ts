import type { Headers } from "#waypoint/http/headers.ts";
import type { RequestHead, ResetReason, ResponseReader, UpstreamStream } from "#waypoint/http/streams.ts";

/**
 * A request that waits for a connection, and the handle that its owner keeps when it has one. What is written meanwhile
 * is one chunk as a rule: `write` says at once that there is no room for more.
 */
export class PendingRequest implements UpstreamStream {
  readonly head: RequestHead;
  readonly reader: ResponseReader;
  readonly #endsWithHead: boolean;
  readonly #onGone: (request: PendingRequest) => void;
  #stream: UpstreamStream | undefined;
  #chunks: Buffer[] = [];
  #end: { readonly trailers: Headers | undefined } | undefined;
  #isPaused = false;
  #isOver = false;

  /** @param onGone called when the owner gives up before there is a connection */
  constructor(
    head: RequestHead,
    endsWithHead: boolean,
    reader: ResponseReader,
    onGone: (request: PendingRequest) => void,
  ) {
    this.head = head;
    this.reader = reader;
    this.#endsWithHead = endsWithHead;
    this.#onGone = onGone;
  }

  /** There is a connection. */
  begin(send: (head: RequestHead, endsWithHead: boolean, reader: ResponseReader) => UpstreamStream): void {
    if (this.#isOver) return;
    const stream = (this.#stream = send(this.head, this.#endsWithHead, this.reader));
    if (this.#isPaused) stream.pause();
    const chunks = this.#chunks;
    this.#chunks = [];
    let hasRoom = true;
    for (const chunk of chunks) hasRoom = stream.write(chunk);
    if (this.#end !== undefined) stream.end(this.#end.trailers);
    else if (chunks.length > 0 && hasRoom) this.reader.drained();
  }

  /** There will be none. */
  fail(reason: ResetReason, detail: string): void {
    if (this.#isOver || this.#stream !== undefined) return;
    this.#isOver = true;
    this.#chunks = [];
    this.reader.reset(reason, detail);
  }

  write(chunk: Buffer): boolean {
    if (this.#stream !== undefined) return this.#stream.write(chunk);
    if (this.#isOver || this.#end !== undefined) return true;
    this.#chunks.push(chunk);
    return false;
  }

  end(trailers?: Headers): void {
    if (this.#stream !== undefined) this.#stream.end(trailers);
    else this.#end ??= { trailers };
  }

  reset(reason: ResetReason): void {
    if (this.#stream !== undefined) {
      this.#stream.reset(reason);
      return;
    }
    if (this.#isOver) return;
    this.#isOver = true;
    this.#chunks = [];
    this.#onGone(this);
  }

  pause(): void {
    this.#isPaused = true;
    this.#stream?.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#stream?.resume();
  }
}
