/**
 * What gRPC clients without a proxy are served: a listener for each `host:port` that they ask for, its routes, and
 * clusters whose endpoints are plain addresses. What such clients cannot do is left out, or they would refuse the rest.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ClusterSchema, type Cluster } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import {
  Cluster_DiscoveryType as DiscoveryType,
  Cluster_LbPolicy as LbPolicy,
} from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ApiVersion } from "#shared/proto/gen/envoy/config/core/v3/config_source_pb.js";
import {
  ClusterLoadAssignmentSchema,
  type ClusterLoadAssignment,
} from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema, type Listener } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema, type RouteConfiguration } from "#shared/proto/gen/envoy/config/route/v3/route_pb.js";
import { RouteSchema, type Route } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { RegexMatcherSchema } from "#shared/proto/gen/envoy/type/matcher/v3/regex_pb.js";
import { HTTPFaultSchema } from "#shared/proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { RouterSchema } from "#shared/proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import { HttpConnectionManagerSchema } from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { Collected } from "#controlplane/translate/collected.ts";
import type { PortInfo, ServiceInfo } from "#controlplane/translate/services.ts";
import { appliedPolicy } from "./applied-policy.ts";
import { clusterName, unknownService } from "./cluster-names.ts";
import { balancing, connecting, limits, outliers } from "./cluster-policy.ts";
import type { EnvoyContext, ProxyFacts } from "./context.ts";
import { defaultRoutes } from "./default-route.ts";
import { effectivePolicy, ruleFor } from "./destination-rules.ts";
import { endpointsOf, loadAssignment } from "./endpoints.ts";
import { pack } from "./messages.ts";
import { httpRoutesFor } from "./routes/routes-for.ts";
import { envoyContext } from "./view.ts";

/** A client sees the mesh from its namespace, and stands before nothing. */
export const proxylessContext = (collected: Collected, namespace: string, proxy: ProxyFacts): EnvoyContext =>
  envoyContext(
    collected,
    {
      key: `${namespace}/`,
      namespace,
      name: "",
      serves: "none",
      address: undefined,
      binding: undefined,
      listener: undefined,
      serviceAccount: "",
      serviceAccounts: [],
      readyReplicas: 0,
    },
    proxy,
  );

const ads = { configSourceSpecifier: { case: "ads", value: {} }, resourceApiVersion: ApiVersion.V3 } as const;
const faultFilter = "envoy.filters.http.fault";

interface Target {
  readonly service: ServiceInfo;
  readonly port: PortInfo;
}

function targetOf(context: EnvoyContext, host: string, number: number): Target | undefined {
  const { domain } = context.options;
  const { namespace } = context.waypoint;
  const forms = [host, `${host}.${domain}`, `${host}.svc.${domain}`, `${host}.${namespace}.svc.${domain}`];
  const service = forms.map((form) => context.findService(form, namespace)).find((found) => found !== undefined);
  const port = service?.ports.find((each) => each.port === number && each.protocol !== "udp");
  return service === undefined || port === undefined ? undefined : { service, port };
}

/** `name` is `host:port`, as written in the client's target. */
export function proxylessListener(context: EnvoyContext, name: string): Listener | undefined {
  const target = hostPortTarget(context, name);
  if (target === undefined) return undefined;
  const manager = pack(HttpConnectionManagerSchema, {
    statPrefix: name,
    routeSpecifier: {
      case: "rds",
      value: {
        configSource: ads,
        routeConfigName: clusterName("outbound", target.port.port, "http", "", target.service.hostname),
      },
    },
    httpFilters: [
      { name: faultFilter, configType: { case: "typedConfig", value: pack(HTTPFaultSchema) } },
      { name: "envoy.filters.http.router", configType: { case: "typedConfig", value: pack(RouterSchema) } },
    ],
  });
  return create(ListenerSchema, { name, apiListener: { apiListener: manager } });
}

function hostPortTarget(context: EnvoyContext, name: string): Target | undefined {
  const match = /^(.+):(\d{1,5})$/.exec(name);
  return match?.[1] === undefined ? undefined : targetOf(context, match[1], Number(match[2]));
}

interface Named extends Target {
  readonly subset: string;
}

/** `outbound|port|subset|host` */
function named(context: EnvoyContext, name: string): Named | undefined {
  const [direction, port, subset = "", host = "", ...rest] = name.split("|");
  if (direction !== "outbound" || rest.length > 0 || !/^\d{1,5}$/.test(port ?? "")) return undefined;
  const service = context.findService(host, context.waypoint.namespace);
  const info = service?.ports.find((each) => each.port === Number(port) && each.protocol !== "udp");
  return service === undefined || info === undefined ? undefined : { service, port: info, subset };
}

export function proxylessRoutes(context: EnvoyContext, name: string): RouteConfiguration | undefined {
  const target = named(context, name);
  if (target === undefined || target.subset !== "") return undefined;
  const { service, port } = target;
  const { routes } = httpRoutesFor(context, service, port, "client");
  const written =
    routes.length > 0
      ? routes
      : defaultRoutes(context, { service, port, subset: "", protocol: "http" }).map((route) =>
          create(RouteSchema, route),
        );
  return create(RouteConfigurationSchema, {
    name,
    virtualHosts: [{ name: `${service.hostname}:${port.port}`, domains: ["*"], routes: written.flatMap(clientRoute) }],
  });
}

/** Empty where the client could not tell which requests are meant. */
function clientRoute(route: Route): Route[] {
  const match = route.match;
  if (match === undefined || match.dynamicMetadata.length > 0 || match.queryParameters.length > 0) return [];
  const { pathSpecifier } = match;
  const path: typeof pathSpecifier | undefined =
    pathSpecifier.case === "pathSeparatedPrefix"
      ? { case: "safeRegex", value: regex(`${quoted(pathSpecifier.value)}(/.*)?`) }
      : pathSpecifier;
  if (path.case !== "prefix" && path.case !== "path" && path.case !== "safeRegex") return [];
  const headers = match.headers.filter(({ name }) => !name.startsWith(":") || name === ":path");
  const dropped = match.headers.some(
    ({ name }) => name.startsWith(":") && ![":path", ":method", ":scheme"].includes(name),
  );
  if (dropped) return [];
  const fault = route.typedPerFilterConfig[faultFilter];
  return [
    create(RouteSchema, {
      name: route.name,
      match: { ...match, pathSpecifier: path, headers },
      typedPerFilterConfig: fault === undefined ? {} : { [faultFilter]: fault },
      action: clientAction(route),
    }),
  ];
}

const regex = (text: string) => create(RegexMatcherSchema, { regex: text });

const quoted = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`);

/** Answers that a proxy would give itself make a call fail: it goes to a cluster without endpoints. */
function clientAction(route: Route): NonNullable<MessageInitShape<typeof RouteSchema>["action"]> {
  if (route.action.case !== "route") {
    return { case: "route", value: { clusterSpecifier: { case: "cluster", value: unknownService } } };
  }
  const { clusterSpecifier, retryPolicy, hashPolicy, timeout } = route.action.value;
  const isTimed = timeout !== undefined && (timeout.seconds !== 0n || timeout.nanos !== 0);
  return {
    case: "route",
    value: {
      clusterSpecifier,
      hashPolicy,
      ...(retryPolicy === undefined ? {} : { retryPolicy: withoutPredicates(retryPolicy) }),
      ...(isTimed ? { maxStreamDuration: { maxStreamDuration: timeout } } : {}),
    },
  };
}

const withoutPredicates = ({
  retryOn,
  numRetries,
  retryBackOff,
}: NonNullable<Extract<Route["action"], { case: "route" }>["value"]["retryPolicy"]>) => ({
  retryOn,
  ...(numRetries === undefined ? {} : { numRetries }),
  ...(retryBackOff === undefined ? {} : { retryBackOff }),
});

const byEds = (serviceName: string) => ({
  clusterDiscoveryType: { case: "type", value: DiscoveryType.EDS } as const,
  edsClusterConfig: { edsConfig: ads, serviceName },
});

/** One without endpoints where nothing is known by that name: a client waits long for a cluster that never comes. */
export function proxylessCluster(context: EnvoyContext, name: string): Cluster {
  const target = named(context, name);
  if (target === undefined) return create(ClusterSchema, { name, ...byEds(name), lbPolicy: LbPolicy.ROUND_ROBIN });
  // TLS is not for them to begin, whoever says so: what such clients prove is up to their own credentials.
  const policy = appliedPolicy(context, ruleFor(context, target.service), target);
  const balanced = balancing(policy.loadBalancer);
  return create(ClusterSchema, {
    name,
    ...byEds(name),
    ...connecting(policy.connectionPool, context.meshConfig),
    circuitBreakers: limits(policy),
    ...outliers(policy.outlierDetection),
    // Of Envoy's balancers such clients know two.
    ...(balanced.lbPolicy === LbPolicy.RING_HASH ? balanced : { lbPolicy: LbPolicy.ROUND_ROBIN }),
  });
}

export function proxylessEndpoints(context: EnvoyContext, name: string): ClusterLoadAssignment {
  const target = named(context, name);
  if (target === undefined) return create(ClusterLoadAssignmentSchema, { clusterName: name });
  const { service, port, subset } = target;
  const rule = ruleFor(context, service);
  const wanted = rule?.subsets.find((each) => each.name === subset);
  const policy = effectivePolicy(rule, port.port, subset);
  const isLost = subset !== "" && wanted === undefined;
  const seen = new Set<string>();
  // An address that comes twice would have all refused, and so would a name.
  const endpoints = (isLost ? [] : endpointsOf(context, service, port, wanted)).filter(({ workload, targetPort }) => {
    const key = `${workload.addresses[0]?.join(".") ?? ""}:${targetPort}`;
    if (workload.addresses.length === 0 || seen.has(key)) return false;
    seen.add(key);
    return true;
  });
  return create(
    ClusterLoadAssignmentSchema,
    loadAssignment(context, name, service, policy, endpoints, { isProxyless: true }),
  );
}
