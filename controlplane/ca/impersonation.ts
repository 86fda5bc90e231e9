import { identityOf } from "#shared/identity/spiffe-id.ts";
import type { Caller } from "./caller.ts";

/** A pod as far as it vouches for identities. */
export interface KnownPod {
  readonly uid: string;
  readonly serviceAccount: string;
  readonly nodeName: string;
  readonly phase: string;
}

/** The pods of the cluster, from whatever source. */
export interface PodDirectory {
  pod(namespace: string, name: string): KnownPod | undefined;
  /** Pods of a namespace that run as a service account. */
  podsAs(namespace: string, serviceAccount: string): Iterable<KnownPod>;
}

export interface ImpersonationOptions {
  /** `namespace/service account` of node proxies. */
  readonly trustedNodeAccounts: ReadonlySet<string>;
  readonly pods: PodDirectory;
  /** Ours and its aliases. */
  readonly trustDomains: () => readonly string[];
}

export type ImpersonationVerdict =
  | { readonly allowed: true }
  /** For our log; the caller is told nothing of it. */
  | { readonly allowed: false; readonly why: string };

const refused = (why: string): ImpersonationVerdict => ({ allowed: false, why });

/**
 * Whether a node proxy may have a certificate of another identity: only of one that runs on its own node. Without this
 * check a proxy taken over on one node could be everybody everywhere. Pure.
 */
export function mayImpersonate(caller: Caller, requested: string, options: ImpersonationOptions): ImpersonationVerdict {
  const { trustedNodeAccounts, pods, trustDomains } = options;
  const self = identityOf(caller.identity);
  if (self === undefined || !trustedNodeAccounts.has(`${self.namespace}/${self.serviceAccount}`)) {
    return refused(`"${caller.identity}" is no trusted node account`);
  }
  const wanted = identityOf(requested);
  if (wanted === undefined || wanted.namespace === "" || wanted.serviceAccount === "") {
    return refused(`"${requested.slice(0, 500)}" is no workload identity`);
  }
  // Istio signs for any trust domain here; but where meshes share a root, that would let one speak for the other.
  if (!trustDomains().includes(wanted.trustDomain)) return refused(`"${wanted.trustDomain}" is not our trust domain`);
  if (caller.pod === undefined) return refused("the caller's token is not bound to a pod");
  const callerPod = pods.pod(self.namespace, caller.pod.name);
  if (callerPod === undefined) return refused(`the caller's pod "${caller.pod.name}" is not known`);
  if (callerPod.uid !== caller.pod.uid) return refused(`the caller's pod "${caller.pod.name}" has another uid now`);
  if (callerPod.serviceAccount !== self.serviceAccount) return refused("the caller's pod runs as another account");
  if (callerPod.nodeName === "") return refused("the caller's pod is on no node");
  for (const pod of pods.podsAs(wanted.namespace, wanted.serviceAccount)) {
    if (pod.nodeName === callerPod.nodeName && pod.phase !== "Failed") return { allowed: true };
  }
  return refused(`no pod of "${requested}" runs on node "${callerPod.nodeName}"`);
}
