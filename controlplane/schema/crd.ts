/** CustomResourceDefinitions from the schemas: what an API server checks when somebody applies an object. */
import { z } from "zod";
import type { KindDefinition } from "./kind.ts";

type Json = Readonly<Record<string, unknown>>;

const isRecord = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * From JSON Schema to what Kubernetes calls structural. There, unknown fields are pruned without being told to; a field
 * that keeps anything says so; and neither `propertyNames` nor bounds that only JavaScript has may stand.
 */
function structural(schema: Json): Json {
  if (schema["x-kubernetes-int-or-string"] === true) {
    const { description } = schema;
    return {
      ...(description === undefined ? {} : { description }),
      anyOf: [{ type: "integer" }, { type: "string" }],
      "x-kubernetes-int-or-string": true,
    };
  }
  const { $schema: _schema, propertyNames: _names, additionalProperties, properties, items, ...rest } = schema;
  const out: Record<string, unknown> = { ...rest };
  if (out["minimum"] === Number.MIN_SAFE_INTEGER) delete out["minimum"];
  if (out["maximum"] === Number.MAX_SAFE_INTEGER) delete out["maximum"];
  if (isRecord(properties)) {
    const entries = Object.entries(properties).map(([key, value]) => [key, structural(value as Json)] as const);
    if (entries.length > 0) out["properties"] = Object.fromEntries(entries);
  }
  if (isRecord(items)) out["items"] = structural(items);
  if (isRecord(additionalProperties)) {
    const isFree = Object.keys(additionalProperties).length === 0;
    if (isFree) out["x-kubernetes-preserve-unknown-fields"] = true;
    else out["additionalProperties"] = structural(additionalProperties);
  }
  return out;
}

const seen = "The metadata.generation of the object that it is said of";

/**
 * Istio's kinds write a 64-bit number as text, as protobuf does in JSON; Gateway API writes a number, here without the
 * format int64, of which kube-apiserver 1.34 warns.
 */
const generationOf = (group: string): Json =>
  group.endsWith(".istio.io")
    ? { description: seen, anyOf: [{ type: "integer" }, { type: "string" }], "x-kubernetes-int-or-string": true }
    : { description: seen, type: "integer" };

/** Conditions of several writers live side by side because the list is a map by type. */
const conditionsOf = (group: string): Json => ({
  description: "What its readers have found, one entry for each question",
  type: "array",
  "x-kubernetes-list-type": "map",
  "x-kubernetes-list-map-keys": ["type"],
  items: {
    type: "object",
    required: ["type", "status"],
    properties: {
      type: { description: "The question, such as Accepted", type: "string" },
      status: { description: "The answer", type: "string", enum: ["True", "False", "Unknown"] },
      observedGeneration: generationOf(group),
      lastTransitionTime: { description: "When the answer became this one", type: "string", format: "date-time" },
      reason: { description: "The reason in one word, for programs", type: "string" },
      message: { description: "The reason in a sentence, for people", type: "string" },
    },
    "x-kubernetes-preserve-unknown-fields": true,
  },
});

const statusOf = (group: string): Json => ({
  description: "What has become of the object; written by the mesh",
  type: "object",
  properties: { conditions: conditionsOf(group) },
  "x-kubernetes-preserve-unknown-fields": true,
});

export function toCrd(definition: KindDefinition): Json {
  const { group, kind, plural, shortNames, categories, isNamespaced, versions, hasStatus } = definition;
  const spec = structural(z.toJSONSchema(definition.spec, { target: "openapi-3.0", io: "input", reused: "inline" }));
  const schema = {
    openAPIV3Schema: {
      type: "object",
      description: definition.description,
      properties: { spec, ...(hasStatus ? { status: statusOf(group) } : {}) },
      ...(definition.isSpecRequired ? { required: ["spec"] } : {}),
    },
  };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: {
      name: `${plural}.${group}`,
      ...(definition.crdLabels === undefined ? {} : { labels: definition.crdLabels }),
      ...(definition.crdAnnotations === undefined ? {} : { annotations: definition.crdAnnotations }),
    },
    spec: {
      group,
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular: kind.toLowerCase(),
        ...(shortNames.length > 0 ? { shortNames } : {}),
        categories,
      },
      scope: isNamespaced ? "Namespaced" : "Cluster",
      versions: versions.map((name, index) => ({
        name,
        served: true,
        storage: index === 0,
        additionalPrinterColumns: definition.columns,
        ...(hasStatus ? { subresources: { status: {} } } : {}),
        schema,
      })),
    },
  };
}
