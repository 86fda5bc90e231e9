/** Edits of headers on every request and answer of a chain: `envoy.filters.http.header_mutation`. */
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import type { HeaderMutation } from "#shared/proto/gen/envoy/config/common/mutation_rules/v3/mutation_rules_pb.js";
import {
  HeaderMutationPerRouteSchema,
  HeaderMutationSchema,
  type Mutations,
} from "#shared/proto/gen/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { Layer, LayerContext, LayerKind, LayerResult } from "#waypoint/layers/layer.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { compileHeaderEdit, type HeaderEdit } from "#waypoint/routing/header-edits.ts";

interface Edits {
  readonly request: readonly HeaderEdit[];
  readonly response: readonly HeaderEdit[];
}

export const headerMutationLayer: LayerKind = {
  type: HeaderMutationSchema.typeName,
  compile(name, any, { problem }) {
    const config = anyUnpack(any, HeaderMutationSchema);
    if (config === undefined) return undefined;
    reportUnknownFields(config, problem);
    if (config.mostSpecificHeaderMutationsWins) {
      problem("most_specific_header_mutations_wins", "is not supported: what a route says is done last");
    }
    return new HeaderMutationLayer(name, compile(config.mutations, problem));
  },
  routeTypes: {
    [HeaderMutationPerRouteSchema.typeName]: (any: Any, { problem }: LayerContext) => {
      const config = anyUnpack(any, HeaderMutationPerRouteSchema);
      if (config === undefined) return undefined;
      reportUnknownFields(config, problem);
      return compile(config.mutations, problem);
    },
  },
};

function compile(mutations: Mutations | undefined, problem: Problem): Edits {
  const list = (each: readonly HeaderMutation[], path: string): readonly HeaderEdit[] =>
    each.flatMap((mutation, index) => compileOne(mutation, `mutations.${path}[${index}]`, problem) ?? []);
  return {
    request: list(mutations?.requestMutations ?? [], "request_mutations"),
    response: list(mutations?.responseMutations ?? [], "response_mutations"),
  };
}

function compileOne({ action }: HeaderMutation, path: string, problem: Problem): HeaderEdit | undefined {
  const paths = { add: `${path}.append`, remove: `${path}.remove` };
  switch (action.case) {
    case "append":
      return compileHeaderEdit([action.value], [], paths, problem);
    case "remove":
      return compileHeaderEdit([], [action.value], paths, problem);
    case undefined:
      problem(path, "says neither what to append nor what to remove");
      return undefined;
  }
}

class HeaderMutationLayer implements Layer {
  readonly name: string;
  readonly #edits: Edits;

  constructor(name: string, edits: Edits) {
    this.name = name;
    this.#edits = edits;
  }

  onRequest(exchange: Exchange): LayerResult {
    const { headers } = exchange.request;
    for (const edit of this.#edits.request) edit(headers, exchange, undefined);
    const own = exchange.route?.layerConfigs.get(this.name) as Edits | undefined;
    for (const edit of own?.request ?? []) edit(headers, exchange, undefined);
    return undefined;
  }

  onResponse(exchange: Exchange, head: ResponseHead): void {
    for (const edit of this.#edits.response) edit(head.headers, exchange, head);
    const own = exchange.route?.layerConfigs.get(this.name) as Edits | undefined;
    for (const edit of own?.response ?? []) edit(head.headers, exchange, head);
  }
}
