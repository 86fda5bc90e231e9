/** A whole waypoint: what it tells of requests and connections, over real sockets. */
import { createServer, request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { connect, createServer as createTcpServer, type AddressInfo } from "node:net";
import { once } from "node:events";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterEach, expect, test } from "@jest/globals";
import { until } from "#shared/testing/loopback.ts";
import { TestControlPlane } from "#waypoint/testing/control-plane.ts";
import { OtlpCollector } from "#waypoint/testing/otlp-collector.ts";
import {
  edsCluster,
  endpoints,
  httpFilter,
  listener,
  router,
  routeTo,
  tcpFilter,
  typed,
} from "#waypoint/testing/resources.ts";
import { startTestWaypoint } from "#waypoint/testing/waypoint-fixture.ts";
import type { Waypoint } from "#waypoint/waypoint.ts";

let scope = new AsyncDisposableStack();
afterEach(async () => {
  await scope.disposeAsync();
  scope = new AsyncDisposableStack();
});

const cluster = "inbound-vip|80|http|orders.shop.svc.cluster.local";
const clusterFacts = {
  metadata: {
    filter_metadata: {
      istio: { services: [{ host: "orders.shop.svc.cluster.local", name: "orders", namespace: "shop" }] },
    },
  },
};

const fileLog = (format: JsonObject, filter?: JsonObject): JsonObject => ({
  ...typed("envoy.access_loggers.file", "envoy.extensions.access_loggers.file.v3.FileAccessLog", {
    path: "/dev/stdout",
    log_format: format,
  }),
  ...(filter === undefined ? {} : { filter }),
});

interface World {
  readonly waypoint: Waypoint;
  readonly port: number;
  readonly lines: string[];
  readonly seen: IncomingHttpHeaders[];
}

async function serve(
  filter: (xds: TestControlPlane) => JsonObject,
  origin: number,
  chain: JsonObject = {},
): Promise<Pick<World, "waypoint" | "port" | "lines">> {
  const xds = scope.use(await TestControlPlane.start());
  const lines: string[] = [];
  xds.put("cluster", edsCluster(cluster, clusterFacts));
  const assignment = endpoints(cluster, origin) as { endpoints: { lb_endpoints: JsonObject[] }[] } & JsonObject;
  for (const { lb_endpoints: hosts } of assignment.endpoints) {
    for (const host of hosts) {
      host["metadata"] = { filter_metadata: { istio: { workload: "orders-v1;shop;orders;v1;east" } } };
    }
  }
  xds.put("endpoints", assignment);
  xds.put("listener", listener("main", [{ name: cluster, filters: [filter(xds)], ...chain }]));
  const waypoint = scope.use(
    await startTestWaypoint({ xdsAddress: xds.address, onLog: (line) => void lines.push(line) }),
  );
  await waypoint.ready;
  await until(() => waypoint.listeners.portsOf("main").length > 0, "a listener");
  return { waypoint, port: waypoint.listeners.portsOf("main")[0] ?? 0, lines };
}

async function serveHttp(more: JsonObject, prepare: (xds: TestControlPlane) => void = () => {}): Promise<World> {
  const seen: IncomingHttpHeaders[] = [];
  const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
    seen.push(request.headers);
    request.resume().on("end", () => response.end("hello"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  scope.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  const filter = (xds: TestControlPlane) => {
    prepare(xds);
    return httpFilter([routeTo(cluster, { name: "default", decorator: { operation: "orders:80/*" } })], more);
  };
  return { ...(await serve(filter, (server.address() as AddressInfo).port)), seen };
}

async function call(port: number, path: string, headers: Readonly<Record<string, string>> = {}): Promise<number> {
  const sent = httpRequest({ port, path, headers: { host: "orders", ...headers }, method: "POST", agent: false });
  sent.end("abc");
  const [response] = (await once(sent, "response")) as [NodeJS.ReadableStream & { statusCode: number }];
  response.resume();
  await once(response, "end");
  return response.statusCode;
}

async function scrape({ ports }: Waypoint): Promise<readonly string[]> {
  const response = await fetch(`http://127.0.0.1:${ports.prometheus}/stats/prometheus`);
  return (await response.text()).split("\n");
}

test("requests are counted with Istio's labels, where Istio's proxies are scraped", async () => {
  const { waypoint, port } = await serveHttp({});
  expect(await call(port, "/a")).toBe(200);
  expect(await call(port, "/b")).toBe(200);
  const lines = await scrape(waypoint);
  expect(lines).toContain(
    'istio_requests_total{reporter="waypoint",source_workload="unknown",source_canonical_service="unknown",source_canonical_revision="unknown",source_workload_namespace="unknown",source_principal="unknown",source_app="unknown",source_version="unknown",source_cluster="unknown",destination_workload="orders-v1",destination_workload_namespace="shop",destination_principal="unknown",destination_app="orders",destination_version="v1",destination_service="orders.shop.svc.cluster.local",destination_canonical_service="orders",destination_canonical_revision="v1",destination_service_name="orders",destination_service_namespace="shop",destination_cluster="east",request_protocol="http",response_code="200",grpc_response_status="",response_flags="-",connection_security_policy="none"} 2',
  );
  const of = (name: string) => lines.filter((line) => line.startsWith(name)).map((line) => line.split(" ").at(-1));
  expect(of("istio_request_bytes_sum")).toEqual(["6"]);
  expect(of("istio_response_bytes_sum")).toEqual(["10"]);
  expect(of("istio_request_duration_milliseconds_count")).toEqual(["2"]);
  expect(of("envoy_cluster_membership_healthy")).toEqual(["1"]);
});

const stats = (metrics: readonly JsonObject[]): JsonObject => ({
  ...typed("istio.stats", "xds.type.v3.TypedStruct", {
    type_url: "type.googleapis.com/stats.PluginConfig",
    value: { reporter: "SERVER_GATEWAY", metrics: [...metrics] },
  }),
  is_optional: true,
});

test("labels come, go, and metrics are dropped as Telemetry says", async () => {
  const { waypoint, port } = await serveHttp({
    http_filters: [
      stats([
        {
          dimensions: { method: "request.method", user: 'request.headers["x-user"]' },
          tags_to_remove: ["source_principal"],
        },
        { name: "request_bytes", drop: true },
      ]),
      router,
    ],
  });
  await call(port, "/", { "x-user": "ann" });
  await call(port, "/");
  const lines = (await scrape(waypoint)).filter((line) => line.startsWith("istio_requests_total"));
  expect(lines.map((line) => /method="POST",user="(\w+)"} 1$/.exec(line)?.[1])).toEqual(["ann", "unknown"]);
  expect(lines.join()).not.toContain("source_principal");
  expect((await scrape(waypoint)).filter((line) => line.startsWith("istio_request_bytes_count"))).toEqual([]);
});

test("access logs: text, JSON, and only what a filter lets pass", async () => {
  const { port, lines } = await serveHttp({
    access_log: [
      fileLog({
        text_format:
          '%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER% "%REQ(X-USER)%"\n',
      }),
      fileLog({
        json_format: {
          code: "%RESPONSE_CODE%",
          user: "%REQ(X-USER)%",
          both: "%PROTOCOL% %REQ(X-NONE)%",
          none: "%REQ(X-NONE)%",
        },
      }),
      fileLog(
        { text_format: "only %REQ(X-USER)%\n" },
        {
          extension_filter: {
            name: "cel",
            typed_config: {
              "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
              expression: 'response.code == 200 && request.headers["x-user"] == "bob"',
            },
          },
        },
      ),
    ],
  });
  await call(port, "/a?b=c", { "x-user": "ann" });
  await call(port, "/", { "x-user": "bob" });
  await until(() => lines.some((line) => line.startsWith("only")), "the last line");
  const own = lines.filter((line) => !line.includes('"scope"'));
  expect(own).toEqual([
    `POST /a?b=c 200 via_upstream ${cluster} "ann"\n`,
    '{"both":"HTTP/1.1 -","code":200,"none":null,"user":"ann"}\n',
    `POST / 200 via_upstream ${cluster} "bob"\n`,
    '{"both":"HTTP/1.1 -","code":200,"none":null,"user":"bob"}\n',
    "only bob\n",
  ]);
});

test("TCP connections are counted while they are open, and logged when they end", async () => {
  const server = createTcpServer((socket) => socket.pipe(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  scope.defer(() => void server.close());
  const { waypoint, port, lines } = await serve(
    () =>
      tcpFilter(cluster, {
        access_log: [
          fileLog({ text_format: "tcp %BYTES_RECEIVED% %BYTES_SENT% %REQ(:METHOD)% %PROTOCOL% %RESPONSE_CODE%\n" }),
        ],
      }),
    (server.address() as AddressInfo).port,
    { metadata: { filter_metadata: { "istio.stats": { metrics: [{ dimensions: { port: "destination.port" } }] } } } },
  );
  const socket = connect(port, "127.0.0.1");
  socket.write("hello");
  await once(socket, "data");
  const of = async (name: string) =>
    (await scrape(waypoint)).filter((line) => line.startsWith(name)).map((line) => line.split(" ").at(-1));
  expect(await of("istio_tcp_connections_opened_total")).toEqual(["1"]);
  expect(await of("istio_tcp_received_bytes_total")).toEqual(["5"]);
  expect(await of("istio_tcp_connections_closed_total")).toEqual([]);
  socket.end();
  await until(() => lines.includes("tcp 5 5 - - 0\n"), "the line of the connection");
  expect(await of("istio_tcp_connections_closed_total")).toEqual(["1"]);
  expect(await of("istio_tcp_sent_bytes_total")).toEqual(["5"]);
  expect((await scrape(waypoint)).join()).toContain(`port="${port}"`);
});

const tracing = (more: JsonObject = {}): JsonObject => ({
  tracing: {
    random_sampling: { value: 100 },
    custom_tags: [
      { tag: "color", literal: { value: "blue" } },
      { tag: "user", request_header: { name: "x-user", default_value: "nobody" } },
      {
        tag: "istio.destination_workload",
        metadata: {
          kind: { request: {} },
          metadata_key: { key: "istio.peer", path: [{ key: "destination" }, { key: "workload" }] },
        },
      },
    ],
    provider: {
      name: "envoy.tracers.opentelemetry",
      typed_config: {
        "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
        grpc_service: {
          envoy_grpc: { cluster_name: "collector", authority: "collector.observe" },
          initial_metadata: [{ key: "x-tenant", value: "shop" }],
        },
        service_name: "waypoint.shop",
      },
    },
    ...more,
  },
});

async function serveTraced(more: JsonObject = {}): Promise<World & { readonly collector: OtlpCollector }> {
  const collector = scope.use(await OtlpCollector.start());
  const world = await serveHttp(tracing(more), (xds) => {
    xds.put(
      "cluster",
      edsCluster("collector", {
        typed_extension_protocol_options: {
          "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            explicit_http_config: { http2_protocol_options: {} },
          },
        },
      }),
    );
    xds.put("endpoints", endpoints("collector", collector.port));
  });
  return { ...world, collector };
}

const parentTrace = "0af7651916cd43dd8448eb211c80319c";
const parentSpan = "b7ad6b7169203331";

test("a trace begins here, and its span reaches the collector", async () => {
  const { port, seen, collector } = await serveTraced();
  await call(port, "/a", { "x-user": "ann" });
  await until(() => collector.spans.length > 0, "a span");
  const [first] = collector.spans;
  const traceId = Buffer.from(first?.span.traceId ?? []).toString("hex");
  const spanId = Buffer.from(first?.span.spanId ?? []).toString("hex");
  expect(seen[0]?.["traceparent"]).toBe(`00-${traceId}-${spanId}-01`);
  expect(first?.resource["service.name"]).toBe("waypoint.shop");
  expect(first?.span).toMatchObject({ name: "orders:80/*", kind: 2 });
  expect(first?.tags).toMatchObject({
    component: "proxy",
    "http.method": "POST",
    "http.url": "http://orders/a",
    "http.status_code": "200",
    "http.protocol": "HTTP/1.1",
    upstream_cluster: cluster,
    response_flags: "-",
    request_size: "3",
    response_size: "5",
    color: "blue",
    user: "ann",
    "istio.destination_workload": "orders-v1",
  });
  expect(collector.metadata).toMatchObject({ "x-tenant": "shop" });
});

test("a caller's trace goes on, and the caller decides whether it is kept", async () => {
  const { port, seen, collector } = await serveTraced();
  await call(port, "/no", { traceparent: `00-${parentTrace}-${parentSpan}-00`, tracestate: "v=1" });
  await call(port, "/yes", { "x-b3-traceid": parentTrace, "x-b3-spanid": parentSpan, "x-b3-sampled": "1" });
  await until(() => collector.spans.length > 0, "a span");
  expect(seen[0]?.["traceparent"]).toMatch(new RegExp(`^00-${parentTrace}-(?!${parentSpan})[0-9a-f]{16}-00$`));
  expect(seen[0]?.["tracestate"]).toBe("v=1");
  expect(seen[1]).toMatchObject({ "x-b3-traceid": parentTrace, "x-b3-sampled": "1", "x-b3-parentspanid": parentSpan });
  expect(collector.spans.map(({ tags }) => tags["http.url"])).toEqual(["http://orders/yes"]);
  expect(Buffer.from(collector.spans[0]?.span.parentSpanId ?? []).toString("hex")).toBe(parentSpan);
});

test("without luck nothing is kept, unless a request asks for it; draining sends what is left", async () => {
  const { waypoint, port, seen, collector } = await serveTraced({ random_sampling: { value: 0 } });
  await call(port, "/unlucky");
  await call(port, "/asked", { "x-client-trace-id": "1", "x-request-id": "5a0b2a4e-0d6c-4b3f-9c1d-2e3f4a5b6c7d" });
  await waypoint.drain();
  expect(collector.spans.map(({ tags }) => tags["http.url"])).toEqual(["http://orders/asked"]);
  expect(seen[0]?.["traceparent"]).toMatch(/-00$/);
  expect(seen[1]?.["x-request-id"]).toBe("5a0b2a4e-0d6c-bb3f-9c1d-2e3f4a5b6c7d");
});

const zipkin = (fields: JsonObject): JsonObject => ({
  provider: {
    name: "envoy.tracers.zipkin",
    typed_config: {
      "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
      collector_endpoint_version: "HTTP_JSON",
      trace_id_128bit: true,
      shared_span_context: false,
      ...fields,
    },
  },
});

/** A collector that takes Zipkin's spans, and a waypoint that sends it some. */
async function serveZipkin(fields: JsonObject, requests: { readonly path: string; readonly body: JsonObject[] }[]) {
  const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const path = `${request.headers.host ?? ""}${request.url ?? ""} ${request.headers["content-type"] ?? ""}`;
      requests.push({ path, body: JSON.parse(Buffer.concat(chunks).toString()) as JsonObject[] });
      response.writeHead(202).end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  scope.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return serveHttp(tracing(zipkin(fields)), (xds) => {
    xds.put("cluster", edsCluster("collector"));
    xds.put("endpoints", endpoints("collector", (server.address() as AddressInfo).port));
  });
}

test("a collector of Zipkin's gets spans in its own form, and applications B3's headers", async () => {
  const requests: { readonly path: string; readonly body: JsonObject[] }[] = [];
  const fields = {
    collector_cluster: "collector",
    collector_endpoint: "/api/v2/spans",
    collector_hostname: "zipkin.observe",
  };
  const { port, seen } = await serveZipkin(fields, requests);
  await call(port, "/first");
  await call(port, "/second", { traceparent: `00-${parentTrace}-${parentSpan}-01` });
  await until(() => requests.flatMap(({ body }) => body).length === 2, "two spans");
  expect(requests[0]?.path).toBe("zipkin.observe/api/v2/spans application/json");
  const [first, second] = requests.flatMap(({ body }) => body);
  expect(first).toMatchObject({
    kind: "SERVER",
    name: "orders:80/*",
    localEndpoint: { serviceName: "waypoint.shop", ipv4: "127.0.0.1" },
    tags: { "http.url": "http://orders/first", "http.status_code": "200", color: "blue" },
  });
  expect(first).not.toHaveProperty("parentId");
  expect(Number(first?.["timestamp"])).toBeGreaterThan(1_600_000_000_000_000);
  expect(Number(first?.["duration"])).toBeGreaterThan(0);
  expect(seen[0]).toMatchObject({
    "x-b3-traceid": first?.["traceId"],
    "x-b3-spanid": first?.["id"],
    "x-b3-sampled": "1",
  });
  expect(second).toMatchObject({ traceId: parentTrace, parentId: parentSpan });
  expect(seen[1]).toMatchObject({ "x-b3-traceid": parentTrace, "x-b3-parentspanid": parentSpan });
  expect(seen[1]?.["traceparent"]).toMatch(new RegExp(`^00-${parentTrace}-`));
});
