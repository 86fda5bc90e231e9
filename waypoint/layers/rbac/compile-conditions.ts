/** From Envoy's permissions and principals to tests of a subject. */
import type { JsonObject } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import type { CidrRange } from "#shared/proto/gen/envoy/config/core/v3/address_pb.js";
import type { TypedExtensionConfig } from "#shared/proto/gen/envoy/config/core/v3/extension_pb.js";
import type { Permission, Principal } from "#shared/proto/gen/envoy/config/rbac/v3/rbac_pb.js";
import type { HeaderMatcher } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { UriTemplateMatchConfigSchema } from "#shared/proto/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import type { PathMatcher } from "#shared/proto/gen/envoy/type/matcher/v3/path_pb.js";
import { explain } from "#shared/errors/mesh-error.ts";
import type { SocketAddress } from "#waypoint/http/exchange.ts";
import { compileFilterState, type ConnectionTest } from "#waypoint/matching/filter-state.ts";
import { compileHeader } from "#waypoint/matching/header-matcher.ts";
import { compileRange } from "#waypoint/matching/ip-range.ts";
import { compilePathTemplate } from "#waypoint/matching/path-template.ts";
import type { TextTest } from "#waypoint/matching/regex.ts";
import { compileString, type Problem } from "#waypoint/matching/string-matcher.ts";
import { compileMetadata } from "#waypoint/matching/value-matcher.ts";
import { readSourcedMetadata, type SourcedMetadata } from "./sourced-metadata.ts";
import type { Subject, SubjectTest } from "./subject.ts";

const always: SubjectTest = () => true;
const never: SubjectTest = () => false;

/** Deeper than any policy; a hostile one must not fill the stack when requests come. */
const deepest = 32;

export function compilePermission(permission: Permission, path: string, problem: Problem, depth = 0): SubjectTest {
  const { rule } = permission;
  const inner = (each: Permission, at: string): SubjectTest => compilePermission(each, at, problem, depth + 1);
  if (depth > deepest) return refuse(problem, path, "is nested too deeply");
  switch (rule.case) {
    case "andRules":
      return allOf(compileList(rule.value.rules, `${path}.and_rules.rules`, problem, inner));
    case "orRules":
      return anyOf(compileList(rule.value.rules, `${path}.or_rules.rules`, problem, inner));
    case "notRule":
      return not(inner(rule.value, `${path}.not_rule`));
    case "any":
      return rule.value ? always : refuse(problem, `${path}.any`, "must be true");
    case "header":
      return header(rule.value, `${path}.header`, problem);
    case "urlPath":
      return urlPath(rule.value, `${path}.url_path`, problem);
    case "uriTemplate":
      return uriTemplate(rule.value, `${path}.uri_template`, problem);
    case "destinationIp":
      return range(rule.value, `${path}.destination_ip`, problem, ({ connection }) => connection.destination);
    case "destinationPort": {
      const port = rule.value;
      return ({ connection }) => connection.destination.port === port;
    }
    case "destinationPortRange": {
      const { start, end } = rule.value;
      if (start >= end) problem(`${path}.destination_port_range`, `${start} to ${end} is empty: the end is left out`);
      return ({ connection }) => connection.destination.port >= start && connection.destination.port < end;
    }
    case "metadata":
      return compileMetadata(rule.value, `${path}.metadata`, problem);
    case "requestedServerName": {
      const test = compileString(rule.value, `${path}.requested_server_name`, problem);
      return ({ connection }) => test(connection.serverName ?? "");
    }
    case "matcher":
      return refuse(problem, `${path}.matcher`, `the matcher "${rule.value.name}" is not supported`);
    case undefined:
      return sourcedOrNothing(permission, path, problem);
  }
}

export function compilePrincipal(principal: Principal, path: string, problem: Problem, depth = 0): SubjectTest {
  const { identifier } = principal;
  const inner = (each: Principal, at: string): SubjectTest => compilePrincipal(each, at, problem, depth + 1);
  if (depth > deepest) return refuse(problem, path, "is nested too deeply");
  switch (identifier.case) {
    case "andIds":
      return allOf(compileList(identifier.value.ids, `${path}.and_ids.ids`, problem, inner));
    case "orIds":
      return anyOf(compileList(identifier.value.ids, `${path}.or_ids.ids`, problem, inner));
    case "notId":
      return not(inner(identifier.value, `${path}.not_id`));
    case "any":
      return identifier.value ? always : refuse(problem, `${path}.any`, "must be true");
    case "authenticated": {
      const name = identifier.value.principalName;
      if (name === undefined) return ({ connection }) => connection.peerPrincipal !== undefined;
      return peerIs(compileString(name, `${path}.authenticated.principal_name`, problem));
    }
    case "filterState":
      return onConnection(compileFilterState(identifier.value, `${path}.filter_state`, problem));
    case "sourceIp":
    case "directRemoteIp":
      return range(identifier.value, `${path}.direct_remote_ip`, problem, ({ connection }) => connection.source);
    case "remoteIp":
      return range(identifier.value, `${path}.remote_ip`, problem, ({ connection }) => connection.source);
    case "header":
      return header(identifier.value, `${path}.header`, problem);
    case "urlPath":
      return urlPath(identifier.value, `${path}.url_path`, problem);
    case "metadata":
      return compileMetadata(identifier.value, `${path}.metadata`, problem);
    case undefined:
      return sourcedOrNothing(principal, path, problem);
  }
}

function compileList<T>(
  list: readonly T[],
  path: string,
  problem: Problem,
  compile: (item: T, path: string) => SubjectTest,
): readonly SubjectTest[] {
  if (list.length === 0) problem(path, "must not be empty");
  return list.map((item, index) => compile(item, `${path}[${index}]`));
}

export function allOf(tests: readonly SubjectTest[]): SubjectTest {
  const [first = always, second, ...more] = tests;
  if (second === undefined) return first;
  if (more.length === 0) return (subject) => first(subject) && second(subject);
  return (subject) => {
    for (const test of tests) if (!test(subject)) return false;
    return true;
  };
}

export function anyOf(tests: readonly SubjectTest[]): SubjectTest {
  const [first = never, second, ...more] = tests;
  if (second === undefined) return first;
  if (more.length === 0) return (subject) => first(subject) || second(subject);
  return (subject) => {
    for (const test of tests) if (test(subject)) return true;
    return false;
  };
}

const not =
  (test: SubjectTest): SubjectTest =>
  (subject) =>
    !test(subject);

function refuse(problem: Problem, path: string, message: string): SubjectTest {
  problem(path, message);
  return never;
}

function header(matcher: HeaderMatcher, path: string, problem: Problem): SubjectTest {
  const test = compileHeader(matcher, path, problem);
  return ({ request }) => request !== undefined && test(request);
}

function urlPath({ rule }: PathMatcher, path: string, problem: Problem): SubjectTest {
  return onPath(compileString(rule.value, `${path}.path`, problem));
}

function uriTemplate(extension: TypedExtensionConfig, path: string, problem: Problem): SubjectTest {
  const any = extension.typedConfig;
  const config = any === undefined ? undefined : anyUnpack(any, UriTemplateMatchConfigSchema);
  if (config === undefined) return refuse(problem, path, `the type "${any?.typeUrl ?? ""}" is not a path template`);
  const template = compilePathTemplate(config.pathTemplate, `${path}.path_template`, problem);
  return template === undefined ? never : onPath(template.test);
}

/** The path as it is routed and sent on, without query. */
function onPath(test: TextTest): SubjectTest {
  return ({ request }) => request !== undefined && test(withoutQuery(request.path));
}

export function withoutQuery(path: string): string {
  const query = path.indexOf("?");
  const fragment = path.indexOf("#");
  if (query < 0 && fragment < 0) return path;
  return path.slice(0, query < 0 || (fragment >= 0 && fragment < query) ? fragment : query);
}

function range(
  wanted: CidrRange,
  path: string,
  problem: Problem,
  address: (subject: Subject) => SocketAddress,
): SubjectTest {
  const test = compileRange(wanted, path, problem);
  return (subject) => test(address(subject).ip);
}

const onConnection =
  (test: ConnectionTest): SubjectTest =>
  ({ connection }) =>
    test(connection);

const peerIs =
  (test: TextTest): SubjectTest =>
  ({ connection }) =>
    connection.peerPrincipal !== undefined && test(connection.peerPrincipal);

function sourcedOrNothing(message: Permission | Principal, path: string, problem: Problem): SubjectTest {
  try {
    const sourced = readSourcedMetadata(message);
    if (sourced !== undefined) return sourcedMetadata(sourced, `${path}.sourced_metadata`, problem);
  } catch (error) {
    return refuse(problem, `${path}.sourced_metadata`, explain(error));
  }
  return refuse(problem, path, "has no rule that this proxy knows");
}

function sourcedMetadata({ matcher, source }: SourcedMetadata, path: string, problem: Problem): SubjectTest {
  const test = compileMetadata(matcher, `${path}.metadata_matcher`, problem);
  if (source === "dynamic") return test;
  return ({ route }) => test({ metadataOf: (filter) => route?.metadata.get(filter) as JsonObject | undefined });
}
