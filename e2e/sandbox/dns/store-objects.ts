import type { KubeObject, ObjectStore } from "../apiserver/object-store.ts";
import { as, resources, type EndpointSlice, type Service } from "../kinds.ts";
import type { ClusterObjects } from "./cluster-names.ts";

const serviceNameLabel = "kubernetes.io/service-name";

/** The cluster's objects as the DNS server asks for them, read where they are: nothing to keep in step. */
export function storeObjects(store: ObjectStore): ClusterObjects {
  const slices = (namespace?: string): EndpointSlice[] =>
    store.list(resources.endpointSlices, namespace === undefined ? {} : { namespace }).map(as<EndpointSlice>);
  const view = (object: KubeObject | undefined) => (object === undefined ? undefined : as<Service>(object));
  return {
    service: (namespace, name) => view(store.get(resources.services, namespace, name)),
    slicesOf: (namespace, service) =>
      slices(namespace).filter(({ metadata }) => metadata.labels?.[serviceNameLabel] === service),
    hasNamespace: (name) => store.get(resources.namespaces, undefined, name) !== undefined,
    findServiceByIp: (ip) =>
      store
        .list(resources.services)
        .map(as<Service>)
        .find(({ spec }) => spec.clusterIPs?.includes(ip)),
    findEndpointByIp: (ip) => {
      for (const { metadata, endpoints = [] } of slices()) {
        const service = metadata.labels?.[serviceNameLabel];
        const endpoint = endpoints.find(({ addresses }) => addresses.includes(ip));
        if (service === undefined || endpoint === undefined || metadata.namespace === undefined) continue;
        return { namespace: metadata.namespace, service, host: endpoint.hostname ?? ip.replaceAll(/[.:]/gu, "-") };
      }
      return undefined;
    },
  };
}
