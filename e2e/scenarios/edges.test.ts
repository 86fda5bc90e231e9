/** Where a mesh ends: pods that call themselves, the node's own pods, what is not TCP, what is outside, ztunnel itself. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Outcome } from "#e2e/support/client.ts";
import { nameOf, type Manifest, type PodName } from "#e2e/support/cluster.ts";
import type { CallerFacts } from "#e2e/support/server.ts";
import {
  ambient,
  namespaceManifest,
  peerManifest,
  podIp,
  setZtunnelEnv,
  startMesh,
  talk,
  ztunnelLog,
  type Mesh,
} from "#e2e/support/mesh.ts";

let mesh: Mesh;
const client = { namespace: "edge", name: "client" };
const near = { namespace: "edge", name: "near" };
const server = { namespace: "edge", name: "server" };
const stranger = { namespace: "outside", name: "stranger" };
const nodePod = { namespace: "outside", name: "node-pod" };

beforeAll(async () => {
  mesh = await startMesh("edges");
  await mesh.cluster.apply(
    [
      namespaceManifest("edge", ambient),
      namespaceManifest("outside"),
      peerManifest("client", { namespace: "edge", node: "node-1" }),
      peerManifest("near", { namespace: "edge", node: "node-1", service: "cluster-ip" }),
      peerManifest("server", { namespace: "edge", node: "node-2", service: "cluster-ip" }),
      peerManifest("stranger", { namespace: "outside", node: "node-1" }),
      peerManifest("node-pod", { namespace: "outside", node: "node-2", service: "cluster-ip", hostNetwork: true }),
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady("edge", 3);
  await mesh.cluster.podsReady("outside", 2);
  await mesh.cluster.captured("edge", true);
}, 90_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

const echo = (from: PodName, host: string, ...more: (string | number)[]) =>
  talk<Outcome>(mesh.cluster, from, "echo", "--host", host, ...more);

/** Runs a program of a few lines in a pod; what it prints last is JSON. */
async function run<T>(pod: PodName, script: string): Promise<T> {
  const { stdout, stderr } = await mesh.cluster.exec(pod, ["node", "-e", script]);
  const last = stdout.trim().split("\n").at(-1) ?? "";
  if (last === "") throw new Error(`nothing printed in ${pod.name}: ${stderr}`);
  return JSON.parse(last) as T;
}

/** Lines of the access log that came with `action`, once all of the wanted are among them. */
async function linesOf(action: () => Promise<unknown>, ...wanted: readonly RegExp[]): Promise<string[]> {
  const before = new Set(await ztunnelLog(mesh.cluster));
  await action();
  return mesh.cluster.until(`lines with ${wanted.join(" and ")}`, async () => {
    const lines = (await ztunnelLog(mesh.cluster)).filter((line) => !before.has(line));
    if (wanted.every((each) => lines.some((line) => each.test(line)))) return lines;
    throw new Error(`there are only:\n${lines.join("\n")}`);
  });
}

const callerOf = async (from: PodName, host: string): Promise<string> => {
  const url = JSON.stringify(`http://${host.includes(":") ? `[${host}]` : host}:8080/`);
  const script = `fetch(${url}).then((answer) => answer.text()).then((text) => console.log(text))`;
  return (await run<CallerFacts>(from, script)).peer.replace(/^::ffff:/u, "");
};

const addressesOf = async (pod: PodName) => [await podIp(mesh.cluster, pod, 4), await podIp(mesh.cluster, pod, 6)];

describe("a captured pod that calls itself", () => {
  test("through its own service goes by tunnel and arrives", async () => {
    await linesOf(
      async () => expect(await echo(server, "server.edge")).toMatchObject({ ok: true }),
      /src\.workload="server".*dst\.workload="server".*direction="inbound"/u,
      /src\.workload="server".*dst\.service="server\.edge\.svc\.cluster\.local"/u,
    );
  });

  test.each([4, 6] as const)("by its own IPv%d address is not captured", async (family) => {
    const own = await podIp(mesh.cluster, server, family);
    expect(await echo(server, own)).toMatchObject({ ok: true });
    expect(await callerOf(server, own)).toBe(own);
    expect(await echo(server, family === 4 ? "127.0.0.1" : "::1")).toMatchObject({ ok: true });
  });
});

test("pods of one node talk by tunnel as well, and the callee sees the caller", async () => {
  for (const family of [4, 6] as const) {
    const host = await podIp(mesh.cluster, near, family);
    await linesOf(
      async () => expect(await addressesOf(client)).toContain(await callerOf(client, host)),
      /:15008 dst\.hbone_addr=.*dst\.workload="near".*direction="inbound"/u,
      /:15008 dst\.hbone_addr=.*dst\.workload="near".*direction="outbound"/u,
    );
  }
});

describe("pods on the node's own network", () => {
  test("are reached by captured pods, by name and by address, as plain TCP", async () => {
    const node = await podIp(mesh.cluster, nodePod);
    const byName = await linesOf(
      async () => expect(await echo(client, "node-pod.outside")).toMatchObject({ ok: true }),
      /dst\.service="node-pod\.outside\.svc\.cluster\.local" dst\.workload="node-pod".*direction="outbound"/u,
    );
    // A node has many pods: its address alone does not say which one is meant.
    const byAddress = await linesOf(
      async () => expect(await echo(client, node)).toMatchObject({ ok: true }),
      new RegExp(`dst\\.addr=${node}:7000 direction="outbound"`, "u"),
    );
    const toNode = [...byName, ...byAddress].filter(
      (line) => line.includes('dst.workload="node-pod"') || line.includes(`dst.addr=${node}:`),
    );
    expect(toNode.filter((line) => line.includes("hbone_addr"))).toEqual([]);
  });

  test("reach captured pods of both nodes, by service and by address", async () => {
    for (const host of ["server.edge", "near.edge", ...(await addressesOf(server)), ...(await addressesOf(near))]) {
      expect({ host, ...(await echo(nodePod, host)) }).toMatchObject({ host, ok: true });
    }
  });
});

describe("what is outside of the mesh", () => {
  test("the API server is reached by its service", async () => {
    const script = `
      const https = require("node:https");
      https.get("https://kubernetes.default.svc/version", { rejectUnauthorized: false }, (answer) =>
        (console.log(JSON.stringify(answer.statusCode)), process.exit(0)));`;
    expect([200, 401, 403]).toContain(await run<number>(client, script));
  });

  test("a pod that is not captured is reached, and reaches back", async () => {
    for (const host of await addressesOf(stranger)) {
      expect(await echo(client, host)).toMatchObject({ ok: true });
      expect(await addressesOf(client)).toContain(await callerOf(client, host));
    }
    for (const host of ["server.edge", ...(await addressesOf(server)), ...(await addressesOf(near))]) {
      expect(await echo(stranger, host)).toMatchObject({ ok: true });
    }
    // Plain TCP is captured on its way in too; the application still sees who calls.
    for (const host of await addressesOf(near)) {
      expect(await addressesOf(stranger)).toContain(await callerOf(stranger, host));
    }
  });

  test("an address that nobody has ends in an error, not in silence", async () => {
    const { ok, end } = await echo(client, "10.255.255.1");
    expect(ok).toBe(false);
    expect(end).not.toBe("timeout");
  }, 40_000);
});

describe("what is not TCP", () => {
  const listen = (type: "udp4" | "udp6", port: number) => `
    const socket = require("node:dgram").createSocket("${type}");
    socket.on("message", (text, from) => socket.send(JSON.stringify({ from: from.address }), from.port, from.address));
    socket.bind(${port}, () => console.log('{"listening":true}'));
    setTimeout(() => process.exit(0), 20000);`;
  const ask = (type: "udp4" | "udp6", host: string, port: number) => `
    const socket = require("node:dgram").createSocket("${type}");
    const say = (what) => { console.log(JSON.stringify(what)); process.exit(0); };
    socket.on("message", (text) => say(JSON.parse(text)));
    socket.on("error", (error) => say({ error: error.code }));
    socket.connect(${port}, "${host}", () => setInterval(() => socket.send("x"), 200));
    setTimeout(() => say({ error: "timeout" }), 4000);`;

  test.each([
    ["udp4", 4, 5_304],
    ["udp6", 6, 5_306],
  ] as const)(
    "%s passes untouched, and so do the ICMP errors that belong to it",
    async (type, family, port) => {
      const host = await podIp(mesh.cluster, server, family);
      const listening = await mesh.cluster.start(server, ["node", "-e", listen(type, port)]);
      await listening.line((line) => line.includes("listening"));
      expect(await run(client, ask(type, host, port))).toEqual({ from: await podIp(mesh.cluster, client, family) });
      expect(await run(client, ask(type, host, port + 1))).toEqual({ error: "ECONNREFUSED" });
    },
    30_000,
  );

  test("names are asked for and answered as before", async () => {
    const script = `
      const { Resolver } = require("node:dns").promises;
      new Resolver().resolve4("server.edge.svc.cluster.local").then((ips) => console.log(JSON.stringify(ips.length)));`;
    expect(await run<number>(client, script)).toBe(1);
  });
});

/** What a few bytes of nonsense get back: nothing can be reached at all, an end without an answer, or a status line. */
type Answer = "refused" | "nothing" | `HTTP ${number}`;

const probe = (from: PodName, host: string, ports: readonly number[]) =>
  run<Record<string, Answer>>(
    from,
    `
    const { connect } = require("node:net");
    const ask = (port) => new Promise((resolve) => {
      let refused = false;
      let answer = "";
      const socket = connect({ host: "${host}", port, allowHalfOpen: true }, () =>
        socket.write("not the protocol that you expect\\r\\n\\r\\n"));
      socket.on("data", (chunk) => (answer += chunk.toString("latin1")));
      socket.on("error", (error) => (refused = error.code === "ECONNREFUSED"));
      socket.on("end", () => socket.end());
      socket.setTimeout(12000, () => socket.destroy());
      socket.on("close", () => {
        const status = /^HTTP\\/1\\.1 (\\d+)/.exec(answer)?.[1];
        // A TLS alert is no answer.
        const alert = answer.startsWith("\\x15\\x03") && answer.length === 7;
        resolve([port, refused ? "refused" : status ? "HTTP " + status : answer === "" || alert ? "nothing" : answer]);
      });
    });
    Promise.all(${JSON.stringify(ports)}.map(ask)).then((all) => console.log(JSON.stringify(Object.fromEntries(all))));`,
  );

const capture = [15_001, 15_006, 15_008];
const operators = [15_000, 15_080];
const open = [15_020, 15_021];

const all = (ports: readonly number[], answer: Answer) => Object.fromEntries(ports.map((port) => [port, answer]));

describe("ports of ztunnel's own", () => {
  let ztunnel: string;
  beforeAll(async () => {
    const [pod] = await mesh.cluster.pods("istio-system", "app=ztunnel");
    if (pod === undefined) throw new Error("There is no ztunnel");
    ztunnel = await podIp(mesh.cluster, nameOf(pod));
  });

  test("on ztunnel's address, from a captured pod", async () => {
    const answers = await probe(client, ztunnel, [...capture, ...operators, ...open]);
    expect(answers).toEqual({ ...all([...capture, ...operators], "nothing"), ...all(open, "HTTP 400") });
  }, 30_000);

  test("on ztunnel's address, from a pod that is not", async () => {
    const answers = await probe(stranger, ztunnel, [...capture, ...operators, ...open]);
    expect(answers).toEqual({
      ...all([15_001, 15_006, ...operators], "refused"),
      ...all([15_008], "nothing"),
      ...all(open, "HTTP 400"),
    });
  }, 30_000);

  test.each(["its own address", "127.0.0.1", "::1"])(
    "from a captured pod on %s",
    async (where) => {
      const host = where === "its own address" ? await podIp(mesh.cluster, client) : where;
      const answers = await probe(client, host, [...capture, ...operators, ...open]);
      expect(answers).toEqual({ ...all(capture, "nothing"), ...all([...operators, ...open], "refused") });
    },
    30_000,
  );

  test("on a captured pod's address, from a pod that is not", async () => {
    const answers = await probe(stranger, await podIp(mesh.cluster, client), [...capture, ...operators, ...open]);
    expect(answers).toEqual(all([...capture, ...operators, ...open], "nothing"));
  }, 30_000);
});

test("ztunnel's metrics are read through its own tunnel where its pod takes tunnels, else as they are", async () => {
  const pods = await mesh.cluster.pods("istio-system", "app=ztunnel");
  for (const pod of pods) {
    const host = await podIp(mesh.cluster, nameOf(pod));
    const script = `fetch("http://${host}:15020/stats/prometheus").then((answer) => answer.text()).then((text) => console.log(JSON.stringify(text.includes("istio_build{component=\\"ztunnel\\""))))`;
    expect(await run<boolean>(client, script)).toBe(true);
  }
});

test("STRICT refuses the node's own pods and strangers, and neither probes nor the pod itself", async () => {
  const strict: Manifest = {
    apiVersion: "security.istio.io/v1",
    kind: "PeerAuthentication",
    metadata: { name: "strict", namespace: "edge" },
    spec: { mtls: { mode: "STRICT" } },
  };
  await mesh.cluster.apply(JSON.stringify(strict));
  await mesh.cluster.until("strangers to be refused", async () => !(await echo(stranger, "server.edge")).ok);
  // Each node's ztunnel hears of it in its own time.
  await mesh.cluster.until("the node's own pods to be refused", async () => !(await echo(nodePod, "near.edge")).ok);
  expect(await echo(client, "server")).toMatchObject({ ok: true });
  expect(await echo(server, "server.edge")).toMatchObject({ ok: true });
  expect(await echo(server, await podIp(mesh.cluster, server))).toMatchObject({ ok: true });
  const ready = await mesh.cluster.podsReady("edge", 3);
  expect(ready.map((pod) => pod.status?.containerStatuses?.[0]?.restartCount)).toEqual([0, 0, 0]);
}, 60_000);

test("ztunnels that ask for single names only (XDS_ON_DEMAND) carry the same traffic", async () => {
  await mesh.cluster.delete("security.istio.io/v1", "PeerAuthentication", "strict", "edge");
  await setZtunnelEnv(mesh.cluster, [{ name: "XDS_ON_DEMAND", value: "true" }]);
  await mesh.cluster.until("strangers to be let in", async () => (await echo(stranger, "server.edge")).ok);
  const traffic = async () => {
    expect(await echo(client, "server.edge")).toMatchObject({ ok: true });
    for (const host of [
      ...(await addressesOf(server)),
      ...(await addressesOf(near)),
      ...(await addressesOf(stranger)),
    ]) {
      expect({ host, ...(await echo(client, host)) }).toMatchObject({ host, ok: true });
    }
    expect(await echo(client, "node-pod.outside")).toMatchObject({ ok: true });
    expect(await echo(client, await podIp(mesh.cluster, nodePod))).toMatchObject({ ok: true });
    expect(await echo(server, "near.edge")).toMatchObject({ ok: true });
  };
  await linesOf(
    traffic,
    /src\.workload="server".*dst\.workload="near".*direction="outbound"/u,
    /src\.workload="client".*:15008.*dst\.service="server\.edge/u,
    // Who was never asked for is known by what its proxy says of it, and by its certificate.
    /src\.workload="client" src\.namespace="edge" src\.identity=.*dst\.workload="server".*direction="inbound"/u,
  );
}, 150_000);
