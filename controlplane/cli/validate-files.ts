import { examine } from "#controlplane/admission/decide.ts";
import { sceneOf } from "#controlplane/admission/scene.ts";
import { Field } from "#controlplane/schema/field.ts";
import { formatPath } from "#controlplane/schema/problem.ts";
import { locate, parseFile, type ParsedObject } from "#controlplane/sources/folder/parse-file.ts";
import { optionsFrom, withFlags, type OfflineFlags, type Surroundings } from "./offline.ts";
import { collectFiles, readInput } from "./read-input.ts";

/** One thing that is wrong in the files, or odd. */
export interface Finding {
  readonly severity: "error" | "warning";
  /** `AuthorizationPolicy shop/wall`; absent where the file itself cannot be read. */
  readonly object?: string;
  /** `spec.rules[0]`; absent for what concerns the whole of an object. */
  readonly field?: string;
  /** For people, with file, line and column. */
  readonly line: string;
}

export interface ValidateFlags extends OfflineFlags {
  /** The files are all that there is: what they refer to must be in them. */
  readonly complete?: boolean;
}

/** What the control plane's webhook would say of every object in the files. */
export async function validateFiles(flags: ValidateFlags, surroundings: Surroundings): Promise<readonly Finding[]> {
  const { files, errors } = await collectFiles(flags.filename, surroundings.readStdin);
  const { world } = readInput(files);
  world.setMeshConfig(withFlags(world.meshConfig, flags));
  const scene = sceneOf(world, await optionsFrom(flags, surroundings.env));
  const unreadable = (line: string): Finding => ({ severity: "error", line });
  return [
    ...errors.map(unreadable),
    ...files.flatMap((file) => {
      const parsed = parseFile(file.path, file.text);
      return [
        ...parsed.errors.map(unreadable),
        ...parsed.objects.flatMap((source) => findingsOf(source, scene, flags.complete === true)),
      ];
    }),
  ];
}

function findingsOf(source: ParsedObject, scene: ReturnType<typeof sceneOf>, isComplete: boolean): readonly Finding[] {
  const { problems, beyond } = examine(source.value, scene);
  const object = nameOf(source.value);
  return [
    ...problems.map((problem): Finding => {
      const field = formatPath(problem.path);
      return {
        severity: problem.severity,
        object,
        ...(field === "" ? {} : { field }),
        line: locate(source)(problem),
      };
    }),
    ...(isComplete ? beyond : []).map((line): Finding => ({
      severity: "warning",
      object,
      line: `${source.place()}: ${line}`,
    })),
  ];
}

function nameOf(value: unknown): string {
  const object = new Field(value, [], []);
  const metadata = object.at("metadata");
  const namespace = metadata.at("namespace").text;
  const place = namespace === undefined ? "" : `${namespace}/`;
  return `${object.at("kind").text ?? "object"} ${place}${metadata.at("name").text ?? ""}`;
}
