/** Floods of HTTP/2 frames, each in pieces to be sent while the server takes them. */
import { frameTypes, settingIds } from "#waypoint/http/http2-frames.ts";
import {
  flag,
  frame,
  getFields,
  latest,
  literal,
  postFields,
  remembered,
  request,
  setting,
  times,
  uint32,
} from "./raw-http2.ts";

export function* repeat(count: number, chunk: (round: number) => Uint8Array): Generator<Uint8Array> {
  for (let round = 0; round < count; round++) yield chunk(round);
}

export const ids = (round: number, each: number) => (at: number) => 2 * (round * each + at) + 1;
export const reset = (stream: number) => frame(frameTypes.reset, 0, stream, uint32(8));
export const ping = frame(frameTypes.ping, 0, 0, Buffer.alloc(8));
const settings = frame(frameTypes.settings, 0, 0);
const priority = (stream: number) =>
  frame(frameTypes.priority, 0, stream, Buffer.concat([uint32(0), Buffer.from([15])]));
const continuation = (size: number) => frame(frameTypes.continuation, 0, 1, literal("x", "y".repeat(size)));
const opening = frame(frameTypes.headers, 0, 1, getFields);
export const openPost = request(1, postFields, 0);
const bigField = remembered("x-bomb", "b".repeat(3_900));

/** `isHeld`: where requests are answered, they have to be held for it to be a flood. */
// prettier-ignore
export const floods: Readonly<Record<string, { readonly chunks: () => Iterable<Uint8Array>; readonly isHeld?: boolean }>> = {
  "rapid reset":                                 { isHeld: true, chunks: () => repeat(400, (round) => times(50, (at) => Buffer.concat([request(ids(round, 50)(at)), reset(ids(round, 50)(at))]))) },
  "rapid reset of streams with bodies":          { isHeld: true, chunks: () => repeat(400, (round) => times(50, (at) => Buffer.concat([request(ids(round, 50)(at), postFields, 0), reset(ids(round, 50)(at))]))) },
  "streams that make the server reset them":     { isHeld: true, chunks: () => repeat(400, (round) => times(50, (at) => Buffer.concat([request(ids(round, 50)(at), postFields, 0), frame(frameTypes.windowUpdate, 0, ids(round, 50)(at), uint32(0))]))) },
  "requests that are none":                      { chunks: () => repeat(400, (round) => times(50, (at) => request(ids(round, 50)(at), literal("x", "y")))) },
  "empty HEADERS":                               { chunks: () => repeat(400, (round) => times(50, (at) => request(ids(round, 50)(at), Buffer.alloc(0)))) },
  "streams beyond the limit":                    { isHeld: true, chunks: () => repeat(400, (round) => times(50, (at) => request(ids(round, 50)(at)))) },
  "heads that are too large":                    { chunks: () => repeat(400, (round) => times(50, (at) => request(ids(round, 50)(at), Buffer.concat([getFields, times(101, () => literal("a", ""))])))) },
  "CONTINUATION without end":                    { chunks: () => [opening, ...repeat(400, () => times(8, () => continuation(10_000)))] },
  "empty CONTINUATION without end":              { chunks: () => [opening, ...repeat(400, () => times(2_000, () => frame(frameTypes.continuation, 0, 1)))] },
  "HEADERS that open nothing, again and again":  { chunks: () => [request(1), ...repeat(400, () => times(50, () => request(1, literal("a", "b"))))] },
  "PING":                                        { chunks: () => repeat(400, () => times(500, () => ping)) },
  "acknowledgements of PINGs that were not":     { chunks: () => repeat(400, () => times(500, () => frame(frameTypes.ping, flag.ack, 0, Buffer.alloc(8)))) },
  "SETTINGS":                                    { chunks: () => repeat(400, () => times(500, () => settings)) },
  "SETTINGS that move windows":                  { isHeld: true, chunks: () => [times(100, (at) => request(2 * at + 1)), ...repeat(400, (round) => times(500, () => frame(frameTypes.settings, 0, 0, setting(settingIds.initialWindowSize, 65_535 + (round % 2)))))] },
  "empty DATA":                                  { chunks: () => [openPost, ...repeat(400, () => times(500, () => frame(frameTypes.data, 0, 1)))] },
  "DATA of padding":                             { chunks: () => [openPost, ...repeat(400, () => times(500, () => frame(frameTypes.data, flag.padded, 1, Buffer.from([0]))))] },
  "DATA for a stream that is over":              { chunks: () => [request(1), ...repeat(400, () => times(500, () => frame(frameTypes.data, 0, 1, Buffer.from("x"))))] },
  "PRIORITY":                                    { chunks: () => repeat(400, (round) => times(500, (at) => priority(ids(round, 500)(at)))) },
  "WINDOW_UPDATE":                               { chunks: () => repeat(400, () => times(500, () => frame(frameTypes.windowUpdate, 0, 0, uint32(1)))) },
  "RST_STREAM of streams that are over":         { chunks: () => [request(1), ...repeat(400, () => times(500, () => reset(1)))] },
  "frames of no known type":                     { chunks: () => repeat(400, () => times(500, () => frame(0xf0, 0xff, 1))) },
  "a section that unpacks four thousand times":  { chunks: () => [request(1, Buffer.concat([getFields, bigField, Buffer.alloc(16, 0x80 | 62)])), ...repeat(400, (round) => request(2 * round + 3, Buffer.concat([getFields, Buffer.alloc(10_000, 0x80 | 62)])))] },
  "sections that unpack, in pieces":             { chunks: () => [request(1, Buffer.concat([getFields, bigField])), ...repeat(400, (round) => Buffer.concat([frame(frameTypes.headers, 0, 2 * round + 3, getFields), times(8, () => frame(frameTypes.continuation, 0, 2 * round + 3, times(10_000, () => latest))), frame(frameTypes.continuation, 4, 2 * round + 3)]))] },
};
