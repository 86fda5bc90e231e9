/** Hosts and workloads that Kubernetes does not know. */
import type { Field } from "./field.ts";
import type { Endpoint, ServiceEntry, WorkloadEntry } from "./objects.ts";
import { readConditions, readMeta } from "./read-meta.ts";

function readEndpoint(spec: Field): Endpoint {
  return {
    address: spec.at("address").text(),
    ports: new Map(
      spec
        .at("ports")
        .entries()
        .map(([name, port]) => [name, port.port()]),
    ),
    labels: spec.at("labels").textMap(),
    network: spec.at("network").text(),
    locality: spec.at("locality").text(),
    weight: spec.at("weight").uint32(),
    serviceAccount: spec.at("serviceAccount").text(),
  };
}

export function readWorkloadEntry(object: Field): WorkloadEntry {
  return { meta: readMeta(object), endpoint: readEndpoint(object.at("spec")), conditions: readConditions(object) };
}

export function readServiceEntry(object: Field): ServiceEntry {
  const spec = object.at("spec");
  const selector = spec.at("workloadSelector");
  return {
    meta: readMeta(object),
    hosts: spec.at("hosts").texts(),
    addresses: spec.at("addresses").texts(),
    ports: spec
      .at("ports")
      .list()
      .map((port) => ({
        name: port.at("name").text(),
        port: port.at("number").port(),
        protocol: port.at("protocol").text(),
        targetPort: port.at("targetPort").port(),
      })),
    resolution: spec.at("resolution").text("NONE"),
    location: spec.at("location").text("MESH_EXTERNAL"),
    endpoints: spec.at("endpoints").list().map(readEndpoint),
    workloadSelector: selector.isPresent ? selector.at("labels").textMap() : undefined,
    exportTo: spec.at("exportTo").texts(),
    subjectAltNames: spec.at("subjectAltNames").texts(),
    allocated: object
      .at("status")
      .at("addresses")
      .list()
      .map((address) => ({ host: address.at("host").text(), value: address.at("value").text() })),
    conditions: readConditions(object),
  };
}
