/** A request's body as far as it has come, kept for the next attempt; bounded. */
import type { Headers } from "#waypoint/http/headers.ts";
import type { Attempt } from "./attempt.ts";

export class RequestCopy {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  isComplete = false;
  #trailers: Headers | undefined;

  static bodiless(): RequestCopy {
    const copy = new RequestCopy();
    copy.isComplete = true;
    return copy;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
  }

  complete(trailers: Headers | undefined): void {
    this.isComplete = true;
    this.#trailers = trailers;
  }

  /** Whether a request has nothing after its head. */
  get isEmpty(): boolean {
    return this.isComplete && this.#bytes === 0 && this.#trailers === undefined;
  }

  /** Writes what there is; false where the upstream would rather wait for more. */
  replay(attempt: Attempt): boolean {
    let takesMore = true;
    for (const chunk of this.#chunks) takesMore = attempt.write(chunk);
    if (this.isComplete) attempt.endRequest(this.#trailers);
    return takesMore;
  }
}
