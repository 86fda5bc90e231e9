/** A mesh of two pods and a folder of YAML, without Kubernetes: what a control plane promises who edits files. */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "@jest/globals";
import { expectAllHold, needNetworkTools } from "#e2e/support/checks.ts";

const program = fileURLToPath(new URL("./folder/checks.ts", import.meta.url));
/** With the process ids as well, everything that the checks start ends with them. */
const flags = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
const isRoot = process.getuid?.() === 0;

beforeAll(needNetworkTools);

test(`every check holds, ${isRoot ? "as root" : "unprivileged, in a user namespace"}`, () => {
  const user = isRoot ? [] : ["--user", "--map-root-user"];
  expect(expectAllHold(program, [...user, ...flags], 100_000)).toBe(8);
}, 120_000);
