/** Folders that nobody should keep configuration in: each look at one ends soon, tells what is wrong, and reads the rest. */
import { describe, expect, test } from "@jest/globals";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "#shared/observe/logger.ts";
import { RecordedSource } from "../testing/recorded-source.ts";
import { FolderSource } from "./folder-source.ts";
import { parseFile } from "./parse-file.ts";
import { readFolder } from "./read-folder.ts";

async function temporaryFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "ambit-hostile-"));
  await writeFile(join(path, "good.yaml"), namespace("good"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

const namespace = (name: string): string => `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${name}}\n`;

// prettier-ignore
test.each<readonly [string, (folder: string) => Promise<unknown>, RegExp]>([
  ["links that lead to the folder itself",  async (at) => { for (const name of ["a", "b", "c"]) await symlink(".", join(at, name)); },                          /leads back/],
  ["links that lead to each other",         async (at) => { await symlink("y.yaml", join(at, "x.yaml")); await symlink("x.yaml", join(at, "y.yaml")); },        /ELOOP|too many/i],
  ["ways that double with every step",      async (at) => { for (let d = 0; d < 15; d++) { await mkdir(join(at, ".d", `${d}`), { recursive: true }); for (const way of ["a", "b"]) await symlink(`../${d + 1}`, join(at, ".d", `${d}`, way)); } await mkdir(join(at, ".d/15")); await symlink(".d/0", join(at, "way")); }, /more than 10000 folders/],
  ["a pipe that nobody writes to",          async (at) => void execFileSync("mkfifo", [join(at, "pipe.yaml")]),                                                  /neither a file/],
  ["a device without end",                  (at) => symlink("/dev/zero", join(at, "zero.yaml")),                                                                /neither a file/],
  ["a file of 100 MB",                      async (at) => { await writeFile(join(at, "big.yaml"), ""); await truncate(join(at, "big.yaml"), 100_000_000); },     /at most/],
  ["a folder named as a file",              async (at) => { await mkdir(join(at, "folder.yaml")); await writeFile(join(at, "folder.yaml/x.yaml"), namespace("x")); }, /^$/],
  ["a folder very deep",                    (at) => mkdir(join(at, ...Array.from({ length: 40 }, () => "d")), { recursive: true }),                             /deep/],
])("%s", async (_what, prepare, why) => {
  await using folder = await temporaryFolder();
  await prepare(folder.path);
  const { files, unreadable } = await readFolder(folder.path);
  expect(files.map(({ path }) => path)).toContain("good.yaml");
  expect(unreadable.map((each) => each.why).join("\n")).toMatch(why);
});

test("10 000 files are read, and the next is told of", async () => {
  await using folder = await temporaryFolder();
  for (let from = 0; from < 10_000; from += 500) {
    await Promise.all(Array.from({ length: 500 }, (_, at) => writeFile(join(folder.path, `${from + at}.yaml`), "")));
  }
  const { files, unreadable } = await readFolder(folder.path);
  expect(files).toHaveLength(10_000);
  expect(unreadable.map(({ why }) => why)).toEqual([expect.stringContaining("more than 10000 files")]);
});

describe("a text that is larger than it looks", () => {
  const laughs = Array.from({ length: 30 }, (_, at) => `a${at + 1}: &a${at + 1} [${Array(10).fill(`*a${at}`).join()}]`);

  // prettier-ignore
  test.each<readonly [string, string]>([
    ["a billion laughs",         `a0: &a0 [x]\n${laughs.join("\n")}`],
    ["many aliases of a large",  `a: &a [${Array(5_000).fill("x").join()}]\nb: [${Array(5_000).fill("*a").join()}]`],
    ["an alias of itself",       "a: &a [*a]"],
    ["an alias of nothing",      "a: *b"],
    ["brackets without end",     "[".repeat(200_000)],
    ["flow maps without end",    "{a: ".repeat(50_000)],
  ])("is no configuration: %s", (_what, text) => {
    const { objects, errors } = parseFile("x.yaml", text);
    expect(objects).toEqual([]);
    expect(errors.length).toBeGreaterThan(0);
    expect(errors.join().length).toBeLessThan(10_000);
  });
});

// prettier-ignore
test.each<readonly [string, string]>([
  ["nested as deep as the parser goes",  `${namespace("deep")}spec: ${"[".repeat(1_500)}${"]".repeat(1_500)}\n`],
  ["nested deep in JSON",                `{"apiVersion":"v1","kind":"Service","metadata":{"name":"deep"},"spec":${'{"a":'.repeat(1_500)}1${"}".repeat(1_501)}`],
  ["keys of the language's own",         '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"odd","__proto__":{"polluted":true},"labels":{"__proto__":"x","constructor":"y"}},"__proto__":{"kind":"Pod"}}'],
  ["binary",                             Buffer.from(Array.from({ length: 2_000 }, (_, at) => at & 255)).toString("latin1")],
  ["no object",                          "- 1\n- 2\n---\ntext\n---\n12\n"],
  ["an object of no kind",               "metadata: {name: x}\n"],
  ["names that are no text",             "apiVersion: v1\nkind: Namespace\nmetadata: {name: [a]}\n---\napiVersion: {}\nkind: 7\nmetadata: 8\n"],
  ["a name with lines and escapes",      'apiVersion: v1\nkind: Namespace\nmetadata: {name: "a\\nb\\e[2J"}\n'],
])("a source survives an object that is %s, and reads the others", async (_what, text) => {
  await using folder = await temporaryFolder();
  await writeFile(join(folder.path, "bad.yaml"), text);
  await using source = new RecordedSource(new FolderSource({ folder: folder.path, log: silentLogger }));
  await source.synced();
  expect([...source.inForce.keys()]).toContain("/Namespace//good");
  expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  // Changed, so that both versions are compared.
  await writeFile(join(folder.path, "bad.yaml"), `${text}\n---\n${namespace("later")}`);
  await source.until(() => source.inForce.has("/Namespace//later") || source.troubles.has("bad.yaml"));
});
