import type { ResourceRegistry } from "./resource-registry.ts";

/*
 * OpenAPI v2 in gnostic's protobuf form (`openapiv2/OpenAPIv2.proto`), the only one that older versions of kubectl ask
 * for. They read one thing from it: whether PATCH of a kind takes `fieldValidation` and `dryRun`. So that is what it
 * holds; schemas are served as OpenAPI v3.
 */

export const openApiV2ProtobufTypes = [
  "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
  "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];

/** Field numbers of the messages that are written. */
const number = {
  document: { swagger: 1, info: 2, paths: 8 },
  info: { title: 1, version: 2 },
  paths: { path: 2 },
  named: { name: 1, value: 2 },
  pathItem: { patch: 8 },
  operation: { parameters: 8, vendorExtension: 13 },
  parametersItem: { parameter: 1 },
  parameter: { nonBody: 2 },
  nonBody: { query: 3 },
  query: { in: 2, name: 4, type: 6 },
  any: { yaml: 2 },
} as const;

function field(id: number, value: string | Buffer): Buffer {
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  return Buffer.concat([varint((id << 3) | 2), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

function queryParameter(name: string): Buffer {
  const { query, nonBody, parameter, parametersItem } = number;
  const described = Buffer.concat([field(query.in, "query"), field(query.name, name), field(query.type, "string")]);
  return field(parametersItem.parameter, field(parameter.nonBody, field(nonBody.query, described)));
}

const patchParameters = ["dryRun", "fieldManager", "fieldValidation", "force"].map((name) =>
  field(number.operation.parameters, queryParameter(name)),
);

export function openApiV2Protobuf(registry: ResourceRegistry): Buffer {
  const paths = registry.list().flatMap((info) =>
    info.verbs.includes("patch")
      ? info.versions.map(({ name }) => {
          const prefix = info.group === "" ? `/api/${name}` : `/apis/${info.group}/${name}`;
          const path = `${prefix}${info.namespaced ? "/namespaces/{namespace}" : ""}/${info.resource}/{name}`;
          return field(number.paths.path, pathItem(path, { group: info.group, kind: info.kind, version: name }));
        })
      : [],
  );
  return Buffer.concat([
    field(number.document.swagger, "2.0"),
    field(
      number.document.info,
      Buffer.concat([field(number.info.title, "Ambit sandbox"), field(number.info.version, "v1")]),
    ),
    field(number.document.paths, Buffer.concat(paths)),
  ]);
}

function pathItem(path: string, gvk: object): Buffer {
  const { named, operation, any } = number;
  // The extension's value is YAML, of which JSON is a part.
  const extension = Buffer.concat([
    field(named.name, "x-kubernetes-group-version-kind"),
    field(named.value, field(any.yaml, JSON.stringify(gvk))),
  ]);
  const patch = Buffer.concat([...patchParameters, field(operation.vendorExtension, extension)]);
  return Buffer.concat([field(named.name, path), field(named.value, field(number.pathItem.patch, patch))]);
}
