import { readFileSync } from "node:fs";
import { ApiError } from "./api-error.ts";
import type { JsonObject } from "./schema.ts";

/*
 * Bodies in Kubernetes' protobuf form. Clients that prefer it (istiod's, and `kubectl create`) take JSON as an answer but
 * offer nothing else when they write, so the server reads it. It never writes it.
 */

export const protobufType = "application/vnd.kubernetes.protobuf";

interface Field {
  readonly name: string;
  readonly type: string;
  /** A zero in a pointer field was meant; in any other it stands for "not set". */
  readonly keepsZero: boolean;
  /** The fields of the inner message stand in the outer object. */
  readonly isInline: boolean;
}

type Message = ReadonlyMap<number, Field>;

let messages: ReadonlyMap<string, Message> | undefined;

/** The field table, read from its file at first use. */
function allMessages(): ReadonlyMap<string, Message> {
  messages ??= new Map(
    readFileSync(new URL("kubernetes-fields.txt", import.meta.url), "utf8")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => {
        const [name = "", fields = ""] = line.split(": ", 2);
        return [name, new Map(fields.split(", ").map(readField))];
      }),
  );
  return messages;
}

function readField(text: string): [number, Field] {
  const [number = "", name = "", type = ""] = text.split(" ");
  return [
    Number(number),
    { name, type: type.replace(/^&/u, ""), keepsZero: type.startsWith("&"), isInline: name === "^" },
  ];
}

const magic = Buffer.from([0x6b, 0x38, 0x73, 0x00]); // "k8s" and a zero
/** Nesting of messages that a body may have: the deepest real one, a probe inside a CronJob, has eleven. */
const maxDepth = 32;

/** Reads a body in the protobuf form into the object that its JSON form would be. Throws 400 when it is malformed. */
export function decodeProtobufBody(body: Buffer): JsonObject {
  if (!body.subarray(0, 4).equals(magic))
    throw malformed("it does not begin with the prefix of Kubernetes' protobuf form");
  const envelope = readEnvelope(body.subarray(4));
  const { apiVersion, kind } = envelope;
  const type = messageOf(apiVersion, kind);
  if (type === undefined) {
    throw new ApiError(
      "UnsupportedMediaType",
      `${kind} of ${apiVersion} is not accepted as ${protobufType}: send application/json`,
    );
  }
  return { apiVersion, kind, ...decodeMessage(envelope.raw, type, 0) };
}

function messageOf(apiVersion: string, kind: string): Message | undefined {
  const [group, version] = apiVersion.includes("/")
    ? (apiVersion.split("/") as [string, string])
    : ["core", apiVersion];
  const folder = group.split(".")[0] ?? "";
  const options = ["DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions"].includes(kind);
  return allMessages().get(options ? `meta.v1.${kind}` : `${folder}.${version}.${kind}`);
}

/** `Unknown`: 1 type { 1 apiVersion, 2 kind }, 2 the object's bytes. */
function readEnvelope(bytes: Buffer): { apiVersion: string; kind: string; raw: Buffer } {
  const found: { apiVersion: string; kind: string; raw: Buffer } = { apiVersion: "", kind: "", raw: Buffer.alloc(0) };
  for (const { number, value } of readWire(bytes)) {
    if (number === 2 && Buffer.isBuffer(value)) found.raw = value;
    if (number !== 1 || !Buffer.isBuffer(value)) continue;
    for (const inner of readWire(value)) {
      if (!Buffer.isBuffer(inner.value)) continue;
      if (inner.number === 1) found.apiVersion = inner.value.toString("utf8");
      if (inner.number === 2) found.kind = inner.value.toString("utf8");
    }
  }
  return found;
}

type WireValue = bigint | Buffer;

function* readWire(bytes: Buffer): Generator<{ number: number; value: WireValue }> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw malformed("it ends within a number");
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw malformed("a number is too long");
  };
  const take = (length: number): Buffer => {
    if (length > bytes.length - at) throw malformed("it ends within a field");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const number = tag >>> 3;
    switch (tag & 7) {
      case 0:
        yield { number, value: varint() };
        break;
      case 1:
        yield { number, value: take(8) };
        break;
      case 2:
        yield { number, value: take(Number(varint())) };
        break;
      case 5:
        yield { number, value: take(4) };
        break;
      default:
        throw malformed(`wire type ${tag & 7} is not used`);
    }
  }
}

function malformed(why: string): ApiError {
  return new ApiError("BadRequest", `cannot read the body as ${protobufType}: ${why}`);
}

function decodeMessage(bytes: Buffer, message: Message, depth: number): JsonObject {
  if (depth > maxDepth) throw malformed(`messages are nested more than ${maxDepth} deep`);
  const object: JsonObject = {};
  for (const { number, value } of readWire(bytes)) {
    const field = message.get(number);
    if (field !== undefined) putField(object, field, value, depth);
  }
  return object;
}

function putField(object: JsonObject, field: Field, value: WireValue, depth: number): void {
  const { name, type } = field;
  if (field.isInline) {
    const inner = decodeValue(value, type, depth);
    if (typeof inner === "object" && inner !== null) Object.assign(object, inner);
  } else if (type.startsWith("[]")) {
    const list = (object[name] ??= []) as unknown[];
    list.push(decodeValue(value, type.slice(2), depth));
  } else if (type.startsWith("{}")) {
    const map = (object[name] ??= {}) as JsonObject;
    const [key, inner] = decodeEntry(value, type.slice(2), depth);
    Object.defineProperty(map, key, { value: inner, writable: true, enumerable: true, configurable: true });
  } else {
    const decoded = decodeValue(value, type, depth);
    const isZero = decoded === "" || decoded === 0 || decoded === false;
    if (decoded !== undefined && (field.keepsZero || !isZero)) object[name] = decoded;
  }
}

function decodeEntry(value: WireValue, type: string, depth: number): [string, unknown] {
  let key = "";
  let inner: unknown = ["string", "bytes"].includes(type) ? "" : type === "quantity" ? "0" : undefined;
  for (const part of readWire(asBytes(value))) {
    if (part.number === 1) key = asBytes(part.value).toString("utf8");
    if (part.number === 2) inner = decodeValue(part.value, type, depth);
  }
  return [key, inner];
}

function asBytes(value: WireValue): Buffer {
  if (typeof value === "bigint") throw malformed("a field has the wrong wire type");
  return value;
}

function asNumber(value: WireValue): number {
  if (typeof value !== "bigint") throw malformed("a field has the wrong wire type");
  return Number(BigInt.asIntN(64, value));
}

function decodeValue(value: WireValue, type: string, depth: number): unknown {
  if (type.startsWith("<>")) {
    const items: unknown[] = [];
    for (const part of readWire(asBytes(value)))
      if (part.number === 1) items.push(decodeValue(part.value, type.slice(2), depth));
    return items;
  }
  switch (type) {
    case "string":
      return asBytes(value).toString("utf8");
    case "bytes":
      return asBytes(value).toString("base64");
    case "bool":
      return asNumber(value) !== 0;
    case "int":
      return asNumber(value);
    case "double":
      return asBytes(value).length === 8 ? asBytes(value).readDoubleLE() : asBytes(value).readFloatLE();
    case "time":
      return decodeTime(asBytes(value));
    case "quantity":
      return decodeFirst(asBytes(value)) ?? "0";
    case "intOrString":
      return decodeIntOrString(asBytes(value));
    case "json":
      return decodeJson(asBytes(value));
    default: {
      const message = allMessages().get(type);
      if (message === undefined) throw malformed(`it holds a "${type}", which this server does not read`);
      return decodeMessage(asBytes(value), message, depth + 1);
    }
  }
}

/** Absent when it is Go's zero time, which is written as nothing or as the year 1. */
function decodeTime(bytes: Buffer): string | undefined {
  let seconds: number | undefined;
  let nanos = 0;
  for (const { number, value } of readWire(bytes)) {
    if (number === 1) seconds = asNumber(value);
    if (number === 2) nanos = asNumber(value);
  }
  if (seconds === undefined || seconds < -62_000_000_000) return undefined;
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) throw malformed("a time is out of range");
  const whole = date.toISOString().slice(0, 19);
  return nanos === 0 ? `${whole}Z` : `${whole}.${String(Math.trunc(nanos / 1000)).padStart(6, "0")}Z`;
}

function decodeFirst(bytes: Buffer): string | undefined {
  for (const { number, value } of readWire(bytes)) if (number === 1) return asBytes(value).toString("utf8");
  return undefined;
}

function decodeIntOrString(bytes: Buffer): number | string {
  let isText = false;
  let number = 0;
  let text = "";
  for (const part of readWire(bytes)) {
    if (part.number === 1) isText = asNumber(part.value) === 1;
    if (part.number === 2) number = asNumber(part.value);
    if (part.number === 3) text = asBytes(part.value).toString("utf8");
  }
  return isText ? text : number;
}

function decodeJson(bytes: Buffer): unknown {
  const text = decodeFirst(bytes) ?? "";
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw malformed("it holds JSON that cannot be read");
  }
}
