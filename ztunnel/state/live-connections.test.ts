import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { decide } from "#shared/rbac/decide.ts";
import type { Policy } from "#shared/rbac/policy.ts";
import { ip, workloadOf } from "#shared/testing/mesh-fixtures.ts";
import { dumpConnections } from "./config-dump.ts";
import {
  ConnectionTable,
  destinationJoined,
  type InboundConnection,
  type OutboundConnection,
} from "./live-connections.ts";
import { MeshState } from "./mesh-state.ts";

const server = workloadOf("server", { addresses: ["10.0.0.2"] });
const connection = (sourcePort = 1): InboundConnection => ({
  policyConnection: { sourceIp: ip("10.0.0.1"), destinationIp: ip("10.0.0.2"), destinationPort: 80 },
  destination: server,
  sourcePort,
});

const denyAll = (wish: Partial<Policy> = {}): Policy => ({
  key: "ns/deny",
  name: "deny",
  namespace: "ns",
  scope: "NAMESPACE",
  action: "DENY",
  dryRun: false,
  rules: [[]],
  ...wish,
});

function open() {
  const state = new MeshState({ clock: new FakeClock() });
  state.applyAddresses({ workloads: [server] });
  const table = new ConnectionTable({
    inbound: ({ destination, policyConnection }) =>
      decide(
        state.policies.policiesFor(state.workloads.workloadByUid(destination.uid) ?? destination),
        policyConnection,
      ),
    takesTunnel: ({ actualDestination }) => actualDestination.port !== 15_020,
  });
  state.onPolicyChange(() => table.recheck());
  state.onJoined((addresses) => table.joined(addresses));
  const closed: string[] = [];
  return { state, table, closed, close: (why: string) => void closed.push(why) };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("live connections", () => {
  test("M2 are closed, once, when a new policy forbids them", async () => {
    const { state, table, closed, close } = open();
    using handle = table.openInbound(connection(), close);
    expect(handle.verdict.allowed).toBe(true);
    state.applyPolicies([denyAll()], []);
    state.applyPolicies([denyAll()], []);
    await turn();
    expect(closed).toEqual(["explicitly denied by: ns/deny"]);
    expect([...table.inbound]).toEqual([]);
  });

  test("stay where a change still allows them, and where it only tries out", async () => {
    const { state, table, closed, close } = open();
    using _handle = table.openInbound(connection(), close);
    state.applyPolicies([denyAll({ dryRun: true })], []);
    state.applyPolicies([denyAll({ key: "ns/other", rules: [] })], []);
    await turn();
    expect(closed).toEqual([]);
  });

  test("are closed when their workload comes to name a policy", async () => {
    const { state, table, closed, close } = open();
    state.applyPolicies([denyAll({ scope: "WORKLOAD_SELECTOR" })], []);
    using _handle = table.openInbound(connection(), close);
    state.applyAddresses({ workloads: [{ ...server, authorizationPolicies: ["ns/deny"] }] });
    await turn();
    expect(closed).toHaveLength(1);
  });

  test("that a policy change meets between registration and check are seen by one of them", async () => {
    const { state, table, closed, close } = open();
    state.applyPolicies([denyAll()], []);
    using handle = table.openInbound(connection(), close);
    expect(handle.verdict).toMatchObject({ allowed: false, policy: "ns/deny" });
    await turn();
    expect(closed.length).toBeLessThanOrEqual(1);
  });

  test("thousands are checked in slices, all of them", async () => {
    const { state, table, closed, close } = open();
    for (let port = 0; port < 2_500; port++) table.openInbound(connection(port), close);
    state.applyPolicies([denyAll()], []);
    for (let index = 0; index < 4; index++) await turn();
    expect(closed).toHaveLength(2_500);
  });

  test("end with their pod, and those already released do not", () => {
    const { table, closed, close } = open();
    table.openInbound(connection(1), close)[Symbol.dispose]();
    table.openInbound(connection(2), close);
    table[Symbol.dispose]();
    expect(closed).toEqual(["the pod was removed"]);
  });

  test("in clear are ended when their destination joins the mesh, tunnels and what would stay in clear are not", () => {
    const { state, table, closed, close } = open();
    const plain = workloadOf("plain", { addresses: ["10.0.0.3"], protocol: "TCP" });
    const outbound = (port: number, more: Partial<OutboundConnection> = {}): OutboundConnection => ({
      source: { ip: ip("10.0.0.2"), port },
      originalDestination: { ip: ip("10.96.0.1"), port: 80 },
      actualDestination: { ip: ip("10.0.0.3"), port: 80 },
      protocol: "TCP",
      ...more,
    });
    state.applyAddresses({ workloads: [plain] });
    table.openOutbound(outbound(1), close);
    table.openOutbound(outbound(2, { protocol: "HBONE" }), close);
    table.openOutbound(outbound(3, { actualDestination: { ip: ip("10.0.0.4"), port: 80 } }), close);
    table.openOutbound(outbound(4, { actualDestination: { ip: ip("10.0.0.3"), port: 15_020 } }), close);
    table.openOutbound(outbound(5), close)[Symbol.dispose]();
    state.applyAddresses({ workloads: [{ ...plain, workloadName: "renamed" }] });
    expect(closed).toEqual([]);
    state.applyAddresses({ workloads: [{ ...plain, protocol: "HBONE" }] });
    expect(closed).toEqual([destinationJoined]);
    expect([...table.outbound].map(({ source }) => source.port)).toEqual([2, 3, 4]);
    state.applyAddresses({ workloads: [{ ...plain, protocol: "HBONE", workloadName: "again" }] });
    expect(closed).toHaveLength(1);
  });

  test("M1 equal ones are shown as one, until the last is released", () => {
    const { table, close } = open();
    const [first, second] = [table.openInbound(connection(), close), table.openInbound(connection(), close)];
    const shown = () => dumpConnections(table.inbound, table.outbound).inbound;
    expect(shown()).toEqual([{ src: "10.0.0.1:1", originalDst: null, actualDst: "10.0.0.2:80", protocol: "TCP" }]);
    first[Symbol.dispose]();
    expect(shown()).toHaveLength(1);
    second[Symbol.dispose]();
    expect(shown()).toEqual([]);
  });
});
