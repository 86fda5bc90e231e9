import type { Pod } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import type { KnownPod, PodDirectory } from "./impersonation.ts";

/** The world's pods as the CA looks them up; the index by account is made anew when the world has changed. */
export function podDirectory(world: Pick<WorldView, "revision" | "get" | "all">): PodDirectory {
  let index: { readonly revision: number; readonly byAccount: ReadonlyMap<string, readonly KnownPod[]> } | undefined;
  return {
    pod(namespace, name) {
      const pod = world.get("Pod", namespace, name);
      return pod === undefined ? undefined : knownPod(pod);
    },
    podsAs(namespace, serviceAccount) {
      if (index?.revision !== world.revision) {
        index = { revision: world.revision, byAccount: groupByAccount(world.all("Pod")) };
      }
      return index.byAccount.get(`${namespace}/${serviceAccount}`) ?? [];
    },
  };
}

function groupByAccount(pods: readonly Pod[]): ReadonlyMap<string, readonly KnownPod[]> {
  const byAccount = new Map<string, KnownPod[]>();
  for (const pod of pods) {
    const key = `${pod.meta.namespace}/${accountOf(pod)}`;
    const known = byAccount.get(key);
    if (known === undefined) byAccount.set(key, [knownPod(pod)]);
    else known.push(knownPod(pod));
  }
  return byAccount;
}

const accountOf = ({ serviceAccount }: Pod): string => (serviceAccount === "" ? "default" : serviceAccount);

const knownPod = (pod: Pod): KnownPod => ({
  uid: pod.meta.uid,
  serviceAccount: accountOf(pod),
  nodeName: pod.node,
  phase: pod.phase,
});
