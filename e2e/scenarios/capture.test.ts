/** Capture for real: nftables, marks and sockets in network namespaces, as root and as an ordinary user. */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { expectAllHold, needNetworkTools } from "#e2e/support/checks.ts";

const program = fileURLToPath(new URL("./capture/checks.ts", import.meta.url));
const isRoot = process.getuid?.() === 0;

const variants = [
  ...(isRoot ? [{ title: "as root", flags: ["-nm"] }] : []),
  { title: "unprivileged, in a user namespace", flags: ["-Urnm"] },
];

beforeAll(needNetworkTools);

describe.each(variants)("capture $title", ({ flags }) => {
  test("every check holds", () => {
    expect(expectAllHold(program, flags, 60_000)).toBeGreaterThan(15);
  }, 90_000);
});
