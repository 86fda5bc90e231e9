/** The HTTP filters of a connection manager → its layers, and what its router is told. */
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import { RouterSchema, type Router } from "#shared/proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import type { HttpFilter } from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { configType } from "#waypoint/layers/config-type.ts";
import type { LayerKind } from "#waypoint/layers/layer.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { below, type ListenerContext } from "./compile-context.ts";
import { LayerStack, type StackedLayer } from "./layer-stack.ts";
import { fieldTables, refuseUnsupported } from "./supported-fields.ts";

export interface CompiledHttpFilters {
  readonly layers: LayerStack;
  /** Undefined where it is missing, which has been reported. */
  readonly router: Router | undefined;
}

export function compileHttpFilters(filters: readonly HttpFilter[], context: ListenerContext): CompiledHttpFilters {
  const stacked: StackedLayer[] = [];
  let router: Router | undefined;
  filters.forEach((filter, index) => {
    const own = below(context, `http_filters[${index}] "${filter.name}"`);
    refuseUnsupported(fieldTables.httpFilter, filter, "", own.problem);
    if (filter.configType.case !== "typedConfig") {
      if (filter.configType.case === undefined) own.problem("typed_config", "is missing");
      return;
    }
    const config = filter.configType.value;
    const found = anyUnpack(config, RouterSchema);
    if (found !== undefined) {
      router = found;
      checkRouter(found, index === filters.length - 1, own);
    } else compileLayer(filter, config, own, stacked);
  });
  if (router === undefined) context.problem("http_filters", "the last one has to be the router");
  return { layers: new LayerStack(stacked), router };
}

function checkRouter(router: Router, isLast: boolean, { problem }: ListenerContext): void {
  reportUnknownFields(router, problem);
  refuseUnsupported(fieldTables.router, router, "", problem);
  if (!isLast) problem("", "nothing may follow the router");
}

function compileLayer(filter: HttpFilter, config: Any, context: ListenerContext, stacked: StackedLayer[]): void {
  const type = configType(config);
  const kind = kindOf(type, context.layerKinds);
  if (kind === undefined) {
    if (filter.isOptional) context.skipped(filter.name);
    else context.problem("", `no filter of type "${type}" is known here`);
    return;
  }
  const layer = kind.compile(filter.name, config, context);
  if (layer !== undefined) stacked.push({ layer, isDisabled: filter.disabled });
}

const kindOf = (type: string, kinds: readonly LayerKind[]): LayerKind | undefined =>
  kinds.find((kind) => kind.type === type);
