/** The settings of the mesh that translation reads: Istio's MeshConfig, of which the rest is ignored. */
import { parse } from "yaml";
import { defaultTrustDomain } from "#shared/identity/spiffe-id.ts";
import { Field, ShapeError } from "./field.ts";
import type { KubeObject, LabelSelector } from "./objects.ts";
import { readLabelSelector } from "./label-selector.ts";

export type Visibility = "PUBLIC" | "NAMESPACE" | "NONE";

/** The first policy whose selectors all match the entry's namespace decides. */
export interface ServiceEntryVisibility {
  readonly defaultVisibility: Visibility;
  readonly policies: readonly { readonly visibility: Visibility; readonly namespaces: readonly LabelSelector[] }[];
}

export interface ServiceScope {
  readonly namespaces: LabelSelector | undefined;
  readonly services: LabelSelector | undefined;
  readonly scope: "LOCAL" | "GLOBAL";
}

export interface MeshConfig {
  readonly trustDomain: string;
  readonly trustDomainAliases: readonly string[];
  readonly rootNamespace: string;
  /** undefined: every ServiceEntry is public and nothing is said about it. */
  readonly serviceEntryVisibility: ServiceEntryVisibility | undefined;
  readonly serviceScopes: readonly ServiceScope[];
}

export const defaultMeshConfig: MeshConfig = {
  trustDomain: defaultTrustDomain,
  trustDomainAliases: [],
  rootNamespace: "istio-system",
  serviceEntryVisibility: undefined,
  // Istio's ambient profile sets this one.
  serviceScopes: [
    {
      namespaces: undefined,
      services: {
        matchLabels: new Map(),
        matchExpressions: [{ key: "istio.io/global", operator: "In", values: ["true"] }],
      },
      scope: "GLOBAL",
    },
  ],
};

/**
 * Namespace and name of the ConfigMap. It lies beside the control plane, wherever the root namespace is that it names.
 */
export interface MeshConfigPlace {
  readonly namespace: string;
  readonly name: string;
}

/** A control plane of a revision has a ConfigMap of its own. */
export function meshConfigPlace(options: {
  readonly systemNamespace: string;
  readonly revision: string;
}): MeshConfigPlace {
  const { systemNamespace: namespace, revision } = options;
  return { namespace, name: revision === "" || revision === "default" ? "istio" : `istio-${revision}` };
}

/**
 * Where `object` carries the mesh configuration, a function that reads it: the ConfigMap of this control plane (key
 * `mesh`), or our own document `kind: MeshConfig` with the fields under `mesh`.
 */
export function meshConfigFrom(object: KubeObject, place: MeshConfigPlace): (() => MeshConfig) | undefined {
  if (object.kind === "MeshConfig") return () => readMeshConfig(new Field(object).at("mesh"));
  if (object.kind !== "ConfigMap" || object.apiVersion !== "v1") return undefined;
  const root = new Field(object);
  const meta = object.metadata as { name?: unknown; namespace?: unknown } | null | undefined;
  if (meta?.name !== place.name || meta.namespace !== place.namespace) return undefined;
  return () => readMeshConfig(new Field(parseText(root.at("data").at("mesh")), "data.mesh"));
}

function parseText(field: Field): unknown {
  try {
    return parse(field.text()) as unknown;
  } catch (thrown) {
    throw thrown instanceof ShapeError ? thrown : new ShapeError(field.path, "YAML", String(thrown));
  }
}

function readMeshConfig(mesh: Field): MeshConfig {
  const visibility = mesh.at("serviceEntryVisibility");
  const scopes = mesh.at("serviceScopeConfigs");
  return {
    trustDomain: mesh.at("trustDomain").text() || defaultMeshConfig.trustDomain,
    trustDomainAliases: mesh.at("trustDomainAliases").texts(),
    rootNamespace: mesh.at("rootNamespace").text() || defaultMeshConfig.rootNamespace,
    serviceEntryVisibility: visibility.isPresent ? readServiceEntryVisibility(visibility) : undefined,
    serviceScopes: scopes.isPresent ? scopes.list().map(readScope) : defaultMeshConfig.serviceScopes,
  };
}

function readScope(config: Field): ServiceScope {
  return {
    // Istio's documentation and its code spell the first differently.
    namespaces: readLabelSelector(config.at("namespaceSelector")) ?? readLabelSelector(config.at("namespacesSelector")),
    services: readLabelSelector(config.at("servicesSelector")),
    scope: config.at("scope").text() === "GLOBAL" ? "GLOBAL" : "LOCAL",
  };
}

function readServiceEntryVisibility(field: Field): ServiceEntryVisibility {
  return {
    defaultVisibility: readVisibility(field.at("defaultVisibility")),
    policies: field
      .at("policies")
      .list()
      .map((policy) => ({
        visibility: readVisibility(policy.at("visibility")),
        namespaces: policy
          .at("matchingRules")
          .list()
          .map((rule) => readLabelSelector(rule.at("namespaceSelector")))
          .filter((selector) => selector !== undefined),
      })),
  };
}

function readVisibility(field: Field): Visibility {
  const text = field.text();
  switch (text) {
    case "PUBLIC":
    case "NAMESPACE":
    case "NONE":
      return text;
    case "":
    case "VISIBILITY_UNSPECIFIED":
      return "PUBLIC";
    default:
      throw new ShapeError(field.path, "one of PUBLIC, NAMESPACE, NONE", text);
  }
}
