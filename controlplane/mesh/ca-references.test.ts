import { expect, test } from "@jest/globals";
import { parse } from "yaml";
import type { KubeObject } from "./objects.ts";
import { namedConfigMaps } from "./ca-references.ts";

const tls = (text: string): KubeObject => ({
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "BackendTLSPolicy",
  metadata: { name: "x", namespace: "shop" },
  spec: { targetRefs: [], validation: parse(text) as unknown },
});
const rule = (text: string): KubeObject => ({
  apiVersion: "networking.istio.io/v1",
  kind: "DestinationRule",
  metadata: { name: "x", namespace: "shop" },
  spec: { host: "a", ...(parse(text) as object) },
});

// prettier-ignore
test.each<[KubeObject, readonly string[]]>([
  [tls("{hostname: a, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}, {group: '', kind: Secret, name: s}]}"), ["shop/ca"]],
  [tls("{hostname: a, wellKnownCACertificates: System}"),                                                                ["none"]],
  [tls("{hostname: 7}"),                                                                                                 ["none"]],
  [rule("{trafficPolicy: {tls: {mode: SIMPLE, credentialName: 'configmap://ca'}}}"),                                     ["shop/ca"]],
  [rule("{trafficPolicy: {tls: {mode: SIMPLE, credentialName: ca}}}"),                                                   ["none"]],
  [rule("{trafficPolicy: {portLevelSettings: [{port: {number: 1}, tls: {credentialName: 'configmap://shop/a'}}]}}"),     ["shop/a"]],
  [rule("{subsets: [{name: v1, trafficPolicy: {tls: {credentialName: 'configmap://b'}}}]}"),                             ["shop/b"]],
  [{ apiVersion: "v1", kind: "Service", metadata: { name: "x" } },                                                       ["none"]],
])("%#: %j", (object, expected) => {
  const found = namedConfigMaps(object).map(({ namespace, name }) => `${namespace}/${name}`);
  expect(found.length === 0 ? ["none"] : found).toEqual(expected);
});
