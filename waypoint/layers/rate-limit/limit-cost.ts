/** What one request takes from its limits. */
import { exchangeAttributes } from "#shared/expressions/vocabularies.ts";
import type { Cost } from "#shared/proto/gen/ambit/policy/v1alpha1/rate_limit_filter_pb.js";
import { compileExpression } from "#waypoint/expressions/compile-expression.ts";
import type { Value } from "#waypoint/expressions/values.ts";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { ProxyFacts } from "#waypoint/layers/layer.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { ExchangeEnd } from "#waypoint/telemetry/observers.ts";
import { compileRequestExpression } from "./limit-match.ts";

export interface LimitCost {
  /** When the request comes. */
  before(exchange: Exchange): number;
  /** When it is over; undefined where everything is known before. The answer may say nothing: then it costs nothing. */
  readonly after: ((exchange: Exchange, end: ExchangeEnd) => number | undefined) | undefined;
}

const mostCost = 2 ** 31 - 1;

/** What is no number costs 1: nobody gets a request for free by writing nonsense. */
export function compileCost({ cost }: Cost, path: string, facts: ProxyFacts, problem: Problem): LimitCost {
  switch (cost.case) {
    case "value": {
      const { value } = cost;
      return { before: () => value, after: undefined };
    }
    case "requestHeader": {
      const name = cost.value.toLowerCase();
      return { before: ({ request }) => readCost(request.headers.get(name)) ?? 1, after: undefined };
    }
    case "requestExpression": {
      const read = compileRequestExpression(cost.value, "int", `${path}.request_expression`, facts, problem);
      return { before: (exchange) => costOf(read(exchange)) ?? 1, after: undefined };
    }
    case "responseHeader": {
      const name = cost.value.toLowerCase();
      return {
        before: () => 0,
        // A call of gRPC knows what it cost at its end.
        after: ({ response }, { responseTrailers }) =>
          readCost(response?.headers.get(name) ?? responseTrailers?.get(name)),
      };
    }
    case "responseExpression": {
      const { node, peers } = facts;
      const place = { node, vocabulary: exchangeAttributes, wanted: "int" as const };
      const read = compileExpression(cost.value, place, `${path}.response_expression`, problem);
      return {
        before: () => 0,
        after: (exchange, end) =>
          costOf(read({ exchange, response: exchange.response, end, peers, chain: "", isHttp: true })),
      };
    }
    case undefined:
      return { before: () => 1, after: undefined };
  }
}

function readCost(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Math.min(Number(text), mostCost) : undefined;
}

/** Parts of one are a whole one. */
const costOf = (value: Value): number | undefined =>
  typeof value === "number" && value >= 0 ? Math.min(Math.ceil(value), mostCost) : undefined;
