/** The `traceparent` header (W3C Trace Context level 1, §3.2), here only an identifier that joins two logs. */
import { randomFillSync } from "node:crypto";

const bytesPerHeader = 24;
/** Randomness for 128 headers at a time: drawing it for each connection would be dearer. */
const random = Buffer.alloc(bytesPerHeader * 128);
let used = random.length;

/** A fresh one; we never sample, so the flags are zero. */
export function newTraceparent(): string {
  if (used === random.length) {
    randomFillSync(random);
    used = 0;
  }
  const digits = random.toString("hex", used, (used += bytesPerHeader));
  return `00-${digits.slice(0, 32)}-${digits.slice(32)}-00`;
}

/** The trace id of a well-formed header of any version; undefined for anything else. */
export function traceIdOf(header: string | undefined): string | undefined {
  const match = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/.exec(header ?? "");
  const [, version, traceId, parentId] = match ?? [];
  if (traceId === undefined || version === "ff" || /^0+$/.test(traceId) || /^0+$/.test(parentId ?? ""))
    return undefined;
  return traceId;
}
