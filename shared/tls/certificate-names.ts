/**
 * The names of a certificate, read from its DER (RFC 5280 §4.2.1.6). Node offers subject alternative names only as
 * one line of text, in which a name's own commas and quotes have to be told from the separators; an identity must not
 * depend on that.
 */
import { ipFromBytes } from "#shared/net/ip.ts";

const tagOf = { sequence: 0x30, objectIdentifier: 0x06, octetString: 0x04, extensions: 0xa3 } as const;
/** Tags of the alternatives of GeneralName that anybody uses. */
const nameTags = { email: 0x81, dns: 0x82, uri: 0x86, ip: 0x87 } as const;
/** 2.5.29.17 */
const subjectAltName = Buffer.from([0x55, 0x1d, 0x11]);

interface Element {
  readonly tag: number;
  readonly content: Buffer;
}

export interface AlternativeName {
  readonly type: keyof typeof nameTags;
  /** An address in canonical form, anything else as it is written, Latin-1. */
  readonly value: string;
}

/** URI names in the certificate's order; none where the DER is malformed or names its subject twice. */
export function uriNamesOf(certificateDer: Uint8Array): readonly string[] {
  return alternativeNamesOf(certificateDer).flatMap(({ type, value }) => (type === "uri" ? [value] : []));
}

/** Names of every kind in the certificate's order; none where the DER is malformed or names its subject twice. */
export function alternativeNamesOf(certificateDer: Uint8Array): readonly AlternativeName[] {
  const der = Buffer.from(certificateDer.buffer, certificateDer.byteOffset, certificateDer.byteLength);
  try {
    const [certificate] = elements(der);
    const [toBeSigned] = elements(contentOf(certificate, tagOf.sequence));
    const fields = elements(contentOf(toBeSigned, tagOf.sequence));
    const wrapped = fields.find(({ tag }) => tag === tagOf.extensions);
    const [list] = elements(wrapped?.content ?? Buffer.alloc(0));
    const found = elements(list?.content ?? Buffer.alloc(0)).flatMap(alternativeNames);
    return found.length === 1 ? (found[0] ?? []) : [];
  } catch (error) {
    if (error instanceof MalformedDer) return [];
    throw error;
  }
}

/** One list of names where the extension is the one looked for, none otherwise. */
function alternativeNames(extension: Element): readonly (readonly AlternativeName[])[] {
  const parts = elements(extension.content);
  if (parts[0]?.tag !== tagOf.objectIdentifier || !parts[0].content.equals(subjectAltName)) return [];
  const [names] = elements(contentOf(parts.at(-1), tagOf.octetString));
  return [elements(contentOf(names, tagOf.sequence)).flatMap(nameOf)];
}

function nameOf({ tag, content }: Element): readonly AlternativeName[] {
  if (tag === nameTags.ip) return addressOf(content);
  for (const type of ["email", "dns", "uri"] as const) {
    if (tag === nameTags[type]) return [{ type, value: content.toString("latin1") }];
  }
  return [];
}

function addressOf(octets: Buffer): readonly AlternativeName[] {
  const ip = ipFromBytes(octets);
  return ip === undefined ? [] : [{ type: "ip", value: ip }];
}

class MalformedDer extends Error {}

function contentOf(element: Element | undefined, tag: number): Buffer {
  if (element?.tag !== tag) throw new MalformedDer("unexpected element");
  return element.content;
}

/** @throws MalformedDer where lengths do not add up */
function elements(der: Buffer): readonly Element[] {
  const found: Element[] = [];
  for (let at = 0; at < der.length;) {
    const { start, length } = lengthAt(der, at + 1);
    if (start + length > der.length) throw new MalformedDer("element longer than what holds it");
    found.push({ tag: der[at] ?? 0, content: der.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}

/** The length written at `at`, and where what it measures starts. */
function lengthAt(der: Buffer, at: number): { readonly start: number; readonly length: number } {
  const first = der[at];
  if (first === undefined) throw new MalformedDer("no length");
  if (first < 0x80) return { start: at + 1, length: first };
  const digits = first & 0x7f;
  if (digits === 0 || digits > 4 || at + 1 + digits > der.length) throw new MalformedDer("no definite length");
  return { start: at + 1 + digits, length: der.readUIntBE(at + 1, digits) };
}
