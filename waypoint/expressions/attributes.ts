/** Attributes that expressions name, as Envoy and Istio call them: where each is found. */
import type { JsonValue } from "@bufbuild/protobuf";
import { peerFields } from "#shared/expressions/vocabularies.ts";
import { identityOf } from "#shared/identity/spiffe-id.ts";
import { hostPort } from "#shared/net/ip.ts";
import type { SocketAddress } from "#waypoint/http/exchange.ts";
import type { Headers } from "#waypoint/http/headers.ts";
import { toText } from "#waypoint/http/latin1.ts";
import { claimOf, requestPrincipalOf } from "#waypoint/layers/jwt/claims.ts";
import { pseudoHeader } from "#waypoint/matching/header-matcher.ts";
import { grpcStatusOf } from "#waypoint/telemetry/grpc-status.ts";
import type { Peer } from "#waypoint/telemetry/peers.ts";
import type { Subject } from "#waypoint/telemetry/subject.ts";
import { flagBits } from "./flag-bits.ts";
import { fromJson, isMembers, Moment, Span, type Members, type Value } from "./values.ts";

export type Read = (subject: Subject) => Value;

/** What is the same for everything: the proxy itself. */
export interface NodeFacts {
  readonly id: string;
  readonly cluster: string;
  readonly metadata: { readonly [name: string]: JsonValue };
}

type Reads = Readonly<Record<string, Read>>;

const some = (text: string | undefined): string | undefined => (text === "" ? undefined : text);
const ofRequest =
  (read: Read): Read =>
  (subject) =>
    subject.isHttp ? read(subject) : undefined;
const textOf = (headers: Headers | undefined, name: string): string | undefined => {
  const found = headers?.get(name);
  return found === undefined ? undefined : toText(found);
};
const header = (name: string): Read => ofRequest(({ exchange }) => textOf(exchange.request.headers, name));
const path = ({ exchange }: Subject): string => exchange.request.path;
const address = (found: SocketAddress | undefined): string | undefined => found && hostPort(found.ip, found.port);

const headersOf = (headers: Headers | undefined): Members => ({
  member: (name) => textOf(headers, name.toLowerCase()),
});

const auth: Reads = {
  principal: ({ exchange }) => requestPrincipalOf(exchange),
  audiences: ({ exchange }) => {
    const audience = fromJson(claimOf(exchange, ["aud"]));
    return typeof audience === "string" ? [audience] : audience;
  },
  presenter: ({ exchange }) => fromJson(claimOf(exchange, ["azp"])),
  claims: ({ exchange }) => ({ member: (name) => fromJson(claimOf(exchange, [name])) }),
};

const request: Reads = {
  path: ofRequest(path),
  url_path: ofRequest((subject) => path(subject).replace(/[?#].*$/s, "")),
  query: ofRequest((subject) => /\?([^#]*)/s.exec(path(subject))?.[1] ?? ""),
  host: ofRequest(({ exchange }) => some(exchange.request.authority)),
  scheme: ofRequest(({ exchange }) => some(exchange.request.scheme)),
  method: ofRequest(({ exchange }) => exchange.request.method),
  headers: ofRequest(({ exchange: { request: head } }) => ({
    member: (name) => {
      const lower = name.toLowerCase();
      return pseudoHeader(lower)?.(head) ?? textOf(head.headers, lower);
    },
  })),
  referer: header("referer"),
  useragent: header("user-agent"),
  time: ({ exchange }) => new Moment(exchange.startedAtMs),
  id: header("x-request-id"),
  protocol: ofRequest(({ exchange }) => exchange.stream.protocol),
  duration: ({ end }) => end && new Span(end.durationMs),
  size: ofRequest(({ end }) => end?.bytesReceived),
  total_size: ofRequest(({ exchange, end }) => end && end.bytesReceived + sizeOf(exchange.request.headers)),
  auth: ofRequest((subject) => ({ member: (name) => (Object.hasOwn(auth, name) ? auth[name]?.(subject) : undefined) })),
};

const response: Reads = {
  code: ({ response: head }) => head?.status,
  code_details: ({ exchange }) => some(exchange.responseCodeDetails),
  flags: ({ exchange }) => flagBits(exchange.flags),
  grpc_status: (subject) => {
    const text = grpcStatusOf(subject.response, subject.end);
    return text === undefined ? undefined : Number(text);
  },
  headers: ({ response: head }) => head && headersOf(head.headers),
  trailers: ({ end }) => end && headersOf(end.responseTrailers),
  size: ofRequest(({ end }) => end?.bytesSent),
  total_size: ofRequest(({ response: head, end }) => end && end.bytesSent + sizeOf(head?.headers)),
  backend_latency: ({ exchange }) =>
    exchange.upstreamServiceMs === undefined ? undefined : new Span(exchange.upstreamServiceMs),
};

function sizeOf(headers: Headers | undefined): number {
  return headers?.pairs.reduce((sum, text) => sum + text.length, 0) ?? 0;
}

const connection: Reads = {
  id: ({ exchange }) => exchange.connection.id,
  mtls: ({ exchange }) => exchange.connection.peerPrincipal !== undefined,
  requested_server_name: ({ exchange }) => some(exchange.connection.serverName),
  uri_san_peer_certificate: ({ exchange }) => exchange.connection.peerPrincipal,
  uri_san_local_certificate: ({ exchange }) => exchange.connection.localPrincipal,
  termination_details: ({ exchange }) => some(exchange.connectionTerminationDetails),
};

const upstream: Reads = {
  address: ({ exchange }) => exchange.upstreamHost?.key,
  port: ({ exchange }) => exchange.upstreamHost?.address.port,
  local_address: ({ exchange }) => address(exchange.upstreamLocalAddress),
  transport_failure_reason: ({ exchange }) => some(exchange.upstreamFailure),
  request_attempt_count: ({ exchange }) => exchange.attempts,
};

const xds: Reads = {
  cluster_name: ({ exchange }) => some(exchange.upstreamCluster),
  route_name: ({ exchange }) => some(exchange.route?.name),
  route_metadata: ({ exchange }) => ({
    member: (name) => fromJson(exchange.route?.metadata.get(name) as JsonValue | undefined),
  }),
  virtual_host_name: ({ exchange }) => some(exchange.route?.virtualHost),
  upstream_host_metadata: ({ exchange }) => ({ member: (name) => fromJson(exchange.upstreamHost?.metadata.get(name)) }),
  filter_chain_name: ({ chain }) => chain,
  listener_direction: () => 1,
};

const addresses = (of: (subject: Subject) => SocketAddress): Reads => ({
  address: (subject) => address(of(subject)),
  port: (subject) => of(subject).port,
});

const sourceIdentity = ({ exchange }: Subject) => identityOf(exchange.connection.peerPrincipal ?? "");

/** Who calls, as the tunnel proves it: as authorization policies write it. */
const source: Reads = {
  ...addresses(({ exchange }) => exchange.connection.source),
  ip: ({ exchange }) => exchange.connection.source.ip,
  principal: ({ exchange }) => exchange.connection.peerPrincipal?.replace(/^spiffe:\/\//, ""),
  namespace: (subject) => sourceIdentity(subject)?.namespace,
  service_account: (subject) => {
    const identity = sourceIdentity(subject);
    return identity && `${identity.namespace}/${identity.serviceAccount}`;
  },
  workload: ({ exchange }) => exchange.connection.sourceWorkload?.(),
};

const membersOf = (peer: Peer): Members => ({
  member: (name) => (Object.hasOwn(peer, name) ? some(peer[name as keyof Peer]) : undefined),
});
const downstreamPeer = ({ peers, exchange }: Subject): Members => membersOf(peers.source(exchange.connection));
const upstreamPeer = ({ peers, exchange }: Subject): Members => membersOf(peers.destination(exchange.upstreamHost));

const peer = (of: (subject: Subject) => Members): Reads =>
  Object.fromEntries(peerFields.map((field) => [field, (subject: Subject) => of(subject).member(field)]));

const filterState: Reads = {
  "io.istio.peer_principal": ({ exchange }) => exchange.connection.peerPrincipal,
  "io.istio.local_principal": ({ exchange }) => exchange.connection.localPrincipal,
  downstream_peer: downstreamPeer,
  upstream_peer: upstreamPeer,
};

const fixed: Readonly<Record<string, Reads>> = {
  request,
  response,
  source,
  destination: {
    ...addresses(({ exchange }) => exchange.connection.destination),
    ip: ({ exchange }) => exchange.connection.destination.ip,
  },
  connection,
  upstream,
  xds,
  metadata: {
    filter_metadata: ({ exchange }) => ({ member: (name) => fromJson(exchange.metadataOf(name)) }),
  },
  filter_state: filterState,
  downstream_peer: peer(downstreamPeer),
  upstream_peer: peer(upstreamPeer),
};

/** `root.name`; undefined where it is no attribute. */
export function attribute(root: string, name: string, node: NodeFacts): Read | undefined {
  if (root === "node") {
    const { id, cluster, metadata } = node;
    const value = fromJson({ id, cluster, metadata });
    return () => (isMembers(value) ? value.member(name) : undefined);
  }
  const reads = Object.hasOwn(fixed, root) ? fixed[root] : undefined;
  if (reads === undefined) return undefined;
  // Keys of filter state are anybody's: one that nobody has set is absent.
  return Object.hasOwn(reads, name) ? reads[name] : () => undefined;
}

/** The whole of a root, for an expression that hands it on or asks by a computed name. */
export function wholeOf(root: string, node: NodeFacts): Read {
  return (subject) => ({ member: (name) => attribute(root, name, node)?.(subject) });
}
