import type { EndpointSlice, Service } from "../kinds.ts";

/** One port of one cluster address, with what answers for it. */
export interface ServiceVip {
  /** `<namespace>/<service>:<port name or number>`, for people who read the rules. */
  readonly name: string;
  readonly ip: string;
  readonly protocol: "tcp" | "udp";
  readonly port: number;
  readonly endpoints: readonly { readonly ip: string; readonly port: number }[];
}

const serviceNameLabel = "kubernetes.io/service-name";

/** Every cluster address and the endpoints that may serve it now. */
export function collectVips(services: readonly Service[], slices: readonly EndpointSlice[]): ServiceVip[] {
  const slicesOf = Map.groupBy(
    slices,
    (slice) => `${slice.metadata.namespace}/${slice.metadata.labels?.[serviceNameLabel]}`,
  );
  return services.flatMap((service) => {
    const key = `${service.metadata.namespace}/${service.metadata.name}`;
    return vipsOf(service, slicesOf.get(key) ?? []);
  });
}

function vipsOf({ metadata, spec }: Service, slices: readonly EndpointSlice[]): ServiceVip[] {
  const addresses = (spec.clusterIPs ?? []).filter((ip) => ip !== "None" && ip !== "");
  return addresses.flatMap((ip) =>
    (spec.ports ?? []).flatMap((port) => {
      const protocol = (port.protocol ?? "TCP").toLowerCase();
      if (protocol !== "tcp" && protocol !== "udp") return [];
      const family = ip.includes(":") ? "IPv6" : "IPv4";
      const candidates = slices
        .filter(({ addressType }) => addressType === family)
        .flatMap((slice) => endpointsOf(slice, port.name ?? "", port.protocol ?? "TCP"));
      const ready = candidates.filter((endpoint) => endpoint.ready);
      // While all are on their way out, those that still serve are better than none: kube-proxy's choice too.
      const serving = ready.length > 0 ? ready : candidates.filter((endpoint) => endpoint.serving);
      return {
        name: `${metadata.namespace}/${metadata.name}:${port.name ?? port.port}`,
        ip,
        protocol,
        port: port.port,
        endpoints: serving.map((endpoint) => ({ ip: endpoint.ip, port: endpoint.port })),
      } satisfies ServiceVip;
    }),
  );
}

interface Candidate {
  readonly ip: string;
  readonly port: number;
  readonly ready: boolean;
  readonly serving: boolean;
}

function endpointsOf(slice: EndpointSlice, portName: string, protocol: string): Candidate[] {
  const ports = (slice.ports ?? []).filter(
    (port) => (port.name ?? "") === portName && (port.protocol ?? "TCP") === protocol,
  );
  return ports.flatMap(({ port }) => {
    if (port === undefined) return [];
    return (slice.endpoints ?? []).flatMap(({ addresses, conditions = {} }) => {
      const ip = addresses[0];
      const { ready = true, serving = ready, terminating = false } = conditions;
      return ip === undefined ? [] : [{ ip, port, ready, serving: serving && terminating }];
    });
  });
}
