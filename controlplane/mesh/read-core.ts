/** Kubernetes' own kinds. */
import type { Field } from "./field.ts";
import type { ConfigMap, EndpointSlice, Pod, Secret, Service, SliceEndpoint } from "./objects.ts";
import { readConditions, readMeta } from "./read-meta.ts";

export function readPod(object: Field): Pod {
  const spec = object.at("spec");
  const status = object.at("status");
  // An init container with restartPolicy Always is a sidecar: it runs as long as the pod.
  const sidecars = spec
    .at("initContainers")
    .list()
    .filter((container) => container.at("restartPolicy").text() === "Always");
  const ips = status.at("podIPs").list();
  const ip = status.at("podIP").text();
  return {
    meta: readMeta(object),
    node: spec.at("nodeName").text(),
    serviceAccount: spec.at("serviceAccountName").text(),
    hostNetwork: spec.at("hostNetwork").flag(),
    ports: [...spec.at("containers").list(), ...sidecars].flatMap((container) =>
      container
        .at("ports")
        .list()
        .map((port) => ({
          name: port.at("name").text(),
          port: port.at("containerPort").port(),
          protocol: port.at("protocol").text("TCP"),
        })),
    ),
    phase: status.at("phase").text(),
    ips: ips.length > 0 ? ips.map((each) => each.at("ip").text()) : ip === "" ? [] : [ip],
    isReady: readConditions(object).some(({ type, status: value }) => type === "Ready" && value === "True"),
  };
}

export function readService(object: Field): Service {
  const spec = object.at("spec");
  const clusterIps = spec.at("clusterIPs").texts();
  const clusterIp = spec.at("clusterIP").text();
  return {
    meta: readMeta(object),
    type: spec.at("type").text("ClusterIP"),
    selector: spec.at("selector").textMap(),
    clusterIps: clusterIps.length > 0 || clusterIp === "" ? clusterIps : [clusterIp],
    ipFamilies: spec.at("ipFamilies").texts(),
    ports: spec
      .at("ports")
      .list()
      .map((port) => ({
        name: port.at("name").text(),
        port: port.at("port").port(),
        protocol: port.at("protocol").text("TCP"),
        appProtocol: port.at("appProtocol").optionalText(),
        targetPort: port.at("targetPort").portOrName(),
      })),
    internalTrafficPolicy: spec.at("internalTrafficPolicy").text(),
    trafficDistribution: spec.at("trafficDistribution").text(),
    publishNotReadyAddresses: spec.at("publishNotReadyAddresses").flag(),
    externalAddresses: [
      ...spec.at("externalIPs").texts(),
      ...object
        .at("status")
        .at("loadBalancer")
        .at("ingress")
        .list()
        .map((ingress) => ingress.at("ip").text() || ingress.at("hostname").text())
        .filter((address) => address !== ""),
    ],
    conditions: readConditions(object),
  };
}

export function readEndpointSlice(object: Field): EndpointSlice {
  return {
    meta: readMeta(object),
    addressType: object.at("addressType").text(),
    endpoints: object.at("endpoints").list().map(readSliceEndpoint),
    ports: object
      .at("ports")
      .list()
      .map((port) => ({
        name: port.at("name").text(),
        port: port.at("port").isPresent ? port.at("port").port() : undefined,
        protocol: port.at("protocol").text("TCP"),
      })),
  };
}

function readSliceEndpoint(endpoint: Field): SliceEndpoint {
  const target = endpoint.at("targetRef");
  return {
    addresses: endpoint.at("addresses").texts(),
    isReady: endpoint.at("conditions").at("ready").optionalFlag(),
    target: target.isPresent
      ? {
          kind: target.at("kind").text(),
          namespace: target.at("namespace").text(),
          name: target.at("name").text(),
          uid: target.at("uid").text(),
        }
      : undefined,
  };
}

/** Nothing else of a Secret is kept. */
const secretKeys = ["tls.crt", "tls.key", "ca.crt", "ca.crl", "cert", "key", "cacert"];

export function readSecret(object: Field): Secret {
  const data = object.at("data");
  const plain = object.at("stringData");
  const values = secretKeys.flatMap((key): [string, Uint8Array][] => {
    const text = plain.at(key).optionalText();
    if (text !== undefined) return [[key, Buffer.from(text)]];
    const encoded = data.at(key).optionalText();
    return encoded === undefined ? [] : [[key, Buffer.from(encoded, "base64")]];
  });
  return { meta: readMeta(object), data: new Map(values) };
}

export const readConfigMap = (object: Field): ConfigMap => ({
  meta: readMeta(object),
  authorities: object.at("data").at("ca.crt").optionalText(),
});
