import { createHash } from "node:crypto";
import { modelOfRef, schemasReachableFrom } from "./core-schemas.ts";
import type { ResourceRegistry } from "./resource-registry.ts";
import type { ResourceInfo, ResourceVersion } from "./resources.ts";
import type { JsonObject, Schema } from "./schema.ts";

/** Where each group and version is described, with a hash that changes with the description. */
export function openApiIndex(registry: ResourceRegistry): JsonObject {
  const paths: JsonObject = {};
  for (const group of registry.groups()) {
    for (const version of registry.versionsOf(group)) {
      const place = group === "" ? `api/${version}` : `apis/${group}/${version}`;
      paths[place] = { serverRelativeURL: `/openapi/v3/${place}?hash=${hashOf(registry, group, version)}` };
    }
  }
  return { paths };
}

/** Built-in kinds never change while the server runs; those of CRDs change with the CRD. */
function hashOf(registry: ResourceRegistry, group: string, version: string): string {
  const hash = createHash("sha256").update(`${group}/${version}`);
  for (const crd of registry.crds()) {
    if (crd.metadata.name.endsWith(`.${group}`)) hash.update(`${crd.metadata.uid}/${String(crd.metadata.generation)}`);
  }
  return hash.digest("hex").toUpperCase();
}

type Served = readonly [ResourceInfo, ResourceVersion];

function servedIn(registry: ResourceRegistry, group: string, version: string): readonly Served[] {
  return registry
    .list()
    .filter((info) => info.group === group)
    .flatMap((info) => info.versions.filter(({ name }) => name === version).map((one): Served => [info, one]));
}

/** OpenAPI v3 of one group and version; undefined when nothing serves it. */
export function openApiV3(registry: ResourceRegistry, group: string, version: string): JsonObject | undefined {
  const served = servedIn(registry, group, version);
  if (served.length === 0) return undefined;
  return withReadableNames({
    openapi: "3.0.0",
    info: { title: "Ambit sandbox", version: "v1" },
    paths: Object.assign({}, ...served.map((one) => pathsOf(one, "v3"))) as JsonObject,
    components: { schemas: definitionsOf(served) },
  });
}

/** OpenAPI v2 of everything. */
export function openApiV2(registry: ResourceRegistry): JsonObject {
  const served = registry.list().flatMap((info) => info.versions.map((one): Served => [info, one]));
  const definitions = definitionsOf(served);
  const text = JSON.stringify(definitions).replaceAll('"#/components/schemas/', '"#/definitions/');
  return withReadableNames({
    swagger: "2.0",
    info: { title: "Ambit sandbox", version: "v1" },
    paths: Object.assign({}, ...served.map((one) => pathsOf(one, "v2"))) as JsonObject,
    definitions: JSON.parse(text) as JsonObject,
  });
}

/** `V1PodSpec` is the client's name; `kubectl explain` shows the last part of ours, `io.k8s.v1.PodSpec`. */
function withReadableNames(document: JsonObject): JsonObject {
  const text = JSON.stringify(document).replaceAll(
    /"(#\/components\/schemas\/|#\/definitions\/|)([A-Z][a-z]+)?V(\d)([A-Z]\w*)"(?=[:,}])/gu,
    (_all, prefix: string, family: string | undefined, major: string, name: string) =>
      `"${prefix}io.k8s.${family === undefined ? "" : `${family.toLowerCase()}.`}v${major}.${name}"`,
  );
  return JSON.parse(text) as JsonObject;
}

function nameOf([info, version]: Served): string {
  const { $ref } = version.schema;
  if ($ref !== undefined) return modelOfRef($ref);
  return `${info.group.split(".").toReversed().join(".")}.${version.name}.${info.kind}`;
}

function definitionsOf(served: readonly Served[]): Record<string, Schema> {
  const models = served.flatMap(([, { schema }]) => (schema.$ref === undefined ? [] : [modelOfRef(schema.$ref)]));
  const definitions = { ...schemasReachableFrom([...models, "V1ObjectMeta", "V1ListMeta", "V1DeleteOptions"]) };
  for (const one of served) {
    const [info, version] = one;
    const name = nameOf(one);
    const gvk = [{ group: info.group, version: version.name, kind: info.kind }];
    const base = definitions[name] ?? withCommonFields(version.schema);
    definitions[name] = { ...base, "x-kubernetes-group-version-kind": gvk };
  }
  return definitions;
}

/** CRDs leave out what every object has. */
function withCommonFields(schema: Schema): Schema {
  return {
    ...schema,
    properties: {
      ...schema.properties,
      apiVersion: {
        type: "string",
        description: "APIVersion defines the versioned schema of this representation of an object.",
      },
      kind: {
        type: "string",
        description: "Kind is a string value representing the REST resource this object represents.",
      },
      metadata: { $ref: "#/components/schemas/V1ObjectMeta", description: "Standard object's metadata." },
    },
  };
}

/** Options that writes understand; clients look for them here before they use them. */
const writeOptions = ["dryRun", "fieldManager", "fieldValidation", "force"];

function pathsOf(served: Served, form: "v2" | "v3"): JsonObject {
  const [info, version] = served;
  const prefix = info.group === "" ? `/api/${version.name}` : `/apis/${info.group}/${version.name}`;
  const collection = `${prefix}${info.namespaced ? "/namespaces/{namespace}" : ""}/${info.resource}`;
  const gvk = { group: info.group, version: version.name, kind: info.kind };
  const name = nameOf(served);
  const schema = { $ref: form === "v3" ? `#/components/schemas/${name}` : `#/definitions/${name}` };
  const answer =
    form === "v3" ? { description: "OK", content: { "application/json": { schema } } } : { description: "OK", schema };
  const operation = (action: string, options: readonly string[] = []): JsonObject => ({
    operationId: `${action}${info.kind}${prefix.replaceAll(/[^A-Za-z0-9]/gu, "_")}`,
    responses: { 200: answer },
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": gvk,
    parameters: options.map((option) => parameter(option, form)),
  });
  const paths: JsonObject = {
    [collection]: { get: operation("list"), post: operation("post", writeOptions.slice(0, 3)) },
  };
  if (!info.verbs.includes("get")) return { [collection]: { post: operation("post", writeOptions.slice(0, 3)) } };
  paths[`${collection}/{name}`] = {
    get: operation("get"),
    put: operation("put", writeOptions.slice(0, 3)),
    patch: operation("patch", writeOptions),
    delete: operation("delete", ["dryRun", "gracePeriodSeconds", "propagationPolicy"]),
  };
  return paths;
}

function parameter(name: string, form: "v2" | "v3"): JsonObject {
  const type = name === "force" ? "boolean" : name === "gracePeriodSeconds" ? "integer" : "string";
  return form === "v3"
    ? { name, in: "query", schema: { type, uniqueItems: true } }
    : { name, in: "query", type, uniqueItems: true };
}
