import { afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { Server, ServerCredentials, status } from "@grpc/grpc-js";
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { systemClock } from "#shared/clock/clock.ts";
import { parseRootSource } from "#shared/grpc/control-plane-channel.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
} from "#shared/proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import { TestCa } from "#shared/testing/test-ca.ts";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import { DeltaClient, type ResourceHandler, type XdsEvent } from "./delta-client.ts";
import { nextAttempt } from "./retry.ts";
import { ztunnelNode } from "./node.ts";
import { deltaMethod, typeUrls } from "./type-urls.ts";

type Response = MessageInitShape<typeof DeltaDiscoveryResponseSchema>;

/** One stream as the control plane sees it: the test reads requests and writes responses. */
class ServerStream {
  readonly call: AnyCall;
  readonly #arrived: DeltaDiscoveryRequest[] = [];
  readonly #waiting: ((request: DeltaDiscoveryRequest) => void)[] = [];

  constructor(call: AnyCall) {
    this.call = call;
    call.on("data", (request: DeltaDiscoveryRequest) => {
      const waiter = this.#waiting.shift();
      if (waiter === undefined) this.#arrived.push(request);
      else waiter(request);
    });
    call.on("error", () => {});
  }

  request(): Promise<DeltaDiscoveryRequest> {
    const arrived = this.#arrived.shift();
    if (arrived !== undefined) return Promise.resolve(arrived);
    return new Promise((resolve) => void this.#waiting.push(resolve));
  }

  send(response: Response): void {
    this.call.write(create(DeltaDiscoveryResponseSchema, response));
  }

  fail(code: status, details: string): void {
    this.call.emit("error", { code, details });
  }
}

type AnyCall = import("@grpc/grpc-js").ServerDuplexStream<DeltaDiscoveryRequest, unknown>;

let certificate: WorkloadCertificate;
beforeAll(async () => {
  const ca = await TestCa.create();
  const identity = spiffeId({ trustDomain: "cluster.local", namespace: "istio-system", serviceAccount: "istiod" });
  certificate = await ca.issue(identity, { dnsNames: ["localhost", "istiod.istio-system.svc"] });
});

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

/** A control plane of which the test plays the part. */
async function startServer() {
  const server = new Server();
  const arrived: ServerStream[] = [];
  const waiting: ((stream: ServerStream) => void)[] = [];
  const method = {
    path: deltaMethod,
    requestStream: true as const,
    responseStream: true as const,
    requestSerialize: () => Buffer.alloc(0),
    requestDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryRequestSchema, bytes),
    responseSerialize: (message: DeltaDiscoveryResponse) =>
      Buffer.from(toBinary(DeltaDiscoveryResponseSchema, message)),
    responseDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, bytes),
  };
  server.addService(
    { delta: method },
    {
      delta: ((call: AnyCall) => {
        const stream = new ServerStream(call);
        const waiter = waiting.shift();
        if (waiter === undefined) arrived.push(stream);
        else waiter(stream);
      }) as never,
    },
  );
  const pair = { private_key: Buffer.from(certificate.keyPem), cert_chain: Buffer.from(certificate.chainPem) };
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createSsl(null, [pair]), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  open.push(() => server.forceShutdown());
  const stream = (): Promise<ServerStream> => {
    const next = arrived.shift();
    return next === undefined ? new Promise((resolve) => void waiting.push(resolve)) : Promise.resolve(next);
  };
  return { port, stream };
}

interface ClientSetUp {
  readonly port: number;
  readonly address?: ResourceHandler;
  readonly authorization?: ResourceHandler;
  readonly onDemand?: boolean;
  readonly roots?: string;
  readonly demandBound?: number;
}

const acceptAll: ResourceHandler = () => [];

function startClient({ port, roots, demandBound, ...more }: ClientSetUp) {
  const { address = acceptAll, authorization = acceptAll, onDemand = false } = more;
  const events: XdsEvent[] = [];
  const { node } = ztunnelNode({ instanceIp: "10.0.0.1", podName: "ztunnel-1", podNamespace: "istio-system" });
  const client = new DeltaClient({
    channel: {
      endpoint: { host: "127.0.0.1", port },
      roots: parseRootSource(roots ?? certificate.rootsPem.join("")),
      alternativeHostname: "istiod.istio-system.svc",
    },
    call: { token: { from: "literal", token: "secret" }, clusterId: "Kubernetes", headers: { "X-Extra": "yes" } },
    node,
    subscriptions: [
      { typeUrl: typeUrls.address, apply: address, onDemand },
      { typeUrl: typeUrls.authorization, apply: authorization },
    ],
    clock: systemClock,
    log: silentLogger,
    onEvent: (event) => void events.push(event),
    ...(demandBound !== undefined && { demandBound }),
  });
  const abort = new AbortController();
  const ended = client.run(abort.signal);
  open.push(() => abort.abort());
  return { client, events, abort, ended };
}

const resource = (name: string, version = "1", typeUrl: string = typeUrls.address) => ({
  name,
  version,
  resource: { typeUrl, value: new TextEncoder().encode(name) },
});

describe("DeltaClient", () => {
  test("asks for both types in order, with its node, token and headers, and acknowledges", async () => {
    const { port, stream } = await startServer();
    startClient({ port });
    const peer = await stream();
    const [first, second] = [await peer.request(), await peer.request()];
    expect([first.typeUrl, second.typeUrl]).toEqual([typeUrls.address, typeUrls.authorization]);
    expect(first.node?.id).toBe("ztunnel~10.0.0.1~ztunnel-1.istio-system~istio-system.svc.cluster.local");
    expect(first.node?.metadata).toMatchObject({ NAME: "ztunnel-1", NAMESPACE: "istio-system" });
    expect([first.resourceNamesSubscribe, first.resourceNamesUnsubscribe]).toEqual([[], []]);
    expect(first.initialResourceVersions).toEqual({});
    const { metadata } = peer.call;
    expect(["authorization", "clusterid", "x-extra"].map((name) => metadata.get(name)[0])).toEqual([
      "Bearer secret",
      "Kubernetes",
      "yes",
    ]);
    peer.send({ typeUrl: typeUrls.address, nonce: "n1", resources: [resource("a")] });
    const ack = await peer.request();
    expect(ack).toMatchObject({ typeUrl: typeUrls.address, responseNonce: "n1" });
    expect([ack.errorDetail, ack.node]).toEqual([undefined, undefined]);
  });

  test("is ready once both types have arrived, and the state is applied by then", async () => {
    const { port, stream } = await startServer();
    const applied: string[] = [];
    const { client } = startClient({ port, address: (all) => (applied.push(...all.map(({ name }) => name)), []) });
    const peer = await stream();
    let isReady = false;
    void client.ready.then(() => (isReady = true));
    peer.send({ typeUrl: typeUrls.address, nonce: "n1", resources: [resource("a")] });
    for (let seen = 0; seen < 3; seen++) await peer.request();
    expect(isReady).toBe(false);
    peer.send({ typeUrl: typeUrls.authorization, nonce: "n2" });
    await client.ready;
    expect(applied).toEqual(["a"]);
  });

  test("refuses in part: the NACK names the bad one, and only the good one is claimed after a reconnect", async () => {
    const { port, stream } = await startServer();
    const { client } = startClient({ port, address: () => [{ name: "bad", reason: "no type" }] });
    const first = await stream();
    await first.request();
    await first.request();
    first.send({ typeUrl: typeUrls.address, nonce: "n1", resources: [resource("good", "7"), resource("bad", "8")] });
    const nack = await first.request();
    expect(nack.responseNonce).toBe("n1");
    expect(nack.errorDetail?.message).toBe("bad: no type");
    first.send({ typeUrl: typeUrls.authorization, nonce: "n2" });
    await first.request();
    first.fail(status.UNAVAILABLE, "transport is closing");
    const second = await stream();
    expect((await second.request()).initialResourceVersions).toEqual({ good: "7" });
    // A refused first response does not make it ready.
    let isReady = false;
    void client.ready.then(() => (isReady = true));
    await second.request();
    expect(isReady).toBe(false);
  });

  test("refuses a resource of another type and survives a handler that throws", async () => {
    const { port, stream } = await startServer();
    startClient({
      port,
      authorization: () => {
        throw new Error("broken");
      },
    });
    const peer = await stream();
    await peer.request();
    await peer.request();
    peer.send({ typeUrl: typeUrls.address, nonce: "n1", resources: [resource("a", "1", "type.googleapis.com/other")] });
    expect((await peer.request()).errorDetail?.message).toBe('a: Cannot use type "type.googleapis.com/other" here');
    peer.send({
      typeUrl: typeUrls.authorization,
      nonce: "n2",
      resources: [resource("p", "", typeUrls.authorization)],
    });
    expect((await peer.request()).errorDetail?.message).toBe("p: broken");
    peer.send({ typeUrl: "type.googleapis.com/unknown", nonce: "n3" });
    expect(await peer.request()).toMatchObject({ typeUrl: "type.googleapis.com/unknown", responseNonce: "n3" });
  });

  test("keeps its state over a broken stream and applies a removal on the next", async () => {
    const { port, stream } = await startServer();
    const state = new Set<string>();
    const { events } = startClient({
      port,
      address: (updated, removed) => {
        for (const { name } of updated) state.add(name);
        for (const name of removed) state.delete(name);
        return [];
      },
    });
    const first = await stream();
    first.send({ typeUrl: typeUrls.address, nonce: "n1", resources: [resource("a"), resource("b")] });
    for (let seen = 0; seen < 3; seen++) await first.request();
    first.call.end();
    const second = await stream();
    expect([...state]).toEqual(["a", "b"]);
    expect((await second.request()).initialResourceVersions).toEqual({ a: "1", b: "1" });
    await second.request();
    second.send({ typeUrl: typeUrls.address, nonce: "n2", removedResources: ["a"] });
    await second.request();
    expect([...state]).toEqual(["b"]);
    expect(events.filter(({ kind }) => kind === "terminated")).toEqual([{ kind: "terminated", reason: "Complete" }]);
  });

  test("on demand it starts with nothing and wakes who asked after everything is applied", async () => {
    const { port, stream } = await startServer();
    let applied = 0;
    const { client } = startClient({ port, onDemand: true, address: (all) => ((applied += all.length), []) });
    const peer = await stream();
    const [address, authorization] = [await peer.request(), await peer.request()];
    expect([address.resourceNamesSubscribe, address.resourceNamesUnsubscribe]).toEqual([["*"], ["*"]]);
    expect([authorization.resourceNamesSubscribe, authorization.resourceNamesUnsubscribe]).toEqual([[], []]);
    const answered = client.demand(typeUrls.address, "/10.0.0.9").then(() => applied);
    expect((await peer.request()).resourceNamesSubscribe).toEqual(["/10.0.0.9"]);
    const many = Array.from({ length: 9_999 }, (_, index) => resource(`uid-${index}`));
    peer.send({
      typeUrl: typeUrls.address,
      nonce: "n1",
      resources: [{ ...resource("uid-of-9"), aliases: ["/10.0.0.9"] }, ...many],
    });
    expect(await answered).toBe(10_000);
    await peer.request();
    const missing = client.demand(typeUrls.address, "/10.0.0.10");
    await peer.request();
    peer.send({ typeUrl: typeUrls.address, nonce: "n2", removedResources: ["/10.0.0.10"] });
    await missing;
    // It stays subscribed: asking again needs no request.
    await client.demand(typeUrls.address, "/10.0.0.10");
  });

  test("names that stand for nothing make room for others", async () => {
    const { port, stream } = await startServer();
    const { client } = startClient({ port, onDemand: true, demandBound: 2 });
    const peer = await stream();
    await peer.request();
    await peer.request();
    const learn = async (name: string, nonce: string, isThere: boolean) => {
      const known = client.demand(typeUrls.address, name);
      const { resourceNamesSubscribe, resourceNamesUnsubscribe } = await peer.request();
      expect(resourceNamesSubscribe).toEqual([name]);
      const answer = isThere ? { resources: [resource(name)] } : { removedResources: [name] };
      peer.send({ typeUrl: typeUrls.address, nonce, ...answer });
      await known;
      await peer.request();
      return resourceNamesUnsubscribe;
    };
    expect(await learn("/10.0.0.1", "n1", false)).toEqual([]);
    expect(await learn("/10.0.0.2", "n2", true)).toEqual([]);
    expect(await learn("/10.0.0.3", "n3", true)).toEqual(["/10.0.0.1"]);
    await expect(client.demand(typeUrls.address, "/10.0.0.4")).rejects.toMatchObject({ code: "XDS_STREAM_FAILED" });
  });

  test("names still waited for are claimed without a version after a reconnect", async () => {
    const { port, stream } = await startServer();
    const { client } = startClient({ port, onDemand: true });
    const first = await stream();
    await first.request();
    await first.request();
    const waiting = client.demand(typeUrls.address, "/10.0.0.9");
    await first.request();
    first.call.end();
    const second = await stream();
    expect((await second.request()).initialResourceVersions).toEqual({ "/10.0.0.9": "" });
    second.send({ typeUrl: typeUrls.address, nonce: "n1", removedResources: ["/10.0.0.9"] });
    await waiting;
  });

  test("a server that another root signed is not spoken to", async () => {
    const { port } = await startServer();
    const stranger = await (await TestCa.create("Stranger")).issue(certificate.identity);
    const { events } = startClient({ port, roots: stranger.rootsPem.join("") });
    while (events.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(events[0]).toEqual({ kind: "terminated", reason: "ConnectionError" });
  });

  test("ends when asked", async () => {
    const { port, stream } = await startServer();
    const { abort, ended, client } = startClient({ port, onDemand: true });
    await (await stream()).request();
    const waiting = client.demand(typeUrls.address, "/10.0.0.9");
    abort.abort();
    await ended;
    await expect(waiting).rejects.toThrow("Shutting down");
  });
});

type Reason = Parameters<typeof nextAttempt>[0]["reason"];
// prettier-ignore
test.each<[Reason, number, number, number, string]>([ // reason, backoff  delay    next    why
  ["ConnectionError",      10,     20,     20, "nobody there: wait longer each time"],
  ["ConnectionError",  12_000, 15_000, 15_000, "but at most 15 s"],
  ["Error",                20,     40,     40, "refused"],
  ["Reconnect",        15_000,     10,     10, "a working stream broke: at once"],
  ["Complete",         15_000,     10,     10, "the server said goodbye"],
])("after %s with back-off %d the next attempt is in %d ms", (reason, backoffMs, delayMs, next, _why) => {
  expect(nextAttempt({ reason, message: "" }, backoffMs)).toEqual({ delayMs, backoffMs: next });
});

describe("ztunnelNode", () => {
  test("JSON metadata keeps its kinds; what cannot be read is named and left out", () => {
    const { node, unreadable } = ztunnelNode({
      metadata: { CLUSTER_ID: "c1", NAME: "override" },
      jsonMetadata: { A: '{"x":[1,true,"s",null]}', B: "[1]", C: "true", D: "1.5", E: '"s"', F: "null", G: "{" },
    });
    expect(node.id).toBe("ztunnel~1.1.1.1~.~.svc.cluster.local");
    expect(node.metadata).toMatchObject({ CLUSTER_ID: "c1", NAME: "override", NODE_NAME: "" });
    expect(node.metadata).toMatchObject({ A: { x: [1, true, "s", null] }, B: [1], C: true, D: 1.5, E: "s", F: null });
    expect(unreadable).toEqual(["G"]);
    const request = create(DeltaDiscoveryRequestSchema, { node });
    expect(
      fromBinary(DeltaDiscoveryRequestSchema, toBinary(DeltaDiscoveryRequestSchema, request)).node?.metadata,
    ).toEqual(node.metadata);
  });
});

describe("DeltaClient with names", () => {
  test("asks for the names wanted now, says differences, and asks again after a reconnect, found or not", async () => {
    const { port, stream } = await startServer();
    let names: ReadonlySet<string> = new Set();
    const { node } = ztunnelNode({ podName: "p" });
    const client = new DeltaClient({
      channel: {
        endpoint: { host: "127.0.0.1", port },
        roots: parseRootSource(certificate.rootsPem.join("")),
        alternativeHostname: "istiod.istio-system.svc",
      },
      call: { token: { from: "nowhere" }, clusterId: "Kubernetes" },
      node,
      subscriptions: [
        { typeUrl: typeUrls.cluster, apply: acceptAll },
        { typeUrl: typeUrls.endpoints, apply: acceptAll, names: () => names },
      ],
      clock: systemClock,
      log: silentLogger,
    });
    const abort = new AbortController();
    void client.run(abort.signal);
    open.push(() => abort.abort());
    const first = await stream();
    expect((await first.request()).typeUrl).toBe(typeUrls.cluster);
    names = new Set(["a", "b"]);
    client.resubscribe(typeUrls.endpoints);
    const asked = await first.request();
    expect([asked.typeUrl, asked.resourceNamesSubscribe, asked.node?.id]).toEqual([
      typeUrls.endpoints,
      ["a", "b"],
      node.id,
    ]);
    const found = { ...resource("b", "3", typeUrls.endpoints) };
    first.send({ typeUrl: typeUrls.endpoints, nonce: "n", resources: [found], removedResources: ["a"] });
    expect((await first.request()).responseNonce).toBe("n");
    names = new Set(["a", "b", "c"]);
    client.resubscribe(typeUrls.endpoints);
    const more = await first.request();
    expect([more.resourceNamesSubscribe, more.resourceNamesUnsubscribe]).toEqual([["c"], []]);
    names = new Set(["a", "b"]);
    client.resubscribe(typeUrls.endpoints);
    expect((await first.request()).resourceNamesUnsubscribe).toEqual(["c"]);
    first.fail(status.UNAVAILABLE, "transport is closing");
    const second = await stream();
    await second.request();
    const again = await second.request();
    expect([again.resourceNamesSubscribe, again.initialResourceVersions]).toEqual([["a", "b"], { b: "3" }]);
  });
});
