import type { NewObject, ObjectStore } from "./apiserver/object-store.ts";
import { resources } from "./kinds.ts";
import { dnsServiceIp, listAddresses, type DualStack } from "./network/plan.ts";

const dnsName = "kube-dns";

/** The endpoints of the two services that the sandbox's own process answers: the API server and DNS. */
export function createClusterServices(store: ObjectStore, host: DualStack, apiPort: number): void {
  const apiPorts = [{ name: "https", port: apiPort, protocol: "TCP" }];
  const dnsPorts = [
    { name: "dns", port: 53, protocol: "UDP" },
    { name: "dns-tcp", port: 53, protocol: "TCP" },
  ];
  store.create(resources.services, {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      name: dnsName,
      namespace: "kube-system",
      labels: { "k8s-app": dnsName, "kubernetes.io/name": "CoreDNS" },
    },
    spec: {
      clusterIP: dnsServiceIp.v4,
      clusterIPs: host.v6 === undefined ? [dnsServiceIp.v4] : [dnsServiceIp.v4, dnsServiceIp.v6],
      ...(host.v6 === undefined ? {} : { ipFamilyPolicy: "RequireDualStack", ipFamilies: ["IPv4", "IPv6"] }),
      ports: dnsPorts.map((port) => ({ ...port, targetPort: port.port })),
    },
  });
  createEndpoints(store, { namespace: "default", name: "kubernetes", addresses: [host.v4], ports: apiPorts });
  createEndpoints(store, { namespace: "kube-system", name: dnsName, addresses: listAddresses(host), ports: dnsPorts });
}

interface Wanted {
  readonly namespace: string;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly ports: readonly { readonly name: string; readonly port: number; readonly protocol: string }[];
}

function createEndpoints(store: ObjectStore, { namespace, name, addresses, ports }: Wanted): void {
  for (const address of addresses) {
    const addressType = address.includes(":") ? "IPv6" : "IPv4";
    const slice: NewObject = {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        namespace,
        name: addressType === "IPv4" ? name : `${name}-v6`,
        labels: { "kubernetes.io/service-name": name },
      },
      addressType,
      endpoints: [{ addresses: [address], conditions: { ready: true } }],
      ports,
    };
    store.create(resources.endpointSlices, slice);
  }
  const [first] = addresses;
  store.create(resources.endpoints, {
    apiVersion: "v1",
    kind: "Endpoints",
    metadata: { namespace, name },
    subsets: [{ addresses: [{ ip: first }], ports }],
  });
}
