/** The checks of `capture.test.ts`, run inside namespaces of their own; prints one JSON line for each. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { on, once } from "node:events";
import { closeSync, readdirSync, statSync } from "node:fs";
import type { Socket } from "node:net";
import process from "node:process";
import { systemClock } from "#shared/clock/clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { listeningPorts, problemsOf } from "#ztunnel/agent/capture-check.ts";
import { HostProbes } from "#ztunnel/agent/host-probes.ts";
import { NamespaceFinder } from "#ztunnel/agent/netns-finder.ts";
import {
  installRules,
  observe,
  releaseConnections,
  removeRules,
  type InstalledRules,
} from "#ztunnel/agent/pod-rules.ts";
import { probeSourcesDefault } from "#ztunnel/agent/redirect-rules.ts";
import { openZdsListener, ZdsServer } from "#ztunnel/agent/zds-server.ts";
import { libc, linux } from "#shared/sockets/libc.ts";
import { isIpv6, type Ip } from "#shared/net/ip.ts";
import {
  assertNamespacePowers,
  bindDatagrams,
  connectInNamespace,
  listenInNamespace,
  openNamespace,
} from "#ztunnel/inpod/netns-sockets.ts";
import { PodManager, type PodToServe } from "#ztunnel/inpod/pod-manager.ts";
import { runZdsClient } from "#ztunnel/inpod/zds-client.ts";
import { buildWorld, call, mark, serve, serveApplication, startRelay } from "./world.ts";

const facts = {
  probeSources: probeSourcesDefault,
  ipv6: true,
  dnsCapture: false,
  ingressMode: false,
  rerouteInterfaces: [],
};
const world = buildWorld();
const { pod, client } = world;
const podFd = pod.netns.fd;
const clientFd = client.netns.fd;
const relay = await startRelay(pod);
const servers = [
  await serveApplication(podFd, 8_080),
  await serveApplication(clientFd, 9_090),
  await serveApplication(undefined, 7_070),
];
const probes = new HostProbes(probeSourcesDefault);
let rules: InstalledRules = { tables: "", routing: [], dnsCapture: false };

const problems = async () =>
  problemsOf(await observe(podFd, rules.routing), {
    ips: [pod.v4, pod.v6],
    tables: rules.tables,
    routing: rules.routing,
    dnsCapture: rules.dnsCapture,
  });
const reset = () => {
  relay.inbound.length = 0;
  relay.outbound.length = 0;
};
const inPod = (...command: string[]) => execFileSync("ip", ["netns", "exec", "pod", ...command]);

const checks: Record<string, () => Promise<void> | void> = {
  "has the powers it needs": () => assertNamespacePowers(mark),
  "accepted and outbound sockets have their options": async () => {
    const keepAlive = { idleSeconds: 11, intervalSeconds: 12, probes: 3, userTimeout: true };
    const accepted = Promise.withResolvers<Socket>();
    const server = await serve(podFd, { address: "::", port: 8_081, mark: 123, keepAlive }, accepted.resolve);
    const socket = connectInNamespace(clientFd, { ip: pod.v4, port: 8_081, mark, keepAlive });
    const there = await accepted.promise;
    for (const end of [socket, there]) {
      assert.equal(option(end, linux.IPPROTO_TCP, linux.TCP_NODELAY), 1);
      assert.equal(option(end, linux.SOL_SOCKET, linux.SO_KEEPALIVE), 1);
      assert.equal(option(end, linux.IPPROTO_TCP, linux.TCP_KEEPIDLE), 11);
      assert.equal(option(end, linux.IPPROTO_TCP, linux.TCP_KEEPINTVL), 12);
      assert.equal(option(end, linux.IPPROTO_TCP, linux.TCP_KEEPCNT), 3);
      assert.equal(option(end, linux.IPPROTO_TCP, linux.TCP_USER_TIMEOUT), 47_000);
    }
    assert.equal(option(socket, linux.SOL_SOCKET, linux.SO_MARK), mark);
    assert.equal(option(there, linux.SOL_SOCKET, linux.SO_MARK), 123);
    assert.equal(option(socket, linux.SOL_SOCKET, linux.SO_REUSEPORT), 0, "an outbound socket shares no port");
    socket.destroy();
    there.destroy();
    server.close();
  },
  "a port is shared with SO_REUSEPORT only": () => {
    const port = 8_082;
    const closeAfter = [listenInNamespace(podFd, { address: "::", port, reusePort: true }).fd];
    closeAfter.push(listenInNamespace(podFd, { address: "::", port, reusePort: true }).fd);
    assert.throws(() => listenInNamespace(podFd, { address: "::", port }), /EADDRINUSE/);
    for (const fd of closeAfter) closeSync(fd);
  },
  "a source that cannot be had is told, and the connection made without it": async () => {
    let why = "";
    const target = { ip: pod.v4, port: 8_080, sourceIp: client.v6, onUnspoofed: (text: string) => (why = text) };
    assert.equal(await call(clientFd, target), client.v4);
    assert.match(why, /families differ/);
  },
  "a connect that nobody answers ends at its deadline": async () => {
    inPod("nft", "add table inet dropping");
    inPod("nft", "add chain inet dropping input { type filter hook input priority 0; }");
    inPod("nft", "add rule inet dropping input tcp dport 8083 drop");
    const socket = connectInNamespace(clientFd, { ip: pod.v4, port: 8_083 }, 100);
    const [error] = (await once(socket, "error")) as [Error];
    assert.match(error.message, /Cannot connect to "10\.77\.1\.2:8083": timed out after 100 ms/);
    inPod("nft", "delete", "table", "inet", "dropping");
  },
  "refused connections leak no descriptor": async () => {
    const open = () => readdirSync("/proc/self/fd").length;
    const before = open();
    for (let round = 0; round < 100; round++) {
      await assert.rejects(call(clientFd, { ip: pod.v4, port: 1, sourceIp: pod.v4 }), /ECONNREFUSED/);
    }
    assert.throws(() => listenInNamespace(podFd, { address: "10.9.9.9", port: 80 }), /EADDRNOTAVAIL/);
    assert.throws(() => connectInNamespace(0, { ip: pod.v4, port: 1 }), /enter the network namespace/);
    assert.equal(open(), before);
  },
  "before: nothing is captured": async () => {
    assert.equal(await call(clientFd, { ip: pod.v4, port: 8_080 }), client.v4);
    assert.deepEqual(relay.inbound, []);
  },
  "installing twice changes nothing": async () => {
    await installRules(podFd, facts);
    rules = await installRules(podFd, facts);
    assert.match(rules.tables, /istio-ambient-nat/);
    assert.deepEqual(await problems(), []);
  },
  "inbound IPv4: original destination, and the application sees the caller": async () => {
    reset();
    assert.equal(await call(clientFd, { ip: pod.v4, port: 8_080 }), client.v4);
    assert.deepEqual(relay.inbound, [{ ip: pod.v4, port: 8_080 }]);
  },
  "inbound IPv6: original destination, and the application sees the caller": async () => {
    reset();
    assert.equal(await call(clientFd, { ip: pod.v6, port: 8_080 }), client.v6);
    assert.deepEqual(relay.inbound, [{ ip: pod.v6, port: 8_080 }]);
  },
  "outbound IPv4: captured once, marked sockets pass": async () => {
    reset();
    assert.equal(await call(podFd, { ip: client.v4, port: 9_090 }), pod.v4);
    assert.deepEqual(relay.outbound, [{ ip: client.v4, port: 9_090 }]);
  },
  "outbound IPv6: captured once, marked sockets pass": async () => {
    reset();
    assert.equal(await call(podFd, { ip: client.v6, port: 9_090 }), pod.v6);
    assert.deepEqual(relay.outbound, [{ ip: client.v6, port: 9_090 }]);
  },
  "a marked socket is not captured": async () => {
    reset();
    assert.equal(await call(podFd, { ip: client.v4, port: 9_090, mark }), pod.v4);
    assert.deepEqual(relay.outbound, []);
  },
  "a pod that calls itself is left alone": async () => {
    reset();
    assert.equal(await call(podFd, { ip: pod.v4, port: 8_080 }), pod.v4);
    assert.equal(await call(podFd, { ip: pod.v6, port: 8_080 }), pod.v6);
    assert.equal(await call(podFd, { ...loopback4, port: 8_080 }), loopback4.ip);
    assert.deepEqual([relay.outbound, relay.inbound], [[], []]);
  },
  "HBONE is reached directly": async () => {
    reset();
    assert.equal(await call(clientFd, { ip: pod.v4, port: 15_008 }), "hbone");
    assert.deepEqual([relay.direct, relay.inbound], [1, []]);
  },
  "the node's probes are not captured, and come from the fixed address": async () => {
    await probes.set("pod", [pod.v4, pod.v6]);
    reset();
    assert.equal(await call(undefined, { ip: pod.v4, port: 8_080 }), probeSourcesDefault.v4);
    assert.deepEqual(relay.inbound, []);
  },
  "forwarded traffic keeps its address beside the probe set": async () => {
    assert.equal(await call(clientFd, { ip: pod.v4, port: 8_080 }), client.v4);
  },
  "the pod still reaches the node": async () => {
    assert.match(await call(podFd, { ip: gateway, port: 7_070 }), /^10\.77\.1\.2$/);
  },
  "thirty connections at once keep their callers apart": async () => {
    reset();
    const answers = await Promise.all(Array.from({ length: 30 }, () => call(clientFd, { ip: pod.v4, port: 8_080 })));
    assert.deepEqual(new Set(answers), new Set([client.v4]));
    assert.equal(relay.inbound.length, 30);
  },
  "missing rules are found": async () => {
    inPod("nft", "flush", "table", "inet", "istio-ambient-nat");
    assert.deepEqual(
      (await problems()).map(({ reason }) => reason),
      ["RulesMissing"],
    );
    inPod("ip", "rule", "del", "pref", "32764");
    assert.deepEqual(
      (await problems()).map(({ reason }) => reason),
      ["RulesMissing", "RoutingMissing"],
    );
    rules = await installRules(podFd, facts);
    assert.deepEqual(await problems(), []);
  },
  "other people's tables are not mistaken for ours": async () => {
    inPod("nft", "add", "table", "inet", "somebody");
    assert.deepEqual(await problems(), []);
  },
  "ingress mode captures outbound only": async () => {
    await installRules(podFd, { ...facts, ingressMode: true });
    reset();
    assert.equal(await call(clientFd, { ip: pod.v4, port: 8_080 }), client.v4);
    assert.equal(await call(podFd, { ip: client.v4, port: 9_090 }), pod.v4);
    assert.deepEqual([relay.inbound.length, relay.outbound.length], [0, 1]);
    rules = await installRules(podFd, facts);
  },
  "DNS questions go to ztunnel, its own do not, nor what stays on loopback": async () => {
    rules = await installRules(podFd, { ...facts, dnsCapture: true });
    assert.deepEqual(
      (await problems()).map(({ message }) => message),
      ["ztunnel does not listen on 15053 in it"],
    );
    using opened = new DisposableStack();
    const answer = (netnsFd: number, ip: Ip, port: number, text: string) => {
      const socket = opened.adopt(bindDatagrams(netnsFd, { ip, port, mark }), (each) => each.close());
      socket.on("message", (_message, peer) => socket.send(text, peer.port, peer.address));
    };
    for (const ip of ["127.0.0.1", "::1"] as Ip[]) {
      answer(podFd, ip, 15_053, "ztunnel");
      answer(podFd, ip, 53, "own");
      opened.adopt(listenInNamespace(podFd, { address: ip, port: 15_053 }), ({ fd }) => closeSync(fd));
    }
    for (const ip of [client.v4, client.v6]) answer(clientFd, ip, 53, "resolver");
    for (const ip of [pod.v4, pod.v6]) answer(podFd, ip, 53, "own");
    assert.deepEqual(await problems(), []);
    for (const ip of [client.v4, client.v6]) {
      const port = isIpv6(ip) ? 4_006 : 4_004;
      assert.equal(await question(ip, { port }), "ztunnel");
      // From the very same port: the kernel must not take it for more of the captured conversation.
      assert.equal(await question(ip, { port, mark }), "resolver");
      assert.equal(await question(ip, { port }), "ztunnel");
    }
    for (const ip of ["127.0.0.1", "::1", pod.v4, pod.v6] as Ip[]) assert.equal(await question(ip), "own");
    assert.deepEqual(
      await answersFrom([client.v4, gateway]),
      new Set([client.v4, gateway].map((ip) => `${ip} ztunnel`)),
    );
    // Nor do questions of ports that asked before stick to what the rules were then.
    for (const [capturesDns, who] of [
      [false, "resolver"],
      [true, "ztunnel"],
      [false, "resolver"],
    ] as const) {
      rules = await installRules(podFd, { ...facts, dnsCapture: capturesDns });
      for (const ip of [client.v4, client.v6])
        assert.equal(await question(ip, { port: isIpv6(ip) ? 4_006 : 4_004 }), who);
      assert.deepEqual(await problems(), []);
    }
    await installRules(podFd, { ...facts, dnsCapture: true });
    assert.equal(await question(client.v4, { port: 4_004 }), "ztunnel");
    await releaseConnections(podFd);
    assert.equal(await question(client.v4, { port: 4_004 }), "resolver");
    rules = await installRules(podFd, facts);
  },
  "the namespace is found by address, and only if it holds all": () => {
    const finder = new NamespaceFinder({ proc: "/proc", netns: "/run/netns" });
    using found = finder.find("3f2c8a1e-0000-4000-8000-000000000000", [pod.v4, pod.v6]);
    assert.equal(found?.identity, pod.netns.identity);
    assert.equal(finder.find("x", [pod.v4, client.v4]), undefined);
    assert.equal(finder.find("x", [gateway]), undefined, "the host's own namespace is nobody's");
  },
  "ZDS hands over the namespace, before and after a reconnect": zdsRoundTrip,
  "removing twice leaves nothing": async () => {
    await removeRules(podFd);
    await removeRules(podFd);
    const { ruleset } = await observe(podFd, []);
    assert.doesNotMatch(ruleset, /istio-ambient/);
    assert.doesNotMatch(String(inPod("ip", "rule")), /0x111/);
    reset();
    assert.equal(await call(clientFd, { ip: pod.v4, port: 8_080 }), client.v4);
    assert.deepEqual(relay.inbound, []);
    await probes.remove();
    assert.equal(String(execFileSync("nft", ["list", "ruleset"])), "");
  },
  "missing listeners are found": async () => {
    relay.close();
    const { listening } = await observe(podFd, []);
    assert.ok(listening.has(8_080) && !listening.has(15_001));
    assert.deepEqual(listeningPorts(""), []);
  },
  "the thread is back where it was": () => {
    using own = openNamespace("/proc/thread-self/ns/net");
    assert.equal(own.identity, ownIdentity);
  },
};

/** Asked in the pod; the answer counts only if it comes from where it was asked. */
async function question(ip: Ip, from: { readonly port?: number; readonly mark?: number } = {}): Promise<string> {
  const socket = bindDatagrams(podFd, { ip: (isIpv6(ip) ? "::" : "0.0.0.0") as Ip, port: 0, ...from });
  try {
    socket.connect(53, ip);
    await once(socket, "connect");
    socket.send("who?");
    const [answer] = (await once(socket, "message", { signal: AbortSignal.timeout(2_000) })) as [Buffer];
    return answer.toString();
  } finally {
    socket.close();
  }
}

/** One socket asks all at once, as some C libraries do; who seems to have said what. */
async function answersFrom(resolvers: readonly Ip[]): Promise<ReadonlySet<string>> {
  const socket = bindDatagrams(podFd, { ip: "0.0.0.0" as Ip, port: 0 });
  const answers = on(socket, "message", { signal: AbortSignal.timeout(2_000) });
  try {
    for (const ip of resolvers) socket.send("who?", 53, ip);
    const said = new Set<string>();
    for await (const [answer, { address }] of answers as AsyncIterable<[Buffer, { readonly address: string }]>) {
      if (said.add(`${address} ${answer.toString()}`).size === resolvers.length) break;
    }
    return said;
  } finally {
    socket.close();
  }
}

const optionBytes = new Int32Array(1);
function option(socket: Socket, level: number, name: number): number {
  const { fd } = (socket as unknown as { readonly _handle: { readonly fd: number } })._handle;
  assert.equal(libc.getsockopt(fd, level, name, optionBytes, new Int32Array([4])), 0);
  return optionBytes[0] ?? -1;
}

const loopback4 = { ip: "127.0.0.1" as typeof pod.v4 };
const gateway = "10.77.1.1" as typeof pod.v4;
const ownIdentity = (() => {
  const { dev, ino } = statSync("/proc/self/ns/net", { bigint: true });
  return `${dev}:${ino}`;
})();

async function zdsRoundTrip(): Promise<void> {
  const log = silentLogger;
  const path = "/run/ztunnel/ztunnel.sock";
  const info = { name: "n", namespace: "s", serviceAccount: "a" };
  const stop = new AbortController();
  const server = new ZdsServer({ clock: systemClock, log, onChange: () => undefined });
  server.remember({ uid: "known", info, netns: pod.netns });
  const serving = server.serve(openZdsListener(path), stop.signal);
  const started: PodToServe[] = [];
  const readyStates: boolean[] = [];
  const ready = Promise.withResolvers<void>();
  const pods = new PodManager({
    clock: systemClock,
    log,
    onReady: (isReady) => {
      readyStates.push(isReady);
      if (isReady) ready.resolve();
    },
    factory: {
      start: (served) => {
        started.push(served);
        return served.uid === "bad"
          ? Promise.reject(new Error("port in use"))
          : Promise.resolve({ stop: () => Promise.resolve(), drain: () => Promise.resolve() });
      },
    },
  });
  const client1 = new AbortController();
  const running = runZdsClient({ path, pods, clock: systemClock, log }, client1.signal);
  await ready.promise;
  assert.deepEqual(
    started.map(({ uid }) => uid),
    ["known"],
  );
  assert.equal(started[0]?.netns.identity, pod.netns.identity);
  assert.notEqual(started[0]?.netns.fd, pod.netns.fd);
  assert.deepEqual(await server.add({ uid: "new", info, netns: client.netns }), { ok: true });
  const refused = await server.add({ uid: "bad", info, netns: client.netns });
  assert.match(refused.ok ? "" : refused.why, /port in use/);
  assert.deepEqual(pods.counts, { active: 2, pending: 1, started: 2, stopped: 0 });
  await server.remove("bad");
  await server.remove("new");
  assert.deepEqual(pods.counts, { active: 1, pending: 0, started: 2, stopped: 1 });
  client1.abort();
  assert.deepEqual(await running, { kind: "stopped" });
  const client2 = new AbortController();
  const again = runZdsClient({ path, pods, clock: systemClock, log }, client2.signal);
  while (readyStates.at(-1) !== true || readyStates.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(pods.counts.started, 2, "a pod that is served already is not started again");
  client2.abort();
  await again;
  stop.abort();
  await serving;
  assert.equal(server.sessions, 0);
}

for (const [name, check] of Object.entries(checks)) {
  let failure: string | undefined;
  try {
    await check();
  } catch (error) {
    failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  process.stdout.write(`${JSON.stringify({ name, failure })}\n`);
}
for (const server of servers) server.close();
