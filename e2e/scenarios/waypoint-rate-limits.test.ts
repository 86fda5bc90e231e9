/** RateLimitPolicy through the whole mesh: by identity, shared between replicas, watched only, and when the service is gone. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { ambient, namespaceManifest, projectRoot, startMesh, type Mesh } from "#e2e/support/mesh.ts";
import {
  callerPod,
  client,
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

const foreignLimits = documents(
  {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "foreign-limits", namespace: "shop", labels: { app: "foreign-limits" } },
    spec: {
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name: "limits",
          image: "ambit/tools",
          command: ["node", join(projectRoot, "e2e/support/foreign-limits.ts")],
          readinessProbe: { tcpSocket: { port: 8081 }, periodSeconds: 1 },
        },
      ],
    },
  },
  {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "foreign-limits", namespace: "shop", labels: { "istio.io/use-waypoint": "none" } },
    spec: { selector: { app: "foreign-limits" }, ports: [{ name: "grpc", port: 8081 }] },
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

const oneRequest = {
  "HTTP/1.1": `
    const http = require("node:http");
    const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
    const one = () => new Promise((resolve) => {
      http.get("${url}", { agent }, (response) => {
        response.resume();
        response.on("end", () => resolve(response.statusCode));
      }).on("error", () => resolve(0));
    });`,
  "HTTP/2": `
    const session = require("node:http2").connect("http://reviews:8082");
    session.on("error", () => {});
    const one = () => new Promise((resolve) => {
      const stream = session.request({ ":path": "/" });
      stream.on("response", (head) => resolve(head[":status"]));
      stream.on("error", () => resolve(0));
      stream.on("close", () => resolve(0));
      stream.resume();
    });`,
};

/** One request: milliseconds of its caller's clock when it was sent and when its answer was there; 0 where none came. */
type Pressed = readonly [sentMs: number, answeredMs: number, status: number];

/** Asks without pause for so long. */
async function press(
  pod: PodName,
  seconds: number,
  protocol: keyof typeof oneRequest = "HTTP/1.1",
): Promise<readonly Pressed[]> {
  const program = `
    const all = [];
    const endsMs = performance.now() + ${seconds} * 1000;
    ${oneRequest[protocol]}
    const worker = async () => {
      while (performance.now() < endsMs) {
        const sentMs = performance.now();
        const status = await one();
        all.push([Math.floor(sentMs), Math.ceil(performance.now()), status]);
        await new Promise((go) => setTimeout(go, 10));
      }
    };
    Promise.all([worker(), worker(), worker(), worker()]).then(() => process.stdout.write(JSON.stringify(all), () => process.exit(0)));
  `;
  const { stdout, stderr } = await mesh.cluster.exec(pod, ["node", "-e", program]);
  if (stdout === "") throw new Error(`nothing came of pressing: ${stderr}`);
  const pressed = JSON.parse(stdout) as readonly Pressed[];
  expect(pressed.filter(([, , status]) => status !== 200 && status !== 429)).toEqual([]);
  return pressed;
}

const admitted = (pressed: readonly Pressed[]): readonly Pressed[] => pressed.filter(([, , status]) => status === 200);

/**
 * The rate, no more and no less, however slow the machine is: each request was judged between its sending and its answer,
 * so no stretch of a second holds more of those that passed, and whoever was refused had as many in the second before.
 */
function expectPerSecond(rate: number, pressed: readonly Pressed[]): void {
  const passed = admitted(pressed);
  for (const [fromMs] of passed) {
    const within = passed.filter(([sentMs, answeredMs]) => sentMs >= fromMs && answeredMs < fromMs + 1_000);
    expect(within.length).toBeLessThanOrEqual(rate);
  }
  const beganMs = Math.min(...pressed.map(([sentMs]) => sentMs));
  const refused = pressed.filter(([sentMs, , status]) => status === 429 && sentMs > beganMs + 1_000);
  for (const [fromMs, toMs] of refused) {
    const before = passed.filter(([sentMs, answeredMs]) => answeredMs >= fromMs - 1_000 && sentMs <= toMs);
    expect(before.length).toBeGreaterThanOrEqual(rate);
  }
  expect(refused.length).toBeGreaterThan(rate);
}

describe("Local", () => {
  test("10 per second for each caller's identity, exactly, over 10 seconds", async () => {
    await apply({
      limits: [{ name: "per-caller", key: [{ sourcePrincipal: {} }], rates: [{ requests: 10, per: "1s" }] }],
    });
    const [a, b] = await Promise.all([press(ann, 10), press(bob, 10)]);
    expectPerSecond(10, a);
    expectPerSecond(10, b);
  }, 60_000);

  test("the same for callers that speak HTTP/2, and calls of gRPC are told so in their own way", async () => {
    await apply({
      limits: [{ name: "per-caller", key: [{ sourcePrincipal: {} }], rates: [{ requests: 10, per: "1s" }] }],
    });
    const [a, b] = await Promise.all([press(ann, 5, "HTTP/2"), press(bob, 5, "HTTP/2")]);
    expectPerSecond(10, a);
    expectPerSecond(10, b);
    await apply({
      limits: [{ name: "calls", match: [{ paths: ["/ambit.e2e.Echo/*"] }], rates: [{ requests: 2, per: "1h" }] }],
    });
    await mesh.cluster.until("the other limit to be gone", async () =>
      (await curlMany(mesh.cluster, ann, 12, url)).every(({ status }) => status === 200),
    );
    const said = await client(mesh.cluster, ann, "say", { target: "reviews:9090", count: 4 });
    // 8 is RESOURCE_EXHAUSTED.
    expect(said.map(({ code }) => code)).toEqual([0, 0, 8, 8]);
    expect(said[0]?.text).toContain("hello");
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

describe("expressions", () => {
  test("say who is limited, under what, and what a request costs", async () => {
    await apply({
      limits: [
        {
          name: "by-shelf",
          match: [{ when: ['request.path.startsWith("/shelf/") && source.service_account == "shop/ann"'] }],
          key: [{ expression: { cel: 'request.path.split("/")[2]' } }],
          rates: [{ requests: 2, per: "1h" }],
          cost: { request: { expression: 'request.method == "POST" ? 2 : 1' } },
          overrides: [{ when: { when: ['request.headers["x-tier"] == "gold"'] }, unlimited: true }],
        },
      ],
    });
    const asked = async (pod: PodName, ...args: readonly string[]) => (await curl(mesh.cluster, pod, ...args)).status;
    expect(await asked(ann, "-X", "POST", `${url}shelf/a`)).toBe(200);
    expect(await asked(ann, `${url}shelf/a?x`)).toBe(200);
    expect(await asked(ann, "-X", "POST", `${url}shelf/b`)).toBe(200);
    expect(await asked(ann, `${url}shelf/b`)).toBe(429);
    expect(await asked(ann, "-H", "x-tier: gold", `${url}shelf/b`)).toBe(200);
    expect(await asked(bob, `${url}shelf/b`)).toBe(200);
  });

  test("charge an answer when it is over, even more than is left", async () => {
    await apply({
      limits: [
        {
          name: "bytes",
          match: [{ paths: ["/bytes/*"] }],
          rates: [{ requests: 50_000, per: "1h" }],
          cost: { response: { expression: "response.size" } },
        },
      ],
    });
    const large = await curlMany(mesh.cluster, ann, 3, `${url}bytes/40000`);
    expect(large.map(({ status }) => status)).toEqual([200, 200, 429]);
  });
});

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

interface WithConditions extends Manifest {
  readonly status?: { readonly conditions?: readonly Condition[] };
}

/** Until a condition of the policy has that status. */
const condition = (type: string, wanted: string): Promise<Condition> =>
  mesh.cluster.until(`${type}=${wanted}`, async () => {
    const { status } = await mesh.cluster.get<WithConditions>(
      "policy.ambit.dev/v1alpha1",
      "RateLimitPolicy",
      "limits",
      "shop",
    );
    return status?.conditions?.find((each) => each.type === type && each.status === wanted);
  });

test("the status says where it is in force, and that every replica has it", async () => {
  await mesh.cluster.apply(policy({ limits: [{ name: "all", rates: [{ requests: 1000, per: "1s" }] }] }));
  await condition("Accepted", "True");
  expect((await condition("Programmed", "True")).message).toContain("shop/waypoint");
  expect((await condition("Enforced", "True")).message).toContain("1 replicas of shop/waypoint");
});

test("what changes around a limit under load leaves its counts as they are", async () => {
  const limit = { name: "hourly", key: [{ sourcePrincipal: {} }], rates: [{ requests: 30, per: "1h" }] };
  await apply({ limits: [limit] });
  const pressing = press(bob, 6);
  for (let change = 0; change < 8; change++) {
    await mesh.cluster.apply(
      policy({
        limits: [
          limit,
          probe,
          { name: `other-${change}`, match: [{ paths: [`/${change}`] }], rates: [{ requests: 1, per: "1s" }] },
        ],
        response: { status: 429, body: `change ${change}` },
      }),
    );
    await mesh.cluster.until("the change to take force", async () =>
      (await curl(mesh.cluster, ann, `${url}probe`)).text.includes(`change ${change}`),
    );
  }
  expect(admitted(await pressing)).toHaveLength(30);
}, 60_000);

describe("Global", () => {
  const global = { service: { name: "rate-limit-service", namespace: "istio-system", port: 8081 }, timeout: "2s" };
  const limits = [{ name: "shared", scope: "Global", rates: [{ requests: 20, per: "1h" }] }];

  /** Redis counts by hours of the clock: what is compared must not have one begin in the middle. */
  const inOneHour = (): Promise<unknown> =>
    mesh.cluster.until(
      "an hour that lasts",
      () => Promise.resolve(3_600_000 - (Date.now() % 3_600_000) > 30_000),
      40_000,
    );

  test("two replicas of the waypoint share one limit through Redis", async () => {
    await mesh.cluster.podsReady("istio-system", 1);
    await mesh.cluster.merge({
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "waypoint", namespace: "shop" },
      spec: { replicas: 2 },
    });
    await waypointReady(mesh.cluster, "shop", "waypoint", 2);
    await inOneHour();
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

  test("a Redis that goes away and comes back: onError meanwhile, counts afterwards", async () => {
    await apply({
      limits: [
        { name: "back", scope: "Global", key: [{ header: { name: "x-run" } }], rates: [{ requests: 2, per: "1h" }] },
      ],
      global,
      onError: "Deny",
      errorStatus: 503,
    });
    const run = async (name: string): Promise<readonly number[]> =>
      (await curlMany(mesh.cluster, ann, 3, "-H", `x-run: ${name}`, url)).map(({ status }) => status);
    await inOneHour();
    expect(await run("before")).toEqual([200, 200, 429]);
    await mesh.cluster.delete("v1", "Pod", "redis", "istio-system");
    await mesh.cluster.until("503 without Redis", async () => (await run("without")).every((status) => status === 503));
    await mesh.cluster.apply(redis("redis", "istio-system"));
    let attempt = 0;
    await mesh.cluster.until(
      "counts again",
      async () => (await run(`after ${attempt++}`)).join() === "200,200,429",
      60_000,
    );
  }, 120_000);

  test("a service that is not ours: its words and headers, and what it does wrong", async () => {
    await mesh.cluster.apply(foreignLimits);
    await mesh.cluster.until("the service", async () =>
      (await mesh.cluster.pods("shop", "app=foreign-limits")).some(({ status }) =>
        status?.conditions?.some(({ type, status: value }) => type === "Ready" && value === "True"),
      ),
    );
    const asDomain = async (domain: string, onError: "Allow" | "Deny") => {
      const service = { name: "foreign-limits", port: 8081 };
      await mesh.cluster.apply(
        policy({
          limits: [
            { name: "theirs", scope: "Global", rates: [{ requests: 1, per: "1h" }] },
            { ...probe, name: `probe-${domain}` },
          ],
          global: { service, domain, timeout: "500ms" },
          response: { headers: { set: { "x-domain": domain } } },
          onError,
        }),
      );
      await mesh.cluster.until(`domain ${domain}`, async () =>
        (await curl(mesh.cluster, ann, `${url}probe`)).headers.get("x-domain")?.includes(domain),
      );
      return curl(mesh.cluster, ann, url);
    };
    const passed = await asDomain("fine", "Deny");
    expect(passed.status).toBe(200);
    expect(passed.headers.get("x-stranger")).toEqual(["ok"]);
    expect(passed.echo?.headers["x-asked"]).toBeDefined();
    const refused = await asDomain("over", "Allow");
    expect(refused).toMatchObject({ status: 429, text: "told by a stranger" });
    expect(refused.headers.get("x-stranger")).toEqual(["over"]);
    expect(refused.headers.get("retry-after")).toEqual(["42"]);
    expect(refused.headers.has("x-smuggled")).toBe(false);
    for (const domain of ["slow", "garbage", "broken"]) expect((await asDomain(domain, "Deny")).status).toBe(500);
    for (const domain of ["slow", "garbage", "broken"]) expect((await asDomain(domain, "Allow")).status).toBe(200);
  }, 120_000);

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
    await condition("Accepted", "True");
    expect(await condition("ResolvedRefs", "False")).toMatchObject({ reason: "ServiceNotFound" });
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
        match: [{ when: ["request.path == 1"] }],
        key: [{ header: { name: "a" }, method: {} }],
        rates: [{ requests: 1, per: "90s" }],
      },
    ],
  });
  const mistakes = [
    "limits[0].match[0].when[0]",
    "== does not go with string and int at position 1",
    "limits[0].scope",
    "set exactly one of",
    "90s",
  ];
  const { refusal } = await write(mesh.cluster, JSON.parse(wrong) as Manifest);
  for (const text of mistakes) expect(refusal).toContain(text);
  await withoutWebhook(mesh.cluster);
  await mesh.cluster.apply(wrong);
  const { message } = await condition("ambit.dev/Valid", "False");
  for (const text of mistakes) expect(message).toContain(text);
});
