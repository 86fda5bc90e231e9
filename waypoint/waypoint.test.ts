import { afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { createServer, request as httpRequest, type IncomingHttpHeaders, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { JsonObject } from "@bufbuild/protobuf";
import { systemClock } from "#shared/clock/clock.ts";
import { HboneConnection } from "#shared/hbone/hbone-client.ts";
import { windowSizesDefault } from "#shared/hbone/http2-settings.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import {
  connectLoopback,
  endingOf,
  listenLoopback,
  openDoor,
  readAll,
  refusingPort,
  until,
} from "#shared/testing/loopback.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import { TestControlPlane } from "./testing/control-plane.ts";
import {
  edsCluster,
  endpoints,
  httpFilter,
  inspectors,
  listener,
  router,
  routeTo,
  tcpFilter,
  typed,
} from "./testing/resources.ts";
import { startTestWaypoint, type FixtureOptions } from "./testing/waypoint-fixture.ts";
import type { Waypoint } from "./waypoint.ts";

const client = spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount: "frontend" });
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
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Answers with what it saw. */
async function startOrigin(name = "origin"): Promise<{ readonly port: number; readonly seen: Seen[] }> {
  const seen: Seen[] = [];
  const server: Server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks).toString();
      seen.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers, body });
      response.setHeader("x-origin", name);
      response.end(`${name} got ${body.length}`);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  scope.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, seen };
}

async function startControlPlane(): Promise<TestControlPlane> {
  return scope.use(await TestControlPlane.start());
}

async function start(xds: TestControlPlane, options: Partial<FixtureOptions> = {}): Promise<Waypoint> {
  const waypoint = scope.use(await startTestWaypoint({ xdsAddress: xds.address, ...options }));
  await waypoint.ready;
  return waypoint;
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** One request over a connection that stands already, or a new one to a port. */
async function ask(
  to: number | Duplex,
  path = "/",
  options: { readonly method?: string; readonly headers?: Record<string, string>; readonly body?: string } = {},
): Promise<Answer> {
  const request = httpRequest({
    ...(typeof to === "number" ? { host: "127.0.0.1", port: to, agent: false } : { createConnection: () => to }),
    path,
    ...options,
    headers: { host: "shop.example", ...options.headers },
  });
  request.end(options.body);
  const [response] = (await once(request, "response")) as [import("node:http").IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() };
}

/** Asks until it is answered so, for a minute at most. */
async function untilAnswered(port: number, body: string): Promise<string> {
  const startedMs = performance.now();
  let last = "";
  while (last !== body && performance.now() - startedMs < 60_000) ({ body: last } = await ask(port));
  return last;
}

const portOf = (waypoint: Waypoint, name: string): number => waypoint.listeners.portsOf(name)[0] ?? 0;

async function tunnel(waypoint: Waypoint, authority: string) {
  const certificate = await ca.issue(client);
  const connection = await HboneConnection.open(await connectLoopback(waypoint.ports.hbone), {
    certificate,
    expected: [spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount: "waypoint" })],
    clock: systemClock,
    windows: windowSizesDefault,
    maxStreams: 100,
  });
  scope.defer(() => connection.destroy());
  const { stream } = await connection.connect({ authority, baggage: "", forwarded: "", traceparent: "" });
  return stream;
}

const tunnels = { certificates: { fetch: (identity: Parameters<TestCa["issue"]>[0]) => ca.issue(identity) } };

describe("a waypoint", () => {
  test("serves HTTP on a listener of its own: request and answer, edited as Envoy does", async () => {
    const xds = await startControlPlane();
    const origin = await startOrigin();
    xds.put("cluster", edsCluster("a"));
    xds.put("endpoints", endpoints("a", origin.port));
    xds.put("listener", listener("plain", [{ name: "all", filters: [httpFilter([routeTo("a")])] }]));
    const waypoint = await start(xds);
    const answer = await ask(portOf(waypoint, "plain"), "/x/../y?z=1", {
      method: "POST",
      body: "hello",
      headers: { "x-envoy-max-retries": "9", "x-forwarded-client-cert": "By=me", "content-type": "text/plain" },
    });
    expect([answer.status, answer.body, answer.headers["x-origin"], answer.headers["server"]]).toEqual([
      200,
      "origin got 5",
      "origin",
      "istio-envoy",
    ]);
    const [seen] = origin.seen;
    expect([seen?.method, seen?.url, seen?.body, seen?.headers.host]).toEqual([
      "POST",
      "/y?z=1",
      "hello",
      "shop.example",
    ]);
    expect(seen?.headers).toMatchObject({ "x-forwarded-proto": "http", "x-request-id": expect.any(String) as unknown });
    expect(seen?.headers).not.toHaveProperty("x-envoy-max-retries");
    expect(seen?.headers).not.toHaveProperty("x-forwarded-client-cert");
  });

  test("serves tunnels: destination by CONNECT, identity by certificate, HTTP and TCP told apart", async () => {
    const xds = await startControlPlane();
    const origin = await startOrigin();
    const raw = scope.use(await listenLoopback((socket) => socket.end("hello from tcp")));
    for (const [name, port] of [
      ["http", origin.port],
      ["tcp", raw.port],
    ] as const) {
      xds.put("cluster", edsCluster(name));
      xds.put("endpoints", endpoints(name, port));
    }
    const vip = { prefix_ranges: [{ address_prefix: "10.1.0.1", prefix_len: 32 }] };
    const chains = [
      {
        name: "inbound-vip|80|http|shop",
        filter_chain_match: { ...vip, destination_port: 80, application_protocols: ["http/1.0", "http/1.1", "h2c"] },
        filters: [httpFilter([routeTo("http")])],
      },
      {
        name: "inbound-vip|80|tcp|shop",
        filter_chain_match: { ...vip, destination_port: 80 },
        filters: [tcpFilter("tcp")],
      },
      {
        name: "inbound-vip|81|tcp|shop",
        filter_chain_match: { ...vip, destination_port: 81 },
        filters: [tcpFilter("tcp")],
      },
    ];
    const only80 = { not_match: { destination_port_range: { start: 80, end: 81 } } };
    xds.put(
      "listener",
      listener("main_internal", chains, {
        listener_filters: [inspectors.originalDestination, { ...inspectors.http, filter_disabled: only80 }],
      }),
    );
    const waypoint = await start(xds, tunnels);

    const viaHttp = await ask(await tunnel(waypoint, "10.1.0.1:80"));
    expect([viaHttp.status, viaHttp.body]).toEqual([200, "origin got 0"]);
    const sniffed = await tunnel(waypoint, "10.1.0.1:80");
    sniffed.write("*1\r\n$4\r\nPING\r\n");
    expect((await readAll(sniffed as unknown as Socket)).toString()).toBe("hello from tcp");
    const serverFirst = await tunnel(waypoint, "10.1.0.1:81");
    expect((await readAll(serverFirst as unknown as Socket)).toString()).toBe("hello from tcp");
    const nobody = await tunnel(waypoint, "10.1.0.1:82");
    expect(["end", "reset"]).toContain(await endingOf(nobody as unknown as Socket));
    await expect(tunnel(waypoint, "shop.example:80")).rejects.toThrow("400");
  });

  test("keeps the last good configuration, and says all that is wrong with a bad one", async () => {
    const xds = await startControlPlane();
    const origin = await startOrigin();
    xds.put("cluster", edsCluster("a"));
    xds.put("endpoints", endpoints("a", origin.port));
    xds.put("listener", listener("plain", [{ name: "all", filters: [httpFilter([routeTo("a")])] }]));
    const waypoint = await start(xds);
    const port = portOf(waypoint, "plain");
    const unknown = {
      name: "mystery",
      typed_config: { "@type": "type.googleapis.com/xds.type.v3.TypedStruct", type_url: "x/unknown.Filter" },
    };
    const bad = httpFilter([routeTo("a")], { http_filters: [unknown, router], via: "1.1 me", xff_num_trusted_hops: 2 });
    xds.put("listener", listener("plain", [{ name: "all", filters: [bad] }]));
    await until(() => xds.refusal("listener") !== undefined, "the listener is refused");
    expect(xds.refusal("listener")).toContain('no filter of type "unknown.Filter" is known here');
    expect(xds.refusal("listener")).toContain("xff_num_trusted_hops: is set, but this proxy does not support it");
    expect((await ask(port)).status).toBe(200);

    const optional = httpFilter([routeTo("a")], { http_filters: [{ ...unknown, is_optional: true }, router] });
    xds.put("listener", listener("plain", [{ name: "all", filters: [optional] }]));
    await until(() => xds.refusal("listener") === undefined, "the listener is accepted");
    expect((await ask(port)).status).toBe(200);
    const dump = await ask(waypoint.ports.admin, "/config_dump");
    expect(JSON.parse(dump.body)).toMatchObject({ listeners: [{ name: "plain", skipped_filters: ["mystery"] }] });
  });

  test("a chain that is wrong takes no other with it, and gives its connections to no other", async () => {
    const xds = await startControlPlane();
    const [first, second] = [await startOrigin("first"), await startOrigin("second")];
    for (const [name, { port }] of Object.entries({ a: first, b: second })) {
      xds.put("cluster", edsCluster(name));
      xds.put("endpoints", endpoints(name, port));
    }
    const unknown = typed("mystery", "xds.type.v3.TypedStruct", { type_url: "x/unknown.Filter" });
    const good = httpFilter([routeTo("a")]);
    const bad = httpFilter([routeTo("a")], { http_filters: [unknown, router] });
    const chains = (http: JsonObject, tcpCluster: string) =>
      listener(
        "plain",
        [
          { name: "http", filter_chain_match: { application_protocols: ["http/1.1"] }, filters: [http] },
          { name: "tcp", filters: [tcpFilter(tcpCluster)] },
        ],
        { listener_filters: [inspectors.http] },
      );
    // HTTP/1.0 is no business of the first chain: whoever answers it tells where the second one leads.
    const overTcp = async (port: number) => {
      const socket = await connectLoopback(port);
      socket.write("GET / HTTP/1.0\r\nhost: a\r\nconnection: close\r\n\r\n");
      return /x-origin: (\w+)/.exec((await readAll(socket)).toString())?.[1];
    };
    xds.put("listener", chains(bad, "a"));
    const waypoint = await start(xds);
    const port = portOf(waypoint, "plain");
    await until(() => xds.refusal("listener") !== undefined, "the listener is refused");
    expect(xds.refusal("listener")).toContain('filter_chains[0] "http".filters[0]');
    expect(await overTcp(port)).toBe("first");
    await expect(ask(port)).rejects.toThrow(/ECONNRESET|hang up/);

    xds.put("listener", chains(good, "a"));
    await until(() => xds.refusal("listener") === undefined, "the listener is accepted");
    expect((await ask(port)).status).toBe(200);

    xds.put("listener", chains(bad, "b"));
    await until(() => xds.refusal("listener") !== undefined, "the listener is refused");
    expect((await ask(port)).status).toBe(200);
    expect(await overTcp(port)).toBe("second");
  });

  test("a connection that stays open sees new routes at once; one whose listener goes is ended", async () => {
    const xds = await startControlPlane();
    const [first, second] = [await startOrigin("first"), await startOrigin("second")];
    for (const [name, { port }] of [
      ["a", first],
      ["b", second],
    ] as const) {
      xds.put("cluster", edsCluster(name));
      xds.put("endpoints", endpoints(name, port));
    }
    xds.put("listener", listener("plain", [{ name: "all", filters: [httpFilter([routeTo("a")])] }]));
    const waypoint = await start(xds, { drainSeconds: 1 });
    const socket = await connectLoopback(portOf(waypoint, "plain"));
    const askOver = async () => {
      socket.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
      let answer = "";
      while (!answer.endsWith("got 0")) answer += String((await once(socket, "data"))[0]);
      return /x-origin: (\w+)/.exec(answer)?.[1];
    };
    expect(await askOver()).toBe("first");
    xds.put("listener", listener("plain", [{ name: "all", filters: [httpFilter([routeTo("b")])] }]));
    while ((await askOver()) === "first") expect(xds.refusal("listener")).toBeUndefined();
    expect(await askOver()).toBe("second");
    xds.remove("listener", "plain");
    expect(await endingOf(socket)).toBe("end");
    await expect(ask(portOf(waypoint, "plain"))).rejects.toThrow("ECONNREFUSED");
  });

  test("is ready when configuration is there, and drains: an exchange under way is finished", async () => {
    const xds = await startControlPlane();
    const held = Promise.withResolvers<import("node:http").ServerResponse>();
    const origin = createServer((_request, response) => held.resolve(response));
    origin.listen(0, "127.0.0.1");
    await once(origin, "listening");
    scope.defer(() => void origin.close());
    xds.put("cluster", edsCluster("a"));
    xds.put("endpoints", endpoints("a", (origin.address() as AddressInfo).port));
    xds.put("listener", listener("plain", [{ name: "all", filters: [httpFilter([routeTo("a")])] }]));
    const waypoint = await start(xds);
    expect((await ask(waypoint.ports.readiness, "/healthz/ready")).status).toBe(200);
    const asking = ask(portOf(waypoint, "plain"));
    const response = await held.promise;
    const drained = waypoint.drain();
    expect((await ask(waypoint.ports.readiness, "/healthz/ready")).status).toBe(500);
    response.end("late");
    expect((await asking).body).toBe("late");
    await drained;
    expect(waypoint.connections).toBe(0);
  });

  test("goes on with what it knows while the control plane is away, and takes the news when it is back", async () => {
    const door = scope.use(await openDoor());
    const first = await TestControlPlane.start();
    door.leadTo(first.port);
    const [before, after] = [await startOrigin("before"), await startOrigin("after")];
    const fill = (xds: TestControlPlane, port: number) => {
      xds.put("cluster", edsCluster("a"));
      xds.put("endpoints", endpoints("a", port));
      xds.put("listener", listener("plain", [{ name: "all", filters: [httpFilter([routeTo("a")])] }]));
    };
    fill(first, before.port);
    const waypoint = await start(first, { xdsAddress: `http://127.0.0.1:${door.port}` });
    const port = portOf(waypoint, "plain");
    // Requests wait for endpoints: once one is answered, everything is known.
    expect((await ask(port)).body).toBe("before got 0");
    await first[Symbol.asyncDispose]();
    expect((await ask(port)).body).toBe("before got 0");
    const second = await startControlPlane();
    fill(second, after.port);
    door.leadTo(second.port);
    await expect(untilAnswered(port, "after got 0")).resolves.toBe("after got 0");
  });

  test("TCP: a connection that a new policy forbids is ended, and later ones are refused", async () => {
    const xds = await startControlPlane();
    const echo = scope.use(await listenLoopback((socket) => socket.pipe(socket)));
    xds.put("cluster", edsCluster("tcp"));
    xds.put("endpoints", endpoints("tcp", echo.port));
    const chain = (...before: JsonObject[]) =>
      listener("plain", [{ name: "all", filters: [...before, tcpFilter("tcp")] }]);
    xds.put("listener", chain());
    const waypoint = await start(xds);
    const socket = await connectLoopback(portOf(waypoint, "plain"));
    socket.write("hello");
    const [echoed] = (await once(socket, "data")) as [Buffer];
    expect(echoed.toString()).toBe("hello");
    const deny = typed("envoy.filters.network.rbac", "envoy.extensions.filters.network.rbac.v3.RBAC", {
      stat_prefix: "test",
      rules: { action: "DENY", policies: { all: { permissions: [{ any: true }], principals: [{ any: true }] } } },
    });
    xds.put("listener", chain(deny));
    expect(await endingOf(socket)).toBe("reset");
    expect(["end", "reset"]).toContain(await endingOf(await connectLoopback(portOf(waypoint, "plain"))));
  });

  test("TCP: tries another endpoint where it is told to, and closes where there is none", async () => {
    const xds = await startControlPlane();
    const raw = scope.use(await listenLoopback((socket) => socket.end("here")));
    const gone = scope.use(await refusingPort());
    xds.put("cluster", edsCluster("tcp", { lb_policy: "ROUND_ROBIN" }));
    xds.put("endpoints", endpoints("tcp", gone.port, raw.port));
    xds.put("cluster", edsCluster("empty"));
    xds.put("endpoints", endpoints("empty"));
    xds.put("listener", listener("some", [{ name: "all", filters: [tcpFilter("tcp", { max_connect_attempts: 2 })] }]));
    xds.put("listener", listener("none", [{ name: "all", filters: [tcpFilter("empty")] }]));
    const waypoint = await start(xds);
    for (let count = 0; count < 4; count++) {
      expect((await readAll(await connectLoopback(portOf(waypoint, "some")))).toString()).toBe("here");
    }
    expect(["end", "reset"]).toContain(await endingOf(await connectLoopback(portOf(waypoint, "none"))));
  });
});
