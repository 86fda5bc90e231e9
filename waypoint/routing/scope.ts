/** What route configurations, virtual hosts, routes and weighted clusters say alike, gathered from the outside in. */
import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { HeaderValueOption } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import { FilterConfigSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import { compileHeaderEdit, type HeaderEdit } from "./header-edits.ts";

/** Fields of the same names in all four messages. */
export interface ScopeConfig {
  readonly requestHeadersToAdd: readonly HeaderValueOption[];
  readonly requestHeadersToRemove: readonly string[];
  readonly responseHeadersToAdd: readonly HeaderValueOption[];
  readonly responseHeadersToRemove: readonly string[];
  readonly typedPerFilterConfig: Readonly<Record<string, Any>>;
}

/** The part of a route context that is needed here. */
export interface ScopeContext extends LayerContext {
  /** What may stand in `typed_per_filter_config`: message name → compiler, of all kinds of layers. */
  readonly routeTypes: ReadonlyMap<string, (config: Any, context: LayerContext) => unknown>;
}

export interface Scope {
  /** In the order in which they run. */
  readonly requestEdits: readonly HeaderEdit[];
  readonly responseEdits: readonly HeaderEdit[];
  readonly layerConfigs: ReadonlyMap<string, unknown>;
  readonly layerDisabled: ReadonlyMap<string, boolean>;
}

const nothing: Scope = { requestEdits: [], responseEdits: [], layerConfigs: new Map(), layerDisabled: new Map() };

/** `innerWins`: the inner scope's edits run last (`most_specific_header_mutations_wins`), else first. */
export function compileScope(
  config: ScopeConfig,
  outer: Scope | undefined,
  path: string,
  { context, innerWins }: { readonly context: ScopeContext; readonly innerWins: boolean },
): Scope {
  const { problem } = context;
  const { requestEdits, responseEdits, layerConfigs, layerDisabled } = outer ?? nothing;
  const request = compileHeaderEdit(
    config.requestHeadersToAdd,
    config.requestHeadersToRemove,
    { add: `${path}request_headers_to_add`, remove: `${path}request_headers_to_remove` },
    problem,
  );
  const response = compileHeaderEdit(
    config.responseHeadersToAdd,
    config.responseHeadersToRemove,
    { add: `${path}response_headers_to_add`, remove: `${path}response_headers_to_remove` },
    problem,
  );
  const join = (edits: readonly HeaderEdit[], edit: HeaderEdit | undefined) =>
    edit === undefined ? edits : innerWins ? [...edits, edit] : [edit, ...edits];
  const layers = compileLayers(config.typedPerFilterConfig, `${path}typed_per_filter_config`, context);
  return {
    requestEdits: join(requestEdits, request),
    responseEdits: join(responseEdits, response),
    layerConfigs: layers.configs.size === 0 ? layerConfigs : new Map([...layerConfigs, ...layers.configs]),
    layerDisabled: layers.disabled.size === 0 ? layerDisabled : new Map([...layerDisabled, ...layers.disabled]),
  };
}

function compileLayers(
  config: Readonly<Record<string, Any>>,
  path: string,
  context: ScopeContext,
): { readonly configs: Map<string, unknown>; readonly disabled: Map<string, boolean> } {
  const configs = new Map<string, unknown>();
  const disabled = new Map<string, boolean>();
  for (const [name, any] of Object.entries(config)) {
    const at = `${path}["${name}"]`;
    let inner: Any | undefined = any;
    let isOptional = false;
    if (typeName(any) === FilterConfigSchema.typeName) {
      const wrapper = fromBinary(FilterConfigSchema, any.value);
      inner = wrapper.config;
      isOptional = wrapper.isOptional;
      disabled.set(name, wrapper.disabled);
      if (inner === undefined) continue;
    } else disabled.set(name, false);
    const compile = context.routeTypes.get(typeName(inner));
    if (compile === undefined) {
      if (!isOptional) context.problem(at, `"${typeName(inner)}" is not supported for a route`);
      continue;
    }
    configs.set(name, compile(inner, prefixed(context, at)));
  }
  return { configs, disabled };
}

const typeName = ({ typeUrl }: Any): string => typeUrl.slice(typeUrl.lastIndexOf("/") + 1);

function prefixed(context: LayerContext, at: string): LayerContext {
  return { ...context, problem: (path, message) => context.problem(path === "" ? at : `${at}.${path}`, message) };
}
