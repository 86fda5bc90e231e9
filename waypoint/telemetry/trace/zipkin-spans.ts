/** Spans as Zipkin takes them: JSON, second version. Times are in microseconds, ids in hexadecimal digits. */
import type { JsonObject } from "@bufbuild/protobuf";
import { Span_SpanKind as Kind, type Span } from "#shared/proto/gen/opentelemetry/proto/trace/v1/trace_pb.js";

export interface ZipkinEndpoint {
  readonly serviceName: string;
  /** Undefined where the proxy does not know its own. */
  readonly ip: string | undefined;
}

export const zipkinSpans = (spans: readonly Span[], endpoint: ZipkinEndpoint): string =>
  JSON.stringify(spans.map((span) => zipkinSpan(span, endpoint)));

function zipkinSpan(span: Span, { serviceName, ip }: ZipkinEndpoint): JsonObject {
  const {
    traceId,
    spanId,
    parentSpanId,
    name,
    kind,
    startTimeUnixNano: start,
    endTimeUnixNano: end,
    attributes,
  } = span;
  const tags = attributes.map(({ key, value }) => [key, String(value?.value.value ?? "")] as const);
  return {
    traceId: hex(traceId),
    id: hex(spanId),
    ...(parentSpanId.length > 0 && { parentId: hex(parentSpanId) }),
    name,
    kind: kind === Kind.CLIENT ? "CLIENT" : "SERVER",
    timestamp: micros(start),
    // Shorter than can be told counts as the shortest that can: 0 would mean that it has not ended.
    duration: Math.max(1, micros(end - start)),
    localEndpoint: { serviceName, ...(ip !== undefined && { [ip.includes(":") ? "ipv6" : "ipv4"]: ip }) },
    tags: Object.fromEntries(tags),
  };
}

const micros = (nanos: bigint): number => Number(nanos / 1_000n);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
