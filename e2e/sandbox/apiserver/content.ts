import { parse as parseYaml } from "yaml";
import { ApiError } from "./api-error.ts";
import { decodeObject, type Mistyped } from "./decode-object.ts";
import { decodeProtobufBody, protobufType } from "./protobuf-body.ts";
import type { ResourceInfo, ResourceVersion } from "./resources.ts";
import { isObject, type JsonObject } from "./schema.ts";

/** How a client wants its answer. */
export interface Negotiated {
  readonly form: "json" | "yaml";
  readonly as: "object" | "Table" | "PartialObjectMetadata" | "PartialObjectMetadataList" | "APIGroupDiscoveryList";
  readonly version: string;
}

const plainJson: Negotiated = { form: "json", as: "object", version: "" };

/** Picks the first form of `Accept` that this server speaks. Throws 406 when it speaks none. */
export function negotiate(accept: string | undefined): Negotiated {
  if (accept === undefined || accept.trim() === "") return plainJson;
  for (const range of accept.split(",")) {
    const [type = "", ...parameters] = range.split(";").map((part) => part.trim());
    const values = new Map(parameters.map((part) => part.split("=", 2) as [string, string]));
    const form = formOf(type);
    const as = values.get("as") ?? "object";
    if (form === undefined || !isAnswer(as)) continue;
    return { form, as, version: values.get("v") ?? "" };
  }
  throw new ApiError(
    "NotAcceptable",
    "only the following media types are accepted: application/json, application/yaml",
  );
}

function formOf(type: string): "json" | "yaml" | undefined {
  switch (type) {
    case "application/json":
    case "application/*":
    case "*/*":
      return "json";
    case "application/yaml":
      return "yaml";
    default:
      return undefined; // protobuf and CBOR among them: clients that ask for them name JSON next
  }
}

function isAnswer(as: string): as is Negotiated["as"] {
  return ["object", "Table", "PartialObjectMetadata", "PartialObjectMetadataList", "APIGroupDiscoveryList"].includes(
    as,
  );
}

/** Reads a request's body as JSON or YAML. */
export function parseBody(body: Buffer | undefined, contentType: string | undefined): unknown {
  const type = (contentType ?? "application/json").split(";")[0]?.trim() ?? "";
  if (type === protobufType) return decodeProtobufBody(body ?? Buffer.alloc(0));
  const text = body?.toString("utf8") ?? "";
  const value = readText(text, type);
  if (isDeeper(value, maxDepth))
    throw new ApiError("BadRequest", `the body is nested more than ${maxDepth} levels deep`);
  return value;
}

/** Nesting that a body may have. CRDs of CRDs stay below half of it. */
const maxDepth = 200;

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeper(inner, levels - 1));
}

function readText(text: string, type: string): unknown {
  if (/^application\/(?:[\w.-]+\+)?json$/u.test(type) || type === "") return parseJson(text);
  if (/^application\/(?:[\w.-]+\+)?yaml$/u.test(type)) return readYaml(text);
  throw new ApiError(
    "UnsupportedMediaType",
    `the body of the request was in an unknown format "${type}" - accepted media types include: application/json, application/yaml`,
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ApiError(
      "BadRequest",
      `couldn't get version/kind; json parse error: ${error instanceof Error ? error.message : ""}`,
    );
  }
}

function readYaml(text: string): unknown {
  // What kubectl calls YAML is mostly JSON, which is read a hundred times faster.
  if (text.startsWith("{")) {
    try {
      return JSON.parse(text);
    } catch {
      // it may still be YAML
    }
  }
  try {
    return parseYaml(text, { maxAliasCount: 100 });
  } catch (error) {
    throw new ApiError("BadRequest", `yaml: ${error instanceof Error ? error.message : "malformed"}`);
  }
}

export type FieldValidation = "Strict" | "Warn" | "Ignore";

export function readFieldValidation(value: string | null): FieldValidation {
  if (value === null || value === "") return "Warn";
  if (value === "Strict" || value === "Warn" || value === "Ignore") return value;
  throw new ApiError(
    "BadRequest",
    `fieldValidation: Unsupported value: "${value}": supported values: "Ignore", "Strict", "Warn"`,
  );
}

export interface DecodedBody {
  readonly object: JsonObject;
  /** For `Warning` headers. */
  readonly warnings: readonly string[];
}

/** Checks a body against its kind: types always, unknown fields as strictly as the client asks. */
export function decodeBody(
  body: unknown,
  info: ResourceInfo,
  version: ResourceVersion,
  validation: FieldValidation,
  patch?: unknown,
): DecodedBody {
  if (!isObject(body)) throw new ApiError("BadRequest", "the body of the request must be an object");
  const apiVersion = info.group === "" ? version.name : `${info.group}/${version.name}`;
  const given = { apiVersion: body["apiVersion"] ?? apiVersion, kind: body["kind"] ?? info.kind };
  if (given.kind !== info.kind || given.apiVersion !== apiVersion) {
    const why = `${JSON.stringify(given.kind)} in version ${JSON.stringify(given.apiVersion)} cannot be handled as a ${info.kind} of ${apiVersion}`;
    throw new ApiError("BadRequest", `the object provided is unrecognized (must be of type ${info.kind}): ${why}`);
  }
  const { object, unknown, mistyped } = decodeObject({ ...body, ...given }, version.schema, { builtIn: info.builtIn });
  const [first] = mistyped;
  if (first !== undefined) throw mistypedError(first, info, version);
  const complaints = unknown.map((path) => `unknown field "${path}"`);
  if (complaints.length > 0 && validation === "Strict") throw strictError(complaints, info, version, patch);
  return { object, warnings: validation === "Warn" ? complaints : [] };
}

/** How much of a refused patch its refusal repeats. */
const maxShownBytes = 512;

function strictError(
  complaints: readonly string[],
  info: ResourceInfo,
  version: ResourceVersion,
  patch: unknown,
): ApiError {
  const text = `strict decoding error: ${complaints.join(", ")}`;
  if (patch === undefined)
    return new ApiError(
      "BadRequest",
      `${info.kind} in version "${version.name}" cannot be handled as a ${info.kind}: ${text}`,
    );
  const message = `Invalid value: ${JSON.stringify(JSON.stringify(patch).slice(0, maxShownBytes))}: ${text}`;
  return new ApiError("Invalid", ` "" is invalid: patch: ${message}`, {
    causes: [{ reason: "FieldValueInvalid", message, field: "patch" }],
  });
}

const goTypes: Readonly<Record<string, string>> = {
  integer: "int64",
  number: "float64",
  boolean: "bool",
  object: "struct",
  array: "slice",
  string: "string",
  "int-or-string": "intstr.IntOrString",
};

function mistypedError({ path, want, got }: Mistyped, info: ResourceInfo, version: ResourceVersion): ApiError {
  const place = `${info.kind}.${path.replaceAll(/\[\d+\]/gu, "")}`;
  const why = `json: cannot unmarshal ${got} into Go struct field ${place} of type ${goTypes[want] ?? want}`;
  return new ApiError(
    "BadRequest",
    `${info.kind} in version "${version.name}" cannot be handled as a ${info.kind}: ${why}`,
    {
      causes: [{ reason: "FieldValueTypeInvalid", message: `must be of type ${want}, not ${got}`, field: path }],
    },
  );
}
