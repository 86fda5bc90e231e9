/**
 * Just enough DER (ITU-T X.690) to write a certificate request. The node proxy asks for certificates all its life and
 * must stay small: this page of code spares it a general ASN.1 library and its object model.
 */
export type Der = Buffer;

function tagged(tag: number, content: Uint8Array): Der {
  return Buffer.concat([Buffer.from([tag]), length(content.length), content]);
}

function length(bytes: number): Buffer {
  if (bytes < 0x80) return Buffer.from([bytes]);
  const digits: number[] = [];
  for (let rest = bytes; rest > 0; rest = Math.floor(rest / 256)) digits.unshift(rest % 256);
  return Buffer.from([0x80 | digits.length, ...digits]);
}

export const sequence = (...items: readonly Der[]): Der => tagged(0x30, Buffer.concat(items));
export const set = (...items: readonly Der[]): Der => tagged(0x31, Buffer.concat(items));
export const octetString = (content: Uint8Array): Der => tagged(0x04, content);
export const bitString = (content: Uint8Array): Der => tagged(0x03, Buffer.concat([Buffer.from([0]), content]));
export const booleanTrue = (): Der => Buffer.from([0x01, 0x01, 0xff]);
/** 0 to 127, which is all a request needs. */
export const smallInteger = (value: number): Der => Buffer.from([0x02, 0x01, value]);
/** `[number] EXPLICIT`, or the constructed form of an implicit tag. */
export const contextConstructed = (number: number, ...items: readonly Der[]): Der =>
  tagged(0xa0 | number, Buffer.concat(items));
/** `[number] IMPLICIT` over a primitive string. */
export const contextPrimitive = (number: number, content: Uint8Array): Der => tagged(0x80 | number, content);

/** Object identifier from its dotted form. */
export function objectIdentifier(dotted: string): Der {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  return tagged(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]));
}

/** Seven bits a byte, most significant first, all but the last marked. */
function base128(value: number): number[] {
  const bytes = [value & 0x7f];
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) bytes.unshift((rest & 0x7f) | 0x80);
  return bytes;
}

export function pem(label: string, der: Uint8Array): string {
  const lines = Buffer.from(der)
    .toString("base64")
    .match(/.{1,64}/g);
  return `-----BEGIN ${label}-----\n${(lines ?? []).join("\n")}\n-----END ${label}-----\n`;
}
