/** Runs the load generator between two pods and reads what the proxies use meanwhile. */
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { Cluster } from "#e2e/support/cluster.ts";
import { certificateFor, strangeAuthority } from "#e2e/support/forged-certificate.ts";
import { outcomeOf, podIp, podUsage, projectRoot, ztunnelUsage } from "#e2e/support/mesh.ts";
import type { ProcessUsage } from "#e2e/support/process-usage.ts";
import { secondSet, type LoadResult } from "./load.ts";
import { pairName, type PairCertificate } from "./plain-pair.ts";

const program = join(projectRoot, "e2e/bench/l4/load.ts");
const plainPair = join(projectRoot, "e2e/bench/l4/plain-pair.ts");
const client = { namespace: "bench", name: "client" };
const server = { namespace: "bench", name: "server" };
const ports = { direct: 9000, meshed: 9000 + secondSet } as const;
type Path = keyof typeof ports;

export interface Options {
  readonly seconds: number;
  readonly say: (text: string) => void;
  readonly quick?: boolean;
}

export interface Traffic {
  readonly up1: LoadResult;
  readonly up8: LoadResult;
  readonly down1: LoadResult;
  readonly down8: LoadResult;
  readonly pingpong1: LoadResult;
  readonly pingpong32: LoadResult;
  readonly pingpong256: LoadResult;
  readonly connects: LoadResult;
}

/** User and system time of both proxies. */
export interface CpuCost {
  readonly secondsPerGigabyte: number;
  readonly msPerThousandRoundTrips: number;
}

/** What two plain proxies reach between the same pods. */
export interface Plain {
  readonly cpu: CpuCost;
  readonly up1: LoadResult;
  readonly pingpong1: LoadResult;
  readonly pingpong32: LoadResult;
}

export interface Meshed extends Traffic {
  readonly cpu: CpuCost;
  readonly rssFreshMib: number;
  readonly rssPerIdleConnectionKib: number;
  readonly rssAfterMib: number;
  readonly connectionsMade: number;
}

/** Two pods on two nodes, client and server of `load.ts`. */
export function loadPods(): string[] {
  const pod = (name: string, node: string, command: readonly string[]) =>
    JSON.stringify({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "bench", labels: { app: name } },
      spec: {
        nodeName: node,
        terminationGracePeriodSeconds: 1,
        containers: [{ name: "load", image: "ambit/tools", command }],
      },
    });
  return [
    pod("client", "node-1", ["sleep", "86400"]),
    pod("server", "node-2", ["node", program, "serve", "--port", String(ports.direct)]),
  ];
}

/** An ALLOW policy that the client passes by its identity, so that authorization has work to do. */
export const policyManifest = (): string =>
  JSON.stringify({
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "clients", namespace: "bench" },
    spec: { action: "ALLOW", rules: [{ from: [{ source: { namespaces: ["bench"] } }] }] },
  });

async function load(cluster: Cluster, path: Path, ...args: (string | number)[]): Promise<LoadResult> {
  const host = await podIp(cluster, server);
  const words = [...args, "--host", host, "--port", ports[path]].map(String);
  return outcomeOf<LoadResult>(await cluster.start(client, ["node", program, ...words]));
}

/** Whether a short conversation comes through. */
export async function reachesServer(cluster: Cluster): Promise<boolean> {
  return (await load(cluster, "meshed", "connect", "--workers", 1, "--seconds", 0.2)).errors === 0;
}

export async function measureTraffic(cluster: Cluster, path: Path, { seconds, say }: Options): Promise<Traffic> {
  const run = (what: string, ...args: (string | number)[]) => {
    say(`  ${what}`);
    return load(cluster, path, ...args, "--seconds", seconds);
  };
  return {
    up1: await run("bulk up, 1 connection", "bulk", "--connections", 1),
    up8: await run("bulk up, 8 connections", "bulk", "--connections", 8),
    down1: await run("bulk down, 1 connection", "bulk", "--direction", "down", "--connections", 1),
    down8: await run("bulk down, 8 connections", "bulk", "--direction", "down", "--connections", 8),
    pingpong1: await run("round trips, 1 connection", "pingpong", "--connections", 1),
    pingpong32: await run("round trips, 32 connections", "pingpong", "--connections", 32),
    pingpong256: await run("round trips, 256 connections", "pingpong", "--connections", 256),
    connects: await load(cluster, path, "connect", "--workers", 16, "--seconds", Math.max(seconds, 3)),
  };
}

export async function measureMesh(cluster: Cluster, options: Options): Promise<Meshed> {
  const { say, quick = false } = options;
  const fresh = await usage(cluster);
  say("  1000 idle connections");
  const words = ["idle", "--connections", "1000", "--seconds", "6", "--host", await podIp(cluster, server)];
  const beforeIdle = await usage(cluster);
  const idle = await cluster.start(client, ["node", program, ...words, "--port", String(ports.meshed)]);
  await idle.line((line) => line.includes('"open"'));
  const withIdle = await usage(cluster);
  await idle.done;

  const { cpu } = await measureCpu(
    (...args) => load(cluster, "meshed", ...args),
    async () => (await usage(cluster)).cpuMs,
    options,
  );
  const traffic = await measureTraffic(cluster, "meshed", options);
  let connectionsMade = traffic.connects.operations ?? 0;
  const wanted = quick ? connectionsMade : 100_000;
  while (connectionsMade < wanted) {
    say(`  new connections: ${connectionsMade} of ${wanted}`);
    const more = await load(cluster, "meshed", "connect", "--workers", 16, "--seconds", 8);
    if ((more.operations ?? 0) === 0) break;
    connectionsMade += more.operations ?? 0;
  }
  say("  a quiet moment, after which ztunnel has given back what traffic needed");
  await pause(15_000);
  const after = await usage(cluster);
  return {
    ...traffic,
    cpu,
    rssFreshMib: fresh.rssKib / 1_024,
    rssPerIdleConnectionKib: (withIdle.rssKib - beforeIdle.rssKib) / 1_000,
    rssAfterMib: after.rssKib / 1_024,
    connectionsMade,
  };
}

async function measureCpu(
  run: (...args: (string | number)[]) => Promise<LoadResult>,
  usedMs: () => Promise<number>,
  { seconds, say }: Options,
): Promise<{ cpu: CpuCost; bulk: LoadResult; trips: LoadResult }> {
  const costOf = async (what: string, ...args: (string | number)[]) => {
    say(`  ${what}, for CPU`);
    const beforeMs = await usedMs();
    const result = await run(...args, "--seconds", seconds);
    return { result, cpuMs: (await usedMs()) - beforeMs };
  };
  const bulk = await costOf("bulk up, 1 connection", "bulk", "--connections", 1);
  const trips = await costOf("round trips, 32 connections", "pingpong", "--connections", 32);
  const cpu = {
    secondsPerGigabyte: bulk.cpuMs / 1_000 / (bulk.result.gigabytesInAll ?? Number.NaN),
    msPerThousandRoundTrips: trips.cpuMs / ((trips.result.operationsInAll ?? Number.NaN) / 1_000),
  };
  return { cpu, bulk: bulk.result, trips: trips.result };
}

/** What `plain-pair.ts` reaches and uses between the same pods, as long as they are not captured. */
export async function measurePlainPair(cluster: Cluster, options: Options): Promise<Plain> {
  const authority = await strangeAuthority();
  const { certificatePem, keyPem } = await certificateFor(authority, { type: "dns", value: pairName });
  const certificate: PairCertificate = { cert: certificatePem, key: keyPem, ca: authority.certificatePem };
  const words = ["node", plainPair, "--certificate", Buffer.from(JSON.stringify(certificate)).toString("base64")];
  const inbound = await cluster.start(server, [...words, "in"]);
  await inbound.line((line) => line === "ready");
  const to = `${await podIp(cluster, server)}:9500`;
  const outbound = await cluster.start(client, [...words, "out", "--listen", "9600", "--to", to]);
  await outbound.line((line) => line === "ready");
  const run = async (...args: (string | number)[]): Promise<LoadResult> => {
    const target = ["--host", "127.0.0.1", "--port", 9600];
    return outcomeOf(await cluster.start(client, ["node", program, ...[...args, ...target].map(String)]));
  };
  try {
    const { cpu, bulk, trips } = await measureCpu(
      run,
      async () => {
        const both = await Promise.all([client, server].map((pod) => podUsage(cluster, pod, "plain-pair")));
        return both.reduce((sum, { cpuMs }) => sum + cpuMs, 0);
      },
      options,
    );
    options.say("  round trips, 1 connection");
    const pingpong1 = await run("pingpong", "--connections", 1, "--seconds", options.seconds);
    return { cpu, up1: bulk, pingpong1, pingpong32: trips };
  } finally {
    for (const pod of [client, server]) await cluster.exec(pod, ["pkill", "-f", "plain-pair"]);
    await Promise.all([inbound.done, outbound.done]);
  }
}

/** CPU of all ztunnels together, memory of the largest. */
async function usage(cluster: Cluster): Promise<ProcessUsage> {
  const all = await ztunnelUsage(cluster);
  return {
    processes: all.length,
    rssKib: Math.max(...all.map(({ rssKib }) => rssKib)),
    cpuMs: all.reduce((sum, { cpuMs }) => sum + cpuMs, 0),
    openFiles: Math.max(...all.map(({ openFiles }) => openFiles)),
  };
}
