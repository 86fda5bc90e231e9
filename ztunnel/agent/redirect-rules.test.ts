import { describe, expect, test } from "@jest/globals";
import {
  installScript,
  ownTables,
  probeSourcesDefault,
  releaseScript,
  removeScript,
  routingBatches,
  wishesOf,
  type RedirectFacts,
} from "./redirect-rules.ts";

const facts: RedirectFacts = {
  probeSources: probeSourcesDefault,
  ipv6: false,
  dnsCapture: false,
  ingressMode: false,
  rerouteInterfaces: [],
};
const everything: RedirectFacts = { ...facts, ipv6: true, dnsCapture: true, rerouteInterfaces: ["net1", "net2"] };

test("IPv4 alone", () => {
  expect(installScript(facts)).toBe(`table inet istio-ambient-nat
delete table inet istio-ambient-nat
table inet istio-ambient-mangle
delete table inet istio-ambient-mangle
table inet istio-ambient-raw
delete table inet istio-ambient-raw
table inet istio-ambient-nat {
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    ip saddr 169.254.7.127 meta l4proto tcp accept
    ip daddr != 127.0.0.1 tcp dport != 15008 meta mark & 0xfff != 0x539 redirect to :15006
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip daddr 169.254.7.127 meta l4proto tcp accept
    meta l4proto tcp meta mark & 0xfff == 0x111 accept
    oifname "lo" ip daddr != 127.0.0.1 accept
    ip daddr != 127.0.0.1 meta l4proto tcp meta mark & 0xfff != 0x539 redirect to :15001
  }
}
table inet istio-ambient-mangle {
  chain prerouting {
    type filter hook prerouting priority -150; policy accept;
    meta mark & 0xfff == 0x539 ct mark set ct mark & 0xfffff000 | 0x111
  }
  chain output {
    type route hook output priority -150; policy accept;
    ct mark & 0xfff == 0x111 meta mark set ct mark
  }
}
`);
});

/** Rules of one chain, without the line that declares its hook. */
function rulesOf(script: string, table: string, chain: string): readonly string[] {
  const body = new RegExp(`table inet istio-ambient-${table} \\{[^]*?chain ${chain} \\{\\n([^]*?)\\n  \\}`).exec(
    script,
  )?.[1];
  return (body ?? "")
    .split("\n")
    .slice(1)
    .map((line) => line.trim());
}

describe("with everything on", () => {
  const script = installScript(everything);

  test("nat prerouting: interfaces first, then probes, then inbound", () => {
    expect(rulesOf(script, "nat", "prerouting")).toEqual([
      'iifname "net1" meta l4proto tcp redirect to :15001',
      'iifname "net1" meta l4proto tcp return',
      'iifname "net2" meta l4proto tcp redirect to :15001',
      'iifname "net2" meta l4proto tcp return',
      "ip saddr 169.254.7.127 meta l4proto tcp accept",
      "ip daddr != 127.0.0.1 tcp dport != 15008 meta mark & 0xfff != 0x539 redirect to :15006",
      "ip6 saddr fd16:9254:7127:1337:ffff:ffff:ffff:ffff meta l4proto tcp accept",
      "ip6 daddr != ::1 tcp dport != 15008 meta mark & 0xfff != 0x539 redirect to :15006",
    ]);
  });

  test("nat output: probes, DNS, returning answers, own address, outbound", () => {
    expect(rulesOf(script, "nat", "output")).toEqual([
      "ip daddr 169.254.7.127 meta l4proto tcp accept",
      "ip6 daddr fd16:9254:7127:1337:ffff:ffff:ffff:ffff meta l4proto tcp accept",
      'oifname != "lo" udp dport 53 meta mark & 0xfff != 0x539 redirect to :15053',
      'oifname != "lo" tcp dport 53 meta mark & 0xfff != 0x539 redirect to :15053',
      "meta l4proto tcp meta mark & 0xfff == 0x111 accept",
      'oifname "lo" ip daddr != 127.0.0.1 accept',
      'oifname "lo" ip6 daddr != ::1 accept',
      "ip daddr != 127.0.0.1 meta l4proto tcp meta mark & 0xfff != 0x539 redirect to :15001",
      "ip6 daddr != ::1 meta l4proto tcp meta mark & 0xfff != 0x539 redirect to :15001",
    ]);
  });

  test("raw: ztunnel's own questions, and captured ones, each in a zone apart", () => {
    expect(rulesOf(script, "raw", "output")).toEqual([
      "udp dport 53 meta mark & 0xfff == 0x539 ct zone set 1",
      'oifname != "lo" udp dport 53 meta mark & 0xfff != 0x539 ct original zone set 2',
    ]);
    expect(rulesOf(script, "raw", "prerouting")).toEqual(["udp sport 53 meta mark & 0xfff != 0x539 ct zone set 1"]);
  });
});

test("ingress mode leaves inbound alone, interfaces and outbound not", () => {
  const script = installScript({ ...everything, ingressMode: true });
  expect(rulesOf(script, "nat", "prerouting")).toHaveLength(4);
  expect(rulesOf(script, "nat", "output")).toHaveLength(9);
});

test("removal names every table that installing may make", () => {
  for (const [, name] of installScript(everything).matchAll(/^table inet (\S+) \{/gm)) {
    expect(removeScript).toContain(`delete table inet ${name}`);
  }
});

test("release empties the table that redirects and keeps it, so that connections keep their way, and DNS does not", () => {
  expect(releaseScript.trimEnd().split("\n")).toEqual([
    "table inet istio-ambient-nat",
    "flush table inet istio-ambient-nat",
    "table inet istio-ambient-raw",
    "delete table inet istio-ambient-raw",
  ]);
});

test("routing for each family", () => {
  expect(routingBatches({ ipv6: true }).map(({ family, install, remove }) => [family, install, remove])).toEqual([
    [
      "-4",
      "rule add fwmark 0x111/0xfff pref 32764 lookup 100\nroute add local 0.0.0.0/0 dev lo table 100\n",
      "rule del fwmark 0x111/0xfff pref 32764 lookup 100\nroute del local 0.0.0.0/0 dev lo table 100\n",
    ],
    [
      "-6",
      "rule add fwmark 0x111/0xfff pref 32764 lookup 100\nroute add local ::/0 dev lo table 100\n",
      "rule del fwmark 0x111/0xfff pref 32764 lookup 100\nroute del local ::/0 dev lo table 100\n",
    ],
  ]);
  expect(routingBatches({ ipv6: false }).map(({ family }) => family)).toEqual(["-4"]);
});

test("ownTables takes ours and leaves others", () => {
  const ruleset = "table inet other {\n\tchain x {\n\t}\n}\ntable inet istio-ambient-nat {\n\tchain y {\n\t}\n}\n";
  expect(ownTables(ruleset)).toBe("table inet istio-ambient-nat {\n\tchain y {\n\t}\n}\n");
  expect(ownTables("")).toBe("");
});

describe("annotations", () => {
  const dns = "ambient.istio.io/dns-capture";
  const bypass = "ambient.istio.io/bypass-inbound-capture";
  const reroute = "istio.io/reroute-virtual-interfaces";
  const plain = { dnsCapture: false, ingressMode: false, rerouteInterfaces: [] };

  // prettier-ignore
  test.each([ // annotations                 wishes                                            why
    [{},                                     plain,                                            "nothing asked"],
    [{ [dns]: "true" },                      { ...plain, dnsCapture: true },                   "over the agent's default"],
    [{ [bypass]: "TRUE" },                   { ...plain, ingressMode: true },                  "in any case"],
    [{ [bypass]: "" },                       plain,                                            "empty is absent"],
    [{ [reroute]: " net1, net2 ,,net1" },    { ...plain, rerouteInterfaces: ["net1", "net2"] }, "trimmed, without doubles"],
  ])("%j is %j: %s", (annotations, wishes, _why) => {
    expect(wishesOf(annotations as Record<string, string>, { dnsCapture: false })).toEqual(wishes);
  });

  // prettier-ignore
  test.each([ // annotations                                    why
    [{ [bypass]: "yes" },                                       "not a boolean"],
    [{ [reroute]: 'x" accept; flush ruleset; #' },              "nft syntax"],
    [{ [reroute]: "net1\nflush ruleset" },                      "a line break"],
    [{ [reroute]: "a-name-that-is-too-long" },                  "longer than the kernel's names"],
  ])("%j is refused: %s", (annotations, _why) => {
    expect(() => wishesOf(annotations as Record<string, string>, { dnsCapture: false })).toThrow(/Cannot read annotation/);
  });
});
