/** The lines of access logs: text with commands, or JSON of them. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { SubstitutionFormatString } from "#shared/proto/gen/envoy/config/core/v3/substitution_format_string_pb.js";
import { visible } from "#shared/observe/logging.ts";
import { toBytes, toText } from "#waypoint/http/latin1.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { compileFormat } from "#waypoint/routing/format.ts";
import type { FormatSubject } from "#waypoint/routing/format-subject.ts";

/** One line, with its end. */
export type WriteLine = (subject: FormatSubject) => string;

/** What Envoy's loggers write where no format is given. */
const envoyDefault =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" ' +
  '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n';

export const defaultLine = (problem: Problem): WriteLine => textLine(envoyDefault, "", problem, "-");

export function compileLine(format: SubstitutionFormatString, path: string, problem: Problem): WriteLine {
  const { omitEmptyValues, formatters } = format;
  for (const { name } of formatters) {
    // Those that older configurations name are built in.
    if (!builtIn.has(name)) problem(`${path}.formatters`, `"${name}" is not known`);
  }
  const missing = omitEmptyValues ? "" : "-";
  switch (format.format.case) {
    case "textFormat":
      return textLine(format.format.value, `${path}.text_format`, problem, missing);
    case "textFormatSource": {
      const source = format.format.value.specifier;
      const at = `${path}.text_format_source`;
      if (source.case === "inlineString") return textLine(source.value, at, problem, missing);
      if (source.case === "inlineBytes") return textLine(Buffer.from(source.value).toString(), at, problem, missing);
      problem(at, "has to hold the format itself");
      return () => "";
    }
    case "jsonFormat": {
      const write = jsonObject(format.format.value, `${path}.json_format`, problem, omitEmptyValues);
      return (subject) => `${visible(toText(write(subject) ?? "{}"))}\n`;
    }
    case undefined:
      problem(path, "has no format");
      return () => "";
  }
}

const builtIn = new Set(["envoy.formatter.req_without_query", "envoy.formatter.metadata", "envoy.formatter.cel"]);

/** A line is one line, whatever others have written into its fields: only the format itself breaks it. */
function textLine(text: string, path: string, problem: Problem, missing: string): WriteLine {
  const lines = text.split("\n").map((line) => compileFormat(line, path, problem));
  const [only] = lines;
  if (lines.length === 1 && only !== undefined) return (subject) => visible(toText(only.format(subject, missing)));
  return (subject) => lines.map((line) => visible(toText(line.format(subject, missing)))).join("\n");
}

type Write = (subject: FormatSubject) => string | undefined;

/** Keys in order, as Envoy sorts them. */
function jsonObject(object: JsonObject, path: string, problem: Problem, omitsEmpty: boolean): Write {
  const members = Object.entries(object)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => ({
      prefix: `${toBytes(JSON.stringify(key))}:`,
      write: jsonValue(value, `${path}.${key}`, problem, omitsEmpty),
    }));
  return (subject) => {
    let text = "";
    for (const { prefix, write } of members) {
      const value = write(subject);
      if (value !== undefined) text += `${text === "" ? "" : ","}${prefix}${value}`;
    }
    return text === "" && omitsEmpty && members.length > 0 ? undefined : `{${text}}`;
  };
}

/** Undefined is left out. */
function jsonValue(value: JsonValue, path: string, problem: Problem, omitsEmpty: boolean): Write {
  if (typeof value === "string") {
    const format = compileFormat(value, path, problem);
    const missing = omitsEmpty ? "" : "-";
    if (!format.isSingle) {
      return (subject) => JSON.stringify(format.format(subject, missing));
    }
    return (subject) => {
      const found = format.value(subject, "");
      if (found !== "") return typeof found === "object" ? toBytes(JSON.stringify(found)) : JSON.stringify(found);
      return omitsEmpty ? undefined : "null";
    };
  }
  if (Array.isArray(value)) {
    const items = value.map((item, index) => jsonValue(item, `${path}[${index}]`, problem, omitsEmpty));
    return (subject) => `[${items.flatMap((item) => item(subject) ?? []).join(",")}]`;
  }
  if (typeof value === "object" && value !== null) return jsonObject(value, path, problem, omitsEmpty);
  const text = JSON.stringify(value);
  return () => text;
}
