/** Fields that a newer control plane set and this version has never heard of: they are refused, not passed over. */
import { fromBinary, type DescMessage, type Message } from "@bufbuild/protobuf";
import { anyTypes } from "./any-types.ts";

/** Each as `path: field 56 of envoy.config… is unknown`. Messages in an `Any` are looked into where their type is known. */
export function unknownFields(message: Message): readonly string[] {
  const found: string[] = [];
  walk(message, "", found);
  return found;
}

/** Deeper than any configuration; what is deeper is somebody's attack. */
const deepest = 100;

function walk(message: Message, path: string, found: string[], depth = 0): void {
  if (depth > deepest) {
    found.push(`${path}: nested more than ${deepest} deep`);
    return;
  }
  for (const { no } of message.$unknown ?? []) {
    found.push(`${path === "" ? "" : `${path}: `}field ${no} of ${message.$typeName} is unknown here`);
  }
  if (isAny(message)) {
    const schema = anyTypes.getMessage(typeNameOf(message.typeUrl));
    if (schema !== undefined) walkAny(schema, message.value, path, found, depth);
    return;
  }
  for (const [name, value] of Object.entries(message)) {
    if (name !== "$typeName" && name !== "$unknown")
      walkValue(value, path === "" ? snake(name) : `${path}.${snake(name)}`, found, depth);
  }
}

function walkAny(schema: DescMessage, bytes: Uint8Array, path: string, found: string[], depth: number): void {
  try {
    walk(fromBinary(schema, bytes), path, found, depth + 1);
  } catch {
    found.push(`${path}: cannot be read as ${schema.typeName}`);
  }
}

function walkValue(value: unknown, path: string, found: string[], depth: number): void {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return;
  if (Array.isArray(value)) {
    value.forEach((item, index) => walkValue(item, `${path}[${index}]`, found, depth));
  } else if ("$typeName" in value) {
    walk(value as Message, path, found, depth + 1);
  } else if ("case" in value && "value" in value) {
    const { case: name, value: chosen } = value;
    if (typeof name === "string")
      walkValue(chosen, `${path.slice(0, path.lastIndexOf(".") + 1)}${snake(name)}`, found, depth);
  } else {
    for (const [key, item] of Object.entries(value)) walkValue(item, `${path}[${JSON.stringify(key)}]`, found, depth);
  }
}

const isAny = (message: Message): message is Message<"google.protobuf.Any"> & { typeUrl: string; value: Uint8Array } =>
  message.$typeName === "google.protobuf.Any";

/** The name behind the last slash. */
export const typeNameOf = (typeUrl: string): string => typeUrl.slice(typeUrl.lastIndexOf("/") + 1);

/** As `.proto` files write names. */
const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
