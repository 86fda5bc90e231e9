/** An OpenTelemetry collector of a test's own: takes spans over gRPC and keeps them. */
import { Server, ServerCredentials, type MethodDefinition } from "@grpc/grpc-js";
import { create, fromBinary, toBinary, type MessageShape } from "@bufbuild/protobuf";
import {
  ExportTraceServiceRequestSchema,
  ExportTraceServiceResponseSchema,
} from "#shared/proto/gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.js";
import type { KeyValue } from "#shared/proto/gen/opentelemetry/proto/common/v1/common_pb.js";
import type { Span } from "#shared/proto/gen/opentelemetry/proto/trace/v1/trace_pb.js";

type Request = MessageShape<typeof ExportTraceServiceRequestSchema>;
type Response = MessageShape<typeof ExportTraceServiceResponseSchema>;

export interface SeenSpan {
  readonly span: Span;
  readonly tags: Readonly<Record<string, string>>;
  readonly resource: Readonly<Record<string, string>>;
}

const method: MethodDefinition<Request, Response> = {
  path: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
  requestStream: false,
  responseStream: false,
  requestSerialize: (value) => Buffer.from(toBinary(ExportTraceServiceRequestSchema, value)),
  requestDeserialize: (bytes) => fromBinary(ExportTraceServiceRequestSchema, bytes),
  responseSerialize: (value) => Buffer.from(toBinary(ExportTraceServiceResponseSchema, value)),
  responseDeserialize: (bytes) => fromBinary(ExportTraceServiceResponseSchema, bytes),
};

export class OtlpCollector implements AsyncDisposable {
  readonly port: number;
  readonly spans: SeenSpan[] = [];
  /** Metadata of the last call. */
  metadata: Readonly<Record<string, unknown>> = {};
  readonly #server: Server;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async start(
    host = "127.0.0.1",
    port = 0,
    onSpan: (seen: SeenSpan) => void = () => {},
  ): Promise<OtlpCollector> {
    const server = new Server();
    let collector: OtlpCollector | undefined;
    server.addService(
      { Export: method },
      {
        Export: (
          call: { readonly request: Request; readonly metadata: { getMap(): Record<string, unknown> } },
          done: (error: null, response: Response) => void,
        ) => {
          if (collector !== undefined) {
            collector.metadata = call.metadata.getMap();
            for (const seen of spansOf(call.request)) {
              collector.spans.push(seen);
              onSpan(seen);
            }
          }
          done(null, create(ExportTraceServiceResponseSchema));
        },
      },
    );
    const bound = await new Promise<number>((resolve, reject) => {
      server.bindAsync(`${host}:${port}`, ServerCredentials.createInsecure(), (error, result) =>
        error === null ? resolve(result) : reject(error),
      );
    });
    collector = new OtlpCollector(server, bound);
    return collector;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
    await Promise.resolve();
  }
}

const spansOf = ({ resourceSpans }: Request): readonly SeenSpan[] =>
  resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({ span, tags: textsOf(span.attributes), resource: textsOf(resource?.attributes ?? []) })),
    ),
  );

const textsOf = (attributes: readonly KeyValue[]): Readonly<Record<string, string>> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, String(value?.value.value ?? "")]));
