/**
 * What each connected waypoint is served of Envoy's types. Configuration is made for those that are connected only, and
 * once for instances that would get the same.
 */
import type { JsonValue } from "@bufbuild/protobuf";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { identityOf } from "#shared/identity/spiffe-id.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { ClusterSchema } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import type { ClientSources, DiscoveryClient } from "#shared/xds/served-stream.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import { gatewayNameLabel } from "#controlplane/translate/annotations.ts";
import type { Collected } from "#controlplane/translate/collected.ts";
import { envoyResources, type EnvoyResources } from "#controlplane/translate/envoy/resources.ts";
import { envoyContext, proxyFacts, type Instance } from "#controlplane/translate/envoy/view.ts";
import type { Waypoint } from "#controlplane/translate/waypoints.ts";
import { encodeAll } from "./encode-all.ts";
import { HoldStore, type Resources } from "./hold-store.ts";
import { instanceOf } from "./instance.ts";

interface ViewResources {
  readonly clusters: Resources;
  readonly endpoints: Resources;
  readonly listeners: Resources;
  readonly problems: readonly string[];
}

const nothing: ViewResources = { clusters: new Map(), endpoints: new Map(), listeners: new Map(), problems: [] };

/** Long enough for a client to have taken the listeners that no longer send to it. */
const clusterHoldMs = 5_000;

export interface WaypointViewsOptions {
  readonly clock: Clock;
  readonly log: Logger;
}

export class WaypointViews {
  readonly #options: WaypointViewsOptions;
  readonly #views = new Set<WaypointView>();
  #collected: Collected | undefined;
  /** Of the last publication, by what they depend on. */
  #made = new Map<string, ViewResources>();

  constructor(options: WaypointViewsOptions) {
    this.#options = options;
  }

  /** For metrics and dumps. */
  get size(): number {
    return this.#views.size;
  }

  /** Something new is in force. */
  publish(collected: Collected): void {
    this.#collected = collected;
    this.#made = new Map();
    for (const view of this.#views) this.#update(view);
  }

  /** The types of a client that is an instance of a waypoint; undefined for others. */
  open(client: DiscoveryClient): ClientSources | undefined {
    const gateway = gatewayOf(client);
    if (gateway === undefined) return undefined;
    const view = new WaypointView(client, gateway, this.#options, () => void this.#views.delete(view));
    this.#views.add(view);
    this.#update(view);
    return view;
  }

  #update(view: WaypointView): void {
    const collected = this.#collected;
    if (collected === undefined) return;
    const waypoint = collected.waypoints.get(view.instance.namespace, view.gateway);
    try {
      view.serve(waypoint === undefined ? nothing : this.#make(collected, waypoint, view));
    } catch (error) {
      // Of this waypoint alone the last good state stays in force.
      this.#options.log.error(
        { waypoint: `${view.instance.namespace}/${view.gateway}`, error: explain(error) },
        "translation for a waypoint failed, its last good configuration stays in force",
      );
    }
  }

  #make(collected: Collected, waypoint: Waypoint, view: WaypointView): ViewResources {
    const facts = {
      ...proxyFacts(collected.world, collected.network, view.instance),
      mayHoldKeys: view.mayHoldKeys(waypoint),
    };
    const { ips, labels, ...others } = facts;
    const families = [false, true].map((isV6) => ips.some((ip) => ip.includes(":") === isV6));
    const key = JSON.stringify([waypoint.key, families, [...labels].map((pair) => pair.join("=")).sort(), others]);
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const made = encode(envoyResources(envoyContext(collected, waypoint, facts)));
    this.#made.set(key, made);
    return made;
  }
}

const encode = ({ clusters, endpoints, listeners, problems }: EnvoyResources): ViewResources => ({
  clusters: encodeAll(ClusterSchema, clusters, ({ name }) => name),
  endpoints: encodeAll(ClusterLoadAssignmentSchema, endpoints, ({ clusterName }) => clusterName),
  listeners: encodeAll(ListenerSchema, listeners, ({ name }) => name),
  problems,
});

/** The Gateway whose instance a client says that it is; its namespace is proven where anything is. */
function gatewayOf({ node }: DiscoveryClient): string | undefined {
  if (node.type !== "waypoint") return undefined;
  const name = record(node.metadata["LABELS"])[gatewayNameLabel];
  return typeof name === "string" && name !== "" ? name : undefined;
}

const record = (value: JsonValue | undefined): Readonly<Record<string, JsonValue>> =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};

/** One instance's types, in the order in which they are sent: what is sent to before what sends there. */
class WaypointView implements ClientSources {
  readonly instance: Instance;
  readonly gateway: string;
  readonly #clusters: HoldStore;
  readonly #endpoints: HoldStore;
  readonly #listeners: HoldStore;
  readonly #options: WaypointViewsOptions;
  readonly #client: DiscoveryClient;
  readonly #onClose: () => void;
  #problems = "";

  constructor(client: DiscoveryClient, gateway: string, options: WaypointViewsOptions, onClose: () => void) {
    const { clock } = options;
    this.gateway = gateway;
    this.instance = instanceOf(client.node);
    this.#client = client;
    this.#options = options;
    this.#onClose = onClose;
    this.#clusters = new HoldStore(typeUrls.cluster, clock, clusterHoldMs);
    this.#endpoints = new HoldStore(typeUrls.endpoints, clock, clusterHoldMs);
    this.#listeners = new HoldStore(typeUrls.listener, clock, 0);
  }

  get sources() {
    return [this.#clusters, this.#endpoints, this.#listeners];
  }

  /** Private keys are for those who run as the waypoint, not for everybody in its namespace. */
  mayHoldKeys({ serviceAccount, serviceAccounts }: Waypoint): boolean {
    const { admission } = this.#client;
    if (!admission.checked) return false;
    return admission.identities.some((identity) => {
      const account = identityOf(identity)?.serviceAccount;
      return account === serviceAccount || (account !== undefined && serviceAccounts.includes(account));
    });
  }

  serve({ clusters, endpoints, listeners, problems }: ViewResources): void {
    const rebuilt = this.#clusters.replace(clusters);
    // A cluster that is built anew waits for its endpoints, which may be what they were.
    this.#endpoints.replace(endpoints, rebuilt);
    this.#listeners.replace(listeners);
    const text = problems.join("; ");
    if (text !== this.#problems && text !== "") {
      this.#options.log.warn(
        { waypoint: `${this.instance.namespace}/${this.gateway}`, problems },
        "asked of a waypoint, and cannot be done",
      );
    }
    this.#problems = text;
  }

  [Symbol.dispose](): void {
    for (const store of this.sources) store[Symbol.dispose]();
    this.#onClose();
  }
}
