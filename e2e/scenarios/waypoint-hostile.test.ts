/**
 * Attacks on a waypoint, along the way that requests take and straight at its tunnel port: refused, counted right by the
 * server behind it, and not felt by anybody else.
 */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Attack } from "#e2e/support/attacker.ts";
import { nameOf, type Manifest, type PodName } from "#e2e/support/cluster.ts";
import { forge, meshAuthority, strangeAuthority } from "#e2e/support/forged-certificate.ts";
import { ambient, namespaceManifest, outcomeOf, podIp, projectRoot, startMesh, type Mesh } from "#e2e/support/mesh.ts";
import type { ProcessUsage } from "#e2e/support/process-usage.ts";
import type { Crowd, Flood, Refusal } from "#e2e/support/web-attacker.ts";
import {
  callerPod,
  curl,
  curlMany,
  documents,
  waypointGateway,
  waypointReady,
  webPod,
  webService,
} from "#e2e/support/web-mesh.ts";

let mesh: Mesh;
const namespace = "shop";
const caller: PodName = { namespace, name: "caller" };
const attacker: PodName = { namespace, name: "attacker" };
const outsider: PodName = { namespace: "outside", name: "outsider" };
const program = join(projectRoot, "e2e/support/web-attacker.ts");
const tunnelProgram = join(projectRoot, "e2e/support/attacker.ts");
const usageProgram = join(projectRoot, "e2e/support/process-usage.ts");
let waypoint: PodName;
let waypointIp: string;

beforeAll(async () => {
  mesh = await startMesh("waypoint-hostile");
  await mesh.cluster.apply(
    [
      namespaceManifest(namespace, { ...ambient, "istio.io/use-waypoint": "waypoint" }),
      namespaceManifest("outside"),
      waypointGateway("waypoint", namespace),
      callerPod("caller", namespace, "node-1"),
      callerPod("attacker", namespace, "node-2"),
      callerPod("outsider", "outside", "node-1"),
      webPod("reviews", { namespace, node: "node-2" }),
      webService("reviews", namespace),
      webPod("victim", { namespace, node: "node-1" }),
      webService("victim", namespace),
      webPod("unserved", { namespace, node: "node-1" }),
      webService("unserved", namespace, { labels: { "istio.io/use-waypoint": "none" } }),
      documents({
        apiVersion: "networking.istio.io/v1",
        kind: "VirtualService",
        metadata: { name: "victim", namespace },
        spec: {
          hosts: ["victim"],
          http: [
            {
              headers: {
                request: { set: { "x-copy": "<%REQ(x-user)%>", "x-query": "%REQ(:PATH)%" } },
                response: { set: { "x-user": "%REQ(x-user)%" } },
              },
              route: [{ destination: { host: "victim" } }],
            },
          ],
        },
      }),
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady(namespace, 5);
  await waypointReady(mesh.cluster, namespace);
  await mesh.cluster.podsReady("outside", 1);
  const [pod] = await mesh.cluster.pods(namespace, "gateway.networking.k8s.io/gateway-name=waypoint");
  if (pod === undefined) throw new Error("there is no waypoint");
  waypoint = nameOf(pod);
  waypointIp = await podIp(mesh.cluster, waypoint);
  for (const from of [caller, attacker]) {
    for (const url of ["http://reviews/", "http://victim/"]) {
      await mesh.cluster.until(`${url} from ${from.name} through the waypoint`, async () =>
        Boolean((await curl(mesh.cluster, from, url)).echo?.headers["x-request-id"]),
      );
    }
  }
}, 120_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

async function attack<T>(what: string, host: string, port = 80): Promise<T> {
  const running = await mesh.cluster.start(attacker, ["node", program, what, "--host", host, "--port", String(port)]);
  return outcomeOf<T>(running);
}

async function usage(): Promise<ProcessUsage> {
  const { stdout } = await mesh.cluster.exec(waypoint, ["node", usageProgram, "waypoint/main.ts"]);
  return JSON.parse(stdout) as ProcessUsage;
}

const mebibyte = 1024;

/** Requests of the caller while `attack` runs, all of which are answered; and the waypoint has not grown. */
async function unharmed<T>(running: Promise<T>, grownMib = 100): Promise<T> {
  const before = await usage();
  expect(before.processes).toBe(1);
  const attack = { isOver: false };
  const result = running.finally(() => (attack.isOver = true));
  const answers = new Set<number>();
  do {
    for (const { status } of await curlMany(mesh.cluster, caller, 10, "http://reviews/")) answers.add(status);
  } while (!attack.isOver);
  expect([...answers]).toEqual([200]);
  const outcome = await result;
  const after = await usage();
  expect((after.rssKib - before.rssKib) / mebibyte).toBeLessThan(grownMib);
  await expectHealth();
  return outcome;
}

async function expectHealth(): Promise<void> {
  expect((await curl(mesh.cluster, caller, "http://reviews/")).status).toBe(200);
  const pods = await mesh.cluster.pods(namespace);
  const restarts = pods.flatMap(({ status }) => status?.containerStatuses?.map((each) => each.restartCount) ?? []);
  expect(new Set(restarts)).toEqual(new Set([0]));
}

/** How many the server itself has seen; asking is not counted. */
const requestsSeen = async (host: string): Promise<number> =>
  (await curl(mesh.cluster, caller, `http://${host}/count`)).echo?.requests ?? NaN;

describe("requests that two servers read differently", () => {
  test("each is refused, the connection closed, and the server sees what we counted", async () => {
    const before = await requestsSeen("victim");
    const results = await attack<readonly Refusal[]>("ambiguities", "victim");
    expect(results.length).toBeGreaterThan(100);
    const odd = results.filter(({ statuses, isClosed, wanted }) =>
      wanted.status === undefined
        ? statuses.length !== wanted.requests || statuses.some((status) => status !== 200)
        : statuses.length !== 1 || statuses[0] !== wanted.status || !isClosed,
    );
    expect(odd).toEqual([]);
    const wanted = results.reduce((sum, { wanted: { requests } }) => sum + requests, 0);
    expect((await requestsSeen("victim")) - before).toBe(wanted);
    await expectHealth();
  }, 120_000);

  test("HTTP/2 that would be something else in HTTP/1.1 is refused", async () => {
    const before = await requestsSeen("victim");
    const results = await attack<readonly Flood[]>("downgrade", "victim");
    const passed = results.filter(({ ending }) => !/^[A-Z_]+$|ended|^4\d\d$/.test(ending));
    expect(passed).toEqual([]);
    expect((await requestsSeen("victim")) - before).toBe(0);
    await expectHealth();
  }, 120_000);

  test("what a route copies into a header stays one header", async () => {
    const before = await requestsSeen("victim");
    const answer = await curl(
      mesh.cluster,
      caller,
      "-H",
      "x-user: a%0d%0ax-evil: 1",
      "http://victim/x%0d%0ax-evil:1?a%0d%0ab",
    );
    expect(answer.status).toBe(200);
    expect(answer.echo?.headers["x-copy"]).toBe("<a%0d%0ax-evil: 1>");
    expect(answer.echo?.headers["x-evil"]).toBeUndefined();
    expect(answer.headers.get("x-user")).toEqual(["a%0d%0ax-evil: 1"]);
    expect(answer.headers.has("x-evil")).toBe(false);
    expect((await requestsSeen("victim")) - before).toBe(1);
  });
});

describe("too much of it", () => {
  test("what has no end is cut off where it is too long", async () => {
    const results = await unharmed(attack<readonly Refusal[]>("endless", "victim"));
    expect(results.filter(({ statuses, wanted }) => statuses.length !== 1 || statuses[0] !== wanted.status)).toEqual(
      [],
    );
    expect(results.filter(({ isClosed }) => !isClosed)).toEqual([]);
  }, 180_000);

  test("floods of HTTP/2 frames end their connection", async () => {
    const results = await unharmed(attack<readonly Flood[]>("floods", "victim"), 150);
    expect(results.length).toBeGreaterThan(15);
    expect(results.filter(({ ending }) => ending !== "ENHANCE_YOUR_CALM" && !ending.startsWith("closed"))).toEqual([]);
  }, 400_000);

  test("heads that come a line a second are not waited for", async () => {
    const running = mesh.cluster
      .start(attacker, ["node", program, "slow", "--host", "victim", "--count", "500", "--seconds", "60"])
      .then((started) => outcomeOf<Crowd>(started));
    const { connected, open } = await unharmed(running);
    expect(connected).toBe(500);
    expect(open).toBe(0);
  }, 120_000);

  test("10 000 connections at once, each with a request", async () => {
    const started = await mesh.cluster.start(attacker, [
      "node",
      program,
      "crowd",
      "--host",
      "victim",
      "--count",
      "10000",
      "--seconds",
      "5",
    ]);
    const { connected, answered } = await unharmed(outcomeOf<Crowd>(started), 500);
    expect(connected).toBe(10_000);
    // Whoever is not answered within those five seconds is not counted.
    expect(answered).toBeGreaterThanOrEqual(9_990);
  }, 240_000);
});

describe("straight at the tunnel port", () => {
  const say = "GET / HTTP/1.1\r\nHost: victim\r\n\r\n";

  async function at(from: PodName, ...args: readonly string[]): Promise<Attack> {
    const running = await mesh.cluster.start(from, ["node", tunnelProgram, ...args, "--host", waypointIp]);
    return outcomeOf<Attack>(running);
  }

  const asCaller = async () =>
    forge(await meshAuthority(mesh.cluster), `spiffe://cluster.local/ns/${namespace}/sa/caller`);

  test("garbage, plain HTTP, and TLS without a certificate", async () => {
    const garbage = await at(outsider, "garbage", "--count", "50", "--seconds", "30");
    expect(garbage.open).toBe(0);
    expect(garbage.bytesReceived).toBeLessThan(50 * 200);
    expect(await at(outsider, "http")).toMatchObject({ open: 0 });
    const anonymous = await at(outsider, "tls");
    expect(anonymous.error).not.toBe("timeout");
    expect(anonymous.bytesReceived).toBeLessThan(200);
    await expectHealth();
  }, 60_000);

  test("certificates of nobody, of elsewhere and without an identity", async () => {
    const ours = await meshAuthority(mesh.cluster);
    const vip = await serviceIp("victim");
    for (const pem of [
      await forge(await strangeAuthority(), `spiffe://cluster.local/ns/${namespace}/sa/caller`),
      await forge(ours, `spiffe://elsewhere.test/ns/${namespace}/sa/caller`),
      await forge(ours, `https://cluster.local/ns/${namespace}/sa/caller`),
    ]) {
      expect(await at(outsider, "connect", "--pem", pem, "--authority", `${vip}:80`, "--say", say)).toMatchObject({
        status: 0,
        bytesReceived: 0,
      });
    }
  }, 60_000);

  const serviceIp = async (name: string): Promise<string> => {
    const service = await mesh.cluster.get<Manifest & { readonly spec?: { readonly clusterIP?: string } }>(
      "v1",
      "Service",
      name,
      namespace,
    );
    return service.spec?.clusterIP ?? "";
  };

  test("what it is for works, so the refusals below are for their reasons", async () => {
    const target = `${await serviceIp("victim")}:80`;
    const answer = await at(outsider, "connect", "--pem", await asCaller(), "--authority", target, "--say", say);
    expect(answer).toMatchObject({ status: 200 });
    expect(answer.bytesReceived).toBeGreaterThan(100);
  }, 30_000);

  test.each<[string, () => Promise<string> | string, string?]>([
    ["itself", () => `${waypointIp}:15008`],
    ["its port for operators", () => "127.0.0.1:15000"],
    ["its port for operators, by IPv6", () => "[::1]:15000"],
    ["its probe, by its own address", () => `${waypointIp}:15021`],
    ["its metrics", () => `${waypointIp}:15020`],
    ["any port of loopback", () => "127.0.0.1:8080"],
    ["the unspecified address", () => "0.0.0.0:15000"],
    ["a pod that it does not serve", async () => `${await podIp(mesh.cluster, { namespace, name: "victim" })}:8080`],
    ["a service that it does not serve", async () => `${await serviceIp("unserved")}:80`],
    ["a port that the service does not have", async () => `${await serviceIp("victim")}:81`],
    ["a metadata service", () => "169.254.169.254:80"],
    ["a name", () => "victim.shop.svc.cluster.local:80"],
    ["localhost by name", () => "localhost:15000"],
    ["no port", () => serviceIp("victim")],
    ["port 0", async () => `${await serviceIp("victim")}:0`],
    ["a port beyond all ports", async () => `${await serviceIp("victim")}:65616`],
    ["junk", () => "%00@:::80"],
    ["not with CONNECT", async () => `${await serviceIp("victim")}:80`, "GET"],
    ["not with CONNECT, but a body", async () => `${await serviceIp("victim")}:80`, "POST"],
  ])(
    "with a good certificate, asking for %s",
    async (_what, authority, method = "CONNECT") => {
      const before = await requestsSeen("victim");
      const answer = await at(
        outsider,
        "connect",
        "--pem",
        await asCaller(),
        "--authority",
        await authority(),
        "--method",
        method,
        "--say",
        say,
      );
      expect(answer).toMatchObject({ bytesReceived: 0 });
      expect(answer.error).not.toBe("timeout");
      expect((await requestsSeen("victim")) - before).toBe(0);
      await expectHealth();
    },
    40_000,
  );
});
