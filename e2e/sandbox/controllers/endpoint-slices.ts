import type { ObjectStore } from "../apiserver/object-store.ts";
import { as, resources, type EndpointSlice, type Node, type Pod, type Service } from "../kinds.ts";
import { itself, startController, type Controller, type ControllerContext } from "./controller.ts";
import { sliceContents, type SliceContent } from "./endpoints-of.ts";
import { canonical, controllerReference, isControlledBy, selects } from "./owned-pods.ts";

const serviceNameLabel = "kubernetes.io/service-name";
const managedByLabel = "endpointslice.kubernetes.io/managed-by";
const manager = "endpointslice-controller.k8s.io";

/** Endpoint slices (and, for older clients, Endpoints) of every service that selects pods. */
export function startEndpointSlices(context: ControllerContext): Controller {
  const { store } = context;

  const reconcile = (namespace: string, name: string): void => {
    const object = store.get(resources.services, namespace, name);
    if (object === undefined || object.metadata.deletionTimestamp !== undefined) return;
    const service = as<Service>(object);
    const { selector, type } = service.spec;
    if (selector === undefined || Object.keys(selector).length === 0 || type === "ExternalName") return;
    const nodes = new Map(store.list(resources.nodes).map((node) => [node.metadata.name, as<Node>(node)]));
    const pods = store.list(resources.pods, { namespace, labels: selector }).map(as<Pod>);
    const contents = sliceContents(service, pods, nodes);
    writeSlices(store, service, contents);
    writeEndpoints(store, service, contents);
  };

  const servicesOf = ({ metadata }: { metadata: { namespace?: string; labels?: Record<string, string> } }) =>
    store
      .list(resources.services, { namespace: metadata.namespace ?? "" })
      .filter((service) => {
        const { selector = {} } = as<Service>(service).spec;
        return Object.keys(selector).length > 0 && selects({ matchLabels: selector }, metadata.labels);
      })
      .flatMap(itself);

  /** A pod whose labels changed concerns the services that have it too, not only those that now select it. */
  const holdersOf = (uid: string, namespace: string) =>
    store
      .list(resources.endpointSlices, { namespace })
      .map(as<EndpointSlice>)
      .filter(({ endpoints = [] }) => endpoints.some(({ targetRef }) => targetRef?.uid === uid))
      .flatMap(({ metadata }) => {
        const service = metadata.labels?.[serviceNameLabel];
        return service === undefined ? [] : [[namespace, service] as [string, string]];
      });

  return startController(context, {
    name: "endpointslice",
    reconcile,
    watches: [
      { id: resources.services, concerns: itself },
      {
        id: resources.pods,
        concerns: (pod) => [...servicesOf(pod), ...holdersOf(pod.metadata.uid, pod.metadata.namespace ?? "")],
      },
      {
        id: resources.endpointSlices,
        concerns: ({ metadata }) => {
          const service = metadata.labels?.[managedByLabel] === manager ? metadata.labels[serviceNameLabel] : undefined;
          return service === undefined ? [] : [[metadata.namespace ?? "", service]];
        },
      },
    ],
  });
}

function writeSlices(store: ObjectStore, service: Service, contents: readonly SliceContent[]): void {
  const { namespace = "", name } = service.metadata;
  const present = store
    .list(resources.endpointSlices, { namespace, labels: { [serviceNameLabel]: name, [managedByLabel]: manager } })
    .map(as<EndpointSlice>)
    .filter((slice) => isControlledBy(slice, service));
  const free = new Set(present);
  const reuse = (content: SliceContent) => {
    const candidates = [...free].filter(({ addressType }) => addressType === content.addressType);
    const slice = candidates.find(({ ports = [] }) => canonical(ports) === canonical(content.ports)) ?? candidates[0];
    if (slice !== undefined) free.delete(slice);
    return slice;
  };
  const labels = {
    ...service.metadata.labels,
    [serviceNameLabel]: name,
    [managedByLabel]: manager,
    ...(service.spec.clusterIP === "None" ? { "service.kubernetes.io/headless": "" } : {}),
  };
  for (const content of contents) {
    const slice = reuse(content);
    if (slice === undefined) {
      store.create(resources.endpointSlices, {
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        metadata: {
          namespace,
          generateName: `${name}-`,
          labels,
          ownerReferences: [controllerReference({ ...service, apiVersion: "v1", kind: "Service" })],
        },
        ...content,
      });
      continue;
    }
    const current = store.get(resources.endpointSlices, namespace, slice.metadata.name);
    if (current !== undefined)
      store.update(resources.endpointSlices, { ...current, metadata: { ...current.metadata, labels }, ...content });
  }
  for (const { metadata } of free) store.delete(resources.endpointSlices, namespace, metadata.name);
}

function writeEndpoints(store: ObjectStore, service: Service, contents: readonly SliceContent[]): void {
  const { namespace = "", name, labels } = service.metadata;
  const family = service.spec.ipFamilies?.[0] ?? "IPv4";
  const subsets = contents
    .filter(({ addressType, endpoints }) => addressType === family && endpoints.length > 0)
    .map(({ endpoints, ports }) => {
      const addresses = (isReady: boolean) =>
        endpoints
          .filter(({ conditions }) => (conditions?.ready !== false) === isReady)
          .map(({ addresses: [ip], nodeName, targetRef, hostname }) => ({
            ip,
            ...(hostname === undefined ? {} : { hostname }),
            ...(nodeName === undefined ? {} : { nodeName }),
            ...(targetRef === undefined ? {} : { targetRef }),
          }));
      const [ready, notReady] = [addresses(true), addresses(false)];
      return {
        ...(ready.length === 0 ? {} : { addresses: ready }),
        ...(notReady.length === 0 ? {} : { notReadyAddresses: notReady }),
        ports,
      };
    });
  const current = store.get(resources.endpoints, namespace, name);
  if (current !== undefined) {
    store.update(resources.endpoints, { ...current, subsets });
    return;
  }
  store.create(resources.endpoints, {
    apiVersion: "v1",
    kind: "Endpoints",
    metadata: {
      namespace,
      name,
      labels: { ...labels, "endpoints.kubernetes.io/managed-by": "endpoint-controller" },
      ownerReferences: [controllerReference({ ...service, apiVersion: "v1", kind: "Service" })],
    },
    subsets,
  });
}
