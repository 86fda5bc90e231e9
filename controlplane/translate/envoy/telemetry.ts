/** What is observed of a chain's traffic: the place where access logs, traces and metrics come into the configuration. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AccessLogSchema } from "#shared/proto/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import type { FilterSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import type {
  HttpConnectionManager_TracingSchema,
  HttpFilterSchema,
} from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import type { EnvoyContext } from "./context.ts";

export interface ChainTelemetry {
  readonly accessLog: readonly MessageInitShape<typeof AccessLogSchema>[];
  readonly tracing: MessageInitShape<typeof HttpConnectionManager_TracingSchema> | undefined;
  readonly httpFilters: readonly MessageInitShape<typeof HttpFilterSchema>[];
  readonly networkFilters: readonly MessageInitShape<typeof FilterSchema>[];
}

/** `service` is undefined for workloads that are addressed themselves. */
export function telemetryFor(_context: EnvoyContext, _service: ServiceInfo | undefined): ChainTelemetry {
  return { accessLog: [], tracing: undefined, httpFilters: [], networkFilters: [] };
}
