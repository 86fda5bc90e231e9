/** What a waypoint does with requests and connections for a port of a service, by the routes that are written for it. */
import type { Route } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { PortInfo, ServiceInfo } from "#controlplane/translate/services.ts";
import type { Destination, EnvoyContext } from "../context.ts";
import { withDelegates } from "./delegates.ts";
import { emitRoute } from "./emit-route.ts";
import { gatewayEntries } from "./gateway-entries.ts";
import { isCatchAll, type RouteEntry } from "./route-entry.ts";
import { findDelegate, routeObjects, type Perspective, type RouteObject, type Selection } from "./selection.ts";
import { entriesOf } from "./virtual-service-entries.ts";

export interface HttpRoutes {
  /** Empty: nobody has written a route, and requests go to the port of the service itself. */
  readonly routes: Route[];
  /** What requests may be sent to, each once. */
  readonly destinations: readonly Destination[];
}

/** `client`: a client without a proxy routes for itself, as its own namespace sees the mesh. */
export function httpRoutesFor(
  context: EnvoyContext,
  service: ServiceInfo,
  port: PortInfo,
  perspective: Perspective = "waypoint",
): HttpRoutes {
  const destinations = new Map<string, Destination>();
  const arrival = {
    context,
    service,
    port: port.port,
    note: (each: Destination): void => {
      destinations.set(destinationKey(each), each);
    },
  };
  const routes = entriesFor(context, { service, port: port.port, kinds, perspective }).map((entry) =>
    emitRoute(arrival, entry),
  );
  return { routes, destinations: [...destinations.values()] };
}

const kinds = ["HTTPRoute", "GRPCRoute"] as const;

const destinationKey = ({ service, port, subset, protocol }: Destination): string =>
  `${service.key}|${port.port}|${subset}|${protocol}`;

/** In the order in which they are tried, up to the first that takes every request. */
function entriesFor(context: EnvoyContext, selection: Selection): readonly RouteEntry[] {
  const entries: RouteEntry[] = [];
  for (const object of routeObjects(context, selection)) {
    for (const entry of entriesOfObject(context, object, selection)) {
      entries.push(entry);
      if (isCatchAll(entry.match)) return entries;
    }
  }
  return entries;
}

function entriesOfObject(
  context: EnvoyContext,
  object: RouteObject,
  { port, perspective }: Selection,
): readonly RouteEntry[] {
  const { world, options, waypoint, proxy } = context;
  if (object.kind === "routes") {
    const hasHost = (hostname: string): boolean => context.findService(hostname, waypoint.namespace) !== undefined;
    return gatewayEntries({ world, options, hasHost }, object.routes);
  }
  const { virtualService } = object;
  const rules = withDelegates(virtualService, (namespace, name) =>
    findDelegate(context, virtualService.meta.namespace, namespace, name),
  );
  const labels = perspective === "client" ? proxy.labels : undefined;
  return entriesOf(rules, { port, namespace: waypoint.namespace, labels, options });
}
