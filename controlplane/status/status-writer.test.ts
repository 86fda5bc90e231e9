import { describe, expect, test } from "@jest/globals";
import { refOf, type SourceEvent, type SourceObject } from "#controlplane/sources/source.ts";
import { FakeApiServer, type Stored } from "#controlplane/sources/testing/fake-api-server.ts";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { StatusWriter } from "./status-writer.ts";
import { isWritten, statusToApply, type WantedCondition, type WantedStatus } from "./wanted-status.ts";

const policies = "/apis/security.istio.io/v1/authorizationpolicies";

const accepted: WantedCondition = {
  type: "ZtunnelAccepted",
  status: "True",
  reason: "Accepted",
  message: "attached to ztunnel",
  observedGeneration: "1",
};

const wanted = (name: string, conditions: readonly WantedCondition[]): WantedStatus => ({
  apiVersion: "security.istio.io/v1",
  kind: "AuthorizationPolicy",
  namespace: "shop",
  name,
  fieldManager: "istio-ambient-ztunnel-policy",
  ownedConditions: ["ZtunnelAccepted"],
  status: { conditions },
});

const written = (name: string, more: object = {}) => ({
  apiVersion: "security.istio.io/v1",
  kind: "AuthorizationPolicy",
  metadata: { name, namespace: "shop", ...more },
  spec: {},
});

const upsert = (object: Stored): SourceEvent => {
  const source = object as unknown as SourceObject;
  return { type: "upsert", ref: refOf(source), object: source, problems: [] };
};

async function setUp({ isLeader = true } = {}) {
  const server = await FakeApiServer.start();
  server.install(policies);
  const clock = new FakeClock();
  const stop = new AbortController();
  let leads = isLeader;
  const writer = new StatusWriter({
    client: server.client(),
    log: silentLogger,
    clock,
    isLeader: () => leads,
    revision: "default",
  });
  const running = writer.run(stop.signal);
  return {
    server,
    clock,
    writer,
    lead: () => {
      leads = true;
      writer.lead();
    },
    /** What a watch would tell. */
    tell: (name: string) => {
      const object = server.get(policies, "shop", name);
      if (object !== undefined) writer.take(upsert(object));
    },
    /** Lets everything that is due be written. */
    settle: async () => {
      for (let turn = 0; turn < 30; turn++) await clock.advance(0);
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
      await server[Symbol.asyncDispose]();
    },
  };
}

describe("StatusWriter", () => {
  test("applies a wanted status under its field manager, once", async () => {
    await using world = await setUp();
    world.server.put(policies, written("one"));
    world.tell("one");
    world.writer.want([wanted("one", [accepted])]);
    await world.server.until(() => world.server.patches.length === 1);
    expect(world.server.patches[0]).toEqual({
      path: "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies/one/status",
      fieldManager: "istio-ambient-ztunnel-policy",
      body: {
        apiVersion: "security.istio.io/v1",
        kind: "AuthorizationPolicy",
        metadata: { name: "one", namespace: "shop" },
        status: { conditions: [{ ...accepted, lastTransitionTime: "2027-01-15T08:00:00Z" }] },
      },
    });
    // The same again, before and after the watch tells of our own write.
    world.writer.want([wanted("one", [accepted])]);
    world.tell("one");
    world.writer.want([wanted("one", [accepted])]);
    await world.settle();
    expect(world.server.patches).toHaveLength(1);
  });

  test("writes again what somebody took away", async () => {
    await using world = await setUp();
    world.server.put(policies, written("one"));
    world.tell("one");
    world.writer.want([wanted("one", [accepted])]);
    await world.server.until(() => world.server.patches.length === 1);
    world.server.put(policies, written("one"));
    world.tell("one");
    await world.server.until(() => world.server.patches.length === 2);
    expect(world.server.patches[1]?.fieldManager).toBe("istio-ambient-ztunnel-policy");
  });

  test("who does not lead writes nothing until they do", async () => {
    await using world = await setUp({ isLeader: false });
    world.server.put(policies, written("one"));
    world.tell("one");
    world.writer.want([wanted("one", [accepted])]);
    await world.settle();
    expect(world.server.patches).toHaveLength(0);
    world.lead();
    await world.server.until(() => world.server.patches.length === 1);
  });

  test.each([
    [{ status: 429, body: { message: "too many requests" } }, "is busy"],
    [{ status: 500, body: { message: "boom" } }, "is in trouble"],
    [{ status: 403, body: { message: "no" } }, "knows of no rights yet"],
  ])("%j: asks a server that %s for as long as it takes", async (answer) => {
    await using world = await setUp();
    world.server.put(policies, written("one"));
    world.tell("one");
    const seen = { tries: 0 };
    world.server.override = (method) => {
      if (method !== "PATCH") return undefined;
      seen.tries++;
      return answer;
    };
    world.writer.want([wanted("one", [accepted])]);
    // A try is scheduled once the answer to the one before has arrived.
    while (seen.tries < 12) await world.clock.advance(5_000);
    world.server.override = undefined;
    while (world.server.patches.length === 0) await world.clock.advance(1_000);
    expect(world.server.patches).toHaveLength(1);
  });

  test("asks five times where it is refused, then waits for the object to change", async () => {
    await using world = await setUp();
    world.server.put(policies, written("one"));
    world.tell("one");
    const seen = { tries: 0 };
    world.server.override = (method) => {
      if (method !== "PATCH") return undefined;
      seen.tries++;
      return { status: 409, body: { message: "somebody else is faster" } };
    };
    world.writer.want([wanted("one", [accepted])]);
    // A try is scheduled once the answer to the one before has arrived.
    while (seen.tries < 5) await world.clock.advance(1_000);
    await world.settle();
    await world.clock.advance(600_000);
    expect(seen.tries).toBe(5);
    world.server.override = undefined;
    world.server.put(policies, written("one", { labels: { changed: "yes" } }));
    world.tell("one");
    await world.server.until(() => world.server.patches.length === 1);
  });

  test("does not ask again what is invalid", async () => {
    await using world = await setUp();
    world.server.put(policies, written("one"));
    world.tell("one");
    let tries = 0;
    world.server.override = (method) => {
      if (method !== "PATCH") return undefined;
      tries++;
      return { status: 422, body: { message: "no" } };
    };
    world.writer.want([wanted("one", [accepted])]);
    await world.server.until(() => tries === 1);
    await world.settle();
    await world.clock.advance(600_000);
    expect(tries).toBe(1);
  });

  test("a burst is written at once, the rest at twenty a second", async () => {
    await using world = await setUp();
    const names = Array.from({ length: 60 }, (_, index) => `p${index}`);
    for (const name of names) {
      world.server.put(policies, written(name));
      world.tell(name);
    }
    world.writer.want(names.map((name) => wanted(name, [accepted])));
    await world.server.until(() => world.server.patches.length === 50);
    await world.settle();
    expect(world.server.patches).toHaveLength(50);
    for (let count = 51; count <= 60; count++) {
      while (world.clock.pending === 0) await world.clock.advance(0);
      await world.clock.advance(50);
      await world.server.until(() => world.server.patches.length === count);
    }
    expect(world.server.patches).toHaveLength(60);
  });

  test("an invalid object says so, and stops saying so once it is valid", async () => {
    await using world = await setUp();
    const bad = world.server.put(policies, written("one")) as unknown as SourceObject;
    const problem = { severity: "error", path: ["spec"], message: "is wrong", remedy: "mend it" } as const;
    world.writer.take({
      type: "refuse",
      ref: refOf(bad),
      object: bad,
      kept: bad,
      problems: [problem],
      lines: ["spec: is wrong: mend it"],
    });
    await world.server.until(() => world.server.patches.length === 1);
    expect(world.server.patches[0]).toMatchObject({
      fieldManager: "ambit-validation",
      body: {
        status: {
          conditions: [
            {
              type: "ambit.dev/Valid",
              status: "False",
              reason: "Invalid",
              message: "The version before, which was valid, stays in force: spec: is wrong: mend it",
              observedGeneration: 1,
            },
          ],
        },
      },
    });
    world.tell("one");
    await world.server.until(() => world.server.patches.length === 2);
    // Giving up everything is saying nothing: the API server refuses a status that becomes empty.
    expect(world.server.patches[1]?.body).not.toHaveProperty("status");
  });

  test("an object with oddities is told of them, and in force", async () => {
    await using world = await setUp();
    const odd = world.server.put(policies, written("one")) as unknown as SourceObject;
    const problem = { severity: "warning", path: ["spec"], message: "is odd", remedy: "mend it" } as const;
    world.writer.take({ type: "upsert", ref: refOf(odd), object: odd, problems: [problem] });
    await world.server.until(() => world.server.patches.length === 1);
    expect(world.server.patches[0]?.body).toMatchObject({
      status: {
        conditions: [
          {
            type: "ambit.dev/Valid",
            status: "True",
            reason: "Warnings",
            message: "The object is in force, but may not do what it says: spec: is odd: mend it",
          },
        ],
      },
    });
  });

  test("objects of another revision are left to their control plane", async () => {
    await using world = await setUp();
    world.server.put(policies, written("canary", { labels: { "istio.io/rev": "canary" } }));
    world.tell("canary");
    world.writer.want([wanted("canary", [accepted])]);
    await world.settle();
    expect(world.server.patches).toHaveLength(0);
  });
});

const object = (status: object): SourceObject => ({
  apiVersion: "security.istio.io/v1",
  kind: "AuthorizationPolicy",
  metadata: { name: "one", namespace: "shop", uid: "u", creationTimestamp: "" },
  status,
});
const found = { ...accepted, lastTransitionTime: "2020-01-01T00:00:00Z" };

describe("isWritten", () => {
  // prettier-ignore
  test.each([ // why, wanted conditions, found status, written
    ["nothing there",                       [accepted], {},                                                            false],
    ["the same but for the time",           [accepted], { conditions: [found] },                                       true],
    ["a generation as number",              [accepted], { conditions: [{ ...found, observedGeneration: 1 }] },         true],
    ["another generation",                  [accepted], { conditions: [{ ...found, observedGeneration: 2 }] },         false],
    ["another message",                     [accepted], { conditions: [{ ...found, message: "x" }] },                  false],
    ["beside a condition of somebody else", [accepted], { conditions: [found, { ...found, type: "other" }] },          true],
    ["one of ours not wanted any more",     [],         { conditions: [found] },                                       false],
    ["one of somebody else, none wanted",   [],         { conditions: [{ ...found, type: "other" }] },                 true],
    ["a status that is no status",          [accepted], { conditions: "what" },                                        false],
  ])("%s", (_why, conditions, status, expected) => {
    expect(isWritten(wanted("one", conditions), object(status))).toBe(expected);
  });

  test("addresses and listeners are compared whole", () => {
    const listener = { name: "mesh", attachedRoutes: 0, supportedKinds: [], conditions: [accepted] };
    const gateway: WantedStatus = {
      ...wanted("g", []),
      status: { addresses: [{ value: "10.0.0.1" }], listeners: [listener] },
    };
    const same = { addresses: [{ value: "10.0.0.1" }], listeners: [{ ...listener, conditions: [found] }] };
    expect(isWritten(gateway, object(same))).toBe(true);
    expect(isWritten(gateway, object({ ...same, addresses: [] }))).toBe(false);
    expect(isWritten(gateway, object({ ...same, listeners: [{ ...same.listeners[0], attachedRoutes: 1 }] }))).toBe(
      false,
    );
  });
});

describe("parents of a route", () => {
  const ours = {
    parentRef: { group: "", kind: "Service", name: "cart" },
    controllerName: "istio.io/gateway-controller",
  };
  const theirs = { ...ours, controllerName: "example.com/other", conditions: [] };
  const gateway = {
    ...ours,
    parentRef: { group: "gateway.networking.k8s.io", kind: "Gateway", name: "g" },
    conditions: [],
  };
  const told = { ...ours, conditions: [found] };
  const route: WantedStatus = { ...wanted("r", []), status: { parents: [{ ...ours, conditions: [accepted] }] } };
  const none: WantedStatus = { ...route, status: { parents: [] } };

  test.each([
    [route, [], false],
    [route, [theirs, gateway, told], true],
    [route, [{ ...told, conditions: [] }], false],
    [route, [{ ...told, parentRef: { ...told.parentRef, port: 80 } }], false],
    [route, "what", false],
    [none, [theirs, gateway], true],
    [none, [told], false],
  ])("row %#: written or not", (status, parents, expected) => {
    expect(isWritten(status, object({ parents }))).toBe(expected);
  });

  test("what others say stays, with the times of what we said before", () => {
    expect(statusToApply(route, object({ parents: [theirs, told, gateway] }), 0)).toEqual({
      parents: [theirs, gateway, told],
    });
    expect(statusToApply(none, object({ parents: [told, theirs] }), 0)).toEqual({ parents: [theirs] });
  });
});

describe("ancestors of a policy", () => {
  const ours = (name: string) => ({
    ancestorRef: { group: "", kind: "Service", name },
    controllerName: "istio.io/gateway-controller",
    conditions: [accepted],
  });
  const theirs = (name: string) => ({ ...ours(name), controllerName: "example.com/other", conditions: [] });
  const policy = (...names: readonly string[]): WantedStatus => ({
    ...wanted("p", []),
    status: { ancestors: names.map(ours) },
  });
  const told = (name: string) => ({ ...ours(name), conditions: [found] });

  test("what others say stays; what is ours no more goes", () => {
    expect(
      statusToApply(policy("cart"), object({ ancestors: [told("gone"), theirs("cart"), told("cart")] }), 0),
    ).toEqual({
      ancestors: [theirs("cart"), told("cart")],
    });
    expect(isWritten(policy("cart"), object({ ancestors: [theirs("cart"), told("cart")] }))).toBe(true);
    expect(isWritten(policy("cart"), object({ ancestors: [told("gone"), told("cart")] }))).toBe(false);
    expect(isWritten(policy(), object({ ancestors: [theirs("cart")] }))).toBe(true);
  });

  test("a condition that is wanted no more goes", () => {
    const more = { ...told("cart"), conditions: [found, { ...found, type: "PartiallyInvalid" }] };
    expect(isWritten(policy("cart"), object({ ancestors: [more] }))).toBe(false);
  });

  test("a list that others have filled takes as many of ours as there is room for, and that is all that is wanted", () => {
    const others = Array.from({ length: 15 }, (_, index) => theirs(`other-${index}`));
    const full = object({ ancestors: others });
    expect(statusToApply(policy("cart", "orders"), full, 0)["ancestors"]).toHaveLength(16);
    expect(isWritten(policy("cart", "orders"), object({ ancestors: [...others, told("cart")] }))).toBe(true);
    const fuller = object({ ancestors: [...others, theirs("other-15")] });
    expect(statusToApply(policy("cart"), fuller, 0)["ancestors"]).toHaveLength(16);
    expect(isWritten(policy("cart"), fuller)).toBe(true);
  });
});

describe("statusToApply", () => {
  const now = Date.parse("2026-05-05T05:05:05.678Z");

  test("a time stays while its status does, whatever the message", () => {
    const status = statusToApply(
      wanted("one", [{ ...accepted, message: "new" }]),
      object({ conditions: [found] }),
      now,
    );
    expect(status).toEqual({
      conditions: [{ ...accepted, message: "new", lastTransitionTime: "2020-01-01T00:00:00Z" }],
    });
  });

  test("a changed status gets the time of now", () => {
    const status = statusToApply(
      wanted("one", [{ ...accepted, status: "False" }]),
      object({ conditions: [found] }),
      now,
    );
    expect(status).toMatchObject({ conditions: [{ lastTransitionTime: "2026-05-05T05:05:05Z" }] });
  });
});
