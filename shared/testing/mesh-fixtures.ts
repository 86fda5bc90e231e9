/** Workloads and services for tests: say what matters, the rest is ordinary. */
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { tryCidr } from "#shared/net/cidr.ts";
import { parseIp, type Ip } from "#shared/net/ip.ts";
import type { GatewayAddress, NetworkIp, Service, Workload } from "#shared/workload/workload.ts";

export const ip = (text: string): Ip => parseIp(text);

interface WorkloadWish extends Partial<Omit<Workload, "addresses" | "services">> {
  readonly addresses?: readonly string[];
  /** `namespace/hostname` → service port → target port. */
  readonly services?: Readonly<Record<string, Readonly<Record<number, number>>>>;
}

/** @param name also the pod's, on which the uid is built */
export function workloadOf(name: string, wish: WorkloadWish = {}): Workload {
  const { addresses = [], services = {}, ...rest } = wish;
  const { trustDomain = "cluster.local", namespace = "ns", serviceAccount = "default" } = rest;
  return {
    uid: `Kubernetes//Pod/${namespace}/${name}`,
    name,
    namespace,
    addresses: addresses.map(ip),
    hostname: "",
    network: "",
    protocol: "HBONE",
    networkMode: "STANDARD",
    trustDomain,
    serviceAccount,
    identity: spiffeId({ trustDomain, namespace, serviceAccount }),
    node: "node-a",
    canonicalName: name,
    canonicalRevision: "latest",
    workloadType: "deployment",
    workloadName: name,
    nativeTunnel: false,
    services: new Map(Object.entries(services).map(([key, ports]) => [key, portsOf(ports)])),
    authorizationPolicies: [],
    healthy: true,
    clusterId: "Kubernetes",
    locality: { region: "", zone: "", subzone: "" },
    capacity: 1,
    ...rest,
  };
}

interface ServiceWish extends Partial<Omit<Service, "vips" | "cidrVips" | "ports">> {
  /** `network/ip` or `network/range`. */
  readonly vips?: readonly string[];
  readonly ports?: Readonly<Record<number, number>>;
}

export function serviceOf(name: string, wish: ServiceWish = {}): Service {
  const { vips = [], ports = { 80: 8080 }, ...rest } = wish;
  const { namespace = "ns" } = rest;
  const split = vips.map((vip) => ({ network: vip.slice(0, vip.indexOf("/")), text: vip.slice(vip.indexOf("/") + 1) }));
  return {
    name,
    namespace,
    hostname: `${name}.${namespace}.svc.cluster.local`,
    vips: split.flatMap(({ network, text }): NetworkIp[] => (text.includes("/") ? [] : [{ network, ip: ip(text) }])),
    cidrVips: split.flatMap(({ network, text }) => {
      const cidr = text.includes("/") ? tryCidr(text) : undefined;
      return cidr === undefined ? [] : [{ network, cidr }];
    }),
    ports: portsOf(ports),
    subjectAltNames: [],
    weightedWaypoints: [],
    ipFamilies: "AUTOMATIC",
    canonical: false,
    visibility: "PUBLIC",
    ...rest,
  };
}

/** `namespace/hostname` or `network/ip`. */
export function gatewayAt(text: string, hboneMtlsPort = 15_008): GatewayAddress {
  const [first, second] = [text.slice(0, text.indexOf("/")), text.slice(text.indexOf("/") + 1)];
  return /^[0-9.]+$|:/.test(second)
    ? { destination: { kind: "address", network: first, ip: ip(second) }, hboneMtlsPort }
    : { destination: { kind: "hostname", namespace: first, hostname: second }, hboneMtlsPort };
}

const portsOf = (ports: Readonly<Record<number, number>>): ReadonlyMap<number, number> =>
  new Map(Object.entries(ports).map(([port, target]) => [Number(port), target]));
