import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "@jest/globals";
import type { ProbeReport } from "./seqpacket-probe.ts";

// prettier-ignore
const cases: readonly (readonly [name: string, bytes: number, descriptors: number, outcome: string])[] = [
  ["a message",                           10,      0,    "10 bytes"],
  ["a message with a descriptor",         10,      1,    "10 bytes and a descriptor"],
  ["two descriptors",                     10,      2,    "PacketMalformed"],
  ["three descriptors",                   10,      3,    "PacketMalformed"],
  ["as many as the kernel lets through",  10,      253,  "PacketMalformed"],
  ["the longest message",                 1_024,   1,    "1024 bytes and a descriptor"],
  ["a byte too many",                     1_025,   0,    "PacketMalformed"],
  ["far too many bytes",                  100_000, 0,    "PacketMalformed"],
  ["too many bytes and a descriptor",     1_025,   1,    "PacketMalformed"],
];

let report: ProbeReport;
beforeAll(async () => {
  const program = fileURLToPath(new URL("seqpacket-probe.ts", import.meta.url));
  const args = cases.map(([, bytes, descriptors]) => `${bytes}:${descriptors}`);
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...args], { timeout: 60_000 });
  report = JSON.parse(stdout) as ProbeReport;
});

test.each(cases.map(([name, , , outcome], at) => ({ name, outcome, at })))(
  "$name: $outcome, no descriptor stays open, and the next message is read",
  ({ outcome, at }) => {
    expect(report.outcomes[at]).toEqual({ outcome, leaked: 0, next: "4 bytes" });
  },
);

test("only the owner may connect, whatever the umask", () => expect(report.mode).toBe(0o600));

test("a peer that goes away ends the wait", () => expect(report.end).toBe("end"));
