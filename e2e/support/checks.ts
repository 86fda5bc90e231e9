/** Runs a program of checks in namespaces of its own. It prints one JSON line for each, and ends with status 0. */
import { execFileSync, spawnSync } from "node:child_process";
import process from "node:process";
import { expect } from "@jest/globals";

interface Result {
  readonly name: string;
  readonly failure?: string;
}

/** @throws naming the Debian package of what is not there: a check that cannot run is no check that holds */
export function needNetworkTools(): void {
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
}

/**
 * @param namespaces flags of `unshare`
 * @returns how many checks there were; all of them held
 */
export function expectAllHold(program: string, namespaces: readonly string[], timeoutMs: number): number {
  const child = spawnSync("unshare", [...namespaces, process.execPath, program], {
    encoding: "utf8",
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  const results = child.stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Result);
  expect(results.filter(({ failure }) => failure !== undefined)).toEqual([]);
  expect({ status: child.status, stderr: child.stderr }).toEqual({ status: 0, stderr: "" });
  return results.length;
}
