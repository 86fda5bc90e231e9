/**
 * Whether a trace that begins here is kept, as Envoy decides: because a proxy before has said so in the request's id, by
 * the client's wish, or by chance; and all of it within a cap. `x-envoy-force-trace` is believed of nobody.
 */
import type { Exchange } from "#waypoint/http/exchange.ts";

/** Shares from 0 to 1. */
export interface Sampling {
  /** Of requests with `x-client-trace-id`. */
  readonly client: number;
  readonly random: number;
  /** Of what the others have chosen. */
  readonly overall: number;
}

/** What the id of a request has to do with it. */
export interface RequestIdRules {
  /** It is looked at, so that proxies decide alike; otherwise chance alone does. */
  readonly decides: boolean;
  /** Decisions are written into it. */
  readonly isNoted: boolean;
}

/** The digit of a UUID that says of which version it is: Envoy notes there why a request is traced. */
const noteAt = 14;
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const notes = { sampled: "9", forced: "a", client: "b" } as const;
type Reason = keyof typeof notes;

/** Also notes it in the request's id, so that every proxy on the way decides alike. */
export function decide(
  { request }: Exchange,
  sampling: Sampling,
  { decides, isNoted }: RequestIdRules,
  random: () => number,
): boolean {
  const { headers } = request;
  const id = headers.get("x-request-id");
  const isReadable = decides && id !== undefined && uuid.test(id);
  const noted = isReadable ? id[noteAt]?.toLowerCase() : undefined;
  const before = (Object.keys(notes) as Reason[]).find((reason) => notes[reason] === noted);
  const draw = isReadable ? Number.parseInt(id.slice(0, 8), 16) / 2 ** 32 : random();
  const reason = before ?? chosen(sampling, draw, headers.has("x-client-trace-id"));
  const isTraced = reason !== undefined && (sampling.overall >= 1 || draw < sampling.overall);
  if (isNoted && isReadable && isTraced && before === undefined && noted === "4") {
    headers.set("x-request-id", id.slice(0, noteAt) + notes[reason] + id.slice(noteAt + 1));
  }
  return isTraced;
}

function chosen(sampling: Sampling, draw: number, asksFor: boolean): Reason | undefined {
  if (asksFor && draw < sampling.client) return "client";
  return draw < sampling.random ? "sampled" : undefined;
}
