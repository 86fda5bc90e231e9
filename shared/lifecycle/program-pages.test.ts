import { expect, test } from "@jest/globals";
import process from "node:process";
import { releaseProgramPages, unchangedMappings } from "./program-pages.ts";

const smaps = `00400000-00b00000 r--p 00000000 08:01 123                                /usr/bin/node
Size:               7168 kB
Rss:                7000 kB
Anonymous:             0 kB
00b00000-02000000 r-xp 00700000 08:01 123                                /usr/bin/node with a space
Anonymous:             0 kB
02000000-02100000 r--p 01c00000 08:01 123                                /usr/bin/node
Anonymous:           412 kB
02100000-02200000 rw-p 01d00000 08:01 123                                /usr/bin/node
Anonymous:             0 kB
03000000-04000000 rw-p 00000000 00:00 0                                  [heap]
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xs 00000000 00:01 9                          /memfd:shared (deleted)
Anonymous:             0 kB
7f0000002000-7f0000003000 r--p 00000000 00:00 0
Anonymous:             0 kB
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
`;

test("only what can be read again from a file as it is is let go of", () => {
  expect(unchangedMappings(smaps)).toEqual([
    { start: 0x400000, end: 0xb00000 },
    { start: 0xb00000, end: 0x2000000 },
  ]);
  expect(unchangedMappings("")).toEqual([]);
});

test("letting go of them changes nothing but their number", () => {
  const before = process.memoryUsage.rss();
  releaseProgramPages();
  expect(process.memoryUsage.rss()).toBeLessThan(before);
  expect(JSON.parse(JSON.stringify({ a: [1.5, "ü"] }))).toEqual({ a: [1.5, "ü"] });
});
