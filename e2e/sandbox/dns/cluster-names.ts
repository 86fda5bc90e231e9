/**
 * What the names of the cluster mean: Kubernetes' DNS specification 1.1 over services and endpoint slices. Pure: the
 * server asks once per question.
 */
import { isIP } from "node:net";
import type { EndpointSlice, Service } from "../kinds.ts";

export interface ClusterObjects {
  service(namespace: string, name: string): Service | undefined;
  slicesOf(namespace: string, service: string): readonly EndpointSlice[];
  hasNamespace(name: string): boolean;
  /** For reverse lookups. */
  findServiceByIp(ip: string): Service | undefined;
  findEndpointByIp(
    ip: string,
  ): { readonly namespace: string; readonly service: string; readonly host: string } | undefined;
}

export const clusterDomain = "cluster.local";

/** Short, because pods come and go: CoreDNS's own default for this zone. */
export const ttlSeconds = 5;

export type Answer =
  | { readonly type: "A" | "AAAA" | "CNAME" | "PTR" | "TXT"; readonly name: string; readonly data: string }
  | {
      readonly type: "SRV";
      readonly name: string;
      readonly data: { priority: number; weight: number; port: number; target: string };
    };

export interface Resolution {
  /** `outside`: no name of this cluster; its world ends here. */
  readonly kind: "found" | "no-name" | "outside";
  readonly answers: readonly Answer[];
  readonly additionals: readonly Answer[];
}

const found = (answers: readonly Answer[] = [], additionals: readonly Answer[] = []): Resolution => ({
  kind: "found",
  answers,
  additionals,
});
const noName: Resolution = { kind: "no-name", answers: [], additionals: [] };
const outside: Resolution = { kind: "outside", answers: [], additionals: [] };

/** ExternalName services that point at one another must end. */
const maxAliases = 8;

/** @param name without the final dot; case does not matter, and the answer keeps the asker's spelling */
export function resolveName(name: string, type: string, objects: ClusterObjects): Resolution {
  const lower = name.toLowerCase();
  if (lower.endsWith(".in-addr.arpa") || lower.endsWith(".ip6.arpa")) return resolveReverse(name, lower, type, objects);
  if (lower === clusterDomain) return found();
  if (!lower.endsWith(`.${clusterDomain}`)) return outside;
  const labels = lower.slice(0, -clusterDomain.length - 1).split(".");
  const root = labels.at(-1);
  if (root === "svc") return resolveServiceName(name, labels.slice(0, -1), type, objects);
  if (root === "pod") return resolvePodName(name, labels.slice(0, -1), type, objects);
  if (lower === `dns-version.${clusterDomain}`) {
    return found(type === "TXT" || type === "ANY" ? [{ type: "TXT", name, data: "1.1.0" }] : []);
  }
  return noName;
}

/** `labels` is what stands before `.svc.cluster.local`. */
function resolveServiceName(
  name: string,
  labels: readonly string[],
  type: string,
  objects: ClusterObjects,
): Resolution {
  const namespace = labels.at(-1);
  if (namespace === undefined) return found();
  if (labels.length === 1) return objects.hasNamespace(namespace) ? found() : noName;
  const serviceName = labels.at(-2) ?? "";
  const service = objects.service(namespace, serviceName);
  if (service === undefined) return noName;
  const rest = labels.slice(0, -2);
  if (service.spec.type === "ExternalName")
    return rest.length === 0 ? resolveAlias(name, service, type, objects) : noName;
  const hosts = hostsOf(service, objects.slicesOf(namespace, serviceName));
  if (rest.length === 0) {
    return hosts.length === 0 && isHeadless(service)
      ? noName
      : found(
          addressAnswers(
            name,
            hosts.map(({ ip }) => ip),
            type,
          ),
        );
  }
  if (rest.length === 2 && rest[0]?.startsWith("_") && rest[1]?.startsWith("_")) {
    return resolvePort(name, rest[0].slice(1), rest[1].slice(1), { service, hosts, type });
  }
  if (rest.length === 1 && isHeadless(service)) {
    const own = hosts.filter(({ host }) => host === rest[0]);
    return own.length === 0
      ? noName
      : found(
          addressAnswers(
            name,
            own.map(({ ip }) => ip),
            type,
          ),
        );
  }
  return noName;
}

const isHeadless = ({ spec }: Service) => spec.clusterIP === "None";

interface Host {
  readonly ip: string;
  /** Label of an endpoint of a headless service. */
  readonly host: string;
  readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
}

function hostsOf(service: Service, slices: readonly EndpointSlice[]): Host[] {
  if (!isHeadless(service)) {
    const ports = (service.spec.ports ?? []).map(({ name = "", protocol = "TCP", port }) => ({ name, protocol, port }));
    return (service.spec.clusterIPs ?? []).map((ip) => ({ ip, host: "", ports }));
  }
  return slices.flatMap((slice) => {
    const ports = (slice.ports ?? []).flatMap(({ name = "", protocol = "TCP", port }) =>
      port === undefined ? [] : [{ name, protocol, port }],
    );
    const ready = (slice.endpoints ?? []).filter(({ conditions }) => conditions?.ready !== false);
    return ready.flatMap(({ addresses, hostname }) =>
      addresses.map((ip) => ({ ip, host: hostname ?? ip.replaceAll(/[.:]/gu, "-"), ports })),
    );
  });
}

function addressAnswers(name: string, ips: readonly string[], type: string): Answer[] {
  return [...new Set(ips)].flatMap((ip): Answer[] => {
    const own = ip.includes(":") ? "AAAA" : "A";
    return type === own || type === "ANY" ? [{ type: own, name, data: ip }] : [];
  });
}

function resolvePort(
  name: string,
  portName: string,
  protocol: string,
  { service, hosts, type }: { service: Service; hosts: readonly Host[]; type: string },
): Resolution {
  const { namespace, name: serviceName } = service.metadata;
  const base = `${serviceName}.${namespace}.svc.${clusterDomain}`;
  const matching = hosts.flatMap((host) =>
    host.ports
      .filter((port) => port.name === portName && port.protocol.toLowerCase() === protocol)
      .map(({ port }) => ({ ip: host.ip, port, target: host.host === "" ? base : `${host.host}.${base}` })),
  );
  if (matching.length === 0) return noName;
  if (type !== "SRV" && type !== "ANY") return found();
  const unique = [...new Map(matching.map((one) => [`${one.target}:${one.port}`, one])).values()];
  const weight = Math.max(1, Math.floor(100 / unique.length));
  const answers = unique.map(({ port, target }): Answer => ({
    type: "SRV",
    name,
    data: { priority: 0, weight, port, target },
  }));
  return found(
    answers,
    matching.flatMap(({ ip, target }) => addressAnswers(target, [ip], "ANY")),
  );
}

/** Follows ExternalName services as far as they stay inside the cluster. */
function resolveAlias(name: string, service: Service, type: string, objects: ClusterObjects): Resolution {
  const answers: Answer[] = [];
  let from = name;
  let current: Service | undefined = service;
  for (let step = 0; step < maxAliases && current?.spec.type === "ExternalName"; step++) {
    const target: string = (current.spec.externalName ?? "").replace(/\.$/u, "");
    answers.push({ type: "CNAME", name: from, data: target });
    if (type === "CNAME") return found(answers);
    from = target;
    const parts: string[] = target.toLowerCase().split(".");
    const isService = parts.length === 5 && parts.slice(2).join(".") === `svc.${clusterDomain}`;
    current = isService ? objects.service(parts[1] ?? "", parts[0] ?? "") : undefined;
  }
  if (current === undefined || current.spec.type === "ExternalName") return found(answers);
  const rest = resolveName(from, type, objects);
  return found([...answers, ...rest.answers], rest.additionals);
}

/** `10-244-1-5.<namespace>.pod.cluster.local`. */
function resolvePodName(name: string, labels: readonly string[], type: string, objects: ClusterObjects): Resolution {
  const [dashed, namespace] = labels;
  if (labels.length === 0) return found();
  if (labels.length === 1) return objects.hasNamespace(labels[0] ?? "") ? found() : noName;
  if (labels.length > 2 || dashed === undefined || namespace === undefined || !objects.hasNamespace(namespace))
    return noName;
  const ip = [dashed.replaceAll("-", "."), dashed.replaceAll("-", ":")].find((text) => isIP(text) !== 0);
  return ip === undefined ? noName : found(addressAnswers(name, [ip], type));
}

function resolveReverse(name: string, lower: string, type: string, objects: ClusterObjects): Resolution {
  const ip = reverseAddress(lower);
  if (ip === undefined) return noName;
  const service = objects.findServiceByIp(ip);
  const endpoint = service === undefined ? objects.findEndpointByIp(ip) : undefined;
  const target =
    service !== undefined
      ? `${service.metadata.name}.${service.metadata.namespace}.svc.${clusterDomain}`
      : endpoint && `${endpoint.host}.${endpoint.service}.${endpoint.namespace}.svc.${clusterDomain}`;
  if (target === undefined) return noName;
  return found(type === "PTR" || type === "ANY" ? [{ type: "PTR", name, data: target }] : []);
}

/** The address inside a reverse name; IPv6 in the short form that Kubernetes writes. */
function reverseAddress(name: string): string | undefined {
  if (name.endsWith(".in-addr.arpa")) {
    const parts = name.slice(0, -".in-addr.arpa".length).split(".");
    return parts.length === 4 && parts.every((part) => /^\d{1,3}$/u.test(part))
      ? parts.toReversed().join(".")
      : undefined;
  }
  const nibbles = name.slice(0, -".ip6.arpa".length).split(".");
  if (nibbles.length !== 32 || !nibbles.every((nibble) => /^[0-9a-f]$/u.test(nibble))) return undefined;
  const groups = nibbles.toReversed().join("").match(/.{4}/gu) ?? [];
  return new URL(`http://[${groups.join(":")}]/`).hostname.slice(1, -1);
}
