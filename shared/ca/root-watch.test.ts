import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { spiffeId, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { until } from "#shared/testing/loopback.ts";
import { CertificateManager } from "./certificate-manager.ts";
import { rootLookMs, RootWatch } from "./root-watch.ts";
import type { WorkloadCertificate } from "./workload-certificate.ts";

const pem = (name: string, width = 4): string => {
  const body = Buffer.from(name.repeat(8)).toString("base64").replace(/=/g, "A");
  return `-----BEGIN CERTIFICATE-----\n${body.match(new RegExp(`.{1,${width}}`, "g"))?.join("\n")}\n-----END CERTIFICATE-----\n`;
};
const dayMs = 24 * 3_600_000;
const id = (serviceAccount: string): SpiffeId =>
  spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount });

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "roots-"));
});

afterEach(() => rm(folder, { recursive: true }));

/** A proxy with two certificates, whose CA issues them with what `issuing` says. */
async function proxy() {
  const clock = new FakeClock();
  const path = join(folder, "root-cert.pem");
  const state = { issuing: [pem("one")], isUp: true, asked: 0 };
  const certificates = new CertificateManager({
    source: {
      fetch: (identity): Promise<WorkloadCertificate> => {
        state.asked++;
        if (!state.isUp) return Promise.reject(new Error("CA is down"));
        const life = { notBeforeMs: clock.now(), notAfterMs: clock.now() + dayMs };
        return Promise.resolve({
          identity,
          chainPem: "",
          keyPem: "",
          rootsPem: state.issuing,
          ...life,
          serial: String(state.asked),
        });
      },
    },
    clock,
    log: silentLogger,
  });
  const mount = async (...roots: string[]): Promise<void> => {
    await writeFile(`${path}.new`, roots.join(""));
    await rename(`${path}.new`, path);
  };
  await mount(pem("one"));
  await certificates.certificateFor(id("a"));
  await certificates.certificateFor(id("b"));
  const watch = new RootWatch({ roots: { from: "file", path }, certificates, clock, log: silentLogger });
  await lookDone(clock);
  /** Until the next look is over, and what it brought about. */
  const next = async (): Promise<void> => {
    await clock.advance(rootLookMs);
    await lookDone(clock);
  };
  const roots = () => ["a", "b"].map((each) => certificates.current(id(each))?.rootsPem);
  return {
    clock,
    path,
    state,
    certificates,
    mount,
    watch,
    next,
    roots,
    [Symbol.dispose]: () => watch[Symbol.dispose](),
  };
}

/** A look reads a file, which takes real time; then it waits for the next one, besides the certificates' renewals. */
const lookDone = (clock: FakeClock, certificates = 2): Promise<void> =>
  until(() => clock.pending === certificates + 1, "the look is over");

describe("RootWatch", () => {
  test("certificates issued with other roots are asked for anew, spread over ten seconds", async () => {
    using world = await proxy();
    world.state.issuing = [pem("one"), pem("two")];
    await world.mount(...world.state.issuing);
    await world.next();
    expect(world.state.asked).toBe(2);
    await world.clock.advance(10_000);
    expect(world.state.asked).toBe(4);
    expect(world.roots()).toEqual([world.state.issuing, world.state.issuing]);
    await world.next();
    await world.clock.advance(60_000);
    expect(world.state.asked).toBe(4);
  });

  test("the same roots in other lines and another order change nothing", async () => {
    using world = await proxy();
    await world.mount(`# ours\n${pem("one", 3).replaceAll("\n", "\r\n")}`);
    await world.next();
    await world.clock.advance(60_000);
    expect(world.state.asked).toBe(2);
  });

  test("a file that is away, empty or half written changes nothing", async () => {
    using world = await proxy();
    await rm(world.path);
    await world.next();
    await writeFile(world.path, "");
    await world.next();
    await writeFile(world.path, pem("two").slice(0, 40));
    await world.next();
    await world.mount(pem("one"));
    await world.next();
    await world.clock.advance(60_000);
    expect(world.state.asked).toBe(2);
  });

  test("a CA that still issues with old roots is asked again, but not for ever", async () => {
    using world = await proxy();
    await world.mount(pem("two"));
    for (let look = 0; look < 10; look++) await world.next();
    expect(world.state.asked).toBe(2 + 2 * 5);
  });

  test("what the CA had not issued is tried at once", async () => {
    using world = await proxy();
    world.state.isUp = false;
    await expect(world.certificates.certificateFor(id("c"))).rejects.toThrow("the CA did not issue one");
    for (let failures = 0; failures < 8; failures++) await world.clock.advance(150_000);
    await lookDone(world.clock, 3);
    world.state.isUp = true;
    world.state.issuing = [pem("two")];
    await world.mount(pem("two"));
    await world.clock.advance(rootLookMs);
    await lookDone(world.clock, 3);
    await world.clock.advance(10_000);
    expect(world.certificates.current(id("c"))?.rootsPem).toEqual([pem("two")]);
  });

  test("closing ends the looks", async () => {
    const world = await proxy();
    world.watch[Symbol.dispose]();
    expect(world.clock.pending).toBe(2);
  });
});
