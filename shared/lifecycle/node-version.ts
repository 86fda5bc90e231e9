/** Oldest Node that runs us: TypeScript without a build, `using`, and the HTTP/2 and TLS fixes of 2026. */
export const oldestNode = "24.18.1";

/**
 * Stops with one sentence on a Node that is too old. Called first thing in every entry point; plain syntax only, so
 * that an old Node gets as far as reading it.
 *
 * @param version as `process.version` gives it, for example `v26.10.0`
 * @throws Error naming the version found, the one needed and how to get it
 */
export function assertNodeVersion(version: string): void {
  const found = version.replace(/^v/, "").split(".").map(Number);
  const needed = oldestNode.split(".").map(Number);
  for (let place = 0; place < needed.length; place++) {
    const difference = (found[place] ?? 0) - (needed[place] ?? 0);
    if (difference > 0) return;
    if (difference < 0) {
      throw new Error(
        `Node ${version} is too old for Ambit, which needs ${oldestNode} or newer: start it with "npm run …", which uses the Node 26 that "npm ci" installed`,
      );
    }
  }
}
