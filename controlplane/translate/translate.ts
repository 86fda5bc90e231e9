/**
 * From the objects of a world to what node proxies are served and which statuses are wanted: one pure function. Nothing
 * here waits, logs or looks at a clock.
 */
import { create } from "@bufbuild/protobuf";
import type { Authorization } from "#shared/proto/gen/security/authorization_pb.js";
import { AddressSchema, type Address, type Workload } from "#shared/proto/gen/workload/workload_pb.js";
import type { Labels, Meta, Pod, ServiceEntry } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { sliceServiceLabel } from "./annotations.ts";
import { convertPolicy } from "./authorization-policies.ts";
import { backendPolicyUpdates } from "./backend-policy-status.ts";
import type { AutoVips } from "./auto-vips.ts";
import { collectMesh, groupByEntry } from "./collect-mesh.ts";
import { policyUpdate, serviceEntryUpdate, serviceUpdate, workloadEntryUpdate } from "./conditions.ts";
import { entryEndpoints, entryEndpointWorkload, entryLabels, entryWorkload } from "./entry-workloads.ts";
import { classUpdates } from "./gateway-classes.ts";
import { networkGatewayWorkload } from "./network-gateways.ts";
import type { Collected, CollectedWorkload } from "./collected.ts";
import type { TranslateOptions } from "./options.ts";
import { convertPeerAuthentication, namespacePolicies, staticStrictPolicy } from "./peer-authentications.ts";
import { podWorkload } from "./pod-workloads.ts";
import { envoyFilterUpdates } from "./envoy-filter-status.ts";
import { rateLimitUpdates } from "./rate-limit-status.ts";
import { telemetryUpdates } from "./telemetry-status.ts";
import { requiredPolicy } from "./required-waypoint-policies.ts";
import { isOfRevision, isOwned } from "./revision.ts";
import { routeUpdates } from "./route-status.ts";
import { authenticationUpdate, policyCondition } from "./security-status.ts";
import { SelectorIndex } from "./selector-index.ts";
import { serviceHostname, type ServiceInfo } from "./services.ts";
import { sliceWorkloads } from "./slice-workloads.ts";
import { splitHorizon } from "./split-horizon.ts";
import { isDue, type StatusUpdate } from "./status.ts";
import { virtualServiceUpdates } from "./virtual-service-status.ts";
import { waypointPolicy } from "./waypoint-policies.ts";
import { WorkloadPolicies } from "./workload-policies.ts";
import type { WorkloadContext } from "./workload-base.ts";

export interface Translation {
  /** By xDS name: uid of a workload, `namespace/hostname` of a service. */
  readonly addresses: ReadonlyMap<string, Address>;
  /** By `namespace/name`. */
  readonly authorizations: ReadonlyMap<string, Authorization>;
  readonly statuses: readonly StatusUpdate[];
  /** What the configuration of waypoints is made from. */
  readonly collected: Collected;
}

export function translate(world: WorldView, options: TranslateOptions): Translation {
  const ours = <T extends { readonly meta: Meta }>(objects: readonly T[]): readonly T[] =>
    objects.filter(({ meta }) => isOfRevision(meta, options));
  const { rootNamespace, trustDomain } = world.meshConfig;
  const { network, serviceEntries, gatewayUpdates, waypoints, networkGateways, autoVips, services, servicesByName } =
    collectMesh(world, options);
  const peerAuthentications = ours(world.all("PeerAuthentication"));

  const policies = ours(world.all("AuthorizationPolicy"));
  const converted = policies
    .filter(({ targetRefs }) => targetRefs.length === 0)
    .map((policy) => ({ policy, ...convertPolicy(policy, world.meshConfig, options) }));
  const parents = namespacePolicies(peerAuthentications);
  const context: WorkloadContext = {
    world,
    options,
    network,
    networkGateways,
    waypoints,
    policies: new WorkloadPolicies({
      rootNamespace,
      policies: converted.filter(({ authorization }) => authorization !== undefined).map(({ policy }) => policy),
      peerAuthentications,
      parents,
      autoAllow: options.autoAllowWaypointPolicy,
    }),
  };

  const addresses = new Map<string, Address>();
  const remote: Workload[] = [];
  const workloads: CollectedWorkload[] = [];
  const publish = (address: Address | undefined, labels: Labels, isTerminating = false): void => {
    if (address?.type.case !== "workload") return;
    const workload = address.type.value;
    if (options.multiNetwork && workload.network !== network) remote.push(workload);
    else {
      addresses.set(workload.uid, address);
      workloads.push({ workload, labels, isTerminating });
    }
  };
  const byHostname = new Map(services.map((service) => [service.key, service]));
  const entryHosts = groupByEntry(services);

  const selectedServices = indexSelectors(services);
  const referring = collectPodReferences(world, byHostname, options);
  for (const pod of world.all("Pod")) {
    const { labels, isDeleting } = pod.meta;
    publish(podWorkload(context, pod, podServices(pod, selectedServices, referring, options)), labels, isDeleting);
  }

  const workloadEntryUpdates: StatusUpdate[] = [];
  for (const entry of ours(world.all("WorkloadEntry"))) {
    const labels = entryLabels(entry);
    const selected = selectedServices
      .matching(entry.meta.namespace, labels)
      .filter(({ source }) => source === "ServiceEntry" || options.servicesSelectWorkloadEntries);
    const { address, binding } = entryWorkload(context, entry, selected);
    publish(address, labels);
    const update = workloadEntryUpdate(entry, binding);
    if (isDue(update, entry.conditions)) workloadEntryUpdates.push(update);
  }
  for (const entry of serviceEntries) {
    const hosts = entryHosts.get(`${entry.meta.namespace}/${entry.meta.name}`) ?? [];
    for (const endpoint of entryEndpoints(entry, hosts, network)) {
      publish(entryEndpointWorkload(context, entry, endpoint), endpoint.endpoint.labels);
    }
  }
  for (const slice of world.all("EndpointSlice")) {
    const service = byHostname.get(serviceKeyOfSlice(slice.meta, options));
    if (service?.source !== "Service") continue;
    for (const workload of sliceWorkloads(context, slice, service)) publish(workload, new Map());
  }
  const beyond = splitHorizon(context, remote, services, networkGateways);
  for (const address of [
    ...networkGateways.map((gateway) => networkGatewayWorkload(gateway, world.meshConfig)),
    ...beyond.workloads,
  ]) {
    if (address.type.case === "workload") addresses.set(address.type.value.uid, address);
  }
  for (const service of services) {
    const { key, message } = service;
    const identities = beyond.identities.get(key) ?? [];
    const value =
      identities.length === 0
        ? message
        : { ...message, subjectAltNames: [...new Set([...(message.subjectAltNames ?? []), ...identities])] };
    addresses.set(key, create(AddressSchema, { type: { case: "service", value } }));
  }

  const authorizations = new Map<string, Authorization>();
  const enforce = (authorization: Authorization | undefined): void => {
    if (authorization !== undefined) {
      authorizations.set(`${authorization.namespace}/${authorization.name}`, authorization);
    }
  };
  for (const { authorization } of converted) enforce(authorization);
  for (const policy of peerAuthentications) enforce(convertPeerAuthentication(policy, parents, rootNamespace));
  if (peerAuthentications.length > 0) enforce(staticStrictPolicy(rootNamespace));
  if (options.autoAllowWaypointPolicy) {
    for (const waypoint of waypoints.all) enforce(waypointPolicy(waypoint, trustDomain));
  }
  for (const service of services) {
    if (service.requiresWaypoint) enforce(requiredPolicy(service, workloadsOf(service, addresses), trustDomain));
  }

  const hostnames = new Set(services.map(({ hostname }) => hostname));
  const collected: Collected = { world, options, network, waypoints, services, workloads };
  const statuses = options.writeStatus
    ? [
        ...converted.map(({ policy, condition }) => policyUpdate(policy, condition)),
        ...policies
          .filter(({ targetRefs }) => targetRefs.length > 0)
          .map((policy) => policyUpdate(policy, policyCondition(collected, policy, servicesByName))),
        ...ours(world.all("RequestAuthentication")).map((each) =>
          authenticationUpdate(collected, each, servicesByName),
        ),
        ...serviceUpdates(world, services),
        ...serviceEntryUpdates(world, serviceEntries, entryHosts, autoVips),
        ...workloadEntryUpdates,
        ...rateLimitUpdates(world, options, waypoints, servicesByName),
        ...telemetryUpdates(world, options, waypoints, servicesByName),
        ...envoyFilterUpdates(world, options, waypoints, servicesByName),
        ...classUpdates(world),
        ...routeUpdates({
          world,
          options,
          isOurs: (meta) => isOfRevision(meta, options),
          isTold: (meta) => isOwned(world, meta, options),
          hasHost: (hostname) => hostnames.has(hostname),
        }),
        ...backendPolicyUpdates({
          collected,
          services: servicesByName,
          isOurs: (meta) => isOfRevision(meta, options),
          isTold: (meta) => isOwned(world, meta, options),
        }),
        ...virtualServiceUpdates({ world, options, isOurs: (meta) => isOfRevision(meta, options), services }),
      ]
    : [];
  return {
    addresses,
    authorizations,
    statuses: [...statuses, ...[...gatewayUpdates.values()].filter((update) => update !== undefined)],
    collected,
  };
}

/** By labels; a service without a selector selects nothing. */
function indexSelectors(services: readonly ServiceInfo[]): SelectorIndex<ServiceInfo> {
  return new SelectorIndex(
    services.flatMap((service) => {
      const { selector, meta } = service;
      if (selector === undefined || selector.size === 0) return [];
      return [{ namespace: meta.namespace, selector, value: service }];
    }),
  );
}

/** For each pod that endpoint slices refer to: the services of those slices, and the uid that they mean. */
type PodReferences = ReadonlyMap<string, readonly { readonly uid: string; readonly service: ServiceInfo }[]>;

function collectPodReferences(
  world: WorldView,
  services: ReadonlyMap<string, ServiceInfo>,
  options: TranslateOptions,
): PodReferences {
  const references = new Map<string, { uid: string; service: ServiceInfo }[]>();
  for (const { meta, addressType, endpoints } of world.all("EndpointSlice")) {
    const service = services.get(serviceKeyOfSlice(meta, options));
    if (service?.source !== "Service" || addressType === "FQDN") continue;
    for (const { target } of endpoints) {
      // Without a uid the reference may be to a pod that is long gone.
      if (target?.kind !== "Pod" || target.uid === "") continue;
      const key = `${target.namespace}/${target.name}`;
      const known = references.get(key);
      if (known === undefined) references.set(key, [{ uid: target.uid, service }]);
      else known.push({ uid: target.uid, service });
    }
  }
  return references;
}

function serviceKeyOfSlice({ namespace, labels }: Meta, options: TranslateOptions): string {
  const name = labels.get(sliceServiceLabel);
  return name === undefined ? "" : `${namespace}/${serviceHostname(name, namespace, options)}`;
}

function podServices(
  { meta }: Pod,
  selected: SelectorIndex<ServiceInfo>,
  referring: PodReferences,
  options: TranslateOptions,
): readonly ServiceInfo[] {
  const services = selected
    .matching(meta.namespace, meta.labels)
    .filter(({ source }) => source === "Service" || options.serviceEntriesSelectPods);
  const references = referring.get(`${meta.namespace}/${meta.name}`);
  if (references === undefined) return services;
  return [...new Set([...services, ...references.filter(({ uid }) => uid === meta.uid).map(({ service }) => service)])];
}

function workloadsOf({ key }: ServiceInfo, addresses: ReadonlyMap<string, Address>): readonly Workload[] {
  return [...addresses.values()].flatMap(({ type }) =>
    type.case === "workload" && Object.hasOwn(type.value.services, key) ? [type.value] : [],
  );
}

function serviceUpdates(world: WorldView, services: readonly ServiceInfo[]): readonly StatusUpdate[] {
  return services
    .filter(({ source }) => source === "Service")
    .map((service) => serviceUpdate(world, service))
    .filter((update) => isDue(update, world.get("Service", update.namespace, update.name)?.conditions ?? []));
}

function serviceEntryUpdates(
  world: WorldView,
  entries: readonly ServiceEntry[],
  hosts: ReadonlyMap<string, readonly ServiceInfo[]>,
  autoVips: AutoVips,
): readonly StatusUpdate[] {
  return entries.flatMap((entry) => {
    const key = `${entry.meta.namespace}/${entry.meta.name}`;
    const update = serviceEntryUpdate(world, entry, hosts.get(key) ?? [], autoVips.get(key));
    return isDue(update, entry.conditions) ? [update] : [];
  });
}
