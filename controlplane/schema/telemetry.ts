import { z } from "zod";
import { expressionProblem } from "#shared/expressions/check-expression.ts";
import { attachment, checkAttachment, oneAttachment } from "./attachment.ts";
import type { Field } from "./field.ts";
import { age, telemetryKind, type KindDefinition } from "./kind.ts";
import { checkDuration, duration, filled } from "./scalars.ts";

const providers = z
  .array(z.strictObject({ name: filled.describe("Its name among the mesh's extensionProviders") }))
  .optional();
const modes = z
  .enum(["CLIENT_AND_SERVER", "CLIENT", "SERVER"])
  .optional()
  .describe("Side of the traffic; CLIENT_AND_SERVER if not written. Waypoints are on that of the SERVER");
const sides = z.strictObject({ mode: modes }).optional().describe("What traffic it is about; all if not written");
const metrics = [
  "ALL_METRICS",
  "REQUEST_COUNT",
  "REQUEST_DURATION",
  "REQUEST_SIZE",
  "RESPONSE_SIZE",
  "TCP_OPENED_CONNECTIONS",
  "TCP_CLOSED_CONNECTIONS",
  "TCP_SENT_BYTES",
  "TCP_RECEIVED_BYTES",
  "GRPC_REQUEST_MESSAGES",
  "GRPC_RESPONSE_MESSAGES",
] as const;

const defaultValue = z.string().optional().describe("Value where there is none; empty if not written");

const customTag = z.strictObject({
  literal: z
    .strictObject({ value: filled.describe("The text") })
    .optional()
    .describe("Always this text"),
  environment: z
    .strictObject({ name: filled.describe("Name of the variable"), defaultValue })
    .optional()
    .describe("A variable of the waypoint's environment"),
  header: z
    .strictObject({ name: filled.describe("Name of the header"), defaultValue })
    .optional()
    .describe("A header of the request"),
  formatter: z
    .strictObject({ value: filled.describe("The format") })
    .optional()
    .describe("Not supported: write header or literal"),
});

const spec = z
  .strictObject({
    ...attachment,
    tracing: z
      .array(
        z.strictObject({
          match: sides,
          providers: providers.describe(
            "Who is told, the first of them; as a broader object or the mesh says if not written",
          ),
          randomSamplingPercentage: z
            .number()
            .min(0)
            .max(100)
            .optional()
            .describe("Share of requests without a trace that begin one; as the mesh says if not written, usually 1"),
          disableSpanReporting: z
            .boolean()
            .optional()
            .describe("Tells nothing, and passes on what clients say of their traces; false if not written"),
          customTags: z
            .record(z.string(), customTag)
            .optional()
            .describe("Further tags of spans, by name, each from one source; all of a broader object are replaced"),
          useRequestIdForTraceSampling: z
            .boolean()
            .optional()
            .describe("Chooses by x-request-id, so that all proxies choose alike; true if not written"),
          enableIstioTags: z
            .boolean()
            .optional()
            .describe("Whether spans have the tags istio.*, which tell of both workloads; true if not written"),
          disableContextPropagation: z.boolean().optional().describe("Not supported: traces are always passed on"),
        }),
      )
      .optional()
      .describe("Traces of requests; one entry"),
    metrics: z
      .array(
        z.strictObject({
          providers: providers.describe(
            "Who keeps them, of type prometheus; as a broader object or the mesh says if not written",
          ),
          reportingInterval: duration
            .optional()
            .describe("Without effect: metrics are up to date whenever they are read"),
          overrides: z
            .array(
              z.strictObject({
                match: z
                  .strictObject({
                    metric: z
                      .enum(metrics)
                      .optional()
                      .describe(`${metrics.join(", ")}; ALL_METRICS if not written`),
                    customMetric: filled
                      .optional()
                      .describe(
                        "The same by its name, such as istio_requests_total; there are no metrics of one's own",
                      ),
                    mode: modes,
                  })
                  .optional()
                  .describe("What is changed; all metrics if not written"),
                disabled: z
                  .boolean()
                  .optional()
                  .describe("Whether it is left out; as a broader object says if not written"),
                tagOverrides: z
                  .record(
                    z.string(),
                    z.strictObject({
                      operation: z
                        .enum(["UPSERT", "REMOVE"])
                        .optional()
                        .describe("UPSERT (if not written) sets the tag to value, REMOVE takes it away"),
                      value: z
                        .string()
                        .optional()
                        .describe('What the tag says, in CEL, such as request.host or "fixed" in quotes'),
                    }),
                  )
                  .optional()
                  .describe("Changes to tags of the metric, by name of the tag"),
              }),
            )
            .optional()
            .describe("Changes to single metrics; later ones, and those of narrower objects, beat earlier ones"),
        }),
      )
      .optional()
      .describe("Metrics of requests and connections"),
    accessLogging: z
      .array(
        z.strictObject({
          match: sides,
          providers: providers.describe(
            "Who writes, of type envoyFileAccessLog; as a broader object or the mesh says if not written",
          ),
          disabled: z.boolean().optional().describe("Whether nothing is written; false if not written"),
          filter: z
            .strictObject({
              expression: z
                .string()
                .optional()
                .describe("CEL: what is written, such as response.code >= 400; everything if not written"),
            })
            .optional()
            .describe("Which requests and connections are written"),
        }),
      )
      .optional()
      .describe("Access logs of requests and connections; of several entries the last one for a provider counts"),
  })
  .meta({
    description: "Where, and what is told; what is not written is as a broader object or the mesh says",
    ...oneAttachment,
  });

const tagSources = ["literal", "environment", "header", "formatter"] as const;

function check(spec: Field): void {
  checkAttachment(spec);
  const tracing = spec.at("tracing");
  if (tracing.items().length > 1) tracing.warn("has more than one entry", "only the first is used: write one");
  for (const entry of tracing.items()) {
    if (entry.at("providers").items().length > 1) {
      entry.at("providers").warn("names more than one provider", "only the first is used: write one");
    }
    for (const [, tag] of entry.at("customTags").entries()) {
      tag.atMostOne(tagSources);
      if (tag.written(tagSources).length === 0) tag.error("has no value", `write one of ${tagSources.join(", ")}`);
    }
  }
  for (const entry of spec.at("accessLogging").items()) checkExpression(entry.at("filter").at("expression"));
  for (const entry of spec.at("metrics").items()) {
    checkDuration(entry.at("reportingInterval"));
    for (const override of entry.at("overrides").items()) {
      override.at("match").atMostOne(["metric", "customMetric"]);
      for (const [, tag] of override.at("tagOverrides").entries()) checkTagOverride(tag);
    }
  }
}

function checkTagOverride(tag: Field): void {
  const isFilled = (tag.at("value").text ?? "") !== "";
  const isRemoved = tag.at("operation").text === "REMOVE";
  if (isRemoved && isFilled) tag.at("value").error("has no meaning with operation REMOVE", "leave it out");
  if (!isRemoved && !isFilled) tag.error("needs a value", "write an expression, or operation: REMOVE");
  else if (!isRemoved) checkExpression(tag.at("value"));
}

function checkExpression(field: Field): void {
  const { text } = field;
  const problem = text === undefined || text === "" ? undefined : expressionProblem(text);
  if (problem !== undefined) {
    field.error(
      `cannot be used: ${problem}`,
      'write an expression such as response.code >= 400 or request.headers["x-user"]',
    );
  }
}

export const telemetry: KindDefinition = {
  ...telemetryKind,
  kind: "Telemetry",
  plural: "telemetries",
  shortNames: ["telemetry"],
  description: "What the mesh tells of its traffic: metrics, access logs, traces.",
  columns: [age],
  spec,
  check,
};
