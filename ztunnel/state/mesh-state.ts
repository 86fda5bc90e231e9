/** Everything the control plane told us, and how it gets here. */
import { fromBinary } from "@bufbuild/protobuf";
import type { Clock } from "#shared/clock/clock.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Ip } from "#shared/net/ip.ts";
import { AuthorizationSchema } from "#shared/proto/gen/security/authorization_pb.js";
import { policyFromProto } from "#shared/rbac/from-proto.ts";
import type { Policy } from "#shared/rbac/policy.ts";
import { PolicyStore } from "#shared/rbac/policy-store.ts";
import { eachResource, readAddresses } from "#shared/workload/read-addresses.ts";
import { WorkloadStore, type AddressChanges } from "#shared/workload/workload-store.ts";
import type { ResourceHandler, Subscription } from "#shared/xds/delta-client.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";

export interface MeshStateOptions {
  readonly localNode?: string;
  readonly clock: Clock;
  readonly onIdentityNeeded?: (id: SpiffeId) => void;
  readonly onIdentityGone?: (id: SpiffeId) => void;
}

export class MeshState {
  readonly workloads: WorkloadStore;
  readonly policies = new PolicyStore();
  readonly #listeners = new Set<() => void>();
  readonly #joinListeners = new Set<(addresses: ReadonlySet<Ip>) => void>();

  constructor(options: MeshStateOptions) {
    this.workloads = new WorkloadStore(options);
  }

  /** Calls `listener` after changes that may forbid a connection that was allowed; the returned function ends that. */
  onPolicyChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Calls `listener` with the addresses of workloads that can now be reached in tunnels, and could not before. */
  onJoined(listener: (addresses: ReadonlySet<Ip>) => void): () => void {
    this.#joinListeners.add(listener);
    return () => void this.#joinListeners.delete(listener);
  }

  applyAddresses(changes: AddressChanges): void {
    // A workload names the selector policies that hold for it: a new list counts as a change of policy.
    const renamed = (changes.workloads ?? []).some((workload) => {
      const old = this.workloads.workloadByUid(workload.uid);
      return old !== undefined && !sameList(old.authorizationPolicies, workload.authorizationPolicies);
    });
    const joined = (changes.workloads ?? []).filter(
      ({ uid, protocol }) => protocol === "HBONE" && this.workloads.workloadByUid(uid)?.protocol !== "HBONE",
    );
    this.workloads.apply(changes);
    if (renamed) this.#announcePolicies();
    if (joined.length > 0) {
      const addresses = new Set(joined.flatMap((workload) => workload.addresses));
      for (const listener of this.#joinListeners) listener(addresses);
    }
  }

  applyPolicies(upserts: readonly Policy[], removals: readonly string[]): void {
    this.policies.apply({ upserts, removals });
    if (upserts.length > 0 || removals.length > 0) this.#announcePolicies();
  }

  /** What to ask the control plane for, in Istio's order. */
  subscriptions({ onDemand }: { readonly onDemand: boolean }): readonly Subscription[] {
    return [
      { typeUrl: typeUrls.address, apply: this.#onAddresses, onDemand },
      { typeUrl: typeUrls.authorization, apply: this.#onPolicies },
    ];
  }

  readonly #onAddresses: ResourceHandler = (resources, removals) => {
    const { changes, rejections } = readAddresses(resources, removals);
    this.applyAddresses(changes);
    return rejections;
  };

  readonly #onPolicies: ResourceHandler = (resources, removals) => {
    const policies: Policy[] = [];
    const rejections = eachResource(resources, (bytes) => {
      const read = policyFromProto(fromBinary(AuthorizationSchema, bytes));
      if (!read.ok) return read.errors;
      policies.push(read.value);
      return [];
    });
    this.applyPolicies(policies, removals);
    return rejections;
  };

  #announcePolicies(): void {
    for (const listener of this.#listeners) listener();
  }
}

const sameList = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((item, index) => item === b[index]);
