import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { writeVolume } from "./volumes.ts";

const file = (content: string) => ({ content: Buffer.from(content), mode: 0o600 });

test.each(["../out", "a/../../out", "/etc/out", "..", "..data", "a//b", "a\0b", ""])(
  "a file at %j of a volume is not written anywhere",
  async (path) => {
    const folder = await mkdtemp(join(tmpdir(), "ambit-volume-"));
    try {
      await expect(writeVolume(join(folder, "volume"), new Map([[path, file("x")]]))).rejects.toThrow("into a volume");
      expect(await readdir(folder, { recursive: true })).toEqual(["volume"]);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
);

test("files go where they belong, in folders too", async () => {
  const folder = await mkdtemp(join(tmpdir(), "ambit-volume-"));
  try {
    await writeVolume(
      folder,
      new Map([
        ["a.b", file("1")],
        ["c/..d", file("2")],
      ]),
    );
    expect(await readFile(join(folder, "a.b"), "utf8")).toBe("1");
    expect(await readFile(join(folder, "c/..d"), "utf8")).toBe("2");
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
