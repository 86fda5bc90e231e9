/**
 * What is wrong with a VirtualService that its own text cannot show: hosts, ports and subsets that do not exist, rules
 * that are never reached, matches that no waypoint has. It stays in force as far as it goes; its author is told.
 */
import type { Meta } from "#controlplane/mesh/objects.ts";
import type { HttpMatch, HttpRule, RouteDestination, VirtualService } from "#controlplane/mesh/virtual-service.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { fullHost, hostCovers } from "./envoy/hosts.ts";
import { mergeRules } from "./envoy/routes/delegates.ts";
import { isExportedTo } from "./envoy/routes/exported.ts";
import type { TranslateOptions } from "./options.ts";
import type { ServiceInfo } from "./services.ts";
import { isDue, type StatusCondition, type StatusUpdate } from "./status.ts";

/** Absent where nothing is wrong. */
export const resolvedCondition = "ambit.dev/Resolved";
/** Nobody reads more, and an object bounds what it holds. */
const mostProblems = 10;

export interface VirtualServiceContext {
  readonly world: WorldView;
  readonly options: TranslateOptions;
  readonly isOurs: (meta: Meta) => boolean;
  readonly services: readonly ServiceInfo[];
}

export interface VirtualServiceProblem {
  readonly reason:
    | "HostNotFound"
    | "PortNotFound"
    | "SubsetNotFound"
    | "DelegateNotFound"
    | "DelegateConflict"
    | "NeverReached"
    | "NotSupported"
    | "WaypointMissing";
  /** Begins with the place: `spec.http[0].route[1].destination.host: …`. */
  readonly message: string;
}
type Problem = VirtualServiceProblem;

/** By host, as the mesh means them. */
interface Known {
  readonly services: ReadonlyMap<string, ServiceInfo>;
  /** Hosts of DestinationRules with the names of their subsets; a host may have several. */
  readonly subsets: readonly { readonly host: string; readonly names: ReadonlySet<string> }[];
}

export function virtualServiceUpdates(context: VirtualServiceContext): readonly StatusUpdate[] {
  const all = context.world.all("VirtualService").filter(({ meta }) => context.isOurs(meta));
  if (all.length === 0) return [];
  const known = collectKnown(context);
  return all.flatMap((virtualService) => {
    const { namespace, name, generation } = virtualService.meta;
    const condition = conditionOf(problemsOf(context, known, virtualService), generation);
    const update: StatusUpdate = {
      apiVersion: "networking.istio.io/v1",
      kind: "VirtualService",
      namespace,
      name,
      fieldManager: "ambit-routes",
      ownedConditions: [resolvedCondition],
      status: { conditions: condition === undefined ? [] : [condition] },
    };
    return isDue(update, virtualService.conditions) ? [update] : [];
  });
}

/** What is wrong with one of them; it need not be in the world. */
export const virtualServiceProblems = (
  context: VirtualServiceContext,
  virtualService: VirtualService,
): readonly VirtualServiceProblem[] => problemsOf(context, collectKnown(context), virtualService);

function collectKnown({ world, options, services }: VirtualServiceContext): Known {
  const byHost = new Map<string, ServiceInfo>();
  for (const service of services) {
    if (service.message.canonical === true || !byHost.has(service.hostname)) byHost.set(service.hostname, service);
  }
  return {
    services: byHost,
    subsets: world.all("DestinationRule").map(({ meta, host, subsets }) => ({
      host: fullHost(host, meta.namespace, options.domain),
      names: new Set(subsets.map(({ name }) => name)),
    })),
  };
}

function conditionOf(problems: readonly Problem[], generation: number): StatusCondition | undefined {
  const [first] = problems;
  if (first === undefined) return undefined;
  const left = problems.length - mostProblems;
  const messages = problems.slice(0, mostProblems).map(({ message }) => message);
  return {
    type: resolvedCondition,
    status: "False",
    reason: first.reason,
    message: [...messages, ...(left > 0 ? [`and ${left} more`] : [])].join("; "),
    observedGeneration: String(generation),
  };
}

function problemsOf(context: VirtualServiceContext, known: Known, virtualService: VirtualService): readonly Problem[] {
  const { meta, http, tls, tcp } = virtualService;
  const problems = http.flatMap((rule, index) => {
    const at = `spec.http[${index}]`;
    const mirrors = rule.mirrors.map(({ destination }, of) => ({
      destination,
      at: `${at}.mirrors[${of}].destination`,
    }));
    const routes = rule.route.map(({ destination }, of) => ({ destination, at: `${at}.route[${of}].destination` }));
    return [
      ...[...routes, ...mirrors].flatMap((each) => destinationProblem(context, known, meta, each) ?? []),
      ...(delegateProblem(context, virtualService, rule, at) ?? []),
      ...rule.matches.flatMap((match, of) => matchProblem(match, `${at}.match[${of}]`) ?? []),
    ];
  });
  const l4 = [
    ...tls.map((rule, index) => ({ rule, at: `spec.tls[${index}]` })),
    ...tcp.map((rule, index) => ({ rule, at: `spec.tcp[${index}]` })),
  ];
  return [
    ...problems,
    ...unreached(http),
    ...l4.flatMap(({ rule, at }) =>
      rule.route.flatMap(
        ({ destination }, of) =>
          destinationProblem(context, known, meta, { destination, at: `${at}.route[${of}].destination` }) ?? [],
      ),
    ),
    ...hostProblems(context, known, virtualService),
  ];
}

function destinationProblem(
  { options }: VirtualServiceContext,
  { services, subsets }: Known,
  { namespace }: Meta,
  { destination, at }: { readonly destination: RouteDestination; readonly at: string },
): Problem | undefined {
  const host = fullHost(destination.host, namespace, options.domain);
  const service = services.get(host);
  const effect = "requests for it fail with 503";
  if (service === undefined) {
    const hint = isShortWithNamespace(destination.host, services, options)
      ? `, write ${destination.host}.svc.${options.domain}`
      : "";
    return { reason: "HostNotFound", message: `${at}.host: there is no service "${host}"${hint}; ${effect}` };
  }
  const { port, subset } = destination;
  if (port !== undefined && !service.ports.some((each) => each.port === port)) {
    const ports = service.ports.map((each) => each.port).join(", ");
    return {
      reason: "PortNotFound",
      message: `${at}.port: "${host}" has no port ${port}, its ports are ${ports}; ${effect}`,
    };
  }
  const isKnown = subsets.some((rule) => hostCovers(rule.host, host) && rule.names.has(subset));
  if (subset === "" || isKnown) return undefined;
  return {
    reason: "SubsetNotFound",
    message: `${at}.subset: "${subset}" is not defined by any DestinationRule for "${host}"; ${effect}`,
  };
}

/** A name with one dot is taken as it stands, and often meant otherwise. */
const isShortWithNamespace = (host: string, services: Known["services"], { domain }: TranslateOptions): boolean =>
  services.has(`${host}.svc.${domain}`);

function delegateProblem(
  { world, isOurs }: VirtualServiceContext,
  root: VirtualService,
  rule: HttpRule,
  at: string,
): readonly Problem[] | undefined {
  if (rule.delegate === undefined) return undefined;
  const namespace = rule.delegate.namespace || root.meta.namespace;
  const what = `VirtualService "${namespace}/${rule.delegate.name}"`;
  const found = world.get("VirtualService", namespace, rule.delegate.name);
  const unusable = (message: string): readonly Problem[] => [
    { reason: "DelegateNotFound", message: `${at}.delegate: ${message}; the rule is left out` },
  ];
  if (found === undefined || !isOurs(found.meta)) return unusable(`there is no ${what}`);
  if (found.hosts.length > 0) return unusable(`${what} has hosts, a delegate has none`);
  if (!isExportedTo(root.meta.namespace, found, world.meshConfig.defaultVirtualServiceExportTo)) {
    return unusable(`${what} is not exported to namespace "${root.meta.namespace}"`);
  }
  return found.http.flatMap((inner, index): readonly Problem[] =>
    inner.delegate === undefined && mergeRules(rule, inner) === undefined
      ? [
          {
            reason: "DelegateConflict",
            message: `${at}.delegate: rule http[${index}] of ${what} has a match that no match of this rule holds together with, and is left out`,
          },
        ]
      : [],
  );
}

function matchProblem({ sourceLabels, gateways, sourceNamespace }: HttpMatch, at: string): Problem | undefined {
  if (gateways.length > 0) return undefined;
  const field = sourceLabels.size > 0 ? "sourceLabels" : sourceNamespace === "" ? undefined : "sourceNamespace";
  if (field === undefined) return undefined;
  return {
    reason: "NotSupported",
    message: `${at}.${field}: a waypoint does not know its callers by that, and the match never applies`,
  };
}

/** Rules behind one that takes everything. */
function unreached(rules: readonly HttpRule[]): readonly Problem[] {
  const all = rules.findIndex(({ matches }) => matches.length === 0 || matches.some(isEverything));
  if (all < 0 || all === rules.length - 1) return [];
  const rest =
    all + 2 === rules.length ? `spec.http[${all + 1}] is` : `spec.http[${all + 1}] to [${rules.length - 1}] are`;
  return [{ reason: "NeverReached", message: `${rest} never reached: spec.http[${all}] takes every request` }];
}

const isEverything = ({ uri, port, sourceLabels, sourceNamespace, gateways, ...match }: HttpMatch): boolean =>
  (uri === undefined || (uri.kind === "prefix" && ["", "/"].includes(uri.value))) &&
  port === undefined &&
  sourceLabels.size === 0 &&
  sourceNamespace === "" &&
  gateways.length === 0 &&
  [match.scheme, match.method, match.authority].every((each) => each === undefined) &&
  [match.headers, match.withoutHeaders, match.queryParams].every(({ size }) => size === 0);

/** Whether there is a waypoint that would do what it says. Sidecars and gateways are none of ours. */
function hostProblems(
  { options }: VirtualServiceContext,
  { services }: Known,
  { meta, hosts, gateways }: VirtualService,
): readonly Problem[] {
  if (hosts.length === 0 || gateways.some((gateway) => gateway !== "mesh")) return [];
  return hosts.flatMap((written, index): readonly Problem[] => {
    const host = fullHost(written, meta.namespace, options.domain);
    const own = services.get(host);
    const meant =
      own === undefined ? [...services.values()].filter(({ hostname }) => hostCovers(host, hostname)) : [own];
    const at = `spec.hosts[${index}]`;
    if (meant.length === 0) return [{ reason: "HostNotFound", message: `${at}: there is no service "${host}"` }];
    const isServed = meant.some(({ binding, meta: { namespace } }) => {
      if (binding.kind !== "bound") return false;
      return [namespace, binding.waypoint.namespace].includes(meta.namespace);
    });
    if (isServed) return [];
    return [{ reason: "WaypointMissing", message: `${at}: ${whyUnserved(host, meant, meta.namespace)}` }];
  });
}

function whyUnserved(host: string, meant: readonly ServiceInfo[], namespace: string): string {
  if (meant.some(({ binding }) => binding.kind === "bound")) {
    return `the waypoint of "${host}" reads VirtualServices of its own namespace and the service's, not of "${namespace}"`;
  }
  const [failed] = meant.flatMap(({ binding }) => (binding.kind === "error" ? [binding.error.message] : []));
  return failed === undefined
    ? `"${host}" has no waypoint to do what is written here: set the label istio.io/use-waypoint`
    : `"${host}" is not bound to its waypoint: ${failed}`;
}
