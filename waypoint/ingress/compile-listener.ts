/**
 * Listener → {@link CompiledListener}. Every mistake is reported. What is wrong with the listener itself forbids its use;
 * what is wrong with one chain is that chain's affair: the others are other services'.
 */
import { toBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import type { Address, CidrRange } from "#shared/proto/gen/envoy/config/core/v3/address_pb.js";
import {
  FilterChainMatch_ConnectionSourceType as SourceType,
  FilterChainSchema,
  type FilterChain,
  type FilterChainMatch,
} from "#shared/proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { Listener } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import {
  HttpConnectionManager_TracingSchema,
  HttpConnectionManagerSchema,
} from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { TcpProxySchema } from "#shared/proto/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { tryCidr, type Cidr } from "#shared/net/cidr.ts";
import { tryIp } from "#shared/net/ip.ts";
import { configType } from "#waypoint/layers/config-type.ts";
import type { NetworkLayer } from "#waypoint/layers/network-layer.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import { noPropagationField } from "#waypoint/telemetry/trace/tracers.ts";
import { chainStats } from "#waypoint/telemetry/metrics/stats-config.ts";
import { ChainMatcher, type ChainCriteria } from "./chain-match.ts";
import { compileMatcherTree } from "./matcher-tree.ts";
import { below, type ListenerContext } from "./compile-context.ts";
import { compileHttpChain } from "./compile-http-chain.ts";
import { compileListenerFilters } from "./compile-listener-filters.ts";
import { compileTcpChain } from "./compile-tcp-chain.ts";
import type { BindAddress, Chain, CompiledListener, MadeChain } from "./compiled-listener.ts";
import { fieldTables, refuseUnsupported } from "./supported-fields.ts";

/** As Envoy. Milliseconds. */
const inspectionMsDefault = 15_000;

/**
 * @param before what is in force now: its chains are taken over where nothing about them has changed, and stand in for
 * those that cannot be compiled
 */
export function compileListener(
  listener: Listener,
  context: ListenerContext,
  before?: CompiledListener,
): CompiledListener {
  const skipped: string[] = [];
  const own: ListenerContext = { ...context, skipped: (filter) => void skipped.push(filter) };
  const { problem } = own;
  reportUnknownFields(listener, problem);
  refuseUnsupported(fieldTables.listener, listener, "", problem);
  const filters = compileListenerFilters(listener, own);
  const chains = new Map<string, Chain>();
  const made = new Map<string, MadeChain>();
  const broken = new Map<string, readonly string[]>();
  const entries: { readonly criteria: ChainCriteria; readonly chain: string }[] = [];
  const addChain = (config: FilterChain, name: string, path: string) => {
    const mistakes: string[] = [];
    const known = before?.made.get(name);
    const fresh = isMadeOf(known, config, listener) ? known : makeChain(config, name, listener, own, path, mistakes);
    const used = mistakes.length === 0 ? fresh : known;
    if (used !== undefined) {
      chains.set(name, used.chain);
      made.set(name, used);
      skipped.push(...used.skipped);
    }
    if (mistakes.length > 0) broken.set(name, mistakes);
  };
  listener.filterChains.forEach((config, index) => {
    const path = `filter_chains[${index}]`;
    const name = config.name === "" ? path : config.name;
    if (chains.has(name) || broken.has(name)) problem(`${path}.name`, `"${name}" is taken by another chain`);
    addChain(config, name, `${path} "${config.name}"`);
    entries.push({ chain: name, criteria: criteriaOf(config.filterChainMatch, below(own, path)) });
  });
  const { defaultFilterChain } = listener;
  const fallback = defaultFilterChain && (defaultFilterChain.name || fallbackName);
  if (defaultFilterChain !== undefined && fallback !== undefined) {
    if (chains.has(fallback) || broken.has(fallback)) {
      problem(`${fallbackName}.name`, `"${fallback}" is taken by another chain`);
    }
    addChain(defaultFilterChain, fallback, fallbackName);
  }
  return {
    name: listener.name,
    bind: bindOf(listener, own),
    backlog: listener.tcpBacklogSize,
    ...filters,
    inspectionMs: readMs(listener.listenerFiltersTimeout, "listener_filters_timeout", problem) ?? inspectionMsDefault,
    continuesAfterDeadline: listener.continueOnListenerFiltersTimeout,
    chains,
    made,
    broken,
    ...compileMatcher(listener, entries, fallback, own),
    refusals: context.telemetry.refusals(listener.accessLog, listener.name, own),
    skipped,
  };
}

/** A tree says all of it; without one, each chain says what it is for. */
function compileMatcher(
  { filterChainMatcher: tree, filterChains }: Listener,
  entries: readonly { readonly criteria: ChainCriteria; readonly chain: string }[],
  fallback: string | undefined,
  { problem }: ListenerContext,
): Pick<CompiledListener, "matcher" | "takesNames"> {
  if (tree === undefined) {
    const duplicate = (first: string, second: string) =>
      problem("filter_chains", `"${first}" and "${second}" match the same connections`);
    return { matcher: new ChainMatcher(entries, fallback, duplicate), takesNames: false };
  }
  filterChains.forEach(({ filterChainMatch }, index) => {
    if (filterChainMatch === undefined) return;
    problem(`filter_chains[${index}].filter_chain_match`, "says nothing where filter_chain_matcher is set");
  });
  const { find, usesState } = compileMatcherTree(tree, "filter_chain_matcher", problem);
  return {
    matcher: { match: (facts) => find(facts) ?? fallback },
    takesNames: usesState.has("io.istio.connect_authority"),
  };
}

const fallbackName = "default_filter_chain";

/** Whether a chain would become what it is already. */
const isMadeOf = (
  known: MadeChain | undefined,
  config: FilterChain,
  { perConnectionBufferLimitBytes }: Listener,
): known is MadeChain =>
  known !== undefined &&
  known.bufferLimitBytes === perConnectionBufferLimitBytes &&
  Buffer.compare(known.source, toBinary(FilterChainSchema, config)) === 0;

function makeChain(
  config: FilterChain,
  name: string,
  listener: Listener,
  context: ListenerContext,
  path: string,
  mistakes: string[],
): MadeChain | undefined {
  const skipped: string[] = [];
  const own = { ...toList(context, mistakes), skipped: (filter: string) => void skipped.push(filter) };
  const chain = compileChain(config, name, listener, below(own, path));
  const bufferLimitBytes = listener.perConnectionBufferLimitBytes;
  return chain && { chain, source: toBinary(FilterChainSchema, config), bufferLimitBytes, skipped };
}

/** The same, with problems going into `list`. */
const toList = (context: ListenerContext, list: string[]): ListenerContext => ({
  ...context,
  problem: (path, message) => void list.push(path === "" ? message : `${path}: ${message}`),
});

function compileChain(
  config: FilterChain,
  name: string,
  { perConnectionBufferLimitBytes: bufferLimitBytes }: Listener,
  context: ListenerContext,
): Chain | undefined {
  const { problem } = context;
  refuseUnsupported(fieldTables.filterChain, config, "", problem);
  const networkLayers: NetworkLayer[] = [];
  let chain: Chain | undefined;
  config.filters.forEach((filter, index) => {
    const own = below(context, `filters[${index}] "${filter.name}"`);
    if (filter.configType.case !== "typedConfig") {
      own.problem(filter.configType.case === undefined ? "typed_config" : "config_discovery", "is not supported");
      return;
    }
    if (chain !== undefined) own.problem("", "follows the filter that ends the chain");
    const any = filter.configType.value;
    const manager = anyUnpack(any, HttpConnectionManagerSchema);
    const proxy = manager === undefined ? anyUnpack(any, TcpProxySchema) : undefined;
    if (manager !== undefined) {
      reportUnknownFields(manager, own.problem, isNewerField);
      chain = compileHttpChain(manager, { name, networkLayers, bufferLimitBytes }, own);
    } else if (proxy !== undefined) {
      reportUnknownFields(proxy, own.problem);
      chain = compileTcpChain(proxy, { name, networkLayers, stats: chainStats(config) }, own);
    } else {
      const type = configType(any);
      const kind = context.networkLayerKinds.find((known) => known.type === type);
      if (kind === undefined) own.problem("", `no filter of type "${type}" is known here`);
      const layer = kind?.compile(filter.name, any, own);
      if (layer !== undefined) networkLayers.push(layer);
    }
  });
  if (config.filters.length === 0) problem("filters", "is empty: nothing would serve its connections");
  else if (chain === undefined) problem("filters", "neither a connection manager nor a TCP proxy ends it");
  return chain;
}

/** Fields that are younger than the schema here, and known. */
const isNewerField = (typeName: string, field: number): boolean =>
  typeName === HttpConnectionManager_TracingSchema.typeName && field === noPropagationField;

function criteriaOf(match: FilterChainMatch | undefined, { problem }: ListenerContext): ChainCriteria {
  const path = "filter_chain_match";
  refuseUnsupported(fieldTables.filterChainMatch, match, path, problem);
  const transportProtocol = match?.transportProtocol ?? "";
  if (!["", "raw_buffer", "tls"].includes(transportProtocol)) {
    problem(`${path}.transport_protocol`, `"${transportProtocol}" is not known here`);
  }
  const serverNames = (match?.serverNames ?? []).map((name) => name.toLowerCase());
  serverNames.forEach((name, index) => {
    const isWrong = name === "" || (name.includes("*") && !/^\*\.[^*]+$/.test(name));
    if (isWrong) problem(`${path}.server_names[${index}]`, `"${name}" is neither a name nor "*." and a name`);
  });
  const ranges = (list: readonly CidrRange[] | undefined, field: string) =>
    (list ?? []).flatMap((range, index) => rangeOf(range, `${path}.${field}[${index}]`, problem) ?? []);
  return {
    destinationPort: match?.destinationPort,
    prefixRanges: ranges(match?.prefixRanges, "prefix_ranges"),
    serverNames,
    transportProtocol,
    applicationProtocols: match?.applicationProtocols ?? [],
    directSourcePrefixRanges: ranges(match?.directSourcePrefixRanges, "direct_source_prefix_ranges"),
    sourceType: sourceTypeOf(match?.sourceType),
    sourcePrefixRanges: ranges(match?.sourcePrefixRanges, "source_prefix_ranges"),
    sourcePorts: match?.sourcePorts ?? [],
  };
}

function sourceTypeOf(type: SourceType | undefined): ChainCriteria["sourceType"] {
  switch (type) {
    case undefined:
    case SourceType.ANY:
      return "any";
    case SourceType.SAME_IP_OR_LOOPBACK:
      return "same-ip-or-loopback";
    case SourceType.EXTERNAL:
      return "external";
  }
}

function rangeOf(
  { addressPrefix, prefixLen }: CidrRange,
  path: string,
  problem: ListenerContext["problem"],
): Cidr | undefined {
  const text = `${addressPrefix}/${prefixLen ?? 0}`;
  const range = tryCidr(text);
  if (range === undefined) problem(path, `"${text}" is no range of addresses`);
  return range;
}

function bindOf(listener: Listener, { problem }: ListenerContext): readonly BindAddress[] {
  if (listener.listenerSpecifier.case === "internalListener") return [];
  const all = [listener.address, ...listener.additionalAddresses.map(({ address }) => address)];
  const bind = all.flatMap((address, index) => {
    const path = index === 0 ? "address" : `additional_addresses[${index - 1}].address`;
    return readBindAddress(address, path, problem) ?? [];
  });
  return listener.bindToPort === false ? [] : bind;
}

function readBindAddress(
  address: Address | undefined,
  path: string,
  problem: ListenerContext["problem"],
): BindAddress | undefined {
  if (address?.address.case !== "socketAddress") {
    problem(path, address === undefined ? "is missing" : "has to be a socket_address");
    return undefined;
  }
  const { address: text, portSpecifier } = address.address.value;
  const ip = tryIp(text);
  if (ip === undefined) problem(`${path}.socket_address.address`, `"${text}" is no IP address`);
  if (portSpecifier.case !== "portValue" || portSpecifier.value > 65_535) {
    problem(`${path}.socket_address.port_value`, "has to be a port");
    return undefined;
  }
  return ip === undefined ? undefined : { ip, port: portSpecifier.value };
}
