/** Istio's metrics of TCP connections. Bytes of those still open are added whenever somebody looks. */
import type { TcpConnectionFacts, TcpObserver } from "#waypoint/telemetry/observers.ts";
import type { Peers } from "#waypoint/telemetry/peers.ts";
import { tcpSubject } from "#waypoint/telemetry/subject.ts";
import type { Clusters } from "#waypoint/upstream/clusters.ts";
import { labelsOf, serviceOf } from "./labels.ts";
import type { Count } from "./labelled-family.ts";
import type { Overrides } from "./overrides.ts";
import type { MetricName, TrafficFamilies } from "./traffic-families.ts";

interface Open {
  readonly facts: TcpConnectionFacts;
  readonly sent: Count | undefined;
  readonly received: Count | undefined;
  sentBefore: number;
  receivedBefore: number;
}

/** The connections that are open, of every chain. */
export class OpenConnections {
  readonly #open = new Map<TcpConnectionFacts, Open>();

  constructor({ sentBytes, receivedBytes }: TrafficFamilies) {
    const addAll = () => {
      for (const each of this.#open.values()) addBytes(each);
    };
    sentBytes.onSnapshot = addAll;
    receivedBytes.onSnapshot = addAll;
  }

  add(facts: TcpConnectionFacts, sent: Count | undefined, received: Count | undefined): void {
    this.#open.set(facts, { facts, sent, received, sentBefore: 0, receivedBefore: 0 });
  }

  has(facts: TcpConnectionFacts): boolean {
    return this.#open.has(facts);
  }

  remove(facts: TcpConnectionFacts): void {
    const open = this.#open.get(facts);
    if (open !== undefined) addBytes(open);
    this.#open.delete(facts);
  }
}

function addBytes(open: Open): void {
  const { bytesSent, bytesReceived } = open.facts;
  if (open.sent !== undefined) open.sent.value += bytesSent - open.sentBefore;
  if (open.received !== undefined) open.received.value += bytesReceived - open.receivedBefore;
  open.sentBefore = bytesSent;
  open.receivedBefore = bytesReceived;
}

export interface TcpMetricsParts {
  readonly families: TrafficFamilies;
  readonly open: OpenConnections;
  readonly peers: Peers;
  readonly clusters: Clusters;
  readonly overrides: Overrides;
}

export class TcpMetrics implements TcpObserver {
  readonly #parts: TcpMetricsParts;

  constructor(parts: TcpMetricsParts) {
    this.#parts = parts;
  }

  onConnected(facts: TcpConnectionFacts): void {
    const { families, open } = this.#parts;
    const count = this.#bind(facts, 0);
    const opened = count("tcp_connections_opened_total", families.opened);
    if (opened !== undefined) opened.value += 1;
    open.add(
      facts,
      count("tcp_sent_bytes_total", families.sentBytes),
      count("tcp_received_bytes_total", families.receivedBytes),
    );
  }

  onEnd(facts: TcpConnectionFacts, durationMs: number): void {
    const { families, open } = this.#parts;
    // One that got nowhere opened and closed at once.
    if (!open.has(facts)) this.onConnected(facts);
    open.remove(facts);
    const closed = this.#bind(facts, durationMs)("tcp_connections_closed_total", families.closed);
    if (closed !== undefined) closed.value += 1;
  }

  #bind(facts: TcpConnectionFacts, durationMs: number) {
    const { peers, clusters, overrides } = this.#parts;
    const { connection, chain, cluster, host, flags } = facts;
    const standard = labelsOf({
      source: peers.source(connection),
      destination: peers.destination(host),
      service: serviceOf((clusters.get(cluster) ?? clusters.get(chain))?.metadata),
      protocol: "tcp",
      flags: flags.size === 0 ? "-" : [...flags].join(","),
      isMutualTls: connection.peerPrincipal !== undefined,
      answer: undefined,
    });
    const values = overrides.values?.(tcpSubject(facts, durationMs, peers)) ?? [];
    return (metric: MetricName, family: { series(labels: typeof standard): Count }): Count | undefined => {
      const labels = overrides.labels(metric, standard, values);
      return labels && family.series(labels);
    };
  }
}
