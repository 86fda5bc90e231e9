/** What a waypoint tells of its traffic: Istio's metrics, access logs as Telemetry asks for them, traces in a collector of the mesh. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Manifest, PodName } from "#e2e/support/cluster.ts";
import { withoutWebhook, write } from "#e2e/support/written.ts";
import { collectorPort, type PrintedSpan } from "#e2e/support/collector.ts";
import { ambient, namespaceManifest, podIp, projectRoot, startMesh, type Mesh } from "#e2e/support/mesh.ts";
import {
  callerPod,
  curl,
  documents,
  waypointGateway,
  waypointReady,
  webPod,
  webService,
} from "#e2e/support/web-mesh.ts";

let mesh: Mesh;
let waypoint: PodName;
const ann: PodName = { namespace: "shop", name: "ann" };
const scraper: PodName = { namespace: "outside", name: "scraper" };

const meshConfig = documents({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name: "istio", namespace: "istio-system", labels: { "istio.io/rev": "default" } },
  data: {
    mesh: JSON.stringify({
      rootNamespace: "istio-system",
      trustDomain: "cluster.local",
      extensionProviders: [
        { name: "otel", opentelemetry: { service: "collector.observe.svc.cluster.local", port: collectorPort } },
        {
          name: "lines",
          envoyFileAccessLog: {
            path: "/dev/stdout",
            logFormat: {
              labels: {
                mark: "telemetry",
                path: "%REQ(:PATH)%",
                code: "%RESPONSE_CODE%",
                why: "%RESPONSE_CODE_DETAILS%",
                caller: "%DOWNSTREAM_PEER_URI_SAN%",
              },
            },
          },
        },
      ],
    }),
  },
});

const collector = documents(
  {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "collector", namespace: "observe", labels: { app: "collector" } },
    spec: {
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: "collector",
          image: "ambit/tools",
          command: ["node", join(projectRoot, "e2e/support/collector.ts")],
          readinessProbe: { tcpSocket: { port: collectorPort }, periodSeconds: 1 },
        },
      ],
    },
  },
  {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "collector", namespace: "observe" },
    spec: { selector: { app: "collector" }, ports: [{ name: "grpc-otlp", port: collectorPort }] },
  },
);

const telemetry = (name: string, namespace: string, spec: object): object => ({
  apiVersion: "telemetry.istio.io/v1",
  kind: "Telemetry",
  metadata: { name, namespace },
  spec,
});

const onService = (name: string) => ({ targetRefs: [{ group: "", kind: "Service", name }] });

const telemetries = documents(
  telemetry("mesh", "istio-system", { tracing: [{ providers: [{ name: "otel" }], randomSamplingPercentage: 100 }] }),
  telemetry("failures", "shop", {
    accessLogging: [{ providers: [{ name: "lines" }], filter: { expression: "response.code >= 400" } }],
  }),
  telemetry("labels", "shop", {
    ...onService("labelled"),
    metrics: [
      {
        providers: [{ name: "prometheus" }],
        overrides: [
          {
            match: { metric: "REQUEST_COUNT" },
            tagOverrides: {
              source_principal: { operation: "REMOVE" },
              tenant: { value: 'request.headers["x-tenant"]' },
            },
          },
        ],
      },
    ],
  }),
  {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "no-secrets", namespace: "shop" },
    spec: { ...onService("reviews"), action: "DENY", rules: [{ to: [{ operation: { paths: ["/secret"] } }] }] },
  },
);

beforeAll(async () => {
  mesh = await startMesh("waypoint-telemetry");
  await mesh.cluster.apply(
    [
      meshConfig,
      namespaceManifest("shop", { ...ambient, "istio.io/use-waypoint": "waypoint" }),
      namespaceManifest("observe", ambient),
      namespaceManifest("outside"),
      waypointGateway("waypoint", "shop"),
      callerPod("ann", "shop", "node-1"),
      callerPod("scraper", "outside", "node-1"),
      webPod("reviews", { namespace: "shop", node: "node-2" }),
      webService("reviews", "shop"),
      webService("labelled", "shop", { app: "reviews" }),
      collector,
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady("shop", 2, 60_000);
  await mesh.cluster.podsReady("observe", 1, 60_000);
  await mesh.cluster.podsReady("outside", 1, 60_000);
  await waypointReady(mesh.cluster, "shop");
  await mesh.cluster.captured("observe", true, 30_000);
  await mesh.cluster.apply(telemetries);
  const [pod] = await mesh.cluster.pods("shop", "gateway.networking.k8s.io/gateway-name=waypoint");
  waypoint = { namespace: "shop", name: pod?.metadata?.name ?? "" };
  await mesh.cluster.until(
    "policies at the waypoint",
    async () => (await curl(mesh.cluster, ann, "http://reviews/secret")).status === 403,
  );
}, 180_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

async function scrape(port: number): Promise<readonly string[]> {
  const { text } = await curl(
    mesh.cluster,
    scraper,
    `http://${await podIp(mesh.cluster, waypoint)}:${port}/stats/prometheus`,
  );
  return text.split("\n");
}

/** The lines of a metric that have all of these labels, when there are some: a request is counted when all of it is over. */
const series = (port: number, name: string, ...labels: readonly string[]): Promise<readonly string[]> =>
  mesh.cluster.until(`${name} with ${labels.join()}`, async () => {
    const found = (await scrape(port)).filter(
      (line) => line.startsWith(`${name}{`) && labels.every((each) => line.includes(each)),
    );
    return found.length > 0 && found;
  });

type Conditioned = Manifest & {
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message: string }[];
  };
};

const labelsOf = (line: string): Readonly<Record<string, string>> =>
  Object.fromEntries([...line.matchAll(/(\w+)="([^"]*)"/g)].map(([, name = "", value = ""]) => [name, value]));

describe("metrics", () => {
  test.each([15_020, 15_090])("a request has every label of Istio's, on port %d", async (port) => {
    expect((await curl(mesh.cluster, ann, "http://reviews/counted")).status).toBe(200);
    const found = await series(
      port,
      "istio_requests_total",
      'response_code="200"',
      'destination_service_name="reviews"',
    );
    expect(found.map(labelsOf)).toEqual([
      {
        reporter: "waypoint",
        source_workload: "ann",
        source_canonical_service: "ann",
        source_canonical_revision: "latest",
        source_workload_namespace: "shop",
        source_principal: "spiffe://cluster.local/ns/shop/sa/ann",
        source_app: "ann",
        source_version: "latest",
        source_cluster: "Kubernetes",
        destination_workload: "reviews",
        destination_workload_namespace: "shop",
        destination_principal: "spiffe://cluster.local/ns/shop/sa/reviews",
        destination_app: "reviews",
        destination_version: "v1",
        destination_service: "reviews.shop.svc.cluster.local",
        destination_canonical_service: "reviews",
        destination_canonical_revision: "v1",
        destination_service_name: "reviews",
        destination_service_namespace: "shop",
        destination_cluster: "Kubernetes",
        request_protocol: "http",
        response_code: "200",
        grpc_response_status: "",
        response_flags: "-",
        connection_security_policy: "mutual_tls",
      },
    ]);
    expect(await series(port, "istio_request_duration_milliseconds_count", 'response_code="200"')).not.toEqual([]);
  });

  test("what is refused is counted for the service that was asked for", async () => {
    await curl(mesh.cluster, ann, "http://reviews/secret");
    const [line = ""] = await series(15_020, "istio_requests_total", 'response_code="403"');
    expect(labelsOf(line)).toMatchObject({
      destination_service: "reviews.shop.svc.cluster.local",
      source_workload: "ann",
    });
    expect(
      await series(15_020, "ambit_authorization_verdicts_total", 'result="denied"', "policy[no-secrets]"),
    ).toHaveLength(1);
  });

  test("Telemetry adds and removes labels of one service's metric", async () => {
    await curl(mesh.cluster, ann, "-H", "x-tenant: blue", "http://labelled/");
    const found = await series(15_020, "istio_requests_total", 'destination_service_name="labelled"');
    expect(found.map(labelsOf)).toEqual([expect.objectContaining({ tenant: "blue" })]);
    expect(found.join()).not.toContain("source_principal");
  });
});

test("the access log has what the filter lets pass, with policy and rule of a refusal", async () => {
  await curl(mesh.cluster, ann, "http://reviews/fine");
  await curl(mesh.cluster, ann, "http://reviews/secret");
  const lines = async () =>
    (await mesh.cluster.logs(waypoint))
      .split("\n")
      .filter((line) => line.includes('"mark":"telemetry"'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  await mesh.cluster.until("a line", async () => (await lines()).length > 0);
  const found = await lines();
  expect(found[0]).toEqual({
    mark: "telemetry",
    path: "/secret",
    code: 403,
    why: "rbac_access_denied_matched_policy[ns[shop]-policy[no-secrets]-rule[0]]",
    caller: "spiffe://cluster.local/ns/shop/sa/ann",
  });
  expect(found.map(({ code }) => code).filter((code) => code !== 403)).toEqual([]);
});

test("a trace goes on through the waypoint, and its span reaches the collector", async () => {
  const traceId = "0af7651916cd43dd8448eb211c80319c";
  const parent = "b7ad6b7169203331";
  const { echo } = await curl(
    mesh.cluster,
    ann,
    "-H",
    `traceparent: 00-${traceId}-${parent}-01`,
    "http://reviews/traced",
  );
  expect(String(echo?.headers["traceparent"])).toMatch(new RegExp(`^00-${traceId}-(?!${parent})[0-9a-f]{16}-01$`));
  const spans = async (): Promise<readonly PrintedSpan[]> =>
    (await mesh.cluster.logs({ namespace: "observe", name: "collector" }))
      .split("\n")
      .filter((line) => line.startsWith('{"name"'))
      .map((line) => JSON.parse(line) as PrintedSpan)
      .filter((span) => span.traceId === traceId);
  await mesh.cluster.until("a span", async () => (await spans()).length > 0);
  expect(await spans()).toEqual([
    {
      name: "reviews.shop.svc.cluster.local:80/*",
      traceId,
      parentSpanId: parent,
      service: "waypoint.shop",
      tags: expect.objectContaining({
        component: "proxy",
        "http.method": "GET",
        "http.url": "http://reviews/traced",
        "http.status_code": "200",
        "istio.canonical_service": "waypoint",
        "istio.source_workload": "ann",
        "istio.destination_workload": "reviews",
      }),
    },
  ]);
});

test("an expression that nobody understands is refused; without the webhook it is told in the status, and changes nothing", async () => {
  const wrong = telemetry("wrong", "shop", {
    accessLogging: [{ filter: { expression: "response.cod >= 400" } }],
  }) as Manifest;
  expect((await write(mesh.cluster, wrong)).refusal).toContain('attribute "response.cod" is not known');
  await withoutWebhook(mesh.cluster);
  await mesh.cluster.apply(documents(wrong));
  const messages = async (): Promise<string> => {
    const found = await mesh.cluster.get<Conditioned>("telemetry.istio.io/v1", "Telemetry", "wrong", "shop");
    return (found.status?.conditions ?? [])
      .map(({ type, status, message }) => `${type}=${status} ${message}`)
      .join("\n");
  };
  await mesh.cluster.until("a status", async () => (await messages()).includes("ambit.dev/Valid=False"));
  expect(await messages()).toContain('attribute "response.cod" is not known; known are code,');
});

test("what is asked for and not supported is told in the status", async () => {
  await mesh.cluster.apply(
    documents(
      telemetry("nowhere", "shop", { ...onService("labelled"), accessLogging: [{ providers: [{ name: "als" }] }] }),
    ),
  );
  const accepted = async (): Promise<string> => {
    const found = await mesh.cluster.get<Conditioned>("telemetry.istio.io/v1", "Telemetry", "nowhere", "shop");
    return found.status?.conditions?.find(({ type }) => type === "Accepted")?.message ?? "";
  };
  await mesh.cluster.until("a status", async () => (await accepted()) !== "");
  expect(await accepted()).toMatch(/^bound to shop\/waypoint; the mesh has no extension provider "als"/);
});
