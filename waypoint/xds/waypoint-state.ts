/** Everything the control plane has told this waypoint, and how it gets here. */
import { fromBinary } from "@bufbuild/protobuf";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { ListenerSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { readAddresses } from "#shared/workload/read-addresses.ts";
import type { WorkloadStore } from "#shared/workload/workload-store.ts";
import type { Rejection, ResourceHandler, Subscription, XdsResource } from "#shared/xds/delta-client.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import type { ListenerSet } from "#waypoint/ingress/listener-set.ts";
import type { Secrets } from "#waypoint/upstream/secrets.ts";
import type { ClusterSet } from "#waypoint/upstream/cluster-set.ts";
import { ResourceLog } from "./resource-log.ts";

export interface WaypointStateOptions {
  readonly clock: Clock;
  readonly clusters: ClusterSet;
  readonly listeners: ListenerSet;
  readonly secrets: Secrets;
  readonly workloads: WorkloadStore;
  /** Who is at which address is asked for. */
  readonly wantsAddresses: boolean;
}

export class WaypointState {
  readonly clusters: ResourceLog;
  readonly endpoints: ResourceLog;
  readonly listeners: ResourceLog;
  readonly secrets: ResourceLog;
  readonly #addresses = Promise.withResolvers<void>();
  readonly #options: WaypointStateOptions;

  constructor(options: WaypointStateOptions) {
    this.#options = options;
    const now = () => options.clock.now();
    this.clusters = new ResourceLog(now);
    this.endpoints = new ResourceLog(now);
    this.listeners = new ResourceLog(now);
    this.secrets = new ResourceLog(now);
  }

  /** Resolves once everything has come in that serving needs. */
  async synced(): Promise<void> {
    const needed = [this.clusters.heard, this.listeners.heard];
    if (this.#options.wantsAddresses) needed.push(this.#addresses.promise);
    await Promise.all(needed);
  }

  /** In the order in which they are asked for: what a listener sends to is known before it. */
  subscriptions(): readonly Subscription[] {
    const { clusters, secrets, wantsAddresses } = this.#options;
    const onClusters: ResourceHandler = (resources, removed) => clusters.stageClusters(resources, removed);
    const onEndpoints: ResourceHandler = (resources, removed) => clusters.applyAssignments(resources, removed);
    return [
      { typeUrl: typeUrls.cluster, apply: this.clusters.watch(onClusters) },
      {
        typeUrl: typeUrls.endpoints,
        apply: this.endpoints.watch(onEndpoints),
        names: () => clusters.wantedAssignments,
      },
      {
        typeUrl: typeUrls.secret,
        apply: this.secrets.watch((resources, removed) => secrets.apply(resources, removed)),
        names: () => clusters.wantedSecrets,
      },
      { typeUrl: typeUrls.listener, apply: this.listeners.watch(this.#onListeners) },
      ...(wantsAddresses ? [{ typeUrl: typeUrls.address, apply: this.#onAddresses }] : []),
    ];
  }

  readonly #onListeners: ResourceHandler = (resources, removed) => {
    const { listeners } = this.#options;
    const rejections = resources.flatMap((resource): readonly Rejection[] => {
      const reasons = this.#applyListener(resource);
      return reasons.length === 0 ? [] : [{ name: resource.name, reason: reasons.join("; ") }];
    });
    for (const name of removed) listeners.remove(name);
    return rejections;
  };

  #applyListener({ name, value }: XdsResource): readonly string[] {
    try {
      const listener = fromBinary(ListenerSchema, value);
      if (listener.name !== name) return [`name: "${listener.name}" is not the name of the resource`];
      return this.#options.listeners.apply(name, listener);
    } catch (error) {
      return [`Cannot read the listener: ${explain(error)}`];
    }
  }

  /** Not kept as it came: there are many, and the store shows them. */
  readonly #onAddresses: ResourceHandler = (resources, removals) => {
    const { changes, rejections } = readAddresses(resources, removals);
    this.#options.workloads.apply(changes);
    this.#addresses.resolve();
    return rejections;
  };
}
