/** Access logs of a chain: which providers write what, and in which form. */
import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import { expressionProblem } from "#shared/expressions/check-expression.ts";
import type { AccessLogSchema } from "#shared/proto/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import type { SubstitutionFormatStringSchema } from "#shared/proto/gen/envoy/config/core/v3/substitution_format_string_pb.js";
import { FileAccessLogSchema } from "#shared/proto/gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { ExpressionFilterSchema } from "#shared/proto/gen/envoy/extensions/access_loggers/filters/cel/v3/cel_pb.js";
import type { FileLogProvider, MeshTelemetry } from "#controlplane/mesh/mesh-telemetry.ts";
import type { Telemetry } from "#controlplane/mesh/objects.ts";
import { pack } from "../messages.ts";
import { concernsServers } from "./in-force.ts";

export type AccessLogInit = MessageInitShape<typeof AccessLogSchema>;

/** What one provider writes. */
interface Wanted {
  readonly disabled: boolean;
  readonly expression: string;
}

/** Stands for the log of the older settings among providers. */
const legacyName = "";

export function accessLogs(
  { defaults, providers, accessLog }: MeshTelemetry,
  telemetries: readonly Telemetry[],
  report: (problem: string) => void,
): readonly AccessLogInit[] {
  const usual =
    defaults.accessLogging.length > 0 ? defaults.accessLogging : accessLog === undefined ? [] : [legacyName];
  return [...mergeLogs(telemetries, usual)].flatMap(([name, { disabled, expression }]) => {
    if (disabled) return [];
    const provider = name === legacyName ? accessLog : providers.get(name);
    if (provider === undefined) {
      report(`the mesh has no extension provider "${name}": add it to extensionProviders`);
      return [];
    }
    if (provider.kind !== "file-log") {
      const what =
        provider.kind === "unsupported" ? `is of type ${provider.type}, which is not supported` : "writes no logs";
      report(`extension provider "${name}" ${what}: use an envoyFileAccessLog`);
      return [];
    }
    return [fileLog(provider, expression)];
  });
}

/** Provider → what it writes. Lists of providers replace broader ones; of several rules for one, the last counts. */
function mergeLogs(telemetries: readonly Telemetry[], usual: readonly string[]): ReadonlyMap<string, Wanted> {
  const rules = telemetries.map(({ accessLogging }) => accessLogging.filter(concernsServers));
  const wanted = new Map<string, Wanted>();
  if (rules.every((each) => each.length === 0)) {
    for (const name of usual) wanted.set(name, { disabled: false, expression: "" });
    return wanted;
  }
  const named = rules.map((each) => each.flatMap(({ providers }) => providers)).findLast(({ length }) => length > 0);
  const inScope = new Set(named ?? usual);
  let parents = usual;
  for (const { providers, disabled, expression } of rules.flat()) {
    if (providers.length > 0) parents = providers;
    for (const name of parents) {
      if (!inScope.has(name)) continue;
      // Who names no providers leaves what was filtered before.
      const kept = providers.length > 0 ? "" : (wanted.get(name)?.expression ?? "");
      wanted.set(name, { disabled, expression: expression === "" ? kept : expression });
    }
  }
  return wanted;
}

/** What is wrong with expressions of an object is told where it was written; here they do not count, and nothing is logged. */
function fileLog(provider: FileLogProvider, expression: string): AccessLogInit {
  const isUnreadable = expression !== "" && expressionProblem(expression) !== undefined;
  const filtered = isUnreadable ? "false" : expression;
  return {
    name: "envoy.access_loggers.file",
    configType: {
      case: "typedConfig",
      value: pack(FileAccessLogSchema, {
        path: provider.path,
        accessLogFormat: { case: "logFormat", value: logFormat(provider) },
      }),
    },
    ...(filtered === ""
      ? {}
      : {
          filter: {
            filterSpecifier: {
              case: "extensionFilter",
              value: {
                name: "envoy.access_loggers.extension_filters.cel",
                configType: { case: "typedConfig", value: pack(ExpressionFilterSchema, { expression: filtered }) },
              },
            },
          },
        }),
  };
}

function logFormat({
  format,
  omitEmptyValues,
}: FileLogProvider): Exclude<MessageInitShape<typeof SubstitutionFormatStringSchema>, { $typeName: string }> {
  switch (format.kind) {
    case "default":
      return { format: { case: "textFormat", value: defaultText }, omitEmptyValues };
    case "text": {
      const value = format.text.endsWith("\n") ? format.text : `${format.text}\n`;
      return { format: { case: "textFormat", value }, omitEmptyValues };
    }
    case "json": {
      const value = format.labels.size === 0 ? defaultJson : (Object.fromEntries(format.labels) as JsonObject);
      return { format: { case: "jsonFormat", value }, omitEmptyValues };
    }
  }
}

/** Istio's, field by field. */
const defaultText =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% ' +
  '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% ' +
  "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

const defaultJson: JsonObject = {
  start_time: "%START_TIME%",
  method: "%REQ(:METHOD)%",
  path: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
  protocol: "%PROTOCOL%",
  response_code: "%RESPONSE_CODE%",
  response_flags: "%RESPONSE_FLAGS%",
  response_code_details: "%RESPONSE_CODE_DETAILS%",
  connection_termination_details: "%CONNECTION_TERMINATION_DETAILS%",
  upstream_transport_failure_reason: "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
  bytes_received: "%BYTES_RECEIVED%",
  bytes_sent: "%BYTES_SENT%",
  duration: "%DURATION%",
  upstream_service_time: "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
  x_forwarded_for: "%REQ(X-FORWARDED-FOR)%",
  user_agent: "%REQ(USER-AGENT)%",
  request_id: "%REQ(X-REQUEST-ID)%",
  authority: "%REQ(:AUTHORITY)%",
  upstream_host: "%UPSTREAM_HOST%",
  upstream_cluster: "%UPSTREAM_CLUSTER_RAW%",
  upstream_local_address: "%UPSTREAM_LOCAL_ADDRESS%",
  downstream_local_address: "%DOWNSTREAM_LOCAL_ADDRESS%",
  downstream_remote_address: "%DOWNSTREAM_REMOTE_ADDRESS%",
  requested_server_name: "%REQUESTED_SERVER_NAME%",
  route_name: "%ROUTE_NAME%",
};
