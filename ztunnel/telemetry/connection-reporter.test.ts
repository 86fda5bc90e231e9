import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { Logging, parseFilter, type LogFormat } from "#shared/observe/logging.ts";
import { MetricsRegistry, toOpenMetrics } from "#shared/observe/metrics.ts";
import { ip, serviceOf, workloadOf } from "#shared/testing/mesh-fixtures.ts";
import type { ConnectionFacts } from "./connection-record.ts";
import { openReporter } from "./connection-reporter.ts";
import { TrafficMetrics } from "./traffic-metrics.ts";

function open(format: LogFormat = "plain", filter = "info") {
  const lines: string[] = [];
  const registry = new MetricsRegistry();
  const clock = new FakeClock();
  const sink = { write: (line: string) => void lines.push(line), flushSync: () => {} };
  const parsed = parseFilter(filter);
  if (parsed === undefined) throw new TypeError(filter);
  const traffic = new TrafficMetrics(registry);
  const reporter = openReporter({ metrics: traffic, logging: new Logging(format, parsed, sink), clock });
  const samples = () =>
    toOpenMetrics(registry.snapshot())
      .split("\n")
      .filter((line) => line.startsWith("istio_tcp_"));
  const value = (name: string, ...parts: readonly string[]) =>
    Number(
      samples()
        .find((line) => line.startsWith(name) && parts.every((part) => line.includes(part)))
        ?.split(" ")
        .at(-1) ?? 0,
    );
  return { lines, reporter, traffic, clock, samples, value };
}

const client = workloadOf("client-1", {
  workloadName: "client",
  canonicalName: "client-app",
  serviceAccount: "client",
  locality: { region: "eu", zone: "a", subzone: "" },
});
const server = workloadOf("server-1", {
  workloadName: "server",
  canonicalName: "server-app",
  serviceAccount: "server",
});

const outbound: ConnectionFacts = {
  reporter: "source",
  source: client,
  destination: server,
  service: serviceOf("web"),
  sourceIdentity: client.identity,
  destinationIdentity: server.identity,
  mutualTls: true,
  sourceAddress: { ip: ip("10.0.0.1"), port: 1234 },
  destinationAddress: { ip: ip("10.0.0.2"), port: 15_008 },
  hboneAddress: "10.0.0.2:8080",
};

describe("metrics", () => {
  test("A7 opened while open, closed once when it ends, bytes as they pass", () => {
    const { reporter, value } = open();
    const record = reporter.openRecord(outbound);
    expect([value("istio_tcp_connections_opened_total"), value("istio_tcp_connections_closed_total")]).toEqual([1, 0]);
    record.requestBytes(11);
    record.responseBytes(22);
    record.finish("-");
    record.finish("CONNECT", "late");
    record[Symbol.dispose]();
    expect(value("istio_tcp_connections_closed_total")).toBe(1);
    expect(value("istio_tcp_received_bytes_total")).toBe(11);
    expect(value("istio_tcp_sent_bytes_total")).toBe(22);
    expect(value("istio_tcp_connections_failed_total")).toBe(0);
  });

  test("a flag is on what closed and failed, not on what opened", () => {
    const { reporter, value } = open();
    reporter.openRecord(outbound).finish("DENY", "no");
    const denied = 'response_flags="DENY"';
    expect(value("istio_tcp_connections_opened_total", 'response_flags="-"')).toBe(1);
    expect(value("istio_tcp_connections_closed_total", denied)).toBe(1);
    expect(value("istio_tcp_connections_failed_total", denied)).toBe(1);
  });

  test("labels have Istio's names, order and values", () => {
    const { reporter, samples } = open();
    reporter.openRecord(outbound);
    expect(samples().find((line) => line.startsWith("istio_tcp_connections_opened_total"))).toBe(
      `istio_tcp_connections_opened_total{reporter="source",source_workload="client",source_canonical_service="client-app",source_canonical_revision="latest",source_workload_namespace="ns",source_principal="spiffe://cluster.local/ns/ns/sa/client",source_app="client-app",source_version="latest",source_cluster="Kubernetes",destination_service="web.ns.svc.cluster.local",destination_service_namespace="ns",destination_service_name="web",destination_workload="server",destination_canonical_service="server-app",destination_canonical_revision="latest",destination_workload_namespace="ns",destination_principal="spiffe://cluster.local/ns/ns/sa/server",destination_app="server-app",destination_version="latest",destination_cluster="Kubernetes",request_protocol="tcp",response_flags="-",connection_security_policy="mutual_tls",source_region="eu",source_zone="a",destination_region="unknown",destination_zone="unknown"} 1`,
    );
  });

  const plain: ConnectionFacts = {
    reporter: "destination",
    mutualTls: false,
    sourceAddress: outbound.sourceAddress,
    destinationAddress: outbound.destinationAddress,
  };

  test("nobody known: no localities, and everything reads unknown", () => {
    const { reporter, value, samples } = open();
    reporter.openRecord(plain);
    expect(value("istio_tcp_connections_opened_total", 'connection_security_policy="unknown"}')).toBe(1);
    expect(samples().join()).not.toContain("source_region");
  });

  test("a source is believed by baggage only where the mesh does not know it", () => {
    const { reporter, value } = open();
    const described = {
      ...plain,
      sourceDescription: { workloadName: "w", serviceName: "s", revision: "v9", clusterId: "c" },
    };
    reporter.openRecord({ ...described, destination: server });
    expect(
      value(
        "istio_tcp_connections_opened_total",
        'source_workload="w"',
        'source_canonical_service="s"',
        'source_app="w"',
        'source_version="v9"',
        'source_cluster="c"',
        'source_principal="unknown"',
        'destination_principal="spiffe://cluster.local/ns/ns/sa/server"',
      ),
    ).toBe(1);
    reporter.openRecord({ ...described, source: client });
    expect(value("istio_tcp_connections_opened_total", 'source_workload="client"', 'source_version="latest"')).toBe(1);
  });

  test("beyond a gateway the inner peer's word replaces the gateway", () => {
    const { reporter, value } = open();
    const { destinationIdentity: _, ...rest } = outbound;
    reporter.openRecord({ ...rest, destinationDescription: { workloadName: "inner", namespace: "far" } });
    expect(
      value(
        "istio_tcp_connections_opened_total",
        'destination_workload="inner"',
        'destination_workload_namespace="far"',
        'destination_principal="unknown"',
        'destination_cluster="unknown"',
      ),
    ).toBe(1);
  });

  test("an updated workload counts under its new labels", () => {
    const { reporter, value } = open();
    reporter.openRecord(outbound);
    reporter.openRecord({ ...outbound, source: { ...client, canonicalRevision: "v2" } });
    expect(value("istio_tcp_connections_opened_total", 'source_version="latest"')).toBe(1);
    expect(value("istio_tcp_connections_opened_total", 'source_version="v2"')).toBe(1);
  });

  test("sockets and resolutions are counted too", () => {
    const { reporter, traffic, value } = open();
    reporter.socketOpened("source");
    reporter.socketOpened("source");
    reporter.socketClosed("source");
    expect(value("istio_tcp_sockets_open", 'reporter="source"')).toBe(1);
    expect(() => traffic.resolvedOnDemand(client, "vm.example.com")).not.toThrow();
  });
});

describe("the access log", () => {
  test("one line for an outbound connection, its fields in Istio's order", async () => {
    const { reporter, lines, clock } = open();
    const record = reporter.openRecord(outbound);
    record.requestBytes(11);
    record.responseBytes(22);
    await clock.advance(7);
    record.finish("-");
    expect(lines).toEqual([
      '2027-01-15T08:00:00.007000Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:1234 src.workload="client-1" src.namespace="ns" src.identity="spiffe://cluster.local/ns/ns/sa/client" src.cluster="Kubernetes" dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:8080 dst.service="web.ns.svc.cluster.local" dst.workload="server-1" dst.namespace="ns" dst.identity="spiffe://cluster.local/ns/ns/sa/server" dst.cluster="Kubernetes" direction="outbound" bytes_sent=11 bytes_recv=22 duration="7ms"\n',
    ]);
  });

  test("the receiving side sends the response, and identities need mutual TLS", () => {
    const { reporter, lines } = open();
    const record = reporter.openRecord({ ...outbound, reporter: "destination", mutualTls: false });
    record.requestBytes(11);
    record.responseBytes(22);
    record.finish("DENY", 'policy "x"');
    expect(lines[0]).toContain("\terror\taccess\t");
    expect(lines[0]).toContain('direction="inbound" bytes_sent=22 bytes_recv=11 duration="0ms" error="policy \\"x\\""');
    expect(lines[0]).not.toContain("identity");
  });

  test("JSON carries the same", () => {
    const { reporter, lines } = open("json");
    reporter.openRecord(outbound).finish("CONNECT", "refused");
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({
      level: "error",
      scope: "access",
      message: "connection complete",
      "src.addr": "10.0.0.1:1234",
      "dst.hbone_addr": "10.0.0.2:8080",
      bytes_sent: 0,
      duration: "0ms",
      error: "refused",
    });
  });

  test("nothing from a peer can end a field or a line", () => {
    for (const format of ["plain", "json"] as const) {
      const { reporter, lines } = open(format);
      reporter.openRecord({ ...outbound, hboneAddress: 'x:1 a="b"\nfake' }).finish("-");
      expect(lines).toHaveLength(1);
      expect(lines[0]?.split("\n")).toHaveLength(2);
      expect(lines[0]).toContain('"x:1 a=\\"b\\"\\nfake"');
    }
  });

  test("a connection that nobody finished is reported when its scope ends", () => {
    const { reporter, lines } = open();
    reporter.openRecord(outbound)[Symbol.dispose]();
    expect(lines[0]).toContain('error="connection closed by drain"');
  });

  test("early failures have one line and no metrics", () => {
    const { reporter, lines, samples } = open();
    const { sourceAddress, destinationAddress } = outbound;
    reporter.failEarly({
      direction: "inbound",
      sourceAddress,
      destinationAddress,
      error: "ip mismatch: 1.1.1.1 != 2.2.2.2",
    });
    expect(lines[0]).toMatch(
      /\twarn\taccess\tconnection failed\tsrc.addr=10.0.0.1:1234 dst.addr=10.0.0.2:15008 direction="inbound" error="ip mismatch: 1.1.1.1 != 2.2.2.2"\n$/,
    );
    expect(samples().filter((line) => !line.startsWith("istio_tcp_sockets_open"))).toEqual([]);
  });

  // prettier-ignore
  test.each([
    ["debug",       ["connection opened", "connection complete", "connection complete"]],
    ["info",        ["connection complete", "connection complete"]],
    ["access=warn", ["connection complete"]],
    ["off",         []],
  ])("at %s these lines are written: %j", (filter, expected) => {
    const { reporter, lines } = open("plain", filter);
    const first = reporter.openRecord(outbound);
    first.finish("-");
    if (filter !== "debug") reporter.openRecord(outbound).finish("DENY", "no");
    else first.finish("-");
    const messages = lines.map((line) => line.split("\t")[3]);
    expect(messages.slice(0, 2)).toEqual(expected.slice(0, 2));
  });
});
