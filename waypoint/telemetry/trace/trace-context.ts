/** Which trace a request belongs to, as headers tell it from one proxy to the next: W3C Trace Context, and B3 in both forms. */
import { randomFillSync } from "node:crypto";
import type { Headers } from "#waypoint/http/headers.ts";

export interface TraceContext {
  /** 32 digits, hexadecimal. */
  readonly traceId: string;
  /** 16 digits. Of the span that a request is under. */
  readonly spanId: string;
  /** Undefined where the caller leaves it to us. */
  readonly isSampled: boolean | undefined;
}

/** How a caller spoke, and so how the next one is spoken to. */
export type Style = "w3c" | "b3" | "b3-multi";

export interface Extracted extends TraceContext {
  readonly style: Style;
  /** `tracestate`, as it came. */
  readonly state: string;
}

const traceParent = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const b3Single = /^([0-9a-f]{16}|[0-9a-f]{32})-([0-9a-f]{16})(?:-([01d]))?(?:-[0-9a-f]{16})?$/i;
const zeros = /^0+$/;

/** Undefined where the request is the first of its trace; `broken` where it tells something that cannot be read. */
export function extract(headers: Headers): Extracted | "broken" | undefined {
  const parent = headers.get("traceparent");
  if (parent !== undefined) return fromW3c(parent, headers.all("tracestate").join(","));
  const single = headers.get("b3");
  if (single !== undefined) return fromB3(single);
  return headers.has("x-b3-traceid") ? fromB3Headers(headers) : undefined;
}

/** The digit for a B3 caller who only decides; undefined where none does. */
export function decisionOf(headers: Headers): boolean | undefined {
  const text = headers.get("b3") ?? headers.get("x-b3-sampled");
  if (text === "0" || text === "false") return false;
  if (text === "1" || text === "d" || text === "true") return true;
  return headers.get("x-b3-flags") === "1" ? true : undefined;
}

function fromW3c(text: string, state: string): Extracted | "broken" {
  const [, version = "", traceId = "", spanId = "", flags = "", more] = traceParent.exec(text) ?? [];
  const isBroken = version === "" || version === "ff" || (version === "00" && more !== undefined);
  if (isBroken || zeros.test(traceId) || zeros.test(spanId)) return "broken";
  return { traceId, spanId, isSampled: (Number.parseInt(flags, 16) & 1) === 1, style: "w3c", state };
}

function fromB3(text: string): Extracted | "broken" | undefined {
  // Only a decision.
  if (/^[01d]$/.test(text)) return undefined;
  const [, traceId = "", spanId = "", sampled] = b3Single.exec(text) ?? [];
  return contextOf(traceId, spanId, sampled === undefined ? undefined : sampled !== "0", "b3");
}

function fromB3Headers(headers: Headers): Extracted | "broken" {
  const traceId = headers.get("x-b3-traceid") ?? "";
  const spanId = headers.get("x-b3-spanid") ?? "";
  if (!/^(?:[0-9a-f]{16}|[0-9a-f]{32})$/i.test(traceId) || !/^[0-9a-f]{16}$/i.test(spanId)) return "broken";
  return contextOf(traceId, spanId, decisionOf(headers), "b3-multi");
}

function contextOf(
  traceId: string,
  spanId: string,
  isSampled: boolean | undefined,
  style: Style,
): Extracted | "broken" {
  if (traceId === "" || zeros.test(traceId) || zeros.test(spanId)) return "broken";
  return {
    traceId: traceId.toLowerCase().padStart(32, "0"),
    spanId: spanId.toLowerCase(),
    isSampled,
    style,
    state: "",
  };
}

/** Tells the next one, in the caller's way and always in W3C's. */
export function inject(
  headers: Headers,
  { traceId, spanId, isSampled }: TraceContext & { readonly isSampled: boolean },
  style: Style,
  parentSpanId: string | undefined,
): void {
  const sampled = isSampled ? "1" : "0";
  headers.set("traceparent", `00-${traceId}-${spanId}-0${sampled}`);
  if (style === "b3") {
    headers.set("b3", `${traceId}-${spanId}-${sampled}${parentSpanId === undefined ? "" : `-${parentSpanId}`}`);
  } else if (style === "b3-multi") {
    headers.set("x-b3-traceid", traceId);
    headers.set("x-b3-spanid", spanId);
    headers.set("x-b3-sampled", sampled);
    if (parentSpanId !== undefined) headers.set("x-b3-parentspanid", parentSpanId);
  }
}

/** Random digits are made in bulk: asking the system for each id costs more than the rest of a span that is not kept. */
const pool = Buffer.allocUnsafe(4_096);
let at = pool.length;

function randomHex(bytes: number): string {
  for (;;) {
    if (at + bytes > pool.length) {
      randomFillSync(pool);
      at = 0;
    }
    const text = pool.toString("hex", at, at + bytes);
    at += bytes;
    if (!zeros.test(text)) return text;
  }
}

export const newTraceId = (): string => randomHex(16);
export const newSpanId = (): string => randomHex(8);
