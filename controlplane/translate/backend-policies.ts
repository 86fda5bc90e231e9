/** Which of Gateway API's backend policies hold for which services. Of several, the oldest has the target. */
import type { BackendPolicy, BackendTlsPolicy, BackendTrafficPolicy } from "#controlplane/mesh/backend-policy.ts";
import type { SectionTarget } from "#controlplane/mesh/section-target.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import type { Collected } from "./collected.ts";
import { byAgeAndPath, parentKey, parentKind } from "./envoy/routes/attachments.ts";
import type { TranslateOptions } from "./options.ts";
import { isOfRevision } from "./revision.ts";
import type { PortInfo, ServiceInfo } from "./services.ts";

type OfService = Pick<ServiceInfo, "source" | "meta">;

export interface BackendPolicies {
  /** What names the port goes before what names the service. */
  tlsFor(service: OfService, port: Pick<PortInfo, "name">): BackendTlsPolicy | undefined;
  retriesFor(service: OfService): BackendTrafficPolicy | undefined;
  /** The policy that has a target of `policy` instead of it; undefined where it has the target itself. */
  rivalOf(policy: BackendPolicy, target: SectionTarget): BackendPolicy | undefined;
}

/** `section` empty: the whole service. undefined for what is no service. */
function placeOf({ meta }: BackendPolicy, target: SectionTarget): string | undefined {
  const kind = parentKind(target);
  return kind && `${parentKey(kind, meta.namespace, target.name)}#${target.sectionName ?? ""}`;
}

const placeIn = ({ source, meta }: OfService, section: string): string =>
  `${parentKey(source, meta.namespace, meta.name)}#${section}`;

export function collectBackendPolicies(world: WorldView, options: TranslateOptions): BackendPolicies {
  const isOurs = ({ meta }: BackendPolicy): boolean => isOfRevision(meta, options);
  const tls = holders(world.all("BackendTLSPolicy").filter(isOurs));
  // What says nothing of retries takes them from nobody.
  const retries = holders(
    world.all("XBackendTrafficPolicy").filter((policy) => isOurs(policy) && policy.retryBudget !== undefined),
  );
  return {
    tlsFor: (service, { name }) =>
      (name === "" ? undefined : tls.get(placeIn(service, name))) ?? tls.get(placeIn(service, "")),
    retriesFor: (service) => retries.get(placeIn(service, "")),
    rivalOf: (policy, target) => {
      const isTls = "hostname" in policy;
      if (!isTls && (policy as BackendTrafficPolicy).retryBudget === undefined) return undefined;
      const holder = (isTls ? tls : retries).get(placeOf(policy, target) ?? "");
      const isSame = holder?.meta.namespace === policy.meta.namespace && holder.meta.name === policy.meta.name;
      return isSame ? undefined : holder;
    },
  };
}

function holders<Policy extends BackendPolicy>(policies: readonly Policy[]): ReadonlyMap<string, Policy> {
  const byPlace = new Map<string, Policy>();
  for (const policy of policies.toSorted(byAgeAndPath)) {
    for (const target of policy.targets) {
      const place = placeOf(policy, target);
      if (place !== undefined && !byPlace.has(place)) byPlace.set(place, policy);
    }
  }
  return byPlace;
}

const known = new WeakMap<Collected, BackendPolicies>();

/** Those of a whole translation, collected once. */
export function backendPoliciesOf(collected: Collected): BackendPolicies {
  let policies = known.get(collected);
  if (policies === undefined) {
    known.set(collected, (policies = collectBackendPolicies(collected.world, collected.options)));
  }
  return policies;
}
