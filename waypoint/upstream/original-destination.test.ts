import { expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { PickContext } from "./clusters.ts";
import type { OriginalDstConfig } from "./compile/compile-discovery.ts";
import { Endpoint } from "./endpoint.ts";
import { OriginalDestination } from "./original-destination.ts";

function setUp(config: Partial<OriginalDstConfig> = {}, maxHosts = 3) {
  const clock = new FakeClock();
  const removed: string[] = [];
  const source = new OriginalDestination({
    config: { kind: "original-dst", header: undefined, portOverride: undefined, cleanupMs: 5_000, ...config },
    clock,
    isTunnelled: (ip) => ip.startsWith("10.244."),
    onRemoved: ({ key }) => removed.push(key),
    maxHosts,
  });
  const to = (ip: string, port = 80) => source.pick({ originalDestination: { ip, port } });
  return { clock, removed, source, to };
}

const show = (picked: Endpoint | string) => (picked instanceof Endpoint ? [picked.key, picked.address.kind] : picked);
const exchange = (pairs: string[]) =>
  ({
    connection: { destination: { ip: "10.0.0.5", port: 81 } },
    request: { headers: new Headers(pairs) },
  }) as unknown as NonNullable<PickContext["exchange"]>;

test("goes where the client was going, in a tunnel where one leads there", () => {
  const { to, source } = setUp();
  expect(show(to("10.0.0.1"))).toEqual(["10.0.0.1:80", "socket"]);
  expect(show(to("10.244.0.1"))).toEqual(["envoy://connect_originate/10.244.0.1:80", "hbone"]);
  expect(to("10.0.0.1")).toBe(to("10.0.0.1"));
  expect(show(source.pick({ exchange: exchange([]) }))).toEqual(["10.0.0.5:81", "socket"]);
  expect(source.pick({})).toBe("the connection has no original destination");
});

test("another port, and another place where a header may say so", () => {
  const { source } = setUp({ portOverride: 9090, header: "x-to" });
  expect(show(source.pick({ exchange: exchange(["x-to", "10.0.0.7:1"]) }))).toEqual(["10.0.0.7:9090", "socket"]);
  expect(show(source.pick({ exchange: exchange([]) }))).toEqual(["10.0.0.5:9090", "socket"]);
  expect(source.pick({ exchange: exchange(["x-to", "evil"]) })).toBe("header x-to holds no IP address and port");
});

test("a header counts only where configured", () => {
  const { source } = setUp();
  const headers = exchange(["x-envoy-original-dst-host", "10.0.0.7:1"]);
  expect(show(source.pick({ exchange: headers }))).toEqual(["10.0.0.5:81", "socket"]);
});

test("what nobody uses between two looks is forgotten; what is in flight is not", async () => {
  const { to, clock, removed } = setUp();
  to("10.0.0.1");
  (to("10.0.0.2") as Endpoint).active = 1;
  await clock.advance(5_000);
  to("10.0.0.1");
  await clock.advance(5_000);
  expect(removed).toEqual([]);
  await clock.advance(5_000);
  expect(removed).toEqual(["10.0.0.1:80"]);
});

test("is bounded: the oldest idle one makes room, and where none is idle nobody gets in", () => {
  const { to, removed, source } = setUp();
  for (const last of [1, 2, 3]) (to(`10.0.0.${last}`) as Endpoint).active = last === 2 ? 0 : 1;
  to("10.0.0.4");
  expect(removed).toEqual(["10.0.0.2:80"]);
  (to("10.0.0.4") as Endpoint).active = 1;
  expect(to("10.0.0.5")).toBe("too many original destinations are in use");
  expect(source.hosts).toHaveLength(3);
});

test("closed, it leaves no timer", () => {
  const { to, source, clock } = setUp();
  to("10.0.0.1");
  source[Symbol.dispose]();
  expect(clock.pending).toBe(0);
});
