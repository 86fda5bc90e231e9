import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { parseIp } from "#shared/net/ip.ts";
import type { PickContext } from "../clusters.ts";
import { emptyAssignment, type Assignment } from "../compile/compile-endpoints.ts";
import type { DnsCacheSettings, DnsConfig, LookupFamily } from "../compile/compile-discovery.ts";
import { Endpoint } from "../endpoint.ts";
import { isDnsName } from "./dns-name.ts";
import { DnsHosts } from "./dns-hosts.ts";
import { DynamicHosts } from "./dynamic-hosts.ts";
import { parseHosts } from "./hosts-file.ts";
import { lookupName } from "./lookup.ts";
import type { Resolver } from "./resolver.ts";

type Zone = Record<string, { 4?: readonly string[]; 6?: readonly string[]; ttl?: number } | "fails" | "hangs">;

function resolverOf(zone: Zone): Resolver & { readonly asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    resolve: (name, family) => {
      asked.push(`${name} ${family}`);
      const entry = zone[name];
      if (entry === "fails") return Promise.reject(new Error("SERVFAIL"));
      if (entry === "hangs") return new Promise(() => {});
      const ttlMs = entry?.ttl === undefined ? undefined : entry.ttl * 1000;
      return Promise.resolve((entry?.[family] ?? []).map((ip) => ({ ip: parseIp(ip), ttlMs })));
    },
  };
}

const config: DnsConfig = {
  family: "v4",
  refreshMs: 5_000,
  respectsTtl: true,
  jitterMs: 0,
  failure: { baseMs: 1_000, maxMs: 8_000 },
  servers: [],
};

describe("lookup families", () => {
  const zone: Zone = {
    both: { 4: ["10.0.0.1"], 6: ["fd00::1"], ttl: 30 },
    four: { 4: ["10.0.0.4"] },
    six: { 6: ["fd00::6"] },
    broken: "fails",
  };
  // prettier-ignore
  test.each<[string, LookupFamily, string[]]>([
    ["both", "v4",           ["10.0.0.1"]],
    ["both", "v6",           ["fd00::1"]],
    ["both", "auto",         ["fd00::1"]],
    ["both", "v4-preferred", ["10.0.0.1"]],
    ["both", "all",          ["fd00::1", "10.0.0.1"]],
    ["four", "auto",         ["10.0.0.4"]],
    ["six",  "v4-preferred", ["fd00::6"]],
    ["six",  "v4",           []],
    ["none", "all",          []],
  ])("%s by %s: %j", async (name, family, ips) => {
    expect((await lookupName(resolverOf(zone), name, family)).ips).toEqual(ips);
  });

  test("no answer is a failure, not an empty answer", async () => {
    await expect(lookupName(resolverOf(zone), "broken", "all")).rejects.toThrow("SERVFAIL");
    await expect(lookupName(resolverOf(zone), "broken", "auto")).rejects.toThrow("SERVFAIL");
  });
});

function start(kind: "strict-dns" | "logical-dns", zone: Zone, names = ["db"], more: Partial<DnsConfig> = {}) {
  const clock = new FakeClock();
  const resolver = resolverOf(zone);
  const hosts: string[][] = [];
  let isReady = false;
  const failures: string[] = [];
  const spec = { alternatives: [], hostname: "db", weight: 1, status: "unknown", metadata: new Map() } as const;
  const assignment: Assignment = {
    ...emptyAssignment,
    groups: [
      {
        locality: { region: "", zone: "", subZone: "" },
        priority: 0,
        weight: 0,
        endpoints: names.map((name) => ({ name, port: 5432, spec })),
      },
    ],
  };
  const source = new DnsHosts({
    kind,
    assignment,
    dns: { ...config, ...more },
    resolver,
    clock,
    random: () => 0.5,
    onHosts: ({ groups }) =>
      hosts.push(groups.flatMap(({ endpoints }) => endpoints.map((each) => ("key" in each ? each.key : each.name)))),
    onReady: () => {
      isReady = true;
    },
    onFailure: (name) => failures.push(name),
  });
  return { clock, resolver, hosts, failures, source, ready: () => isReady };
}

describe("DNS clusters", () => {
  test("every address is a host, and is asked for again when it has aged", async () => {
    const zone: Zone = { db: { 4: ["10.0.0.1", "10.0.0.2"], ttl: 30 } };
    const { clock, hosts, resolver, ready } = start("strict-dns", zone);
    await clock.advance(0);
    expect([hosts, ready()]).toEqual([[["10.0.0.1:5432", "10.0.0.2:5432"]], true]);
    zone["db"] = { 4: ["10.0.0.3"], ttl: 30 };
    await clock.advance(29_999);
    expect(resolver.asked).toHaveLength(1);
    await clock.advance(1);
    expect(hosts.at(-1)).toEqual(["10.0.0.3:5432"]);
  });

  test("jitter is added to each wait", async () => {
    const { clock, resolver } = start("strict-dns", { db: { 4: ["10.0.0.1"], ttl: 30 } }, ["db"], { jitterMs: 1_000 });
    await clock.advance(30_499);
    expect(resolver.asked).toHaveLength(1);
    await clock.advance(1);
    expect(resolver.asked).toHaveLength(2);
  });

  test("a name that no longer exists has no hosts; a server that fails changes nothing", async () => {
    const zone: Zone = { db: { 4: ["10.0.0.1"] } };
    const { clock, hosts, failures } = start("strict-dns", zone);
    await clock.advance(0);
    zone["db"] = "fails";
    await clock.advance(5_000);
    expect([hosts.length, failures]).toEqual([1, ["db"]]);
    delete zone["db"];
    await clock.advance(1_000);
    expect(hosts.at(-1)).toEqual([]);
  });

  test("failures are asked for later and later", async () => {
    const { clock, failures } = start("strict-dns", { db: "fails" });
    const atMs: number[] = [];
    const fromMs = clock.now();
    for (let known = 0; atMs.length < 6;) {
      await clock.advance(250);
      if (failures.length > known) atMs.push(clock.now() - fromMs);
      known = failures.length;
    }
    // 1, 2, 4, 8, 8 s, each spread to three quarters by this random.
    expect(atMs).toEqual([250, 750, 2_250, 5_250, 11_250, 17_250]);
  });

  test("without its own rate a failure is asked for like a success", async () => {
    const { clock, failures } = start("strict-dns", { db: "fails" }, ["db"], {
      failure: { baseMs: 5_000, maxMs: 5_000 },
    });
    await clock.advance(15_000);
    expect(failures).toHaveLength(4);
  });

  test("ready when every name was asked for, found or not", async () => {
    const zone: Zone = { a: { 4: ["10.0.0.1"] }, b: "hangs" };
    const hanging = start("strict-dns", zone, ["a", "b"]);
    await hanging.clock.advance(0);
    expect([hanging.ready(), hanging.hosts]).toEqual([false, [["10.0.0.1:5432"]]]);
    const failing = start("strict-dns", { a: { 4: ["10.0.0.1"] }, b: "fails" }, ["a", "b"]);
    await failing.clock.advance(0);
    expect(failing.ready()).toBe(true);
  });

  test("a logical host is at the first address, and stays where it was when its name is gone", async () => {
    const zone: Zone = { db: { 4: ["10.0.0.1", "10.0.0.2"], ttl: 0 } };
    const { clock, hosts } = start("logical-dns", zone);
    await clock.advance(0);
    zone["db"] = { 4: ["10.0.0.2", "10.0.0.1"], ttl: 0 };
    await clock.advance(5_000);
    delete zone["db"];
    await clock.advance(5_000);
    expect(hosts).toEqual([["10.0.0.1:5432"], ["10.0.0.2:5432"]]);
  });

  test("rotation alone is no change for a strict cluster's set", async () => {
    const zone: Zone = { db: { 4: ["10.0.0.1", "10.0.0.2", "10.0.0.3"] } };
    const { clock, hosts } = start("strict-dns", zone);
    await clock.advance(0);
    zone["db"] = { 4: ["10.0.0.1", "10.0.0.3", "10.0.0.2"] };
    await clock.advance(5_000);
    expect(hosts).toHaveLength(1);
  });

  test("closed, it asks no more", async () => {
    const { clock, source, resolver } = start("strict-dns", { db: { 4: ["10.0.0.1"] } });
    await clock.advance(0);
    source[Symbol.dispose]();
    expect(clock.pending).toBe(0);
    await clock.advance(60_000);
    expect(resolver.asked).toHaveLength(1);
  });
});

describe("dynamic forward proxy", () => {
  const settings: DnsCacheSettings = {
    ...config,
    hostTtlMs: 300_000,
    minRefreshMs: 5_000,
    maxHosts: 2,
    maxPending: 2,
    queryTimeoutMs: 5_000,
  };
  function open(zone: Zone, more: Partial<DnsCacheSettings> = {}) {
    const clock = new FakeClock();
    const removed: string[] = [];
    const resolver = resolverOf(zone);
    const source = new DynamicHosts({
      settings: { ...settings, ...more },
      resolver,
      clock,
      random: () => 0.5,
      defaultPort: 80,
      onRemoved: ({ key }) => removed.push(key),
    });
    const at = (authority: string) =>
      source.pick({ exchange: { request: { authority } } as unknown as NonNullable<PickContext["exchange"]> });
    return { clock, source, removed, resolver, at };
  }
  const show = (pick: ReturnType<DynamicHosts["pick"]>) =>
    pick instanceof Endpoint ? pick.key : pick instanceof Promise ? "wait" : pick;

  test("resolves a name when it first comes, then knows it", async () => {
    const { at, clock, resolver } = open({ "a.example.com": { 4: ["10.0.0.1"], ttl: 1_000 } });
    const first = at("a.example.com:8080");
    expect(show(first)).toBe("wait");
    await first;
    expect(show(at("A.example.com:8080"))).toBe("10.0.0.1:8080");
    expect(show(at("10.9.9.9"))).toBe("10.9.9.9:80");
    expect(resolver.asked).toEqual(["a.example.com 4"]);
    await clock.advance(0);
  });

  // prettier-ignore
  test.each([ // authority, answer
    ["",                "the request names no host"],
    ["a b",             "the request's host is not a name"],
    ["a.example.com:0", "0 is not a port"],
    ["../etc",          "the request's host is not a name"],
    ["[fd00::1]:81",    "[fd00::1]:81"],
    ["[fd00::1]",       "[fd00::1]:80"],
    ["10.0.0.1:81",     "10.0.0.1:81"],
  ])("%j: %s", (authority, answer) => {
    expect(show(open({}).at(authority))).toBe(answer);
  });

  test("a name that nobody knows fails, and is asked for again", async () => {
    const zone: Zone = {};
    const { at, clock } = open(zone);
    await at("a.example.com");
    expect(show(at("a.example.com"))).toBe('"a.example.com" cannot be resolved');
    zone["a.example.com"] = { 4: ["10.0.0.1"] };
    await clock.advance(5_000);
    expect(show(at("a.example.com"))).toBe("10.0.0.1:80");
  });

  test("a wait ends at its deadline", async () => {
    const { at, clock } = open({ slow: "hangs" });
    const waiting = at("slow") as Promise<void>;
    await clock.advance(5_000);
    await waiting;
    expect(show(at("slow"))).toBe('"slow" cannot be resolved');
  });

  test("is bounded in names, and in names under way", async () => {
    const { at, removed } = open({ a: { 4: ["10.0.0.1"] }, b: { 4: ["10.0.0.2"] }, c: { 4: ["10.0.0.3"] } });
    await Promise.all([at("a"), at("b")]);
    await at("c");
    expect(removed).toEqual(["10.0.0.1:80"]);
    const busy = open({ a: "hangs", b: "hangs" }, { maxHosts: 10 });
    expect([busy.at("a"), busy.at("b"), busy.at("c")].map(show)).toEqual([
      "wait",
      "wait",
      "too many names are being resolved",
    ]);
    const full = open({ a: "hangs", b: "hangs" }, { maxPending: 10 });
    expect([full.at("a"), full.at("b"), full.at("c")].map(show)).toEqual(["wait", "wait", "too many names are in use"]);
  });

  test("an unused name is forgotten after its time; a used one moves with its address", async () => {
    const zone: Zone = { a: { 4: ["10.0.0.1"] } };
    const { at, clock, removed } = open(zone, { hostTtlMs: 20_000 });
    await at("a");
    const host = at("a") as Endpoint;
    zone["a"] = { 4: ["10.0.0.2"] };
    await clock.advance(5_000);
    expect([at("a"), host.key]).toEqual([host, "10.0.0.2:80"]);
    await clock.advance(40_000);
    expect(removed).toEqual(["10.0.0.2:80"]);
    expect(clock.pending).toBe(0);
  });
});

test("hosts files", () => {
  const names = parseHosts(
    "127.0.0.1 localhost\n::1\tlocalhost ip6-localhost # both\n#10.0.0.9 no\nnonsense x\n10.0.0.1 Db",
  );
  expect(names.get("localhost")).toEqual(["127.0.0.1", "::1"]);
  expect(names.get("db")).toEqual(["10.0.0.1"]);
  expect(names.has("no") || names.has("x")).toBe(false);
});

// prettier-ignore
test.each([
  ["a.example.com", true], ["a.example.com.", true], ["_srv.x", true], ["localhost", true],
  ["", false], ["a..b", false], ["-a", false], ["a-", false], ["a b", false], ["a/b", false], [`${"a".repeat(64)}.x`, false], ["a.".repeat(130), false],
])("%j is a DNS name: %j", (text, isName) => {
  expect(isDnsName(text)).toBe(isName);
});
