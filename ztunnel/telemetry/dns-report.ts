/** What is counted and logged of pods' questions, with Istio's names. One line for each, at level debug of scope `dns`. */
import type { Logging } from "#shared/observe/logging.ts";
import type { MetricsRegistry, NumberFamily, HistogramFamily } from "#shared/observe/metrics.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { PodIdentity } from "#shared/workload/workload-store.ts";
import type { Workload } from "#shared/workload/workload.ts";

export interface DnsFacts {
  readonly pod: PodIdentity;
  /** undefined until the control plane has told who the pod is. */
  readonly workload: Workload | undefined;
  readonly protocol: "udp" | "tcp";
  readonly type: number;
  readonly name: string | undefined;
}

export interface DnsOutcome {
  /** `success`, `no records`, `forwarded`, or why there is no answer. */
  readonly result: string;
  readonly endpoints?: readonly Ip[];
}

export interface DnsReporter {
  asked(facts: DnsFacts): void;
  answered(facts: DnsFacts, outcome: DnsOutcome): void;
  /** A question that the mesh does not answer was passed on, and what became of it. */
  forwarded(facts: DnsFacts, outcome: { readonly ok: boolean; readonly durationMs: number }): void;
}

/** Types that resolvers ask for; of others there are 65 000, so they share one label value. */
const typeNames: ReadonlyMap<number, string> = new Map([
  [1, "a"],
  [2, "ns"],
  [5, "cname"],
  [6, "soa"],
  [12, "ptr"],
  [13, "hinfo"],
  [15, "mx"],
  [16, "txt"],
  [28, "aaaa"],
  [33, "srv"],
  [35, "naptr"],
  [43, "ds"],
  [46, "rrsig"],
  [48, "dnskey"],
  [52, "tlsa"],
  [64, "svcb"],
  [65, "https"],
  [251, "ixfr"],
  [252, "axfr"],
  [255, "any"],
  [257, "caa"],
]);

/** Seconds, as Istio's ztunnel has them. */
const durationBounds = [0.0005, 0.001, 0.01, 0.1, 1, 5];

export function openDnsReporter(registry: MetricsRegistry, logging: Logging): DnsReporter {
  const labels = [
    "request_query_type",
    "request_protocol",
    "source_canonical_service",
    "source_canonical_revision",
  ] as const;
  const counter = (name: string, help: string): NumberFamily =>
    registry.counter({ name, help: `${help} (unstable)`, labels });
  const requests = counter("istio_dns_requests", "The total number of DNS questions of pods");
  const upstream = counter("istio_dns_upstream_requests", "The total number of DNS questions passed on to resolvers");
  const failures = counter(
    "istio_dns_upstream_failures",
    "The total number of DNS questions that resolvers did not answer",
  );
  const durations: HistogramFamily = registry.histogram(
    {
      name: "istio_dns_upstream_request_duration_seconds",
      help: "How long resolvers took to answer DNS questions (unstable)",
      labels,
    },
    durationBounds,
  );
  const log = logging.scope("dns");
  return {
    asked: (facts) => void (requests.series(...valuesOf(facts)).value += 1),
    answered: (facts, { result, endpoints = [] }) => {
      if (!logging.isEnabled("dns", "debug")) return;
      const { pod, type, name } = facts;
      log.debug(
        {
          "src.workload": pod.name,
          "src.namespace": pod.namespace,
          query: (typeNames.get(type) ?? `type${type}`).toUpperCase(),
          domain: name ?? "",
          result,
          endpoints: endpoints.join(","),
        },
        "dns query",
      );
    },
    forwarded: (facts, { ok, durationMs }) => {
      const values = valuesOf(facts);
      upstream.series(...values).value += 1;
      if (!ok) failures.series(...values).value += 1;
      durations.series(...values).observe(durationMs / 1_000);
    },
  };
}

const valuesOf = ({ type, protocol, workload }: DnsFacts): readonly string[] => [
  typeNames.get(type) ?? "unknown",
  protocol,
  workload?.canonicalName ?? "",
  workload?.canonicalRevision ?? "",
];
