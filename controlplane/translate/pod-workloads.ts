/** Pods as workloads, in the mesh or not. */
import { NetworkMode, WorkloadStatus, WorkloadType, type Address } from "#shared/proto/gen/workload/workload_pb.js";
import type { Pod } from "#controlplane/mesh/objects.ts";
import { addressBytes } from "./address-bytes.ts";
import { regionLabel, subzoneLabel, workloadNameLabel, zoneLabel } from "./annotations.ts";
import { podPorts } from "./service-ports.ts";
import type { ServiceInfo } from "./services.ts";
import {
  canonical,
  common,
  placement,
  servicesMap,
  tunnel,
  workloadAddress,
  type WorkloadContext,
  type WorkloadInit,
} from "./workload-base.ts";

/** undefined where the pod is finished or has no address that can be read. */
export function podWorkload(context: WorkloadContext, pod: Pod, services: readonly ServiceInfo[]): Address | undefined {
  const { meta } = pod;
  if (pod.phase === "Succeeded" || pod.phase === "Failed" || pod.ips.length === 0) return undefined;
  const addresses = pod.ips.map(addressBytes).filter((address) => address !== undefined);
  if (addresses.length < pod.ips.length) return undefined;
  const name = workloadName(pod);
  const place = placement(context, meta);
  return workloadAddress({
    ...common(context, context.network),
    ...canonical(meta.labels, name),
    ...tunnel(meta.labels, meta.annotations),
    uid: `${context.options.clusterId}//Pod/${meta.namespace}/${meta.name}`,
    name: meta.name,
    namespace: meta.namespace,
    addresses,
    serviceAccount: pod.serviceAccount,
    node: pod.node,
    workloadName: name,
    workloadType: WorkloadType.POD,
    status: pod.isReady && !meta.isDeleting ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
    networkMode: pod.hostNetwork ? NetworkMode.HOST_NETWORK : NetworkMode.STANDARD,
    services: servicesMap(services, (service) => podPorts(service, pod.ports)),
    ...nodeLocality(context, pod),
    ...place.fields,
    authorizationPolicies: context.policies.forWorkload({
      namespace: meta.namespace,
      labels: meta.labels,
      binding: place.binding,
      services,
    }),
  });
}

function nodeLocality({ world }: WorkloadContext, { node }: Pod): Pick<WorkloadInit, "locality"> {
  const labels = world.get("Node", "", node)?.meta.labels;
  const [region = "", zone = "", subzone = ""] = [regionLabel, zoneLabel, subzoneLabel].map((key) => labels?.get(key));
  return region === "" && zone === "" && subzone === "" ? {} : { locality: { region, zone, subzone } };
}

/** The name of what made the pod, as people know it. */
export function workloadName({ meta }: Pod): string {
  const label = meta.labels.get(workloadNameLabel);
  if (label !== undefined && label !== "") return label;
  const owner = meta.owners.find(({ isController }) => isController);
  if (meta.generateName === "" || owner === undefined) return meta.name;
  switch (owner.kind) {
    case "ReplicaSet": {
      // A Deployment's ReplicaSet, or that of an Argo Rollout.
      for (const key of ["pod-template-hash", "rollouts-pod-template-hash"]) {
        const suffix = `-${meta.labels.get(key) ?? ""}`;
        if (suffix !== "-" && owner.name.endsWith(suffix)) return owner.name.slice(0, -suffix.length);
      }
      return owner.name;
    }
    case "ReplicationController":
      return meta.labels.get("deploymentconfig") || owner.name;
    case "Job":
      // A CronJob's Job ends in the minute that it was due.
      return /^(.+)-\d{8,10}$/.exec(owner.name)?.[1] ?? owner.name;
    default:
      return owner.name;
  }
}
