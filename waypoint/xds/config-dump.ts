/** What is in force, in the form in which Envoy shows it and istioctl reads it. */
import { fromBinary, toJson, type DescMessage, type JsonValue } from "@bufbuild/protobuf";
import { explain } from "#shared/errors/mesh-error.ts";
import { ClusterSchema } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { typeUrls } from "#shared/xds/type-urls.ts";
import { anyTypes } from "./any-types.ts";
import type { AcceptedResource, RefusedResource, ResourceLog } from "./resource-log.ts";
import type { WaypointState } from "./waypoint-state.ts";

type Json = Readonly<Record<string, unknown>>;

export function dumpConfig(state: WaypointState): readonly Json[] {
  return [clusters(state.clusters), listeners(state.listeners), endpoints(state.endpoints)];
}

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

/** Fields whose content lets its reader act as somebody. */
const secrets: ReadonlySet<string> = new Set([
  "private_key",
  "pkcs12",
  "password",
  "session_ticket_keys",
  "hmac_secret",
]);

function redacted(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(redacted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, secrets.has(key) ? "[redacted]" : redacted(inner)]),
  );
}
