/** Istio's metrics of requests. A request that looks like one before it costs one look-up and a few additions. */
import type { DownstreamConnection, Exchange } from "#waypoint/http/exchange.ts";
import type { ExchangeEnd, ExchangeObserver } from "#waypoint/telemetry/observers.ts";
import type { Peer, Peers } from "#waypoint/telemetry/peers.ts";
import type { Clusters } from "#waypoint/upstream/clusters.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import { grpcOutcomeOf } from "#waypoint/telemetry/grpc-status.ts";
import { labelsOf, serviceOf, type SeriesFacts } from "./labels.ts";
import type { Count, Distribution } from "./labelled-family.ts";
import type { Overrides } from "./overrides.ts";
import type { MetricName, TrafficFamilies } from "./traffic-families.ts";

export interface HttpMetricsParts {
  readonly families: TrafficFamilies;
  readonly peers: Peers;
  readonly clusters: Clusters;
  readonly overrides: Overrides;
  /** Name of the filter chain. */
  readonly chain: string;
}

/** Where a request is counted. */
interface Bound {
  readonly code: number;
  readonly cluster: string;
  readonly flags: string;
  readonly isGrpc: boolean;
  readonly grpcStatus: string;
  /** Values of added labels; empty string where there are none. */
  readonly added: string;
  readonly requests: Count | undefined;
  readonly duration: Distribution | undefined;
  readonly requestBytes: Distribution | undefined;
  readonly responseBytes: Distribution | undefined;
  readonly requestMessages: Count | undefined;
  readonly responseMessages: Count | undefined;
}

/** Who asks, remembered by connection and shared by all of one workload and identity. */
interface Source {
  readonly peer: Peer;
  readonly isMutualTls: boolean;
  /** `performance.now()`: workloads are described anew now and then. */
  readonly expiresMs: number;
  readonly byHost: WeakMap<Host, Bound[]>;
  readonly withoutHost: Bound[];
}

/** Milliseconds. */
const rememberedMs = 10_000;
const maxSources = 4_096;
/** Kinds of answer of one host to one caller that are remembered. */
const maxBound = 64;

const noValues: readonly string[] = [];

export class HttpMetrics implements ExchangeObserver {
  readonly #parts: HttpMetricsParts;
  readonly #byConnection = new WeakMap<DownstreamConnection, Source>();
  readonly #byPeer = new Map<string, Source>();

  constructor(parts: HttpMetricsParts) {
    this.#parts = parts;
  }

  onEnd(exchange: Exchange, end: ExchangeEnd): void {
    const bound = this.#find(exchange, end);
    if (bound.requests !== undefined) bound.requests.value += 1;
    bound.duration?.observe(end.durationMs);
    bound.requestBytes?.observe(end.bytesReceived);
    bound.responseBytes?.observe(end.bytesSent);
    const { messages } = end;
    if (messages === undefined) return;
    if (bound.requestMessages !== undefined) bound.requestMessages.value += messages.received;
    if (bound.responseMessages !== undefined) bound.responseMessages.value += messages.sent;
  }

  #find(exchange: Exchange, end: ExchangeEnd): Bound {
    const source = this.#source(exchange);
    const host = exchange.upstreamHost;
    let list = source.withoutHost;
    if (host !== undefined) {
      const known = source.byHost.get(host);
      if (known === undefined) source.byHost.set(host, (list = []));
      else list = known;
    }
    const isGrpc = end.messages !== undefined;
    const code = exchange.response?.status ?? 0;
    const grpcStatus = isGrpc ? (grpcOutcomeOf(exchange.response, end) ?? "") : "";
    const flags = exchange.flags.size === 0 ? "-" : [...exchange.flags].join(",");
    const { overrides, peers, chain } = this.#parts;
    const values =
      overrides.values?.({ exchange, response: exchange.response, end, peers, chain, isHttp: true }) ?? noValues;
    const added = values === noValues ? "" : values.join("\u0000");
    for (const bound of list) {
      if (
        bound.code === code &&
        bound.flags === flags &&
        bound.isGrpc === isGrpc &&
        bound.grpcStatus === grpcStatus &&
        bound.added === added &&
        bound.cluster === exchange.upstreamCluster
      ) {
        return bound;
      }
    }
    if (list.length >= maxBound) list.length = 0;
    const bound = this.#bind(exchange, source, { code, flags, isGrpc, grpcStatus, added }, values);
    list.push(bound);
    return bound;
  }

  #bind(
    exchange: Exchange,
    source: Source,
    kind: Pick<Bound, "code" | "flags" | "isGrpc" | "grpcStatus" | "added">,
    values: readonly string[],
  ): Bound {
    const { families, overrides, peers, clusters } = this.#parts;
    const cluster = exchange.upstreamCluster;
    const facts: SeriesFacts = {
      source: source.peer,
      destination: peers.destination(exchange.upstreamHost),
      service: serviceOf((clusters.get(cluster) ?? clusters.get(this.#parts.chain))?.metadata),
      protocol: kind.isGrpc ? "grpc" : "http",
      flags: kind.flags,
      isMutualTls: source.isMutualTls,
      answer: { code: String(kind.code), grpcStatus: kind.grpcStatus },
    };
    const standard = labelsOf(facts);
    const of = <T>(
      metric: MetricName,
      family: { series(labels: typeof standard): T },
      isKept: boolean,
    ): T | undefined => {
      const labels = isKept ? overrides.labels(metric, standard, values) : undefined;
      return labels && family.series(labels);
    };
    return {
      ...kind,
      cluster,
      requests: of("requests_total", families.requests, true),
      duration: of("request_duration_milliseconds", families.duration, true),
      requestBytes: of("request_bytes", families.requestBytes, true),
      responseBytes: of("response_bytes", families.responseBytes, true),
      requestMessages: of("request_messages_total", families.requestMessages, kind.isGrpc),
      responseMessages: of("response_messages_total", families.responseMessages, kind.isGrpc),
    };
  }

  #source({ connection, startedMs }: Exchange): Source {
    const known = this.#byConnection.get(connection);
    if (known !== undefined && known.expiresMs > startedMs) return known;
    const key = `${connection.source.ip} ${connection.peerPrincipal ?? ""}`;
    let source = this.#byPeer.get(key);
    if (source === undefined || source.expiresMs <= startedMs) {
      if (this.#byPeer.size >= maxSources) this.#byPeer.clear();
      source = {
        peer: this.#parts.peers.source(connection),
        isMutualTls: connection.peerPrincipal !== undefined,
        expiresMs: startedMs + rememberedMs,
        byHost: new WeakMap(),
        withoutHost: [],
      };
      this.#byPeer.set(key, source);
    }
    this.#byConnection.set(connection, source);
    return source;
  }
}
