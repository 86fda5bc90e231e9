/** Transport sockets: what is wrapped around the bytes to a host, and for which hosts. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { Cluster } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import {
  BindConfigSchema,
  TcpKeepaliveSchema,
  type BindConfig,
  type TcpKeepalive,
} from "#shared/proto/gen/envoy/config/core/v3/address_pb.js";
import type { TransportSocket } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import {
  ProxyProtocolConfigSchema,
  ProxyProtocolConfig_Version,
} from "#shared/proto/gen/envoy/config/core/v3/proxy_protocol_pb.js";
import { UpstreamConnectionOptionsSchema } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { InternalUpstreamTransportSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream_pb.js";
import { ProxyProtocolUpstreamTransportSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";
import { UpstreamTlsContextSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { tryIp } from "#shared/net/ip.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { TcpKeepAlive, Transport, UpstreamTls } from "../transport/transport.ts";
import { typeNameOf, unpack } from "./any.ts";
import { compileTls, type ReadFile } from "./compile-tls.ts";
import { checkFields } from "./set-fields.ts";

/** Which transport each host of a cluster has. */
export interface Transports {
  readonly byDefault: Transport;
  /** The first that fits a host's metadata. */
  readonly matches: readonly TransportMatch[];
}

export interface TransportMatch {
  readonly name: string;
  /** Every member has to be in the host's `envoy.transport_socket_match` metadata. Empty fits every host. */
  readonly labels: JsonObject;
  readonly transport: Transport;
}

export function compileTransports(
  cluster: Cluster,
  readFile: ReadFile,
  problem: Problem,
  connectTimeoutMs: number,
): Transports {
  const shared = {
    connectTimeoutMs,
    keepAlive: compileKeepAlive(cluster, problem),
    localAddress: compileBind(cluster.upstreamBindConfig, problem),
  };
  const compile = (socket: TransportSocket | undefined, path: string): Transport => ({
    ...shared,
    ...compileSocket(socket, path, readFile, problem, "internal"),
  });
  return {
    byDefault: compile(cluster.transportSocket, "transport_socket"),
    matches: cluster.transportSocketMatches.map(({ name, match, transportSocket }, index) => {
      const path = `transport_socket_matches[${index}]`;
      if (transportSocket === undefined) problem(`${path}.transport_socket`, "is missing");
      return { name, labels: match ?? {}, transport: compile(transportSocket, `${path}.transport_socket`) };
    }),
  };
}

export function transportFor(transports: Transports, metadata: ReadonlyMap<string, JsonObject>): Transport {
  if (transports.matches.length === 0) return transports.byDefault;
  const labels = metadata.get("envoy.transport_socket_match") ?? {};
  const match = transports.matches.find((match) => isSubset(match.labels, labels));
  return match?.transport ?? transports.byDefault;
}

const isSubset = (wanted: JsonObject, labels: JsonObject): boolean =>
  Object.entries(wanted).every(([name, value]) => labels[name] !== undefined && isEqual(value, labels[name]));

function isEqual(a: JsonValue, b: JsonValue): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const keys = Object.keys(a);
  const other = b as JsonObject;
  return (
    Array.isArray(a) === Array.isArray(b) &&
    keys.length === Object.keys(b).length &&
    keys.every((key) => other[key] !== undefined && isEqual((a as JsonObject)[key] as JsonValue, other[key]))
  );
}

type Wrapped = { readonly tls?: UpstreamTls | undefined; readonly proxyProtocol?: "v1" | "v2" | undefined };

const prefix = "envoy.extensions.transport_sockets.";

/** What may still come: tunnel, then PROXY protocol, then TLS. A wrapper in another order could not be sent. */
type Stage = "internal" | "proxy" | "tls";

function compileSocket(
  socket: TransportSocket | undefined,
  path: string,
  readFile: ReadFile,
  problem: Problem,
  stage: Stage,
): Wrapped {
  if (socket === undefined) return {};
  const config = socket.configType.case === "typedConfig" ? socket.configType.value : undefined;
  const here = `${path}.typed_config`;
  if (config === undefined) {
    if (socket.name !== "envoy.transport_sockets.raw_buffer") problem(path, `"${socket.name}" has no configuration`);
    return {};
  }
  switch (typeNameOf(config)) {
    case `${prefix}raw_buffer.v3.RawBuffer`:
      return {};
    case `${prefix}tls.v3.UpstreamTlsContext`: {
      const context = unpack(UpstreamTlsContextSchema, config, here, problem);
      return context === undefined ? {} : { tls: compileTls(context, here, readFile, problem) };
    }
    case `${prefix}internal_upstream.v3.InternalUpstreamTransport`: {
      if (stage !== "internal") problem(here, "a tunnel cannot be inside another transport");
      const wrapper = unpack(InternalUpstreamTransportSchema, config, here, problem);
      if (wrapper === undefined) return {};
      // The metadata passed on is what tells the tunnel where it goes: hosts know that themselves.
      checkFields(InternalUpstreamTransportSchema, wrapper, ["passthroughMetadata", "transportSocket"], here, problem);
      return compileSocket(wrapper.transportSocket, `${here}.transport_socket`, readFile, problem, "proxy");
    }
    case `${prefix}proxy_protocol.v3.ProxyProtocolUpstreamTransport`: {
      if (stage === "tls") problem(here, "PROXY protocol cannot be inside itself");
      const wrapper = unpack(ProxyProtocolUpstreamTransportSchema, config, here, problem);
      if (wrapper === undefined) return {};
      checkFields(ProxyProtocolUpstreamTransportSchema, wrapper, ["config", "transportSocket"], here, problem);
      if (wrapper.config !== undefined) {
        checkFields(ProxyProtocolConfigSchema, wrapper.config, ["version"], `${here}.config`, problem);
      }
      const inner = compileSocket(wrapper.transportSocket, `${here}.transport_socket`, readFile, problem, "tls");
      return { ...inner, proxyProtocol: wrapper.config?.version === ProxyProtocolConfig_Version.V2 ? "v2" : "v1" };
    }
    default:
      problem(here, `${typeNameOf(config)} is not a transport that this proxy knows`);
      return {};
  }
}

function compileKeepAlive({ upstreamConnectionOptions: options }: Cluster, problem: Problem): TcpKeepAlive | undefined {
  if (options === undefined) return undefined;
  const path = "upstream_connection_options";
  // Addresses of one endpoint are tried in the order in which they stand.
  checkFields(UpstreamConnectionOptionsSchema, options, ["tcpKeepalive"], path, problem);
  const keepAlive: TcpKeepalive | undefined = options.tcpKeepalive;
  if (keepAlive === undefined) return undefined;
  const supported = ["keepaliveProbes", "keepaliveTime", "keepaliveInterval"];
  checkFields(TcpKeepaliveSchema, keepAlive, supported, `${path}.tcp_keepalive`, problem);
  return {
    probes: keepAlive.keepaliveProbes,
    timeSeconds: keepAlive.keepaliveTime,
    intervalSeconds: keepAlive.keepaliveInterval,
  };
}

function compileBind(bind: BindConfig | undefined, problem: Problem): string | undefined {
  if (bind === undefined) return undefined;
  const path = "upstream_bind_config";
  checkFields(BindConfigSchema, bind, ["sourceAddress"], path, problem);
  const source = bind.sourceAddress;
  if (source === undefined) return undefined;
  const ip = tryIp(source.address);
  if (ip === undefined) problem(`${path}.source_address.address`, `"${source.address}" is not an IP address`);
  if (source.portSpecifier.case === "portValue" && source.portSpecifier.value !== 0) {
    problem(`${path}.source_address.port_value`, `${source.portSpecifier.value} is not supported: the system chooses`);
  }
  return ip === "0.0.0.0" || ip === "::" ? undefined : ip;
}
