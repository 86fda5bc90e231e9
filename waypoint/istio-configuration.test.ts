/** A waypoint with configuration in the shape of Istio's own control plane, between real tunnels. */
import { afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { once } from "node:events";
import { createServer, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import type { Duplex } from "node:stream";
import type { JsonObject } from "@bufbuild/protobuf";
import { systemClock } from "#shared/clock/clock.ts";
import { HboneConnection } from "#shared/hbone/hbone-client.ts";
import { acceptConnect, HboneServer } from "#shared/hbone/hbone-server.ts";
import { windowSizesDefault } from "#shared/hbone/http2-settings.ts";
import { relay } from "#shared/hbone/relay.ts";
import { spiffeId, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { ipToBytes, parseIp } from "#shared/net/ip.ts";
import { connectLoopback, endingOf, listenLoopback, readAll, until } from "#shared/testing/loopback.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import { TestControlPlane } from "./testing/control-plane.ts";
import {
  byNameFirst,
  clusterName,
  connectOriginate,
  connectTerminate,
  mainInternal,
  meshTransports,
  originalAddress,
  serviceCluster,
  staticClusters,
  tunnelledEndpoints,
  type IstioService,
} from "./testing/istio-resources.ts";
import { typed } from "./testing/resources.ts";
import { startTestWaypoint } from "./testing/waypoint-fixture.ts";
import type { Waypoint } from "./waypoint.ts";

const loopback = parseIp("127.0.0.1");
const identity = (serviceAccount: string, trustDomain = "cluster.local"): SpiffeId =>
  spiffeId({ trustDomain, namespace: "shop", serviceAccount });
const [client, waypointIdentity, server] = ["frontend", "waypoint", "server"].map((name) => identity(name)) as [
  SpiffeId,
  SpiffeId,
  SpiffeId,
];
const vip = "10.1.0.1";
const shop: IstioService = { host: "shop.example", vips: [vip, "fd00::1"], port: 80, protocol: "http" };
const bytes: IstioService = { ...shop, port: 81, protocol: "tcp" };
const sniffed: IstioService = { ...shop, port: 82, protocol: "sniffed" };

let ca: TestCa;
beforeAll(async () => {
  ca = await TestCa.create();
});

let scope = new AsyncDisposableStack();
afterEach(async () => {
  await scope.disposeAsync();
  scope = new AsyncDisposableStack();
});

interface Seen {
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}

/** A workload behind its own ztunnel. */
async function startWorkload() {
  const seen: Seen[] = [];
  const origin = createServer({ keepAliveTimeout: 0 }, ({ url = "", headers }, response) => {
    seen.push({ url, headers });
    response.end(`origin saw ${url}`);
  });
  origin.listen(0, "127.0.0.1");
  await once(origin, "listening");
  scope.defer(() => {
    origin.closeAllConnections();
    origin.close();
  });
  const tunnels: { readonly authority: string; readonly identity: string }[] = [];
  const certificate = await ca.issue(server);
  const hbone = new HboneServer({
    clock: systemClock,
    windows: windowSizesDefault,
    certificate: () => certificate,
    onConnect: ({ stream, authority, tunnel }) => {
      stream.on("error", () => {});
      tunnels.push({ authority, identity: tunnel.identity });
      const upstream = connect({ port: Number(authority.split(":").at(-1)), host: "127.0.0.1", allowHalfOpen: true });
      upstream.once("connect", () => {
        acceptConnect(stream, undefined);
        relay({ downstream: stream, upstream }, { requestBytes() {}, responseBytes() {}, ended() {} });
      });
    },
    onRefused: () => {},
  });
  const listener = await listenLoopback((socket) =>
    hbone.accept(socket, { local: { ip: loopback, port: 15_008 }, peer: { ip: loopback, port: 1 } }),
  );
  scope.defer(async () => {
    hbone.close();
    await listener[Symbol.asyncDispose]();
  });
  return { address: `127.0.0.1:${(origin.address() as AddressInfo).port}`, hbonePort: listener.port, seen, tunnels };
}

type Workload = Awaited<ReturnType<typeof startWorkload>>;

interface Mesh {
  readonly xds: TestControlPlane;
  readonly workload: Workload;
  readonly waypoint: Waypoint;
  readonly lines: readonly string[];
}

/** @param prepare says more before the waypoint starts */
async function start(
  services: readonly IstioService[],
  listener: JsonObject = mainInternal(services),
  prepare: (xds: TestControlPlane) => void = () => {},
): Promise<Mesh> {
  const xds = scope.use(await TestControlPlane.start());
  const workload = await startWorkload();
  for (const cluster of staticClusters) xds.put("cluster", cluster);
  for (const service of services) {
    for (const protocol of ["http", "tcp"] as const) {
      const name = clusterName(service, protocol);
      xds.put("cluster", serviceCluster(name));
      xds.put("endpoints", tunnelledEndpoints(name, workload.address));
    }
  }
  xds.put("listener", connectTerminate());
  xds.put("listener", connectOriginate);
  xds.put("listener", listener);
  prepare(xds);
  const lines: string[] = [];
  const waypoint = scope.use(
    await startTestWaypoint({
      xdsAddress: xds.address,
      certificates: { fetch: (wanted: Parameters<TestCa["issue"]>[0]) => ca.issue(wanted) },
      upstreamHbonePort: workload.hbonePort,
      onLog: (line) => void lines.push(line),
    }),
  );
  await waypoint.ready;
  return { xds, workload, waypoint, lines };
}

async function tunnel(waypoint: Waypoint, authority: string, from: SpiffeId = client) {
  const connection = await HboneConnection.open(await connectLoopback(waypoint.ports.hbone), {
    certificate: await ca.issue(from),
    expected: [waypointIdentity],
    clock: systemClock,
    windows: windowSizesDefault,
    maxStreams: 100,
  });
  scope.defer(() => connection.destroy());
  return (await connection.connect({ authority, baggage: "", forwarded: "", traceparent: "" })).stream;
}

async function ask(over: Duplex, path = "/", headers: Record<string, string> = {}) {
  const request = httpRequest({ createConnection: () => over, path, headers: { host: "shop.example", ...headers } });
  request.end();
  const [response] = (await once(request, "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() };
}

const fetchText = async (waypoint: Waypoint, path: string): Promise<string> =>
  (await fetch(`http://127.0.0.1:${waypoint.ports.admin}${path}`)).text();

const serviceOf = ({ host, port, vips }: IstioService) => ({
  name: "shop",
  namespace: "shop",
  hostname: host,
  addresses: vips.map((ip) => ({ network: "", address: ipToBytes(parseIp(ip)) })),
  ports: [{ servicePort: port, targetPort: port }],
});

const base64 = (text: string): string => Buffer.from(text).toString("base64");

const connectionFrom = (principal: SpiffeId) => ({
  id: 1,
  source: { ip: loopback, port: 1 },
  peerPrincipal: principal,
  localPrincipal: waypointIdentity,
  serverName: undefined,
});

const refusals = ({ xds }: Mesh) => (["cluster", "endpoints", "listener"] as const).map((type) => xds.refusal(type));

describe("with configuration in the shape of Istio's control plane, a waypoint", () => {
  test("accepts all of it", async () => {
    const mesh = await start([shop, bytes, sniffed]);
    await until(() => mesh.waypoint.listeners.forTunnels !== undefined, "the inner listener is there");
    expect(refusals(mesh)).toEqual([undefined, undefined, undefined]);
  });

  test("takes a request from tunnel to tunnel: the caller's identity in, its own out", async () => {
    const { waypoint, workload } = await start([shop]);
    const answer = await ask(await tunnel(waypoint, `${vip}:80`), "/a");
    expect([answer.status, answer.body, answer.headers["server"]]).toEqual([200, "origin saw /a", "istio-envoy"]);
    expect(workload.seen[0]?.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
    expect(workload.tunnels).toEqual([{ authority: workload.address, identity: waypointIdentity }]);
  });

  test("chooses by address, port and what is spoken", async () => {
    const { waypoint, workload } = await start([shop, bytes, sniffed]);
    expect((await ask(await tunnel(waypoint, "[fd00::1]:80"))).status).toBe(200);
    // A TCP chain passes on whatever it is: this answer has no header of a proxy.
    const raw = await ask(await tunnel(waypoint, `${vip}:81`));
    expect([raw.status, raw.headers["server"]]).toEqual([200, undefined]);
    expect((await ask(await tunnel(waypoint, `${vip}:82`))).headers["server"]).toBe("istio-envoy");
    // HTTP/1.0 is none of what the tree names.
    const old = await tunnel(waypoint, `${vip}:82`);
    old.write("GET /old HTTP/1.0\r\nhost: a\r\nconnection: close\r\n\r\n");
    expect((await readAll(old as unknown as Socket)).toString()).not.toContain("istio-envoy");
    expect(workload.seen.map(({ url }) => url)).toContain("/old");
  });

  test.each([`${vip}:83`, "10.1.0.2:80", "127.0.0.1:15000"])("has no chain for %s, and closes", async (authority) => {
    const { waypoint } = await start([shop]);
    const refused = await tunnel(waypoint, authority);
    refused.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    expect(["end", "reset"]).toContain(await endingOf(refused as unknown as Socket));
  });

  test("sends what is for a workload itself to that workload, in a tunnel", async () => {
    const { waypoint, workload } = await start([shop], mainInternal([shop], ["127.0.0.1"]));
    const answer = await ask(await tunnel(waypoint, workload.address), "/direct");
    expect([answer.body, answer.headers["server"]]).toEqual(["origin saw /direct", "istio-envoy"]);
    expect(workload.tunnels).toEqual([{ authority: workload.address, identity: waypointIdentity }]);
  });

  test("enforces policies that ask for the principal in filter state, on requests and on connections", async () => {
    const rules = (allowed: string): JsonObject => ({
      action: "ALLOW",
      policies: {
        "ns[shop]-policy[p]-rule[0]": {
          permissions: [{ and_rules: { rules: [{ any: true }] } }],
          principals: [
            {
              and_ids: {
                ids: [
                  {
                    or_ids: {
                      ids: [{ filter_state: { key: "io.istio.peer_principal", string_match: { exact: allowed } } }],
                    },
                  },
                ],
              },
            },
          ],
        },
      },
    });
    const http = typed("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", {
      rules: rules(client),
      shadow_rules_stat_prefix: "istio_dry_run_allow_",
    });
    const network = typed("envoy.filters.network.rbac", "envoy.extensions.filters.network.rbac.v3.RBAC", {
      rules: rules(client),
      stat_prefix: "tcp.",
      shadow_rules_stat_prefix: "istio_dry_run_allow_",
    });
    const { waypoint } = await start([
      { ...shop, httpFilters: [http] },
      { ...bytes, networkFilters: [network] },
    ]);
    const other = identity("other");
    expect((await ask(await tunnel(waypoint, `${vip}:80`))).status).toBe(200);
    const denied = await ask(await tunnel(waypoint, `${vip}:80`, other));
    expect([denied.status, denied.body]).toEqual([403, "RBAC: access denied"]);
    expect((await ask(await tunnel(waypoint, `${vip}:81`))).status).toBe(200);
    const refused = (await tunnel(waypoint, `${vip}:81`, other)) as unknown as Socket;
    refused.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    expect(["end", "reset"]).toContain(await endingOf(refused));
  });

  test("takes tunnels to a service by its name where the configuration looks at names, and only there", async () => {
    const byName: IstioService = { ...bytes, networkFilters: [originalAddress(`${vip}:81`)] };
    const named = mainInternal([byName], [], { filter_chain_matcher: byNameFirst([byName]) });
    const { waypoint, xds } = await start([byName], named, (prepared) => {
      prepared.putAddress("shop/shop.example", { type: { case: "service", value: serviceOf(byName) } });
    });
    await expect(tunnel(waypoint, "other.example:81")).rejects.toThrow("400");
    expect((await ask(await tunnel(waypoint, "shop.example:81"))).status).toBe(200);
    expect((await ask(await tunnel(waypoint, `${vip}:81`))).status).toBe(200);
    xds.put("listener", mainInternal([bytes]));
    await until(() => waypoint.listeners.forTunnels?.listener.takesNames === false, "names are looked at no more");
    await expect(tunnel(waypoint, "shop.example:81")).rejects.toThrow("400");
  });

  test("serves on where loggers or tracers are of kinds that it does not know, and names them", async () => {
    const unknown = (name: string) =>
      typed(name, "xds.type.v3.TypedStruct", { type_url: "type.googleapis.com/example.Unknown" });
    const logger = unknown("envoy.access_loggers.open_telemetry");
    const listener = mainInternal([shop], [], { access_log: [logger] });
    const chains = listener["filter_chains"] as { filters: { typed_config: JsonObject }[] }[];
    Object.assign(chains[0]?.filters[0]?.typed_config ?? {}, {
      access_log: [logger],
      tracing: { provider: unknown("envoy.tracers.skywalking") },
    });
    const { waypoint, xds } = await start([shop], listener);
    expect((await ask(await tunnel(waypoint, `${vip}:80`))).status).toBe(200);
    expect(xds.refusal("listener")).toBeUndefined();
    expect(JSON.parse(await fetchText(waypoint, "/config_dump"))).toMatchObject({
      listeners: [
        {
          skipped_filters: ['tracer "envoy.tracers.skywalking"', 'access logger "envoy.access_loggers.open_telemetry"'],
        },
      ],
    });
  });

  test("leaves filters alone that only count", async () => {
    const type = "envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy";
    const counting = (more: JsonObject): IstioService => ({
      ...bytes,
      networkFilters: [typed("envoy.filters.network.mongo_proxy", type, { stat_prefix: "mongo", ...more })],
    });
    const { waypoint, xds } = await start([counting({})]);
    expect((await ask(await tunnel(waypoint, `${vip}:81`))).status).toBe(200);
    xds.put("listener", mainInternal([counting({ access_log: "/dev/stdout" })]));
    await until(() => xds.refusal("listener") !== undefined, "it is refused");
    expect(xds.refusal("listener")).toContain("access_log: is not supported");
  });

  test("lets in who is of a trust domain that the outer listener names, and nobody else", async () => {
    const { waypoint, xds } = await start([shop]);
    const migrated = identity("frontend", "old.example");
    await expect(tunnel(waypoint, `${vip}:80`, migrated)).rejects.toThrow("Cannot set up HTTP/2");
    xds.put("listener", connectTerminate([], ["cluster.local", "old.example"]));
    await until(() => waypoint.listeners.tunnelEntry?.expects(migrated) === true, "the alias is in force");
    expect((await ask(await tunnel(waypoint, `${vip}:80`, migrated))).status).toBe(200);
    // One that is connected already learns it with its next connection.
    xds.put("listener", connectTerminate([], ["old.example"]));
    await until(() => waypoint.listeners.tunnelEntry?.expects(client) === false, "our own name is no longer named");
    await expect(tunnel(waypoint, `${vip}:80`)).rejects.toThrow("401");
  });

  test("answers CONNECT itself where a policy stands before it", async () => {
    const { waypoint, xds, lines } = await start([shop]);
    const policy = typed("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", {
      rules: {
        action: "DENY",
        policies: {
          p: {
            permissions: [{ any: true }],
            principals: [{ authenticated: { principal_name: { exact: client } } }],
          },
        },
      },
    });
    const log = {
      name: "envoy.access_loggers.file",
      filter: { status_code_filter: { comparison: { op: "GE", value: { default_value: 400, runtime_key: "unset" } } } },
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path: "/dev/stdout",
        log_format: {
          text_format_source: {
            inline_string: "%REQ(:METHOD)% %REQ(:AUTHORITY)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS%\n",
          },
        },
      },
    };
    xds.put("listener", connectTerminate([policy], undefined, [log]));
    const own = { ...connectionFrom(client), destination: { ip: parseIp(vip), port: 80 } };
    await until(() => waypoint.listeners.tunnelEntry?.refusal(own) !== undefined, "the policy is in force");
    await expect(tunnel(waypoint, `${vip}:80`)).rejects.toThrow("403");
    expect((await ask(await tunnel(waypoint, `${vip}:80`, identity("other")))).status).toBe(200);
    expect(lines.filter((line) => line.startsWith("CONNECT"))).toEqual([
      `CONNECT ${vip}:80 403 rbac_access_denied_matched_policy[p]\n`,
    ]);
  });

  test("opens TLS inside of the tunnel with secrets that come on the control plane's stream", async () => {
    const service: IstioService = { ...shop, port: 443, protocol: "tcp" };
    const others = await TestCa.create("Others");
    const own = await others.issue(identity("egress", "others"));
    const theirs = await others.issue(identity("server", "others"), { dnsNames: ["api.example"] });
    const seen: string[] = [];
    const tls = createTlsServer(
      { cert: theirs.chainPem, key: theirs.keyPem, ca: [...theirs.rootsPem], requestCert: true },
      (socket) => {
        seen.push(socket.getPeerX509Certificate()?.subjectAltName ?? "nobody");
        socket.end(`to ${String(socket.servername)}`);
      },
    );
    tls.listen(0, "127.0.0.1");
    await once(tls, "listening");
    scope.defer(() => void tls.close());
    const name = clusterName(service, "tcp");
    const ads = { ads: {}, resource_api_version: "V3" };
    const inner = typed("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", {
      sni: "api.example",
      common_tls_context: {
        tls_params: { tls_minimum_protocol_version: "TLSv1_2", tls_maximum_protocol_version: "TLSv1_3" },
        tls_certificate_sds_secret_configs: [{ name: "kubernetes://api", sds_config: ads }],
        combined_validation_context: {
          default_validation_context: { match_subject_alt_names: [{ exact: "api.example" }] },
          validation_context_sds_secret_config: { name: "kubernetes://api-cacert", sds_config: ads },
        },
      },
    });
    const { waypoint, workload, xds } = await start([service], mainInternal([service]), (prepared) => {
      prepared.put("cluster", serviceCluster(name, {}, inner));
      prepared.put("endpoints", tunnelledEndpoints(name, `127.0.0.1:${(tls.address() as AddressInfo).port}`));
    });
    const client = await tunnel(waypoint, `${vip}:443`);
    // The connection waits for what TLS needs.
    xds.put("secret", {
      name: "kubernetes://api",
      tls_certificate: {
        certificate_chain: { inline_bytes: base64(own.chainPem) },
        private_key: { inline_bytes: base64(own.keyPem) },
      },
    });
    xds.put("secret", {
      name: "kubernetes://api-cacert",
      validation_context: { trusted_ca: { inline_bytes: base64(theirs.rootsPem.join("")) } },
    });
    expect((await readAll(client as unknown as Socket)).toString()).toBe("to api.example");
    expect(seen).toEqual([`URI:${identity("egress", "others")}`]);
    expect(workload.tunnels).toHaveLength(1);
    xds.put("secret", { name: "kubernetes://api", tls_certificate: { certificate_chain: { inline_string: "x" } } });
    await until(() => xds.refusal("secret") !== undefined, "it is refused");
    expect(xds.refusal("secret")).toContain("tls_certificate.private_key: is missing");
  });

  test("speaks mutual TLS of the mesh with an endpoint that takes no tunnels, with its own certificate", async () => {
    const theirs = await ca.issue(server);
    const seen: string[] = [];
    const sidecar = createTlsServer(
      {
        cert: theirs.chainPem,
        key: theirs.keyPem,
        ca: [...theirs.rootsPem],
        requestCert: true,
        ALPNProtocols: ["istio"],
      },
      (socket) => {
        seen.push(socket.getPeerX509Certificate()?.subjectAltName ?? "nobody");
        socket.end("from a sidecar");
      },
    );
    sidecar.listen(0, "127.0.0.1");
    await once(sidecar, "listening");
    scope.defer(() => void sidecar.close());
    const name = clusterName(bytes, "tcp");
    const { port } = sidecar.address() as AddressInfo;
    const endpoint = {
      endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } } },
      metadata: { filter_metadata: { "envoy.transport_socket_match": { tlsMode: "istio" } } },
    };
    const { waypoint } = await start([bytes], mainInternal([bytes]), (xds) => {
      xds.put("cluster", { ...serviceCluster(name), ...meshTransports([server]) });
      xds.put("endpoints", { cluster_name: name, endpoints: [{ lb_endpoints: [endpoint] }] });
    });
    const client = await tunnel(waypoint, `${vip}:81`);
    expect((await readAll(client as unknown as Socket)).toString()).toBe("from a sidecar");
    expect(seen).toEqual([`URI:${waypointIdentity}`]);
  });

  test("shows what is in force in the sections that istioctl asks for, keys left out", async () => {
    const { waypoint, workload } = await start([shop]);
    await ask(await tunnel(waypoint, `${vip}:80`));
    const dump = JSON.parse(await fetchText(waypoint, "/config_dump")) as { configs: JsonObject[] };
    const section = (name: string) =>
      dump.configs.find((config) => config["@type"] === `type.googleapis.com/envoy.admin.v3.${name}`);
    expect(section("BootstrapConfigDump")).toMatchObject({
      bootstrap: { node: { id: "waypoint~127.0.0.1~waypoint-0.shop~shop.svc.cluster.local" } },
    });
    expect(section("RoutesConfigDump")?.["static_route_configs"]).toContainEqual(
      expect.objectContaining({ route_config: expect.objectContaining({ name: "test" }) as unknown }),
    );
    expect(section("SecretsConfigDump")).toMatchObject({
      dynamic_active_secrets: [
        {
          name: "default",
          secret: {
            tls_certificate: {
              certificate_chain: { inline_bytes: expect.stringMatching(/^LS0t/) as unknown },
              private_key: { inline_bytes: base64("[redacted]") },
            },
          },
        },
        { name: "ROOTCA" },
      ],
    });
    for (const name of ["ClustersConfigDump", "EndpointsConfigDump", "ListenersConfigDump"]) {
      expect(section(name)).toBeDefined();
    }
    expect(JSON.parse(await fetchText(waypoint, "/clusters?format=json"))).toMatchObject({
      cluster_statuses: expect.arrayContaining([
        expect.objectContaining({
          name: clusterName(shop, "http"),
          host_statuses: [
            expect.objectContaining({
              address: {
                envoy_internal_address: { server_listener_name: "connect_originate", endpoint_id: workload.address },
              },
              health_status: { eds_health_status: "HEALTHY" },
            }),
          ],
        }),
      ]) as unknown,
    });
    expect(await fetchText(waypoint, "/clusters")).toContain(`${clusterName(shop, "http")}::default_priority::`);
  });

  test("logs connections that no chain takes, where the listener asks for it", async () => {
    const log = {
      name: "envoy.access_loggers.file",
      filter: { response_flag_filter: { flags: ["NR"] } },
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path: "/dev/stdout",
        log_format: { text_format_source: { inline_string: "%RESPONSE_FLAGS% %DOWNSTREAM_LOCAL_ADDRESS%\n" } },
      },
    };
    const { waypoint, lines } = await start([shop], mainInternal([shop], [], { access_log: [log] }));
    (await tunnel(waypoint, `${vip}:99`)).write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    await until(() => lines.includes(`NR ${vip}:99\n`), "the line is there");
    await ask(await tunnel(waypoint, `${vip}:80`));
    expect(lines.filter((line) => line.startsWith("NR"))).toHaveLength(1);
  });

  test.each<[string, JsonObject, string]>([
    [
      "a filter that is not known before CONNECT",
      connectTerminate([typed("x", "envoy.extensions.filters.http.cors.v3.Cors")]),
      'http_filters[0] "x": no filter of type "envoy.extensions.filters.http.cors.v3.Cors" is known for requests to CONNECT',
    ],
    [
      "filter state that nothing here has",
      connectTerminate([
        typed("x", "envoy.extensions.filters.http.set_filter_state.v3.Config", {
          on_request_headers: [
            { object_key: "a", format_string: { text_format_source: { inline_string: "%REQ(a)%" } } },
          ],
        }),
      ]),
      'http_filters[0] "x".on_request_headers[0].object_key: "a" is not known here',
    ],
  ])("refuses %s, says so, and serves on as before", async (_what, listener, why) => {
    const { waypoint, xds } = await start([shop]);
    xds.put("listener", listener);
    await until(() => xds.refusal("listener") !== undefined, "it is refused");
    expect(xds.refusal("listener")).toContain(why);
    expect((await ask(await tunnel(waypoint, `${vip}:80`))).status).toBe(200);
  });
});
