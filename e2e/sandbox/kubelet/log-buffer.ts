/** The output of one run of a container, kept in memory within a bound, split into lines only when somebody reads it. */

interface Piece {
  readonly timeMs: number;
  readonly bytes: Buffer;
}

/** Per run of a container; as much as the kubelet keeps of one file (containerLogMaxSize, 10 MiB). */
export const logBytesDefault = 10 * 1024 * 1024;

export interface LogLine {
  readonly timeMs: number;
  /** With the newline, except perhaps the last one. */
  readonly bytes: Buffer;
}

export class LogBuffer {
  readonly #limit: number;
  #pieces: Piece[] = [];
  #bytes = 0;
  #isEnded = false;
  readonly #listeners = new Set<() => void>();
  /** Number of the first piece still kept, so that readers notice what was dropped before they came to it. */
  #first = 0;

  constructor(limit = logBytesDefault) {
    this.#limit = limit;
  }

  append(timeMs: number, bytes: Buffer): void {
    this.#pieces.push({ timeMs, bytes });
    this.#bytes += bytes.length;
    while (this.#bytes > this.#limit && this.#pieces.length > 1) {
      this.#bytes -= this.#pieces.shift()?.bytes.length ?? 0;
      this.#first++;
    }
    this.#tell();
  }

  /** No more will come; those who follow are told. */
  end(): void {
    this.#isEnded = true;
    this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }

  /** All lines so far. A line that came in several pieces has the time of its first. */
  lines(): LogLine[] {
    const splitter = new LineSplitter();
    return [...this.#pieces.flatMap((piece) => splitter.add(piece)), ...splitter.rest()];
  }

  /** Every line, those to come included, until the run ends or `signal` aborts. */
  async *follow(signal: AbortSignal): AsyncGenerator<LogLine> {
    const splitter = new LineSplitter();
    let next = this.#first;
    for (;;) {
      next = Math.max(next, this.#first);
      const pieces = this.#pieces.slice(next - this.#first);
      next += pieces.length;
      for (const piece of pieces) yield* splitter.add(piece);
      if (signal.aborted) return;
      if (pieces.length > 0) continue;
      if (this.#isEnded) break;
      await this.#change(signal);
    }
    yield* splitter.rest();
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#listeners.delete(done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#listeners.add(done);
      signal.addEventListener("abort", done, { once: true });
    });
  }
}

/** Longest line that is kept together; a longer one is cut here, so that following cannot hold more than this. */
const longestLineBytes = 64 * 1024;

class LineSplitter {
  #open: Piece[] = [];
  #openBytes = 0;

  add({ timeMs, bytes }: Piece): LogLine[] {
    const lines: LogLine[] = [];
    let start = 0;
    for (;;) {
      const end = bytes.indexOf(10, start);
      if (end < 0) break;
      lines.push(this.#close({ timeMs, bytes: bytes.subarray(start, end + 1) }));
      start = end + 1;
    }
    if (start < bytes.length) {
      this.#open.push({ timeMs, bytes: bytes.subarray(start) });
      this.#openBytes += bytes.length - start;
    }
    if (this.#openBytes > longestLineBytes) lines.push(...this.rest());
    return lines;
  }

  #close(last: Piece): LogLine {
    const pieces = [...this.#open, last];
    this.#open = [];
    this.#openBytes = 0;
    return { timeMs: pieces[0]?.timeMs ?? last.timeMs, bytes: Buffer.concat(pieces.map(({ bytes }) => bytes)) };
  }

  rest(): LogLine[] {
    const last = this.#open.pop();
    return last === undefined ? [] : [this.#close(last)];
  }
}
