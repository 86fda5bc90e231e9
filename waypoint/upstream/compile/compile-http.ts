/** How HTTP is spoken with a cluster's hosts. */
import type { Any } from "@bufbuild/protobuf/wkt";
import {
  Cluster_ClusterProtocolSelection,
  type Cluster,
} from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import {
  Http1ProtocolOptionsSchema,
  Http2ProtocolOptionsSchema,
  HttpProtocolOptionsSchema as CommonOptionsSchema,
  KeepaliveSettingsSchema,
  UpstreamHttpProtocolOptionsSchema,
  type Http1ProtocolOptions,
  type Http2ProtocolOptions,
  type HttpProtocolOptions as CommonOptions,
  type UpstreamHttpProtocolOptions,
} from "#shared/proto/gen/envoy/config/core/v3/protocol_pb.js";
import {
  HttpProtocolOptionsSchema,
  HttpProtocolOptions_AutoHttpConfigSchema,
  HttpProtocolOptions_ExplicitHttpConfigSchema,
  HttpProtocolOptions_UseDownstreamHttpConfigSchema,
  type HttpProtocolOptions,
} from "#shared/proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { explain } from "#shared/errors/mesh-error.ts";
import { decodeErrorStatuses, errorStatusesField } from "#shared/xds/error-statuses.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import { poolLimitsDefault, type HttpPoolOptions, type PoolLimits } from "../transport/pool-options.ts";
import { typeNameOf, unpack } from "./any.ts";
import { checkFields, newerMessage } from "./set-fields.ts";

export interface HttpConfig {
  readonly protocol: HttpPoolOptions["protocol"];
  readonly limits: Omit<PoolLimits, "maxConnections" | "maxPendingRequests">;
  /** Server name of TLS from a request's authority, or from this header. */
  readonly autoSni: { readonly header: string | undefined } | undefined;
  /** The certificate has to be for that name. */
  readonly verifiesAutoSni: boolean;
  /** For outlier detection; undefined: those from 500 on. */
  readonly errorStatuses: ReadonlySet<number> | undefined;
}

const key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

export function compileHttp(cluster: Cluster, problem: Problem): HttpConfig {
  let options: HttpProtocolOptions | undefined;
  for (const [name, any] of Object.entries(cluster.typedExtensionProtocolOptions)) {
    const path = `typed_extension_protocol_options["${name}"]`;
    if (name === key && typeNameOf(any) === key) options = unpack(HttpProtocolOptionsSchema, any, path, problem);
    else problem(path, `${typeNameOf(any)} is not supported`);
  }
  return options === undefined ? fromCluster(cluster, problem) : fromOptions(options, problem);
}

/** The older way: options beside each other in the cluster. */
function fromCluster(cluster: Cluster, problem: Problem): HttpConfig {
  const { http2ProtocolOptions: http2, httpProtocolOptions: http1 } = cluster;
  const usesDownstream = cluster.protocolSelection === Cluster_ClusterProtocolSelection.USE_DOWNSTREAM_PROTOCOL;
  const common = compileCommon(cluster.commonHttpProtocolOptions, "common_http_protocol_options", problem);
  return {
    protocol: usesDownstream ? "downstream" : http2 === undefined ? "HTTP/1.1" : "HTTP/2",
    limits: {
      ...common,
      maxRequestsPerConnection: cluster.maxRequestsPerConnection ?? common.maxRequestsPerConnection,
      ...compileHttp1(http1, "http_protocol_options", problem),
      ...compileHttp2(http2, "http2_protocol_options", problem),
    },
    ...compileSni(cluster.upstreamHttpProtocolOptions, "upstream_http_protocol_options", problem),
    errorStatuses: undefined,
  };
}

function fromOptions(options: HttpProtocolOptions, problem: Problem): HttpConfig {
  const path = `typed_extension_protocol_options["${key}"]`;
  const supported = [
    "commonHttpProtocolOptions",
    "upstreamHttpProtocolOptions",
    "explicitHttpConfig",
    "useDownstreamProtocolConfig",
    "autoConfig",
    "httpFilters",
  ];
  checkFields(HttpProtocolOptionsSchema, options, supported, path, problem, [errorStatusesField]);
  for (const [index, { name, configType, isOptional, disabled }] of options.httpFilters.entries()) {
    const any: Any | undefined = configType.case === "typedConfig" ? configType.value : undefined;
    // The codec is what every list of them ends with; it does nothing but send.
    if (typeNameOf(any).endsWith(".upstream_codec.v3.UpstreamCodec") || isOptional || disabled) continue;
    problem(`${path}.http_filters[${index}]`, `upstream filters such as "${name}" are not supported`);
  }
  const { protocol, http2, http1, at } = compileProtocol(options, path, problem);
  return {
    protocol,
    limits: {
      ...compileCommon(options.commonHttpProtocolOptions, `${path}.common_http_protocol_options`, problem),
      ...compileHttp1(http1, `${at}.http_protocol_options`, problem),
      ...compileHttp2(http2, `${at}.http2_protocol_options`, problem),
    },
    ...compileSni(options.upstreamHttpProtocolOptions, `${path}.upstream_http_protocol_options`, problem),
    errorStatuses: compileErrorStatuses(options, `${path}.outlier_detection.error_matcher`, problem),
  };
}

function compileErrorStatuses(
  options: HttpProtocolOptions,
  path: string,
  problem: Problem,
): ReadonlySet<number> | undefined {
  const bytes = newerMessage(options, errorStatusesField);
  if (bytes === undefined || bytes.length === 0) return undefined;
  try {
    const statuses = decodeErrorStatuses(bytes);
    if (statuses === undefined) problem(path, "is supported for single values of :status only");
    return statuses;
  } catch (error) {
    problem(path, `cannot be read: ${explain(error)}`);
    return undefined;
  }
}

interface Protocol {
  readonly protocol: HttpPoolOptions["protocol"];
  readonly http1?: Http1ProtocolOptions | undefined;
  readonly http2?: Http2ProtocolOptions | undefined;
  readonly at: string;
}

function compileProtocol(
  { upstreamProtocolOptions: options }: HttpProtocolOptions,
  path: string,
  problem: Problem,
): Protocol {
  const both = ["httpProtocolOptions", "http2ProtocolOptions"];
  switch (options.case) {
    case "explicitHttpConfig": {
      const at = `${path}.explicit_http_config`;
      checkFields(HttpProtocolOptions_ExplicitHttpConfigSchema, options.value, both, at, problem);
      const config = options.value.protocolConfig;
      if (config.case === "http2ProtocolOptions") return { protocol: "HTTP/2", http2: config.value, at };
      if (config.case === undefined) problem(at, "names no protocol");
      return { protocol: "HTTP/1.1", http1: config.case === "httpProtocolOptions" ? config.value : undefined, at };
    }
    case "useDownstreamProtocolConfig": {
      const at = `${path}.use_downstream_protocol_config`;
      checkFields(HttpProtocolOptions_UseDownstreamHttpConfigSchema, options.value, both, at, problem);
      const { httpProtocolOptions: http1, http2ProtocolOptions: http2 } = options.value;
      return { protocol: "downstream", http1, http2, at };
    }
    case "autoConfig": {
      const at = `${path}.auto_config`;
      checkFields(HttpProtocolOptions_AutoHttpConfigSchema, options.value, both, at, problem);
      const { httpProtocolOptions: http1, http2ProtocolOptions: http2 } = options.value;
      return { protocol: "alpn", http1, http2, at };
    }
    case undefined:
      problem(path, "chooses no protocol");
      return { protocol: "HTTP/1.1", at: path };
  }
}

type CommonLimits = Omit<PoolLimits, "maxConnections" | "maxPendingRequests">;

function compileCommon(common: CommonOptions | undefined, path: string, problem: Problem): CommonLimits {
  if (common === undefined) return poolLimitsDefault;
  const supported = ["idleTimeout", "maxConnectionDuration", "maxRequestsPerConnection", "maxHeadersCount"];
  checkFields(CommonOptionsSchema, common, supported, path, problem);
  const { idleTimeoutMs, maxConnectionDurationMs, maxRequestsPerConnection, maxConcurrentStreams } = poolLimitsDefault;
  return {
    idleTimeoutMs: readMs(common.idleTimeout, `${path}.idle_timeout`, problem) ?? idleTimeoutMs,
    maxConnectionDurationMs:
      readMs(common.maxConnectionDuration, `${path}.max_connection_duration`, problem) ?? maxConnectionDurationMs,
    maxRequestsPerConnection: common.maxRequestsPerConnection ?? maxRequestsPerConnection,
    maxConcurrentStreams,
    maxResponseHeaders: common.maxHeadersCount,
  };
}

const preservedCaseType = "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig";

function compileHttp1(http1: Http1ProtocolOptions | undefined, path: string, problem: Problem): Partial<PoolLimits> {
  if (http1 === undefined) return {};
  // Those that speak of requests mean nothing towards a server; trailers pass in any case.
  const supported = [
    "allowAbsoluteUrl",
    "acceptHttp10",
    "enableTrailers",
    "useBalsaParser",
    "allowCustomMethods",
    "headerKeyFormat",
  ];
  checkFields(Http1ProtocolOptionsSchema, http1, supported, path, problem);
  const format = http1.headerKeyFormat?.headerFormat;
  switch (format?.case) {
    case undefined:
      return {};
    case "properCaseWords":
      return { headerCase: "proper" };
    case "statefulFormatter": {
      const type = typeNameOf(format.value.typedConfig);
      if (type !== preservedCaseType)
        problem(`${path}.header_key_format.stateful_formatter`, `${type} is not supported`);
      return { headerCase: "preserve" };
    }
  }
}

function compileHttp2(http2: Http2ProtocolOptions | undefined, path: string, problem: Problem): Partial<PoolLimits> {
  if (http2 === undefined) return {};
  const supported = [
    "maxConcurrentStreams",
    "allowConnect",
    "connectionKeepalive",
    "overrideStreamErrorOnInvalidHttpMessage",
    "useOghttp2Codec",
  ];
  checkFields(Http2ProtocolOptionsSchema, http2, supported, path, problem);
  const keepAlive = http2.connectionKeepalive;
  const streams = http2.maxConcurrentStreams;
  if (streams === 0) problem(`${path}.max_concurrent_streams`, "is not above 0");
  const limits = streams === undefined ? {} : { maxConcurrentStreams: streams };
  if (keepAlive === undefined) return limits;
  const at = `${path}.connection_keepalive`;
  checkFields(KeepaliveSettingsSchema, keepAlive, ["interval", "timeout", "intervalJitter"], at, problem);
  const intervalMs = readMs(keepAlive.interval, `${at}.interval`, problem) ?? 0;
  const timeoutMs = readMs(keepAlive.timeout, `${at}.timeout`, problem) ?? 0;
  if (timeoutMs === 0) problem(`${at}.timeout`, "is missing");
  return intervalMs === 0 ? limits : { ...limits, http2KeepAlive: { intervalMs, timeoutMs } };
}

function compileSni(
  options: UpstreamHttpProtocolOptions | undefined,
  path: string,
  problem: Problem,
): Pick<HttpConfig, "autoSni" | "verifiesAutoSni"> {
  if (options === undefined) return { autoSni: undefined, verifiesAutoSni: false };
  const supported = ["autoSni", "autoSanValidation", "overrideAutoSniHeader"];
  checkFields(UpstreamHttpProtocolOptionsSchema, options, supported, path, problem);
  const header = options.overrideAutoSniHeader.toLowerCase();
  return {
    autoSni: options.autoSni ? { header: header === "" || header === ":authority" ? undefined : header } : undefined,
    verifiesAutoSni: options.autoSanValidation,
  };
}
