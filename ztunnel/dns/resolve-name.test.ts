import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { serviceOf, workloadOf } from "#shared/testing/mesh-fixtures.ts";
import { WorkloadStore } from "#shared/workload/workload-store.ts";
import { kubernetesSearches } from "./dns-names.ts";
import { resolveName, type ResolveSettings } from "./resolve-name.ts";

const domain = "svc.cluster.local";
const store = new WorkloadStore({ clock: new FakeClock() });
const external = (hostname: string, namespace: string, vips: string[], more: object = {}) =>
  serviceOf(hostname, { hostname, namespace, vips: vips.map((vip) => `net1/${vip}`), ...more });
const member = (name: string, service: string, addresses: string[], network = "net1") =>
  workloadOf(name, { addresses, network, services: { [service]: { 80: 80 } } });

store.apply({
  services: [
    serviceOf("web", { namespace: "shop", vips: ["net1/10.1.0.1"], ipFamilies: "IPV4_ONLY" }),
    serviceOf("web", { namespace: "other", vips: ["net1/10.2.0.1"] }),
    serviceOf("six", { namespace: "shop", vips: ["net1/fd00::6"], ipFamilies: "IPV6_ONLY" }),
    serviceOf("dual", { namespace: "shop", vips: ["net1/10.1.0.2", "net1/fd00::2"], ipFamilies: "DUAL" }),
    serviceOf("away", { namespace: "shop", vips: ["net2/10.1.0.3"] }),
    serviceOf("both", { namespace: "shop", vips: ["net2/10.1.0.4", "net1/10.1.0.5"] }),
    serviceOf("pods", { namespace: "shop" }),
    serviceOf("pods6", { namespace: "shop" }),
    serviceOf("nobody", { namespace: "shop" }),
    external("remote.shop.svc.other.domain", "shop", ["10.3.0.1", "10.3.0.2", "10.3.0.3", "10.3.0.4"]),
    external("www.example.com", "anywhere", ["240.240.0.1", "2001:2::1"]),
    external("plain.example.com", "anywhere", []),
    external("pods.example.com", "shop", []),
    external("range.example.com", "shop", ["10.9.0.0/16"]),
    external("*.wild.com", "anywhere", ["240.240.0.2"]),
    external("*.deep.wild.com", "anywhere", ["240.240.0.3"]),
    external("exact.deep.wild.com", "anywhere", ["240.240.0.4"]),
    external("single", "anywhere", ["240.240.0.5"]),
    external("many.com", "a", ["10.4.0.1"]),
    external("many.com", "b", ["10.4.0.2"]),
    external("many.com", "c", []),
    external("canonical.com", "a", ["10.5.0.1"]),
    external("canonical.com", "preferred", ["10.5.0.2"]),
    external("canonical.com", "b", ["10.5.0.3"], { canonical: true }),
    external("own.com", "b", ["10.6.0.1"], { canonical: true }),
    external("own.com", "shop", ["10.6.0.2"]),
    external("liked.com", "a", ["10.7.0.1"]),
    external("liked.com", "preferred", ["10.7.0.2"]),
    external("secret.com", "other", ["10.8.0.1"], { visibility: "NAMESPACE" }),
    external("private.com", "shop", ["10.8.0.2"], { visibility: "NAMESPACE" }),
  ],
  workloads: [
    member("pods-0", `shop/pods.shop.${domain}`, ["10.0.0.1", "fd00::a"]),
    member("pods-1", `shop/pods.shop.${domain}`, ["10.0.0.2"]),
    member("pods-2", `shop/pods.shop.${domain}`, ["10.0.0.3"], "net2"),
    member("pods6-0", `shop/pods6.shop.${domain}`, ["fd00::b"]),
    member("external-0", "shop/pods.example.com", ["10.0.0.9"]),
  ],
});

const settings: ResolveSettings = {
  clusterDomain: "cluster.local",
  namespace: "shop",
  searches: kubernetesSearches("shop", "cluster.local"),
  network: "net1",
  ipv6Enabled: true,
  preferredNamespace: "preferred",
};

/** `forward`, or the addresses, with `alias:` before them. */
function answerTo(name: string, family: 4 | 6 = 4, more: Partial<ResolveSettings> = {}): string {
  const found = resolveName({ name, family }, store, { ...settings, ...more });
  if (found.kind === "forward") return "forward";
  return `${found.alias === undefined ? "" : `${found.alias}: `}${found.ips.join(" ") || found.why}`;
}

describe("names", () => {
  // prettier-ignore
  test.each([ // name                                      answer                                             why
    [`web.shop.${domain}`,                                 "10.1.0.1",                                        "whole"],
    ["web.shop.svc",                                       "10.1.0.1",                                        "less the cluster's domain"],
    ["web.shop",                                           "10.1.0.1",                                        "service and namespace"],
    ["web",                                                "10.1.0.1",                                        "short: the pod's own namespace"],
    [`web.shop.shop.${domain}`,                            "web.shop: 10.1.0.1",                              "with a search domain after it"],
    [`web.other.shop.${domain}`,                           "web.other: 10.2.0.1",                             "with a search domain after it, another namespace"],
    [`web.other.${domain}`,                                "10.2.0.1",                                        "another namespace, whole"],
    ["web.other.svc",                                      "10.2.0.1",                                        "another namespace, less the domain"],
    ["web.other",                                          "10.2.0.1",                                        "another namespace"],
    ["absent",                                             "forward",                                         "unknown, short"],
    [`absent.shop.${domain}`,                              "forward",                                         "unknown, whole: the cluster's DNS may know it"],
    ["remote.shop.svc.other.domain",                       "10.3.0.1 10.3.0.2 10.3.0.3 10.3.0.4",             "a service of another cluster's domain: all addresses"],
    ["remote.shop",                                        "forward",                                         "which has no short names"],
    ["www.example.com",                                    "240.240.0.1",                                     "a ServiceEntry's host"],
    [`www.example.com.shop.${domain}`,                     "www.example.com: 240.240.0.1",                    "the first that a resolver with ndots:5 asks"],
    [`www.example.com.${domain}`,                          "www.example.com: 240.240.0.1",                    "the second"],
    ["www.example.com.cluster.local",                      "www.example.com: 240.240.0.1",                    "the third"],
    ["www.example.org",                                    "forward",                                         "not of the mesh"],
    ["plain.example.com",                                  "forward",                                         "a host without an address"],
    ["range.example.com",                                  "forward",                                         "a range is no address to connect to"],
    ["single",                                             "240.240.0.5",                                     "a host of one label"],
    ["single.shop.svc.cluster.local",                      "single: 240.240.0.5",                             "and with a search domain"],
    [".",                                                  "forward",                                         "the root"],
  ])("%s is %s: %s", (name, answer, _why) => {
    expect(answerTo(name)).toBe(answer);
  });

  test("the pod's namespace decides what is short for what, not ztunnel's", () => {
    const elsewhere = { namespace: "other", searches: kubernetesSearches("other", "cluster.local") };
    expect(answerTo("web", 4, elsewhere)).toBe("10.2.0.1");
    expect(answerTo(`www.example.com.shop.${domain}`, 4, elsewhere)).toBe("forward");
    expect(answerTo(`www.example.com.other.${domain}`, 4, elsewhere)).toBe("www.example.com: 240.240.0.1");
    expect(answerTo("six", 6, elsewhere)).toBe("forward");
  });

  test("another domain of the cluster", () => {
    const renamed = { clusterDomain: "other.domain", searches: kubernetesSearches("shop", "other.domain") };
    expect(answerTo("remote", 4, renamed)).toBe("10.3.0.1 10.3.0.2 10.3.0.3 10.3.0.4");
    expect(answerTo(`pods.shop.${domain}`, 4, renamed)).toBe("forward");
  });
});

describe("wildcards", () => {
  // prettier-ignore
  test.each([ // name                                  answer            why
    ["a.wild.com",                                     "240.240.0.2",    "one label"],
    ["a.b.wild.com",                                   "240.240.0.2",    "or several"],
    ["a.deep.wild.com",                                "240.240.0.3",    "the narrower wildcard wins"],
    ["exact.deep.wild.com",                            "240.240.0.4",    "a whole name wins over both"],
    ["wild.com",                                       "forward",        "the wildcard's own end is not covered"],
    [`a.wild.com.shop.${domain}`,                      "240.240.0.2",    "with a search domain: no alias, the name itself"],
    ["awild.com",                                      "forward",        "a whole label"],
  ])("%s is %s: %s", (name, answer, _why) => {
    expect(answerTo(name)).toBe(answer);
  });
});

describe("families and networks", () => {
  // prettier-ignore
  test.each([ // name   A                         AAAA                        why
    ["web",             "10.1.0.1",               "family not supported",     "IPv4 only: the name exists, so nobody else is asked"],
    ["six",             "family not supported",   "fd00::6",                  "IPv6 only"],
    ["dual",            "10.1.0.2",               "fd00::2",                  "both"],
    ["web.other",       "10.2.0.1",               "no records",               "no address of the other family"],
    ["www.example.com", "240.240.0.1",            "2001:2::1",                "automatic addresses"],
    ["away",            "no records",             "no records",               "on another network"],
    ["both",            "10.1.0.5",               "no records",               "on both networks: ours"],
    ["pods",            "10.0.0.1 10.0.0.2",      "fd00::a",                  "headless: its pods on our network"],
    ["pods6",           "no records",             "fd00::b",                  "headless, IPv6 only"],
    ["nobody",          "no records",             "no records",               "headless, without pods"],
    ["pods-0.pods",     "forward",                "forward",                  "a pod's own name"],
    ["pods.example.com","forward",                "forward",                  "headless, not of the cluster"],
  ])("%s has A %s, AAAA %s: %s", (name, a, aaaa, _why) => {
    expect([answerTo(name, 4), answerTo(name, 6)]).toEqual([a, aaaa]);
  });

  test("without IPv6 there is no AAAA, of names of the mesh", () => {
    expect(answerTo("dual", 6, { ipv6Enabled: false })).toBe("family not supported");
    expect(answerTo("dual", 4, { ipv6Enabled: false })).toBe("10.1.0.2");
    expect(answerTo("www.example.org", 6, { ipv6Enabled: false })).toBe("forward");
  });

  test("the network is the pod's", () => {
    expect(answerTo("both", 4, { network: "net2" })).toBe("10.1.0.4");
    expect(answerTo("pods", 4, { network: "net2" })).toBe("10.0.0.3");
  });
});

describe("one name in several namespaces", () => {
  // prettier-ignore
  test.each([ // name        answer       why
    ["many.com",             "10.4.0.1",  "the first that has an address"],
    ["canonical.com",        "10.5.0.3",  "canonical before preferred"],
    ["own.com",              "10.6.0.2",  "the pod's own before canonical"],
    ["liked.com",            "10.7.0.2",  "the preferred namespace before the first"],
    ["secret.com",           "forward",   "only visible to another namespace"],
    ["private.com",          "10.8.0.2",  "only visible to our own"],
  ])("%s is %s: %s", (name, answer, _why) => {
    expect(answerTo(name)).toBe(answer);
  });

  test("no preferred namespace: the first", () => {
    const { preferredNamespace: _none, ...without } = settings;
    expect(resolveName({ name: "liked.com", family: 4 }, store, without)).toMatchObject({ ips: ["10.7.0.1"] });
  });
});

test("a service that is gone is no longer answered", () => {
  const changing = new WorkloadStore({ clock: new FakeClock() });
  changing.apply({ services: [serviceOf("web", { namespace: "shop", vips: ["net1/10.1.0.1"] })] });
  expect(resolveName({ name: "web", family: 4 }, changing, settings)).toMatchObject({ ips: ["10.1.0.1"] });
  changing.apply({ removals: [`shop/web.shop.${domain}`] });
  expect(resolveName({ name: "web", family: 4 }, changing, settings)).toEqual({ kind: "forward" });
});
