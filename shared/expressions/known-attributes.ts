/** What expressions of telemetry may ask for: names that a waypoint has values for. */
import { parseExpression } from "./parse-expression.ts";
import type { Expression } from "./syntax.ts";

/** Of a request and its answer, or of a connection; `map`: any key may follow. */
export type AttributeShape = "value" | "map";

const value = "value" as const;
const map = "map" as const;

export const peerFields = [
  "workload",
  "namespace",
  "name",
  "cluster",
  "service",
  "revision",
  "app",
  "version",
  "type",
  "principal",
] as const;

const peer = Object.fromEntries(peerFields.map((field) => [field, value]));

/** Roots, and their members where they are a fixed set. */
export const knownAttributes: Readonly<Record<string, AttributeShape | Readonly<Record<string, AttributeShape>>>> = {
  request: {
    path: value,
    url_path: value,
    query: value,
    host: value,
    scheme: value,
    method: value,
    headers: map,
    referer: value,
    useragent: value,
    time: value,
    id: value,
    protocol: value,
    duration: value,
    size: value,
    total_size: value,
  },
  response: {
    code: value,
    code_details: value,
    flags: value,
    grpc_status: value,
    headers: map,
    trailers: map,
    size: value,
    total_size: value,
    backend_latency: value,
  },
  source: { address: value, port: value },
  destination: { address: value, port: value },
  connection: {
    id: value,
    mtls: value,
    requested_server_name: value,
    uri_san_peer_certificate: value,
    uri_san_local_certificate: value,
    termination_details: value,
  },
  upstream: {
    address: value,
    port: value,
    local_address: value,
    transport_failure_reason: value,
    request_attempt_count: value,
  },
  xds: {
    cluster_name: value,
    cluster_metadata: map,
    route_name: value,
    route_metadata: map,
    virtual_host_name: value,
    upstream_host_metadata: map,
    filter_chain_name: value,
    listener_direction: value,
  },
  metadata: { filter_metadata: map },
  filter_state: map,
  node: { id: value, cluster: value, metadata: map },
  downstream_peer: peer,
  upstream_peer: peer,
};

/** What an author has to mend; undefined where nothing. */
export function expressionProblem(text: string): string | undefined {
  try {
    return unknownAttribute(parseExpression(text));
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The first name that nothing here has a value for, in words. */
export function unknownAttribute(expression: Expression): string | undefined {
  switch (expression.kind) {
    case "literal":
      return undefined;
    case "name":
      return Object.hasOwn(knownAttributes, expression.name)
        ? undefined
        : `attribute "${expression.name}" is not known; known are ${Object.keys(knownAttributes).join(", ")}`;
    case "member":
    case "index": {
      const { of } = expression;
      const members =
        of.kind === "name" && Object.hasOwn(knownAttributes, of.name) ? knownAttributes[of.name] : undefined;
      const key = keyOf(expression);
      if (of.kind === "name" && key !== undefined && typeof members === "object" && !Object.hasOwn(members, key)) {
        return `attribute "${of.name}.${key}" is not known; known are ${Object.keys(members).join(", ")}`;
      }
      return first([of, ...(expression.kind === "index" ? [expression.at] : [])]);
    }
    case "has":
      return unknownAttribute(expression.member);
    case "list":
      return first(expression.items);
    case "call":
      return first([...(expression.target === undefined ? [] : [expression.target]), ...expression.args]);
    case "not":
    case "minus":
      return unknownAttribute(expression.of);
    case "binary":
      return first([expression.left, expression.right]);
    case "choice":
      return first([expression.test, expression.yes, expression.no]);
  }
}

/** The name in `a.name` and `a["name"]`. */
export function keyOf(expression: Expression & { readonly kind: "member" | "index" }): string | undefined {
  if (expression.kind === "member") return expression.name;
  return expression.at.kind === "literal" && typeof expression.at.value === "string" ? expression.at.value : undefined;
}

function first(expressions: readonly Expression[]): string | undefined {
  for (const each of expressions) {
    const found = unknownAttribute(each);
    if (found !== undefined) return found;
  }
  return undefined;
}
