/** What a stream keeps of one type that its client watches, whichever of the two protocols it speaks. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { ResourceSource } from "./resource-store.ts";

/** What a request was. */
export type Outcome = "acked" | "nacked" | "stale" | "changed" | "nothing";

/** What both protocols' requests have in common. */
export interface AnyRequest {
  readonly typeUrl: string;
  readonly responseNonce: string;
  readonly node?:
    { readonly id: string; readonly metadata?: JsonObject | undefined; readonly userAgentName?: string } | undefined;
  readonly errorDetail?: { readonly message: string } | undefined;
}

/** A response that is due. */
export interface Response {
  readonly resources: number;
  /** When the oldest change in it happened. */
  readonly sinceMs: number;
  encode(frame: { readonly version: string; readonly nonce: string }): Uint8Array;
}

export interface TypeStatus {
  readonly typeUrl: string;
  readonly wildcard: boolean;
  readonly subscribed: readonly string[];
  /** `SYNCED`: the last response was accepted, and no other is due. */
  readonly state: "SYNCED" | "STALE" | "REJECTED" | "NOT SENT";
  readonly lastSentNonce?: string;
  readonly lastSentMs?: number;
  readonly lastAckedNonce?: string;
  readonly lastError?: { readonly message: string; readonly nonce: string; readonly atMs: number };
}

export interface TypeWatch<R extends AnyRequest> {
  readonly source: ResourceSource;
  /** How many names are asked for. */
  readonly names: number;
  /** A later request. */
  request(request: R, nowMs: number): Outcome;
  /** Something changed at the source. */
  changed(names: ReadonlySet<string>, nowMs: number): void;
  /** Takes out what is due; undefined where there is nothing. */
  next(nodeName: string | undefined): Response | undefined;
  sent(nonce: string, atMs: number): void;
  status(): TypeStatus;
}

/** One of the two protocols. */
export interface Wire<R extends AnyRequest> {
  /** The first request for a type. */
  open(request: R, source: ResourceSource, nowMs: number): TypeWatch<R>;
}

/** Of a watch that keeps these. */
export function stateOf(watch: {
  readonly lastSent?: { readonly nonce: string } | undefined;
  readonly lastAckedNonce?: string | undefined;
  readonly lastError?: { readonly nonce: string } | undefined;
  readonly owed?: unknown;
}): TypeStatus["state"] {
  const { lastSent, lastAckedNonce, lastError, owed } = watch;
  if (lastSent === undefined) return "NOT SENT";
  if (lastError?.nonce === lastSent.nonce) return "REJECTED";
  return lastAckedNonce === lastSent.nonce && owed === undefined ? "SYNCED" : "STALE";
}
