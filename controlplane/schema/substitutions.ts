/** `%NAME(arguments)%` in the values of headers: what waypoints put there for each request. */
import { nearest } from "./nearest.ts";

interface Form {
  /** The whole of what may stand between the parentheses; "" where none do. */
  readonly takes: RegExp;
  readonly example: string;
}

const named = (name: string): Form => ({ takes: /^[^?]+(\?[^?]+)?$/, example: `%${name}(x-user)%` });
/** Of strftime, and fractions of seconds. */
const time = /^([^%]|%([1-9]?f|[1-9]|[YymdeHIMSpaAbBzZsFTD%]))*$/;

const withArguments: Readonly<Record<string, Form>> = {
  REQ: named("REQ"),
  RESP: named("RESP"),
  TRAILER: named("TRAILER"),
  REQ_WITHOUT_QUERY: named("REQ_WITHOUT_QUERY"),
  PATH: { takes: /^((WQ|NQ)?(:(PATH|ORIG|ORIG_OR_PATH)?)?)?$/, example: "%PATH(NQ)%" },
  START_TIME: { takes: time, example: "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%" },
  DYNAMIC_METADATA: { takes: /^[^:]+(:|$)/, example: "%DYNAMIC_METADATA(filter:key)%" },
  UPSTREAM_METADATA: { takes: /./, example: "%UPSTREAM_METADATA(filter:key)%" },
  METADATA: { takes: /^(DYNAMIC|ROUTE|UPSTREAM_HOST):[^:]+(:|$)/, example: "%METADATA(ROUTE:filter:key)%" },
  FILTER_STATE: {
    takes: /^io\.istio\.(peer|local)_principal(:(PLAIN|TYPED))?$/,
    example: "%FILTER_STATE(io.istio.peer_principal:PLAIN)%",
  },
  QUERY_PARAM: { takes: /./, example: "%QUERY_PARAM(name)%" },
  ENVIRONMENT: { takes: /./, example: "%ENVIRONMENT(NAME)%" },
  GRPC_STATUS: { takes: /^(CAMEL_STRING|SNAKE_STRING|NUMBER)?$/, example: "%GRPC_STATUS(SNAKE_STRING)%" },
};

const plain = [
  "BYTES_RECEIVED",
  "BYTES_SENT",
  "CONNECTION_ID",
  "CONNECTION_TERMINATION_DETAILS",
  "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
  "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
  "DOWNSTREAM_DIRECT_REMOTE_PORT",
  "DOWNSTREAM_LOCAL_ADDRESS",
  "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
  "DOWNSTREAM_LOCAL_PORT",
  "DOWNSTREAM_LOCAL_SUBJECT",
  "DOWNSTREAM_LOCAL_URI_SAN",
  "DOWNSTREAM_PEER_SUBJECT",
  "DOWNSTREAM_PEER_URI_SAN",
  "DOWNSTREAM_REMOTE_ADDRESS",
  "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
  "DOWNSTREAM_REMOTE_PORT",
  "DOWNSTREAM_TLS_CIPHER",
  "DOWNSTREAM_TLS_VERSION",
  "DURATION",
  "GRPC_STATUS_NUMBER",
  "HOSTNAME",
  "PROTOCOL",
  "REQUESTED_SERVER_NAME",
  "RESPONSE_CODE",
  "RESPONSE_CODE_DETAILS",
  "RESPONSE_DURATION",
  "RESPONSE_FLAGS",
  "RESPONSE_FLAGS_LONG",
  "ROUTE_NAME",
  "TRACE_ID",
  "UPSTREAM_CLUSTER",
  "UPSTREAM_CLUSTER_RAW",
  "UPSTREAM_HOST",
  "UPSTREAM_LOCAL_ADDRESS",
  "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
  "UPSTREAM_LOCAL_PORT",
  "UPSTREAM_REMOTE_ADDRESS",
  "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
  "UPSTREAM_REMOTE_PORT",
  "UPSTREAM_REQUEST_ATTEMPT_COUNT",
  "UPSTREAM_TRANSPORT_FAILURE_REASON",
  "VIRTUAL_HOST_NAME",
];

const known = [...Object.keys(withArguments), ...plain];

export interface ValueProblem {
  readonly message: string;
  readonly remedy: string;
}

/** `%%` is a percent sign; `%NAME%`, `%NAME(arguments)%` and `%NAME(arguments):length%` stand for something. */
export function substitutionProblem(text: string): ValueProblem | undefined {
  for (let at = text.indexOf("%"); at >= 0; at = text.indexOf("%", at)) {
    const part = /^%(?:%|([A-Za-z0-9_]+)(?:\(((?:[^()"]|"[^"]*")*)\))?(?::\d+)?%)/.exec(text.slice(at));
    if (part === null) {
      return { message: `has a "%" at ${at} that begins nothing`, remedy: 'write "%%" for a percent sign' };
    }
    const [whole, name, argument] = part;
    const problem = name === undefined ? undefined : problemOf(whole, name, argument);
    if (problem !== undefined) return problem;
    at += whole.length;
  }
  return undefined;
}

function problemOf(whole: string, name: string, argument: string | undefined): ValueProblem | undefined {
  if (!known.includes(name)) {
    const near = nearest(name, known);
    const remedy = near === undefined ? 'write "%%" for a percent sign' : `did you mean %${near}%?`;
    return { message: `has ${whole}, which stands for nothing`, remedy };
  }
  const form = Object.hasOwn(withArguments, name) ? withArguments[name] : undefined;
  if (form === undefined) {
    return argument === undefined
      ? undefined
      : { message: `has ${whole}, but %${name}% takes nothing in parentheses`, remedy: `write %${name}%` };
  }
  if (form.takes.test(argument ?? "")) return undefined;
  return { message: `has ${whole}, which waypoints cannot read`, remedy: `write it as ${form.example}` };
}
