import type { Workload } from "#shared/workload/workload.ts";
import { compilePolicy } from "./compile-policy.ts";
import type { CompiledPolicy, PolicySet } from "./decide.ts";
import type { Policy } from "./policy.ts";

interface Stored {
  readonly policy: Policy;
  readonly compiled: CompiledPolicy;
}

/** The policies in force, compiled, with the set of each workload worked out once per change. */
export class PolicyStore {
  readonly #byKey = new Map<string, Stored>();
  /** Namespace → keys of the policies that hold for all of it; "" holds for the mesh. */
  readonly #byNamespace = new Map<string, Set<string>>();
  #sets = new WeakMap<Workload, PolicySet>();

  /** Applies one response; nothing sees half of it. */
  apply({ upserts, removals }: { readonly upserts: readonly Policy[]; readonly removals: readonly string[] }): void {
    for (const policy of upserts) {
      this.#remove(policy.key);
      this.#byKey.set(policy.key, { policy, compiled: compilePolicy(policy) });
      const namespace = indexedUnder(policy);
      if (namespace === undefined) continue;
      const keys = this.#byNamespace.get(namespace);
      if (keys === undefined) this.#byNamespace.set(namespace, new Set([policy.key]));
      else keys.add(policy.key);
    }
    for (const key of removals) this.#remove(key);
    this.#sets = new WeakMap();
  }

  get(key: string): Policy | undefined {
    return this.#byKey.get(key)?.policy;
  }

  /** All policies, by key. */
  all(): readonly Policy[] {
    return [...this.#byKey.values()]
      .map(({ policy }) => policy)
      .toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  }

  /** Keys of what holds for a whole namespace ("" is the mesh). */
  keysOfNamespace(namespace: string): readonly string[] {
    return [...(this.#byNamespace.get(namespace) ?? [])];
  }

  /**
   * What applies to a workload: the mesh's, its namespace's, and those it names. A name that is not here is skipped, as
   * both arrive on different streams in any order.
   */
  policiesFor(workload: Workload): PolicySet {
    const known = this.#sets.get(workload);
    if (known !== undefined) return known;
    const keys = new Set([
      ...this.keysOfNamespace(""),
      ...this.keysOfNamespace(workload.namespace),
      ...workload.authorizationPolicies,
    ]);
    const policies = [...keys].flatMap((key) => this.#byKey.get(key)?.compiled ?? []);
    const enforced = policies.filter(({ dryRun }) => !dryRun);
    const set: PolicySet = {
      deny: enforced.filter(({ action }) => action === "DENY"),
      allow: enforced.filter(({ action }) => action === "ALLOW"),
      dryRun: policies.filter(({ dryRun }) => dryRun),
    };
    this.#sets.set(workload, set);
    return set;
  }

  #remove(key: string): void {
    const stored = this.#byKey.get(key);
    if (stored === undefined) return;
    this.#byKey.delete(key);
    const namespace = indexedUnder(stored.policy);
    if (namespace === undefined) return;
    const keys = this.#byNamespace.get(namespace);
    keys?.delete(key);
    if (keys?.size === 0) this.#byNamespace.delete(namespace);
  }
}

/** undefined for policies that hold only where a workload names them. */
function indexedUnder({ scope, namespace }: Policy): string | undefined {
  switch (scope) {
    case "GLOBAL":
      return "";
    case "NAMESPACE":
      return namespace;
    case "WORKLOAD_SELECTOR":
      return undefined;
  }
}
