/** What a RateLimitPolicy counts a request under: one text for each tuple of key components. */
import { hash } from "node:crypto";
import type { JsonValue } from "@bufbuild/protobuf";
import { identityOf } from "#shared/identity/spiffe-id.ts";
import { maskIp } from "#shared/net/cidr.ts";
import { isIpv6 } from "#shared/net/ip.ts";
import { Key_Missing, type Key } from "#shared/proto/gen/ambit/policy/v1alpha1/rate_limit_filter_pb.js";
import { asText } from "#waypoint/expressions/values.ts";
import type { Exchange } from "#waypoint/http/exchange.ts";
import { claimOf, requestPrincipalOf } from "#waypoint/layers/jwt/claims.ts";
import type { ProxyFacts } from "#waypoint/layers/layer.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { queryParameter } from "#waypoint/routing/match/query.ts";
import { headerValue, type Entry } from "./descriptors.ts";
import { compileRequestExpression } from "./limit-match.ts";

/** The value, or undefined where the request has none. */
type Component = (exchange: Exchange) => string | undefined;

interface CompiledKey {
  /** As a descriptor of a rate limit service names it. */
  readonly name: string;
  readonly value: Component;
  readonly onMissing: Key_Missing;
}

export interface LimitKeys {
  /** The tuple; undefined where the limit does not apply to this request. */
  entriesOf(exchange: Exchange): readonly Entry[] | undefined;
}

/** A key's value is kept in memory, and told to rate limit services: a longer one is told by its hash. Characters. */
const longestValue = 256;
const keptOfLongest = 128;

const bounded = (value: string): string =>
  value.length <= longestValue ? value : `${value.slice(0, keptOfLongest)}~sha256:${hash("sha256", value)}`;

export function compileKeys(keys: readonly Key[], path: string, facts: ProxyFacts, problem: Problem): LimitKeys {
  const compiled = keys.map((key, index) => compileKey(key, `${path}[${index}]`, facts, problem));
  return {
    entriesOf: (exchange) => {
      const entries: Entry[] = [];
      for (const { name, value, onMissing } of compiled) {
        const found = value(exchange);
        if (found !== undefined) entries.push({ key: name, value: bounded(found) });
        else if (onMissing === Key_Missing.SKIP) return undefined;
        else if (onMissing === Key_Missing.USE_EMPTY) entries.push({ key: name, value: "" });
      }
      return entries;
    },
  };
}

/** Entries as one text; no two different tuples have the same. */
export function keyText(entries: readonly Entry[]): string {
  const [only] = entries;
  if (only === undefined) return "";
  return entries.length === 1 ? only.value : JSON.stringify(entries.map(({ key, value }) => [key, value]));
}

function compileKey({ source, onMissing }: Key, path: string, facts: ProxyFacts, problem: Problem): CompiledKey {
  const key = (name: string, value: Component): CompiledKey => ({ name, value, onMissing });
  switch (source.case) {
    case "header": {
      const name = source.value.toLowerCase();
      // Whoever sends several is counted under all of them together.
      return key(`header:${name}`, (exchange) => headerValue(exchange, name));
    }
    case "cookie": {
      const name = source.value;
      return key(`cookie:${name}`, (exchange) => cookie(exchange, name));
    }
    case "queryParam": {
      const name = source.value;
      return key(`query:${name}`, ({ request }) => queryParameter(request.path, name));
    }
    case "path": {
      const { template } = source.value;
      return key("path", ({ request }) => (template ? templateOf(bare(request.path)) : bare(request.path)));
    }
    case "method":
      return key("method", ({ request }) => request.method);
    case "host":
      return key("host", ({ request }) => request.authority.toLowerCase());
    case "remoteAddress": {
      const { v4PrefixLength: v4, v6PrefixLength: v6 } = source.value;
      if (v4 > 32 || v6 > 128) problem(`${path}.remote_address`, "prefixes have at most 32 and 128 bits");
      if (v4 === 32 && v6 === 128) return key("remote_address", ({ connection }) => connection.source.ip);
      return key(
        "remote_address",
        ({
          connection: {
            source: { ip },
          },
        }) => maskIp(ip, isIpv6(ip) ? v6 : v4),
      );
    }
    case "sourcePrincipal":
      return key("source_principal", ({ connection }) => connection.peerPrincipal);
    case "sourceNamespace":
      return key("source_namespace", ({ connection }) => identityOf(connection.peerPrincipal ?? "")?.namespace);
    case "sourceServiceAccount":
      return key("source_service_account", ({ connection }) => {
        const identity = identityOf(connection.peerPrincipal ?? "");
        return identity === undefined ? undefined : `${identity.namespace}/${identity.serviceAccount}`;
      });
    case "sourceWorkload":
      return key("source_workload", ({ connection }) => connection.sourceWorkload?.());
    case "jwtClaim": {
      const { name, issuer } = source.value;
      return key(`claim:${name.join(".")}`, (exchange) => claimText(claimOf(exchange, name, issuer)));
    }
    case "requestPrincipal":
      return key("request_principal", requestPrincipalOf);
    case "route":
      return key("route", ({ route }) => route?.name);
    case "literal": {
      const { value } = source;
      return key("literal", () => value);
    }
    case "expression": {
      const read = compileRequestExpression(source.value, "string", `${path}.expression`, facts, problem);
      return key("expression", (exchange) => asText(read(exchange))?.toWellFormed());
    }
    case undefined:
      problem(path, "names nothing that this proxy knows");
      return key("", () => undefined);
  }
}

const bare = (path: string): string => {
  const query = path.indexOf("?");
  return query < 0 ? path : path.slice(0, query);
};

const identifier = /^(?:\d+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[0-9a-f]*\d)[0-9a-f]{16,})$/i;

/** `/users/42/orders` and `/users/43/orders` are one: `/users/{id}/orders`. */
export const templateOf = (path: string): string =>
  path
    .split("/")
    .map((segment) => (identifier.test(segment) ? "{id}" : segment))
    .join("/");

function cookie({ request }: Exchange, name: string): string | undefined {
  for (const line of request.headers.all("cookie")) {
    for (const part of line.split(";")) {
      const equals = part.indexOf("=");
      if (equals > 0 && part.slice(0, equals).trim() === name) return part.slice(equals + 1).trim();
    }
  }
  return undefined;
}

function claimText(value: JsonValue | undefined): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (Array.isArray(value)) return value.map((each) => claimText(each) ?? "").join(",");
  return undefined;
}
