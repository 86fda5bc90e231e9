/** What tests of layers need: requests without sockets, and the context that layers are compiled in. */
import { create, fromJson, type DescMessage, type JsonValue } from "@bufbuild/protobuf";
import { anyPack, type Any } from "@bufbuild/protobuf/wkt";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { parseIp } from "#shared/net/ip.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { Exchange, type DownstreamConnection } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { DownstreamStream, RequestHead } from "#waypoint/http/streams.ts";
import type { Cluster, Clusters } from "#waypoint/upstream/clusters.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import type { ExchangeEnd } from "#waypoint/telemetry/observers.ts";
import { unknownPeer } from "#waypoint/telemetry/peers.ts";
import type { LayerContext, ProxyFacts, RequestBody } from "./layer.ts";

export function aConnection(facts: Partial<DownstreamConnection> = {}): DownstreamConnection {
  return {
    id: 1,
    peerPrincipal: "spiffe://cluster.local/ns/shop/sa/frontend",
    localPrincipal: "spiffe://cluster.local/ns/shop/sa/waypoint",
    source: { ip: parseIp("10.0.0.7"), port: 40_000 },
    destination: { ip: parseIp("10.96.0.10"), port: 8080 },
    serverName: undefined,
    ...facts,
  };
}

export interface RequestFacts {
  readonly method?: string;
  readonly path?: string;
  readonly authority?: string;
  /** name, value, name, value, … */
  readonly headers?: readonly string[];
  readonly connection?: Partial<DownstreamConnection>;
  readonly hasBody?: boolean;
}

export function anExchange(facts: RequestFacts = {}): Exchange {
  const request: RequestHead = {
    method: facts.method ?? "GET",
    scheme: "http",
    authority: facts.authority ?? "catalog.shop",
    path: facts.path ?? "/",
    headers: new Headers([...(facts.headers ?? [])]),
  };
  const stream = { protocol: "HTTP/1.1", request, endsWithHead: facts.hasBody !== true } as DownstreamStream;
  return new Exchange(aConnection(facts.connection), stream, 0, 1_800_000_000_000);
}

export const anEnd = (facts: Partial<ExchangeEnd> = {}): ExchangeEnd => ({
  responseTrailers: undefined,
  bytesReceived: 0,
  bytesSent: 0,
  durationMs: 1,
  ...facts,
});

export const noBody: RequestBody = { peek: () => Promise.resolve({ bytes: Buffer.alloc(0), isComplete: true }) };

export const noFacts: ProxyFacts = {
  node: { id: "", cluster: "", metadata: {} },
  peers: { source: () => unknownPeer, destination: () => unknownPeer },
};

export interface TestContext extends LayerContext {
  readonly clock: FakeClock;
  readonly problems: string[];
}

export function aContext(clusters: Clusters = { get: () => undefined }, clock = new FakeClock()): TestContext {
  const problems: string[] = [];
  return {
    facts: noFacts,
    clock,
    log: silentLogger,
    clusters,
    problems,
    problem: (path, message) => {
      problems.push(`${path}: ${message}`);
    },
  };
}

/** A configuration as JSON, packed. */
export function packed(schema: DescMessage, json: JsonValue, registry?: Parameters<typeof fromJson>[2]): Any {
  return anyPack(schema, json === null ? create(schema) : fromJson(schema, json, registry));
}

export interface Asked {
  readonly head: RequestHead;
  readonly body: Buffer;
}

/** What a service in a test answers; undefined: nothing at all. */
export interface Answered {
  readonly status: number;
  readonly headers?: readonly string[];
  readonly body?: Uint8Array | string;
  readonly trailers?: readonly string[];
}

/** Clusters of one that answers from a function, and what it was asked. */
export function anAnsweringCluster(
  name: string,
  answer: (asked: Asked) => Answered | undefined,
  ip = "10.1.1.1",
): { readonly clusters: Clusters; readonly asked: Asked[] } {
  const asked: Asked[] = [];
  const host = { key: `${ip}:80`, address: { kind: "socket", ip, port: 80 }, active: 0 } as unknown as Host;
  const cluster = {
    name,
    pick: () => ({ kind: "host", host }),
    report: () => {},
    admitRequest: () => ({ release: () => {} }),
    send: (_host, head, endsWithHead, reader) => {
      const chunks: Buffer[] = [];
      const respond = (): void => {
        const request = { head, body: Buffer.concat(chunks) };
        asked.push(request);
        const answered = answer(request);
        if (answered === undefined) return;
        const { status, headers = [], body, trailers } = answered;
        reader.head({ status, headers: new Headers([...headers]) }, body === undefined && trailers === undefined);
        if (body === undefined && trailers === undefined) return;
        if (body !== undefined) reader.data(Buffer.from(body));
        reader.end(trailers && new Headers([...trailers]));
      };
      if (endsWithHead) setImmediate(respond);
      return {
        write: (chunk: Buffer) => {
          chunks.push(chunk);
          return true;
        },
        end: () => setImmediate(respond),
        reset: () => {},
        pause: () => {},
        resume: () => {},
      };
    },
  } as Partial<Cluster> as Cluster;
  return { clusters: { get: (each) => (each === name ? cluster : undefined) }, asked };
}
