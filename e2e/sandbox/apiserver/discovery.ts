import type { Negotiated } from "./content.ts";
import type { ResourceRegistry } from "./resource-registry.ts";
import type { ResourceInfo, ResourceVersion } from "./resources.ts";
import type { JsonObject } from "./schema.ts";

const scaleKind = { group: "autoscaling", version: "v1", kind: "Scale" };

/** Versions of the aggregated form, newest first. */
const aggregatedVersions = ["v2", "v2beta1"];

export const isAggregated = ({ as, version }: Negotiated) =>
  as === "APIGroupDiscoveryList" && aggregatedVersions.includes(version);

export const aggregatedContentType = (version: string) =>
  `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`;

/** Everything that `/api` or `/apis` serves, in one answer. */
export function aggregatedDiscovery(registry: ResourceRegistry, prefix: "/api" | "/apis", version: string): JsonObject {
  const groups = registry.groups().filter((group) => (group === "") === (prefix === "/api"));
  return {
    kind: "APIGroupDiscoveryList",
    apiVersion: `apidiscovery.k8s.io/${version}`,
    metadata: {},
    items: groups.map((group) => ({
      metadata: group === "" ? { creationTimestamp: null } : { name: group, creationTimestamp: null },
      versions: registry.versionsOf(group).map((name) => ({
        version: name,
        freshness: "Current",
        resources: servedIn(registry, group, name).map(([info, served]) => describeResource(info, served)),
      })),
    })),
  };
}

function servedIn(
  registry: ResourceRegistry,
  group: string,
  version: string,
): readonly [ResourceInfo, ResourceVersion][] {
  return registry
    .list()
    .filter((info) => info.group === group)
    .flatMap((info) =>
      info.versions
        .filter(({ name }) => name === version)
        .map((served): [ResourceInfo, ResourceVersion] => [info, served]),
    );
}

interface SubresourceEntry {
  readonly name: string;
  readonly responseKind: { readonly group: string; readonly version: string; readonly kind: string };
  readonly verbs: readonly string[];
}

function subresourcesOf(info: ResourceInfo, version: ResourceVersion): readonly SubresourceEntry[] {
  const own = { group: info.group, version: version.name, kind: info.kind };
  const writable = ["get", "patch", "update"];
  return [
    ...Object.entries(info.subresources).map(([name, { group, version: other, kind, verbs }]) => ({
      name,
      responseKind: { group: group ?? info.group, version: other ?? version.name, kind },
      verbs,
    })),
    ...(version.scale === undefined ? [] : [{ name: "scale", responseKind: scaleKind, verbs: writable }]),
    ...(version.hasStatus ? [{ name: "status", responseKind: own, verbs: writable }] : []),
  ];
}

function describeResource(info: ResourceInfo, version: ResourceVersion): JsonObject {
  const subresources = subresourcesOf(info, version);
  return {
    resource: info.resource,
    responseKind: { group: info.group, version: version.name, kind: info.kind },
    scope: info.namespaced ? "Namespaced" : "Cluster",
    singularResource: info.singular,
    verbs: info.verbs,
    ...(info.shortNames.length === 0 ? {} : { shortNames: info.shortNames }),
    ...(info.categories.length === 0 ? {} : { categories: info.categories }),
    ...(subresources.length === 0
      ? {}
      : {
          subresources: subresources.map(({ name, responseKind, verbs }) => ({
            subresource: name,
            responseKind,
            verbs,
          })),
        }),
  };
}

export function apiVersions(): JsonObject {
  return { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] };
}

export function apiGroupList(registry: ResourceRegistry): JsonObject {
  const groups = registry.groups().filter((group) => group !== "");
  return { kind: "APIGroupList", apiVersion: "v1", groups: groups.map((group) => describeGroup(registry, group)) };
}

/** One group by name; undefined when nothing serves it. */
export function apiGroup(registry: ResourceRegistry, group: string): JsonObject | undefined {
  if (group === "" || !registry.groups().includes(group)) return undefined;
  return { kind: "APIGroup", apiVersion: "v1", ...describeGroup(registry, group) };
}

function describeGroup(registry: ResourceRegistry, group: string): JsonObject {
  const versions = registry.versionsOf(group).map((version) => ({ groupVersion: `${group}/${version}`, version }));
  return { name: group, versions, preferredVersion: versions[0] };
}

/** The resources of one group and version, the form of older clients; undefined when nothing serves it. */
export function apiResourceList(registry: ResourceRegistry, group: string, version: string): JsonObject | undefined {
  const served = servedIn(registry, group, version);
  if (served.length === 0) return undefined;
  const resources = served.flatMap(([info, one]): JsonObject[] => [
    {
      name: info.resource,
      singularName: info.singular,
      namespaced: info.namespaced,
      kind: info.kind,
      verbs: info.verbs,
      ...(info.shortNames.length === 0 ? {} : { shortNames: info.shortNames }),
      ...(info.categories.length === 0 ? {} : { categories: info.categories }),
    },
    ...subresourcesOf(info, one).map(({ name, responseKind, verbs }) => ({
      name: `${info.resource}/${name}`,
      singularName: "",
      namespaced: info.namespaced,
      ...(responseKind.group === group && responseKind.version === version
        ? {}
        : { group: responseKind.group, version: responseKind.version }),
      kind: responseKind.kind,
      verbs,
    })),
  ]);
  return {
    kind: "APIResourceList",
    apiVersion: "v1",
    groupVersion: group === "" ? version : `${group}/${version}`,
    resources,
  };
}
