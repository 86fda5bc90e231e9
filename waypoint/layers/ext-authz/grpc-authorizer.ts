/** `envoy.service.auth.v3.Authorization/Check`: the request that is sent, and what its answer means. */
import { create, fromBinary, toBinary, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  HeaderValueOption_HeaderAppendAction as AppendAction,
  type HeaderValueOption,
} from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import type { GrpcService } from "#shared/proto/gen/envoy/config/core/v3/grpc_service_pb.js";
import {
  CheckRequestSchema,
  CheckResponseSchema,
  type CheckResponse,
} from "#shared/proto/gen/envoy/service/auth/v3/external_auth_pb.js";
import type { AttributeContextSchema } from "#shared/proto/gen/envoy/service/auth/v3/attribute_context_pb.js";
import { explain } from "#shared/errors/mesh-error.ts";
import type { DownstreamConnection, Exchange, SocketAddress } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import { toBytes, toText } from "#waypoint/http/latin1.ts";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { Clusters } from "#waypoint/upstream/clusters.ts";
import { callUnary } from "#waypoint/upstream/grpc-unary.ts";
import { partialBodyHeader, type Authorizer, type Check, type HeaderChoice } from "./check.ts";
import { areWritable, type HeaderEdit, type Verdict } from "./verdict.ts";

type Attributes = Exclude<MessageInitShape<typeof AttributeContextSchema>, { $typeName: string }>;

/** Where the configuration does not say. */
const defaultTimeoutMs = 200;

export interface GrpcTarget {
  readonly cluster: string;
  readonly authority: string | undefined;
  readonly timeoutMs: number;
  readonly metadata: Headers;
}

export function compileTarget(service: GrpcService | undefined, path: string, problem: Problem): GrpcTarget {
  const target = service?.targetSpecifier;
  if (target?.case !== "envoyGrpc") problem(path, "only envoy_grpc is supported");
  const envoy = target?.case === "envoyGrpc" ? target.value : undefined;
  if (envoy?.clusterName === "") problem(`${path}.envoy_grpc.cluster_name`, "must not be empty");
  if (service?.retryPolicy !== undefined) problem(`${path}.retry_policy`, "is not supported");
  return {
    cluster: envoy?.clusterName ?? "",
    authority: envoy?.authority === "" ? undefined : envoy?.authority,
    timeoutMs: service?.timeout === undefined ? defaultTimeoutMs : durationMs(service.timeout),
    metadata: new Headers(
      (service?.initialMetadata ?? []).flatMap(({ key, value }) => [key.toLowerCase(), toBytes(value)]),
    ),
  };
}

export interface GrpcOptions extends HeaderChoice {
  readonly packsBytes: boolean;
  readonly rawHeaders: boolean;
  readonly metadataNamespaces: readonly string[];
  readonly routeMetadataNamespaces: readonly string[];
  readonly includesTlsSession: boolean;
}

export class GrpcAuthorizer implements Authorizer {
  readonly #target: GrpcTarget;
  readonly #options: GrpcOptions;
  readonly #clusters: Clusters;

  constructor(target: GrpcTarget, options: GrpcOptions, { clusters }: LayerContext) {
    this.#target = target;
    this.#options = options;
    this.#clusters = clusters;
  }

  async ask(check: Check): Promise<Verdict> {
    return askGrpc(this.#clusters, this.#target, httpAttributes(check, this.#options), check.exchange.connection);
  }
}

export async function askGrpc(
  clusters: Clusters,
  target: GrpcTarget,
  attributes: Attributes,
  connection: DownstreamConnection,
): Promise<Verdict> {
  try {
    const answer = await callUnary(clusters, {
      cluster: target.cluster,
      ...(target.authority === undefined ? {} : { authority: target.authority }),
      method: "/envoy.service.auth.v3.Authorization/Check",
      message: toBinary(CheckRequestSchema, create(CheckRequestSchema, { attributes })),
      timeoutMs: target.timeoutMs,
      metadata: target.metadata,
      connection,
    });
    return readAnswer(fromBinary(CheckResponseSchema, answer));
  } catch (error) {
    return { kind: "error", why: explain(error) };
  }
}

/** What both kinds of chains tell of a connection. */
export function connectionAttributes(connection: DownstreamConnection, tellsSession: boolean): Attributes {
  const peer = ({ ip, port }: SocketAddress, principal: string | undefined) => ({
    principal: principal ?? "",
    address: {
      address: {
        case: "socketAddress" as const,
        value: { address: ip, portSpecifier: { case: "portValue" as const, value: port } },
      },
    },
  });
  return {
    source: peer(connection.source, connection.peerPrincipal),
    destination: peer(connection.destination, connection.localPrincipal),
    ...(tellsSession ? { tlsSession: { sni: connection.serverName ?? "" } } : {}),
  };
}

function httpAttributes({ exchange, body, contextExtensions }: Check, options: GrpcOptions): Attributes {
  const { request, stream } = exchange;
  const length = request.headers.get("content-length");
  const bytes = body?.bytes ?? Buffer.alloc(0);
  return {
    ...connectionAttributes(exchange.connection, options.includesTlsSession),
    contextExtensions: { ...contextExtensions },
    metadataContext: { filterMetadata: metadataOf(options.metadataNamespaces, (name) => exchange.metadataOf(name)) },
    routeMetadataContext: {
      filterMetadata: metadataOf(
        options.routeMetadataNamespaces,
        (name) => exchange.route?.metadata.get(name) as JsonObject | undefined,
      ),
    },
    request: {
      time: timestampFromMs(exchange.startedAtMs),
      http: {
        id: request.headers.get("x-request-id") ?? "",
        method: request.method,
        path: toText(request.path),
        host: toText(request.authority),
        scheme: request.scheme,
        protocol: stream.protocol,
        size: BigInt(length !== undefined && /^\d{1,15}$/.test(length) ? length : stream.endsWithHead ? 0 : -1),
        ...(options.packsBytes ? { rawBody: bytes } : { body: bytes.toString("utf8") }),
        ...headersOf(exchange, body, options),
      },
    },
  };
}

function metadataOf(
  names: readonly string[],
  find: (name: string) => JsonObject | undefined,
): Record<string, JsonObject> {
  return Object.fromEntries(
    names.flatMap((name) => {
      const found = find(name);
      return found === undefined ? [] : [[name, found]];
    }),
  );
}

function headersOf(
  { request }: Exchange,
  body: Check["body"],
  { allowed, disallowed, rawHeaders }: GrpcOptions,
): {
  headers?: Record<string, string>;
  headerMap?: { headers: { key: string; rawValue: Uint8Array }[] };
} {
  const all: (readonly [name: string, value: string])[] = [
    [":method", request.method],
    [":path", request.path],
    [":authority", request.authority],
    [":scheme", request.scheme],
    ...request.headers,
  ];
  if (body !== undefined) all.push([partialBodyHeader, String(!body.isComplete)]);
  const told = all.filter(([name]) => (allowed?.(name) ?? true) && disallowed?.(name) !== true);
  if (rawHeaders) {
    return { headerMap: { headers: told.map(([key, value]) => ({ key, rawValue: Buffer.from(value, "latin1") })) } };
  }
  const headers: Record<string, string> = {};
  for (const [name, value] of told) {
    headers[name] = Object.hasOwn(headers, name) ? `${headers[name]},${toText(value)}` : toText(value);
  }
  return { headers };
}

function readAnswer(answer: CheckResponse): Verdict {
  const response = answer.httpResponse;
  const metadata = answer.dynamicMetadata;
  if ((answer.status?.code ?? 0) !== 0) {
    const denied = response.case === "deniedResponse" ? response.value : undefined;
    const code: number = denied?.status?.code ?? 0;
    return checked({
      kind: "denied",
      status: code >= 200 && code <= 599 ? code : 403,
      edits: (denied?.headers ?? []).flatMap((option) => edit(option, "set")),
      body: denied?.body ?? "",
      metadata,
    });
  }
  const okay = response.case === "okResponse" ? response.value : undefined;
  return checked({
    kind: "allowed",
    requestEdits: (okay?.headers ?? []).flatMap((option) => edit(option, "set")),
    removed: (okay?.headersToRemove ?? []).map((name) => name.toLowerCase()),
    responseEdits: (okay?.responseHeadersToAdd ?? []).flatMap((option) => edit(option, "add")),
    query: [
      ...(okay?.queryParametersToRemove ?? []).map((name) => ({ name, value: undefined })),
      ...(okay?.queryParametersToSet ?? []).map(({ key, value }) => ({ name: key, value })),
    ],
    metadata: metadata ?? okay?.dynamicMetadata,
  });
}

/** What cannot be written in a header could end it: such an answer is none. */
function checked(verdict: Exclude<Verdict, { kind: "error" }>): Verdict {
  const edits = verdict.kind === "denied" ? verdict.edits : [...verdict.requestEdits, ...verdict.responseEdits];
  return areWritable(edits) ? verdict : { kind: "error", why: "its answer holds a header that cannot be written" };
}

/** `unset`: what the first append action, which is also that of a field not written, means here. */
function edit(option: HeaderValueOption, unset: "set" | "add"): readonly HeaderEdit[] {
  const { header, append, appendAction } = option;
  if (header === undefined) return [];
  const raw = header.rawValue.length > 0 ? Buffer.from(header.rawValue).toString("latin1") : toBytes(header.value);
  const named = { name: header.key.toLowerCase(), value: raw };
  if (append !== undefined) {
    return [{ ...named, action: append ? (unset === "set" ? "append" : "add") : "set" }];
  }
  switch (appendAction) {
    case AppendAction.ADD_IF_ABSENT:
      return [{ ...named, action: "add-if-absent" }];
    case AppendAction.OVERWRITE_IF_EXISTS:
      return [{ ...named, action: "overwrite-if-exists" }];
    case AppendAction.OVERWRITE_IF_EXISTS_OR_ADD:
      return [{ ...named, action: "set" }];
    case AppendAction.APPEND_IF_EXISTS_OR_ADD:
      return [{ ...named, action: unset }];
  }
}
