import { expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { GrpcMessageCounter } from "./grpc-messages.ts";

function frame(length: number): Buffer {
  const bytes = Buffer.alloc(5 + length, 0xff);
  bytes[0] = 0;
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

test("messages are counted however the bytes are cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(300), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
      (lengths, cuts) => {
        const bytes = Buffer.concat(lengths.map(frame));
        const counter = new GrpcMessageCounter();
        for (let at = 0, cut = 0; at < bytes.length; cut++) {
          const size = cuts[cut % cuts.length] as number;
          counter.data(bytes.subarray(at, at + size));
          at += size;
        }
        expect(counter.messages).toBe(lengths.length);
      },
    ),
  );
});
