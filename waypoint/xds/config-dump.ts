/** What is in force, in the form in which Envoy shows it and istioctl reads it. */
import { fromBinary, toJson, type DescMessage, type JsonValue } from "@bufbuild/protobuf";
import { explain } from "#shared/errors/mesh-error.ts";
import { ClusterSchema } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import type { NodeFacts } from "#waypoint/expressions/attributes.ts";
import { meshRootsName, ownCertificateName, type Secrets, type SecretValue } from "#waypoint/upstream/secrets.ts";
import { anyTypes } from "./any-types.ts";
import type { AcceptedResource, RefusedResource, ResourceLog } from "./resource-log.ts";
import type { WaypointState } from "./waypoint-state.ts";

type Json = Readonly<Record<string, unknown>>;

export interface DumpSources {
  readonly state: WaypointState;
  /** Who this proxy is, as expressions know it. */
  readonly node: NodeFacts;
  readonly startedAtMs: number;
  readonly ownCertificate: () => WorkloadCertificate | undefined;
  readonly secrets: Secrets;
}

/** Every section that istioctl asks for; it takes one that is missing for a mistake. */
export function dumpConfig(sources: DumpSources): readonly Json[] {
  const { state } = sources;
  return [
    bootstrap(sources),
    clusters(state.clusters),
    endpoints(state.endpoints),
    listeners(state.listeners),
    routes(state.listeners),
    secrets(sources),
  ];
}

/** There is none; but who a proxy is stands in it. */
const bootstrap = ({ node, startedAtMs }: DumpSources): Json => ({
  "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
  bootstrap: { node: { id: node.id, cluster: node.cluster, metadata: node.metadata, user_agent_name: "ambit" } },
  last_updated: new Date(startedAtMs).toISOString(),
});

function clusters({ accepted, refused }: ResourceLog): Json {
  return {
    "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
    dynamic_active_clusters: [...accepted.values()].map((resource) => ({
      ...stamp(resource),
      cluster: shown(ClusterSchema, typeUrls.cluster, resource),
    })),
    dynamic_warming_clusters: [...refused.values()].map((resource) => ({
      cluster: shown(ClusterSchema, typeUrls.cluster, resource),
      error_state: errorState(resource),
    })),
  };
}

function listeners({ accepted, refused }: ResourceLog): Json {
  const names = new Set([...accepted.keys(), ...refused.keys()]);
  return {
    "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
    dynamic_listeners: [...names].map((name) => {
      const [active, bad] = [accepted.get(name), refused.get(name)];
      return {
        name,
        ...(active !== undefined && {
          active_state: { ...stamp(active), listener: shown(ListenerSchema, typeUrls.listener, active) },
        }),
        ...(bad !== undefined && { error_state: errorState(bad) }),
      };
    }),
  };
}

function endpoints({ accepted }: ResourceLog): Json {
  return {
    "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump",
    dynamic_endpoint_configs: [...accepted.values()].map((resource) => ({
      ...stamp(resource),
      endpoint_config: shown(ClusterLoadAssignmentSchema, typeUrls.endpoints, resource),
    })),
  };
}

/** Routes stand in listeners; Envoy shows them by themselves, too. */
const routes = ({ accepted }: ResourceLog): Json => ({
  "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
  static_route_configs: [...accepted.values()].flatMap((resource) =>
    routeConfigs(shown(ListenerSchema, typeUrls.listener, resource)).map((config) => ({
      route_config: { "@type": typeUrls.routes, ...config },
      last_updated: stamp(resource)["last_updated"],
    })),
  ),
});

const managerType =
  "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

function routeConfigs(value: unknown): readonly Json[] {
  if (Array.isArray(value)) return value.flatMap(routeConfigs);
  if (typeof value !== "object" || value === null) return [];
  const object = value as Json;
  if (object["@type"] === managerType)
    return object["route_config"] === undefined ? [] : [object["route_config"] as Json];
  return Object.values(object).flatMap(routeConfigs);
}

function secrets({ ownCertificate, secrets: given, state }: DumpSources): Json {
  const own = ownCertificate();
  const ownAtMs = own?.notBeforeMs ?? 0;
  const active = [
    ...(own === undefined
      ? []
      : [
          dynamicSecret(ownCertificateName, own.serial, ownAtMs, { kind: "certificate", certificate: own }),
          dynamicSecret(meshRootsName, own.serial, ownAtMs, { kind: "roots", roots: own.rootsPem }),
        ]),
    ...[...given.values()].map(([name, value]) => {
      const { version = "", atMs = 0 } = state.secrets.accepted.get(name) ?? {};
      return dynamicSecret(name, version, atMs, value);
    }),
  ];
  return { "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump", dynamic_active_secrets: active };
}

const dynamicSecret = (name: string, version: string, atMs: number, value: SecretValue): Json => ({
  name,
  version_info: version,
  last_updated: new Date(atMs).toISOString(),
  secret: {
    "@type": typeUrls.secret,
    name,
    ...(value.kind === "certificate"
      ? {
          tls_certificate: {
            certificate_chain: { inline_bytes: base64(value.certificate.chainPem) },
            private_key: { inline_bytes: base64("[redacted]") },
          },
        }
      : { validation_context: { trusted_ca: { inline_bytes: base64(value.roots.join("")) } } }),
  },
});

const base64 = (text: string): string => Buffer.from(text).toString("base64");

const stamp = ({ version, atMs }: AcceptedResource): Json => ({
  version_info: version,
  last_updated: new Date(atMs).toISOString(),
});

const errorState = ({ version, atMs, reason }: RefusedResource): Json => ({
  details: reason,
  version_info: version,
  last_update_attempt: new Date(atMs).toISOString(),
});

function shown(schema: DescMessage, typeUrl: string, { value }: AcceptedResource): Json {
  try {
    const json = toJson(schema, fromBinary(schema, value), { registry: anyTypes, useProtoFieldName: true });
    return { "@type": typeUrl, ...(redacted(json) as Json) };
  } catch (error) {
    return { "@type": typeUrl, unreadable: explain(error) };
  }
}

/** Fields whose content lets its reader act as somebody, and what is shown instead: of the same form, for readers that check. */
const redactions: ReadonlyMap<string, JsonValue> = new Map([
  ...["private_key", "pkcs12", "password", "hmac_secret"].map((name): [string, JsonValue] => [
    name,
    { inline_string: "[redacted]" },
  ]),
  ["session_ticket_keys", { keys: [{ inline_string: "[redacted]" }] }],
]);

function redacted(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(redacted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, redactions.get(key) ?? redacted(inner)]));
}
