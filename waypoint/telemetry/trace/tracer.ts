/** Makes one span of every request of a chain that is traced, named and tagged as Envoy does. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { KeyValueSchema } from "#shared/proto/gen/opentelemetry/proto/common/v1/common_pb.js";
import {
  Span_SpanKind as Kind,
  SpanSchema,
  Status_StatusCode as Status,
} from "#shared/proto/gen/opentelemetry/proto/trace/v1/trace_pb.js";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { NodeFacts } from "#waypoint/expressions/attributes.ts";
import { toText } from "#waypoint/http/latin1.ts";
import { grpcStatusOf } from "#waypoint/telemetry/grpc-status.ts";
import type { ExchangeEnd, ExchangeObserver } from "#waypoint/telemetry/observers.ts";
import type { Peers } from "#waypoint/telemetry/peers.ts";
import type { Subject } from "#waypoint/telemetry/subject.ts";
import type { Tag } from "./custom-tags.ts";
import type { RouteTracing } from "./route-tracing.ts";
import { decide, type RequestIdRules, type Sampling } from "./sampling.ts";
import type { SpanExporter } from "./span-exporter.ts";
import { decisionOf, extract, inject, newSpanId, newTraceId } from "./trace-context.ts";

export interface TracerParts {
  readonly exporter: SpanExporter;
  readonly sampling: Sampling;
  readonly requestId: RequestIdRules;
  readonly samplesAll: boolean;
  /** In which headers a trace that began here is told to the next; one of a caller's goes on in the caller's, too. */
  readonly handsOn: "w3c" | "b3" | "nothing";
  readonly tags: readonly Tag[];
  readonly maxPathLength: number;
  /** A span for the upstream's side too. */
  readonly hasUpstreamSpan: boolean;
  readonly chain: string;
  readonly peers: Peers;
  readonly node: NodeFacts;
  readonly random: () => number;
  readonly routeTracing: (route: Exchange["route"]) => RouteTracing | undefined;
}

type Attribute = MessageInitShape<typeof KeyValueSchema>;

const tag = (key: string, value: string): Attribute => ({ key, value: { value: { case: "stringValue", value } } });

/** Without a route's own name. */
const defaultOperation = "ingress";
const errorStatus = 500;

export class Tracer implements ExchangeObserver {
  readonly #parts: TracerParts;

  constructor(parts: TracerParts) {
    this.#parts = parts;
  }

  onStart(exchange: Exchange): void {
    const { headers } = exchange.request;
    const found = extract(headers);
    // Whoever wrote it is left to make sense of it.
    if (found === "broken") return;
    const isSampled = found?.isSampled ?? decisionOf(headers) ?? this.#decide(exchange);
    const traceId = found?.traceId ?? newTraceId();
    const spanId = newSpanId();
    const upstreamSpanId = this.#parts.hasUpstreamSpan ? newSpanId() : undefined;
    exchange.trace = { traceId, spanId, isSampled, parent: found, upstreamSpanId, path: exchange.originalPath };
    const { handsOn } = this.#parts;
    if (handsOn === "nothing") return;
    const told = { traceId, spanId: upstreamSpanId ?? spanId, isSampled };
    const usual = handsOn === "b3" ? "b3-multi" : "w3c";
    const style = found === undefined || found.style === "w3c" ? usual : found.style;
    inject(headers, told, style, upstreamSpanId === undefined ? found?.spanId : spanId);
  }

  #decide(exchange: Exchange): boolean {
    const { sampling, samplesAll, requestId, routeTracing, random } = this.#parts;
    return samplesAll || decide(exchange, routeTracing(exchange.route)?.sampling ?? sampling, requestId, random);
  }

  onEnd(exchange: Exchange, end: ExchangeEnd): void {
    const { trace } = exchange;
    if (trace?.isSampled !== true) return;
    const { exporter, peers, chain } = this.#parts;
    const subject: Subject = { exchange, response: exchange.response, end, peers, chain, isHttp: true };
    const { parent } = trace;
    const isError = isFailure(subject);
    const own = [...this.#attributes(subject, isError), ...this.#customTags(subject)];
    const start = BigInt(Math.round(exchange.startedAtMs * 1_000)) * 1_000n;
    const common = {
      traceId: Buffer.from(trace.traceId, "hex"),
      traceState: parent?.state ?? "",
      startTimeUnixNano: start,
      endTimeUnixNano: start + BigInt(Math.round(end.durationMs * 1_000_000)),
      attributes: own,
      status: { code: isError ? Status.ERROR : Status.UNSET },
      // Sampled, and where the parent is known, whether it is another process.
      flags: parent === undefined ? 0x101 : 0x301,
    };
    exporter.add(
      create(SpanSchema, {
        ...common,
        spanId: Buffer.from(trace.spanId, "hex"),
        parentSpanId: Buffer.from(parent?.spanId ?? "", "hex"),
        name: operationOf(exchange),
        kind: Kind.SERVER,
      }),
    );
    if (trace.upstreamSpanId === undefined || exchange.upstreamHost === undefined) return;
    exporter.add(
      create(SpanSchema, {
        ...common,
        spanId: Buffer.from(trace.upstreamSpanId, "hex"),
        parentSpanId: Buffer.from(trace.spanId, "hex"),
        name: `router ${exchange.upstreamCluster} egress`,
        kind: Kind.CLIENT,
        flags: 0x101,
      }),
    );
  }

  #attributes(subject: Subject, isError: boolean): Attribute[] {
    const { exchange, end } = subject;
    const { request, connection, upstreamHost, flags } = exchange;
    const { headers } = request;
    const { node, maxPathLength } = this.#parts;
    const isGrpc = end?.messages !== undefined;
    const path = (exchange.trace?.path ?? request.path).slice(0, maxPathLength);
    const attributes = [
      tag("node_id", node.id),
      tag("component", "proxy"),
      tag("http.url", `${request.scheme}://${request.authority}${path}`),
      tag("http.method", request.method),
      tag("http.protocol", exchange.stream.protocol),
      tag("http.status_code", String(exchange.response?.status ?? 0)),
      tag("downstream_cluster", headers.get("x-envoy-downstream-service-cluster") ?? "-"),
      tag("user_agent", toText(headers.get("user-agent") ?? "-")),
      tag("peer.address", connection.source.ip),
      tag("request_size", String(end?.bytesReceived ?? 0)),
      tag("response_size", String(end?.bytesSent ?? 0)),
      tag("response_flags", flags.size === 0 ? "-" : [...flags].join(",")),
    ];
    const more = (name: string, value: string | undefined) => {
      if (value !== undefined && value !== "") attributes.push(tag(name, value));
    };
    more("guid:x-request-id", headers.get("x-request-id"));
    more("upstream_cluster", exchange.upstreamCluster);
    more("upstream_cluster.name", exchange.upstreamCluster);
    more("upstream_address", upstreamHost?.key);
    if (isGrpc) {
      more("grpc.path", path);
      more("grpc.authority", request.authority);
      more("grpc.content_type", headers.get("content-type"));
      more("grpc.timeout", headers.get("grpc-timeout"));
      more("grpc.status_code", grpcStatusOf(exchange.response, end));
      more(
        "grpc.message",
        end?.responseTrailers?.get("grpc-message") ?? exchange.response?.headers.get("grpc-message"),
      );
    }
    if (isError) attributes.push(tag("error", "true"));
    return attributes;
  }

  /** A route's own beside the chain's, and instead of one of the same name. */
  #customTags(subject: Subject): Attribute[] {
    const { tags, routeTracing } = this.#parts;
    const own = routeTracing(subject.exchange.route)?.tags ?? [];
    const names = new Set(own.map(({ name }) => name));
    return [...tags.filter(({ name }) => !names.has(name)), ...own].flatMap(({ name, read }) => {
      const value = read(subject);
      return value === "" ? [] : [tag(name, value)];
    });
  }
}

/** The upstream may name what it did; otherwise the route does. */
function operationOf({ request, response, route }: Exchange): string {
  const header = "x-envoy-decorator-operation";
  const told = response?.headers.get(header) ?? request.headers.get(header);
  return told ?? (route?.decorator?.operation || defaultOperation);
}

function isFailure({ response, end }: Subject): boolean {
  if ((response?.status ?? 0) >= errorStatus || response === undefined) return true;
  if (end?.messages === undefined) return false;
  const status = grpcStatusOf(response, end);
  // What a server is to blame for, as Envoy counts it.
  return status !== undefined && ["1", "2", "4", "12", "13", "14", "15"].includes(status);
}
