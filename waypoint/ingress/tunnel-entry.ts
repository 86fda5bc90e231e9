/**
 * What a control plane in Istio's form says of the port where tunnels end (`connect_terminate`), and of the listener that
 * makes tunnels (`connect_originate`). This proxy does both by itself; so what they say is read for what is to be
 * obeyed, and whatever would ask for something else refuses them.
 */
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import type { FilterChain } from "#shared/proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { Listener } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import type { RouteConfiguration } from "#shared/proto/gen/envoy/config/route/v3/route_pb.js";
import { RBACSchema, type RBAC } from "#shared/proto/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { RouterSchema } from "#shared/proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import {
  HttpConnectionManagerSchema,
  type HttpConnectionManager,
  type HttpFilter,
} from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import {
  TcpProxySchema,
  type TcpProxy,
} from "#shared/proto/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { DownstreamTlsContextSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { ConfigSchema as SetFilterStateSchema } from "#shared/proto/gen/envoy/extensions/filters/http/set_filter_state/v3/set_filter_state_pb.js";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import { compileRules, enforce, newCounters } from "#waypoint/layers/rbac/enforce.ts";
import { isPeerMetadata } from "#waypoint/layers/peer-metadata.ts";
import { checkFilterState } from "#waypoint/layers/set-filter-state.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import type { RefusedConnect } from "#waypoint/telemetry/observers.ts";
import { compileServedNames } from "#waypoint/upstream/compile/compile-tls.ts";
import { checkFields } from "#waypoint/upstream/compile/set-fields.ts";
import { below, type ListenerContext } from "./compile-context.ts";
import { configType } from "#waypoint/layers/config-type.ts";
import { fieldTables, refuseUnsupported } from "./supported-fields.ts";

/** Where tunnels lead, and who may come in one. */
export interface TunnelEntry {
  /** Stands for the internal listener that takes what is in tunnels. */
  readonly cluster: string;
  /** Streams of one client connection at once; undefined: the default. */
  readonly maxStreams: number | undefined;
  /** Whether this is somebody of the mesh. */
  expects(principal: string): boolean;
  /** Why this client may not come; undefined: it may. */
  refusal(connection: DownstreamConnection): TunnelRefusal | undefined;
  /** Writes what is to be written of one that was refused, here or before. */
  log(refused: RefusedConnect): void;
}

export interface TunnelRefusal {
  readonly status: 401 | 403;
  readonly why: string;
}

/** TLS around requests to CONNECT: no other listener of ours speaks it. */
export const isTunnelEntry = (listener: Listener): boolean =>
  listener.filterChains.some((chain) => chain.transportSocket !== undefined && managersOf(chain).some(takesConnect));

/** Bytes that are sent on in a tunnel. */
export const isTunnelExit = ({ listenerSpecifier, filterChains }: Listener): boolean =>
  listenerSpecifier.case === "internalListener" &&
  filterChains.some((chain) => proxiesOf(chain).some(({ tunnelingConfig }) => tunnelingConfig !== undefined));

const configsOf = ({ filters }: FilterChain): readonly Any[] =>
  filters.flatMap(({ configType }) => (configType.case === "typedConfig" ? [configType.value] : []));

const managersOf = (chain: FilterChain): readonly HttpConnectionManager[] =>
  configsOf(chain).flatMap((config) => anyUnpack(config, HttpConnectionManagerSchema) ?? []);

const proxiesOf = (chain: FilterChain): readonly TcpProxy[] =>
  configsOf(chain).flatMap((config) => anyUnpack(config, TcpProxySchema) ?? []);

const takesConnect = ({ upgradeConfigs }: HttpConnectionManager): boolean =>
  upgradeConfigs.some(({ upgradeType }) => upgradeType.toUpperCase() === "CONNECT");

/** Undefined where something about it is wrong, which has been reported. */
export function compileTunnelEntry(listener: Listener, context: ListenerContext): TunnelEntry | undefined {
  const { problem } = context;
  reportUnknownFields(listener, problem);
  refuseUnsupported(fieldTables.listener, listener, "", problem);
  const [chain, ...more] = listener.filterChains;
  if (chain === undefined || more.length > 0) {
    problem("filter_chains", "a listener for tunnels has exactly one");
    return undefined;
  }
  return compileChain(chain, below(context, `filter_chains[0] "${chain.name}"`));
}

/** Where nothing reads them: a request to CONNECT goes no further than here. */
const withoutEffect = [
  "codecType",
  "statPrefix",
  "serverName",
  "serverHeaderTransformation",
  "useRemoteAddress",
  "generateRequestId",
  "forwardClientCertDetails",
  "setCurrentClientCertDetails",
  // Tunnels may be silent for as long as what is inside may be.
  "streamIdleTimeout",
];
const supported = [
  "accessLog",
  "routeConfig",
  "httpFilters",
  "http2ProtocolOptions",
  "upgradeConfigs",
  ...withoutEffect,
];

function compileChain(chain: FilterChain, context: ListenerContext): TunnelEntry | undefined {
  const { problem } = context;
  refuseUnsupported(
    { ...fieldTables.filterChain, withoutEffect: { transport_socket: "is read below" } },
    chain,
    "",
    problem,
  );
  const expects = expectedPeers(chain, context);
  const [manager, ...others] = managersOf(chain);
  if (manager === undefined || others.length > 0 || chain.filters.length > 1) {
    problem("filters", "a listener for tunnels has one connection manager and nothing else");
    return undefined;
  }
  const own = below(context, "filters[0]");
  reportUnknownFields(manager, own.problem);
  checkFields(HttpConnectionManagerSchema, manager, supported, "", own.problem);
  refuseUnsupported(fieldTables.http2, manager.http2ProtocolOptions, "http2_protocol_options", own.problem);
  const cluster = clusterOf(manager, own);
  const policies = manager.httpFilters.flatMap((filter, index) =>
    compileFilter(filter, below(own, `http_filters[${index}] "${filter.name}"`)),
  );
  return {
    cluster,
    maxStreams: manager.http2ProtocolOptions?.maxConcurrentStreams,
    expects,
    log: context.telemetry.connects(manager.accessLog, own),
    refusal(connection) {
      const { peerPrincipal = "" } = connection;
      if (!expects(peerPrincipal)) return { status: 401, why: `"${peerPrincipal}" is nobody of this mesh` };
      for (const policy of policies) {
        const why = policy(connection);
        if (why !== undefined) return { status: 403, why };
      }
      return undefined;
    },
  };
}

/** Certificates are always asked for and verified; which identities are ours is what the configuration adds. */
function expectedPeers({ transportSocket }: FilterChain, context: ListenerContext): (principal: string) => boolean {
  const { problem } = below(context, "transport_socket.typed_config");
  const config = transportSocket?.configType.case === "typedConfig" ? transportSocket.configType.value : undefined;
  const tls = config && anyUnpack(config, DownstreamTlsContextSchema);
  if (tls === undefined) {
    problem("", "tunnels come over TLS, so a DownstreamTlsContext is needed");
    return () => false;
  }
  checkFields(DownstreamTlsContextSchema, tls, ["commonTlsContext", "requireClientCertificate"], "", problem);
  if (tls.requireClientCertificate !== true) problem("require_client_certificate", "has to be true");
  const names = compileServedNames(tls.commonTlsContext, "common_tls_context", problem);
  return (principal) => names.length === 0 || names.some((name) => name.type === "uri" && name.matches(principal));
}

/** All that can be asked of a CONNECT is that it goes to one cluster. */
function clusterOf({ routeSpecifier }: HttpConnectionManager, { problem }: ListenerContext): string {
  const routes = routeSpecifier.case === "routeConfig" ? routesOf(routeSpecifier.value) : [];
  const connects = routes.filter(({ match }) => match?.pathSpecifier.case === "connectMatcher");
  const action = connects[0]?.action;
  const target = action?.case === "route" ? action.value.clusterSpecifier : undefined;
  if (routes.length === 1 && target?.case === "cluster") return target.value;
  problem("route_config", "has to be one route, which takes CONNECT to one cluster");
  return "";
}

const routesOf = ({ virtualHosts }: RouteConfiguration) => virtualHosts.flatMap(({ routes }) => routes);

/** Undefined: it may come. */
type Policy = (connection: DownstreamConnection) => string | undefined;

function compileFilter(filter: HttpFilter, context: ListenerContext): readonly Policy[] {
  const { problem } = context;
  refuseUnsupported(fieldTables.httpFilter, filter, "", problem);
  const config = filter.configType.case === "typedConfig" ? filter.configType.value : undefined;
  if (config === undefined || filter.disabled || anyUnpack(config, RouterSchema) !== undefined) return [];
  if (isPeerMetadata(config)) return [];
  const state = anyUnpack(config, SetFilterStateSchema);
  if (state !== undefined) {
    checkFilterState(state.onRequestHeaders, "on_request_headers", problem);
    return [];
  }
  const rbac = anyUnpack(config, RBACSchema);
  if (rbac !== undefined) return [compilePolicy(rbac, context)];
  if (filter.isOptional) context.skipped(filter.name);
  else problem("", `no filter of type "${configType(config)}" is known for requests to CONNECT`);
  return [];
}

function compilePolicy(config: RBAC, { problem }: ListenerContext): Policy {
  const rules = compileRules(config, "", problem);
  const counters = newCounters();
  return (connection) => {
    const subject = { connection, metadataOf: () => undefined };
    return enforce(rules, counters, subject, () => {}, "envoy.filters.http.rbac")?.details;
  };
}

/** Checks only: tunnels are made with the address of the host as authority, as it has to ask for. */
export function checkTunnelExit(listener: Listener, context: ListenerContext): void {
  const { problem } = context;
  reportUnknownFields(listener, problem);
  refuseUnsupported(fieldTables.listener, listener, "", problem);
  listener.filterChains.forEach((chain, index) => {
    const own = below(context, `filter_chains[${index}]`);
    refuseUnsupported(fieldTables.filterChain, chain, "", own.problem);
    for (const { tunnelingConfig } of proxiesOf(chain)) {
      if (tunnelingConfig === undefined) own.problem("filters", "sends bytes on without a tunnel");
      else if (tunnelingConfig.hostname !== "%DOWNSTREAM_LOCAL_ADDRESS%") {
        own.problem("filters", `tunnels to "${tunnelingConfig.hostname}", not to %DOWNSTREAM_LOCAL_ADDRESS%`);
      }
    }
  });
}
