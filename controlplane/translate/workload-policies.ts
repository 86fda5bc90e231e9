/** Which selector-scoped policies each workload refers to. */
import type { AuthorizationPolicy, Labels, PeerAuthentication } from "#controlplane/mesh/objects.ts";
import { peerAuthenticationKeys, type NamespacePolicies } from "./peer-authentications.ts";
import { SelectorIndex } from "./selector-index.ts";
import type { ServiceInfo } from "./services.ts";
import type { Waypoint } from "./waypoints.ts";
import { waypointPolicyKey } from "./waypoint-policies.ts";

interface WorkloadFacts {
  readonly namespace: string;
  readonly labels: Labels;
  readonly waypoint: Waypoint | undefined;
  readonly services: readonly ServiceInfo[];
}

export class WorkloadPolicies {
  private readonly rootNamespace: string;
  private readonly parents: NamespacePolicies;
  private readonly autoAllow: boolean;
  private readonly policies = new SelectorIndex<string>();
  private readonly peerAuthentications = new SelectorIndex<PeerAuthentication>();

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
    for (const { meta, selector } of input.policies) {
      if (selector !== undefined) this.policies.add(meta.namespace, selector, `${meta.namespace}/${meta.name}`);
    }
    for (const policy of input.peerAuthentications) {
      const { selector, meta } = policy;
      if (selector !== undefined && selector.size > 0) this.peerAuthentications.add(meta.namespace, selector, policy);
    }
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
    ];
  }

  private waypointKeys({ waypoint, services }: WorkloadFacts): readonly string[] {
    if (!this.autoAllow) return [];
    const ofServices = new Set(services.flatMap(({ binding }) => (binding.kind === "bound" ? [binding.waypoint] : [])));
    // As in Istio, a waypoint of both the workload and its service is named twice.
    return [...ofServices, ...(waypoint === undefined ? [] : [waypoint])]
      .map(waypointPolicyKey)
      .filter((key) => key !== undefined);
  }
}
