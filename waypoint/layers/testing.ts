/** What tests of layers need: requests without sockets, and the context that layers are compiled in. */
import { create, fromJson, type DescMessage, type JsonValue } from "@bufbuild/protobuf";
import { anyPack, type Any } from "@bufbuild/protobuf/wkt";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { parseIp } from "#shared/net/ip.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { Exchange, type DownstreamConnection } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { DownstreamStream, RequestHead } from "#waypoint/http/streams.ts";
import type { Clusters } from "#waypoint/upstream/clusters.ts";
import type { LayerContext, RequestBody } from "./layer.ts";

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
}

export function anExchange(facts: RequestFacts = {}): Exchange {
  const request: RequestHead = {
    method: facts.method ?? "GET",
    scheme: "http",
    authority: facts.authority ?? "catalog.shop",
    path: facts.path ?? "/",
    headers: new Headers([...(facts.headers ?? [])]),
  };
  const stream = { protocol: "HTTP/1.1", request, endsWithHead: true } as DownstreamStream;
  return new Exchange(aConnection(facts.connection), stream, 0, 1_800_000_000_000);
}

export const noBody: RequestBody = { peek: () => Promise.resolve({ bytes: Buffer.alloc(0), isComplete: true }) };

export interface TestContext extends LayerContext {
  readonly clock: FakeClock;
  readonly problems: string[];
}

export function aContext(clusters: Clusters = { get: () => undefined }, clock = new FakeClock()): TestContext {
  const problems: string[] = [];
  return {
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
