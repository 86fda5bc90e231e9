/** What a connection manager says of the codecs. */
import { HttpProtocolOptions_HeadersWithUnderscoresAction as Underscores } from "#shared/proto/gen/envoy/config/core/v3/protocol_pb.js";
import {
  HttpConnectionManager_CodecType as CodecType,
  type HttpConnectionManager,
} from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { Headers } from "#waypoint/http/headers.ts";
import { http1ServerDefaults, type Http1ServerOptions } from "#waypoint/http/http1-server.ts";
import { http2ServerDefaults } from "#waypoint/http/http2-server.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import type { CodecSettings } from "./codec-settings.ts";
import type { ListenerContext } from "./compile-context.ts";
import { fieldTables, refuseUnsupported } from "./supported-fields.ts";

/** As Envoy's: an hour without a request, 60 KiB and 100 fields of head. */
const defaults = { idleTimeoutMs: 3_600_000, maxHeadKib: 60, maxHeaders: 100 } as const;

export function compileCodec(
  config: HttpConnectionManager,
  serverName: string,
  { problem }: ListenerContext,
): CodecSettings {
  const common = config.commonHttpProtocolOptions;
  refuseUnsupported(fieldTables.commonHttp, common, "common_http_protocol_options", problem);
  if (common !== undefined && common.headersWithUnderscoresAction !== Underscores.ALLOW) {
    problem("common_http_protocol_options.headers_with_underscores_action", "only ALLOW is supported");
  }
  const idleTimeoutMs =
    readMs(common?.idleTimeout, "common_http_protocol_options.idle_timeout", problem) ?? defaults.idleTimeoutMs;
  const head: HeadBounds = {
    maxHeadBytes: (config.maxRequestHeadersKb ?? defaults.maxHeadKib) * 1_024,
    maxHeaders: common?.maxHeadersCount ?? defaults.maxHeaders,
  };
  const settings: Omit<CodecSettings, "key"> = {
    protocol: protocolOf(config, problem),
    http1: http1Options(config, serverName, head, idleTimeoutMs, problem),
    http2: http2Options(config, serverName, head, idleTimeoutMs, problem),
    idleTimeoutMs,
    maxConnectionDurationMs:
      readMs(common?.maxConnectionDuration, "common_http_protocol_options.max_connection_duration", problem) ?? 0,
    maxRequestsPerConnection: common?.maxRequestsPerConnection ?? 0,
  };
  return { ...settings, key: JSON.stringify(settings) };
}

interface HeadBounds {
  readonly maxHeadBytes: number;
  readonly maxHeaders: number;
}

function protocolOf({ codecType }: HttpConnectionManager, problem: Problem): CodecSettings["protocol"] {
  switch (codecType) {
    case CodecType.AUTO:
      return "auto";
    case CodecType.HTTP1:
      return "HTTP/1";
    case CodecType.HTTP2:
      return "HTTP/2";
    case CodecType.HTTP3:
      problem("codec_type", "HTTP3 is not supported");
      return "auto";
  }
}

function http1Options(
  config: HttpConnectionManager,
  serverName: string,
  head: HeadBounds,
  idleTimeoutMs: number,
  problem: Problem,
): Http1ServerOptions {
  const options = config.httpProtocolOptions;
  refuseUnsupported(fieldTables.http1, options, "http_protocol_options", problem);
  const headTimeoutMs = readMs(config.requestHeadersTimeout, "request_headers_timeout", problem) ?? 0;
  return {
    ...http1ServerDefaults,
    ...head,
    acceptsHttp10: options?.acceptHttp10 ?? false,
    defaultHost:
      options === undefined || options.defaultHostForHttp10 === "" ? undefined : options.defaultHostForHttp10,
    acceptsConnect: true,
    headerCase: headerCaseOf(config, problem),
    ...(headTimeoutMs > 0 && { headTimeoutMs }),
    idleTimeoutMs,
    lingerMs: readMs(config.delayedCloseTimeout, "delayed_close_timeout", problem) ?? http1ServerDefaults.lingerMs,
    ownFields: new Headers(["server", serverName]),
  };
}

const preservedCaseType = "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig";

function headerCaseOf(
  { httpProtocolOptions }: HttpConnectionManager,
  problem: Problem,
): Http1ServerOptions["headerCase"] {
  const format = httpProtocolOptions?.headerKeyFormat?.headerFormat;
  switch (format?.case) {
    case undefined:
      return "lower";
    case "properCaseWords":
      return "proper";
    case "statefulFormatter": {
      const typeUrl = format.value.typedConfig?.typeUrl ?? "";
      if (typeUrl.endsWith(`/${preservedCaseType}`)) return "preserve";
      problem("http_protocol_options.header_key_format.stateful_formatter", `"${typeUrl}" is not known here`);
      return "lower";
    }
  }
}

function http2Options(
  { http2ProtocolOptions: options }: HttpConnectionManager,
  serverName: string,
  { maxHeadBytes, maxHeaders }: HeadBounds,
  idleTimeoutMs: number,
  problem: Problem,
): CodecSettings["http2"] {
  const path = "http2_protocol_options";
  refuseUnsupported(fieldTables.http2, options, path, problem);
  const pings = options?.connectionKeepalive;
  refuseUnsupported(fieldTables.keepAlive, pings, `${path}.connection_keepalive`, problem);
  const intervalMs = readMs(pings?.interval, `${path}.connection_keepalive.interval`, problem) ?? 0;
  const timeoutMs = readMs(pings?.timeout, `${path}.connection_keepalive.timeout`, problem) ?? 0;
  if (pings !== undefined && timeoutMs === 0) problem(`${path}.connection_keepalive.timeout`, "has to be above zero");
  return {
    ...http2ServerDefaults,
    maxHeaderBytes: maxHeadBytes,
    maxHeaders,
    idleTimeoutMs,
    ownFields: new Headers(["server", serverName]),
    ...(options?.maxConcurrentStreams !== undefined && { maxConcurrentStreams: options.maxConcurrentStreams }),
    ...(options?.initialStreamWindowSize !== undefined && { streamWindow: options.initialStreamWindowSize }),
    ...(options?.initialConnectionWindowSize !== undefined && {
      connectionWindow: options.initialConnectionWindowSize,
    }),
    ...(intervalMs > 0 && { keepAlive: { intervalMs, timeoutMs } }),
  };
}
