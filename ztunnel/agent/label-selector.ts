/** Kubernetes label selectors, compiled when they are read. */
import { z } from "zod";
import type { Labels } from "./pod-facts.ts";

const expressionSchema = z
  .strictObject({
    key: z.string().min(1),
    operator: z.enum(["In", "NotIn", "Exists", "DoesNotExist"]),
    values: z.array(z.string()).default([]),
  })
  .refine(({ operator, values }) => (operator === "In" || operator === "NotIn") === values.length > 0, {
    message: "In and NotIn need values, Exists and DoesNotExist have none",
    path: ["values"],
  });

export const labelSelectorSchema = z.strictObject({
  matchLabels: z.record(z.string(), z.string()).default({}),
  matchExpressions: z.array(expressionSchema).default([]),
});

export type LabelSelector = z.infer<typeof labelSelectorSchema>;
type Expression = z.infer<typeof expressionSchema>;

/** An empty selector matches everything. */
export function compileSelector({ matchLabels, matchExpressions }: LabelSelector): (labels: Labels) => boolean {
  const wanted = Object.entries(matchLabels);
  return (labels) =>
    wanted.every(([key, value]) => labelOf(labels, key) === value) &&
    matchExpressions.every((expression) => matches(expression, labelOf(labels, expression.key)));
}

/** Own labels only: one called `constructor` is not there by itself. */
const labelOf = (labels: Labels, key: string): string | undefined =>
  Object.hasOwn(labels, key) ? labels[key] : undefined;

function matches({ operator, values }: Expression, value: string | undefined): boolean {
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
  }
}
