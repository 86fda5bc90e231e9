/** RateLimitPolicy through the whole mesh: by identity, shared between replicas, watched only, and when the service is gone. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { ambient, namespaceManifest, projectRoot, startMesh, type Mesh } from "#e2e/support/mesh.ts";
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
import type { Manifest, PodName } from "#e2e/support/cluster.ts";
import { withoutWebhook, write } from "#e2e/support/written.ts";

let mesh: Mesh;
const ann = { namespace: "shop", name: "ann" };
const bob = { namespace: "shop", name: "bob" };
const url = "http://reviews/";

const redis = (name: string, namespace: string): string =>
  documents(
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace, labels: { app: name } },
      spec: {
        terminationGracePeriodSeconds: 1,
        containers: [
          {
            name: "redis",
            image: "redis",
            command: ["redis-server", "--save", "", "--bind", "*", "-::*", "--protected-mode", "no", "--dir", "/tmp"],
            readinessProbe: { tcpSocket: { port: 6379 }, periodSeconds: 1 },
          },
        ],
      },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace },
      spec: { selector: { app: name }, ports: [{ name: "redis", port: 6379 }] },
    },
  );

beforeAll(async () => {
  mesh = await startMesh("rate-limits");
  const service = readFileSync(join(projectRoot, "manifests/rate-limit-service/rate-limit-service.yaml"), "utf8");
  await mesh.cluster.apply(
    [
      namespaceManifest("shop", { ...ambient, "istio.io/use-waypoint": "waypoint" }),
      callerPod("ann", "shop", "node-1"),
      callerPod("bob", "shop", "node-2"),
      webPod("reviews-1", { namespace: "shop", node: "node-1", app: "reviews" }),
      webService("reviews", "shop"),
      waypointGateway("waypoint", "shop"),
      redis("redis", "istio-system"),
      service.replace(
        '{ name: REDIS_URL, value: "" }',
        '{ name: REDIS_URL, value: "redis://redis.istio-system:6379" }',
      ),
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady("shop", 3);
  await waypointReady(mesh.cluster, "shop");
  await throughWaypoint();
}, 120_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

afterEach(async () => {
  await mesh.cluster.delete("policy.ambit.dev/v1alpha1", "RateLimitPolicy", "limits", "shop");
  await inForce(false);
}, 30_000);

const throughWaypoint = (): Promise<unknown> =>
  mesh.cluster.until("traffic through the waypoint", async () =>
    Boolean((await curl(mesh.cluster, ann, url)).echo?.headers["x-request-id"]),
  );

const policy = (spec: Readonly<Record<string, unknown>>): string =>
  documents({
    apiVersion: "policy.ambit.dev/v1alpha1",
    kind: "RateLimitPolicy",
    metadata: { name: "limits", namespace: "shop" },
    spec: { targetRefs: [{ group: "", kind: "Service", name: "reviews" }], ...spec },
  });

/** Until the waypoint knows of the policy, or does not any more: a request on a path of its own tells. */
const probe = {
  name: "probe",
  match: [{ paths: ["/probe"] }],
  rates: [{ requests: 1, per: "1h" }],
  cost: { value: 2 },
};

function inForce(wanted: boolean): Promise<unknown> {
  return mesh.cluster.until(`the policy ${wanted ? "" : "not "}to be in force`, async () => {
    const { status } = await curl(mesh.cluster, ann, `${url}probe`);
    return status >= 400 === wanted;
  });
}

async function apply(spec: { readonly limits: readonly unknown[]; readonly [field: string]: unknown }): Promise<void> {
  await mesh.cluster.apply(policy({ ...spec, limits: [...spec.limits, probe] }));
  await inForce(true);
}

/** Asks without pause for so long; how many were answered 200, and how many 429. */
async function press(pod: PodName, seconds: number): Promise<{ readonly ok: number; readonly limited: number }> {
  const program = `
    const http = require("node:http");
    const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
    const counts = {};
    const endsMs = Date.now() + ${seconds} * 1000 - 50;
    const one = () => new Promise((resolve) => {
      http.get("${url}", { agent }, (response) => {
        response.resume();
        response.on("end", () => { counts[response.statusCode] = (counts[response.statusCode] || 0) + 1; resolve(); });
      }).on("error", () => { counts.error = (counts.error || 0) + 1; resolve(); });
    });
    const worker = async () => { while (Date.now() < endsMs) { await one(); await new Promise((go) => setTimeout(go, 10)); } };
    Promise.all([worker(), worker(), worker(), worker()]).then(() => { console.log(JSON.stringify(counts)); process.exit(0); });
  `;
  const { stdout, stderr } = await mesh.cluster.exec(pod, ["node", "-e", program]);
  const counts = JSON.parse(stdout.trim() || JSON.stringify({ error: stderr })) as Readonly<Record<string, number>>;
  expect(counts["error"]).toBeUndefined();
  return { ok: counts["200"] ?? 0, limited: counts["429"] ?? 0 };
}

describe("Local", () => {
  test("10 per second for each caller's identity, exactly, over 10 seconds", async () => {
    await apply({
      limits: [{ name: "per-caller", key: [{ sourcePrincipal: {} }], rates: [{ requests: 10, per: "1s" }] }],
    });
    const [a, b] = await Promise.all([press(ann, 10), press(bob, 10)]);
    expect(Math.abs(a.ok - 100)).toBeLessThanOrEqual(1);
    expect(Math.abs(b.ok - 100)).toBeLessThanOrEqual(1);
    expect(a.limited).toBeGreaterThan(100);
  }, 60_000);

  test("the refusal is the configured one, and tells when to come again", async () => {
    await apply({
      limits: [{ name: "all", match: [{ paths: ["/api/*"], methods: ["POST"] }], rates: [{ requests: 1, per: "1m" }] }],
      response: {
        status: 420,
        body: '{"calm":"down"}',
        contentType: "application/json",
        headers: { set: { "x-limited-by": "mesh" } },
        standardHeaders: "IETF",
      },
    });
    expect((await curl(mesh.cluster, ann, "-X", "POST", `${url}api/x`)).status).toBe(200);
    const refused = await curl(mesh.cluster, bob, "-X", "POST", `${url}api/y`);
    expect(refused).toMatchObject({ status: 420, text: '{"calm":"down"}' });
    expect(refused.headers.get("x-limited-by")).toEqual(["mesh"]);
    expect(refused.headers.get("content-type")).toEqual(["application/json"]);
    expect(Number(refused.headers.get("retry-after")?.[0])).toBeGreaterThan(0);
    expect(refused.headers.get("ratelimit-policy")?.[0]).toContain('"all";q=1;w=60');
    expect((await curl(mesh.cluster, ann, `${url}api/x`)).status).toBe(200);
  });

  test("Shadow refuses nobody; a change of mode takes force without a restart", async () => {
    const limits = [{ name: "all", rates: [{ requests: 1, per: "1h" }] }];
    await mesh.cluster.apply(policy({ limits: [...limits], mode: "Shadow" }));
    const answers = await curlMany(mesh.cluster, ann, 5, url);
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    await apply({ limits, mode: "Enforce" });
    await mesh.cluster.until("429", async () => (await curl(mesh.cluster, ann, url)).status === 429);
  });

  test("an exception for one caller", async () => {
    await apply({
      limits: [
        {
          name: "all",
          key: [{ sourceServiceAccount: {} }],
          rates: [{ requests: 1, per: "1h" }],
          overrides: [{ when: { serviceAccounts: ["shop/bob"] }, unlimited: true }],
        },
      ],
    });
    const [a, b] = await Promise.all([curlMany(mesh.cluster, ann, 4, url), curlMany(mesh.cluster, bob, 4, url)]);
    expect(a.map(({ status }) => status)).toEqual([200, 429, 429, 429]);
    expect(b.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  });
});

describe("Global", () => {
  const global = { service: { name: "rate-limit-service", namespace: "istio-system", port: 8081 }, timeout: "2s" };
  const limits = [{ name: "shared", scope: "Global", rates: [{ requests: 20, per: "1h" }] }];

  test("two replicas of the waypoint share one limit through Redis", async () => {
    await mesh.cluster.podsReady("istio-system", 1);
    await mesh.cluster.merge({
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "waypoint", namespace: "shop" },
      spec: { replicas: 2 },
    });
    await waypointReady(mesh.cluster, "shop", "waypoint", 2);
    await apply({ limits, global, onError: "Deny" });
    await mesh.cluster.until("an answer of the service", async () =>
      [200, 429].includes((await curl(mesh.cluster, ann, url)).status),
    );
    // A connection of its own for each, so that both replicas are asked.
    const answers = await curlMany(mesh.cluster, ann, 40, url);
    const ok = answers.filter(({ status }) => status === 200).length;
    const keys = await mesh.cluster.exec({ namespace: "istio-system", name: "redis" }, [
      "sh",
      "-c",
      'redis-cli --scan | while read key; do echo $key $(redis-cli get "$key"); done',
    ]);
    const count = Number(/shop\/limits\/shared_hour_\d+ (\d+)/.exec(keys.stdout)?.[1]);
    // Every request was counted once, whichever replica took it, and 20 of them passed.
    const before = count - 40;
    expect(before).toBeGreaterThan(0);
    expect(ok).toBe(Math.max(20 - before, 0));
  }, 90_000);

  // prettier-ignore
  test.each([ // onError, what a request gets while the service cannot be asked
    ["Allow", 200], ["Deny", 503],
  ])("when the service cannot be asked: %s", async (onError, expected) => {
    await apply({
      limits,
      global: { service: { name: "no-such-service", namespace: "istio-system", port: 8081 } },
      onError,
      ...(onError === "Deny" ? { errorStatus: 503 } : {}),
    });
    await mesh.cluster.until(`${expected}`, async () => (await curl(mesh.cluster, ann, url)).status === expected);
    const { status } = await mesh.cluster.get<
      Manifest & { readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] } }
    >("policy.ambit.dev/v1alpha1", "RateLimitPolicy", "limits", "shop");
    expect(status?.conditions).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ type: "Accepted", status: "True" }),
        expect.objectContaining({ type: "ResolvedRefs", status: "False", reason: "ServiceNotFound" }),
      ]),
    );
  });
});

test("a Redis behind the waypoint is plain TCP: redis-cli works through it", async () => {
  await mesh.cluster.apply(redis("cache", "shop"));
  await mesh.cluster.podsReady("shop", 4);
  await mesh.cluster.until("PONG through the waypoint", async () =>
    (await mesh.cluster.exec(ann, ["redis-cli", "-h", "cache", "PING"])).stdout.startsWith("PONG"),
  );
  await mesh.cluster.exec(ann, ["redis-cli", "-h", "cache", "SET", "book", "978-1"]);
  expect((await mesh.cluster.exec(bob, ["redis-cli", "-h", "cache", "GET", "book"])).stdout.trim()).toBe("978-1");
  const { stdout } = await mesh.cluster.exec(ann, ["redis-cli", "-h", "cache", "CLIENT", "LIST"]);
  const waypoints = await mesh.cluster.pods("shop", "gateway.networking.k8s.io/gateway-name=waypoint");
  expect(waypoints.some(({ status }) => stdout.includes(`addr=${status?.podIP ?? "?"}:`))).toBe(true);
});

test("what cannot be applied is refused with every mistake; without the webhook its status tells them", async () => {
  const wrong = policy({
    limits: [
      {
        name: "x",
        scope: "Global",
        key: [{ header: { name: "a" }, method: {} }],
        rates: [{ requests: 1, per: "90s" }],
      },
    ],
  });
  const { refusal } = await write(mesh.cluster, JSON.parse(wrong) as Manifest);
  for (const text of ["limits[0].scope", "set exactly one of", "90s"]) expect(refusal).toContain(text);
  await withoutWebhook(mesh.cluster);
  await mesh.cluster.apply(wrong);
  const condition = await mesh.cluster.until("the mistakes in the status", async () => {
    const object = await mesh.cluster.get<
      Manifest & {
        readonly status?: { readonly conditions?: readonly { readonly type: string; readonly message: string }[] };
      }
    >("policy.ambit.dev/v1alpha1", "RateLimitPolicy", "limits", "shop");
    return object.status?.conditions?.find(({ type }) => type === "ambit.dev/Valid");
  });
  expect(condition.message).toContain("limits[0].scope");
  expect(condition.message).toContain("set exactly one of");
  expect(condition.message).toContain("90s");
});
