import { describe, expect, test } from "@jest/globals";
import { decode, encode, type Packet } from "dns-packet";
import type { EndpointSlice, Service } from "../kinds.ts";
import { resolveName, type ClusterObjects } from "./cluster-names.ts";
import { answerMessage } from "./dns-server.ts";

const metadata = (name: string, labels = {}) => ({
  name,
  namespace: "shop",
  uid: name,
  resourceVersion: "1",
  creationTimestamp: "",
  labels,
});
const service = (name: string, spec: Service["spec"]): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: metadata(name),
  spec,
});

const services = [
  service("web", {
    clusterIP: "10.96.1.1",
    clusterIPs: ["10.96.1.1", "fd00:10:96::101"],
    ports: [{ name: "http", port: 80 }],
  }),
  service("db", { clusterIP: "None", clusterIPs: ["None"], ports: [{ name: "sql", port: 5432 }] }),
  service("idle", { clusterIP: "None", clusterIPs: ["None"] }),
  service("alias", { type: "ExternalName", externalName: "web.shop.svc.cluster.local" }),
  service("away", { type: "ExternalName", externalName: "example.org" }),
  service("loop", { type: "ExternalName", externalName: "loop.shop.svc.cluster.local" }),
];
const slices: EndpointSlice[] = [
  {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: metadata("db-1", { "kubernetes.io/service-name": "db" }),
    addressType: "IPv4",
    ports: [{ name: "sql", port: 5432, protocol: "TCP" }],
    endpoints: [
      { addresses: ["10.244.1.2"], hostname: "db-0" },
      { addresses: ["10.244.2.2"] },
      { addresses: ["10.244.2.3"], conditions: { ready: false } },
    ],
  },
];
const objects: ClusterObjects = {
  service: (namespace, name) => services.find(({ metadata: { name: own } }) => own === name && namespace === "shop"),
  slicesOf: (_, name) => slices.filter((slice) => slice.metadata.labels?.["kubernetes.io/service-name"] === name),
  hasNamespace: (name) => name === "shop",
  findServiceByIp: (ip) => services.find(({ spec }) => spec.clusterIPs?.includes(ip)),
  findEndpointByIp: (ip) => (ip === "10.244.1.2" ? { namespace: "shop", service: "db", host: "db-0" } : undefined),
};

const long = "svc.cluster.local";

// prettier-ignore
test.each([ // name                               type    kind        data                                             why
  [`web.shop.${long}`,                            "A",    "found",    ["10.96.1.1"],                                   "a service's address"],
  [`WEB.Shop.${long}`,                            "A",    "found",    ["10.96.1.1"],                                   "case does not matter"],
  [`web.shop.${long}`,                            "AAAA", "found",    ["fd00:10:96::101"],                             "the other family"],
  [`web.shop.${long}`,                            "TXT",  "found",    [],                                              "the name exists, this type does not"],
  [`absent.shop.${long}`,                         "A",    "no-name",  [],                                              "no such service"],
  [`web.other.${long}`,                           "A",    "no-name",  [],                                              "no such namespace"],
  [`shop.${long}`,                                "A",    "found",    [],                                              "a namespace is a name without addresses"],
  [`db.shop.${long}`,                             "A",    "found",    ["10.244.1.2", "10.244.2.2"],                    "headless: every ready pod"],
  [`db-0.db.shop.${long}`,                        "A",    "found",    ["10.244.1.2"],                                  "one pod by its host name"],
  [`10-244-2-2.db.shop.${long}`,                  "A",    "found",    ["10.244.2.2"],                                  "one pod by its address"],
  [`db-9.db.shop.${long}`,                        "A",    "no-name",  [],                                              "no such pod"],
  [`x.web.shop.${long}`,                          "A",    "no-name",  [],                                              "only headless services have pods' names"],
  [`idle.shop.${long}`,                           "A",    "no-name",  [],                                              "headless without endpoints"],
  [`alias.shop.${long}`,                          "A",    "found",    [`web.shop.${long}`, "10.96.1.1"],               "an alias inside is followed"],
  [`away.shop.${long}`,                           "A",    "found",    ["example.org"],                                 "an alias outside is named"],
  [`loop.shop.${long}`,                           "A",    "found",    Array(8).fill(`loop.shop.${long}`),              "a circle ends"],
  [`10-244-7-7.shop.pod.cluster.local`,           "A",    "found",    ["10.244.7.7"],                                  "a pod by its address"],
  [`10-244-777-7.shop.pod.cluster.local`,         "A",    "no-name",  [],                                              "no address"],
  ["1.1.96.10.in-addr.arpa",                      "PTR",  "found",    [`web.shop.${long}`],                            "back to the service"],
  ["2.1.244.10.in-addr.arpa",                     "PTR",  "found",    [`db-0.db.shop.${long}`],                        "back to the pod"],
  ["9.9.9.9.in-addr.arpa",                        "PTR",  "no-name",  [],                                              "nobody's"],
  ["example.org",                                 "A",    "outside",  [],                                              "another world"],
  ["web.shop.svc.cluster.local.shop.svc.cluster.local", "A", "no-name", [],                                            "what a search list makes of a full name"],
  ["nonsense.cluster.local",                      "A",    "no-name",  [],                                              "neither svc nor pod"],
])("%s %s is %s %j: %s", (name, type, kind, data) => {
  const resolution = resolveName(name, type, objects);
  expect(resolution.kind).toBe(kind);
  expect(resolution.answers.map((answer) => answer.data)).toEqual(data);
});

test("SRV names each pod of a headless service and brings its address along", () => {
  const { answers, additionals } = resolveName(`_sql._tcp.db.shop.${long}`, "SRV", objects);
  expect(answers.map(({ data }) => data)).toEqual([
    { priority: 0, weight: 50, port: 5432, target: `db-0.db.shop.${long}` },
    { priority: 0, weight: 50, port: 5432, target: `10-244-2-2.db.shop.${long}` },
  ]);
  expect(additionals.map(({ data }) => data)).toEqual(["10.244.1.2", "10.244.2.2"]);
});

describe("answerMessage", () => {
  const ask = (name: string, type: "A" | "SRV" = "A") =>
    encode({ type: "query", id: 7, flags: 0x0100, questions: [{ name, type }] });
  const read = (message: Uint8Array, maxBytes = 1232) =>
    decode(answerMessage(message, objects, maxBytes) ?? Buffer.alloc(0)) as Packet & {
      rcode?: string;
      flag_tc?: boolean;
      flag_aa?: boolean;
    };

  test("answers with the question's id, and its own authority", () => {
    const answer = read(ask(`web.shop.${long}`));
    expect([answer.id, answer.rcode, answer.flag_aa, answer.answers?.length]).toEqual([7, "NOERROR", true, 1]);
  });

  test("a name that does not exist is NXDOMAIN with the time to remember that", () => {
    const answer = read(ask("absent.example"));
    expect(answer.rcode).toBe("NXDOMAIN");
    expect(answer.authorities?.[0]?.type).toBe("SOA");
  });

  test("a UDP answer that is too long is cut, so that the asker comes by TCP", () => {
    const many = {
      ...objects,
      slicesOf: () => [
        {
          ...slices[0],
          endpoints: Array.from({ length: 60 }, (_, at) => ({ addresses: [`10.244.3.${at}`] })),
        } as EndpointSlice,
      ],
    };
    const message = ask(`db.shop.${long}`);
    const byUdp = decode(answerMessage(message, many, 1232) ?? Buffer.alloc(0)) as Packet & { flag_tc?: boolean };
    const byTcp = decode(answerMessage(message, many, 65_535) ?? Buffer.alloc(0));
    expect([byUdp.flag_tc, byUdp.answers?.length, byTcp.answers?.length]).toEqual([true, 0, 60]);
  });

  // prettier-ignore
  test.each([ // message                                                     answer               why
    [Buffer.alloc(3),                                                        undefined,           "not even an id"],
    [Buffer.from("0007010000ff00000000000005", "hex"),                       "FORMERR",           "more questions than octets"],
    [encode({ type: "response", id: 7 }),                                    undefined,           "answers are not answered"],
    [Buffer.concat([Buffer.from([0, 7, 1, 0, 0, 1]), Buffer.alloc(6), Buffer.from([0xc0, 0x0c, 0, 1, 0, 1])]), "FORMERR", "a name that points at itself"],
  ])("%j is answered with %s: %s", (message: Uint8Array, expected: string | undefined, _why: string) => {
    const answer = answerMessage(message, objects, 1232);
    expect(answer === undefined ? undefined : (decode(answer) as { rcode?: string }).rcode).toBe(expected);
  });
});
