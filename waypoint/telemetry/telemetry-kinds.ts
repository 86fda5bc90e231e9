/** Access logs, tracing and metrics of a chain, compiled into observers. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { AccessLog } from "#shared/proto/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import type { HttpConnectionManager_Tracing } from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { UuidRequestIdConfig } from "#shared/proto/gen/envoy/extensions/request_id/uuid/v3/uuid_pb.js";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import type { ExchangeObserver, RefusedConnect, TcpObserver } from "./observers.ts";

export interface HttpTelemetrySettings {
  readonly accessLog: readonly AccessLog[];
  readonly tracing: HttpConnectionManager_Tracing | undefined;
  /** How ids of requests have to do with traces. */
  readonly requestId: UuidRequestIdConfig | undefined;
  /** Of Istio's stats filter; undefined where there is none: metrics are as usual. */
  readonly stats: JsonObject | undefined;
}

export interface TcpTelemetrySettings {
  readonly accessLog: readonly AccessLog[];
  readonly stats: JsonObject | undefined;
}

export interface TelemetryContext extends LayerContext {
  /**
   * Told of kinds of loggers and tracers that are not known here: traffic does not stop because it could be told of less.
   * Where it is missing, they are problems.
   */
  readonly skipped?: ((what: string) => void) | undefined;
}

/** What a process offers; every mistake goes to `context.problem`. */
export interface TelemetryKinds {
  http(settings: HttpTelemetrySettings, chain: string, context: TelemetryContext): readonly ExchangeObserver[];
  tcp(settings: TcpTelemetrySettings, chain: string, context: TelemetryContext): readonly TcpObserver[];
  /** Of requests for tunnels that are refused. */
  connects(accessLog: readonly AccessLog[], context: TelemetryContext): (refused: RefusedConnect) => void;
  /** Of connections that no chain of a listener takes. */
  refusals(accessLog: readonly AccessLog[], listener: string, context: TelemetryContext): readonly TcpObserver[];
}

/** Offers nothing: what is asked for is refused. */
export const noTelemetry: TelemetryKinds = {
  http({ accessLog, tracing }, _chain, { problem }) {
    refuseLogs(accessLog, problem);
    if (tracing !== undefined) problem("tracing", "is set, but this proxy does not trace");
    return [];
  },
  tcp({ accessLog }, _chain, { problem }) {
    refuseLogs(accessLog, problem);
    return [];
  },
  connects(accessLog, { problem }) {
    refuseLogs(accessLog, problem);
    return () => {};
  },
  refusals(accessLog, _listener, { problem }) {
    refuseLogs(accessLog, problem);
    return [];
  },
};

function refuseLogs(accessLog: readonly AccessLog[], problem: LayerContext["problem"]): void {
  accessLog.forEach(({ name }, index) => problem(`access_log[${index}]`, `no logger "${name}" is known here`));
}
