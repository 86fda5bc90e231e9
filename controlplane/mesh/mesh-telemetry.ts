/** What MeshConfig says of telemetry: where it goes (`extensionProviders`), and what is told where no Telemetry says so. */
import { durationMs } from "./duration.ts";
import type { Field } from "./field.ts";
import { readCustomTags, type TagSource } from "./telemetry.ts";

/** Lines: text, or an object whose values are commands. */
export type LogFormat =
  | { readonly kind: "default" }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "json"; readonly labels: ReadonlyMap<string, unknown> };

export interface FileLogProvider {
  readonly kind: "file-log";
  readonly path: string;
  readonly format: LogFormat;
  readonly omitEmptyValues: boolean;
}

export interface NamedValue {
  readonly name: string;
  readonly value: string;
  /** Of a variable in the environment of the proxy; not known here. */
  readonly environment: string;
}

/** Where spans go. */
interface TraceCollector {
  /** `hostname` or `namespace/hostname`. */
  readonly service: string;
  readonly port: number;
  readonly maxTagLength: number | undefined;
  /** What is asked for and not supported, by name. */
  readonly unsupported: readonly string[];
}

export interface ZipkinProvider extends TraceCollector {
  readonly kind: "zipkin";
  readonly path: string;
}

export type TracingProvider = OpenTelemetryProvider | ZipkinProvider;

export interface OpenTelemetryProvider extends TraceCollector {
  readonly kind: "opentelemetry";
  /** undefined: over gRPC. */
  readonly http:
    | { readonly path: string; readonly timeoutMs: number | undefined; readonly headers: readonly NamedValue[] }
    | undefined;
  readonly grpcTimeoutMs: number | undefined;
  readonly grpcMetadata: readonly NamedValue[];
  readonly detectsEnvironment: boolean;
}

export type TelemetryProvider =
  | FileLogProvider
  | TracingProvider
  | { readonly kind: "prometheus" }
  /** Known to Istio, not supported here. */
  | { readonly kind: "unsupported"; readonly type: string };

export interface MeshTelemetry {
  /** By name in lower case. */
  readonly providers: ReadonlyMap<string, TelemetryProvider>;
  /** Names in lower case; undefined where nothing is said. */
  readonly defaults: {
    readonly tracing: readonly string[];
    readonly metrics: readonly string[] | undefined;
    readonly accessLogging: readonly string[];
  };
  /** The older way to ask for access logs; undefined: none. */
  readonly accessLog: FileLogProvider | undefined;
  /** From 0 to 100. */
  readonly sampling: number;
  readonly maxPathTagLength: number | undefined;
  readonly customTags: ReadonlyMap<string, TagSource>;
}

const ownFileLog = "envoy";

/** There without being written, as in Istio. */
const builtIn = (format: LogFormat): readonly (readonly [string, TelemetryProvider])[] => [
  [ownFileLog, { kind: "file-log", path: "/dev/stdout", format, omitEmptyValues: false }],
  ["prometheus", { kind: "prometheus" }],
];

export const defaultMeshTelemetry: MeshTelemetry = {
  providers: new Map(builtIn({ kind: "default" })),
  defaults: { tracing: [], metrics: undefined, accessLogging: [] },
  accessLog: undefined,
  sampling: 1,
  maxPathTagLength: undefined,
  customTags: new Map(),
};

export function readMeshTelemetry(mesh: Field): MeshTelemetry {
  const defaults = mesh.at("defaultProviders");
  const names = (field: Field) => field.texts().map((name) => name.toLowerCase());
  const tracing = mesh.at("defaultConfig").at("tracing");
  const tags = tracing.at("customTags");
  const usual = readUsualFormat(mesh);
  return {
    providers: new Map([
      ...builtIn(usual),
      ...mesh
        .at("extensionProviders")
        .list()
        .flatMap((each) => readProvider(each, usual)),
    ]),
    defaults: {
      tracing: names(defaults.at("tracing")),
      metrics: defaults.at("metrics").isPresent ? names(defaults.at("metrics")) : undefined,
      accessLogging: names(defaults.at("accessLogging")),
    },
    accessLog: readAccessLog(mesh, usual),
    sampling: tracing.at("sampling").decimal() ?? defaultMeshTelemetry.sampling,
    maxPathTagLength: readMaxLength(tracing.at("maxPathTagLength")),
    customTags: tags.isPresent ? readCustomTags(tags) : new Map<string, TagSource>(),
  };
}

/** Zero says nothing. */
const readMaxLength = (field: Field): number | undefined => (field.isPresent && field.uint32()) || undefined;

function readAccessLog(mesh: Field, format: LogFormat): FileLogProvider | undefined {
  const path = mesh.at("accessLogFile").text();
  return path === "" ? undefined : { kind: "file-log", path, format, omitEmptyValues: false };
}

/** That of the older settings, which Istio's own provider has, too. */
function readUsualFormat(mesh: Field): LogFormat {
  const text = mesh.at("accessLogFormat").text();
  const isJson = mesh.at("accessLogEncoding").text() === "JSON";
  if (isJson) return { kind: "json", labels: text === "" ? new Map() : parsedLabels(text) };
  return text === "" ? { kind: "default" } : { kind: "text", text };
}

/** What is no JSON object is left to the default, as Istio does. */
function parsedLabels(text: string): ReadonlyMap<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? new Map(Object.entries(parsed)) : new Map();
  } catch {
    return new Map();
  }
}

/** Istio's others. Authorizers are read elsewhere. */
const unsupportedTypes = [
  "lightstep",
  "datadog",
  "stackdriver",
  "opencensus",
  "skywalking",
  "envoyHttpAls",
  "envoyTcpAls",
  "envoyOtelAls",
  "sds",
] as const;

function readProvider(provider: Field, usual: LogFormat): readonly (readonly [string, TelemetryProvider])[] {
  const name = provider.at("name").text().toLowerCase();
  const file = provider.at("envoyFileAccessLog");
  if (file.isPresent) {
    const log = readFileLog(file);
    const asUsual = name === ownFileLog && !file.at("logFormat").isPresent && !log.omitEmptyValues;
    return [[name, asUsual ? { ...log, format: usual } : log]];
  }
  const opentelemetry = provider.at("opentelemetry");
  if (opentelemetry.isPresent) return [[name, readOpenTelemetry(opentelemetry)]];
  const zipkin = provider.at("zipkin");
  if (zipkin.isPresent) return [[name, readZipkin(zipkin)]];
  if (provider.at("prometheus").isPresent) return [[name, { kind: "prometheus" }]];
  const type = unsupportedTypes.find((each) => provider.at(each).isPresent);
  return type === undefined ? [] : [[name, { kind: "unsupported", type }]];
}

function readFileLog(file: Field): FileLogProvider {
  const format = file.at("logFormat");
  const labels = format.at("labels");
  const text = format.at("text").text();
  return {
    kind: "file-log",
    path: file.at("path").text("/dev/stdout"),
    omitEmptyValues: file.at("omitEmptyValues").flag(),
    format: labels.isPresent
      ? { kind: "json", labels: new Map(labels.entries().map(([name, value]) => [name, value.plain()])) }
      : text === ""
        ? { kind: "default" }
        : { kind: "text", text },
  };
}

const named = (list: Field): readonly NamedValue[] =>
  list.list().map((item) => ({
    name: item.at("name").text(),
    value: item.at("value").text(),
    environment: item.at("envName").text(),
  }));

/** Ids always have 128 bits, and traces are handed on in both ways: options about that change nothing. */
function readZipkin(field: Field): ZipkinProvider {
  const maxTagLength = field.at("maxTagLength");
  return {
    kind: "zipkin",
    service: field.at("service").text(),
    port: field.at("port").port(),
    path: field.at("path").text("/api/v2/spans"),
    maxTagLength: maxTagLength.isPresent ? maxTagLength.uint32() : undefined,
    unsupported: ["timeout", "headers"].filter((name) => field.at(name).isPresent),
  };
}

function readOpenTelemetry(field: Field): OpenTelemetryProvider {
  const http = field.at("http");
  const grpc = field.at("grpc");
  const detectors = field.at("resourceDetectors");
  return {
    kind: "opentelemetry",
    service: field.at("service").text(),
    port: field.at("port").port(),
    maxTagLength: readMaxLength(field.at("maxTagLength")),
    http: http.isPresent
      ? {
          path: http.at("path").text("/"),
          timeoutMs: durationMs(http.at("timeout")),
          headers: named(http.at("headers")),
        }
      : undefined,
    grpcTimeoutMs: durationMs(grpc.at("timeout")),
    grpcMetadata: named(grpc.at("initialMetadata")),
    detectsEnvironment: detectors.at("environment").isPresent,
    unsupported: [
      ...(detectors.at("dynatrace").isPresent ? ["resourceDetectors.dynatrace"] : []),
      ...(field.at("dynatraceSampler").isPresent ? ["dynatraceSampler"] : []),
      ...(field.at("serviceAttributeEnrichment").text() === "OTEL_SEMANTIC_CONVENTIONS"
        ? ["serviceAttributeEnrichment"]
        : []),
    ],
  };
}
