/** What the bench borrows from the system. */
import { execFileSync } from "node:child_process";
import { cpus } from "node:os";
import { explain } from "#shared/errors/mesh-error.ts";
import { envoyPath } from "#e2e/support/envoy.ts";

/** Program → the Debian package that holds it. */
const packages = { haproxy: "haproxy", nginx: "nginx", wrk: "wrk", h2load: "nghttp2-client", taskset: "util-linux" };

/** Why the bench cannot run here, with what to do about it; undefined where it can. */
export function missingPrograms(): string | undefined {
  const missing = Object.entries(packages).filter(([name]) => !exists(name));
  if (missing.length > 0) {
    const names = missing.map(([name]) => name).join(", ");
    return `${names} not found in PATH: "apt-get install ${[...new Set(missing.map(([, from]) => from))].join(" ")}"`;
  }
  return cpus().length < 2 ? "two cores are needed: one for the proxy, one for load and origin" : undefined;
}

const exists = (program: string): boolean => {
  try {
    execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
};

/** Path of an unmodified Envoy; a column more where there is one. */
export async function optionalEnvoy(say: (text: string) => void): Promise<string | undefined> {
  try {
    return await envoyPath();
  } catch (error) {
    say(`without Envoy: ${explain(error)}`);
    return undefined;
  }
}
