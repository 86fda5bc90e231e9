import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { gatewayAt, ip, serviceOf, workloadOf } from "#shared/testing/mesh-fixtures.ts";
import { serviceKey, type Service, type Workload } from "./workload.ts";
import { localWorkloadDeadlineMs, WorkloadStore } from "./workload-store.ts";

function openStore(options: Partial<ConstructorParameters<typeof WorkloadStore>[0]> = {}) {
  return new WorkloadStore({ clock: new FakeClock(), ...options });
}

const endpointNames = (store: WorkloadStore, service: Service): readonly string[] =>
  [...(store.serviceByKey(serviceKey(service))?.endpoints.values() ?? [])].map(({ workload }) => workload.name).sort();

const web = serviceOf("web", { vips: ["/10.1.0.1"] });
const inWeb = { services: { [serviceKey(web)]: { 80: 8080 } } };

describe("services by address", () => {
  const of = (namespace: string, wish: Parameters<typeof serviceOf>[1] = {}) =>
    serviceOf("svc", { namespace, vips: ["/10.1.0.1"], ...wish });

  // prettier-ignore
  test.each([ // services                                                        address     client   found   why
    [[of("a"), of("b")],                                                         "10.1.0.1", "b",       "b", "each namespace gets its own"],
    [[of("a"), of("b")],                                                         "10.1.0.1", "c",       "a", "others get the first"],
    [[of("a"), of("b", { canonical: true })],                                    "10.1.0.1", "c",       "b", "canonical beats first"],
    [[of("a", { canonical: true }), of("b", { canonical: true })],               "10.1.0.1", "c",       "b", "the last canonical of several"],
    [[of("a", { canonical: true }), of("b")],                                    "10.1.0.1", "b",       "b", "own beats canonical"],
    [[of("a"), of("b")],                                                         "10.1.0.1", undefined, "a", "without a client, the first"],
    [[of("a", { visibility: "NAMESPACE" })],                                     "10.1.0.1", "b",       "-", "hidden from other namespaces"],
    [[of("a", { visibility: "NAMESPACE" })],                                     "10.1.0.1", "a",       "a", "seen by its own"],
    [[of("a", { visibility: "NAMESPACE" })],                                     "10.1.0.1", undefined, "a", "seen where nobody asks"],
    [[of("a", { visibility: "NAMESPACE" }), of("b", { vips: ["/10.0.0.0/8"] })], "10.1.0.1", "c",       "b", "a hidden VIP falls through to a range"],
    [[of("a", { vips: ["/10.0.0.0/8"] })],                                       "11.0.0.1", "a",       "-", "outside the range"],
    [[of("a", { vips: ["/10.0.0.0/8"], visibility: "NAMESPACE" })],              "10.9.9.9", "b",       "-", "hidden range"],
    [[of("a", { vips: ["/10.0.0.0/8"] }), of("b", { vips: ["/10.1.0.0/16"] })],  "10.1.9.9", "c",       "b", "the longest prefix"],
    [[of("a", { vips: ["/10.0.0.0/8"] }), of("b", { vips: ["/10.1.0.0/16"] })],  "10.1.9.9", "a",       "a", "own namespace beats a longer prefix"],
    [[of("a", { vips: ["/10.0.0.0/8"] }), of("b")],                              "10.1.0.1", "a",       "b", "an exact VIP beats any range"],
    [[of("a", { vips: ["/10.1.0.0/16"] }), of("b", { vips: ["/10.1.0.0/16"], canonical: true })], "10.1.9.9", "c", "b", "equal ranges: canonical"],
    [[of("a", { vips: ["net/10.0.0.0/8"] })],                                    "10.1.0.1", "a",       "-", "ranges stay within their network"],
    [[of("a", { vips: ["net/10.1.0.1"] })],                                      "10.1.0.1", "a",       "-", "so do VIPs"],
    [[of("a", { vips: ["/fd00::/8", "/10.0.0.0/8"] })],                          "fd12::1",  "a",       "a", "IPv6 in range"],
    [[of("a", { vips: ["/fd00::/8"] })],                                         "fe80::1",  "a",       "-", "IPv6 out of range"],
    [[of("a", { vips: ["/::/0"] })],                                             "10.0.0.1", "a",       "-", "families never cross"],
    [[of("a", { vips: ["/0.0.0.0/0"] })],                                        "10.0.0.1", "a",       "a", "everything of one family"],
    [[of("a", { vips: ["/10.1.2.3/9"] })],                                       "10.127.0.1", "a",     "a", "a base with bits past its prefix"],
    [[of("a", { vips: ["/10.1.2.3/9"] })],                                       "10.128.0.1", "a",     "-", "and what lies beyond it"],
  ] as [Service[], string, string | undefined, string, string][])("%#: %j at %s for %s is %s: %s", (services, address, client, found) => {
    const store = openStore();
    store.apply({ services });
    expect(store.serviceByAddress("", ip(address), client)?.service.namespace ?? "-").toBe(found);
    store.apply({ removals: services.map(serviceKey) });
    expect(store.serviceByAddress("", ip(address), client)).toBeUndefined();
    expect(store.isEmpty).toBe(true);
  });

  test("the same hostname in two namespaces resolves to the one that is visible", () => {
    const store = openStore();
    const hostname = "api.example.com";
    store.apply({ services: [of("a", { hostname, visibility: "NAMESPACE" }), of("b", { hostname })] });
    expect(store.serviceByHostname(hostname, "a")?.service.namespace).toBe("a");
    expect(store.serviceByHostname(hostname, "c")?.service.namespace).toBe("b");
    expect(store.serviceByHostname("*.example.com")).toBeUndefined();
  });

  test("all services of a hostname, in whatever case, and whether there are wildcards", () => {
    const store = openStore();
    const services = [of("a", { hostname: "Api.Example.com" }), of("b", { hostname: "api.example.com" })];
    const wildcard = of("c", { hostname: "*.example.com" });
    store.apply({ services: [...services, wildcard] });
    store.apply({ services: [wildcard] });
    expect([...store.servicesByHostname("API.example.com")].map(({ service }) => service.namespace)).toEqual([
      "a",
      "b",
    ]);
    expect(store.serviceByHostname("api.EXAMPLE.com", "b")?.service.namespace).toBe("b");
    expect(store.hasWildcards).toBe(true);
    store.apply({ removals: [serviceKey(wildcard)] });
    expect(store.hasWildcards).toBe(false);
    store.apply({ removals: services.map(serviceKey) });
    expect([...store.servicesByHostname("api.example.com")]).toEqual([]);
    expect(store.isEmpty).toBe(true);
  });

  test("an update replaces VIPs, and finds nothing stale under the ones that went", () => {
    const store = openStore();
    store.apply({ services: [of("a", { vips: ["/10.1.0.1", "/10.2.0.0/16"] })] });
    store.apply({ services: [of("a", { vips: ["/10.1.0.2", "/10.3.0.0/16"] })] });
    expect(store.serviceByAddress("", ip("10.1.0.1"))).toBeUndefined();
    expect(store.serviceByAddress("", ip("10.2.0.1"))).toBeUndefined();
    expect(store.serviceByAddress("", ip("10.3.0.1"))).toBe(store.serviceByHostname("svc.a.svc.cluster.local"));
    expect(store.serviceByAddress("", ip("10.1.0.2"))).toBe(store.serviceByKey("a/svc.a.svc.cluster.local"));
  });

  test("a range finds endpoints that came after it", () => {
    const store = openStore();
    const service = of("ns", { vips: ["/10.2.0.0/16"] });
    store.apply({ services: [service] });
    store.apply({ workloads: [workloadOf("w", { services: { [serviceKey(service)]: { 80: 8080 } } })] });
    expect(store.serviceByAddress("", ip("10.2.0.9"))?.endpoints.size).toBe(1);
  });
});

describe("endpoints", () => {
  const allowAll = serviceOf("web", {
    vips: ["/10.1.0.1"],
    loadBalancing: { mode: "STANDARD", routingPreference: [], healthPolicy: "ALLOW_ALL" },
  });

  test("wait for their service, filtered by health when it comes", () => {
    const store = openStore();
    store.apply({ workloads: [workloadOf("well", inWeb), workloadOf("ill", { ...inWeb, healthy: false })] });
    expect(store.allStaged().get(serviceKey(web))?.size).toBe(2);
    store.apply({ services: [web] });
    expect(endpointNames(store, web)).toEqual(["well"]);
    expect(store.allStaged().size).toBe(0);
  });

  test("that wait vanish with their workload, or when it drops the service", () => {
    const store = openStore();
    const [a, b] = [workloadOf("a", inWeb), workloadOf("b", inWeb)];
    store.apply({ workloads: [a, b] });
    store.apply({ removals: [a.uid] });
    expect(store.allStaged().get(serviceKey(web))?.size).toBe(1);
    store.apply({ workloads: [workloadOf("b")] });
    expect(store.allStaged().size).toBe(0);
    store.apply({ removals: [a.uid, "no/such", "not a name at all", "a/b/c"] });
    store.apply({ removals: [b.uid] });
    expect(store.isEmpty).toBe(true);
  });

  test("that wait vanish with the removal of their service", () => {
    const store = openStore();
    store.apply({ workloads: [workloadOf("a", inWeb)] });
    store.apply({ removals: [serviceKey(web)] });
    expect(store.allStaged().size).toBe(0);
  });

  test("leave when their workload turns unhealthy or drops the service, and with the service", () => {
    const store = openStore();
    store.apply({ services: [web], workloads: [workloadOf("a", inWeb), workloadOf("b", inWeb)] });
    store.apply({ workloads: [workloadOf("a", { ...inWeb, healthy: false })] });
    expect(endpointNames(store, web)).toEqual(["b"]);
    store.apply({ workloads: [workloadOf("b")] });
    expect(endpointNames(store, web)).toEqual([]);
    store.apply({ removals: [serviceKey(web), "Kubernetes//Pod/ns/a", "Kubernetes//Pod/ns/b"] });
    expect(store.isEmpty).toBe(true);
  });

  test("that are unhealthy count only where the service takes all", () => {
    const store = openStore();
    const ill = workloadOf("ill", { ...inWeb, healthy: false });
    store.apply({ workloads: [ill], services: [allowAll] });
    expect(endpointNames(store, web)).toEqual(["ill"]);
    store.apply({ services: [web] });
    expect(endpointNames(store, web)).toEqual([]);
    store.apply({ services: [allowAll] });
    expect(endpointNames(store, web)).toEqual([]); // until the workload is sent again, as in Istio's ztunnel
    store.apply({ workloads: [ill] });
    expect(endpointNames(store, web)).toEqual(["ill"]);
  });

  test("stay through an update of their service, and the entry is the same by address and by name", () => {
    const store = openStore();
    store.apply({ services: [web], workloads: [workloadOf("a", inWeb)] });
    store.apply({ services: [{ ...web, ports: new Map([[81, 81]]) }] });
    expect(endpointNames(store, web)).toEqual(["a"]);
    expect(store.serviceByAddress("", ip("10.1.0.1"))).toBe(store.serviceByHostname(web.hostname));
  });

  test("one response rebuilds a service once, whatever the order", () => {
    const store = openStore();
    const workloads = Array.from({ length: 50 }, (_, index) =>
      workloadOf(`w${index}`, { ...inWeb, healthy: index > 0 }),
    );
    expect(store.apply({ services: [web], workloads }).servicesRebuilt).toBe(1);
    expect(endpointNames(store, web)).toHaveLength(49);
    expect(store.apply({ removals: ["Kubernetes//Pod/ns/w1"] }).servicesRebuilt).toBe(1);
    expect(endpointNames(store, web)).toHaveLength(48);
    expect(store.apply({ workloads: [workloadOf("other")] }).servicesRebuilt).toBe(0);
  });

  test("a changed mapping is a new entry, so that nothing compiled from the old one is used", () => {
    const store = openStore();
    store.apply({ services: [web], workloads: [workloadOf("a", inWeb)] });
    const before = store.serviceByKey(serviceKey(web));
    store.apply({ workloads: [workloadOf("a", { services: { [serviceKey(web)]: { 80: 9090 } } })] });
    const after = store.serviceByKey(serviceKey(web));
    expect(after).not.toBe(before);
    expect(after?.endpoints.get("Kubernetes//Pod/ns/a")?.ports.get(80)).toBe(9090);
  });
});

describe("workloads by address", () => {
  const at = { addresses: ["10.0.0.1"] };
  const pod = workloadOf("pod", { ...at, protocol: "TCP" });
  const captured = workloadOf("captured", at);
  const entry = workloadOf("entry", { ...at, uid: "c/networking.istio.io/WorkloadEntry/ns/entry" });

  // prettier-ignore
  test.each([
    [[pod, entry], pod, "a pod beats an entry"],
    [[entry, pod], pod, "in any order"],
    [[pod, captured], captured, "a captured pod beats another"],
    [[captured, pod], captured, "in any order"],
    [[pod, workloadOf("later", { ...at, protocol: "TCP" })], "later", "of equals the last"],
    [[workloadOf("host", { ...at, networkMode: "HOST_NETWORK" })], undefined, "host-network pods are never found by address"],
  ] as [Workload[], Workload | string | undefined, string][])("%#: %s", (workloads, found) => {
    const store = openStore();
    store.apply({ workloads });
    const name = typeof found === "object" ? found.name : found;
    expect(store.workloadByAddress("", ip("10.0.0.1"))?.name).toBe(name);
  });

  test("removal falls back to the other, then to none; sending again adds nothing", () => {
    const store = openStore();
    store.apply({ workloads: [pod, entry, pod] });
    store.apply({ removals: [pod.uid] });
    expect(store.workloadByAddress("", ip("10.0.0.1"))).toBe(entry);
    store.apply({ removals: [entry.uid] });
    expect(store.workloadByAddress("", ip("10.0.0.1"))).toBeUndefined();
    expect(store.isEmpty).toBe(true);
  });

  test("addresses belong to networks", () => {
    const store = openStore();
    store.apply({ workloads: [workloadOf("far", { ...at, network: "far" })] });
    expect(store.workloadByAddress("", ip("10.0.0.1"))).toBeUndefined();
    expect(store.workloadByAddress("far", ip("10.0.0.1"))?.name).toBe("far");
  });

  test("workloads without address are found by hostname", () => {
    const store = openStore();
    store.apply({ workloads: [workloadOf("vm", { hostname: "vm.example.com" })] });
    expect(store.workloadByHostname("ns", "vm.example.com")?.name).toBe("vm");
    expect(store.workloadByHostname("other", "vm.example.com")).toBeUndefined();
  });
});

describe("the workload of a pod", () => {
  const pod = { name: "a", namespace: "ns", serviceAccount: "default" };

  test("is there at once if it is known", async () => {
    const store = openStore();
    store.apply({ workloads: [workloadOf("a")] });
    expect((await store.waitForLocalWorkload(pod))?.name).toBe("a");
  });

  test("is awaited, and only the right one wakes", async () => {
    const store = openStore({ localNode: "node-a" });
    const waiting = store.waitForLocalWorkload(pod);
    store.apply({
      workloads: [
        workloadOf("b"),
        workloadOf("a", { namespace: "other" }),
        workloadOf("a", { uid: "far", node: "node-b" }),
        workloadOf("a", { uid: "sa", serviceAccount: "else" }),
      ],
    });
    const right = workloadOf("a");
    store.apply({ workloads: [right] });
    expect(await waiting).toBe(right);
  });

  test("is given up after the deadline or by the caller", async () => {
    const clock = new FakeClock();
    const store = openStore({ clock });
    const late = store.waitForLocalWorkload(pod);
    const abort = new AbortController();
    const left = store.waitForLocalWorkload(pod, abort.signal);
    abort.abort();
    expect(await left).toBeUndefined();
    await clock.advance(localWorkloadDeadlineMs);
    expect(await late).toBeUndefined();
    expect(clock.pending).toBe(0);
  });
});

describe("identities of this node", () => {
  function observed() {
    const events: string[] = [];
    const store = openStore({
      localNode: "node-a",
      onIdentityNeeded: (id) => events.push(`+${id.split("/").at(-1)}`),
      onIdentityGone: (id) => events.push(`-${id.split("/").at(-1)}`),
    });
    return { store, events };
  }

  test("are needed when a captured workload of this node comes", () => {
    const { store, events } = observed();
    store.apply({
      workloads: [
        workloadOf("here", { serviceAccount: "here" }),
        workloadOf("far", { serviceAccount: "far", node: "node-b" }),
        workloadOf("plain", { serviceAccount: "plain", protocol: "TCP" }),
        workloadOf("native", { serviceAccount: "native", protocol: "TCP", nativeTunnel: true }),
      ],
    });
    expect(events).toEqual(["+here", "+native"]);
  });

  test("are gone with the last local workload, not with an update or a remote one", () => {
    const { store, events } = observed();
    const [a, b, far] = [workloadOf("a"), workloadOf("b"), workloadOf("far", { node: "node-b" })];
    store.apply({ workloads: [a, b, far] });
    events.length = 0;
    store.apply({ removals: [far.uid, a.uid] });
    store.apply({ workloads: [workloadOf("b", { canonicalRevision: "v2" })] });
    expect(events).toEqual(["+default"]);
    store.apply({ removals: [b.uid] });
    expect(events).toEqual(["+default", "-default"]);
    expect(store.isEmpty).toBe(true);
  });
});

test("waypoints by address and name are what fixtures say", () => {
  expect(gatewayAt("ns/wp.ns").destination).toEqual({ kind: "hostname", namespace: "ns", hostname: "wp.ns" });
  expect(gatewayAt("/10.0.0.1").destination).toEqual({ kind: "address", network: "", ip: "10.0.0.1" });
});
