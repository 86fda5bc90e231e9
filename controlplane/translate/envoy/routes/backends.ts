/** What the references of Gateway API's routes lead to, or why nowhere. */
import type { BackendRef, Route, RouteFilter } from "#controlplane/mesh/gateway-route.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import type { TranslateOptions } from "#controlplane/translate/options.ts";
import { serviceHostname } from "#controlplane/translate/services.ts";

export interface BackendFault {
  readonly reason: "InvalidDestination" | "InvalidFilter" | "InvalidKind" | "BackendNotFound" | "RefNotPermitted";
  readonly message: string;
}

export type Backend =
  | { readonly kind: "found"; readonly hostname: string; readonly port: number }
  | { readonly kind: "fault"; readonly fault: BackendFault };

export interface BackendContext {
  readonly world: WorldView;
  readonly options: TranslateOptions;
  /** Whether a service of this name is published. */
  readonly hasHost: (hostname: string) => boolean;
}

const gatewayGroup = "gateway.networking.k8s.io";

export function resolveBackend(context: BackendContext, route: Route, ref: BackendRef): Backend {
  const { group, kind, name, port } = ref;
  const fault = (reason: BackendFault["reason"], message: string): Backend => ({
    kind: "fault",
    fault: { reason, message },
  });
  const isHostname = group === "networking.istio.io" && kind === "Hostname";
  if (!isHostname && (group !== "" || kind !== "Service")) {
    return fault("InvalidKind", `a backend cannot be a ${kind} of group "${group}"`);
  }
  if (port === undefined) return fault("InvalidDestination", `backend "${name}" has no port`);
  if (isHostname) {
    if (ref.namespace !== "") {
      return fault("InvalidDestination", `backend "${name}" is a hostname, which has no namespace`);
    }
    return context.hasHost(name)
      ? { kind: "found", hostname: name, port }
      : fault("BackendNotFound", `backend "${name}" not found`);
  }
  if (name.includes(".")) {
    return fault("InvalidDestination", `backend "${name}" is a hostname: write the name of the Service`);
  }
  const namespace = ref.namespace || route.meta.namespace;
  if (!isPermitted(context.world, route, namespace, name)) {
    return fault(
      "RefNotPermitted",
      `backend Service "${namespace}/${name}" is in another namespace, where no ReferenceGrant lets a ${route.kind} of namespace "${route.meta.namespace}" refer to it`,
    );
  }
  const service = context.world.get("Service", namespace, name);
  if (service === undefined) return fault("BackendNotFound", `backend Service "${namespace}/${name}" not found`);
  if (!service.ports.some((each) => each.port === port)) {
    return fault("BackendNotFound", `backend Service "${namespace}/${name}" has no port ${port}`);
  }
  return { kind: "found", hostname: serviceHostname(name, namespace, context.options), port };
}

/** A service to which the traffic went anyway, for it is a parent of the route, needs no grant. */
function isPermitted(world: WorldView, route: Route, namespace: string, name: string): boolean {
  const own = route.meta.namespace;
  if (namespace === own) return true;
  const isParent = route.parents.some(
    (parent) =>
      parent.kind === "Service" &&
      parent.group === "" &&
      parent.name === name &&
      (parent.namespace || own) === namespace,
  );
  return (
    isParent ||
    grantsOf(world, namespace).some(({ from, to }) => {
      const isFrom = from.some(
        (each) => each.group === gatewayGroup && each.kind === route.kind && each.namespace === own,
      );
      const isTo = to.some(
        (each) => each.group === "" && each.kind === "Service" && (each.name === undefined || each.name === name),
      );
      return isFrom && isTo;
    })
  );
}

const grantsOf = (world: WorldView, namespace: string) =>
  world.all("ReferenceGrant").filter(({ meta }) => meta.namespace === namespace);

/** Why a rule with this filter cannot do what it says. */
export const filterFault = (filter: RouteFilter): BackendFault | undefined =>
  filter.type === "unsupported" ? unsupported(filter.name) : undefined;

export const backendFilterFault = (filter: RouteFilter): BackendFault | undefined =>
  filter.type === "RequestHeaderModifier" || filter.type === "ResponseHeaderModifier"
    ? undefined
    : unsupported(filter.type === "unsupported" ? filter.name : filter.type);

const unsupported = (filter: string): BackendFault => ({
  reason: "InvalidFilter",
  message: `unsupported filter type "${filter}"`,
});
