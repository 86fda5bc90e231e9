/** Who is at the two ends of what passes here, as the mesh knows them: for labels and logs, never for decisions. */
import type { Workload } from "#shared/workload/workload.ts";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import type { Host } from "#waypoint/upstream/host.ts";

/** Empty where nothing is known. */
export interface Peer {
  readonly workload: string;
  readonly namespace: string;
  readonly service: string;
  readonly revision: string;
  readonly app: string;
  readonly version: string;
  readonly cluster: string;
  readonly principal: string;
  /** Of the instance. */
  readonly name: string;
  /** deployment, pod, job, … */
  readonly type: string;
}

export interface Peers {
  source(connection: DownstreamConnection): Peer;
  destination(host: Host | undefined): Peer;
}

export const unknownPeer: Peer = {
  workload: "",
  namespace: "",
  service: "",
  revision: "",
  app: "",
  version: "",
  cluster: "",
  principal: "",
  name: "",
  type: "",
};

export class WorkloadPeers implements Peers {
  readonly #workloadAt: (ip: string) => Workload | undefined;

  constructor(workloadAt: (ip: string) => Workload | undefined) {
    this.#workloadAt = workloadAt;
  }

  source({ source, peerPrincipal = "" }: DownstreamConnection): Peer {
    const workload = this.#workloadAt(source.ip);
    return workload === undefined ? { ...unknownPeer, principal: peerPrincipal } : peerOf(workload, peerPrincipal);
  }

  destination(host: Host | undefined): Peer {
    if (host === undefined) return unknownPeer;
    const { address, metadata } = host;
    const workload = this.#workloadAt(address.ip);
    // Only tunnels prove who is at their end.
    const principal = address.kind === "hbone" ? (workload?.identity ?? "") : "";
    if (workload !== undefined) return peerOf(workload, principal);
    const described = metadata.get("istio")?.["workload"];
    return typeof described === "string" ? describedPeer(described) : unknownPeer;
  }
}

const peerOf = (workload: Workload, principal: string): Peer => ({
  workload: workload.workloadName,
  namespace: workload.namespace,
  service: workload.canonicalName,
  revision: workload.canonicalRevision,
  app: workload.canonicalName,
  version: workload.canonicalRevision,
  cluster: workload.clusterId,
  principal,
  name: workload.name,
  type: workload.workloadType,
});

/** `workload;namespace;canonical service;canonical revision;cluster`, as control planes describe endpoints. */
function describedPeer(text: string): Peer {
  const [workload = "", namespace = "", service = "", revision = "", cluster = ""] = text.split(";");
  return { ...unknownPeer, workload, namespace, service, revision, app: service, version: revision, cluster };
}
