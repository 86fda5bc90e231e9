/** The settings of the mesh that translation reads: Istio's MeshConfig, of which the rest is ignored. */
import { parse } from "yaml";
import { defaultTrustDomain } from "#shared/identity/spiffe-id.ts";
import { readKeepalive, readLocalitySetting, type Keepalive, type LocalitySetting } from "./destination-rule.ts";
import { durationMs } from "./duration.ts";
import { readExtAuthzProviders, type ExtAuthzProvider } from "./extension-provider.ts";
import { Field, ShapeError } from "./field.ts";
import { defaultMeshTelemetry, readMeshTelemetry, type MeshTelemetry } from "./mesh-telemetry.ts";
import type { KubeObject, LabelSelector } from "./objects.ts";
import { readLabelSelector } from "./label-selector.ts";
import { readRetryPolicy, type RetryPolicy } from "./retry-policy.ts";

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
  /** External authorizers, which CUSTOM policies name. */
  readonly extAuthzProviders: readonly ExtAuthzProvider[];
  readonly rootNamespace: string;
  /** Namespaces whose objects count: those that match one of these. None: all namespaces. */
  readonly discoverySelectors: readonly LabelSelector[];
  /** undefined: every ServiceEntry is public and nothing is said about it. */
  readonly serviceEntryVisibility: ServiceEntryVisibility | undefined;
  readonly serviceScopes: readonly ServiceScope[];
  /** What waypoints do where nothing else is said. */
  readonly connectTimeoutMs: number;
  readonly tcpKeepalive: Keepalive | undefined;
  /** How often names are looked up again, where the answer says nothing. */
  readonly dnsRefreshMs: number;
  readonly h2Upgrade: boolean;
  readonly locality: LocalitySetting;
  readonly zoneAware: LocalitySetting | undefined;
  readonly pathNormalization: PathNormalization;
  readonly defaultHttpRetryPolicy: RetryPolicy | undefined;
  readonly defaultVirtualServiceExportTo: readonly string[];
  readonly defaultDestinationRuleExportTo: readonly string[];
  readonly proxyHeaders: ProxyHeaders;
  readonly telemetry: MeshTelemetry;
}

/** Every name of the mesh: its own trust domain first; an alias may begin or end with a star. */
export const trustDomainsOf = ({
  trustDomain,
  trustDomainAliases,
}: Pick<MeshConfig, "trustDomain" | "trustDomainAliases">): readonly string[] => [trustDomain, ...trustDomainAliases];

export type PathNormalization = "NONE" | "BASE" | "MERGE_SLASHES" | "DECODE_AND_MERGE_SLASHES";

/** Headers that waypoints add or keep off: `defaultConfig.proxyHeaders`. */
export interface ProxyHeaders {
  /** undefined: the default of Istio's proxies. */
  readonly server: string | undefined;
  readonly serverDisabled: boolean;
  readonly requestIdDisabled: boolean;
  readonly attemptCountDisabled: boolean;
  readonly envoyDebugHeadersDisabled: boolean;
  readonly forwardedHost: boolean;
  readonly forwardedPort: boolean;
  readonly preserveHttp1HeaderCase: boolean;
}

export const defaultMeshConfig: MeshConfig = {
  trustDomain: defaultTrustDomain,
  trustDomainAliases: [],
  extAuthzProviders: [],
  rootNamespace: "istio-system",
  discoverySelectors: [],
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
  connectTimeoutMs: 10_000,
  tcpKeepalive: undefined,
  dnsRefreshMs: 60_000,
  h2Upgrade: false,
  locality: { enabled: true, distribute: [], failover: [], failoverPriority: [] },
  zoneAware: undefined,
  pathNormalization: "BASE",
  defaultHttpRetryPolicy: undefined,
  defaultVirtualServiceExportTo: ["*"],
  defaultDestinationRuleExportTo: ["*"],
  telemetry: defaultMeshTelemetry,
  proxyHeaders: {
    server: undefined,
    serverDisabled: false,
    requestIdDisabled: false,
    attemptCountDisabled: false,
    envoyDebugHeadersDisabled: false,
    forwardedHost: false,
    forwardedPort: false,
    preserveHttp1HeaderCase: false,
  },
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
    extAuthzProviders: readExtAuthzProviders(mesh.at("extensionProviders")),
    rootNamespace: mesh.at("rootNamespace").text() || defaultMeshConfig.rootNamespace,
    discoverySelectors: mesh
      .at("discoverySelectors")
      .list()
      .map(readLabelSelector)
      .filter((selector) => selector !== undefined),
    serviceEntryVisibility: visibility.isPresent ? readServiceEntryVisibility(visibility) : undefined,
    serviceScopes: scopes.isPresent ? scopes.list().map(readScope) : defaultMeshConfig.serviceScopes,
    telemetry: readMeshTelemetry(mesh),
    ...readTrafficDefaults(mesh),
  };
}

function readTrafficDefaults(mesh: Field) {
  const locality = mesh.at("localityLbSetting");
  const zoneAware = mesh.at("zoneAwareLbSetting");
  const keepalive = mesh.at("tcpKeepalive");
  const exportTo = (field: Field): readonly string[] => (field.texts().length > 0 ? field.texts() : ["*"]);
  return {
    connectTimeoutMs: durationMs(mesh.at("connectTimeout")) ?? defaultMeshConfig.connectTimeoutMs,
    tcpKeepalive: keepalive.isPresent ? readKeepalive(keepalive) : undefined,
    dnsRefreshMs: durationMs(mesh.at("dnsRefreshRate")) ?? defaultMeshConfig.dnsRefreshMs,
    h2Upgrade: mesh.at("h2UpgradePolicy").text() === "UPGRADE",
    locality: locality.isPresent ? readLocalitySetting(locality) : defaultMeshConfig.locality,
    zoneAware: zoneAware.isPresent ? readLocalitySetting(zoneAware) : undefined,
    pathNormalization: readNormalization(mesh.at("pathNormalization").at("normalization")),
    defaultHttpRetryPolicy: readRetryPolicy(mesh.at("defaultHttpRetryPolicy")),
    defaultVirtualServiceExportTo: exportTo(mesh.at("defaultVirtualServiceExportTo")),
    defaultDestinationRuleExportTo: exportTo(mesh.at("defaultDestinationRuleExportTo")),
    proxyHeaders: readProxyHeaders(mesh.at("defaultConfig").at("proxyHeaders")),
  };
}

function readProxyHeaders(headers: Field): ProxyHeaders {
  return {
    server: headers.at("server").at("value").optionalText(),
    serverDisabled: headers.at("server").at("disabled").flag(),
    requestIdDisabled: headers.at("requestId").at("disabled").flag(),
    attemptCountDisabled: headers.at("attemptCount").at("disabled").flag(),
    envoyDebugHeadersDisabled: headers.at("envoyDebugHeaders").at("disabled").flag(),
    forwardedHost: headers.at("xForwardedHost").at("enabled").flag(),
    forwardedPort: headers.at("xForwardedPort").at("enabled").flag(),
    preserveHttp1HeaderCase: headers.at("preserveHttp1HeaderCase").flag(),
  };
}

function readNormalization(field: Field): PathNormalization {
  const text = field.text("DEFAULT");
  switch (text) {
    case "NONE":
    case "MERGE_SLASHES":
    case "DECODE_AND_MERGE_SLASHES":
      return text;
    case "DEFAULT":
    case "BASE":
      return "BASE";
    default:
      throw new ShapeError(field.path, "one of NONE, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES", text);
  }
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
      .flatMap((policy) => {
        const rules = policy
          .at("matchingRules")
          .list()
          .map((rule) => readLabelSelector(rule.at("namespaceSelector")));
        const namespaces = rules.filter((selector) => selector !== undefined);
        // A rule of a kind that is not known never matches, and so the whole policy does not.
        if (namespaces.length < rules.length) return [];
        return [{ visibility: readVisibility(policy.at("visibility")), namespaces }];
      }),
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
