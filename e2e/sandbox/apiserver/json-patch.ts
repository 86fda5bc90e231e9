import { sameJson } from "./json-value.ts";
import { ApiError } from "./api-error.ts";
import { isObject } from "./schema.ts";

/** Operations that one JSON patch may hold: 10 000, as Kubernetes. */
const maxOperations = 10_000;

interface Operation {
  readonly op: string;
  readonly path: string;
  readonly from?: string;
  readonly value?: unknown;
}

/** Applies a JSON patch (RFC 6902). Throws 400 when it is malformed, 422 when it does not fit the document. */
export function applyJsonPatch(document: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw new ApiError("BadRequest", "a JSON patch is a list of operations");
  if (patch.length > maxOperations) {
    throw new ApiError(
      "RequestEntityTooLarge",
      `The allowed maximum operations in a JSON patch is ${maxOperations}, got ${patch.length}`,
    );
  }
  let root = structuredClone(document);
  for (const operation of patch) root = applyOperation(root, readOperation(operation));
  return root;
}

function readOperation(operation: unknown): Operation {
  if (!isObject(operation) || typeof operation["op"] !== "string" || typeof operation["path"] !== "string") {
    throw new ApiError("BadRequest", `a JSON patch operation needs "op" and "path": ${JSON.stringify(operation)}`);
  }
  return operation as unknown as Operation;
}

function applyOperation(root: unknown, operation: Operation): unknown {
  const { op, path } = operation;
  switch (op) {
    case "add":
      return write(root, path, structuredClone(operation.value), "add");
    case "replace":
      return write(root, path, structuredClone(operation.value), "replace");
    case "remove":
      return remove(root, path);
    case "test":
      if (!sameJson(read(root, path), operation.value)) throw unfit(`testing value ${path} failed: test failed`);
      return root;
    case "copy":
      return write(root, path, structuredClone(read(root, operation.from ?? "")), "add");
    case "move": {
      const from = operation.from ?? "";
      if (path.startsWith(`${from}/`)) throw unfit(`cannot move "${from}" into itself`);
      const value = read(root, from);
      return write(remove(root, from), path, value, "add");
    }
    default:
      throw new ApiError("BadRequest", `unknown JSON patch operation "${op}"`);
  }
}

function unfit(why: string): ApiError {
  return new ApiError("Invalid", `the server rejected our request due to an error in our request: ${why}`);
}

function steps(path: string): string[] {
  if (path === "") return [];
  if (!path.startsWith("/")) throw new ApiError("BadRequest", `a JSON pointer begins with "/": "${path}"`);
  return path
    .slice(1)
    .split("/")
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function read(root: unknown, path: string): unknown {
  let value = root;
  for (const step of steps(path)) {
    if (Array.isArray(value)) value = value[indexOf(step, value.length - 1, path)];
    else if (isObject(value) && Object.hasOwn(value, step)) value = value[step];
    else throw unfit(`"${path}" does not exist`);
  }
  return value;
}

function indexOf(step: string, last: number, path: string): number {
  const index = /^(0|[1-9]\d*)$/u.test(step) ? Number(step) : -1;
  if (index < 0 || index > last) throw unfit(`"${step}" in "${path}" is outside the list`);
  return index;
}

function locate(root: unknown, path: string): { parent: unknown; last: string } {
  const all = steps(path);
  const last = all.pop();
  if (last === undefined) throw unfit("the whole document cannot be removed");
  return {
    parent: read(root, all.map((step) => `/${step.replaceAll("~", "~0").replaceAll("/", "~1")}`).join("")),
    last,
  };
}

function write(root: unknown, path: string, value: unknown, mode: "add" | "replace"): unknown {
  if (path === "") return value;
  const { parent, last } = locate(root, path);
  if (Array.isArray(parent)) {
    if (mode === "replace") parent[indexOf(last, parent.length - 1, path)] = value;
    else parent.splice(last === "-" ? parent.length : indexOf(last, parent.length, path), 0, value);
    return root;
  }
  if (!isObject(parent)) throw unfit(`"${path}" does not lead through objects and lists`);
  if (mode === "replace" && !Object.hasOwn(parent, last)) throw unfit(`"${path}" does not exist`);
  define(parent, last, value);
  return root;
}

/** Sets an own field even when it is called `__proto__`. */
function define(object: Record<string, unknown>, field: string, value: unknown): void {
  Object.defineProperty(object, field, { value, writable: true, enumerable: true, configurable: true });
}

function remove(root: unknown, path: string): unknown {
  const { parent, last } = locate(root, path);
  if (Array.isArray(parent)) parent.splice(indexOf(last, parent.length - 1, path), 1);
  else if (isObject(parent) && Object.hasOwn(parent, last)) delete parent[last];
  else throw unfit(`"${path}" does not exist`);
  return root;
}

/** Applies a JSON merge patch (RFC 7386): null removes, objects merge, all else replaces. */
export function applyMergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return structuredClone(patch);
  const merged: Record<string, unknown> = isObject(target) ? { ...target } : {};
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) delete merged[field];
    else define(merged, field, applyMergePatch(Object.hasOwn(merged, field) ? merged[field] : undefined, value));
  }
  return merged;
}
