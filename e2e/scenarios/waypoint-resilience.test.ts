/** What a waypoint does about backends that fail, are slow, are too many or go away; and what it survives itself. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { isReady, type Manifest } from "#e2e/support/cluster.ts";
import { certificateFor, strangeAuthority, type Authority } from "#e2e/support/forged-certificate.ts";
import { podIp, type Mesh } from "#e2e/support/mesh.ts";
import type { ManyOptions } from "#e2e/support/web-client.ts";
import {
  callerPod,
  client,
  curl,
  documents,
  startWebMesh,
  underLoad,
  waypointReady,
  webDeployment,
  webPod,
  webService,
  type Answer,
} from "#e2e/support/web-mesh.ts";
import { webPorts } from "#e2e/support/web.ts";

let mesh: Mesh;
const caller = { namespace: "shop", name: "caller" };

const istio = (kind: string, name: string, spec: unknown): string =>
  documents({ apiVersion: "networking.istio.io/v1", kind, metadata: { name, namespace: "shop" }, spec });

/** A Service of its own for what one test says. */
function ruled(
  name: string,
  app: string,
  { policy, http }: { readonly policy?: unknown; readonly http?: readonly Record<string, unknown>[] },
): string {
  const route = [{ destination: { host: name } }];
  return [
    webService(name, "shop", { app }),
    ...(policy === undefined ? [] : [istio("DestinationRule", name, { host: name, trafficPolicy: policy })]),
    ...(http === undefined
      ? []
      : [istio("VirtualService", name, { hosts: [name], http: http.map((rule) => ({ route, ...rule })) })]),
  ].join("\n---\n");
}

const detection = { consecutive5xxErrors: 2, interval: "1s", baseEjectionTime: "3s", maxEjectionPercent: 100 };
const once = [{ retries: { attempts: 0 } }];

/** HTTP that a waypoint speaks to whoever listens at the port of HTTPS. */
const beforeTls = (name: string): string =>
  documents({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "shop" },
    spec: { selector: { app: "solo" }, ports: [{ name: "http", port: 80, targetPort: webPorts.https }] },
  });

const encrypted = (name: string, tls: unknown): string =>
  [beforeTls(name), istio("DestinationRule", name, { host: name, trafficPolicy: { tls } })].join("\n---\n");

const toService = (name: string) => [{ group: "", kind: "Service", name }];

/** A BackendTLSPolicy for the service of its name. */
const tlsPolicy = (name: string, validation: unknown, target = name): string =>
  documents({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "BackendTLSPolicy",
    metadata: { name, namespace: "shop" },
    spec: { targetRefs: toService(target), validation },
  });

const retryPolicy = (name: string, retryConstraint: unknown): string =>
  documents({
    apiVersion: "gateway.networking.x-k8s.io/v1alpha1",
    kind: "XBackendTrafficPolicy",
    metadata: { name, namespace: "shop" },
    spec: { targetRefs: toService(name), retryConstraint },
  });

const authorityMap = (name: string, pem: string): string =>
  documents({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "shop" }, data: { "ca.crt": pem } });

const fromMap = (name: string) => ({ caCertificateRefs: [{ group: "", kind: "ConfigMap", name }] });

const rules = [
  ruled("retried", "solo", {
    http: [
      {
        match: [{ uri: { prefix: "/delay" } }],
        // Longer than a busy machine takes to bring the request there.
        retries: { attempts: 2, perTryTimeout: "1s", retryOn: "5xx", backoff: "1ms" },
      },
      {
        match: [{ uri: { prefix: "/status/418" } }],
        retries: { attempts: 3, retryOn: "418", backoff: "1ms" },
      },
      {
        match: [{ uri: { prefix: "/drop" } }],
        retries: { attempts: 2, retryOn: "reset", backoff: "1ms" },
      },
      { retries: { attempts: 3, retryOn: "5xx,reset", backoff: "1ms" } },
    ],
  }),
  ruled("by-default", "solo", {}),
  ruled("not-retried", "solo", { http: once }),
  ruled("ejecting", "web", {
    policy: { outlierDetection: detection, loadBalancer: { localityLbSetting: { enabled: false } } },
    http: once,
  }),
  ruled("near", "web", {
    policy: { outlierDetection: detection, loadBalancer: { localityLbSetting: { enabled: true } } },
    http: once,
  }),
  ruled("one-request", "solo", { policy: { connectionPool: { http: { http2MaxRequests: 1 } } }, http: once }),
  ruled("one-waits", "solo", {
    policy: { connectionPool: { tcp: { maxConnections: 1 }, http: { http1MaxPendingRequests: 1 } } },
    http: once,
  }),
  ruled("short-lived", "solo", { policy: { connectionPool: { http: { maxRequestsPerConnection: 2 } } } }),
  ruled("upgraded", "solo", { policy: { connectionPool: { http: { h2UpgradePolicy: "UPGRADE" } } } }),
  ruled("by-header", "web", { policy: { loadBalancer: { consistentHash: { httpHeaderName: "x-user" } } } }),
  ruled("by-cookie", "web", {
    policy: { loadBalancer: { consistentHash: { httpCookie: { name: "place", ttl: "60s", path: "/" } } } },
  }),
  ruled("by-source", "web", {
    policy: { loadBalancer: { consistentHash: { useSourceIp: true, maglev: { tableSize: 65_537 } } } },
  }),
  ruled("in-turn", "web", { policy: { loadBalancer: { simple: "ROUND_ROBIN" } } }),
  ruled("proxied", "solo", { policy: { proxyProtocol: { version: "V1" } } }),
  ruled("proxied-2", "solo", { policy: { proxyProtocol: { version: "V2" } } }),
  encrypted("trusted", {
    mode: "SIMPLE",
    credentialName: "authority",
    sni: "solo.example",
    subjectAltNames: ["solo.example"],
  }),
  encrypted("distrusted", { mode: "SIMPLE", credentialName: "authority", subjectAltNames: ["other.example"] }),
  encrypted("unverified", { mode: "SIMPLE", insecureSkipVerify: true }),
  encrypted("unencrypted", { mode: "DISABLE" }),
  webService("renewed", "shop"),
  ...["sealed", "sealed-by-name", "misnamed"].map(beforeTls),
  ...["bounded", "unbounded"].map((name) =>
    ruled(name, "solo", { http: [{ retries: { attempts: 1, perTryTimeout: "400ms", retryOn: "5xx" } }] }),
  ),
  // Retries may be none of the requests, but one at a time.
  retryPolicy("bounded", { budget: { percent: 0 }, minRetryRate: { count: 1 } }),
  tlsPolicy("sealed", { hostname: "solo.example", ...fromMap("authority") }),
  tlsPolicy("misnamed", { hostname: "other.example", ...fromMap("authority") }),
  tlsPolicy("sealed-by-name", {
    hostname: "other.example",
    ...fromMap("authority"),
    subjectAltNames: [{ type: "Hostname", hostname: "solo.example" }],
  }),
];

/** Applied after all others: where it is in force, they are. */
const last = ruled("last", "solo", { http: [{ route: undefined, directResponse: { status: 299 } }] });

let authority: Authority;

beforeAll(async () => {
  authority = await strangeAuthority();
  const certificate = await certificateFor(authority, { type: "dns", value: "solo.example" });
  mesh = await startWebMesh(
    "recovery",
    [
      callerPod("caller-2", "shop", "node-2"),
      webPod("solo", { namespace: "shop", node: "node-1", certificate }),
      webPod("a", { namespace: "shop", node: "node-1", app: "web" }),
      webPod("b", { namespace: "shop", node: "node-2", app: "web" }),
      webDeployment("renewed", { namespace: "shop" }, 2),
      documents({
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "authority", namespace: "shop" },
        data: { "ca.crt": Buffer.from(authority.certificatePem).toString("base64") },
      }),
    ],
    6,
  );
  await mesh.cluster.apply([authorityMap("authority", authority.certificatePem), ...rules, last].join("\n---\n"));
  await mesh.cluster.until("rules in force", async () => (await ask("http://last/")).status === 299);
}, 120_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

const ask = (...args: readonly string[]): Promise<Answer> => curl(mesh.cluster, caller, ...args);
const many = (options: ManyOptions, pod = caller) => client(mesh.cluster, pod, "many", options);

/** Asks a pod itself, around the waypoint. */
async function askPod(name: string, path: string): Promise<Answer> {
  return ask(`http://${await podIp(mesh.cluster, { namespace: "shop", name })}:${webPorts.http}${path}`);
}
const requestsTo = async (path: string): Promise<number> =>
  (await askPod("solo", `/count${path}`)).echo?.requests ?? -1;

const servers = (answers: readonly { readonly servedBy: string }[]): readonly string[] =>
  [...new Set(answers.map(({ servedBy }) => servedBy))].sort();

const statuses = (answers: readonly { readonly status: number }[]): readonly number[] =>
  answers.map(({ status }) => status).sort((one, other) => one - other);

describe("retries", () => {
  test("as often as it takes, and no more", async () => {
    expect((await ask("http://retried/flaky/2/twice")).status).toBe(200);
    expect(await requestsTo("/flaky/2/twice")).toBe(3);
    const exhausted = await ask("http://retried/status/503");
    expect(exhausted.status).toBe(503);
    expect(exhausted.echo?.headers["x-envoy-attempt-count"]).toBe("4");
    expect(await requestsTo("/status/503")).toBe(4);
  });

  test("only for what is told", async () => {
    expect((await ask("http://retried/status/418")).status).toBe(418);
    expect(await requestsTo("/status/418")).toBe(4);
    expect((await ask("http://retried/status/404")).status).toBe(404);
    expect(await requestsTo("/status/404")).toBe(1);
    expect((await ask("http://not-retried/status/502")).status).toBe(502);
    expect(await requestsTo("/status/502")).toBe(1);
    expect((await ask("http://by-default/status/500")).status).toBe(500);
    expect(await requestsTo("/status/500")).toBe(1);
  });

  test("each try has its time", async () => {
    expect((await ask("http://retried/delay/5000")).status).toBe(504);
    expect(await requestsTo("/delay/5000")).toBe(3);
  });

  test("connections that break are tried again, bodies sent again", async () => {
    expect((await ask("http://retried/drop")).status).toBe(503);
    expect(await requestsTo("/drop")).toBe(3);
    const posted = await ask("-d", "said again", "http://retried/flaky/1/posted");
    expect(posted.echo?.body).toBe("said again");
    expect(await requestsTo("/flaky/1/posted")).toBe(2);
  });
});

describe("outlier detection", () => {
  beforeEach(async () => {
    await askPod("a", "/heal");
    await askPod("b", "/heal");
  });

  test("who fails leaves the rotation, and comes back", async () => {
    const url = "http://ejecting/fails";
    expect(servers(await many({ url, count: 40 }))).toEqual(["a", "b"]);
    await askPod("a", "/break");
    await mesh.cluster.until("a to be out", async () => {
      const answers = await many({ url, count: 20 });
      return answers.every(({ status, servedBy }) => status === 200 && servedBy === "b");
    });
    await askPod("a", "/heal");
    await mesh.cluster.until("a to be back", async () => servers(await many({ url, count: 20 })).includes("a"));
  });

  test("who is in the waypoint's own zone is preferred while it does not fail", async () => {
    const url = "http://near/fails";
    const [pod] = await mesh.cluster.pods("shop", "gateway.networking.k8s.io/gateway-name=waypoint");
    const [near, far] = pod?.spec?.nodeName === "node-1" ? ["a", "b"] : ["b", "a"];
    expect(servers(await many({ url, count: 40 }))).toEqual([near]);
    await askPod(near, "/break");
    await mesh.cluster.until("failover", async () => {
      const answers = await many({ url, count: 20 });
      return answers.every(({ status, servedBy }) => status === 200 && servedBy === far);
    });
    await askPod(near, "/heal");
    await mesh.cluster.until("the near one", async () => {
      const answers = await many({ url, count: 20 });
      return answers.every(({ servedBy }) => servedBy === near);
    });
  });
});

describe("limits", () => {
  test("more requests at a time than allowed are refused", async () => {
    const answers = await many({ url: "http://one-request/delay/3000", count: 4, concurrency: 4 });
    expect(statuses(answers)).toEqual([200, 503, 503, 503]);
    const refused = answers.find(({ status }) => status === 503);
    expect(refused?.headers["x-envoy-overloaded"]).toBe("true");
    expect(refused?.text).toContain("overflow");
  });

  test("one connection, one that waits for it, and no more", async () => {
    // The connection stands before the crowd comes: while it is made, its own request is the one that waits.
    expect((await ask("http://one-waits/")).status).toBe(200);
    const answers = await many({ url: "http://one-waits/delay/3000", count: 5, concurrency: 5 });
    expect(statuses(answers)).toEqual([200, 200, 503, 503, 503]);
    const served = await Promise.all([ask("http://one-waits/"), ask("http://one-waits/")]);
    expect(served[0].echo?.connection).toBe(served[1].echo?.connection);
  });

  test("connections end after as many requests as told", async () => {
    const answers = await many({ url: "http://short-lived/", count: 6 });
    const connections = answers.map(({ text }) => /"connection":(\d+)/.exec(text)?.[1]);
    expect(statuses(answers)).toEqual([200, 200, 200, 200, 200, 200]);
    expect(new Set(connections).size).toBe(3);
  });

  test("an upgrade to HTTP/2 towards the backend", async () => {
    // Its port for HTTP/1.1 does not know it; the one for anything does.
    expect((await ask(`http://upgraded:${webPorts.auto}/`)).echo?.protocol).toBe("HTTP/2");
  });
});

describe("load balancing", () => {
  test("by header: whoever says the same goes to the same", async () => {
    // So many that not all fall to one of the two by chance.
    const { stdout } = await mesh.cluster.exec(caller, [
      "sh",
      "-c",
      `for user in $(seq 40); do for time in 1 2 3; do
        curl -s -m 15 -o /dev/null -H "x-user: $user" -w "$user %header{x-served-by}\\n" http://by-header/; done; done`,
    ]);
    const served = new Set(stdout.trim().split("\n"));
    expect(served.size).toBe(40);
    expect(new Set([...served].map((line) => line.split(" ")[1]))).toEqual(new Set(["a", "b"]));
    expect(servers(await many({ url: "http://by-header/", count: 40 }))).toEqual(["a", "b"]);
  });

  test("by cookie: given to who has none, and followed", async () => {
    const first = await ask("http://by-cookie/");
    const cookie = first.headers.get("set-cookie")?.[0] ?? "";
    expect(cookie).toMatch(/^place="?[0-9a-f]+"?; Max-Age=60; Path=\/; HttpOnly/);
    const pair = cookie.split(";")[0] ?? "";
    const answers = await many({ url: "http://by-cookie/", count: 15, headers: { cookie: pair } });
    expect(servers(answers)).toEqual([first.echo?.name]);
    expect(answers.filter(({ headers }) => headers["set-cookie"] !== undefined)).toEqual([]);
  });

  test("by source: a client stays where it is", async () => {
    for (const name of ["caller", "caller-2"])
      expect(
        servers(await many({ url: "http://by-source/", count: 20, concurrency: 4 }, { namespace: "shop", name })),
      ).toHaveLength(1);
  });

  test("in turn", async () => {
    const answers = await many({ url: "http://in-turn/", count: 20 });
    const order = answers.map(({ servedBy }) => servedBy);
    expect(order.filter((name) => name === "a")).toHaveLength(10);
  });
});

describe("what is around the bytes", () => {
  test("TLS to a server whose certificate is trusted, and to no other", async () => {
    expect((await ask("http://trusted/")).echo?.name).toBe("solo");
    expect((await ask("http://unverified/")).echo?.name).toBe("solo");
    const refused = await ask("http://distrusted/");
    expect(refused.status).toBe(503);
    expect(refused.text).toContain("remote connection failure");
    expect((await ask("http://unencrypted/")).status).toBeGreaterThanOrEqual(400);
  });

  test("PROXY protocol tells the backend who the client is", async () => {
    const ip = await podIp(mesh.cluster, caller);
    const say = (host: string) =>
      client(mesh.cluster, caller, "raw", {
        host,
        port: webPorts.tcp,
        steps: [{ send: "hi\n" }, { see: "hi\n" }, { end: true }, { see: "bytes" }],
      });
    expect((await say("proxied")).received).toMatch(
      new RegExp(`^solo: PROXY TCP4 ${ip.replaceAll(".", "\\.")} [\\d.]+ \\d+ \\d+\\r\\nhi\n`, "u"),
    );
    const { received } = await say("proxied-2");
    expect(received).toContain("\r\n\r\n\0\r\nQUIT\n!");
  });
});

describe("TLS as Gateway API's policies say", () => {
  /** Waits until a request to the service is answered so, or fails so. */
  const untilAnswered = (host: string, wanted: string, isSo: (answer: Answer) => boolean) =>
    mesh.cluster.until(`${wanted} from ${host}`, async () => {
      const answer = await ask(`http://${host}/`);
      return isSo(answer) && answer;
    });
  const isServed = ({ status, echo }: Answer): boolean => status === 200 && echo?.name === "solo";
  const isRefused = ({ status }: Answer): boolean => status === 503;

  async function conditions(name: string): Promise<readonly string[]> {
    const policy = await mesh.cluster.get<
      Manifest & {
        status?: {
          ancestors?: { controllerName: string; conditions: Record<"type" | "status" | "reason", string>[] }[];
        };
      }
    >("gateway.networking.k8s.io/v1", "BackendTLSPolicy", name, "shop");
    return (policy.status?.ancestors ?? [])
      .filter(({ controllerName }) => controllerName === "istio.io/gateway-controller")
      .flatMap((ancestor) => ancestor.conditions.map(({ type, status, reason }) => `${type}=${status}/${reason}`));
  }
  const untilTold = (name: string, condition: string) =>
    mesh.cluster.until(`${condition} of ${name}`, async () => (await conditions(name)).includes(condition));

  test("a server that the authority vouches for, under its own name", async () => {
    expect((await untilAnswered("sealed", "an answer", isServed)).echo?.protocol).toBe("HTTP/1.1");
    await untilAnswered("sealed-by-name", "an answer", isServed);
    expect((await ask("http://misnamed/")).status).toBe(503);
    await untilTold("sealed", "Accepted=True/Accepted");
    expect(await conditions("sealed")).toEqual([
      "Accepted=True/Accepted",
      "ResolvedRefs=True/ResolvedRefs",
      "ResolvedWaypoints=True/ResolvedWaypoints",
    ]);
  });

  test("authorities that change, go and come back hold at once, without a restart", async () => {
    const stranger = await strangeAuthority("Others");
    await mesh.cluster.apply(authorityMap("changing", authority.certificatePem));
    await mesh.cluster.apply(
      [beforeTls("changing"), tlsPolicy("changing", { hostname: "solo.example", ...fromMap("changing") })].join(
        "\n---\n",
      ),
    );
    await untilAnswered("changing", "an answer", isServed);
    await mesh.cluster.apply(authorityMap("changing", stranger.certificatePem));
    expect((await untilAnswered("changing", "a refusal", isRefused)).text).toContain("remote connection failure");
    await mesh.cluster.apply(authorityMap("changing", `${stranger.certificatePem}\n${authority.certificatePem}`));
    await untilAnswered("changing", "an answer", isServed);
    await mesh.cluster.delete("v1", "ConfigMap", "changing", "shop");
    await untilTold("changing", "Accepted=False/NoValidCACertificate");
    expect(await conditions("changing")).toContain("ResolvedRefs=False/InvalidCACertificateRef");
    // Nothing is sent, in the clear least of all.
    expect((await untilAnswered("changing", "a refusal", isRefused)).text).toContain("no healthy upstream");
    await mesh.cluster.apply(authorityMap("changing", authority.certificatePem));
    await untilAnswered("changing", "an answer", isServed);
  });

  test("a server that knows no TLS is not spoken to in the clear, before the policy is gone", async () => {
    await mesh.cluster.apply(webService("opened", "shop", { app: "solo" }));
    await untilAnswered("opened", "an answer", isServed);
    await mesh.cluster.apply(tlsPolicy("opened", { hostname: "solo.example", wellKnownCACertificates: "System" }));
    expect((await untilAnswered("opened", "a refusal", isRefused)).text).toContain("remote connection failure");
    await mesh.cluster.delete("gateway.networking.k8s.io/v1", "BackendTLSPolicy", "opened", "shop");
    await untilAnswered("opened", "an answer", isServed);
  });

  test("the older of two has the service; who comes later is told", async () => {
    await mesh.cluster.apply(tlsPolicy("younger", { hostname: "other.example", ...fromMap("authority") }, "sealed"));
    await untilTold("younger", "Accepted=False/Conflicted");
    expect((await ask("http://sealed/")).status).toBe(200);
    await mesh.cluster.delete("gateway.networking.k8s.io/v1", "BackendTLSPolicy", "sealed", "shop");
    await untilAnswered("sealed", "a refusal", isRefused);
    await untilTold("younger", "Accepted=True/Accepted");
  });

  test("retries are bounded", async () => {
    const path = (name: string): string => `/delay/5000/${name}`;
    for (const [name, tries] of [
      ["unbounded", 16],
      ["bounded", 9],
    ] as const) {
      const answers = await many({ url: `http://${name}${path(name)}`, count: 8, concurrency: 8 });
      expect(statuses(answers)).toEqual(Array.from({ length: 8 }, () => 504));
      expect([name, await requestsTo(path(name))]).toEqual([name, tries]);
    }
  });
});

describe("what changes under load", () => {
  const url = "http://renewed/";

  const renew = (kind: string, name: string): Promise<void> =>
    mesh.cluster.merge({
      apiVersion: "apps/v1",
      kind,
      metadata: { name, namespace: "shop" },
      spec: { template: { metadata: { annotations: { "kubectl.kubernetes.io/restartedAt": String(Date.now()) } } } },
    });

  test("backends are replaced, and no request is lost", async () => {
    const names = async (): Promise<readonly string[]> =>
      (await mesh.cluster.pods("shop", "app=renewed")).map(({ metadata }) => metadata?.name ?? "");
    const before = new Set(await names());
    const outcome = await underLoad(mesh.cluster, caller, { url, concurrency: 4 }, async () => {
      await renew("Deployment", "renewed");
      await mesh.cluster.until(
        "new pods alone",
        async () => {
          const pods = await mesh.cluster.pods("shop", "app=renewed");
          return pods.length === 2 && pods.every((pod) => isReady(pod) && !before.has(pod.metadata?.name ?? ""));
        },
        60_000,
      );
    });
    expect(outcome.failures).toEqual([]);
    expect(outcome.done).toBeGreaterThan(50);
  }, 120_000);

  test("the waypoint is replaced, and no request is lost, not even a slow one", async () => {
    const pods = () => mesh.cluster.pods("shop", "gateway.networking.k8s.io/gateway-name=waypoint");
    const before = new Set((await pods()).map(({ metadata }) => metadata?.name));
    const slow: Promise<Answer>[] = [];
    const outcome = await underLoad(mesh.cluster, caller, { url, concurrency: 4 }, async () => {
      slow.push(ask("http://by-default/delay/3000"));
      await renew("Deployment", "waypoint");
      await mesh.cluster.until(
        "a new waypoint",
        async () => (await pods()).some((pod) => isReady(pod) && !before.has(pod.metadata?.name)),
        60_000,
      );
      slow.push(ask("http://by-default/delay/1500"));
      await mesh.cluster.until(
        "the new waypoint alone",
        async () => (await pods()).every((pod) => !before.has(pod.metadata?.name)),
        60_000,
      );
    });
    expect(statuses(await Promise.all(slow))).toEqual([200, 200]);
    expect(outcome.failures).toEqual([]);
    await waypointReady(mesh.cluster, "shop");
  }, 150_000);

  test("the control plane goes away and comes back: waypoints serve, and learn what changed", async () => {
    const scale = (replicas: number) =>
      mesh.cluster.merge({
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name: "istiod", namespace: "istio-system" },
        spec: { replicas },
      });
    const control = () => mesh.cluster.pods("istio-system", "app=istiod");
    const outcome = await underLoad(mesh.cluster, caller, { url, concurrency: 2 }, async () => {
      await scale(0);
      await mesh.cluster.until("no control plane", async () => (await control()).length === 0, 60_000);
      expect((await ask("http://last/")).status).toBe(299);
      await mesh.cluster.apply(
        istio("VirtualService", "last", { hosts: ["last"], http: [{ directResponse: { status: 298 } }] }),
      );
      await scale(1);
      await mesh.cluster.until("a control plane", async () => (await control()).some(isReady), 60_000);
      await mesh.cluster.until("the change", async () => (await ask("http://last/")).status === 298, 60_000);
    });
    expect(outcome.failures).toEqual([]);
  }, 180_000);
});
