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

/** Text as a field value: what is not ASCII goes as UTF-8, each byte a character. */
export const toBytes = (text: string): string => Buffer.from(text, "utf8").toString("latin1");
