/** Which matches of a VirtualService a waypoint has a use for. */
import type { Applicability } from "#controlplane/mesh/virtual-service.ts";

/** A waypoint knows no labels of its callers, and stands in one namespace only: matches by those never apply. */
export function applies(match: Applicability, at: { readonly port: number; readonly namespace: string }): boolean {
  if (match.port !== undefined && match.port !== at.port) return false;
  if (match.gateways.length > 0) return match.gateways.includes("mesh");
  if (match.sourceLabels.size > 0) return false;
  return match.sourceNamespace === "" || match.sourceNamespace === at.namespace;
}
