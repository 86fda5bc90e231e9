/** Names in captured pods: of services, of ServiceEntries, of everybody else; and what happens when parts are missing. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { LoadOutcome, Outcome } from "#e2e/support/client.ts";
import { nameOf, type Manifest, type PodName, type RunningCommand } from "#e2e/support/cluster.ts";
import type { DnsReply, FloodOutcome, LookupOutcome, SteadyOutcome } from "#e2e/support/dns-client.ts";
import {
  ambient,
  namespaceManifest,
  outcomeOf,
  peerManifest,
  podIp,
  projectRoot,
  setZtunnelEnv,
  startMesh,
  startTalk,
  talk,
  ztunnelLog,
  ztunnelUsage,
  type Mesh,
} from "#e2e/support/mesh.ts";
import { curl, documents, waypointGateway, waypointReady, webPod } from "#e2e/support/web-mesh.ts";

let mesh: Mesh;
const client = { namespace: "names", name: "client" };
const server = { namespace: "names", name: "server" };
const free = { namespace: "names", name: "free" };
const stranger = { namespace: "outside", name: "stranger" };
const nodePod = { namespace: "names", name: "node-pod" };
const program = join(projectRoot, "e2e/support/dns-client.ts");
const clusterDns = "10.96.0.10";

interface EntrySpec {
  readonly hosts: readonly string[];
  readonly [field: string]: unknown;
}

function serviceEntry(name: string, spec: EntrySpec, labels: Readonly<Record<string, string>> = {}): Manifest {
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: { name, namespace: client.namespace, labels },
    spec: { location: "MESH_EXTERNAL", ...spec },
  };
}

const optOut = { "ambient.istio.io/dns-capture": "false" };
const toEcho = [{ number: 80, name: "tcp", protocol: "TCP", targetPort: 7000 }];
const toHttp = [{ number: 80, name: "http", protocol: "HTTP", targetPort: 8080 }];

beforeAll(async () => {
  mesh = await startMesh("dns");
  await mesh.cluster.apply(
    [
      namespaceManifest("names", ambient),
      namespaceManifest("outside"),
      peerManifest("client", { namespace: "names", node: "node-1" }),
      peerManifest("server", { namespace: "names", node: "node-2", service: "cluster-ip" }),
      peerManifest("pods", { namespace: "names", node: "node-2", service: "headless" }),
      peerManifest("free", { namespace: "names", node: "node-1" }),
      peerManifest("node-pod", { namespace: "names", node: "node-2", hostNetwork: true }),
      peerManifest("stranger", { namespace: "outside", node: "node-2", service: "cluster-ip" }),
      webPod("web", { namespace: "outside", node: "node-2" }),
    ].join("\n---\n"),
  );
  await mesh.cluster.merge({ apiVersion: "v1", kind: "Pod", metadata: { ...free, annotations: optOut } });
  await mesh.cluster.podsReady("names", 5);
  await mesh.cluster.podsReady("outside", 2);
  await mesh.cluster.until("pods to be captured", async () =>
    (await mesh.cluster.pods("names")).every(
      (pod) =>
        pod.spec?.hostNetwork === true || pod.metadata?.annotations?.["ambient.istio.io/redirection"] === "enabled",
    ),
  );
  await mesh.cluster.apply(
    documents(
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "alias", namespace: "names" },
        spec: { type: "ExternalName", externalName: "stranger.outside.svc.cluster.local" },
      },
      serviceEntry("static", {
        hosts: ["Static.example.com"],
        resolution: "STATIC",
        ports: toEcho,
        endpoints: [{ address: await podIp(mesh.cluster, stranger) }],
      }),
      serviceEntry("by-name", {
        hosts: ["by-name.example.com"],
        resolution: "DNS",
        ports: [{ number: 80, name: "tcp", protocol: "TCP", targetPort: 7000 }],
        endpoints: [{ address: "stranger.outside.svc.cluster.local" }],
      }),
      serviceEntry("wild", {
        hosts: ["*.wild.example.com"],
        addresses: ["10.99.0.1"],
        resolution: "STATIC",
        ports: toEcho,
        endpoints: [{ address: await podIp(mesh.cluster, stranger) }],
      }),
      serviceEntry("many", {
        hosts: ["many.example.com"],
        addresses: manyAddresses,
        resolution: "STATIC",
        ports: toEcho,
        endpoints: [{ address: await podIp(mesh.cluster, stranger) }],
      }),
      serviceEntry("none", { hosts: ["none.example.com"], resolution: "NONE", ports: toEcho }),
    ),
  );
  for (const name of ["static.example.com", "by-name.example.com", "a.wild.example.com", "many.example.com"]) {
    await mesh.cluster.until(name, async () => (await ask(client, name)).result === "NOERROR");
  }
}, 120_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

const manyAddresses = Array.from({ length: 200 }, (_, index) => `10.98.0.${index}`);

async function run<T>(pod: PodName, ...args: readonly (string | number)[]): Promise<T> {
  const { stdout, stderr } = await mesh.cluster.exec(pod, ["node", program, ...args.map(String)]);
  const last = stdout.trim().split("\n").at(-1) ?? "";
  if (last === "") throw new Error(`${args.join(" ")} in ${pod.name}: ${stderr}`);
  return JSON.parse(last) as T;
}

async function start(pod: PodName, ...args: readonly (string | number)[]): Promise<RunningCommand> {
  const running = await mesh.cluster.start(pod, ["node", program, ...args.map(String)]);
  await running.line((line) => line.startsWith("{"));
  return running;
}

const ask = (pod: PodName, name: string, ...more: readonly (string | number)[]) =>
  run<DnsReply>(pod, "ask", name, ...more);
const addressesOf = async (pod: PodName, name: string) => (await run<LookupOutcome>(pod, "lookup", name)).addresses;
const echo = (pod: PodName, host: string, port = 80) =>
  talk<Outcome>(mesh.cluster, pod, "echo", "--host", host, "--port", port);

/** What the mesh alone says: the cluster's DNS would not know, or not be authoritative for so long. */
const isOurs = ({ authoritative, answers }: DnsReply) => authoritative && answers.every(({ ttl }) => ttl === 30);

describe("services", () => {
  test("short, with their namespace, and whole, as applications look them up", async () => {
    const uncaptured = await addressesOf(stranger, "server.names");
    expect(uncaptured).toHaveLength(2);
    for (const name of ["server", "server.names", "server.names.svc", "server.names.svc.cluster.local"]) {
      expect({ name, found: await addressesOf(client, name) }).toEqual({ name, found: uncaptured });
    }
    expect(isOurs(await ask(client, "server.names.svc.cluster.local"))).toBe(true);
    expect(await addressesOf(client, "stranger.outside")).toEqual(await addressesOf(stranger, "stranger.outside"));
  });

  test("headless ones are their pods", async () => {
    const pods = { namespace: "names", name: "pods" };
    const ips = [await podIp(mesh.cluster, pods, 4), await podIp(mesh.cluster, pods, 6)].toSorted();
    expect(await addressesOf(client, "pods")).toEqual(ips);
    expect(
      (await ask(client, "pods.names.svc.cluster.local", "--type", "AAAA")).answers.map(({ data }) => data),
    ).toEqual([await podIp(mesh.cluster, pods, 6)]);
  });

  test("whichever resolver is asked, over UDP and TCP, IPv4 and IPv6", async () => {
    for (const address of [clusterDns, "192.0.2.53", "fd00:10:96::a", "2001:db8::53"]) {
      for (const more of [[], ["--tcp"]]) {
        const reply = await ask(client, "server.names.svc.cluster.local", "--server", address, ...more);
        expect({ address, more, ours: isOurs(reply) && reply.answers.length > 0 }).toEqual({
          address,
          more,
          ours: true,
        });
      }
    }
  });
});

describe("everything else is what the cluster's DNS says", () => {
  test.each([
    ["a name of the cluster that is no service of the mesh", "alias.names.svc.cluster.local", "A", "NOERROR"],
    ["another type", "_tcp-echo._tcp.server.names.svc.cluster.local", "SRV", "NOERROR"],
    ["text", "dns-version.cluster.local", "TXT", "NOERROR"],
    ["an unknown service", "absent.names.svc.cluster.local", "A", "NXDOMAIN"],
    ["the world outside", "example.org", "A", "NXDOMAIN"],
  ])("%s", async (_what, name, type, result) => {
    for (const more of [[], ["--tcp"], ["--payload", 1232]]) {
      const captured = await ask(client, name, "--type", type, ...more);
      const plain = await ask(stranger, name, "--type", type, ...more);
      expect(captured).toMatchObject({ result, authoritative: false });
      expect(captured.answers).toEqual(plain.answers);
    }
  });

  test("an address's name", async () => {
    const [ip = ""] = (await addressesOf(client, "server")).filter((text) => text.includes("."));
    const name = `${ip.split(".").toReversed().join(".")}.in-addr.arpa`;
    expect((await ask(client, name, "--type", "PTR")).answers.map(({ data }) => data)).toEqual([
      "server.names.svc.cluster.local",
    ]);
  });
});

describe("ServiceEntries", () => {
  test("get addresses by themselves, and captured pods connect by name", async () => {
    for (const name of ["static.example.com", "by-name.example.com"]) {
      const found = await addressesOf(client, name);
      expect(found.some((ip) => ip.startsWith("240.240."))).toBe(true);
      expect(found.some((ip) => ip.startsWith("2001:2:"))).toBe(true);
      expect({ name, ...(await echo(client, name)) }).toMatchObject({ name, ok: true });
    }
    await mesh.cluster.until("the log to name the service", async () =>
      (await ztunnelLog(mesh.cluster)).some((line) => line.includes('dst.service="by-name.example.com"')),
    );
  }, 30_000);

  test("a search domain after the name is taken off: an alias, one question instead of four", async () => {
    const reply = await ask(client, "static.example.com.names.svc.cluster.local");
    expect(reply.answers.map(({ type, name }) => [type, name])).toEqual([
      ["CNAME", "static.example.com.names.svc.cluster.local"],
      ["A", "static.example.com"],
    ]);
  });

  test("wildcards cover every name below them, and nobody else's", async () => {
    for (const name of ["a.wild.example.com", "a.b.wild.example.com"]) {
      expect(await addressesOf(client, name)).toEqual(["10.99.0.1"]);
    }
    expect(await ask(client, "wild.example.com")).toMatchObject({ result: "NXDOMAIN" });
    expect(await echo(client, "x.wild.example.com")).toMatchObject({ ok: true });
    // The name is there, an IPv6 address of it is not: nobody else is asked.
    expect(await ask(client, "a.wild.example.com", "--type", "AAAA")).toMatchObject({
      result: "NOERROR",
      authoritative: true,
      answers: [],
    });
  });

  test("without an address they are looked up outside", async () => {
    expect(await ask(client, "none.example.com")).toMatchObject({ result: "NXDOMAIN", authoritative: false });
  });

  test("what is too large for UDP is cut off, and the C library gets it over TCP", async () => {
    expect(await ask(client, "many.example.com")).toMatchObject({ truncated: true });
    expect((await ask(client, "many.example.com", "--tcp")).answers).toHaveLength(200);
    expect((await ask(client, "many.example.com", "--payload", 4096)).answers).toHaveLength(200);
    expect(await addressesOf(client, "many.example.com")).toEqual(manyAddresses.toSorted());
  });

  test("through a waypoint", async () => {
    const address = await podIp(mesh.cluster, { namespace: "outside", name: "web" });
    const labels = { "istio.io/use-waypoint": "waypoint" };
    await mesh.cluster.apply(
      [
        waypointGateway("waypoint", "names"),
        documents(
          serviceEntry(
            "partner",
            { hosts: ["partner.example.com"], resolution: "STATIC", ports: toHttp, endpoints: [{ address }] },
            labels,
          ),
        ),
      ].join("\n---\n"),
    );
    await waypointReady(mesh.cluster, "names");
    await mesh.cluster.until("an answer that only a waypoint gives", async () => {
      const answer = await curl(mesh.cluster, client, "http://partner.example.com/");
      return answer.status === 200 && answer.echo?.headers["x-request-id"] !== undefined;
    });
  }, 90_000);

  test("are gone when they are deleted", async () => {
    await mesh.cluster.delete("networking.istio.io/v1", "ServiceEntry", "none", "names");
    await mesh.cluster.delete("networking.istio.io/v1", "ServiceEntry", "wild", "names");
    await mesh.cluster.until(
      "the name to be unknown",
      async () => (await ask(client, "a.wild.example.com")).result === "NXDOMAIN",
    );
  });
});

describe("who is left alone", () => {
  test.each([
    ["an uncaptured pod", stranger],
    ["a captured pod whose annotation says so", free],
    ["a pod on the node's network", nodePod],
  ])("%s asks the cluster's DNS itself", async (_who, pod) => {
    expect(await ask(pod, "static.example.com")).toMatchObject({ result: "NXDOMAIN", authoritative: true });
    expect(isOurs(await ask(pod, "server.names.svc.cluster.local"))).toBe(false);
    expect(await echo(pod, "server.names", 7000)).toMatchObject({ ok: true });
  });

  test("an annotation that goes, and comes, counts at once", async () => {
    const annotate = (value: string | null) =>
      mesh.cluster.merge({
        apiVersion: "v1",
        kind: "Pod",
        metadata: { ...free, annotations: { "ambient.istio.io/dns-capture": value } },
      } as never);
    await annotate(null);
    await mesh.cluster.until(
      "the pod to be answered",
      async () => (await ask(free, "static.example.com")).result === "NOERROR",
    );
    await annotate("false");
    await mesh.cluster.until(
      "the pod to be left alone",
      async () => (await ask(free, "static.example.com")).result === "NXDOMAIN",
    );
  });

  test("a resolver of the pod's own, on whichever of its addresses", async () => {
    const script = `
      const { createSocket } = require("node:dgram");
      const server = createSocket("udp4");
      server.on("message", (message, peer) => server.send("mine", peer.port, peer.address));
      server.bind(53, "0.0.0.0", async () => {
        for (const address of process.argv.slice(1)) {
          const asker = createSocket("udp4");
          asker.send("anything", 53, address);
          console.log(String(await new Promise((resolve) => asker.once("message", resolve))));
          asker.close();
        }
        server.close();
      });`;
    const { stdout } = await mesh.cluster.exec(server, [
      "node",
      "-e",
      script,
      "127.0.0.1",
      await podIp(mesh.cluster, server),
    ]);
    expect(stdout.trim().split("\n")).toEqual(["mine", "mine"]);
  });
});

describe("what may break, and must not", () => {
  const agentOf = async (node: string) => {
    const agents = await mesh.cluster.pods("istio-system", "k8s-app=istio-cni-node");
    const agent = agents.find((pod) => pod.spec?.nodeName === node);
    if (agent === undefined) throw new Error(`no node agent on ${node}`);
    return nameOf(agent);
  };

  test("the cluster's DNS is away: names of the mesh are answered, others fail before the asker gives up", async () => {
    const agent = await agentOf("node-1");
    const rules = `add table inet cut
add chain inet cut prerouting { type filter hook prerouting priority -300; }
add rule inet cut prerouting ip daddr ${clusterDns} drop`;
    const nft = (...args: readonly string[]) => mesh.cluster.exec(agent, ["nft", ...args]);
    expect((await nft(rules)).stderr).toBe("");
    try {
      // Half a second before: what a busy machine may need more of now and then, but not always.
      await mesh.cluster.until("a failure before the C library gives up", async () => {
        const { result, ms } = await ask(client, "alias.names.svc.cluster.local");
        return result === "SERVFAIL" && ms < 5_000;
      });
      expect(await addressesOf(client, "server")).toHaveLength(2);
      expect(await echo(client, "static.example.com")).toMatchObject({ ok: true });
    } finally {
      await nft("delete", "table", "inet", "cut");
    }
    expect(await ask(client, "alias.names.svc.cluster.local")).toMatchObject({ result: "NOERROR" });
  }, 60_000);

  test("a flood of one pod stays that pod's, and memory bounded", async () => {
    const rssOf = async () => Math.max(...(await ztunnelUsage(mesh.cluster)).map(({ rssKib }) => rssKib)) / 1_024;
    const before = await rssOf();
    const host = await podIp(mesh.cluster, server);
    const beside = await startTalk(mesh.cluster, free, "load", "--host", host, "--seconds", 6);
    for (const [name, type] of [
      ["server.names.svc.cluster.local", "A"],
      ["server.names.svc.cluster.local", "TXT"],
    ] as const) {
      const outcome = await run<FloodOutcome>(client, "flood", name, "--type", type, "--seconds", 2);
      expect(outcome.answered).toBeGreaterThan(100);
    }
    expect(await outcomeOf<LoadOutcome>(beside)).toMatchObject({ failed: 0, failures: [] });
    expect((await rssOf()) - before).toBeLessThan(100);
    expect(await addressesOf(client, "server")).toHaveLength(2);
  }, 60_000);

  test("pods join and leave under load: sockets that are kept, and new ones, are answered throughout", async () => {
    const questions = ["steady", "server.names.svc.cluster.local", "--seconds", 12, "--every", 10] as const;
    const [kept, fresh] = [await start(client, ...questions, "--keep"), await start(client, ...questions)];
    for (const labels of [{ "istio.io/dataplane-mode": null }, ambient]) {
      await mesh.cluster.labelNamespace("names", labels);
      await mesh.cluster.until(
        labels === ambient ? "ours" : "the cluster's",
        async () => isOurs(await ask(client, "server.names.svc.cluster.local")) === (labels === ambient),
      );
    }
    const [ofKept, ofFresh] = [await outcomeOf<SteadyOutcome>(kept), await outcomeOf<SteadyOutcome>(fresh)];
    // One question of each is under way in the moment of leaving, and of joining: it may be lost, as datagrams may.
    for (const { failures } of [ofKept, ofFresh]) {
      expect(failures.filter((failure) => !failure.endsWith("timeout"))).toEqual([]);
      expect(failures.slice(2)).toEqual([]);
    }
    for (const { done } of [ofKept, ofFresh]) expect(done).toBeGreaterThan(100);
  }, 60_000);

  test("ztunnels are replaced under load: every question is answered", async () => {
    const questions = ["steady", "server.names.svc.cluster.local", "--seconds", 25, "--every", 10] as const;
    const load = await start(client, ...questions);
    const other = await start(client, ...questions, "--type", "TXT");
    await setZtunnelEnv(mesh.cluster, [
      { name: "RUST_LOG", value: "info,dns=debug" },
      { name: "TERMINATION_GRACE_PERIOD_SECONDS", value: "8" },
    ]);
    for (const running of [load, other])
      expect(await outcomeOf<SteadyOutcome>(running)).toMatchObject({ failed: 0, failures: [] });
  }, 120_000);

  test("each question is counted, and told to those who want to know", async () => {
    await ask(client, "static.example.com");
    await ask(client, "example.org", "--tcp");
    await mesh.cluster.until("lines of both questions", async () => {
      const lines = (await ztunnelLog(mesh.cluster)).filter(
        (line) => line.includes("\tdns\t") && line.includes('src.workload="client"'),
      );
      return (
        lines.some((line) =>
          /query="A".*domain="static\.example\.com".*result="success".*endpoints="240\.240\./u.test(line),
        ) && lines.some((line) => /domain="example\.org".*result="forwarded"/u.test(line))
      );
    });
    const metrics = (
      await Promise.all(
        (await mesh.cluster.pods("istio-system", "app=ztunnel")).map(
          async (pod) =>
            (
              await mesh.cluster.exec(nameOf(pod), [
                "node",
                "-e",
                `fetch("http://localhost:15020/metrics").then((r) => r.text()).then((t) => console.log(t))`,
              ])
            ).stdout,
        ),
      )
    ).join("\n");
    const labels = (type: string, protocol: string) =>
      `{request_query_type="${type}",request_protocol="${protocol}",source_canonical_service="client",source_canonical_revision="latest"}`;
    expect(metrics).toContain(`istio_dns_requests_total${labels("a", "udp")}`);
    expect(metrics).toContain(`istio_dns_upstream_requests_total${labels("a", "tcp")} 1`);
    expect(metrics).toContain(`istio_dns_upstream_request_duration_seconds_count${labels("txt", "udp")}`);
  }, 60_000);

  test("a ztunnel that is told not to answer: questions go past it, and pods say so", async () => {
    // The drain lasts as long as a connection does: names are answered meanwhile, though there is no successor for them.
    await startTalk(mesh.cluster, client, "hold", "--host", "server", "--seconds", 60);
    const asking = await start(client, "steady", "server.names.svc.cluster.local", "--seconds", 30, "--every", 10);
    await setZtunnelEnv(mesh.cluster, [{ name: "ISTIO_META_DNS_CAPTURE", value: "false" }]);
    await mesh.cluster.until(
      "the pod to say so",
      async () => {
        const pod = (await mesh.cluster.pods("names")).find(({ metadata }) => metadata?.name === "client");
        const condition = pod?.status?.conditions?.find(({ type }) => type === "ambit.dev/Captured");
        return condition?.status === "True" && condition.message?.includes("its DNS is not captured");
      },
      60_000,
    );
    expect(await addressesOf(client, "server")).toHaveLength(2);
    expect(await ask(client, "static.example.com")).toMatchObject({ result: "NXDOMAIN" });
    expect(await echo(client, "server", 7000)).toMatchObject({ ok: true });
    const { done, failed } = await outcomeOf<SteadyOutcome>(asking);
    expect(done).toBeGreaterThan(100);
    expect(failed).toBeLessThan(done / 10);
  }, 150_000);
});
