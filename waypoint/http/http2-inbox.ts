/** Octets that came and that nobody may have yet. Their number is bounded by the stream's window; here, so are the pieces. */

/** A piece below this is copied: as it is, it would keep the whole buffer alive that the transport was read into. */
const smallPiece = 4_096;

export class Inbox {
  #pieces: Buffer[] = [];
  #first = 0;
  /** Octets used of the last piece, where that one is ours to fill; -1: it is not. */
  #filled = -1;
  bytes = 0;

  push(piece: Buffer): void {
    this.bytes += piece.length;
    if (piece.length >= smallPiece) {
      this.#closeLast();
      this.#pieces.push(piece);
      return;
    }
    let rest = piece;
    while (rest.length > 0) {
      if (this.#filled < 0) {
        this.#pieces.push(Buffer.allocUnsafeSlow(4 * smallPiece));
        this.#filled = 0;
      }
      const last = this.#pieces.at(-1) as Buffer;
      const copied = rest.copy(last, this.#filled);
      this.#filled += copied;
      if (this.#filled === last.length) this.#filled = -1;
      rest = rest.subarray(copied);
    }
  }

  shift(): Buffer | undefined {
    if (this.#first === this.#pieces.length) return undefined;
    if (this.#first === this.#pieces.length - 1) this.#closeLast();
    const piece = this.#pieces[this.#first++] as Buffer;
    if (this.#first === this.#pieces.length) {
      this.#pieces = [];
      this.#first = 0;
    }
    this.bytes -= piece.length;
    return piece;
  }

  #closeLast(): void {
    if (this.#filled < 0) return;
    const last = this.#pieces.length - 1;
    this.#pieces[last] = (this.#pieces[last] as Buffer).subarray(0, this.#filled);
    this.#filled = -1;
  }
}
