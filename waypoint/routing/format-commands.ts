/** Commands of format strings, by name: what each says about an exchange. */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import process from "node:process";
import type { JsonValue } from "@bufbuild/protobuf";
import { hostPort } from "#shared/net/ip.ts";
import type { SocketAddress } from "#waypoint/http/exchange.ts";
import type { Headers } from "#waypoint/http/headers.ts";
import { grpcStatusOf } from "#waypoint/http/local-reply.ts";
import type { RequestHead } from "#waypoint/http/streams.ts";
import { valueAt } from "#waypoint/matching/value-matcher.ts";
import type { FormatSubject, Value } from "./format-subject.ts";
import { formatTime } from "./format-time.ts";
import { longFlags } from "./long-flags.ts";
import { decodedParameter } from "./match/query.ts";

type Command = (subject: FormatSubject) => Value;
type MakeCommand = (argument: string | undefined, problem: (message: string) => void) => Command;

const plain =
  (command: Command): MakeCommand =>
  (argument, problem) => {
    if (argument !== undefined) problem("takes no argument");
    return command;
  };

const address = (of: (subject: FormatSubject) => SocketAddress | undefined) => ({
  whole: plain((subject) => {
    const found = of(subject);
    return found && hostPort(found.ip, found.port);
  }),
  ip: plain((subject) => of(subject)?.ip),
  port: plain((subject) => of(subject)?.port),
});

const client = address(({ exchange }) => exchange.connection.source);
const server = address(({ exchange }) => exchange.connection.destination);
const upstreamLocal = address(({ exchange }) => exchange.upstreamLocalAddress);
const upstreamAddress = ({ exchange }: FormatSubject) => exchange.upstreamHost?.address;
const unset = plain(() => undefined);

export const commands: Readonly<Record<string, MakeCommand>> = {
  REQ: header(({ exchange }, name) => requestField(exchange.request, name)),
  RESP: header(({ response }, name) =>
    name === ":status" ? response && String(response.status) : field(response?.headers, name),
  ),
  TRAILER: header(({ end }, name) => field(end?.responseTrailers, name)),
  REQ_WITHOUT_QUERY: header(({ exchange }, name) => requestField(exchange.request, name)?.replace(/[?#].*$/s, "")),
  PATH: (argument = "WQ:ORIG_OR_PATH", problem) => {
    const [query = "WQ", which = "ORIG_OR_PATH"] = argument.split(":");
    if (!["WQ", "NQ", ""].includes(query) || !["PATH", "ORIG", "ORIG_OR_PATH", ""].includes(which))
      problem(`cannot read "${argument}"`);
    const original = which !== "PATH";
    return ({ exchange }) => {
      const path = original
        ? (exchange.request.headers.get("x-envoy-original-path") ??
          (which === "ORIG" ? undefined : exchange.request.path))
        : exchange.request.path;
      return query === "NQ" ? path?.replace(/[?#].*$/s, "") : path;
    };
  },
  QUERY_PARAM: (argument = "", problem) => {
    if (argument === "") problem("needs the name of a parameter");
    return ({ exchange }) => decodedParameter(exchange.request.path, argument);
  },
  // Connections whose bytes are passed on speak none.
  PROTOCOL: plain(({ exchange }) => exchange.stream.protocol || undefined),
  TRACE_ID: plain(({ exchange }) => exchange.trace?.traceId),
  SPAN_ID: plain(({ exchange }) => exchange.trace?.spanId),
  START_TIME: (argument, problem) => {
    const format = formatTime(argument, problem);
    return ({ exchange }) => format(exchange.startedAtMs);
  },
  RESPONSE_CODE: plain(({ response }) => response?.status ?? 0),
  RESPONSE_CODE_DETAILS: plain(({ exchange }) => exchange.responseCodeDetails || undefined),
  CONNECTION_TERMINATION_DETAILS: plain(({ exchange }) => exchange.connectionTerminationDetails || undefined),
  RESPONSE_FLAGS: plain(({ exchange }) => (exchange.flags.size === 0 ? "-" : [...exchange.flags].join(","))),
  RESPONSE_FLAGS_LONG: plain(({ exchange }) =>
    exchange.flags.size === 0 ? "-" : [...exchange.flags].map((flag) => longFlags[flag]).join(","),
  ),
  BYTES_RECEIVED: plain(({ exchange, end }) => end?.bytesReceived ?? exchange.stream.bytesRead),
  BYTES_SENT: plain(({ exchange, end }) => end?.bytesSent ?? exchange.stream.bytesWritten),
  DURATION: plain(({ end }) => (end === undefined ? undefined : Math.round(end.durationMs))),
  RESPONSE_DURATION: plain(({ exchange }) =>
    exchange.upstreamServiceMs === undefined ? undefined : Math.round(exchange.upstreamServiceMs),
  ),
  GRPC_STATUS: (argument = "CAMEL_STRING", problem) => {
    const form = grpcForms[argument];
    if (form === undefined) problem(`"${argument}" is none of ${Object.keys(grpcForms).join(", ")}`);
    return (subject) => {
      const code = grpcStatus(subject);
      return code === undefined ? undefined : form?.(code);
    };
  },
  GRPC_STATUS_NUMBER: plain(grpcStatus),
  UPSTREAM_HOST: plain(({ exchange }) => exchange.upstreamHost?.key),
  UPSTREAM_REMOTE_ADDRESS: plain((subject) => {
    const found = upstreamAddress(subject);
    return found && hostPort(found.ip, found.port);
  }),
  UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: plain((subject) => upstreamAddress(subject)?.ip),
  UPSTREAM_REMOTE_PORT: plain((subject) => upstreamAddress(subject)?.port),
  UPSTREAM_LOCAL_ADDRESS: upstreamLocal.whole,
  UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: upstreamLocal.ip,
  UPSTREAM_LOCAL_PORT: upstreamLocal.port,
  UPSTREAM_CLUSTER: plain(clusterOf),
  UPSTREAM_CLUSTER_RAW: plain(clusterOf),
  UPSTREAM_TRANSPORT_FAILURE_REASON: plain(({ exchange }) => exchange.upstreamFailure || undefined),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: plain(({ exchange }) => exchange.attempts),
  DOWNSTREAM_REMOTE_ADDRESS: client.whole,
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: client.ip,
  DOWNSTREAM_REMOTE_PORT: client.port,
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: client.whole,
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: client.ip,
  DOWNSTREAM_DIRECT_REMOTE_PORT: client.port,
  DOWNSTREAM_LOCAL_ADDRESS: server.whole,
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: server.ip,
  DOWNSTREAM_LOCAL_PORT: server.port,
  DOWNSTREAM_PEER_URI_SAN: plain(({ exchange }) => exchange.connection.peerPrincipal),
  DOWNSTREAM_LOCAL_URI_SAN: plain(({ exchange }) => exchange.connection.localPrincipal),
  REQUESTED_SERVER_NAME: plain(({ exchange }) => exchange.connection.serverName),
  CONNECTION_ID: plain(({ exchange }) => exchange.connection.id),
  ROUTE_NAME: plain(({ exchange }) => exchange.route?.name || undefined),
  VIRTUAL_HOST_NAME: plain(({ exchange }) => exchange.route?.virtualHost || undefined),
  HOSTNAME: plain(() => hostname()),
  ENVIRONMENT: (argument = "", problem) => {
    if (argument === "") problem("needs the name of a variable");
    // Configuration may name what the deployment put there for it, not secrets of ours: see the prefixes.
    return () => (readableVariables.test(argument) ? process.env[argument] : undefined);
  },
  DYNAMIC_METADATA: metadata(({ exchange }, name) => exchange.metadataOf(name)),
  ROUTE_METADATA: metadata(({ exchange }, name) => exchange.route?.metadata.get(name) as JsonValue | undefined),
  UPSTREAM_METADATA: metadata(({ exchange }, name) => exchange.upstreamHost?.metadata.get(name)),
  METADATA: (argument = "", problem) => {
    const [kind = "", ...rest] = argument.split(":");
    const make = { DYNAMIC: "DYNAMIC_METADATA", ROUTE: "ROUTE_METADATA", UPSTREAM_HOST: "UPSTREAM_METADATA" }[kind];
    if (make === undefined) problem(`"${kind}" is none of DYNAMIC, ROUTE, UPSTREAM_HOST`);
    return (commands[make ?? "DYNAMIC_METADATA"] as MakeCommand)(rest.join(":"), problem);
  },
  FILTER_STATE: (argument = "", problem) => {
    const [key, form = "TYPED"] = argument.split(":");
    if (key === undefined || key === "") problem("needs a key");
    if (form !== "TYPED" && form !== "PLAIN" && form !== "FIELD") problem(`"${form}" is none of PLAIN, TYPED, FIELD`);
    if (key === "io.istio.peer_principal") return ({ exchange }) => exchange.connection.peerPrincipal;
    if (key === "io.istio.local_principal") return ({ exchange }) => exchange.connection.localPrincipal;
    // What nobody writes here is empty, as everywhere.
    return () => undefined;
  },
  STREAM_ID: plain(({ exchange }) => exchange.request.headers.get("x-request-id")),
  UNIQUE_ID: plain(() => randomUUID()),
  FILTER_CHAIN_NAME: plain(({ chain }) => chain || undefined),
  ACCESS_LOG_TYPE: plain(({ exchange }) => (exchange.stream.protocol ? "DownstreamEnd" : "TcpConnectionEnd")),
  EMIT_TIME: (argument, problem) => {
    const format = formatTime(argument, problem);
    return () => format(Date.now());
  },
  REQUEST_HEADERS_BYTES: plain(({ exchange }) => bytesOf(exchange.request.headers)),
  RESPONSE_HEADERS_BYTES: plain(({ response }) => bytesOf(response?.headers)),
  RESPONSE_TRAILERS_BYTES: plain(({ end }) => bytesOf(end?.responseTrailers)),
  RESPONSE_TX_DURATION: plain(({ exchange, end }) =>
    end === undefined || exchange.upstreamServiceMs === undefined
      ? undefined
      : Math.max(0, Math.round(end.durationMs - exchange.upstreamServiceMs)),
  ),
  UPSTREAM_HOST_NAME: plain(
    ({ exchange: { upstreamHost } }) => upstreamHost && (upstreamHost.hostname || upstreamHost.key),
  ),
  // The client's side of the mesh is a tunnel: what is inside has no TLS of its own.
  DOWNSTREAM_TLS_SESSION_ID: unset,
  DOWNSTREAM_PEER_ISSUER: unset,
  DOWNSTREAM_PEER_CERT: unset,
  DOWNSTREAM_PEER_SERIAL: unset,
  DOWNSTREAM_PEER_FINGERPRINT_1: unset,
  DOWNSTREAM_PEER_FINGERPRINT_256: unset,
  DOWNSTREAM_PEER_DNS_SAN: unset,
  DOWNSTREAM_LOCAL_DNS_SAN: unset,
  DOWNSTREAM_TRANSPORT_FAILURE_REASON: unset,
  DOWNSTREAM_TLS_VERSION: unset,
  DOWNSTREAM_TLS_CIPHER: unset,
  DOWNSTREAM_PEER_SUBJECT: unset,
  DOWNSTREAM_LOCAL_SUBJECT: unset,
};

const bytesOf = (headers: Headers | undefined): number =>
  headers?.pairs.reduce((sum, text) => sum + text.length, 0) ?? 0;

/** Names of environment variables that configurations do not get to see. */
export const secretVariables = /TOKEN|SECRET|PASSWORD|KEY/i;
const readableVariables = /^(?!.*(?:TOKEN|SECRET|PASSWORD|KEY))[A-Z0-9_]+$/i;

/** `REQ(X?Y)`: the first that is there. */
function header(read: (subject: FormatSubject, name: string) => string | undefined): MakeCommand {
  return (argument = "", problem) => {
    const [first = "", second, more] = argument.toLowerCase().split("?");
    if (first === "" || more !== undefined) problem(`cannot read "${argument}" as a name, or as name?other`);
    if (second === undefined) return (subject) => read(subject, first);
    return (subject) => read(subject, first) ?? read(subject, second);
  };
}

function requestField(request: RequestHead, name: string): string | undefined {
  switch (name) {
    case ":authority":
    case "host":
      return request.authority || undefined;
    case ":path":
      return request.path || undefined;
    case ":method":
      return request.method || undefined;
    case ":scheme":
      return request.scheme || undefined;
    default:
      return field(request.headers, name);
  }
}

/** The first line of a header that has several. */
const field = (headers: Headers | undefined, name: string): string | undefined => headers?.get(name);

/** `DYNAMIC_METADATA(filter:key:key)`. */
function metadata(read: (subject: FormatSubject, name: string) => JsonValue | undefined): MakeCommand {
  return (argument = "", problem) => {
    const [name = "", ...keys] = argument.split(":");
    if (name === "") problem("needs the name of a filter");
    return (subject) => {
      const root = read(subject, name);
      if (keys.length === 0 || typeof root !== "object" || root === null || Array.isArray(root))
        return keys.length === 0 ? root : undefined;
      return valueAt(root, keys);
    };
  };
}

/** Of calls only; an answer that does not say has the meaning of its HTTP status. */
function grpcStatus({ exchange, response, end }: FormatSubject): number | undefined {
  const text = end?.responseTrailers?.get("grpc-status") ?? response?.headers.get("grpc-status");
  if (text !== undefined && /^\d{1,9}$/.test(text)) return Number(text);
  return response !== undefined && exchange.isGrpc ? grpcStatusOf(response.status) : undefined;
}

const grpcNames = [
  "OK",
  "Canceled",
  "Unknown",
  "InvalidArgument",
  "DeadlineExceeded",
  "NotFound",
  "AlreadyExists",
  "PermissionDenied",
  "ResourceExhausted",
  "FailedPrecondition",
  "Aborted",
  "OutOfRange",
  "Unimplemented",
  "Internal",
  "Unavailable",
  "DataLoss",
  "Unauthenticated",
];
const snakeCase = (name: string): string => name.replace(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
const grpcForms: Readonly<Record<string, (code: number) => Value>> = {
  CAMEL_STRING: (code) => grpcNames[code] ?? String(code),
  SNAKE_STRING: (code) => snakeCase(grpcNames[code] ?? String(code)),
  NUMBER: (code) => code,
};

/** Where the request goes, or would have gone: routes are known before their clusters are asked. */
function clusterOf({ exchange }: FormatSubject): Value {
  if (exchange.upstreamCluster !== "") return exchange.upstreamCluster;
  const action = exchange.route?.action;
  return action?.kind === "forward" ? action.pickCluster(exchange) || undefined : undefined;
}
