import { expect, test } from "@jest/globals";
import { listeningPorts, problemsOf, type Observed } from "./capture-check.ts";
import { ipv4AddressesOf, ipv6AddressesOf } from "./namespace-addresses.ts";
import { podUidOf } from "./netns-finder.ts";
import { routingBatches } from "./redirect-rules.ts";

const tables = "table inet istio-ambient-nat {\n\tchain y {\n\t}\n}\n";
const routing = routingBatches({ ipv6: true });
const rule = "32764:\tfrom all fwmark 0x111/0xfff lookup 100\n";
const well: Observed = {
  ips: ["127.0.0.1", "10.0.0.1", "fd00::1"],
  listening: new Set([15_001, 15_006, 15_008, 8_080]),
  answersDns: true,
  ruleset: `table inet other {\n}\n${tables}`,
  routing: {
    "-4": `${rule}local default dev lo scope host \n`,
    "-6": `${rule}local default dev lo metric 1024 pref medium\n`,
  },
};

// prettier-ignore
test.each([ // what is different                                             reasons                why
  [{},                                                                       [],                    "all is well"],
  [{ ips: ["10.0.0.1"] },                                                    ["WrongNamespace"],    "one address of two is not enough"],
  [{ ruleset: "" },                                                          ["RulesMissing"],      "somebody flushed them"],
  [{ ruleset: well.ruleset.replace("chain y", "chain z") },                  ["RulesMissing"],      "somebody changed them"],
  [{ routing: { ...well.routing, "-6": rule } },                             ["RoutingMissing"],    "the route is gone"],
  [{ routing: { ...well.routing, "-4": "local default dev lo scope host" } }, ["RoutingMissing"],   "the rule is gone"],
  [{ listening: new Set([15_001, 15_006]) },                                 ["ListenersMissing"],  "one of three ports"],
  [{ answersDns: false },                                                    ["ListenersMissing"],  "questions would not be answered"],
  [{ listening: new Set<number>(), ruleset: "" },                            ["RulesMissing", "ListenersMissing"], "all that is wrong is told"],
])("problemsOf %#: %j is %j: %s", (change, reasons, _why) => {
  const problems = problemsOf({ ...well, ...change }, { ips: ["10.0.0.1", "fd00::1"], tables, routing, dnsCapture: true });
  expect(problems.map(({ reason }) => reason)).toEqual(reasons);
});

test("who answers no questions is captured all the same where none are sent", () => {
  const expected = { ips: ["10.0.0.1"], tables, routing, dnsCapture: false };
  expect(problemsOf({ ...well, answersDns: false }, expected)).toEqual([]);
});

test("listening sockets of /proc/net/tcp6", () => {
  const text = `  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000000000000:3A99 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   1: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:B1B2 01 00000000:00000000 00:00000000
`;
  expect(listeningPorts(text)).toEqual([15_001]);
  expect(listeningPorts("")).toEqual([]);
});

test("UDP sockets that anybody may send to, of /proc/net/udp", () => {
  const text = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 1163: 0100007F:3ACD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 13 2 0000000000000000 0
 1164: 0500000A:3ACE 0A00600A:0035 01 00000000:00000000 00:00000000 00000000     0        0 14 2 0000000000000000 0
`;
  expect(listeningPorts(text, "udp")).toEqual([15_053]);
});

test("addresses of /proc/net/fib_trie and if_inet6", () => {
  const trie = `Local:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.77.1.0/24 2 0 2
        |-- 10.77.1.2
           /32 host LOCAL
        |-- 10.77.1.255
           /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
`;
  expect(ipv4AddressesOf(trie)).toEqual(["10.77.1.2", "127.0.0.1"]);
  expect(ipv6AddressesOf("fd770001000000000000000000000002 02 40 00 82     eth0\n")).toEqual(["fd77:1::2"]);
});

// prettier-ignore
test.each([ // cgroup                                                                                      why
  ["0::/kubepods/burstable/pod3f2c8a1e-0a1b-4c2d-8e3f-000000000001/abc",                                   "cgroupfs driver"],
  ["0::/kubepods.slice/kubepods-burstable-pod3f2c8a1e_0a1b_4c2d_8e3f_000000000001.slice/cri-containerd-a", "systemd driver"],
])("podUidOf(%s): %s", (cgroup, _why) => {
  expect(podUidOf(cgroup)).toBe("3f2c8a1e-0a1b-4c2d-8e3f-000000000001");
});

test("a process outside pods has no uid", () => {
  expect(podUidOf("0::/system.slice/containerd.service")).toBeUndefined();
});
