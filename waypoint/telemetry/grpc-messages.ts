/** Counts the messages in one direction of a gRPC call: each is preceded by its length (five bytes, no body is looked at). */
const prefixBytes = 5;

export class GrpcMessageCounter {
  /** Whose prefix has been seen whole. */
  messages = 0;
  /** Of the message under way. */
  #skip = 0;
  /** Of a prefix that is spread over chunks. */
  #prefixSeen = 0;
  #length = 0;

  data(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, chunk.length - at);
        this.#skip -= skipped;
        at += skipped;
      } else if (this.#prefixSeen === 0 && chunk.length - at >= prefixBytes) {
        this.messages += 1;
        this.#skip = chunk.readUInt32BE(at + 1);
        at += prefixBytes;
      } else {
        if (this.#prefixSeen > 0) this.#length = this.#length * 256 + (chunk[at] as number);
        this.#prefixSeen += 1;
        at += 1;
        if (this.#prefixSeen === prefixBytes) this.#endPrefix();
      }
    }
  }

  #endPrefix(): void {
    this.messages += 1;
    this.#skip = this.#length;
    this.#prefixSeen = 0;
    this.#length = 0;
  }
}
