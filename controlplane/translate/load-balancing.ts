/** How clients choose among the endpoints of a service. */
import {
  LoadBalancing_HealthPolicy as HealthPolicy,
  LoadBalancing_Mode as Mode,
  LoadBalancing_Scope as Scope,
} from "#shared/proto/gen/workload/workload_pb.js";
import type { Labels, Service, ServiceEntry } from "#controlplane/mesh/objects.ts";
import { trafficDistributionAnnotation } from "./annotations.ts";

export interface LoadBalancing {
  readonly routingPreference: Scope[];
  readonly mode: Mode;
  readonly healthPolicy: HealthPolicy;
}

const zone = [Scope.NETWORK, Scope.REGION, Scope.ZONE];
const distributions: ReadonlyMap<string, readonly Scope[]> = new Map([
  ["preferclose", zone],
  ["prefersamezone", zone],
  ["prefersamenode", [...zone, Scope.SUBZONE, Scope.NODE]],
]);

/** The first annotation that says something decides, even where its text is unknown and so means nothing. */
function annotated(annotations: readonly (Labels | undefined)[]): string {
  for (const each of annotations) {
    const text = each?.get(trafficDistributionAnnotation);
    if (text !== undefined && text !== "") return text;
  }
  return "";
}

function preferring(distribution: string): LoadBalancing | undefined {
  const scopes = distributions.get(distribution.toLowerCase());
  if (scopes === undefined) return undefined;
  return { routingPreference: [...scopes], mode: Mode.FAILOVER, healthPolicy: HealthPolicy.ONLY_HEALTHY };
}

export function serviceLoadBalancing(service: Service, namespace: Labels | undefined): LoadBalancing | undefined {
  const chosen: LoadBalancing | undefined =
    service.internalTrafficPolicy === "Local"
      ? { routingPreference: [Scope.NODE], mode: Mode.STRICT, healthPolicy: HealthPolicy.ONLY_HEALTHY }
      : (preferring(service.trafficDistribution) ?? preferring(annotated([service.meta.annotations, namespace])));
  if (!service.publishNotReadyAddresses) return chosen;
  return {
    routingPreference: chosen?.routingPreference ?? [],
    mode: chosen?.mode ?? Mode.UNSPECIFIED_MODE,
    healthPolicy: HealthPolicy.ALLOW_ALL,
  };
}

export function entryLoadBalancing(entry: ServiceEntry, namespace: Labels | undefined): LoadBalancing | undefined {
  // Resolution NONE: the client has chosen the address itself.
  if (entry.resolution === "NONE") {
    return { routingPreference: [], mode: Mode.PASSTHROUGH, healthPolicy: HealthPolicy.ALLOW_ALL };
  }
  return preferring(annotated([entry.meta.annotations, namespace]));
}
