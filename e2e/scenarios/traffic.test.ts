/** Every shape of traffic through the mesh: addresses, directions, ends. Two captured pods on two nodes. */
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { CallerFacts } from "#e2e/support/server.ts";
import type { Outcome } from "#e2e/support/client.ts";
import {
  ambient,
  namespaceManifest,
  peerManifest,
  podIp,
  startMesh,
  talk,
  ztunnelLog,
  ztunnelUsage,
  type Mesh,
} from "#e2e/support/mesh.ts";

let mesh: Mesh;
const client = { namespace: "shapes", name: "client" };
const server = { namespace: "shapes", name: "server" };

beforeAll(async () => {
  mesh = await startMesh("traffic");
  await mesh.cluster.apply(
    [
      namespaceManifest("shapes", ambient),
      peerManifest("client", { namespace: "shapes", node: "node-1" }),
      peerManifest("near", { namespace: "shapes", node: "node-1", service: "cluster-ip" }),
      peerManifest("server", { namespace: "shapes", node: "node-2", service: "cluster-ip" }),
      peerManifest("lonely", { namespace: "shapes", node: "node-2", service: "headless" }),
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady("shapes", 4);
  await mesh.cluster.captured("shapes", true);
}, 90_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

const conversation = (...args: (string | number)[]) => talk<Outcome>(mesh.cluster, client, ...args);

test.each([
  ["a service's address on the other node", "server"],
  ["a service's address on the same node", "near"],
  ["a headless service, which is its pods", "lonely"],
])("reaches %s", async (_what, host) => {
  expect(await conversation("echo", "--host", host)).toMatchObject({ ok: true });
});

test("reaches a pod by its address, IPv4 and IPv6, and the tunnel's ends are in the log", async () => {
  for (const family of [4, 6] as const) {
    const host = await podIp(mesh.cluster, server, family);
    expect(await conversation("echo", "--host", host)).toMatchObject({ ok: true });
    await mesh.cluster.until(`a line for ${host}`, async () =>
      (await ztunnelLog(mesh.cluster)).some(
        (line) => line.includes(`${family === 4 ? host : `[${host}]`}:15008`) && line.includes("ns/shapes/sa/server"),
      ),
    );
  }
});

test("the application sees the caller's own address", async () => {
  const script = `fetch("http://server:8080/").then((answer) => answer.json()).then((facts) => console.log(JSON.stringify(facts)))`;
  const { stdout } = await mesh.cluster.exec(client, ["node", "-e", script]);
  const facts = JSON.parse(stdout) as CallerFacts;
  const own = [await podIp(mesh.cluster, client, 4), await podIp(mesh.cluster, client, 6)];
  expect(own).toContain(facts.peer.replace(/^::ffff:/u, ""));
});

test("a server that speaks first is heard", async () => {
  expect(await conversation("first", "--host", "server")).toMatchObject({ ok: true });
});

test("the client may close its half and still read the answer", async () => {
  expect(await conversation("digest", "--host", "server", "--bytes", 3_000_000)).toMatchObject({ ok: true });
});

test("the server may close its half and still read the rest", async () => {
  expect(await conversation("halfclose", "--host", "server", "--bytes", 100_000)).toMatchObject({ ok: true });
  await mesh.cluster.until("the server to have read the rest", async () => {
    const script = `fetch("http://127.0.0.1:8080/").then((answer) => answer.text()).then((text) => console.log(text))`;
    const { stdout } = await mesh.cluster.exec(server, ["node", "-e", script]);
    return (JSON.parse(stdout) as CallerFacts).bytesAfterHalfClose === 100_000;
  });
});

test("a reset by either side ends the connection on both", async () => {
  expect(await conversation("reset", "--host", "server")).toMatchObject({ ok: true });
  await conversation("abort", "--host", "server");
  await mesh.cluster.until("the server to have no connection left open", async () => {
    const script = `fetch("http://127.0.0.1:8080/").then((answer) => answer.text()).then((text) => console.log(text))`;
    const { stdout } = await mesh.cluster.exec(server, ["node", "-e", script]);
    return (JSON.parse(stdout) as CallerFacts).open === 0;
  });
});

test("a port where nobody listens closes instead of hanging", async () => {
  const host = await podIp(mesh.cluster, server);
  expect(await conversation("echo", "--host", host, "--port", 7999)).toMatchObject({ ok: false, received: "" });
});

test("1 GiB to a slow reader arrives whole, and the proxies' memory stays flat", async () => {
  const rssOf = async () => Math.max(...(await ztunnelUsage(mesh.cluster)).map(({ rssKib }) => rssKib)) / 1_024;
  const gibibyte = 1024 ** 3;
  const before = await rssOf();
  const pulled = conversation("pull", "--host", "server", "--bytes", gibibyte, "--seconds", 3);
  let peak = before;
  const ended = new AbortController();
  const finished = pulled.finally(() => ended.abort());
  while (!ended.signal.aborted) {
    peak = Math.max(peak, await rssOf());
    await pause(500);
  }
  expect(await finished).toMatchObject({ ok: true, bytes: gibibyte });
  expect(before).toBeGreaterThan(20);
  expect(peak - before).toBeLessThan(150);
}, 120_000);
