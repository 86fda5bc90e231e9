/** Durations of configuration and of headers, in milliseconds. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { Problem } from "#waypoint/matching/string-matcher.ts";

/** Undefined where it is not set. Negative ones are reported. */
export function readMs(duration: Duration | undefined, path: string, problem: Problem): number | undefined {
  if (duration === undefined) return undefined;
  const ms = Number(duration.seconds) * 1000 + duration.nanos / 1_000_000;
  if (ms < 0 || Object.is(ms, NaN)) {
    problem(path, `${ms} ms is negative`);
    return 0;
  }
  // What is above zero never becomes "no limit".
  return ms > 0 && ms < 1 ? 1 : Math.floor(ms);
}

const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 0.001, n: 0.000_001 };

/** `grpc-timeout`: at most eight digits and a unit. Undefined where it is something else. */
export function parseGrpcTimeout(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const match = /^(\d{1,8})([HMSmun])$/.exec(value);
  if (match === null) return undefined;
  return Math.ceil(Number(match[1]) * (unitMs[match[2] as string] as number));
}

/** Whole milliseconds in the widest unit that says them exactly enough. */
export function formatGrpcTimeout(ms: number): string {
  if (ms <= 99_999_999) return `${ms}m`;
  const seconds = Math.floor(ms / 1000);
  return seconds <= 99_999_999 ? `${seconds}S` : `${Math.min(Math.floor(seconds / 60), 99_999_999)}M`;
}
