/** Where the key of a consistent hash comes from. */
import type { RouteAction_HashPolicy as HashPolicyConfig } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { hostPort } from "#shared/net/ip.ts";
import { toText } from "#waypoint/http/latin1.ts";
import type { RequestView } from "#waypoint/http/request-view.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { combineHash, hash64 } from "#waypoint/upstream/hash.ts";
import { readMs } from "./durations.ts";
import { compileSubstitution } from "./match/regex.ts";
import { queryParameter } from "./match/query.ts";

export interface HashPolicy {
  /** Undefined where no part of the policy yields a value: the balancer draws. Cookies made on the way go into `setCookies`. */
  hash(exchange: RequestView, setCookies: string[]): bigint | undefined;
}

type Part = (exchange: RequestView, setCookies: string[]) => bigint | undefined;

export function compileHashPolicy(
  policies: readonly HashPolicyConfig[],
  path: string,
  problem: Problem,
): HashPolicy | undefined {
  if (policies.length === 0) return undefined;
  const parts = policies.map((policy, index) => ({
    terminal: policy.terminal,
    part: compilePart(policy, `${path}[${index}]`, problem),
  }));
  return {
    hash: (exchange, setCookies) => {
      let combined: bigint | undefined;
      for (const { part, terminal } of parts) {
        const next = part(exchange, setCookies);
        if (next !== undefined) combined = combineHash(combined, next);
        if (terminal && combined !== undefined) break;
      }
      return combined;
    },
  };
}

function compilePart({ policySpecifier: specifier }: HashPolicyConfig, path: string, problem: Problem): Part {
  switch (specifier.case) {
    case "header": {
      const name = specifier.value.headerName.toLowerCase();
      if (name === "") problem(`${path}.header.header_name`, "must not be empty");
      const rewrite =
        specifier.value.regexRewrite &&
        compileSubstitution(specifier.value.regexRewrite, `${path}.header.regex_rewrite`, problem);
      return (exchange) => hashHeader(headerValues(exchange, name), rewrite);
    }
    case "cookie": {
      const { name, ttl, path: cookiePath, attributes } = specifier.value;
      if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name))
        problem(`${path}.cookie.name`, `"${name}" is no name of a cookie`);
      const ttlMs = readMs(ttl, `${path}.cookie.ttl`, problem);
      const rest = [
        ...(ttlMs ? [`Max-Age=${Math.floor(ttlMs / 1000)}`] : []),
        ...(cookiePath === "" ? [] : [`Path=${cookiePath}`]),
        ...attributes.map((one) => (one.value === "" ? one.name : `${one.name}=${one.value}`)),
        "HttpOnly",
      ].join("; ");
      if (/[\r\n\0]/.test(rest)) problem(`${path}.cookie`, "has a line break or a zero byte");
      return (exchange, setCookies) => {
        const known = cookieValue(exchange, name);
        if (known !== undefined && known !== "") return hash64(toText(known));
        if (ttlMs === undefined) return undefined;
        const value = makeCookie(exchange);
        setCookies.push(`${name}="${value}"; ${rest}`);
        return hash64(value);
      };
    }
    case "connectionProperties":
      return specifier.value.sourceIp ? ({ connection }) => hash64(connection.source.ip) : () => undefined;
    case "queryParameter": {
      const { name } = specifier.value;
      if (name === "") problem(`${path}.query_parameter.name`, "must not be empty");
      return ({ request }) => {
        const value = queryParameter(request.path, name);
        return value === undefined ? undefined : hash64(value);
      };
    }
    case "filterState": {
      const { key } = specifier.value;
      if (key !== "io.istio.peer_principal") problem(`${path}.filter_state.key`, `"${key}" is not known here`);
      return ({ connection }) =>
        connection.peerPrincipal === undefined ? undefined : hash64(connection.peerPrincipal);
    }
    case undefined:
      problem(path, "set one of header, cookie, connection_properties, query_parameter or filter_state");
      return () => undefined;
  }
}

function headerValues({ request }: RequestView, name: string): readonly string[] {
  switch (name) {
    case ":authority":
    case "host":
      return request.authority === "" ? [] : [request.authority];
    case ":path":
      return [request.path];
    case ":method":
      return [request.method];
    case ":scheme":
      return [request.scheme];
    default:
      return request.headers.all(name);
  }
}

/** The order of several lines does not matter. */
function hashHeader(values: readonly string[], rewrite: ((text: string) => string) | undefined): bigint | undefined {
  if (values.length === 0) return undefined;
  const texts = rewrite === undefined ? values : values.map(rewrite);
  return hash64(toText(texts.length === 1 ? (texts[0] as string) : texts.toSorted().join("")));
}

function cookieValue({ request }: RequestView, name: string): string | undefined {
  for (const line of request.headers.all("cookie")) {
    for (const pair of line.split(";")) {
      const equals = pair.indexOf("=");
      if (equals < 0 || pair.slice(0, equals).trim() !== name) continue;
      const value = pair.slice(equals + 1).trim();
      return value.length > 1 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
    }
  }
  return undefined;
}

/** From the connection's addresses: requests of one connection without the cookie go to the same host. */
function makeCookie({ connection: { source, destination } }: RequestView): string {
  const both = hostPort(source.ip, source.port) + hostPort(destination.ip, destination.port);
  return hash64(both).toString(16).padStart(16, "0");
}
