/** From the text of a YAML file to plain objects, each remembering where its fields stand. */
import { isCollection, isMap, isPair, isScalar, LineCounter, parseAllDocuments, type Document, type Node } from "yaml";
import { formatProblem, type FieldPath, type Problem } from "#controlplane/schema/problem.ts";
import { explain } from "#shared/errors/mesh-error.ts";

/** One object of a file, as plain data of any form. */
export interface ParsedObject {
  readonly value: unknown;
  /** First line of the object, from 1. */
  readonly line: number;
  /** `shop/policy.yaml:12:9`: the object, or the field that `path` names. */
  readonly place: (path?: FieldPath) => string;
}

export interface ParsedFile {
  readonly objects: readonly ParsedObject[];
  /** What is no YAML, one line each with its place. Objects of such documents are missing above. */
  readonly errors: readonly string[];
}

/** Errors of one document after these say nothing new: the first mistake confuses the parser. */
const maxErrorsPerDocument = 5;
/** An alias may stand for a large value: this bounds what a small file can grow into. */
const maxAliases = 100;

export function parseFile(path: string, text: string): ParsedFile {
  const lines = new LineCounter();
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${path}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  };
  const objects: ParsedObject[] = [];
  const errors: string[] = [];
  for (const document of documentsOf(path, text, lines, errors)) {
    if (document.errors.length > 0) {
      for (const error of document.errors.slice(0, maxErrorsPerDocument)) {
        errors.push(`${at(error.pos[0])}: ${firstLine(error.message)}`);
      }
      continue;
    }
    const start = document.contents?.range?.[0] ?? 0;
    try {
      const value: unknown = document.toJS({ maxAliasCount: maxAliases });
      if (value === null || value === undefined) continue;
      if (holdsItself(value)) {
        errors.push(`${at(start)}: an alias stands for something that holds it: write the value out`);
        continue;
      }
      objects.push(...itemsOf(value, document, at, lines));
    } catch (thrown) {
      errors.push(`${at(start)}: ${firstLine(explain(thrown))}`);
    }
  }
  return { objects, errors };
}

/** @throws RangeError where it is nested deeper than anybody could go on with */
function holdsItself(value: unknown, above = new Set<unknown>()): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (above.has(value)) return true;
  above.add(value);
  const found = Object.values(value).some((each) => holdsItself(each, above));
  above.delete(value);
  return found;
}

function documentsOf(path: string, text: string, lines: LineCounter, errors: string[]): readonly Document[] {
  try {
    const documents = parseAllDocuments(text.startsWith("\uFEFF") ? text.slice(1) : text, {
      lineCounter: lines,
      prettyErrors: false,
      uniqueKeys: true,
    });
    return Array.isArray(documents) ? documents : [];
  } catch (thrown) {
    // Nested so deep that the parser itself gives up.
    errors.push(`${path}:1:1: cannot be read as YAML: ${firstLine(explain(thrown))}`);
    return [];
  }
}

/** `kind: List`, as kubectl writes several objects, is what it holds. */
function itemsOf(
  value: unknown,
  document: Document,
  at: (offset: number) => string,
  lines: LineCounter,
): readonly ParsedObject[] {
  const lineOf = (path: FieldPath): number => lines.linePos(offsetOf(document, path)).line;
  const place =
    (prefix: FieldPath) =>
    (path: FieldPath = []): string =>
      at(offsetOf(document, [...prefix, ...path]));
  const list = value as { kind?: unknown; items?: unknown };
  if (typeof value !== "object" || value === null || typeof list.kind !== "string")
    return [{ value, line: lineOf([]), place: place([]) }];
  if (!list.kind.endsWith("List") || !Array.isArray(list.items)) return [{ value, line: lineOf([]), place: place([]) }];
  return list.items.map((item: unknown, index) => ({
    value: item,
    line: lineOf(["items", index]),
    place: place(["items", index]),
  }));
}

/** Where a field stands; where it is missing, what should hold it. */
function offsetOf(document: Document, path: FieldPath): number {
  let node: unknown = document.contents;
  let offset = rangeStart(node) ?? 0;
  for (const step of path) {
    if (!isCollection(node)) break;
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
      if (pair === undefined) break;
      // A scalar is where it is wrong; of a block, its key is what one looks for.
      const value = pair.value;
      offset =
        (isScalar(value) && value.source !== "" ? rangeStart(value) : undefined) ?? rangeStart(pair.key) ?? offset;
      node = value;
    } else {
      const item: unknown = node.items[Number(step)];
      if (item === undefined || isPair(item)) break;
      node = item;
      offset = rangeStart(node) ?? offset;
    }
  }
  return offset;
}

const rangeStart = (node: unknown): number | undefined => (node as Node | null | undefined)?.range?.[0];

const firstLine = (message: string): string => message.split("\n")[0] ?? message;

/** `shop/policy.yaml:12:9: spec.action: "Deny" is not one of …`. */
export const locate =
  ({ place }: ParsedObject) =>
  (problem: Problem): string =>
    `${place(problem.path)}: ${formatProblem(problem)}`;
