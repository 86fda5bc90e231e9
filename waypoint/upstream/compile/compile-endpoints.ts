/** `ClusterLoadAssignment`: which endpoints there are, where, and how much each should get. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Address } from "#shared/proto/gen/envoy/config/core/v3/address_pb.js";
import { SocketAddress_Protocol } from "#shared/proto/gen/envoy/config/core/v3/address_pb.js";
import type { Metadata } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import { HealthStatus } from "#shared/proto/gen/envoy/config/core/v3/health_check_pb.js";
import {
  EndpointSchema,
  LbEndpointSchema,
  LocalityLbEndpointsSchema,
  type LbEndpoint,
  type LocalityLbEndpoints,
} from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import {
  ClusterLoadAssignmentSchema,
  ClusterLoadAssignment_PolicySchema,
  type ClusterLoadAssignment,
} from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { hostPort, splitHostPort, tryIp } from "#shared/net/ip.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { isDnsName } from "../dns/dns-name.ts";
import type { EndpointSpec, EndpointStatus } from "../endpoint.ts";
import type { HostAddress, Locality } from "../host.ts";
import { checkFields } from "./set-fields.ts";

export interface Assignment {
  readonly groups: readonly EndpointGroup[];
  /** Percent. */
  readonly overprovisioningFactor: number;
  readonly countsWeights: boolean;
}

export interface EndpointGroup {
  readonly locality: Locality;
  readonly priority: number;
  readonly weight: number;
  readonly endpoints: readonly (EndpointSpec | NamedEndpoint)[];
}

/** An endpoint whose addresses come from DNS; `key` and `address` of the specification are made for each of them. */
export interface NamedEndpoint {
  readonly name: string;
  readonly port: number;
  readonly spec: Omit<EndpointSpec, "key" | "address">;
}

export const isNamed = (endpoint: EndpointSpec | NamedEndpoint): endpoint is NamedEndpoint => "spec" in endpoint;

export const emptyAssignment: Assignment = { groups: [], overprovisioningFactor: 140, countsWeights: false };

/** Envoy's bound. */
const highestPriority = 128;

export interface AssignmentOptions {
  /** Endpoints may have names instead of addresses (DNS clusters). */
  readonly allowsNames: boolean;
}

export function compileAssignment(
  assignment: ClusterLoadAssignment,
  { allowsNames }: AssignmentOptions,
  problem: Problem,
): Assignment {
  checkFields(ClusterLoadAssignmentSchema, assignment, ["clusterName", "endpoints", "policy"], "", problem);
  const { policy } = assignment;
  if (policy !== undefined) {
    const supported = ["overprovisioningFactor", "weightedPriorityHealth"];
    checkFields(ClusterLoadAssignment_PolicySchema, policy, supported, "policy", problem);
  }
  const factor = policy?.overprovisioningFactor ?? 140;
  if (factor < 1) problem("policy.overprovisioning_factor", "is not above 0");
  const groups = assignment.endpoints.map((group, index) =>
    compileGroup(group, allowsNames, `endpoints[${index}]`, problem),
  );
  return { groups, overprovisioningFactor: factor, countsWeights: policy?.weightedPriorityHealth === true };
}

function compileGroup(group: LocalityLbEndpoints, allowsNames: boolean, path: string, problem: Problem): EndpointGroup {
  // Proximity is informational in Envoy, too.
  const supported = ["locality", "lbEndpoints", "loadBalancingWeight", "priority", "proximity", "metadata"];
  checkFields(LocalityLbEndpointsSchema, group, [...supported, "loadBalancerEndpoints"], path, problem);
  if (group.priority > highestPriority) problem(`${path}.priority`, `${group.priority} is above ${highestPriority}`);
  const { region = "", zone = "", subZone = "" } = group.locality ?? {};
  const list = group.lbConfig.case === "loadBalancerEndpoints" ? group.lbConfig.value.lbEndpoints : group.lbEndpoints;
  return {
    locality: { region, zone, subZone },
    priority: group.priority,
    // Without one, a locality gets nothing where localities are weighed, as in Envoy.
    weight: group.loadBalancingWeight ?? 0,
    endpoints: list.flatMap((endpoint, index) => {
      const compiled = compileEndpoint(endpoint, allowsNames, `${path}.lb_endpoints[${index}]`, problem);
      return compiled === undefined ? [] : [compiled];
    }),
  };
}

function compileEndpoint(
  lbEndpoint: LbEndpoint,
  allowsNames: boolean,
  path: string,
  problem: Problem,
): EndpointSpec | NamedEndpoint | undefined {
  checkFields(
    LbEndpointSchema,
    lbEndpoint,
    ["endpoint", "healthStatus", "metadata", "loadBalancingWeight"],
    path,
    problem,
  );
  const { hostIdentifier, loadBalancingWeight: weight = 1 } = lbEndpoint;
  if (hostIdentifier.case !== "endpoint") {
    problem(`${path}.endpoint`, "is missing");
    return undefined;
  }
  if (weight < 1) problem(`${path}.load_balancing_weight`, "is not above 0");
  const endpoint = hostIdentifier.value;
  const here = `${path}.endpoint`;
  checkFields(
    EndpointSchema,
    endpoint,
    ["address", "hostname", "additionalAddresses", "healthCheckConfig"],
    here,
    problem,
  );
  const metadata = filterMetadata(lbEndpoint.metadata);
  const address = compileAddress(endpoint.address, metadata, allowsNames, `${here}.address`, problem);
  if (address === undefined) return undefined;
  const alternatives = endpoint.additionalAddresses.flatMap(({ address: additional }, index) => {
    const at = `${here}.additional_addresses[${index}]`;
    const compiled = compileAddress(additional, metadata, false, at, problem);
    return compiled === undefined || "name" in compiled ? [] : [compiled.address];
  });
  const rest = { alternatives, weight, status: statusOf(lbEndpoint.healthStatus), metadata };
  if ("name" in address) {
    const spec = { ...rest, hostname: endpoint.hostname === "" ? address.name : endpoint.hostname };
    return { name: address.name, port: address.port, spec };
  }
  return { ...rest, ...address, hostname: endpoint.hostname };
}

type Compiled =
  { readonly key: string; readonly address: HostAddress } | { readonly name: string; readonly port: number };

function compileAddress(
  address: Address | undefined,
  metadata: ReadonlyMap<string, JsonObject>,
  allowsNames: boolean,
  path: string,
  problem: Problem,
): Compiled | undefined {
  const kind = address?.address;
  switch (kind?.case) {
    case "socketAddress": {
      const { address: text, portSpecifier, protocol, resolverName } = kind.value;
      const at = `${path}.socket_address`;
      const port = portSpecifier.case === "portValue" ? portSpecifier.value : undefined;
      if (port === undefined) problem(at, "has no port_value");
      else if (port > 65_535) problem(`${at}.port_value`, `${port} is not a port`);
      if (protocol !== SocketAddress_Protocol.TCP) problem(`${at}.protocol`, "is not TCP");
      if (resolverName !== "") problem(`${at}.resolver_name`, "is not supported");
      const ip = tryIp(text);
      if (ip !== undefined) return socketAt(ip, port ?? 0);
      if (allowsNames && isDnsName(text)) return { name: text, port: port ?? 0 };
      problem(`${at}.address`, `"${text}" is not an IP address`);
      return undefined;
    }
    case "envoyInternalAddress":
      return compileInternal(kind.value, metadata, `${path}.envoy_internal_address`, problem);
    case "pipe":
      problem(`${path}.pipe`, "is not supported");
      return undefined;
    case undefined:
      problem(path, "is missing");
      return undefined;
  }
}

/** The listener in which an Envoy makes tunnels; here it only says that one is to be made. */
export const tunnelListener = "connect_originate";

function compileInternal(
  internal: Extract<Address["address"], { readonly case: "envoyInternalAddress" }>["value"],
  metadata: ReadonlyMap<string, JsonObject>,
  path: string,
  problem: Problem,
): Compiled | undefined {
  const listener = internal.addressNameSpecifier.value ?? "";
  if (listener !== tunnelListener) {
    problem(`${path}.server_listener_name`, `"${listener}" is not ${tunnelListener}`);
    return undefined;
  }
  const original = metadata.get("envoy.filters.listener.original_dst");
  if (original?.["waypoint"] !== undefined) problem(path, "goes through another waypoint, which is not supported");
  const local = original?.["local"];
  const text = typeof local === "string" && local !== "" ? local : internal.endpointId;
  const target = splitHostPort(text);
  const ip = target === undefined ? undefined : tryIp(target.host);
  if (ip === undefined || target === undefined) {
    problem(`${path}.endpoint_id`, `"${text}" is not an IP address and port`);
    return undefined;
  }
  const key = `envoy://${listener}/${internal.endpointId === "" ? text : internal.endpointId}`;
  return { key, address: { kind: "hbone", ip, port: target.port } };
}

export function socketAt(ip: string, port: number): { readonly key: string; readonly address: HostAddress } {
  return { key: hostPort(ip, port), address: { kind: "socket", ip, port } };
}

function statusOf(status: HealthStatus): EndpointStatus {
  switch (status) {
    case HealthStatus.HEALTHY:
      return "healthy";
    case HealthStatus.UNHEALTHY:
      return "unhealthy";
    case HealthStatus.DRAINING:
      return "draining";
    case HealthStatus.TIMEOUT:
      return "timeout";
    case HealthStatus.DEGRADED:
      return "degraded";
    case HealthStatus.UNKNOWN:
    default:
      return "unknown";
  }
}

export const filterMetadata = (metadata: Metadata | undefined): ReadonlyMap<string, JsonObject> =>
  new Map(Object.entries(metadata?.filterMetadata ?? {}));
