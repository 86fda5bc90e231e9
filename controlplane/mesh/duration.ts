import { parseDurationMs } from "#shared/config/env-reader.ts";
import { ShapeError, type Field } from "./field.ts";

/** A duration as Go writes it, in milliseconds; undefined where absent. */
export function durationMs(field: Field): number | undefined {
  const text = field.optionalText();
  if (text === undefined) return undefined;
  const ms = parseDurationMs(text);
  if (ms === undefined) throw new ShapeError(field.path, 'a duration such as "10s" or "1m30s"', text);
  return ms;
}
