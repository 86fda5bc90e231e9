/** Listener filters: what is found out of a connection before a chain is chosen. */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import type {
  ListenerFilter,
  ListenerFilterChainMatchPredicate,
} from "#shared/proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { Listener } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { HttpInspectorSchema } from "#shared/proto/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { OriginalDstSchema } from "#shared/proto/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import { TlsInspectorSchema } from "#shared/proto/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { below, type ListenerContext } from "./compile-context.ts";
import type { CompiledListener } from "./compiled-listener.ts";

type PortTest = (destinationPort: number) => boolean;

const never: PortTest = () => false;

export function compileListenerFilters(
  listener: Listener,
  context: ListenerContext,
): Pick<CompiledListener, "usesOriginalDestination" | "inspectsHttp" | "inspectsTls"> {
  let usesOriginalDestination = listener.useOriginalDst ?? false;
  let inspectsHttp = never;
  let inspectsTls = never;
  listener.listenerFilters.forEach((filter, index) => {
    const own = below(context, `listener_filters[${index}] "${filter.name}"`);
    const isOn = compileIsOn(filter, own);
    switch (kindOf(filter, own)) {
      case "original-destination":
        usesOriginalDestination = true;
        break;
      case "http":
        inspectsHttp = isOn;
        break;
      case "tls":
        inspectsTls = isOn;
        break;
      case undefined:
        break;
    }
  });
  return { usesOriginalDestination, inspectsHttp, inspectsTls };
}

const kinds = [
  { schema: OriginalDstSchema, kind: "original-destination" },
  { schema: HttpInspectorSchema, kind: "http" },
  { schema: TlsInspectorSchema, kind: "tls" },
] as const;

function kindOf(
  { configType }: ListenerFilter,
  { problem }: ListenerContext,
): (typeof kinds)[number]["kind"] | undefined {
  if (configType.case !== "typedConfig") {
    problem(configType.case === undefined ? "typed_config" : "config_discovery", "is not supported");
    return undefined;
  }
  for (const { schema, kind } of kinds) {
    const config = anyUnpack(configType.value, schema);
    if (config === undefined) continue;
    reportUnknownFields(config, problem);
    return kind;
  }
  problem("", `no listener filter of type "${configType.value.typeUrl}" is known here`);
  return undefined;
}

function compileIsOn({ filterDisabled }: ListenerFilter, { problem }: ListenerContext): PortTest {
  if (filterDisabled === undefined) return () => true;
  const isOff = compilePredicate(filterDisabled, "filter_disabled", problem);
  return (port) => !isOff(port);
}

/** Rules may be nested; so deep is no configuration in use. */
const deepest = 32;

function compilePredicate(
  { rule }: ListenerFilterChainMatchPredicate,
  path: string,
  problem: ListenerContext["problem"],
  depth = 0,
): PortTest {
  if (depth > deepest) {
    problem(path, "is nested too deeply");
    return never;
  }
  const all = (rules: readonly ListenerFilterChainMatchPredicate[], field: string) =>
    rules.map((inner, index) => compilePredicate(inner, `${path}.${field}.rules[${index}]`, problem, depth + 1));
  switch (rule.case) {
    case "orMatch": {
      const tests = all(rule.value.rules, "or_match");
      return (port) => tests.some((test) => test(port));
    }
    case "andMatch": {
      const tests = all(rule.value.rules, "and_match");
      return (port) => tests.every((test) => test(port));
    }
    case "notMatch": {
      const test = compilePredicate(rule.value, `${path}.not_match`, problem, depth + 1);
      return (port) => !test(port);
    }
    case "anyMatch":
      return () => rule.value;
    case "destinationPortRange": {
      const { start, end } = rule.value;
      return (port) => port >= start && port < end;
    }
    case undefined:
      problem(path, "is empty");
      return never;
  }
}
