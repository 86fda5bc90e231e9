import { readFileSync } from "node:fs";
import { MeshError } from "#shared/errors/mesh-error.ts";

/** A file that settings may name. @throws MeshError CONFIG_INVALID where it is there and cannot be read */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new MeshError("CONFIG_INVALID", `Cannot read "${path}"`, error);
  }
}
