/** A mesh of two pods and a folder of YAML, without Kubernetes: what a control plane promises who edits files. */
import { execFileSync, spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "@jest/globals";

const program = fileURLToPath(new URL("./folder/checks.ts", import.meta.url));
/** With the process ids as well, everything that the checks start ends with them. */
const flags = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
const isRoot = process.getuid?.() === 0;

interface Result {
  readonly name: string;
  readonly failure?: string;
}

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

test(`every check holds, ${isRoot ? "as root" : "unprivileged, in a user namespace"}`, () => {
  const user = isRoot ? [] : ["--user", "--map-root-user"];
  const child = spawnSync("unshare", [...user, ...flags, process.execPath, program], {
    encoding: "utf8",
    timeout: 100_000,
    killSignal: "SIGKILL",
  });
  const results = child.stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Result);
  expect(results.filter(({ failure }) => failure !== undefined)).toEqual([]);
  expect({ status: child.status, stderr: child.stderr }).toEqual({ status: 0, stderr: "" });
  expect(results).toHaveLength(8);
}, 120_000);
