/** Access loggers of a chain → functions that write a line when something has ended. */
import { create } from "@bufbuild/protobuf";
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import type { LineSink } from "#shared/observe/logging.ts";
import type { AccessLog } from "#shared/proto/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import {
  SubstitutionFormatStringSchema,
  type SubstitutionFormatString,
} from "#shared/proto/gen/envoy/config/core/v3/substitution_format_string_pb.js";
import {
  FileAccessLogSchema,
  type FileAccessLog,
} from "#shared/proto/gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import {
  StderrAccessLogSchema,
  StdoutAccessLogSchema,
} from "#shared/proto/gen/envoy/extensions/access_loggers/stream/v3/stream_pb.js";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import type { Subject } from "#waypoint/telemetry/subject.ts";
import { compileFilter, type FilterContext, type LogTest } from "./filters.ts";
import { compileLine, defaultLine, type WriteLine } from "./formats.ts";

export interface LogSinks {
  /** Undefined where nothing can be written there. */
  open(path: string): LineSink | undefined;
}

export interface Logger {
  readonly test: LogTest | undefined;
  readonly write: WriteLine;
  readonly sink: LineSink;
}

export function compileLoggers(
  accessLog: readonly AccessLog[],
  sinks: LogSinks,
  context: FilterContext,
): readonly Logger[] {
  return accessLog.flatMap((log, index) => compileLogger(log, `access_log[${index}]`, sinks, context) ?? []);
}

export function logTo(loggers: readonly Logger[], subject: Subject): void {
  for (const { test, write, sink } of loggers) if (test === undefined || test(subject)) sink.write(write(subject));
}

function compileLogger(log: AccessLog, path: string, sinks: LogSinks, context: FilterContext): Logger | undefined {
  const { problem, skipped } = context;
  const test = log.filter === undefined ? undefined : compileFilter(log.filter, `${path}.filter`, context);
  const config = log.configType.value;
  const found = config === undefined ? undefined : targetOf(config, `${path}.typed_config`, context);
  if (found === undefined) {
    if (skipped === undefined)
      problem(path, `no logger "${log.name}" is known here; files and the standard streams are`);
    else skipped(`access logger "${log.name}"`);
    return undefined;
  }
  const sink = sinks.open(found.file);
  if (sink === undefined) problem(`${path}.typed_config.path`, `cannot write to "${found.file}"`);
  return sink && { test, write: found.write, sink };
}

interface Target {
  readonly file: string;
  readonly write: WriteLine;
}

function targetOf(config: Any, path: string, { problem }: FilterContext): Target | undefined {
  const line = (format: SubstitutionFormatString | undefined): WriteLine =>
    format === undefined ? defaultLine(problem) : compileLine(format, `${path}.log_format`, problem);
  const file = anyUnpack(config, FileAccessLogSchema);
  if (file !== undefined) {
    reportUnknownFields(file, problem);
    return { file: file.path, write: line(formatOf(file)) };
  }
  const stdout = anyUnpack(config, StdoutAccessLogSchema);
  const stream = stdout ?? anyUnpack(config, StderrAccessLogSchema);
  if (stream === undefined) return undefined;
  reportUnknownFields(stream, problem);
  return {
    file: stdout === undefined ? "/dev/stderr" : "/dev/stdout",
    write: line(stream.accessLogFormat.case === "logFormat" ? stream.accessLogFormat.value : undefined),
  };
}

/** The older fields say the same as the one form that came after them. */
function formatOf({ accessLogFormat: format }: FileAccessLog): SubstitutionFormatString | undefined {
  switch (format.case) {
    case "logFormat":
      return format.value;
    case "format":
      return create(SubstitutionFormatStringSchema, { format: { case: "textFormat", value: format.value } });
    case "jsonFormat":
    case "typedJsonFormat":
      return create(SubstitutionFormatStringSchema, { format: { case: "jsonFormat", value: format.value } });
    case undefined:
      return undefined;
  }
}
