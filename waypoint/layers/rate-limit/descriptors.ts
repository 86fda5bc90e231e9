/** Rate limit actions of routes: what a request is counted under. Source: Envoy, RateLimit.Action; order of entries matters. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { MetadataKey } from "#shared/proto/gen/envoy/type/metadata/v3/metadata_pb.js";
import {
  RateLimit_Action_MetaData_Source as Source,
  type RateLimit,
  type RateLimit_Action,
  type RateLimit_Action_MetaData,
} from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { maskIp } from "#shared/net/cidr.ts";
import { isIpv6 } from "#shared/net/ip.ts";
import type { Exchange } from "#waypoint/http/exchange.ts";
import { compileHeader } from "#waypoint/matching/header-matcher.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { compileQueryMatch } from "#waypoint/routing/match/query.ts";

export interface Entry {
  readonly key: string;
  readonly value: string;
}

/** What one request is counted under. */
export type Descriptor = readonly Entry[];

export interface DescriptorMaker {
  readonly stage: number;
  /** undefined: the request lacks something, and this limit does not count it. */
  make(exchange: Exchange): Descriptor | undefined;
}

/** One entry; "skip" leaves it out, undefined drops the whole descriptor. */
type EntryMaker = (exchange: Exchange) => Entry | "skip" | undefined;

export function compileDescriptor({ stage, actions }: RateLimit, path: string, problem: Problem): DescriptorMaker {
  if (actions.length === 0) problem(`${path}.actions`, "must not be empty");
  const makers = actions.map((action, index) => compileAction(action, `${path}.actions[${index}]`, problem));
  return {
    stage: stage ?? 0,
    make: (exchange) => {
      const entries: Entry[] = [];
      for (const maker of makers) {
        const entry = maker(exchange);
        if (entry === undefined) return undefined;
        if (entry !== "skip") entries.push(entry);
      }
      return entries.length === 0 ? undefined : entries;
    },
  };
}

function compileAction({ actionSpecifier: action }: RateLimit_Action, path: string, problem: Problem): EntryMaker {
  switch (action.case) {
    case "destinationCluster":
      return (exchange) => {
        const routed = exchange.route?.action;
        return routed?.kind === "forward"
          ? { key: "destination_cluster", value: routed.pickCluster(exchange) }
          : undefined;
      };
    case "requestHeaders": {
      const { headerName, descriptorKey: key, skipIfAbsent } = action.value;
      const name = headerName.toLowerCase();
      if (name === "" || key === "") problem(`${path}.request_headers`, "needs header_name and descriptor_key");
      return (exchange) => {
        const value = headerValue(exchange, name);
        if (value === undefined) return skipIfAbsent ? "skip" : undefined;
        return { key, value };
      };
    }
    case "remoteAddress":
      return ({ connection }) => ({ key: "remote_address", value: connection.source.ip });
    case "maskedRemoteAddress": {
      const v4 = action.value.v4PrefixMaskLen ?? 32;
      const v6 = action.value.v6PrefixMaskLen ?? 128;
      if (v4 > 32 || v6 > 128) problem(`${path}.masked_remote_address`, "masks have at most 32 and 128 bits");
      return ({ connection: { source } }) => ({
        key: "masked_remote_address",
        value: maskIp(source.ip, isIpv6(source.ip) ? v6 : v4),
      });
    }
    case "genericKey": {
      const { descriptorKey, descriptorValue: value } = action.value;
      const entry = { key: descriptorKey || "generic_key", value };
      return () => entry;
    }
    case "headerValueMatch": {
      const { descriptorKey, descriptorValue: value, expectMatch = true, headers } = action.value;
      const tests = headers.map((each, index) =>
        compileHeader(each, `${path}.header_value_match.headers[${index}]`, problem),
      );
      const entry = { key: descriptorKey || "header_match", value };
      return ({ request }) => (tests.every((test) => test(request)) === expectMatch ? entry : undefined);
    }
    case "queryParameterValueMatch": {
      const { descriptorKey, descriptorValue: value, expectMatch = true, queryParameters } = action.value;
      const tests = queryParameters.map((each, index) =>
        compileQueryMatch(each, `${path}.query_parameter_value_match.query_parameters[${index}]`, problem),
      );
      const entry = { key: descriptorKey || "query_match", value };
      return ({ request }) => (tests.every((test) => test(request.path)) === expectMatch ? entry : undefined);
    }
    case "metadata":
      return fromMetadata(action.value, `${path}.metadata`, problem);
    case "dynamicMetadata": {
      const { descriptorKey: key, metadataKey, defaultValue } = action.value;
      return (exchange) => {
        const value = textAt(metadataKey, (filter) => exchange.metadataOf(filter)) ?? defaultValue;
        return value === "" ? undefined : { key, value };
      };
    }
    case "sourceCluster":
      problem(`${path}.source_cluster`, "is not supported: a waypoint belongs to no service");
      return () => undefined;
    case "extension":
      problem(`${path}.extension`, `"${action.value.name}" is not supported`);
      return () => undefined;
    case undefined:
      problem(path, "names no action that this proxy knows");
      return () => undefined;
  }
}

/** Of several fields with one name Envoy counts the list. */
export function headerValue({ request }: Exchange, name: string): string | undefined {
  switch (name) {
    case ":path":
      return request.path;
    case ":method":
      return request.method;
    case ":authority":
    case "host":
      return request.authority;
    case ":scheme":
      return request.scheme;
    default: {
      const values = request.headers.all(name);
      return values.length === 0 ? undefined : values.join(",");
    }
  }
}

function fromMetadata(
  { descriptorKey: key, metadataKey, defaultValue, source, skipIfAbsent }: RateLimit_Action_MetaData,
  path: string,
  problem: Problem,
): EntryMaker {
  if (key === "") problem(`${path}.descriptor_key`, "must not be empty");
  return (exchange) => {
    const value =
      textAt(metadataKey, (filter) =>
        source === Source.ROUTE_ENTRY
          ? (exchange.route?.metadata.get(filter) as JsonObject | undefined)
          : exchange.metadataOf(filter),
      ) ?? defaultValue;
    if (value === "") return skipIfAbsent ? "skip" : undefined;
    return { key, value };
  };
}

function textAt(
  metadataKey: MetadataKey | undefined,
  find: (filter: string) => JsonObject | undefined,
): string | undefined {
  let value: JsonValue | undefined = find(metadataKey?.key ?? "");
  for (const { segment } of metadataKey?.path ?? []) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    value = segment.case === "key" && Object.hasOwn(value, segment.value) ? value[segment.value] : undefined;
  }
  return typeof value === "string" ? value : undefined;
}
