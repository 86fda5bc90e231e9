/** Which Telemetry objects a chain goes by, from broad to narrow: the mesh's, the waypoint's namespace's, the service's, attached ones. */
import type { Telemetry } from "#controlplane/mesh/objects.ts";
import { isOfRevision } from "#controlplane/translate/revision.ts";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import { isOlder } from "#controlplane/translate/status.ts";
import type { EnvoyContext } from "../context.ts";
import { attached } from "../security/attached.ts";

export function telemetriesInForce(context: EnvoyContext, service: ServiceInfo | undefined): readonly Telemetry[] {
  const all = context.world.all("Telemetry");
  if (all.length === 0) return [];
  const namespaces = new Set([
    context.meshConfig.rootNamespace,
    context.waypoint.namespace,
    ...(service === undefined ? [] : [service.meta.namespace]),
  ]);
  const broad = [...namespaces].flatMap((namespace) => ofNamespace(all, namespace, context.options) ?? []);
  const narrow = attached(context, { service }, all).toSorted((a, b) => breadthOf(b) - breadthOf(a));
  return [...broad, ...narrow];
}

/** Of several for one whole namespace the oldest counts. */
function ofNamespace(
  all: readonly Telemetry[],
  namespace: string,
  options: EnvoyContext["options"],
): Telemetry | undefined {
  return all
    .filter(({ meta, selector, targetRefs }) => {
      const isWhole = targetRefs.length === 0 && (selector === undefined || selector.size === 0);
      return isOfRevision(meta, options) && isWhole && meta.namespace === namespace;
    })
    .toSorted((a, b) => (isOlder(a.meta, b.meta) ? -1 : 1))[0];
}

const breadths: Readonly<Record<string, number>> = { GatewayClass: 2, Gateway: 1 };

function breadthOf({ targetRefs }: Telemetry): number {
  return Math.min(...targetRefs.map(({ kind }) => breadths[kind] ?? 0));
}

/** A waypoint stands on the receiving side. */
export const concernsServers = ({ mode }: { readonly mode: string }): boolean => mode !== "CLIENT";
