/** Which policies a waypoint enforces, and on which of its chains: only those with targetRefs. */
import type { Meta, TargetRef } from "#controlplane/mesh/objects.ts";
import { isOfRevision } from "#controlplane/translate/revision.ts";
import type { EnvoyContext } from "#controlplane/translate/envoy/context.ts";
import { controllerOfClass, meshController } from "#controlplane/translate/gateway-classes.ts";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import { isOlder } from "#controlplane/translate/status.ts";

/** What a chain is for. */
export interface SecurityTargets {
  /** Undefined for the chains of workloads that are addressed themselves. */
  readonly service: ServiceInfo | undefined;
}

interface Attachable {
  readonly meta: Meta;
  readonly targetRefs: readonly TargetRef[];
}

/** Oldest first. */
export function attached<T extends Attachable>(
  context: EnvoyContext,
  { service }: SecurityTargets,
  objects: readonly T[],
): readonly T[] {
  return objects
    .filter(({ meta, targetRefs }) => {
      if (targetRefs.length === 0 || !isOfRevision(meta, context.options)) return false;
      return targetRefs.some((ref) => hits(context, service, meta, ref));
    })
    .sort((a, b) => (isOlder(a.meta, b.meta) ? -1 : 1));
}

/** A policy speaks for its own namespace only, but for one of the root namespace on a class. */
function hits(
  { world, meshConfig, waypoint }: EnvoyContext,
  service: ServiceInfo | undefined,
  { namespace }: Meta,
  { kind, name }: TargetRef,
): boolean {
  switch (kind) {
    case "Gateway":
      return namespace === waypoint.namespace && name === waypoint.name;
    case "GatewayClass":
      return (
        namespace === meshConfig.rootNamespace &&
        controllerOfClass(world, name) === meshController &&
        world.get("Gateway", waypoint.namespace, waypoint.name)?.className === name
      );
    case "Service":
    case "ServiceEntry":
      return service?.source === kind && service.meta.namespace === namespace && service.meta.name === name;
    default:
      return false;
  }
}
