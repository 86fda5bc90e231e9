/** Names and values of HTTP headers in configuration. */
import type { Field } from "./field.ts";
import { nearest } from "./nearest.ts";

/** What a name may be made of, in HTTP. */
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const pseudo = [":method", ":scheme", ":authority", ":path", ":status"];
const claims = "@request.auth.claims";
/** They carry the form of a message: who could write them could split or hide messages. */
const framing = new Set([
  "connection",
  "content-length",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

const isFraming = (name: string): boolean => framing.has(name.toLowerCase());

const isClaim = (name: string): boolean => name.toLowerCase().startsWith(claims);

/** A header that is compared: `at` is where it is said, `name` its name. */
export function checkMatchedName(at: Field, name: string): void {
  if (name === "") at.error("has no name", "write the name");
  else if (isClaim(name)) checkClaim(at, name);
  else if (name.startsWith(":") && !pseudo.includes(name)) {
    at.error(`there is no header "${name}"`, `write one of ${pseudo.join(", ")}`);
  } else if (!name.startsWith(":") && !token.test(name))
    at.error(`"${name}" is no name of a header`, "use letters, digits and dashes");
}

function checkClaim(at: Field, name: string): void {
  const rest = name.slice(claims.length);
  if (/^(\.[^.[\]]+)+$/.test(rest) || /^(\[[^\][]+\])+$/.test(rest)) return;
  at.error(`"${name}" names no claim`, `write ${claims}.group, or ${claims}[name.with.dots][inner]`);
}

/** `side`: the host of a request can be changed, but not taken away, and a response has none. */
export function checkHeaderOperations(operations: Field, side: "request" | "response"): void {
  for (const kind of ["set", "add"]) {
    for (const [name, value] of operations.at(kind).entries()) {
      const isHost = side === "request" && (name.toLowerCase() === "host" || name === ":authority");
      if (!isHost) checkWrittenName(value, name);
      checkHeaderValue(value);
    }
  }
  for (const item of operations.at("remove").items()) if (item.text !== undefined) checkChangedName(item, item.text);
}

export function checkChangedName(at: Field, name: string): void {
  if (name === "") at.error("has no name", "write the name");
  else if (name.startsWith(":") || name.toLowerCase() === "host") {
    at.error(
      `"${name}" cannot be changed so`,
      "the host of a request can be set; the rest of the first line is no header",
    );
  } else if (!token.test(name)) at.error(`"${name}" is no name of a header`, "use letters, digits and dashes");
}

/** A header that is set or added; taking one away that the proxy writes itself does no harm. */
export function checkWrittenName(at: Field, name: string): void {
  if (isFraming(name)) at.error(`"${name}" belongs to the connection`, "leave it out: proxies write it themselves");
  else checkChangedName(at, name);
}

/** What waypoints know between percent signs. */
const substitutions = [
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
  "DYNAMIC_METADATA",
  "ENVIRONMENT",
  "FILTER_STATE",
  "GRPC_STATUS",
  "GRPC_STATUS_NUMBER",
  "HOSTNAME",
  "METADATA",
  "PATH",
  "PROTOCOL",
  "QUERY_PARAM",
  "REQ",
  "REQUESTED_SERVER_NAME",
  "REQ_WITHOUT_QUERY",
  "RESP",
  "RESPONSE_CODE",
  "RESPONSE_CODE_DETAILS",
  "RESPONSE_DURATION",
  "RESPONSE_FLAGS",
  "RESPONSE_FLAGS_LONG",
  "ROUTE_NAME",
  "START_TIME",
  "TRAILER",
  "UPSTREAM_CLUSTER",
  "UPSTREAM_CLUSTER_RAW",
  "UPSTREAM_HOST",
  "UPSTREAM_LOCAL_ADDRESS",
  "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
  "UPSTREAM_LOCAL_PORT",
  "UPSTREAM_METADATA",
  "UPSTREAM_REMOTE_ADDRESS",
  "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
  "UPSTREAM_REMOTE_PORT",
  "UPSTREAM_REQUEST_ATTEMPT_COUNT",
  "UPSTREAM_TRANSPORT_FAILURE_REASON",
  "VIRTUAL_HOST_NAME",
];

export interface ValueProblem {
  readonly message: string;
  readonly remedy: string;
}

/** `%%` is a percent sign; `%NAME%`, `%NAME(arguments)%` and `%NAME(arguments):length%` stand for something. */
export function substitutionProblem(text: string): ValueProblem | undefined {
  for (let at = text.indexOf("%"); at >= 0; at = text.indexOf("%", at)) {
    const part = /^%(?:%|([A-Za-z0-9_]+)(?:\((?:[^()"]|"[^"]*")*\))?(?::\d+)?%)/.exec(text.slice(at));
    if (part === null) {
      return { message: `has a "%" at ${at} that begins nothing`, remedy: 'write "%%" for a percent sign' };
    }
    const [whole, name] = part;
    if (name !== undefined && !substitutions.includes(name)) {
      const near = nearest(name, substitutions);
      const remedy = near === undefined ? 'write "%%" for a percent sign' : `did you mean %${near}%?`;
      return { message: `has ${whole}, which stands for nothing`, remedy };
    }
    at += whole.length;
  }
  return undefined;
}

export function checkHeaderValue(value: Field): void {
  const { text } = value;
  if (text === undefined) return;
  // oxlint-disable-next-line no-control-regex -- the tab is the only one that a value may have
  const control = /[\u0000-\u0008\u000a-\u001f\u007f]/.exec(text);
  if (control !== null) {
    value.error(`${value.quoted} has a control character at ${control.index}`, "leave it out");
    return;
  }
  const problem = substitutionProblem(text);
  if (problem !== undefined) value.error(`${value.quoted} ${problem.message}`, problem.remedy);
}
