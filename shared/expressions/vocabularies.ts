/** What expressions may ask for: names that a waypoint has values for. Roots and their members, with their types. */
import { any, bool, duration, int, listOf, mapOf, objectOf, string, timestamp, type Type } from "./types.ts";

/** Name of a root → what stands under it. */
export type Vocabulary = Readonly<Record<string, Type>>;

export const peerFields = [
  "workload",
  "namespace",
  "name",
  "cluster",
  "service",
  "revision",
  "app",
  "version",
  "type",
  "principal",
] as const;

const peer = objectOf(Object.fromEntries(peerFields.map((field) => [field, string])));

/** Known from the first byte on. */
const requestHead = {
  path: string,
  url_path: string,
  query: string,
  host: string,
  scheme: string,
  method: string,
  headers: mapOf(string),
  referer: string,
  useragent: string,
  time: timestamp,
  id: string,
  protocol: string,
  /** Of a valid token. */
  auth: objectOf({
    principal: string,
    audiences: listOf(string),
    presenter: string,
    claims: mapOf(any),
  }),
};

const source = objectOf({
  address: string,
  port: int,
  ip: string,
  principal: string,
  namespace: string,
  service_account: string,
  workload: string,
});

const connection = {
  id: int,
  mtls: bool,
  requested_server_name: string,
  uri_san_peer_certificate: string,
  uri_san_local_certificate: string,
};

const destination = objectOf({ address: string, port: int, ip: string });
const node = objectOf({ id: string, cluster: string, metadata: mapOf(any) });
const route = {
  listener_direction: int,
  route_name: string,
  route_metadata: mapOf(any),
  virtual_host_name: string,
};

/** Of the connection alone: before anything that a request says is looked at. */
export const connectionAttributes: Vocabulary = {
  source,
  destination,
  connection: objectOf(connection),
  downstream_peer: peer,
  node,
};

/** Of a request that has a route and is not answered yet. */
export const requestAttributes: Vocabulary = {
  ...connectionAttributes,
  request: objectOf(requestHead),
  xds: objectOf(route),
  metadata: objectOf({ filter_metadata: mapOf(any) }),
  filter_state: mapOf(any),
};

const ended = { ...route, cluster_name: string, cluster_metadata: mapOf(any), upstream_host_metadata: mapOf(any) };

/** Of a request and its answer, when it is over. */
export const exchangeAttributes: Vocabulary = {
  ...requestAttributes,
  request: objectOf({ ...requestHead, duration, size: int, total_size: int }),
  response: objectOf({
    code: int,
    code_details: string,
    flags: int,
    grpc_status: int,
    headers: mapOf(string),
    trailers: mapOf(string),
    size: int,
    total_size: int,
    backend_latency: duration,
  }),
  connection: objectOf({ ...connection, termination_details: string }),
  upstream: objectOf({
    address: string,
    port: int,
    local_address: string,
    transport_failure_reason: string,
    request_attempt_count: int,
  }),
  xds: objectOf(ended),
  upstream_peer: peer,
};

/** Of requests and connections alike, when they are over: what telemetry may ask for. */
export const allAttributes: Vocabulary = {
  ...exchangeAttributes,
  xds: objectOf({ ...ended, filter_chain_name: string }),
};
