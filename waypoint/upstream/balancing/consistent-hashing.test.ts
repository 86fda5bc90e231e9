import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { fakeHost, pickerTools, seeded, type FakeHost } from "../testing.ts";
import { BoundedLoad } from "./bounded-load.ts";
import { Maglev } from "./maglev.ts";
import { MersenneTwister } from "./mersenne-twister.ts";
import type { HashingConfig, Share } from "./picker.ts";
import { RingHash } from "./ring-hash.ts";

const byKey: HashingConfig = { usesHostname: false, balanceFactor: 0 };
const six = [90, 91, 92, 93, 94, 95].map((port) => fakeHost(`127.0.0.1:${port}`));
const portOf = (host: FakeHost | undefined) => Number(host?.key.split(":")[1]);

function sharesOf(hosts: readonly FakeHost[]): Share<FakeHost>[] {
  const sum = hosts.reduce((sum, { weight }) => sum + weight, 0);
  return hosts.map((host) => ({ host, share: host.weight / sum }));
}

const ring = (hosts: readonly FakeHost[], minRing = 1024) =>
  new RingHash(sharesOf(hosts), {
    kind: "ring-hash",
    minRing,
    maxRing: 8_388_608,
    hashFunction: "xxhash",
    hashing: byKey,
  });
const maglev = (hosts: readonly FakeHost[], tableSize = 65_537, hashing = byKey) =>
  new Maglev(sharesOf(hosts), { kind: "maglev", tableSize, hashing });
const random64 = (random: () => number) =>
  (BigInt(Math.floor(random() * 2 ** 32)) << 32n) | BigInt(Math.floor(random() * 2 ** 32));

describe("ring hash", () => {
  test("places hosts where Envoy places them", () => {
    const entries = ring(six, 12).entries();
    expect(entries.map(({ host, hash }) => [portOf(host), hash])).toEqual([
      [94, 833_437_586_790_550_860n],
      [92, 928_266_305_478_181_108n],
      [90, 1_033_482_794_131_418_490n],
      [95, 3_551_244_743_356_806_947n],
      [93, 3_851_675_632_748_031_481n],
      [91, 5_583_722_120_771_150_861n],
      [91, 6_311_230_543_546_372_928n],
      [93, 7_700_377_290_971_790_572n],
      [95, 13_144_177_310_400_110_813n],
      [92, 13_444_792_449_719_432_967n],
      [94, 15_516_499_411_664_133_160n],
      [90, 16_117_243_373_044_804_889n],
    ]);
  });

  // prettier-ignore
  test.each([ // hash, attempt, port
    [0n,                              0, 94],
    [3_551_244_743_356_806_947n,      0, 95],
    [3_551_244_743_356_806_948n,      0, 93],
    [2n ** 64n - 1n,                  0, 94],
    [0n,                              1, 92],
    [16_117_243_373_044_804_889n,     1, 94],
  ])("hash %d, attempt %d goes to %d", (hash, attempt, port) => {
    expect(portOf(ring(six, 12).pick(hash, attempt))).toBe(port);
  });

  test("gives each host places by its weight", () => {
    const hosts = [fakeHost("10.0.0.1:80", { weight: 1 }), fakeHost("10.0.0.2:80", { weight: 3 })];
    const entries = ring(hosts, 8).entries();
    expect(entries.filter(({ host }) => host === hosts[0])).toHaveLength(2);
    expect(entries.filter(({ host }) => host === hosts[1])).toHaveLength(6);
  });

  test("is bounded by its largest size", () => {
    const hosts = [fakeHost("10.0.0.1:80"), fakeHost("10.0.0.2:80", { weight: 1000 })];
    const config = { kind: "ring-hash", minRing: 64, maxRing: 100, hashFunction: "murmur2", hashing: byKey } as const;
    expect(new RingHash(sharesOf(hosts), config).entries()).toHaveLength(100);
  });

  test("moves little but what a lost host had", () => {
    const hosts = Array.from({ length: 20 }, (_, i) => fakeHost(`10.0.0.${i}:80`));
    const before = ring(hosts);
    const after = ring(hosts.slice(1));
    const random = seeded(3);
    let moved = 0;
    for (let i = 0; i < 2000; i++) {
      const hash = random64(random);
      const was = before.pick(hash, 0);
      if (was !== hosts[0] && after.pick(hash, 0) !== was) moved++;
    }
    // The ring keeps its size, so that those who stay gain a place here and there.
    expect(moved / 2000).toBeLessThan(0.08);
  });

  test("without hosts picks nobody", () => {
    expect(ring([]).pick(1n, 0)).toBeUndefined();
  });
});

describe("Maglev", () => {
  test("fills the table as Envoy fills it", () => {
    expect(maglev(six, 7).table().map(portOf)).toEqual([92, 94, 90, 91, 95, 90, 93]);
  });

  test("shares slots by weight to a slot or so", () => {
    const hosts = [1, 2, 3, 4].map((weight) => fakeHost(`10.0.0.${weight}:80`, { weight }));
    const table = maglev(hosts).table();
    for (const host of hosts) {
      const slots = table.filter((owner) => owner === host).length;
      expect(Math.abs(slots - (65_537 * host.weight) / 10)).toBeLessThan(10);
    }
  });

  test("is balanced, whole, and deterministic whatever the order of hosts", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 250 }), { minLength: 1, maxLength: 20 }), (ids) => {
        const hosts = ids.map((id) => fakeHost(`10.0.0.${id}:80`));
        const table = maglev(hosts, 1009).table();
        const reversed = maglev(hosts.toReversed(), 1009).table();
        expect(table).toEqual(reversed);
        const slots = hosts.map((host) => table.filter((owner) => owner === host).length);
        expect(Math.max(...slots) - Math.min(...slots)).toBeLessThanOrEqual(1);
      }),
      { numRuns: 50, seed: 1 },
    );
  });

  test("disturbs few slots when a host goes", () => {
    const hosts = Array.from({ length: 10 }, (_, i) => fakeHost(`10.0.0.${i}:80`));
    const before = maglev(hosts).table();
    const after = maglev(hosts.slice(1)).table();
    const disturbed = before.filter((host, slot) => host !== hosts[0] && after[slot] !== host).length;
    // A tenth has to move; what else moves should be a small part of the rest.
    expect(disturbed / 65_537).toBeLessThan(0.15);
  });

  test("another attempt looks elsewhere", () => {
    const table = maglev(six, 7);
    const owners = table.table();
    expect(table.pick(3n, 0)).toBe(owners[3]);
    expect(table.pick(3n, 1)).toBe(owners[Number((3n ^ (2n ** 64n - 1n)) % 7n)]);
  });

  test("hashes by hostname or by what metadata says, where asked to", () => {
    const hosts = [fakeHost("10.0.0.1:80", { hostname: "b" }), fakeHost("10.0.0.2:80", { hostname: "a" })];
    const swapped = [fakeHost("10.0.0.1:80", { hashKey: "a" }), fakeHost("10.0.0.2:80", { hashKey: "b" })];
    const byName = maglev(hosts, 1009, { usesHostname: true, balanceFactor: 0 }).table();
    const byMetadata = maglev(swapped, 1009).table();
    expect(byName.map(({ hostname }) => hostname)).toEqual(byMetadata.map(({ hashKey }) => hashKey));
  });
});

describe("bounded load", () => {
  const busy = (hosts: readonly FakeHost[], factor: number) =>
    new BoundedLoad(ring(hosts), sharesOf(hosts), factor, {
      ...pickerTools(),
      totalActive: () => hosts.reduce((sum, { active }) => sum + active, 0),
    });

  test("keeps to the hash until its host is too busy", () => {
    const hosts = [1, 2, 3, 4].map((id) => fakeHost(`10.0.0.${id}:80`));
    const picker = busy(hosts, 150);
    const preferred = ring(hosts).pick(42n, 0) as FakeHost;
    expect(picker.pick(42n, 0)).toBe(preferred);
    preferred.active = 10;
    const other = picker.pick(42n, 0) as FakeHost;
    expect(other).not.toBe(preferred);
    expect(picker.pick(42n, 0)).toBe(other);
  });

  test("no host exceeds its part of the average", () => {
    const hosts = [1, 2, 3, 4, 5].map((id) => fakeHost(`10.0.0.${id}:80`));
    const picker = busy(hosts, 125);
    for (let request = 0; request < 500; request++) (picker.pick(7n, 0) as FakeHost).active++;
    for (const { active } of hosts) expect(active).toBeLessThanOrEqual(Math.ceil(Math.ceil(500 * 1.25) / 5) + 1);
  });

  test("the Mersenne Twister is that of C++", () => {
    const twister = new MersenneTwister(5489);
    let last = 0;
    for (let i = 0; i < 10_000; i++) last = twister.next();
    expect(last).toBe(4_123_659_995);
  });
});
