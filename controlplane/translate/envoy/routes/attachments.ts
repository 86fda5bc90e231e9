/** Which routes of Gateway API are attached to which Services and ServiceEntries, and why others are not. */
import type { ParentRef, Route, RouteKind } from "#controlplane/mesh/gateway-route.ts";
import type { Meta } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { entryProtocol, portProtocol, showsNames, type PortProtocol } from "#controlplane/translate/protocol.ts";
import { hostCovers } from "../hosts.ts";

export const routeKinds: readonly RouteKind[] = ["HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute"];

export interface Parent {
  readonly kind: "Service" | "ServiceEntry";
  readonly meta: Meta;
  readonly ports: readonly { readonly name: string; readonly port: number; readonly protocol: PortProtocol }[];
  readonly hostnames: readonly string[];
}

export type Attachment =
  | {
      readonly kind: "attached";
      readonly route: Route;
      readonly parent: Parent;
      /** undefined: every port. */
      readonly port: number | undefined;
    }
  | {
      readonly kind: "refused";
      readonly reason: "NoMatchingParent" | "NoMatchingListenerHostname" | "RouteConflict";
      readonly message: string;
      readonly parent: Parent | undefined;
    };

export interface Attachments {
  /** undefined where the parent is no service. */
  of(route: Route, ref: ParentRef): Attachment | undefined;
  /** `key` is {@link parentKey}. In order of age. */
  to(key: string): readonly Extract<Attachment, { kind: "attached" }>[];
}

export const parentKey = (kind: string, namespace: string, name: string): string => `${kind}/${namespace}/${name}`;

/** Which mesh parent a reference means, if any. */
export function parentKind({ group, kind }: { readonly group: string; readonly kind: string }) {
  if (group === "" && kind === "Service") return "Service";
  return group === "networking.istio.io" && kind === "ServiceEntry" ? "ServiceEntry" : undefined;
}

/** The oldest first; of the same age by name, then by namespace. */
export function byAge(a: { readonly meta: Meta }, b: { readonly meta: Meta }): number {
  const [one, other] = [a.meta, b.meta];
  if (one.createdMs !== other.createdMs) return one.createdMs - other.createdMs;
  return compare(one.name, other.name) || compare(one.namespace, other.namespace);
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Gateway API settles ties by namespace first. */
export function byAgeAndPath(a: { readonly meta: Meta }, b: { readonly meta: Meta }): number {
  const [one, other] = [a.meta, b.meta];
  if (one.createdMs !== other.createdMs) return one.createdMs - other.createdMs;
  return compare(`${one.namespace}/${one.name}`, `${other.namespace}/${other.name}`);
}

export function collectAttachments(
  world: WorldView,
  { isOurs, domain }: { readonly isOurs: (meta: Meta) => boolean; readonly domain: string },
): Attachments {
  const verdicts = new Map<Route, Map<ParentRef, Attachment>>();
  const attached = new Map<string, Extract<Attachment, { kind: "attached" }>[]>();
  const routes = routeKinds
    .flatMap((kind) => world.all(kind))
    .filter(({ meta }) => isOurs(meta))
    .sort(byAgeAndPath);
  for (const route of routes) {
    const own = new Map<ParentRef, Attachment>();
    verdicts.set(route, own);
    for (const ref of route.parents) {
      const kind = parentKind(ref);
      if (kind === undefined) continue;
      const key = parentKey(kind, ref.namespace || route.meta.namespace, ref.name);
      const known = attached.get(key) ?? [];
      const verdict = judge(
        route,
        ref,
        findParent(world, kind, ref.namespace || route.meta.namespace, ref.name, domain),
        known,
      );
      own.set(ref, verdict);
      if (verdict.kind === "attached") attached.set(key, [...known, verdict]);
    }
  }
  return { of: (route, ref) => verdicts.get(route)?.get(ref), to: (key) => attached.get(key) ?? [] };
}

function findParent(
  world: WorldView,
  kind: "Service" | "ServiceEntry",
  namespace: string,
  name: string,
  domain: string,
): Parent | { readonly missing: string } {
  const found = world.get(kind, namespace, name);
  if (found === undefined) return { missing: `${kind} "${namespace}/${name}"` };
  const { meta } = found;
  if ("hosts" in found) {
    const ports = found.ports.map(({ protocol, ...port }) => ({ ...port, protocol: entryProtocol(protocol) }));
    return { kind, meta, ports, hostnames: found.hosts };
  }
  const ports = found.ports.map((port) => ({ name: port.name, port: port.port, protocol: portProtocol(port) }));
  return { kind, meta, ports, hostnames: [`${name}.${namespace}.svc.${domain}`] };
}

function judge(
  route: Route,
  ref: ParentRef,
  parent: Parent | { readonly missing: string },
  known: readonly Extract<Attachment, { kind: "attached" }>[],
): Attachment {
  if ("missing" in parent) {
    return {
      kind: "refused",
      reason: "NoMatchingParent",
      message: `parent ${parent.missing} not found`,
      parent: undefined,
    };
  }
  const { namespace, name } = parent.meta;
  const what = `${parent.kind} "${namespace}/${name}"`;
  const refused = (reason: Extract<Attachment, { kind: "refused" }>["reason"], message: string): Attachment => ({
    kind: "refused",
    reason,
    message,
    parent,
  });
  if (ref.port !== undefined && !parent.ports.some(({ port }) => port === ref.port)) {
    return refused("NoMatchingParent", `parent ${what} has no port ${ref.port}`);
  }
  const section = parent.ports.find((port) => port.name === ref.sectionName);
  if (ref.sectionName !== undefined && (section === undefined || (ref.port ?? section.port) !== section.port)) {
    const where = section !== undefined ? ` with number ${String(ref.port)}` : "";
    return refused("NoMatchingParent", `parent ${what} has no port named "${ref.sectionName}"${where}`);
  }
  const port = ref.port ?? section?.port;
  const isForOthers =
    route.kind === "TLSRoute" && route.hostnames.length > 0 && !meets(route.hostnames, parent.hostnames);
  if (isForOthers && !parent.ports.some((each) => (port ?? each.port) === each.port && showsNames(each.protocol))) {
    return refused(
      "NoMatchingListenerHostname",
      `none of the hostnames is one of ${what}, and on a port that is not declared as TLS a waypoint knows a connection only by the service that it is for`,
    );
  }
  // What another namespace writes holds for that namespace's callers, and takes nothing away from anybody.
  const rival = known.find(
    (each) =>
      each.route.meta.namespace === route.meta.namespace && isRival(route, each.route) && overlaps(port, each.port),
  );
  if (rival !== undefined) {
    const { kind, meta } = rival.route;
    return refused(
      "RouteConflict",
      `${kind} "${meta.namespace}/${meta.name}" is older and attached to the same port of ${what}: a port takes HTTPRoutes or GRPCRoutes, not both`,
    );
  }
  return { kind: "attached", route, parent, port };
}

const meets = (a: readonly string[], b: readonly string[]): boolean =>
  a.some((one) => b.some((other) => hostCovers(one, other) || hostCovers(other, one)));

const isHttp = (kind: RouteKind): boolean => kind === "HTTPRoute" || kind === "GRPCRoute";
const isRival = (one: Route, other: Route): boolean =>
  isHttp(one.kind) && isHttp(other.kind) && one.kind !== other.kind;

const overlaps = (a: number | undefined, b: number | undefined): boolean =>
  a === undefined || b === undefined || a === b;
