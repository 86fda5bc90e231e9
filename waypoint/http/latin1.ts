/** Octets as text, one for each character. Node has these methods, which save a look at the encoding's name; its types do not. */
interface Latin1Buffer {
  latin1Slice(start: number, end: number): string;
  latin1Write(text: string, at: number): number;
}

export const latin1Slice = (bytes: Buffer, start: number, end: number): string =>
  (bytes as unknown as Latin1Buffer).latin1Slice(start, end);

/** Octets written. */
export const latin1Write = (bytes: Buffer, text: string, at: number): number =>
  (bytes as unknown as Latin1Buffer).latin1Write(text, at);

/** Such text is the same as bytes. */
// oxlint-disable-next-line no-control-regex -- a range of characters, from the first on
const isAscii = (text: string): boolean => /^[\0-\x7f]*$/.test(text);

/** Text as a field value: what is not ASCII goes as UTF-8, each byte a character. */
export const toBytes = (text: string): string => (isAscii(text) ? text : Buffer.from(text, "utf8").toString("latin1"));

/** A field value as text: its bytes are taken for UTF-8. */
export const toText = (bytes: string): string =>
  isAscii(bytes) ? bytes : Buffer.from(bytes, "latin1").toString("utf8");
