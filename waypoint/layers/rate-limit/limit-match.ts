/** Conditions of RateLimitPolicies: those of authorization policies, and expressions. */
import { requestAttributes } from "#shared/expressions/vocabularies.ts";
import type { Match } from "#shared/proto/gen/ambit/policy/v1alpha1/rate_limit_filter_pb.js";
import { compileExpression } from "#waypoint/expressions/compile-expression.ts";
import type { Value } from "#waypoint/expressions/values.ts";
import type { Exchange } from "#waypoint/http/exchange.ts";
import { compilePolicy } from "#waypoint/layers/rbac/engine.ts";
import type { ProxyFacts } from "#waypoint/layers/layer.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { Wanted } from "#shared/expressions/check-expression.ts";

export type RequestTest = (exchange: Exchange) => boolean;

/** An expression comes to nothing where what it asks for is not there: then it does not hold. */
export function compileMatch({ policy, when }: Match, path: string, facts: ProxyFacts, problem: Problem): RequestTest {
  if (policy === undefined && when.length === 0) problem(path, "must not be empty");
  const matches = policy && compilePolicy(policy, `${path}.policy`, problem);
  const conditions = when.map((text, index) =>
    compileRequestExpression(text, "bool", `${path}.when[${index}]`, facts, problem),
  );
  return (exchange) =>
    (matches === undefined || matches(exchange)) && conditions.every((each) => each(exchange) === true);
}

/** Of the request alone, before it goes on. */
export function compileRequestExpression(
  text: string,
  wanted: Wanted,
  path: string,
  { node, peers }: ProxyFacts,
  problem: Problem,
): (exchange: Exchange) => Value {
  const read = compileExpression(text, { node, vocabulary: requestAttributes, wanted }, path, problem);
  return (exchange) => read({ exchange, response: undefined, end: undefined, peers, chain: "", isHttp: true });
}
