/** Waypoints on demand: applied with kubectl, bound by labels, scaled, required, taken away. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Manifest } from "#e2e/support/cluster.ts";
import { ambient, namespaceManifest, podIp, startMesh, type Mesh } from "#e2e/support/mesh.ts";
import {
  callerPod,
  curl,
  curlMany,
  waypointGateway,
  waypointReady,
  webPod,
  webService,
} from "#e2e/support/web-mesh.ts";

let mesh: Mesh;
const caller = { namespace: "shop", name: "caller" };
const stranger = { namespace: "outside", name: "stranger" };

/** Only a waypoint adds it. */
const requestId = "x-request-id";

beforeAll(async () => {
  mesh = await startMesh("waypoint");
  await mesh.cluster.apply(
    [
      namespaceManifest("shop", ambient),
      namespaceManifest("other", ambient),
      namespaceManifest("outside"),
      callerPod("caller", "shop", "node-1"),
      callerPod("stranger", "outside", "node-1"),
      webPod("reviews-1", { namespace: "shop", node: "node-1", app: "reviews" }),
      webPod("reviews-2", { namespace: "shop", node: "node-2", app: "reviews" }),
      webService("reviews", "shop"),
      webPod("far", { namespace: "other", node: "node-2" }),
      webService("far", "other"),
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady("shop", 3);
  await mesh.cluster.podsReady("other", 1);
  await mesh.cluster.captured("shop", true);
}, 120_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

/** Labels of a service; null takes one away. */
async function label(name: string, labels: Readonly<Record<string, string | null>>, namespace = "shop"): Promise<void> {
  await mesh.cluster.merge({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace, labels },
  } as unknown as Manifest);
}

const passes = async (url: string): Promise<boolean> =>
  (await curl(mesh.cluster, caller, url)).echo?.headers[requestId] !== undefined;

const untilL7 = (url: string, wanted: boolean): Promise<unknown> =>
  mesh.cluster.until(`${url} ${wanted ? "through" : "without"} a waypoint`, async () => {
    const answer = await curl(mesh.cluster, caller, url);
    return answer.status === 200 && (answer.echo?.headers[requestId] !== undefined) === wanted;
  });

const untilStatus = (url: string, status: number): Promise<unknown> =>
  mesh.cluster.until(`${status} from ${url}`, async () => (await curl(mesh.cluster, caller, url)).status === status);

interface Conditions {
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason: string }[];
  };
}

const conditionsOf = async (apiVersion: string, kind: string, name: string): Promise<readonly string[]> =>
  ((await mesh.cluster.get<Conditions & Manifest>(apiVersion, kind, name, "shop")).status?.conditions ?? []).map(
    ({ type, status, reason }) => `${type}=${status}/${reason}`,
  );

/** They are written after what they tell of has taken force. */
async function expectConditions(
  apiVersion: string,
  kind: string,
  name: string,
  wanted: readonly string[],
): Promise<void> {
  let found: readonly string[] = [];
  const isTold = async () => {
    found = await conditionsOf(apiVersion, kind, name);
    return wanted.every((each) => found.includes(each));
  };
  await mesh.cluster.until("the conditions", isTold).catch(() => undefined);
  expect(found).toEqual(expect.arrayContaining([...wanted]));
}

describe("life of a waypoint", () => {
  test("a label that names none leaves traffic as it was", async () => {
    await label("reviews", { "istio.io/use-waypoint": "waypoint" });
    await expectConditions("v1", "Service", "reviews", ["istio.io/WaypointBound=False/WaypointIsNotReady"]);
    expect(await passes("http://reviews")).toBe(false);
  });

  test("a Gateway makes one, with a Deployment, a Service and an identity of its own; requests pass it", async () => {
    await mesh.cluster.apply(waypointGateway("waypoint", "shop"));
    await waypointReady(mesh.cluster, "shop");
    await untilL7("http://reviews", true);
    await expectConditions("gateway.networking.k8s.io/v1", "Gateway", "waypoint", [
      "Accepted=True/Accepted",
      "Programmed=True/Programmed",
    ]);
    await expectConditions("v1", "Service", "reviews", ["istio.io/WaypointBound=True/WaypointAccepted"]);
    const account = await mesh.cluster.get<Manifest>("v1", "ServiceAccount", "waypoint", "shop");
    expect(account.metadata.labels?.["gateway.istio.io/managed"]).toBe("istio.io-mesh-controller");
  });

  test("one client connection is spread over all pods", async () => {
    const { stdout } = await mesh.cluster.exec(caller, [
      "sh",
      "-c",
      `curl -s -m 20 ${Array.from({ length: 40 }, () => "http://reviews/").join(" ")} | grep -o '"name":"[^"]*"' | sort | uniq -c`,
    ]);
    expect(stdout).toContain("reviews-1");
    expect(stdout).toContain("reviews-2");
  });

  test("HTTP/2, gRPC's port, plain TCP and a port whose name says nothing", async () => {
    const http2 = await curl(mesh.cluster, caller, "--http2-prior-knowledge", "http://reviews:8082/two");
    expect(http2.echo).toMatchObject({ protocol: "HTTP/2", path: "/two" });
    for (const port of [7000, 7070]) {
      const { stdout } = await mesh.cluster.exec(caller, [
        "sh",
        "-c",
        `timeout 15 bash -c 'exec 3<>/dev/tcp/reviews/${port}; echo hi >&3; head -1 <&3'`,
      ]);
      expect(stdout).toMatch(/^reviews-\d: hi/);
    }
  });

  test("a port that the service does not have, and a pod's own address, do not pass it", async () => {
    const ip = await podIp(mesh.cluster, { namespace: "shop", name: "reviews-1" });
    expect(await passes(`http://${ip}:8080/`)).toBe(false);
    expect((await curl(mesh.cluster, caller, "http://reviews:9999/")).status).toBe(0);
  });

  test("scaled to two, both serve; scaled to one, no request fails", async () => {
    const scale = (replicas: number) =>
      mesh.cluster.merge({
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name: "waypoint", namespace: "shop" },
        spec: { replicas },
      });
    await scale(2);
    await waypointReady(mesh.cluster, "shop", "waypoint", 2);
    await scale(1);
    const during = await curlMany(mesh.cluster, caller, 60, "http://reviews/");
    expect(during.filter(({ status }) => status !== 200)).toEqual([]);
    await waypointReady(mesh.cluster, "shop", "waypoint", 1);
  }, 90_000);

  test("a change by hand is mended", async () => {
    await mesh.cluster.delete("v1", "Service", "waypoint", "shop");
    await mesh.cluster.until("the waypoint's Service", () => mesh.cluster.get("v1", "Service", "waypoint", "shop"));
    await untilL7("http://reviews", true);
  });
});

describe("who uses it", () => {
  test("a pod with a workload waypoint is reached through it by its own address", async () => {
    await mesh.cluster.apply(waypointGateway("pods", "shop", { serves: "workload", className: "ambit-waypoint" }));
    await waypointReady(mesh.cluster, "shop", "pods");
    await mesh.cluster.merge({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "reviews-2", namespace: "shop", labels: { "istio.io/use-waypoint": "pods" } },
    });
    const ip = await podIp(mesh.cluster, { namespace: "shop", name: "reviews-2" });
    await untilL7(`http://${ip}:8080/`, true);
    expect((await curl(mesh.cluster, caller, `http://${ip}:8080/`)).echo?.name).toBe("reviews-2");
  });

  test("another namespace, where its listener admits it, and not where it does not", async () => {
    await label("far", { "istio.io/use-waypoint": "waypoint", "istio.io/use-waypoint-namespace": "shop" }, "other");
    await mesh.cluster.until("AttachmentDenied", async () => {
      const service = await mesh.cluster.get<Conditions & Manifest>("v1", "Service", "far", "other");
      return service.status?.conditions?.some(({ reason }) => reason === "AttachmentDenied");
    });
    expect(await passes("http://far.other")).toBe(false);
    await mesh.cluster.apply(waypointGateway("waypoint", "shop", { from: { from: "All" } }));
    await untilL7("http://far.other", true);
  });
});

test("a canary waypoint gets its share, and nothing at weight 0", async () => {
  await mesh.cluster.apply(waypointGateway("canary", "shop"));
  await waypointReady(mesh.cluster, "shop", "canary");
  const [canary] = await mesh.cluster.pods("shop", "gateway.networking.k8s.io/gateway-name=canary");
  const weigh = (weight: number) =>
    mesh.cluster.merge({
      apiVersion: "v1",
      kind: "Service",
      metadata: {
        name: "reviews",
        namespace: "shop",
        labels: { "istio.io/use-waypoint-canary": "canary" },
        annotations: { "istio.io/use-waypoint-canary-weight": `${weight}` },
      },
    });
  /** How many of so many requests, each over a connection of its own, came from the canary. */
  const share = async (): Promise<number> => {
    let count = 0;
    for (let each = 0; each < 20; each++) {
      const { echo } = await curl(mesh.cluster, caller, "http://reviews");
      if (echo !== undefined && canary?.status?.podIPs?.some(({ ip }) => echo.peer.endsWith(ip ?? "?"))) count++;
    }
    return count;
  };
  await weigh(50);
  await mesh.cluster.until("a part through the canary", async () => {
    const count = await share();
    return count > 3 && count < 17;
  });
  await weigh(100);
  await mesh.cluster.until("all through the canary", async () => (await share()) === 20);
  await weigh(0);
  await mesh.cluster.until("nothing through the canary", async () => (await share()) === 0);
}, 90_000);

describe("ambit.dev/waypoint: required", () => {
  test("who comes around it is refused", async () => {
    const ip = await podIp(mesh.cluster, { namespace: "shop", name: "reviews-1" });
    expect((await curl(mesh.cluster, stranger, `http://${ip}:8080/`)).status).toBe(200);
    await label("reviews", { "ambit.dev/waypoint": "required" });
    await mesh.cluster.until("the stranger to be refused", async () => {
      return (await curl(mesh.cluster, stranger, `http://${ip}:8080/`)).status === 0;
    });
    expect((await curl(mesh.cluster, caller, `http://${ip}:8080/`)).status).toBe(0);
    await untilL7("http://reviews", true);
    await expectConditions("v1", "Service", "reviews", ["ambit.dev/WaypointRequired=True/Enforced"]);
  });

  test("without the waypoint nobody gets through", async () => {
    await label("reviews", { "istio.io/use-waypoint": "gone" });
    await untilStatus("http://reviews", 0);
    await expectConditions("v1", "Service", "reviews", ["ambit.dev/WaypointRequired=True/FailsClosed"]);
    await label("reviews", { "istio.io/use-waypoint": "waypoint", "ambit.dev/waypoint": null });
    await untilL7("http://reviews", true);
  });
});

test("deleted, it takes everything with it, and traffic goes on without", async () => {
  await mesh.cluster.delete("gateway.networking.k8s.io/v1", "Gateway", "waypoint", "shop");
  await untilL7("http://reviews", false);
  await mesh.cluster.until("nothing to be left of the waypoint", async () => {
    const gone = await Promise.all(
      [
        ["v1", "Service"],
        ["v1", "ServiceAccount"],
        ["apps/v1", "Deployment"],
      ].map(([apiVersion = "", kind = ""]) =>
        mesh.cluster.get(apiVersion, kind, "waypoint", "shop").then(
          () => false,
          () => true,
        ),
      ),
    );
    const pods = await mesh.cluster.pods("shop", "gateway.networking.k8s.io/gateway-name=waypoint");
    return gone.every(Boolean) && pods.length === 0;
  });
});
