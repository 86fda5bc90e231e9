/** What tests of routing need: tables from JSON, and clusters whose hosts say what the test says. */
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { RouteConfigurationSchema } from "#shared/proto/gen/envoy/config/route/v3/route_pb.js";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { RequestHead, ResetReason, ResponseHead, ResponseReader, UpstreamStream } from "#waypoint/http/streams.ts";
import { layerKinds } from "#waypoint/layers/registry.ts";
import { aContext, anExchange, type RequestFacts, type TestContext } from "#waypoint/layers/testing.ts";
import type { AttemptOutcome, Cluster, Clusters, Permit, Pick, PickContext } from "#waypoint/upstream/clusters.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import { anyTypes } from "#waypoint/xds/any-types.ts";
import { compileRoutes } from "./compile-routes.ts";
import type { CompiledRoute, ForwardAction } from "./compiled-route.ts";
import type { RouteTable } from "./route-table.ts";
import type { ForwardReader } from "./router-contract.ts";

const routeTypes = new Map(layerKinds.flatMap(({ routeTypes: types }) => Object.entries(types ?? {})));

export interface CompiledTable {
  readonly table: RouteTable;
  readonly problems: readonly string[];
}

/** A whole route configuration, or the routes of one virtual host for every domain. */
export function aTable(
  config: JsonValue,
  { context = aContext(), random = () => 0.5 }: { readonly context?: TestContext; readonly random?: () => number } = {},
): CompiledTable {
  const whole = Array.isArray(config) ? { virtual_hosts: [{ name: "all", domains: ["*"], routes: config }] } : config;
  const message = fromJson(RouteConfigurationSchema, whole, { registry: anyTypes });
  const table = compileRoutes(message, { ...context, routeTypes, random });
  return { table, problems: context.problems };
}

/** Name of the route that a request finds. */
export function routeOf({ table }: CompiledTable, facts: RequestFacts): string | undefined {
  return table.match(anExchange(facts))?.name;
}

/** The request as the upstream gets it, and the answer that the client gets for `answer`. */
export function pass(
  { table }: CompiledTable,
  facts: RequestFacts,
  answer = new Headers(),
): Exchange & { answer: ResponseHead } {
  const exchange = anExchange(facts);
  exchange.route = table.match(exchange);
  exchange.route?.editRequest(exchange);
  const head = { status: 200, headers: answer };
  exchange.route?.editResponse(exchange, head);
  return Object.assign(exchange, { answer: head });
}

export function replyOf({ table }: CompiledTable, facts: RequestFacts): LocalReply | undefined {
  const exchange = anExchange(facts);
  const route = table.match(exchange);
  return route?.action.kind === "reply" ? route.action.reply(exchange) : undefined;
}

export function aHost(key: string, hostname = ""): Host {
  return {
    key,
    address: { kind: "socket", ip: "10.1.0.1", port: 80 },
    hostname,
    locality: { region: "", zone: "", subZone: "" },
    metadata: new Map(),
    active: 0,
  };
}

/** One request that reached a host; the test plays the host. */
export class SentRequest implements UpstreamStream {
  readonly host: Host;
  readonly head: RequestHead;
  readonly reader: ResponseReader;
  readonly endsWithHead: boolean;
  readonly body: string[] = [];
  ended = false;
  wasReset = false;
  paused = false;
  takesMore = true;

  constructor(host: Host, head: RequestHead, endsWithHead: boolean, reader: ResponseReader) {
    this.host = host;
    this.head = { ...head, headers: head.headers.clone() };
    this.endsWithHead = endsWithHead;
    this.reader = reader;
  }

  answer(status: number, headers: readonly string[] = [], body?: string): void {
    this.reader.head({ status, headers: new Headers([...headers]) }, body === undefined);
    if (body === undefined) return;
    this.reader.data(Buffer.from(body));
    this.reader.end(undefined);
  }

  write(chunk: Buffer): boolean {
    this.body.push(chunk.toString());
    return this.takesMore;
  }

  end(): void {
    this.ended = true;
  }

  reset(): void {
    this.wasReset = true;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }
}

export class FakeCluster implements Cluster {
  readonly name: string;
  readonly metadata: ReadonlyMap<string, unknown> = new Map();
  hashes = false;
  hosts: Host[];
  readonly sent: SentRequest[] = [];
  readonly outcomes: AttemptOutcome[] = [];
  readonly picks: PickContext[] = [];
  requests = 0;
  retries = 0;
  maxRequests = Infinity;
  maxRetries = Infinity;
  /** Plays a host that answers at once, in the middle of `send`. */
  onSend: ((request: SentRequest) => void) | undefined;
  ready: Promise<void> | undefined;

  constructor(name: string, hosts = [aHost("10.1.0.1:80")]) {
    this.name = name;
    this.hosts = hosts;
  }

  pick(context: PickContext): Pick {
    this.picks.push(context);
    if (this.ready !== undefined) {
      const { ready } = this;
      this.ready = undefined;
      return { kind: "wait", ready };
    }
    const host = this.hosts.find((one) => context.tried?.has(one) !== true) ?? this.hosts[0];
    return host === undefined ? { kind: "none", why: "empty" } : { kind: "host", host };
  }

  report(_host: Host, outcome: AttemptOutcome): void {
    this.outcomes.push(outcome);
  }

  admitRequest(): Permit | undefined {
    if (this.requests >= this.maxRequests) return undefined;
    this.requests++;
    return { release: () => this.requests-- };
  }

  admitRetry(): Permit | undefined {
    if (this.retries >= this.maxRetries) return undefined;
    this.retries++;
    return { release: () => this.retries-- };
  }

  send(host: Host, head: RequestHead, endsWithHead: boolean, reader: ResponseReader): UpstreamStream {
    const request = new SentRequest(host, head, endsWithHead, reader);
    this.sent.push(request);
    this.onSend?.(request);
    return request;
  }

  connect(): Promise<never> {
    return Promise.reject(new TypeError("no raw connections here"));
  }

  /** The request that was sent last. */
  get last(): SentRequest {
    const last = this.sent.at(-1);
    if (last === undefined) throw new TypeError("nothing was sent");
    return last;
  }
}

export const clustersOf = (...clusters: readonly Cluster[]): Clusters => ({
  get: (name) => clusters.find((one) => one.name === name),
});

/** The client's side, writing down what it gets. */
export class Client implements ForwardReader {
  readonly heard: string[] = [];
  reply_: LocalReply | undefined;
  answer: ResponseHead | undefined;

  inform(head: ResponseHead): void {
    this.heard.push(`inform ${head.status}`);
  }

  head(head: ResponseHead, endsWithHead: boolean): void {
    this.answer = head;
    this.heard.push(`head ${head.status}${endsWithHead ? " end" : ""}`);
  }

  data(chunk: Buffer): void {
    this.heard.push(`data ${chunk.toString()}`);
  }

  end(trailers: Headers | undefined): void {
    this.heard.push(trailers === undefined ? "end" : `end ${trailers.pairs.join(" ")}`);
  }

  reset(reason: ResetReason): void {
    this.heard.push(`reset ${reason}`);
  }

  drained(): void {
    this.heard.push("drained");
  }

  reply(reply: LocalReply): void {
    this.reply_ = reply;
    this.heard.push(`reply ${reply.status} ${(reply.body ?? "").toString()}`.trimEnd());
  }
}

export type ForwardRoute = CompiledRoute & { readonly action: ForwardAction };

/** Matches and edits a request as the pipeline does. */
export function routed(table: CompiledTable, facts: RequestFacts): { exchange: Exchange; route: ForwardRoute } {
  const exchange = anExchange(facts);
  exchange.route = table.table.match(exchange);
  if (exchange.route?.action.kind !== "forward") throw new TypeError("the route goes nowhere");
  exchange.route.editRequest(exchange);
  return { exchange, route: exchange.route as ForwardRoute };
}
