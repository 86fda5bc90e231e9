/**
 * What an object's own text cannot show, and its author should know while the terminal is still open: references that
 * lead nowhere, rules that whatever they are attached to does not enforce. The same facts as in its status later. The
 * object takes force as far as it goes, for what is missing may be applied next.
 */
import type { AuthorizationPolicy, Meta } from "#controlplane/mesh/objects.ts";
import { formatPath, type Problem } from "#controlplane/schema/problem.ts";
import { backendPolicyUpdates } from "#controlplane/translate/backend-policy-status.ts";
import { groupByEntry, type CollectedMesh } from "#controlplane/translate/collect-mesh.ts";
import type { Collected } from "#controlplane/translate/collected.ts";
import { policyUpdate, serviceEntryUpdate, workloadEntryUpdate } from "#controlplane/translate/conditions.ts";
import { fullHost, hostCovers } from "#controlplane/translate/envoy/hosts.ts";
import { envoyFilterUpdates } from "#controlplane/translate/envoy-filter-status.ts";
import { rateLimitUpdates } from "#controlplane/translate/rate-limit-status.ts";
import { isOfRevision, isOwned } from "#controlplane/translate/revision.ts";
import { ignoredEnding, routeUpdates } from "#controlplane/translate/route-status.ts";
import { authenticationUpdate, policyCondition } from "#controlplane/translate/security-status.ts";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import type { StatusCondition, StatusUpdate } from "#controlplane/translate/status.ts";
import { telemetryUpdates } from "#controlplane/translate/telemetry-status.ts";
import { virtualServiceProblems } from "#controlplane/translate/virtual-service-status.ts";
import { sceneOf, type Scene } from "./scene.ts";
import { worldWith, type Candidate } from "./candidate-world.ts";

/** @param known what the object's own text has shown already: nothing is said twice */
export function worldWarnings(candidate: Candidate, scene: Scene, known: readonly Problem[]): readonly string[] {
  const { options } = scene;
  const isOurs = (meta: Meta): boolean => isOfRevision(meta, options);
  switch (candidate.kind) {
    case "VirtualService": {
      const { services } = scene.mesh();
      const context = { world: scene.world, options, isOurs, services };
      return ofVirtualService(virtualServiceProblems(context, candidate.resource), known);
    }
    case "AuthorizationPolicy": {
      const policy = candidate.resource;
      if (policy.targetRefs.length === 0) return ofSelectedPolicy(policy, scene);
      const { servicesByName } = scene.mesh();
      return ofUpdates(candidate, [policyUpdate(policy, policyCondition(collected(scene), policy, servicesByName))]);
    }
    case "RequestAuthentication": {
      const update = authenticationUpdate(collected(scene), candidate.resource, scene.mesh().servicesByName);
      return ofUpdates(candidate, [update]);
    }
    case "RateLimitPolicy":
      return ofUpdates(candidate, ofPolicies(rateLimitUpdates, candidate, scene, { alone: false }));
    case "Telemetry":
      return ofUpdates(candidate, ofPolicies(telemetryUpdates, candidate, scene, { alone: true }));
    case "EnvoyFilter":
      return ofUpdates(candidate, ofPolicies(envoyFilterUpdates, candidate, scene, { alone: true }));
    case "HTTPRoute":
    case "GRPCRoute":
    case "TCPRoute":
    case "TLSRoute": {
      const hostnames = new Set(scene.mesh().services.map(({ hostname }) => hostname));
      const world = worldWith(scene.world, candidate, { alone: true });
      return ofUpdates(
        candidate,
        routeUpdates({
          world,
          options,
          isOurs,
          isTold: (meta) => isOwned(world, meta, options),
          hasHost: (hostname) => hostnames.has(hostname),
        }),
      );
    }
    case "BackendTLSPolicy":
    case "XBackendTrafficPolicy": {
      const world = worldWith(scene.world, candidate, { alone: false });
      const { servicesByName: services } = scene.mesh();
      const context = { collected: { ...collected(scene), world }, services, isOurs };
      const isTold = (meta: Meta): boolean => isOwned(world, meta, options);
      return ofUpdates(candidate, backendPolicyUpdates({ ...context, isTold }).map(withoutRepeats));
    }
    case "ServiceEntry": {
      const world = worldWith(scene.world, candidate, { alone: false });
      const { services } = sceneOf(world, options).mesh();
      const { namespace, name } = candidate.resource.meta;
      const hosts = groupByEntry(services).get(`${namespace}/${name}`) ?? [];
      return ofUpdates(candidate, [serviceEntryUpdate(world, candidate.resource, hosts, [])]);
    }
    case "DestinationRule": {
      const { host, meta } = candidate.resource;
      const full = fullHost(host, meta.namespace, options.domain);
      const isKnown = scene.mesh().services.some(({ hostname }) => hostCovers(full, hostname));
      return isKnown ? [] : [`spec.host: there is no service "${full}"; the rule holds for nothing`];
    }
    case "WorkloadEntry": {
      const { meta } = candidate.resource;
      const binding = scene.mesh().waypoints.forWorkload(meta.namespace, meta.labels);
      return ofUpdates(candidate, [workloadEntryUpdate(candidate.resource, binding)]);
    }
    case "Namespace":
    case "Node":
    case "Pod":
    case "Service":
    case "EndpointSlice":
    case "Secret":
    case "ConfigMap":
    case "PeerAuthentication":
    case "Gateway":
    case "GatewayClass":
    case "ReferenceGrant":
      return [];
  }
}

const collected = (scene: Scene): Collected => {
  const { network, waypoints, services } = scene.mesh();
  return { world: scene.world, options: scene.options, network, waypoints, services, workloads: [] };
};

type PolicyUpdates = (
  world: Scene["world"],
  options: Scene["options"],
  waypoints: CollectedMesh["waypoints"],
  services: CollectedMesh["servicesByName"],
) => readonly StatusUpdate[];

function ofPolicies(
  updates: PolicyUpdates,
  candidate: Candidate,
  scene: Scene,
  others: { readonly alone: boolean },
): readonly StatusUpdate[] {
  const { waypoints, servicesByName } = scene.mesh();
  return updates(worldWith(scene.world, candidate, others), scene.options, waypoints, servicesByName);
}

type VirtualServiceProblems = ReturnType<typeof virtualServiceProblems>;

/** Some of it shows in the text alone as well. */
function ofVirtualService(problems: VirtualServiceProblems, known: readonly Problem[]): readonly string[] {
  const places = known.map(({ path }) => `${formatPath(path)}:`);
  const isReachTold = known.some(({ message }) => message.includes("never reached"));
  return problems
    .filter(({ reason, message }) =>
      reason === "NeverReached" ? !isReachTold : !places.some((place) => message.startsWith(place)),
    )
    .map(({ message }) => message);
}

/** Of the candidate's own status: conditions that say that something is not as written. */
function ofUpdates({ resource: { meta } }: Candidate, updates: readonly StatusUpdate[]): readonly string[] {
  const own = updates.filter(({ namespace, name }) => namespace === meta.namespace && name === meta.name);
  const lines = own.flatMap(({ status: { conditions = [], parents = [], ancestors = [] } }) =>
    [...conditions, ...[...parents, ...ancestors].flatMap((each) => each.conditions)].filter(isBad).map(said),
  );
  return [...new Set(lines)];
}

/** What the text shows in any case, and what another condition says as well, is told once. */
const withoutRepeats = (update: StatusUpdate): StatusUpdate => ({
  ...update,
  status: {
    ancestors: (update.status.ancestors ?? []).map((ancestor) => {
      const isUntrusting = ancestor.conditions.some(({ reason }) => reason === "NoValidCACertificate");
      const isRepeat = ({ type }: StatusCondition): boolean =>
        type === "PartiallyInvalid" || (type === "ResolvedRefs" && isUntrusting);
      return { ...ancestor, conditions: ancestor.conditions.filter((condition) => !isRepeat(condition)) };
    }),
  },
});

/** True, and bad news all the same. */
const badReasons = new Set(["PartiallyInvalid", "UnsupportedValue", "FailsClosed"]);
const badTypes = new Set(["PartiallyInvalid", "istio.io/WaypointMissing"]);

const isBad = ({ type, status, reason, message }: StatusCondition): boolean =>
  status === "False" || badReasons.has(reason) || badTypes.has(type) || message.endsWith(ignoredEnding);

const said = ({ type, reason, message }: StatusCondition): string =>
  message.endsWith(ignoredEnding) ? message : `${message} (${type}: ${reason})`;

/**
 * A policy for labels belongs to the node proxy, also where a waypoint stands before the pods: the waypoint passes over
 * it, and the node proxy sees the waypoint as the caller.
 */
function ofSelectedPolicy({ meta, selector }: AuthorizationPolicy, scene: Scene): readonly string[] {
  if (selector === undefined || selector.size === 0) return [];
  const { namespace } = meta;
  const bound = scene.mesh().services.filter((service) => isBound(service) && service.meta.namespace === namespace);
  if (bound.length === 0) return [];
  const pods = scene.world
    .all("Pod")
    .filter((pod) => pod.meta.namespace === namespace && covers(selector, pod.meta.labels));
  const behind = bound.filter(
    (service) =>
      service.selector !== undefined &&
      service.selector.size > 0 &&
      pods.some((pod) => covers(service.selector ?? new Map(), pod.meta.labels)),
  );
  if (behind.length === 0) return [];
  const names = behind.map((service) => service.meta.name).slice(0, mostNames);
  const what = names.length === 1 ? `service ${names.join("")}` : `services ${names.join(", ")}`;
  return [
    `spec.selector: the waypoint of ${what} ignores policies with a selector, and the node proxy sees the waypoint as the caller: attach the policy with targetRefs`,
  ];
}

const mostNames = 5;

const isBound = ({ binding }: ServiceInfo): boolean => binding.kind === "bound";

const covers = (selector: Meta["labels"], labels: Meta["labels"]): boolean =>
  [...selector].every(([key, value]) => labels.get(key) === value);
