import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { encodeBaggage, parseBaggage, readBaggage, type Baggage } from "./baggage.ts";
import { parseIp } from "#shared/net/ip.ts";
import { encodeForwarded, forwardedHost, forwardedPort } from "./forwarded.ts";
import { newTraceparent, traceIdOf } from "./traceparent.ts";

const full: Baggage = {
  clusterId: "Kubernetes",
  namespace: "shop",
  workloadName: "cart",
  serviceName: "cart-svc",
  revision: "v1",
  region: "eu",
  zone: "eu-1",
};
const fullText =
  "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart-svc," +
  "service.version=v1,cloud.region=eu,cloud.availability_zone=eu-1";

describe("baggage", () => {
  test("is written in Istio's order", () => {
    expect(encodeBaggage(full, "deployment")).toBe(fullText);
  });

  // prettier-ignore
  test.each<[Baggage, string, string, string]>([ // baggage                    type        text                                    why
    [{},                                    "pod",      "",                                     "nothing known"],
    [{ workloadName: "x" },                 "cronjob",  "k8s.cronjob.name=x",                   "the type makes the key"],
    [{ workloadName: "x" },                 "wasp",     "k8s.pod.name=x",                       "an unknown type counts as a pod"],
    [{ namespace: "", serviceName: "s" },   "pod",      "service.name=s",                       "empty values are left out"],
    [{ namespace: "a,b", serviceName: "s" },"pod",      "service.name=s",                       "a comma would end the pair"],
    [{ namespace: "a\r\nx: y" },            "pod",      "",                                     "nothing that ends a header"],
  ])("%j of a %s is %j: %s", (baggage, type, text) => {
    expect(encodeBaggage(baggage, type)).toBe(text);
  });

  // prettier-ignore
  test.each<[string[], Baggage, string]>([ // lines                                                baggage                               why
    [[fullText],                                                      full,                                 "one line"],
    [fullText.split(","),                                             full,                                 "a line for each"],
    [[],                                                              {},                                   "no header"],
    [["service.name="],                                               {},                                   "empty is absent"],
    [["service.name=a,service.name=b"],                               { serviceName: "b" },                 "the last one counts"],
    [["service.name=a", "service.name="],                             {},                                   "and may take it back"],
    [["service.name=a=b"],                                            { serviceName: "a" },                 "cut at the second ="],
    [["service.name"],                                                {},                                   "no value at all"],
    [["k8s.job.name=j"],                                              { workloadName: "j" },                "any workload type"],
    [["k8s.wasp.name=j,x=y"],                                         {},                                   "unknown keys are skipped"],
    [["service.name=a", "x=\u00e9"],                                  {},                                   "not ASCII: nothing is believed"],
    [["__proto__=a,constructor=b"],                                   {},                                   "no names of JavaScript's own"],
  ])("%j reads as %j: %s", (lines, baggage) => {
    expect(parseBaggage(lines)).toEqual(baggage);
  });

  test("reads what it wrote", () => {
    const value = fc.stringMatching(/^[\x21-\x2b\x2d-\x3c\x3e-\x7e]{1,20}$/);
    const baggage = fc.record(
      Object.fromEntries(Object.keys(full).map((key) => [key, value])) as { [field in keyof Baggage]: typeof value },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(baggage, fc.constantFrom("pod", "job", "deployment", "cronjob"), (written, type) => {
        expect(parseBaggage([encodeBaggage(written, type)])).toEqual(written);
      }),
    );
  });

  test("is the same object for the same lines, however many others were read in between", () => {
    const first = readBaggage([fullText]);
    expect(first).toEqual(full);
    expect(readBaggage([fullText])).toBe(first);
    for (let index = 0; index < 2_000; index++) readBaggage([`service.name=s${index}`]);
    expect(readBaggage([fullText])).toEqual(full);
  });

  test("never fails on what others wrote", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: "binary" }), { maxLength: 4 }), (lines) => {
        expect(typeof parseBaggage(lines)).toBe("object");
      }),
    );
  });
});

describe("forwarded", () => {
  // prettier-ignore
  test.each<[string, number, string | undefined, string, string]>([ // ip          port  host                  text                                          why
    ["10.0.0.1",             80,   undefined,            'for="10.0.0.1:80"',                          "IPv4"],
    ["::1",                  80,   undefined,            'for="[::1]:80"',                             "IPv6 in brackets"],
    ["10.0.0.1",             80,   "a.shop.svc",         'for="10.0.0.1:80";host=a.shop.svc',          "with the service"],
    ["10.0.0.1",             80,   "",                   'for="10.0.0.1:80"',                          "no service"],
  ])("%s %d %j is %j: %s", (ip, port, host, text) => {
    expect(encodeForwarded({ ip, port }, host)).toBe(text);
  });

  // prettier-ignore
  test.each<[string | undefined, string | undefined, string]>([ // header                                    host            why
    ['for="10.0.0.1:80";host=a.svc',                       "a.svc",        "bare"],
    ['for="10.0.0.1:80"; host="a.svc"',                    "a.svc",        "quoted, after a space"],
    ['for="10.0.0.1:80"',                                  undefined,      "missing"],
    ["host=",                                              undefined,      "empty"],
    ['host=""',                                            undefined,      "empty in quotes"],
    ["host=a;host=b",                                      "a",            "the first counts"],
    ["for=x;host=\u00e9",                                  undefined,      "not ASCII"],
    ["\u00e9;host=a",                                      undefined,      "not ASCII elsewhere"],
    [undefined,                                            undefined,      "no header"],
  ])("%j names host %j: %s", (header, host) => {
    expect(forwardedHost(header)).toBe(host);
  });

  test("reads the host that it wrote", () => {
    fc.assert(
      fc.property(fc.domain(), fc.ipV4(), (host, ip) => {
        expect(forwardedHost(encodeForwarded({ ip, port: 1 }, host))).toBe(host);
      }),
    );
  });
});

describe("traceparent", () => {
  const trace = "0af7651916cd43dd8448eb211c80319c";
  // prettier-ignore
  test.each<[string | undefined, string | undefined, string]>([ // header                                                          id          why
    [`00-${trace}-b7ad6b7169203331-01`,                                          trace,      "the example of the standard"],
    [`cc-${trace}-b7ad6b7169203331-00`,                                          trace,      "a later version of the same shape"],
    [`ff-${trace}-b7ad6b7169203331-00`,                                          undefined,  "the forbidden version"],
    [`00-${"0".repeat(32)}-b7ad6b7169203331-00`,                                 undefined,  "no trace"],
    [`00-${trace}-${"0".repeat(16)}-00`,                                         undefined,  "no parent"],
    [`00-${trace.toUpperCase()}-b7ad6b7169203331-00`,                            undefined,  "upper case"],
    ["-".repeat(55),                                                             undefined,  "55 characters, wrong parts"],
    ["x".repeat(55),                                                             undefined,  "55 characters, one part"],
    [`00-${trace}-b7ad6b7169203331-01x`,                                         undefined,  "too long"],
    ["",                                                                         undefined,  "empty"],
    [undefined,                                                                  undefined,  "none"],
  ])("%j: %s", (header, id) => {
    expect(traceIdOf(header)).toBe(id);
  });

  test("a fresh one is well-formed and never repeats", () => {
    const some = Array.from({ length: 1_000 }, newTraceparent);
    expect(new Set(some).size).toBe(1_000);
    for (const header of some) expect(header).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
    expect(some.every((header) => traceIdOf(header) !== undefined)).toBe(true);
  });
});

describe("the caller's port", () => {
  // prettier-ignore
  test.each<[string | undefined, string, number | undefined, string]>([
    ['for="10.0.0.1:4242"',                        "10.0.0.1", 4242,      "as ztunnel writes it"],
    ['for="10.0.0.1:4242";host=a.b.svc',           "10.0.0.1", 4242,      "with a service"],
    ['for="[fd00::1]:4242"',                       "fd00::1",  4242,      "IPv6"],
    ['for="[fd00:0:0::1]:4242"',                   "fd00::1",  4242,      "IPv6, written otherwise"],
    ['for="10.0.0.2:4242"',                        "10.0.0.1", undefined, "of somebody else"],
    ['for="10.0.0.1:0"',                           "10.0.0.1", undefined, "no port at all"],
    ['for="10.0.0.1:70000"',                       "10.0.0.1", undefined, "out of range"],
    ['for="10.0.0.1"',                             "10.0.0.1", undefined, "no port"],
    ['host=a;for="10.0.0.1:4242"',                 "10.0.0.1", undefined, "not first"],
    ['for="10.0.0.1:42" ; x',                      "10.0.0.1", undefined, "something after the quote"],
    [undefined,                                    "10.0.0.1", undefined, "no header"],
  ])("of %j for a tunnel from %s is %s: %s", (header, peer, port) => {
    expect(forwardedPort(header, parseIp(peer))).toBe(port);
  });
});
