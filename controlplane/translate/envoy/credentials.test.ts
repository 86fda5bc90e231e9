import { join } from "node:path";
import { expect, test } from "@jest/globals";
import type { ClientTls } from "#controlplane/mesh/destination-rule.ts";
import { readDestinationRule } from "#controlplane/mesh/destination-rule.ts";
import { Field } from "#controlplane/mesh/field.ts";
import { contextOf, objectsIn } from "./golden-cases.ts";
import { credentialsFor } from "./credentials.ts";

const world = [
  { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } },
  {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: { name: "waypoint", namespace: "shop" },
    spec: { gatewayClassName: "istio-waypoint", listeners: [{ name: "mesh", port: 15008, protocol: "HBONE" }] },
    status: { addresses: [{ type: "IPAddress", value: "10.96.0.100" }] },
  },
];

const tlsOf = (tls: object): ClientTls => {
  const read = readDestinationRule(new Field({ host: "a", trafficPolicy: { tls } })).policy?.tls;
  if (read === undefined) throw new TypeError("no TLS");
  return read;
};

const systemFile = { specifier: { case: "filename", value: "/etc/ssl/certs/ca-certificates.crt" } };

// `system_root_certs` leaves Envoy without any roots: it would trust everybody.
test.each([
  [{ mode: "SIMPLE" }, false, undefined],
  [{ mode: "SIMPLE" }, true, systemFile],
  [{ mode: "SIMPLE", caCertificates: "system" }, true, systemFile],
  [{ mode: "SIMPLE", caCertificates: "/ca.pem" }, true, { specifier: { case: "filename", value: "/ca.pem" } }],
])("who is trusted: %j, by Envoy %s", (tls, isEnvoy, trusted) => {
  const context = contextOf(world);
  const credentials = credentialsFor({ ...context, proxy: { ...context.proxy, isEnvoy } }, tlsOf(tls));
  expect(credentials).toMatchObject({ trusted });
});

const pem = objectsIn(join(import.meta.dirname, "../testdata/envoy"), "backend-policies").find(
  ({ kind }) => kind === "ConfigMap",
);
const inMap = { ...pem, metadata: { name: "ca", namespace: "shop" } };

// prettier-ignore
test.each<[string, string, string, unknown]>([ // credentialName, mode, namespace of the rule, what comes of it
  ["configmap://ca", "SIMPLE", "shop", { trusted: { specifier: { case: "inlineBytes" } }, certificate: undefined }],
  ["configmap://shop/ca", "SIMPLE", "other", { trusted: { specifier: { case: "inlineBytes" } } }],
  ["configmap://ca", "SIMPLE", "other", 'ConfigMap "other/ca" was not found'],
  ["configmap://ca", "MUTUAL", "shop", expect.stringContaining("holds no key for mode MUTUAL")],
])("%s, mode %s, in a rule of namespace %s", (credentialName, mode, namespace, expected) => {
  const found = credentialsFor(contextOf([...world, inMap]), tlsOf({ mode, credentialName }), namespace);
  expect({ found }).toMatchObject({ found: expected });
});
