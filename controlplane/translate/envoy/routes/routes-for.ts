/** What a waypoint does with requests and connections for a port of a service, by the routes that are written for it. */
import type { Route } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { PortInfo, ServiceInfo } from "#controlplane/translate/services.ts";
import type { Destination, EnvoyContext } from "../context.ts";
import type { BackendContext } from "./backends.ts";
import { withDelegates } from "./delegates.ts";
import { emitRoute } from "./emit-route.ts";
import { gatewayEntries } from "./gateway-entries.ts";
import { anyPath, isCatchAll, takesEveryRequest, type RouteEntry } from "./route-entry.ts";
import {
  consumerRoutes,
  findDelegate,
  routeObjects,
  type ConsumerRoutes,
  type Perspective,
  type RouteObject,
  type Selection,
} from "./selection.ts";
import { entriesOf } from "./virtual-service-entries.ts";

export interface HttpRoutes {
  readonly routes: Route[];
  /** Nobody has written a route for callers of every namespace: what is left goes to the port of the service itself. */
  readonly leavesRest: boolean;
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
  const entries = entriesFor(context, { service, port: port.port, kinds, perspective });
  const routes = entries.map((entry) => emitRoute(arrival, entry));
  const leavesRest = entries.every(({ match }) => match.callers !== "");
  return { routes, leavesRest, destinations: [...destinations.values()] };
}

const kinds = ["HTTPRoute", "GRPCRoute"] as const;

const destinationKey = ({ service, port, subset, protocol }: Destination): string =>
  `${service.key}|${port.port}|${subset}|${protocol}`;

/** In the order in which they are tried, up to the first that takes every request. */
function entriesFor(context: EnvoyContext, selection: Selection): readonly RouteEntry[] {
  const entries =
    selection.perspective === "client"
      ? []
      : consumerRoutes(context, selection).flatMap((each) => consumerEntries(context, each));
  for (const object of routeObjects(context, selection)) {
    for (const entry of entriesOfObject(context, object, selection)) {
      entries.push(entry);
      if (isCatchAll(entry.match)) return entries;
    }
  }
  return entries;
}

/** Like those of a client that routes for itself: no other route of the service holds for these callers. */
function consumerEntries(context: EnvoyContext, { namespace, routes }: ConsumerRoutes): readonly RouteEntry[] {
  const all = gatewayEntries(backendContext(context), routes);
  const last = all.findIndex(({ match }) => takesEveryRequest(match));
  const entries = last < 0 ? [...all, ...all.slice(0, 1).map(notFound)] : all.slice(0, last + 1);
  return entries.map((entry) => ({ ...entry, match: { ...entry.match, callers: namespace } }));
}

/** Behind the last entry, with its object's name. */
const notFound = ({ source }: RouteEntry): RouteEntry => ({
  name: `${source.namespace}.${source.name}.not-found`,
  source,
  match: { callers: "", path: anyPath, ignoreCase: false, headers: [], queryParams: [], claims: [] },
  action: { kind: "respond", status: 404, body: undefined },
  headers: [],
  fault: undefined,
  cors: undefined,
  statPrefix: "",
});

function backendContext(context: EnvoyContext): BackendContext {
  const { world, options, waypoint } = context;
  return { world, options, hasHost: (hostname) => context.findService(hostname, waypoint.namespace) !== undefined };
}

function entriesOfObject(
  context: EnvoyContext,
  object: RouteObject,
  { port, perspective }: Selection,
): readonly RouteEntry[] {
  const { options, waypoint, proxy } = context;
  if (object.kind === "routes") return gatewayEntries(backendContext(context), object.routes);
  const { virtualService } = object;
  const rules = withDelegates(virtualService, (namespace, name) =>
    findDelegate(context, virtualService.meta.namespace, namespace, name),
  );
  const labels = perspective === "client" ? proxy.labels : undefined;
  return entriesOf(rules, { port, namespace: waypoint.namespace, labels, options });
}
