/** Capture for real: nftables, marks and sockets in network namespaces, as root and as an ordinary user. */
import { execFileSync, spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "@jest/globals";

const program = fileURLToPath(new URL("./capture/checks.ts", import.meta.url));
const isRoot = process.getuid?.() === 0;

interface Result {
  readonly name: string;
  readonly failure?: string;
}

const variants = [
  ...(isRoot ? [{ title: "as root", flags: ["-nm"] }] : []),
  { title: "unprivileged, in a user namespace", flags: ["-Urnm"] },
];

beforeAll(() => {
  for (const [tool, name] of [
    ["nft", "nftables"],
    ["ip", "iproute2"],
    ["unshare", "util-linux"],
  ] as const) {
    try {
      execFileSync("sh", ["-c", `command -v ${tool}`]);
    } catch {
      throw new Error(`These tests need "${tool}": apt-get install ${name}`);
    }
  }
});

describe.each(variants)("capture $title", ({ flags }) => {
  test("every check holds", () => {
    const child = spawnSync("unshare", [...flags, process.execPath, program], { encoding: "utf8", timeout: 60_000 });
    const results = child.stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Result);
    expect(results.filter(({ failure }) => failure !== undefined)).toEqual([]);
    expect({ status: child.status, stderr: child.stderr }).toEqual({ status: 0, stderr: "" });
    expect(results.length).toBeGreaterThan(15);
  }, 90_000);
});
