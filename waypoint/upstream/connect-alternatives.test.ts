import { expect, test } from "@jest/globals";
import type { Duplex } from "node:stream";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { socketAt } from "./compile/compile-endpoints.ts";
import { withAlternatives } from "./connect-alternatives.ts";
import { Endpoint } from "./endpoint.ts";
import type { Connector } from "./transport/connector.ts";

function setUp(answers: Readonly<Record<string, Duplex>>) {
  const dialled: string[] = [];
  const inner: Connector = {
    clock: new FakeClock(),
    connectHost: ({ address, hostname }) => {
      dialled.push(`${hostname} ${address.ip}`);
      const found = answers[address.ip];
      return found === undefined ? Promise.reject(new Error(`${address.ip} refused`)) : Promise.resolve(found);
    },
    [Symbol.dispose]: () => {},
  };
  const spec = {
    ...socketAt("10.0.0.1", 80),
    alternatives: [socketAt("fd00::1", 80).address],
    hostname: "dual",
    weight: 1,
    status: "healthy",
    metadata: new Map(),
  } as const;
  const host = new Endpoint(spec, { locality: { region: "", zone: "", subZone: "" }, priority: 0 }, 0);
  const signal = new AbortController();
  const connect = () => withAlternatives(inner).connectHost(host, { connectTimeoutMs: 1_000 }, signal.signal);
  return { connect, dialled, host, signal };
}

const duplex = {} as Duplex;

test("the first address that answers is taken", async () => {
  const { connect, dialled } = setUp({ "10.0.0.1": duplex });
  expect(await connect()).toBe(duplex);
  expect(dialled).toEqual(["dual 10.0.0.1"]);
});

test("the next is tried where one does not answer, and says nothing of itself", async () => {
  const { connect, dialled, host } = setUp({ "fd00::1": duplex });
  expect(await connect()).toBe(duplex);
  expect(dialled).toEqual(["dual 10.0.0.1", "dual fd00::1"]);
  expect(host.address.ip).toBe("10.0.0.1");
});

test("where none answers, the first says why", async () => {
  await expect(setUp({}).connect()).rejects.toThrow("10.0.0.1 refused");
});

test("who has gone is not connected any more", async () => {
  const { connect, signal, dialled } = setUp({});
  signal.abort(new Error("gone"));
  await expect(connect()).rejects.toThrow("gone");
  expect(dialled).toHaveLength(1);
});
