/** Kubernetes label selectors. */
import type { Field } from "./field.ts";
import type { Labels, LabelSelector } from "./objects.ts";

export function readLabelSelector(selector: Field): LabelSelector | undefined {
  if (!selector.isPresent) return undefined;
  return {
    matchLabels: selector.at("matchLabels").textMap(),
    matchExpressions: selector
      .at("matchExpressions")
      .list()
      .map((expression) => ({
        key: expression.at("key").text(),
        operator: expression.at("operator").text(),
        values: expression.at("values").list().map(readValue),
      })),
  };
}

// In YAML people write `values: [true]`, and Istio's own documentation does so.
function readValue(value: Field): string {
  return String(value.scalar());
}

/** Whether every wanted label is there with its value. An empty set matches all. */
export function includesLabels(labels: Labels, wanted: Labels): boolean {
  for (const [key, value] of wanted) if (labels.get(key) !== value) return false;
  return true;
}

/** An operator that does not exist matches nothing. */
export function matchesSelector(selector: LabelSelector, labels: Labels): boolean {
  if (!includesLabels(labels, selector.matchLabels)) return false;
  return selector.matchExpressions.every(({ key, operator, values }) => {
    const value = labels.get(key);
    switch (operator) {
      case "In":
        return value !== undefined && values.includes(value);
      case "NotIn":
        return value === undefined || !values.includes(value);
      case "Exists":
        return value !== undefined;
      case "DoesNotExist":
        return value === undefined;
      default:
        return false;
    }
  });
}
