/** Istio's TCP metrics, bound once per kind of connection. */
import type { MetricsRegistry, NumberFamily, Series } from "#shared/observe/metrics.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { Workload } from "#shared/workload/workload.ts";
import type { ConnectionFacts, ConnectionFlag } from "./connection-record.ts";
import { trafficLabels, trafficValues } from "./traffic-labels.ts";

/** The series that a connection bumps while it lives. */
export interface BoundTraffic {
  readonly opened: Series;
  readonly received: Series;
  readonly sent: Series;
  /** For connections that end without a flag, nearly all of them. */
  readonly closed: Series;
}

/** Label sets remembered by the objects that they are made of; dropped whole when full. */
const maxRemembered = 4_096;

const nowhere = { ip: "0.0.0.0" as Ip, port: 0 };
const unknownFacts: ConnectionFacts = {
  reporter: "source",
  mutualTls: false,
  sourceAddress: nowhere,
  destinationAddress: nowhere,
};

export class TrafficMetrics {
  readonly #opened: NumberFamily;
  readonly #closed: NumberFamily;
  readonly #failed: NumberFamily;
  readonly #received: NumberFamily;
  readonly #sent: NumberFamily;
  readonly #sourceSockets: Series;
  readonly #destinationSockets: Series;
  readonly #onDemandDns: NumberFamily;
  readonly #remembered = new Map<string, BoundTraffic>();
  /** Workloads and services are replaced, never changed: an object stands for its label values. */
  readonly #numbers = new WeakMap<object, number>();
  #nextNumber = 1;

  constructor(registry: MetricsRegistry) {
    const labels = trafficLabels;
    this.#opened = registry.counter({
      name: "istio_tcp_connections_opened",
      help: "The total number of TCP connections opened",
      labels,
    });
    this.#closed = registry.counter({
      name: "istio_tcp_connections_closed",
      help: "The total number of TCP connections closed",
      labels,
    });
    this.#failed = registry.counter({
      name: "istio_tcp_connections_failed",
      help: "The total number of TCP connections that ended with a response flag (unstable)",
      labels,
    });
    this.#received = registry.counter({
      name: "istio_tcp_received_bytes",
      help: "The size of total bytes received during request in case of a TCP connection",
      labels,
    });
    this.#sent = registry.counter({
      name: "istio_tcp_sent_bytes",
      help: "The size of total bytes sent during response in case of a TCP connection",
      labels,
    });
    const sockets = registry.gauge({
      name: "istio_tcp_sockets_open",
      help: "The number of accepted TCP sockets that are open (unstable)",
      labels: ["reporter"],
    });
    this.#sourceSockets = sockets.series("source");
    this.#destinationSockets = sockets.series("destination");
    this.#onDemandDns = registry.counter({
      name: "istio_on_demand_dns",
      help: "The total number of times a workload's hostname was resolved for a connection (unstable)",
      labels: [...trafficLabels.slice(1, 9), "hostname"],
    });
  }

  bind(facts: ConnectionFacts): BoundTraffic {
    // Baggage is free text from a peer: it is not worth remembering by object.
    if (facts.sourceDescription !== undefined || facts.destinationDescription !== undefined) return this.#bind(facts);
    const key = `${facts.reporter}${facts.mutualTls ? "+" : "-"}${this.#number(facts.source)}/${this.#number(facts.destination)}/${this.#number(facts.service)}/${facts.sourceIdentity ?? ""}/${facts.destinationIdentity ?? ""}`;
    const known = this.#remembered.get(key);
    if (known !== undefined) return known;
    if (this.#remembered.size >= maxRemembered) this.#remembered.clear();
    const bound = this.#bind(facts);
    this.#remembered.set(key, bound);
    return bound;
  }

  closed(bound: BoundTraffic, facts: ConnectionFacts, flag: ConnectionFlag): void {
    if (flag === "-") {
      bound.closed.value += 1;
      return;
    }
    const values = trafficValues(facts, flag);
    this.#closed.series(...values).value += 1;
    this.#failed.series(...values).value += 1;
  }

  openSockets(reporter: "source" | "destination"): Series {
    return reporter === "source" ? this.#sourceSockets : this.#destinationSockets;
  }

  resolvedOnDemand(source: Workload, hostname: string): void {
    const facts: ConnectionFacts = { ...unknownFacts, source };
    this.#onDemandDns.series(...trafficValues(facts, "-").slice(1, 9), hostname).value += 1;
  }

  #bind(facts: ConnectionFacts): BoundTraffic {
    const values = trafficValues(facts, "-");
    return {
      opened: this.#opened.series(...values),
      received: this.#received.series(...values),
      sent: this.#sent.series(...values),
      closed: this.#closed.series(...values),
    };
  }

  #number(subject: object | undefined): number {
    if (subject === undefined) return 0;
    let number = this.#numbers.get(subject);
    if (number === undefined) {
      number = this.#nextNumber++;
      this.#numbers.set(subject, number);
    }
    return number;
  }
}
