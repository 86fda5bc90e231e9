import { expect, test } from "@jest/globals";
import { PassThrough } from "node:stream";
import { FrameWriter } from "./http2-frame-writer.ts";
import { errorCodes, flags, frameTypes } from "./http2-frames.ts";
import { FrameOutput } from "./http2-output.ts";
import { RawPeer } from "./testing/raw-http2.ts";

type Writer = FrameWriter<undefined>;
const { data, headers, reset, windowUpdate } = frameTypes;

test.each<[string, (writer: Writer) => void, readonly (readonly number[])[]]>([
  ["data: on it", (to) => to.data(1, Buffer.from("ab"), 0, 2, false), [[data, flags.endStream]]],
  ["fields: on them", (to) => to.section(1, false, undefined, []), [[headers, flags.endHeaders | flags.endStream]]],
  [
    "a window: by itself",
    (to) => to.windowUpdate(1, 5),
    [
      [windowUpdate, 0],
      [data, flags.endStream],
    ],
  ],
  [
    "a reset: by itself",
    (to) => to.reset(1, errorCodes.cancel),
    [
      [reset, 0],
      [data, flags.endStream],
    ],
  ],
  [
    "another stream's data: by itself",
    (to) => to.data(3, Buffer.from("ab"), 0, 2, false),
    [
      [data, 0],
      [data, flags.endStream],
    ],
  ],
])("the end of a stream behind %s", async (_, before, expected) => {
  const duplex = new PassThrough();
  const peer = new RawPeer(duplex);
  const output = new FrameOutput(duplex, () => {});
  const writer: Writer = new FrameWriter(output, { writeHead: (_encoder, _out, at) => at, roomForHead: () => 0 });
  before(writer);
  writer.end(1);
  output.flush();
  await peer.next(expected.at(-1)?.[0] ?? 0, 1);
  expect(peer.frames.map(({ type, flags: set }) => [type, set])).toEqual(expected);
});
