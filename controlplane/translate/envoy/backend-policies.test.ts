/** Backend policies where something is missing, and what of them only shows in bytes. */
import { describe, expect, test } from "@jest/globals";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { ClusterSchema, type Cluster } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { contextOf, objectsIn } from "./golden-cases.ts";
import { envoyResources } from "./resources.ts";

const folder = `${import.meta.dirname}/../testdata/envoy`;
const world = objectsIn(folder, "backend-policies") as readonly Changeable[];

interface Changeable {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly [field: string]: unknown;
}

const served = (objects: readonly object[]) =>
  envoyResources(contextOf(objects as readonly KubeObject[], { waypoint: "wp", node: "near", ip: "10.1.0.9" }));

const changed = (kind: string, name: string, change: (object: Changeable) => readonly object[]): readonly object[] =>
  world.flatMap((each) => (each.kind === kind && each.metadata.name === name ? change(each) : [each]));

const clusterOf = (clusters: readonly Cluster[], name: string): Cluster => {
  const found = clusters.find((each) => each.name === name);
  if (found === undefined) throw new TypeError(`no cluster ${name}`);
  return found;
};

const policy = (more: object) => ({
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "BackendTLSPolicy",
  metadata: { name: "whole", namespace: "shop" },
  spec: {
    targetRefs: [{ group: "", kind: "Service", name: "a" }],
    validation: { hostname: "inner.example.com", ...more },
  },
});

const path = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/backend-tls-policy/whole";
const ref = (name: string, kind = "ConfigMap") => ({ group: "", kind, name });
const withText = (text: string | undefined) => (object: Changeable) => [
  { ...object, data: text === undefined ? { other: "x" } : { "ca.crt": text } },
];

// prettier-ignore
const unusable: readonly (readonly [string, readonly object[], string])[] = [
  ["no such ConfigMap",             changed("ConfigMap", "authority", () => []),                                          'ConfigMap "shop/authority" was not found'],
  ["no entry ca.crt",               changed("ConfigMap", "authority", withText(undefined)),                               'ConfigMap "shop/authority" has no entry ca.crt'],
  ["no certificate in it",          changed("ConfigMap", "authority", withText("hello")),                                 'ConfigMap "shop/authority" has no certificate in PEM form in its entry ca.crt'],
  ["a certificate that is none",    changed("ConfigMap", "authority", withText("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n")), 'ConfigMap "shop/authority" has a certificate in its entry ca.crt that cannot be read, the 1st'],
  ["a Secret",                      changed("BackendTLSPolicy", "whole", () => [policy({ caCertificateRefs: [ref("authority", "Secret")] })]), 'Secret "authority" of the core group is not read for certificates: write a ConfigMap'],
  ["authorities known elsewhere",   changed("BackendTLSPolicy", "whole", () => [policy({ wellKnownCACertificates: "example.com/Known" })]), '"example.com/Known" is not known here'],
];

test.each(unusable)("%s: nothing is sent, and never without TLS", (_what, objects, why) => {
  const { clusters, problems } = served(objects);
  const cluster = clusterOf(clusters, "inbound-vip|80|http|a.shop.svc.cluster.local");
  expect(cluster.clusterDiscoveryType).toMatchObject({ case: "type", value: 0 });
  expect(cluster.loadAssignment?.endpoints).toEqual([]);
  expect(problems).toContain(`${path}: ${why}`);
});

test("of several references those that lead somewhere are trusted", () => {
  const objects = changed("BackendTLSPolicy", "whole", () => [
    policy({ caCertificateRefs: [ref("nowhere"), ref("authority")] }),
  ]);
  const { clusters, problems } = served(objects);
  expect(problems).toEqual([]);
  expect(clusterOf(clusters, "inbound-vip|80|http|a.shop.svc.cluster.local").transportSocket).toBeDefined();
});

test("the text of a ConfigMap is sent as certificates and nothing else", () => {
  const { clusters } = served(world);
  const bytes = Buffer.from(
    toBinary(ClusterSchema, clusterOf(clusters, "inbound-vip|80|http|a.shop.svc.cluster.local")),
  );
  expect(bytes.includes("-----BEGIN CERTIFICATE-----")).toBe(true);
  expect(bytes.includes("of the shop")).toBe(false);
});

describe("the interval of a retry budget", () => {
  /** Field 3 of the budget as it goes over the wire, in seconds. */
  function intervalOf(name: string): number | undefined {
    const cluster = fromBinary(ClusterSchema, toBinary(ClusterSchema, clusterOf(served(world).clusters, name)));
    const unknown = cluster.circuitBreakers?.thresholds[0]?.retryBudget?.$unknown?.find(({ no }) => no === 3);
    return unknown && Number(fromBinary(DurationSchema, new BinaryReader(unknown.data).bytes()).seconds);
  }

  test.each([
    ["inbound-vip|80|http|a.shop.svc.cluster.local", 60],
    ["inbound-vip|82|http|ruled.shop.svc.cluster.local", 5],
    ["inbound-vip|80|http|api.example.com", undefined],
  ])("%s: %j s", (name, seconds) => {
    expect(intervalOf(name)).toBe(seconds);
  });
});
