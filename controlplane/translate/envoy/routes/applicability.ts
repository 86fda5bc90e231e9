/** Which matches of a VirtualService the one who routes has a use for. */
import { includesLabels } from "#controlplane/mesh/label-selector.ts";
import type { Labels } from "#controlplane/mesh/objects.ts";
import type { Applicability } from "#controlplane/mesh/virtual-service.ts";

export interface Standpoint {
  /** The port of the service that is called. */
  readonly port: number;
  /** That of the waypoint, or of the client. */
  readonly namespace: string;
  /** Of a client that routes for itself; undefined: a waypoint knows no labels of its callers. */
  readonly labels: Labels | undefined;
}

export function applies(match: Applicability, { port, namespace, labels }: Standpoint): boolean {
  if (match.port !== undefined && match.port !== port) return false;
  // What asks for labels would be for everybody otherwise, not for those that it is written for.
  if (labels === undefined && match.sourceLabels.size > 0) return false;
  if (match.gateways.length > 0) return match.gateways.includes("mesh");
  if (labels !== undefined && !includesLabels(labels, match.sourceLabels)) return false;
  return match.sourceNamespace === "" || match.sourceNamespace === namespace;
}
