/** Reads server name and ALPN out of a TLS ClientHello (RFC 8446 §4.1.2), which may be spread over several records. */

export interface ClientHello {
  /** In lower case; empty where the client names none. */
  readonly serverName: string;
  readonly alpn: readonly string[];
}

const record = { headerBytes: 5, handshake: 0x16, maxBytes: 16_640 } as const;
const clientHelloType = 1;
const extensionTypes = { serverName: 0, alpn: 16 } as const;

/** `more` where it is not complete yet; undefined where it is no ClientHello. */
export function readClientHello(bytes: Buffer): ClientHello | "more" | undefined {
  const message = joinRecords(bytes);
  if (typeof message !== "object") return message;
  try {
    return readMessage(new Cursor(message));
  } catch {
    return undefined; // lengths that lead past the end
  }
}

/** The handshake message, its header of four octets left out. */
function joinRecords(bytes: Buffer): Buffer | "more" | undefined {
  const parts: Buffer[] = [];
  let joined = 0;
  let at = 0;
  for (;;) {
    if (bytes.length < at + record.headerBytes) return isHandshake(bytes, at) ? "more" : undefined;
    if (!isHandshake(bytes, at)) return undefined;
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0 || length > record.maxBytes) return undefined;
    const part = bytes.subarray(at + record.headerBytes, at + record.headerBytes + length);
    parts.push(part);
    joined += part.length;
    if (joined >= 4) {
      const message = parts.length === 1 ? part : Buffer.concat(parts);
      if (message[0] !== clientHelloType) return undefined;
      const total = 4 + message.readUIntBE(1, 3);
      if (joined >= total) return message.subarray(4, total);
    }
    if (part.length < length) return "more";
    at += record.headerBytes + length;
  }
}

const isHandshake = (bytes: Buffer, at: number): boolean =>
  (bytes.length <= at || bytes[at] === record.handshake) && (bytes.length <= at + 1 || bytes[at + 1] === 3);

function readMessage(hello: Cursor): ClientHello {
  hello.skip(2 + 32); // legacy_version, random
  hello.skip(hello.uint8()); // legacy_session_id
  hello.skip(hello.uint16()); // cipher_suites
  hello.skip(hello.uint8()); // legacy_compression_methods
  let serverName = "";
  let alpn: readonly string[] = [];
  if (hello.isEnd) return { serverName, alpn };
  const extensions = hello.part(hello.uint16());
  while (!extensions.isEnd) {
    const type = extensions.uint16();
    const body = extensions.part(extensions.uint16());
    if (type === extensionTypes.serverName) serverName = readServerName(body);
    else if (type === extensionTypes.alpn) alpn = readAlpn(body);
  }
  return { serverName, alpn };
}

function readServerName(body: Cursor): string {
  const names = body.part(body.uint16());
  while (!names.isEnd) {
    const isHostName = names.uint8() === 0;
    const name = names.part(names.uint16()).text();
    if (isHostName) return name.toLowerCase();
  }
  return "";
}

function readAlpn(body: Cursor): readonly string[] {
  const list = body.part(body.uint16());
  const names: string[] = [];
  while (!list.isEnd) names.push(list.part(list.uint8()).text());
  return names;
}

/** @throws RangeError where a length leads past the end */
class Cursor {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  uint8(): number {
    return this.#bytes.readUInt8(this.#move(1));
  }

  uint16(): number {
    return this.#bytes.readUInt16BE(this.#move(2));
  }

  skip(count: number): void {
    this.#move(count);
  }

  part(count: number): Cursor {
    const start = this.#move(count);
    return new Cursor(this.#bytes.subarray(start, start + count));
  }

  text(): string {
    return this.#bytes.toString("latin1");
  }

  #move(count: number): number {
    const start = this.#at;
    if (start + count > this.#bytes.length) throw new RangeError("past the end");
    this.#at += count;
    return start;
  }
}
