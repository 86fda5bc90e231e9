/** A collector of traces as a pod's program: takes spans by OTLP over gRPC on 4317 and prints each as one line of JSON. */
import process from "node:process";
import { OtlpCollector } from "#waypoint/testing/otlp-collector.ts";

export const collectorPort = 4317;

/** What is printed of a span. */
export interface PrintedSpan {
  readonly name: string;
  readonly traceId: string;
  readonly parentSpanId: string;
  readonly service: string;
  readonly tags: Readonly<Record<string, string>>;
}

if (import.meta.main) {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  const collector = await OtlpCollector.start("0.0.0.0", collectorPort, ({ span, tags, resource }) => {
    const printed: PrintedSpan = {
      name: span.name,
      traceId: hex(span.traceId),
      parentSpanId: hex(span.parentSpanId),
      service: resource["service.name"] ?? "",
      tags,
    };
    process.stdout.write(`${JSON.stringify(printed)}\n`);
  });
  process.once("SIGTERM", () => void collector[Symbol.asyncDispose]().then(() => process.exit(0)));
}
