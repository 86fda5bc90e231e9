/** Matches facts of a connection that Istio's configurations ask for by the keys of Envoy's filter state. */
import type { FilterStateMatcher } from "#shared/proto/gen/envoy/type/matcher/v3/filter_state_pb.js";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import { compileString, type Problem } from "./string-matcher.ts";

export type ConnectionTest = (connection: DownstreamConnection) => boolean;

/** A fact that is not there matches nothing. */
export function compileFilterState(
  { key, matcher }: FilterStateMatcher,
  path: string,
  problem: Problem,
): ConnectionTest {
  const refuse = (at: string, message: string): ConnectionTest => {
    problem(at, message);
    return () => false;
  };
  if (matcher.case === undefined) return refuse(path, "has no matcher");
  const test = compileString(matcher.value, `${path}.string_match`, problem);
  switch (key) {
    case "io.istio.peer_principal":
      return ({ peerPrincipal }) => peerPrincipal !== undefined && test(peerPrincipal);
    case "io.istio.local_principal":
      return ({ localPrincipal }) => localPrincipal !== undefined && test(localPrincipal);
    default:
      return refuse(`${path}.key`, `"${key}" is not known; io.istio.peer_principal is`);
  }
}
