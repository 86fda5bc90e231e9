import { z } from "zod";
import { expressionProblem } from "#shared/expressions/check-expression.ts";
import { attachment, checkAttachment, oneAttachment } from "./attachment.ts";
import type { Field } from "./field.ts";
import { age, telemetryKind, type KindDefinition } from "./kind.ts";
import { checkDuration, duration, filled } from "./scalars.ts";

const providers = z.array(z.strictObject({ name: filled })).optional();
const modes = z.enum(["CLIENT_AND_SERVER", "CLIENT", "SERVER"]).optional();
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

const customTag = z.strictObject({
  literal: z.strictObject({ value: filled }).optional(),
  environment: z.strictObject({ name: filled, defaultValue: z.string().optional() }).optional(),
  header: z.strictObject({ name: filled, defaultValue: z.string().optional() }).optional(),
  formatter: z.strictObject({ value: filled }).optional(),
});

const spec = z
  .strictObject({
    ...attachment,
    tracing: z
      .array(
        z.strictObject({
          match: z.strictObject({ mode: modes }).optional(),
          providers,
          randomSamplingPercentage: z.number().min(0).max(100).optional(),
          disableSpanReporting: z.boolean().optional(),
          customTags: z.record(z.string(), customTag).optional(),
          useRequestIdForTraceSampling: z.boolean().optional(),
          enableIstioTags: z.boolean().optional(),
          disableContextPropagation: z.boolean().optional(),
        }),
      )
      .optional(),
    metrics: z
      .array(
        z.strictObject({
          providers,
          reportingInterval: duration.optional(),
          overrides: z
            .array(
              z.strictObject({
                match: z
                  .strictObject({ metric: z.enum(metrics).optional(), customMetric: filled.optional(), mode: modes })
                  .optional(),
                disabled: z.boolean().optional(),
                tagOverrides: z
                  .record(
                    z.string(),
                    z.strictObject({
                      operation: z.enum(["UPSERT", "REMOVE"]).optional(),
                      value: z.string().optional(),
                    }),
                  )
                  .optional(),
              }),
            )
            .optional(),
        }),
      )
      .optional(),
    accessLogging: z
      .array(
        z.strictObject({
          match: z.strictObject({ mode: modes }).optional(),
          providers,
          disabled: z.boolean().optional(),
          filter: z.strictObject({ expression: z.string().optional() }).optional(),
        }),
      )
      .optional(),
  })
  .meta(oneAttachment);

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
