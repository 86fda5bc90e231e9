/** What a waypoint does with requests and connections for a port of a service, by the routes that are written for it. */
import type { Route } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { PortInfo, ServiceInfo } from "#controlplane/translate/services.ts";
import type { Destination, EnvoyContext } from "../context.ts";
import { withDelegates } from "./delegates.ts";
import { emitRoute } from "./emit-route.ts";
import { gatewayEntries } from "./gateway-entries.ts";
import { isCatchAll, type RouteEntry } from "./route-entry.ts";
import { findDelegate, routeObjects, type RouteObject } from "./selection.ts";
import { entriesOf } from "./virtual-service-entries.ts";

export interface HttpRoutes {
  /** Empty: nobody has written a route, and requests go to the port of the service itself. */
  readonly routes: Route[];
  /** What requests may be sent to, each once. */
  readonly destinations: readonly Destination[];
}

export function httpRoutesFor(context: EnvoyContext, service: ServiceInfo, port: PortInfo): HttpRoutes {
  const destinations = new Map<string, Destination>();
  const arrival = {
    context,
    service,
    port: port.port,
    note: (each: Destination): void => {
      destinations.set(destinationKey(each), each);
    },
  };
  const routes = entriesFor(context, service, port.port).map((entry) => emitRoute(arrival, entry));
  return { routes, destinations: [...destinations.values()] };
}

export const destinationKey = ({ service, port, subset, protocol }: Destination): string =>
  `${service.key}|${port.port}|${subset}|${protocol}`;

/** In the order in which they are tried, up to the first that takes every request. */
export function entriesFor(context: EnvoyContext, service: ServiceInfo, port: number): readonly RouteEntry[] {
  const entries: RouteEntry[] = [];
  for (const object of routeObjects(context, service, port, ["HTTPRoute", "GRPCRoute"])) {
    for (const entry of entriesOfObject(context, object, port)) {
      entries.push(entry);
      if (isCatchAll(entry.match)) return entries;
    }
  }
  return entries;
}

function entriesOfObject(context: EnvoyContext, object: RouteObject, port: number): readonly RouteEntry[] {
  const { world, options, waypoint } = context;
  if (object.kind === "routes") {
    const hasHost = (hostname: string): boolean => context.findService(hostname, waypoint.namespace) !== undefined;
    return gatewayEntries({ world, options, hasHost }, object.routes);
  }
  const { virtualService } = object;
  const rules = withDelegates(virtualService, (namespace, name) =>
    findDelegate(context, virtualService.meta.namespace, namespace, name),
  );
  return entriesOf(rules, { port, namespace: waypoint.namespace, options });
}
