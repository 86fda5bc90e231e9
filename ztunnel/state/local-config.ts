/** Workloads, services and policies from a YAML text: for tests, and for a proxy that stands alone. */
import { z } from "zod";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { parseSpiffeId, spiffeId } from "#shared/identity/spiffe-id.ts";
import { tryCidr } from "#shared/net/cidr.ts";
import { tryIp } from "#shared/net/ip.ts";
import type { Policy, StringMatch } from "#shared/rbac/policy.ts";
import type { GatewayAddress, Service, Workload } from "#shared/workload/workload.ts";

export interface LocalConfig {
  readonly workloads: readonly Workload[];
  readonly services: readonly Service[];
  readonly policies: readonly Policy[];
}

const text = z.string();
const port = z.coerce.number().int().min(0).max(65_535);
const ports = z.record(text, port).transform((map) => new Map(Object.entries(map).map(([k, v]) => [Number(k), v])));
const ip = text.transform((value, ctx) => tryIp(value) ?? refuse(ctx, `"${value}" is no IP address`));
const cidr = text.transform((value, ctx) => tryCidr(value) ?? refuse(ctx, `"${value}" is no address range`));

const networkIp = text.transform((value, ctx) => {
  const slash = value.indexOf("/");
  const address = tryIp(value.slice(slash + 1));
  return slash < 0 || address === undefined
    ? refuse(ctx, `"${value}" is not network/ip`)
    : { network: value.slice(0, slash), ip: address };
});

/** `network/ip`, or `namespace/hostname` where the second part is no address. */
const gateway = z
  .strictObject({ destination: text, hboneMtlsPort: port.default(15_008) })
  .transform(({ destination, hboneMtlsPort }, ctx): GatewayAddress => {
    const slash = destination.indexOf("/");
    if (slash < 0) return refuse(ctx, `"${destination}" is neither network/ip nor namespace/hostname`);
    const [first, second] = [destination.slice(0, slash), destination.slice(slash + 1)];
    const address = tryIp(second);
    return {
      destination:
        address === undefined
          ? { kind: "hostname", namespace: first, hostname: second }
          : { kind: "address", network: first, ip: address },
      hboneMtlsPort,
    };
  });

const locality = z
  .strictObject({ region: text.default(""), zone: text.default(""), subzone: text.default("") })
  .default({ region: "", zone: "", subzone: "" });

const workload = z
  .strictObject({
    uid: text.optional(),
    name: text.default(""),
    namespace: text.default(""),
    workloadIps: z.array(ip).default([]),
    hostname: text.default(""),
    network: text.default(""),
    protocol: z.enum(["HBONE", "TCP"]).default("TCP"),
    networkMode: z.enum(["Standard", "HostNetwork"]).default("Standard"),
    trustDomain: text.default("cluster.local"),
    serviceAccount: text.default("default"),
    waypoint: gateway.optional(),
    networkGateway: gateway.optional(),
    applicationTunnel: z.strictObject({ protocol: z.enum(["NONE", "PROXY"]), port: port.nullish() }).optional(),
    gatewayAddress: z.undefined().optional(),
    node: text.default(""),
    canonicalName: text.default(""),
    canonicalRevision: text.default(""),
    workloadType: text.default("deployment"),
    workloadName: text.default(""),
    nativeTunnel: z.boolean().default(false),
    services: z.union([z.record(text, ports), z.array(text)]).default({}),
    authorizationPolicies: z.array(text).default([]),
    status: z.enum(["Healthy", "Unhealthy"]).default("Healthy"),
    clusterId: text.default("Kubernetes"),
    locality,
    capacity: z.number().int().min(0).default(1),
  })
  .transform((from): Workload => {
    const { workloadIps, networkMode, status, services, waypoint, networkGateway, applicationTunnel } = from;
    const { trustDomain, namespace, serviceAccount } = from;
    return {
      uid: from.uid ?? `${from.clusterId}//Pod/${namespace}/${from.name}`,
      name: from.name,
      namespace,
      addresses: workloadIps,
      hostname: from.hostname,
      network: from.network,
      protocol: from.protocol,
      networkMode: networkMode === "HostNetwork" ? "HOST_NETWORK" : "STANDARD",
      trustDomain,
      serviceAccount,
      identity: spiffeId({ trustDomain, namespace, serviceAccount }),
      ...(waypoint && { waypoint }),
      ...(networkGateway && { networkGateway }),
      ...(applicationTunnel && {
        applicationTunnel: {
          protocol: applicationTunnel.protocol,
          ...(applicationTunnel.port && { port: applicationTunnel.port }),
        },
      }),
      node: from.node,
      canonicalName: from.canonicalName,
      canonicalRevision: from.canonicalRevision,
      workloadType: from.workloadType,
      workloadName: from.workloadName,
      nativeTunnel: from.nativeTunnel,
      services: Array.isArray(services)
        ? new Map(services.map((key) => [key, new Map<number, number>()]))
        : new Map(Object.entries(services)),
      authorizationPolicies: from.authorizationPolicies,
      healthy: status === "Healthy",
      clusterId: from.clusterId,
      locality: from.locality,
      capacity: from.capacity,
    };
  });

const scopes = ["Region", "Zone", "Subzone", "Node", "Cluster", "Network"] as const;
const modes = { Standard: "STANDARD", Strict: "STRICT", Failover: "FAILOVER", Passthrough: "PASSTHROUGH" } as const;
const families = { IPv4: "IPV4_ONLY", IPv6: "IPV6_ONLY", Dual: "DUAL" } as const;

const service = z
  .strictObject({
    name: text,
    namespace: text,
    hostname: text,
    vips: z.array(networkIp).default([]),
    cidrVips: z.array(z.strictObject({ network: text.default(""), cidr })).default([]),
    ports: ports.default(new Map()),
    subjectAltNames: z.array(text.transform((value) => parseSpiffeId(value))).default([]),
    waypoint: gateway.optional(),
    weightedWaypoints: z.array(z.strictObject({ destination: gateway, weight: z.number().int().min(0) })).default([]),
    loadBalancer: z
      .strictObject({
        mode: z.enum(["Standard", "Strict", "Failover", "Passthrough"]).default("Standard"),
        routingPreferences: z.array(z.enum(scopes)).default([]),
        healthPolicy: z.enum(["OnlyHealthy", "AllowAll"]).default("OnlyHealthy"),
      })
      .optional(),
    ipFamilies: z.enum(["IPv4", "IPv6", "Dual"]).nullish(),
    canonical: z.boolean().default(false),
    visibility: z.enum(["Public", "Namespace"]).default("Public"),
  })
  .transform(({ loadBalancer, ipFamilies, visibility, waypoint, ...rest }): Service => ({
    ...rest,
    ...(waypoint && { waypoint }),
    ...(loadBalancer && {
      loadBalancing: {
        mode: modes[loadBalancer.mode],
        routingPreference: loadBalancer.routingPreferences.map(
          (scope) => scope.toUpperCase() as Uppercase<(typeof scopes)[number]>,
        ),
        healthPolicy: loadBalancer.healthPolicy === "AllowAll" ? "ALLOW_ALL" : "ONLY_HEALTHY",
      },
    }),
    ipFamilies: ipFamilies ? families[ipFamilies] : "AUTOMATIC",
    visibility: visibility === "Namespace" ? "NAMESPACE" : "PUBLIC",
  }));

const stringMatch = z
  .union([
    z.strictObject({ Exact: text }),
    z.strictObject({ Prefix: text }),
    z.strictObject({ Suffix: text }),
    z.strictObject({ Presence: z.array(z.unknown()).max(0) }),
    z.literal("Presence"),
  ])
  .transform((match): StringMatch => {
    if (match === "Presence" || "Presence" in match) return { kind: "presence" };
    if ("Exact" in match) return { kind: "exact", value: match.Exact };
    if ("Prefix" in match) return { kind: "prefix", value: match.Prefix };
    return { kind: "suffix", value: match.Suffix };
  });
const strings = z.array(stringMatch).default([]);
const cidrs = z.array(cidr).default([]);
const accounts = z.array(z.strictObject({ namespace: text, serviceAccount: text })).default([]);
const portList = z.array(port).default([]);

const policyMatch = z.strictObject({
  namespaces: strings,
  notNamespaces: strings,
  principals: strings,
  notPrincipals: strings,
  serviceAccounts: accounts,
  notServiceAccounts: accounts,
  sourceIps: cidrs,
  notSourceIps: cidrs,
  destinationIps: cidrs,
  notDestinationIps: cidrs,
  destinationPorts: portList,
  notDestinationPorts: portList,
});

const policy = z
  .strictObject({
    name: text,
    namespace: text,
    scope: z.enum(["Global", "Namespace", "WorkloadSelector"]),
    action: z.enum(["Allow", "Deny"]),
    dryRun: z.boolean(),
    rules: z.array(z.array(z.array(policyMatch))),
  })
  .transform(({ scope, action, ...rest }): Policy => ({
    ...rest,
    key: `${rest.namespace}/${rest.name}`,
    scope: scope === "Global" ? "GLOBAL" : scope === "Namespace" ? "NAMESPACE" : "WORKLOAD_SELECTOR",
    action: action === "Allow" ? "ALLOW" : "DENY",
  }));

const localConfig = z.strictObject({
  workloads: z.array(workload).nullish(),
  services: z.array(service).nullish(),
  policies: z.array(policy).nullish(),
});

/** @throws MeshError CONFIG_INVALID naming every field that is wrong */
export function readLocalConfig(value: unknown): LocalConfig {
  const read = localConfig.safeParse(value ?? {});
  if (read.success) {
    const { workloads, services, policies } = read.data;
    return { workloads: workloads ?? [], services: services ?? [], policies: policies ?? [] };
  }
  const mistakes = read.error.issues.map(({ path, message }) => `${path.join(".") || "the file"}: ${message}`);
  throw new MeshError("CONFIG_INVALID", `Cannot read the local configuration: ${mistakes.join("; ")}`);
}

function refuse(ctx: z.RefinementCtx, message: string): never {
  ctx.addIssue({ code: "custom", message });
  return z.NEVER;
}
