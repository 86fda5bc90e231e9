/** Istio's labels of TCP metrics: names, order and value rules. */
import type { ConnectionFacts, ConnectionFlag, PeerDescription } from "./connection-record.ts";
import type { Workload } from "#shared/workload/workload.ts";

export const trafficLabels = [
  "reporter",
  "source_workload",
  "source_canonical_service",
  "source_canonical_revision",
  "source_workload_namespace",
  "source_principal",
  "source_app",
  "source_version",
  "source_cluster",
  "destination_service",
  "destination_service_namespace",
  "destination_service_name",
  "destination_workload",
  "destination_canonical_service",
  "destination_canonical_revision",
  "destination_workload_namespace",
  "destination_principal",
  "destination_app",
  "destination_version",
  "destination_cluster",
  "request_protocol",
  "response_flags",
  "connection_security_policy",
  "source_region",
  "source_zone",
  "destination_region",
  "destination_zone",
] as const;

/** One end of a connection as metrics and logs show it. */
export interface End {
  readonly workload: string;
  readonly canonicalService: string;
  readonly revision: string;
  readonly namespace: string;
  readonly app: string;
  readonly cluster: string;
  readonly region: string;
  readonly zone: string;
}

const unknownEnd: End = {
  workload: "",
  canonicalService: "",
  revision: "",
  namespace: "",
  app: "",
  cluster: "",
  region: "",
  zone: "",
};

const endOfWorkload = (workload: Workload): End => ({
  workload: workload.workloadName,
  canonicalService: workload.canonicalName,
  revision: workload.canonicalRevision,
  namespace: workload.namespace,
  app: workload.canonicalName,
  cluster: workload.clusterId,
  region: workload.locality.region,
  zone: workload.locality.zone,
});

const endOfDescription = (description: PeerDescription): End => ({
  workload: description.workloadName ?? "",
  canonicalService: description.serviceName ?? "",
  revision: description.revision ?? "",
  namespace: description.namespace ?? "",
  app: description.workloadName ?? "",
  cluster: description.clusterId ?? "",
  region: description.region ?? "",
  zone: description.zone ?? "",
});

/** What the control plane says of a source beats what the source says of itself. */
export const sourceEnd = ({ source, sourceDescription }: ConnectionFacts): End =>
  source ? endOfWorkload(source) : sourceDescription ? endOfDescription(sourceDescription) : unknownEnd;

/** Behind a gateway only the inner peer knows who it is, so its word beats the gateway's workload. */
export const destinationEnd = ({ destination, destinationDescription }: ConnectionFacts): End =>
  destinationDescription
    ? endOfDescription(destinationDescription)
    : destination
      ? endOfWorkload(destination)
      : unknownEnd;

/**
 * Label values in the order of {@link trafficLabels}; "" reads as `unknown`. Localities are left out where neither end
 * is known, as Istio's ztunnel does.
 */
export function trafficValues(facts: ConnectionFacts, flag: ConnectionFlag): readonly string[] {
  const source = sourceEnd(facts);
  const destination = destinationEnd(facts);
  const { service } = facts;
  const values = [
    facts.reporter,
    source.workload,
    source.canonicalService,
    source.revision,
    source.namespace,
    facts.sourceIdentity ?? "",
    source.app,
    source.revision,
    source.cluster,
    service?.hostname ?? "",
    service?.namespace ?? "",
    service?.name ?? "",
    destination.workload,
    destination.canonicalService,
    destination.revision,
    destination.namespace,
    facts.destinationIdentity ?? (facts.destinationDescription ? "" : (facts.destination?.identity ?? "")),
    destination.app,
    destination.revision,
    destination.cluster,
    "tcp",
    flag,
    facts.mutualTls ? "mutual_tls" : "unknown",
  ];
  if (source !== unknownEnd || destination !== unknownEnd) {
    values.push(source.region, source.zone, destination.region, destination.zone);
  }
  return values;
}
