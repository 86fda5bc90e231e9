import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type {
  BodyReader,
  DownstreamStream,
  RequestHead,
  ResponseHead,
  UpstreamStream,
} from "#waypoint/http/streams.ts";
import type { Layer } from "#waypoint/layers/layer.ts";
import { aConnection } from "#waypoint/layers/testing.ts";
import type { CompiledRoute } from "#waypoint/routing/compiled-route.ts";
import type { ForwardReader } from "#waypoint/routing/router-contract.ts";
import type { RouteTable } from "#waypoint/routing/route-table.ts";
import { AnswerRules } from "./answer-rules.ts";
import type { HttpChain } from "./http-chain.ts";
import { runExchange } from "./exchange-runner.ts";
import { LayerStack } from "./layer-stack.ts";
import { RequestRules } from "./request-rules.ts";

/** A client's request as a codec would give it; what is done to it is written down. */
class FakeStream implements DownstreamStream {
  readonly protocol = "HTTP/1.1";
  readonly request: RequestHead;
  readonly endsWithHead: boolean;
  readonly events: string[] = [];
  takesMore = true;
  reader: BodyReader | undefined;
  head: ResponseHead | undefined;
  bytesRead = 0;
  bytesWritten = 0;

  constructor(request: Partial<RequestHead> = {}, endsWithHead = true) {
    this.request = { method: "GET", scheme: "http", authority: "a", path: "/", headers: new Headers(), ...request };
    this.endsWithHead = endsWithHead;
  }
  read(reader: BodyReader): void {
    this.reader = reader;
    this.events.push("read");
  }
  pause = () => void this.events.push("pause");
  resume = () => void this.events.push("resume");
  inform = ({ status }: ResponseHead) => void this.events.push(`inform ${status}`);
  respond = (head: ResponseHead, ends: boolean) => {
    this.head = head;
    this.events.push(`respond ${head.status}${ends ? " end" : ""}`);
  };
  write = (chunk: Buffer) => {
    this.events.push(`write ${chunk.toString()}`);
    return this.takesMore;
  };
  end = (trailers?: Headers) =>
    void this.events.push(trailers === undefined ? "end" : `end ${trailers.pairs.join("=")}`);
  reset = (reason: string) => void this.events.push(`reset ${reason}`);
}

class FakeUpstream implements UpstreamStream {
  readonly events: string[] = [];
  takesMore = true;
  reader: ForwardReader | undefined;
  exchange: Exchange | undefined;
  write = (chunk: Buffer) => {
    this.events.push(`write ${chunk.toString()}`);
    return this.takesMore;
  };
  end = (trailers?: Headers) =>
    void this.events.push(trailers === undefined ? "end" : `end ${trailers.pairs.join("=")}`);
  reset = (reason: string) => void this.events.push(`reset ${reason}`);
  pause = () => void this.events.push("pause");
  resume = () => void this.events.push("resume");
}

const aRoute = (more: Partial<CompiledRoute> = {}): CompiledRoute => ({
  name: "r",
  virtualHost: "v",
  layerConfigs: new Map(),
  layerDisabled: new Map(),
  action: { kind: "forward", upgrades: new Map() } as unknown as CompiledRoute["action"],
  metadata: new Map(),
  rateLimits: { route: [], virtualHost: [], includesVirtualHost: false },
  decorator: undefined,
  tracing: undefined,
  statPrefix: "",
  editRequest: ({ request }) => request.headers.append("x-edited", "yes"),
  editResponse: (_exchange, { headers }) => headers.append("x-route", "r"),
  ...more,
});

interface World {
  readonly layers?: readonly Layer[];
  readonly off?: readonly string[];
  /** Undefined: none matches. */
  readonly route?: CompiledRoute | undefined;
  readonly routes?: () => CompiledRoute | undefined;
  readonly requestTimeoutMs?: number;
}

function serve(stream: FakeStream, world: World = {}) {
  const { layers = [], off = [], requestTimeoutMs = 0 } = world;
  const route = "route" in world ? world.route : aRoute();
  const upstream = new FakeUpstream();
  const ends: string[] = [];
  const clock = new FakeClock();
  const chain: HttpChain = {
    kind: "http",
    name: "chain",
    networkLayers: [],
    codec: {} as HttpChain["codec"],
    rules: new RequestRules({
      usesRemoteAddress: false,
      skipsForwardedFor: false,
      generatesRequestId: false,
      preservesRequestId: false,
      clientCertificate: "sanitize",
      clientCertificateDetails: { subject: false, uri: false },
      appendsForwardedPort: false,
      stripsPort: "no",
      stripsTrailingDot: false,
      via: "",
      scheme: undefined,
      internalOnly: new Set(),
      path: { normalises: true, mergesSlashes: false, escapedSlashes: "reject" },
    }),
    answers: new AnswerRules({ serverName: "me", serverHeader: "overwrite", returnsRequestId: false, via: "" }),
    layers: new LayerStack(layers.map((layer) => ({ layer, isDisabled: off.includes(layer.name) }))),
    routes: { match: world.routes ?? (() => route) } as unknown as RouteTable,
    router: {
      forward: (exchange, _route, endsWithHead, reader) => {
        upstream.exchange = exchange;
        upstream.reader = reader;
        upstream.events.push(`forward${endsWithHead ? " end" : ""}`);
        return upstream;
      },
    },
    upgrades: new Set(["websocket"]),
    requestTimeoutMs,
    observers: [
      {
        onEnd: ({ response, flags, responseCodeDetails: why }) =>
          void ends.push([response?.status ?? 0, ...flags, why].join(" ")),
      },
    ],
    clock,
    log: silentLogger,
  };
  runExchange(chain, aConnection(), stream);
  return { upstream, ends, clock };
}

const answer = (upstream: FakeUpstream, status: number, ends = true) =>
  upstream.reader?.head({ status, headers: new Headers(["server", "other"]) }, ends);
const denied: LocalReply = { status: 403, body: "no", details: "denied", flag: "UAEX" };
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("an exchange", () => {
  test("without a body goes on at once, and its answer is edited once", () => {
    const stream = new FakeStream();
    const { upstream, ends } = serve(stream);
    expect([upstream.events, stream.events]).toEqual([["forward end"], ["read"]]);
    expect(stream.request.headers.get("x-edited")).toBe("yes");
    answer(upstream, 200);
    expect(stream.events).toEqual(["read", "respond 200 end"]);
    expect([stream.head?.headers.all("server"), stream.head?.headers.all("x-route")]).toEqual([["me"], ["r"]]);
    expect(ends).toEqual(["200 via_upstream"]);
  });

  test("with bodies both ways keeps the pace of the slower side", () => {
    const stream = new FakeStream({ method: "POST" }, false);
    const { upstream, ends } = serve(stream);
    upstream.takesMore = false;
    stream.reader?.data(Buffer.from("a"));
    upstream.reader?.drained();
    stream.reader?.end(undefined);
    expect(upstream.events).toEqual(["forward", "write a", "end"]);
    expect(stream.events).toEqual(["read", "pause", "resume"]);
    answer(upstream, 200, false);
    stream.takesMore = false;
    upstream.reader?.data(Buffer.from("b"));
    stream.reader?.drained();
    upstream.reader?.end(new Headers(["grpc-status", "0"]));
    expect(stream.events.slice(3)).toEqual(["respond 200", "write b", "end grpc-status=0"]);
    expect(upstream.events.slice(3)).toEqual(["pause", "resume"]);
    expect(ends).toEqual(["200 via_upstream"]);
  });

  // prettier-ignore
  test.each<[string, Partial<RequestHead>, World, string[], string]>([
    ["no route",               {},                        { route: undefined },        ["respond 404 end"],                       "404 NR route_not_found"],
    ["a path that is refused", { path: "/a%2Fb" },        {},                          ["respond 400 end"],                       "400 path_normalization_failed"],
    ["an upgrade to anything", { upgrade: "h2c" },        {},                          ["respond 403 end"],                       "403 upgrade_failed"],
    ["a layer that refuses",   {},                        { layers: [{ name: "l", onRequest: () => denied }] }, ["respond 403", "write no", "end"], "403 UAEX denied"],
    ["a layer that throws",    {},                        { layers: [{ name: "l", onRequest: () => { throw new Error("x"); } }] }, ["respond 500 end"], "500 filter_failed"],
    ["a route that replies",   {},                        { route: aRoute({ action: { kind: "reply", reply: () => ({ status: 301, details: "direct_response" }) } }) }, ["respond 301 end"], "301 direct_response"],
    ["a route that throws",    {},                        { route: aRoute({ editRequest: () => { throw new Error("x"); } }) }, ["reset local-reset"], "0 "],
  ])("%s ends here", (_why, request, world, events, end) => {
    const stream = new FakeStream(request);
    const { upstream, ends } = serve(stream, world);
    expect([stream.events, upstream.events, ends]).toEqual([events, [], [end]]);
  });

  test("layers run in order, on answers in reverse, and those that are switched off not at all", () => {
    const told: string[] = [];
    const layer = (name: string): Layer => ({
      name,
      onRequest: () => void told.push(`${name}>`),
      onResponse: () => void told.push(`<${name}`),
      onEnd: () => void told.push(`${name}.`),
    });
    const layers = [layer("a"), layer("b"), layer("c"), layer("d")];
    const route = aRoute({ layerDisabled: new Map([["b", true], ["d", false]]) }); // prettier-ignore
    const { upstream } = serve(new FakeStream(), { layers, off: ["c", "d"], route });
    answer(upstream, 200);
    expect(told).toEqual(["a>", "d>", "<d", "<a", "a.", "d."]);
  });

  test("a layer that clears the route has it looked up again before the next", () => {
    const routes = [aRoute({ name: "first" }), aRoute({ name: "second" })];
    const seen: (string | undefined)[] = [];
    const clear: Layer = { name: "clear", onRequest: (exchange) => void (exchange.route = undefined) };
    const look: Layer = { name: "look", onRequest: ({ route }) => void seen.push(route?.name) };
    serve(new FakeStream(), { layers: [clear, look], routes: () => routes.shift() });
    expect(seen).toEqual(["second"]);
  });

  test("a layer may wait: for an answer of its own, and for the body, which then goes on whole", async () => {
    const peeked: string[] = [];
    const layer: Layer = {
      name: "l",
      onRequest: async (_exchange, body) => {
        const { bytes, isComplete } = await body.peek(4);
        peeked.push(`${bytes.toString()} ${isComplete}`);
        return undefined;
      },
    };
    const stream = new FakeStream({ method: "POST" }, false);
    const { upstream } = serve(stream, { layers: [layer] });
    stream.reader?.data(Buffer.from("abc"));
    stream.reader?.data(Buffer.from("def"));
    await turn();
    expect([peeked, stream.events]).toEqual([["abcd false"], ["read", "pause", "resume"]]);
    stream.reader?.end(undefined);
    expect(upstream.events).toEqual(["forward", "write abc", "write def", "end"]);
  });

  test("a body that is complete before a layer has done goes on behind the head", async () => {
    const layer: Layer = {
      name: "l",
      onRequest: async (_exchange, body) => {
        const { isComplete } = await body.peek(100);
        return isComplete ? undefined : denied;
      },
    };
    const stream = new FakeStream({ method: "POST" }, false);
    const { upstream } = serve(stream, { layers: [layer] });
    stream.reader?.data(Buffer.from("abc"));
    stream.reader?.end(new Headers(["a", "b"]));
    await turn();
    expect(upstream.events).toEqual(["forward", "write abc", "end a=b"]);
  });

  test("a client that goes away ends everything, once; what comes later changes nothing", async () => {
    const gate = Promise.withResolvers<undefined>();
    const waiting = new FakeStream();
    const early = serve(waiting, { layers: [{ name: "l", onRequest: () => gate.promise }] });
    waiting.reader?.reset("connection-termination", "");
    gate.resolve(undefined);
    await turn();
    expect([early.upstream.events, early.ends]).toEqual([[], ["0 DC downstream_remote_disconnect"]]);

    const stream = new FakeStream();
    const { upstream, ends } = serve(stream);
    stream.reader?.reset("connection-termination", "");
    answer(upstream, 200);
    upstream.reader?.reset("remote-reset", "");
    expect([upstream.events, stream.events, ends]).toEqual([
      ["forward end", "reset local-reset"],
      ["read"],
      ["0 DC downstream_remote_disconnect"],
    ]);
  });

  test("an answer that breaks off is broken off for the client, too", () => {
    const stream = new FakeStream();
    const { upstream, ends } = serve(stream);
    answer(upstream, 200, false);
    upstream.reader?.reset("remote-reset", "");
    expect([stream.events, ends]).toEqual([["read", "respond 200", "reset remote-reset"], ["200 via_upstream"]]);
  });

  test("the router's own answer is edited like any other", () => {
    const stream = new FakeStream();
    const { upstream, ends } = serve(stream);
    upstream.reader?.reply({ status: 503, body: "no healthy upstream", details: "no_healthy_upstream", flag: "UH" });
    expect(stream.events).toEqual(["read", "respond 503", "write no healthy upstream", "end"]);
    expect(stream.head?.headers.get("x-route")).toBe("r");
    expect(ends).toEqual(["503 UH no_healthy_upstream"]);
  });

  test("a request that takes too long to come in is answered 408", async () => {
    const stream = new FakeStream({ method: "POST" }, false);
    const { clock, ends, upstream } = serve(stream, { requestTimeoutMs: 1_000 });
    await clock.advance(1_000);
    expect(stream.events.slice(1)).toEqual(["respond 408", "write request timeout", "end"]);
    expect(upstream.events).toEqual(["forward", "reset local-reset"]);
    expect(ends).toEqual(["408 request_overall_timeout"]);
  });

  test("a layer may change bodies, and turn trailers into one", () => {
    const layer: Layer = {
      name: "shout",
      transform: () => ({
        request: (chunk) => Buffer.from(chunk.toString().toUpperCase()),
        response: (chunk) => Buffer.from(`${chunk.toString()}!`),
        responseEnd: (trailers) => ({ rest: Buffer.from(trailers?.pairs.join(":") ?? ""), trailers: undefined }),
      }),
    };
    const stream = new FakeStream({ method: "POST" }, false);
    const { upstream } = serve(stream, { layers: [layer] });
    stream.reader?.data(Buffer.from("abc"));
    answer(upstream, 200, false);
    upstream.reader?.data(Buffer.from("x"));
    upstream.reader?.end(new Headers(["a", "b"]));
    expect(upstream.events).toEqual(["forward", "write ABC"]);
    expect(stream.events.slice(1)).toEqual(["respond 200", "write x!", "write a:b", "end"]);
  });
});
