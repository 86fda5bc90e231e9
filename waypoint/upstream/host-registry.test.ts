import { expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { emptyAssignment, socketAt, type Assignment } from "./compile/compile-endpoints.ts";
import type { Endpoint } from "./endpoint.ts";
import { HostRegistry } from "./host-registry.ts";

interface Member {
  readonly id: number;
  readonly priority: number;
  readonly zone: string;
  readonly weight: number;
}

function assignmentOf(members: readonly Member[]): Assignment {
  return {
    ...emptyAssignment,
    groups: members.map(({ id, priority, zone, weight }) => ({
      locality: { region: "r", zone, subZone: "" },
      priority,
      weight: 1,
      endpoints: [
        {
          ...socketAt(`10.0.0.${id}`, 80),
          alternatives: [],
          hostname: "",
          weight,
          status: "healthy",
          metadata: new Map(),
        },
      ],
    })),
  };
}

const members = fc.array(
  fc.record({
    id: fc.integer({ min: 0, max: 9 }),
    priority: fc.integer({ min: 0, max: 2 }),
    zone: fc.constantFrom("a", "b"),
    weight: fc.integer({ min: 1, max: 5 }),
  }),
  { maxLength: 12 },
);

test("whatever the updates, hosts are those assigned, each once, and keep their identity while they stay", () => {
  fc.assert(
    fc.property(fc.array(members, { minLength: 1, maxLength: 6 }), (updates) => {
      const registry = new HostRegistry();
      let before = new Map<string, Endpoint>();
      for (const update of updates) {
        const { added, removed } = registry.assign(assignmentOf(update), 0, false);
        const now = new Map(registry.hosts.map((host) => [host.key, host]));
        expect([...now.keys()].toSorted((a, b) => a.localeCompare(b))).toEqual(
          [...new Set(update.map(({ id }) => `10.0.0.${id}:80`))].toSorted((a, b) => a.localeCompare(b)),
        );
        for (const [key, host] of now) expect(before.get(key) ?? host).toBe(host);
        expect(added.every((host) => now.get(host.key) === host && !before.has(host.key))).toBe(true);
        expect(removed.every((host) => before.get(host.key) === host && !now.has(host.key))).toBe(true);
        expect(before.size + added.length - removed.length).toBe(now.size);
        const placed = registry.levels.levels.flatMap((groups) => groups.flatMap(({ hosts }) => hosts));
        expect(placed).toHaveLength(now.size);
        for (const [priority, groups] of registry.levels.levels.entries()) {
          for (const host of groups.flatMap(({ hosts }) => hosts)) expect(host.priority).toBe(priority);
        }
        before = now;
      }
    }),
    { numRuns: 100, seed: 1 },
  );
});

test("a logical host is the same wherever its name points", () => {
  const registry = new HostRegistry();
  const at = (ip: string): Assignment => ({
    ...emptyAssignment,
    groups: [
      {
        locality: { region: "", zone: "", subZone: "" },
        priority: 0,
        weight: 0,
        endpoints: [
          { ...socketAt(ip, 80), alternatives: [], hostname: "db", weight: 1, status: "unknown", metadata: new Map() },
        ],
      },
    ],
  });
  const [host] = registry.assign(at("10.0.0.1"), 0, true).added;
  expect(registry.assign(at("10.0.0.2"), 0, true)).toEqual({ added: [], removed: [] });
  expect(registry.hosts).toEqual([host]);
  expect(host).toMatchObject({ key: "10.0.0.2:80", address: { ip: "10.0.0.2" } });
});
