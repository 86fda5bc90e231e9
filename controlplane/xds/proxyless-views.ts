/** What gRPC clients without a proxy are served: made when they ask for it by name, and again at each publication. */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { ClusterSchema } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "#shared/proto/gen/envoy/config/route/v3/route_pb.js";
import type { ChangeListener, OnDemand, ResourceSource, ServedResource } from "#shared/xds/resource-store.ts";
import type { ClientSources, DiscoveryClient } from "#shared/xds/served-stream.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import type { Collected } from "#controlplane/translate/collected.ts";
import type { EnvoyContext } from "#controlplane/translate/envoy/context.ts";
import {
  proxylessCluster,
  proxylessContext,
  proxylessEndpoints,
  proxylessListener,
  proxylessRoutes,
} from "#controlplane/translate/envoy/proxyless.ts";
import { proxyFacts } from "#controlplane/translate/envoy/view.ts";
import { encodeAll } from "./encode-all.ts";
import { instanceOf } from "./instance.ts";

/** Names that are kept up to date for one client; far above what one program calls. */
const nameBound = 10_000;

export class ProxylessViews {
  readonly #log: Logger;
  readonly #views = new Set<ProxylessView>();
  #collected: Collected | undefined;

  constructor(log: Logger) {
    this.#log = log;
  }

  publish(collected: Collected): void {
    this.#collected = collected;
    for (const view of this.#views) view.publish(collected);
  }

  /** The types of a client that is neither node proxy nor waypoint; undefined for those. */
  open(client: DiscoveryClient): ClientSources | undefined {
    if (client.node.type !== "sidecar" && client.node.type !== "router") return undefined;
    const view = new ProxylessView(client, this.#log, () => void this.#views.delete(view));
    this.#views.add(view);
    if (this.#collected !== undefined) view.publish(this.#collected);
    return view;
  }
}

class ProxylessView implements ClientSources {
  readonly sources: readonly NamedSource[];
  readonly #client: DiscoveryClient;
  readonly #onClose: () => void;
  #context: EnvoyContext | undefined;

  constructor(client: DiscoveryClient, log: Logger, onClose: () => void) {
    this.#client = client;
    this.#onClose = onClose;
    const source = <D extends DescMessage>(
      typeUrl: string,
      schema: D,
      make: (context: EnvoyContext, name: string) => MessageShape<D> | undefined,
    ): NamedSource =>
      new NamedSource(typeUrl, (name) => {
        if (this.#context === undefined) return undefined;
        try {
          const message = make(this.#context, name);
          return message === undefined ? undefined : encodeAll(schema, [message], () => name).get(name);
        } catch (error) {
          log.error({ node: client.node.id, name, error: explain(error) }, "translation for a gRPC client failed");
          return undefined;
        }
      });
    this.sources = [
      source(typeUrls.listener, ListenerSchema, proxylessListener),
      source(typeUrls.routes, RouteConfigurationSchema, proxylessRoutes),
      source(typeUrls.cluster, ClusterSchema, proxylessCluster),
      source(typeUrls.endpoints, ClusterLoadAssignmentSchema, proxylessEndpoints),
    ];
  }

  publish(collected: Collected): void {
    const instance = instanceOf(this.#client.node);
    const facts = proxyFacts(collected.world, collected.network, instance);
    this.#context = proxylessContext(collected, instance.namespace, facts);
    for (const source of this.sources) source.refresh();
  }

  [Symbol.dispose](): void {
    this.#onClose();
  }
}

/** A type of which only what is asked for by name exists. */
class NamedSource implements ResourceSource {
  readonly typeUrl: string;
  readonly onDemand: OnDemand;
  readonly #make: (name: string) => ServedResource | undefined;
  /** By name as asked for; undefined where there is none. The oldest goes first where there are too many. */
  readonly #known = new Map<string, ServedResource | undefined>();
  #listener: ChangeListener = () => {};

  constructor(typeUrl: string, make: (name: string) => ServedResource | undefined) {
    this.typeUrl = typeUrl;
    this.#make = make;
    this.onDemand = {
      resolve: (key) => (this.get(key) === undefined ? [] : [key]),
      implied: () => [],
      onNode: () => [],
      isOnNode: () => false,
    };
  }

  get(name: string): ServedResource | undefined {
    if (this.#known.has(name)) return this.#known.get(name);
    const made = this.#make(name);
    this.#known.set(name, made);
    if (this.#known.size > nameBound) {
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    }
    return made;
  }

  all(): Iterable<ServedResource> {
    return [];
  }

  onChange(listener: ChangeListener): () => void {
    this.#listener = listener;
    return () => {
      this.#listener = () => {};
    };
  }

  refresh(): void {
    const changed = new Set<string>();
    for (const [name, before] of this.#known) {
      const made = this.#make(name);
      if (made?.version === before?.version) continue;
      this.#known.set(name, made);
      changed.add(name);
    }
    if (changed.size > 0) this.#listener(changed);
  }
}
