/** Which selector-scoped policies each workload refers to. */
import type { AuthorizationPolicy, Labels, PeerAuthentication } from "#controlplane/mesh/objects.ts";
import { peerAuthenticationKeys, type NamespacePolicies } from "./peer-authentications.ts";
import { requiredPolicyKey } from "./required-waypoint-policies.ts";
import { SelectorIndex } from "./selector-index.ts";
import type { ServiceInfo } from "./services.ts";
import type { Binding } from "./waypoints.ts";
import { waypointPolicyKey } from "./waypoint-policies.ts";

interface WorkloadFacts {
  readonly namespace: string;
  readonly labels: Labels;
  readonly binding: Binding;
  readonly services: readonly ServiceInfo[];
}

export class WorkloadPolicies {
  private readonly rootNamespace: string;
  private readonly parents: NamespacePolicies;
  private readonly autoAllow: boolean;
  private readonly policies: SelectorIndex<string>;
  private readonly peerAuthentications: SelectorIndex<PeerAuthentication>;

  constructor(input: {
    readonly rootNamespace: string;
    /** Those that are sent to node proxies. */
    readonly policies: readonly AuthorizationPolicy[];
    readonly peerAuthentications: readonly PeerAuthentication[];
    readonly parents: NamespacePolicies;
    readonly autoAllow: boolean;
  }) {
    this.rootNamespace = input.rootNamespace;
    this.parents = input.parents;
    this.autoAllow = input.autoAllow;
    this.policies = new SelectorIndex(
      input.policies.flatMap(({ meta: { namespace, name }, selector }) =>
        selector === undefined ? [] : [{ namespace, selector, value: `${namespace}/${name}` }],
      ),
    );
    this.peerAuthentications = new SelectorIndex(
      input.peerAuthentications.flatMap((policy) => {
        const { selector, meta } = policy;
        if (selector === undefined || selector.size === 0) return [];
        return [{ namespace: meta.namespace, selector, value: policy }];
      }),
    );
  }

  forWorkload(workload: WorkloadFacts): string[] {
    const { namespace, labels } = workload;
    const root = this.rootNamespace;
    const selecting = [
      ...this.policies.matching(namespace, labels),
      ...(namespace === root ? [] : this.policies.matching(root, labels)),
    ].sort();
    return [
      ...selecting,
      ...peerAuthenticationKeys(
        // Policies with a selector in the root namespace are ignored.
        namespace === root ? [] : this.peerAuthentications.matching(namespace, labels),
        this.parents,
        namespace,
        root,
      ),
      ...this.waypointKeys(workload),
      ...workload.services.filter(({ requiresWaypoint }) => requiresWaypoint).map(requiredPolicyKey),
    ];
  }

  private waypointKeys({ binding: own, services }: WorkloadFacts): readonly string[] {
    if (!this.autoAllow) return [];
    const bindings = [...services.map(({ binding }) => binding), own];
    const waypoints = new Set(bindings.flatMap((binding) => (binding.kind === "bound" ? [binding.waypoint] : [])));
    return [...waypoints].map(waypointPolicyKey).filter((key) => key !== undefined);
  }
}
