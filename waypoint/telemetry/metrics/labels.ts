/** Labels of Istio's metrics: names, order and rules for their values. */
import type { Peer } from "#waypoint/telemetry/peers.ts";
import type { Labels } from "./labelled-family.ts";

/** The service that was addressed, by what its cluster says of itself. */
export interface AddressedService {
  readonly host: string;
  readonly name: string;
  readonly namespace: string;
}

export const unknownService: AddressedService = { host: "", name: "", namespace: "" };

/** What a cluster's metadata says (`istio.services`). */
export function serviceOf(metadata: ReadonlyMap<string, unknown> | undefined): AddressedService {
  const istio = metadata?.get("istio") as { readonly services?: unknown } | undefined;
  const [first] = Array.isArray(istio?.services) ? (istio.services as unknown[]) : [];
  if (typeof first !== "object" || first === null) return unknownService;
  const { host, name, namespace } = first as Readonly<Record<string, unknown>>;
  return { host: text(host), name: text(name), namespace: text(namespace) };
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** Everything that tells one series from another. */
export interface SeriesFacts {
  readonly source: Peer;
  readonly destination: Peer;
  readonly service: AddressedService;
  readonly protocol: "http" | "grpc" | "tcp";
  readonly flags: string;
  readonly isMutualTls: boolean;
  /** Undefined for TCP. */
  readonly answer: { readonly code: string; readonly grpcStatus: string } | undefined;
}

const known = (value: string): string => (value === "" ? "unknown" : value);

export function labelsOf(facts: SeriesFacts): Labels {
  const { source, destination, service, answer } = facts;
  return [
    ["reporter", "waypoint"],
    ["source_workload", known(source.workload)],
    ["source_canonical_service", known(source.service)],
    ["source_canonical_revision", known(source.revision)],
    ["source_workload_namespace", known(source.namespace)],
    ["source_principal", known(source.principal)],
    ["source_app", known(source.app)],
    ["source_version", known(source.version)],
    ["source_cluster", known(source.cluster)],
    ["destination_workload", known(destination.workload)],
    ["destination_workload_namespace", known(destination.namespace)],
    ["destination_principal", known(destination.principal)],
    ["destination_app", known(destination.app)],
    ["destination_version", known(destination.version)],
    ["destination_service", known(service.host)],
    ["destination_canonical_service", known(destination.service)],
    ["destination_canonical_revision", known(destination.revision)],
    ["destination_service_name", known(service.name)],
    ["destination_service_namespace", known(service.namespace)],
    ["destination_cluster", known(destination.cluster)],
    ["request_protocol", facts.protocol],
    ...answerLabels(answer),
    ["response_flags", facts.flags],
    ["connection_security_policy", facts.isMutualTls ? "mutual_tls" : "none"],
  ];
}

const answerLabels = (answer: SeriesFacts["answer"]): Labels =>
  answer === undefined
    ? []
    : [
        ["response_code", answer.code],
        ["grpc_response_status", answer.grpcStatus],
      ];
