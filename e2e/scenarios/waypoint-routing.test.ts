/** Where a waypoint sends requests and connections, by Istio's objects and by Gateway API's, and what it changes on the way. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { certificateFor, strangeAuthority } from "#e2e/support/forged-certificate.ts";
import { ambient, namespaceManifest, podIp, projectRoot, type Mesh } from "#e2e/support/mesh.ts";
import { client, curl, documents, startWebMesh, webPod, webService, type Answer } from "#e2e/support/web-mesh.ts";
import type { Manifest } from "#e2e/support/cluster.ts";
import { webPorts, type Echo } from "#e2e/support/web.ts";

let mesh: Mesh;
const caller = { namespace: "shop", name: "caller" };

const istio = (kind: string, name: string, spec: unknown, namespace = "shop"): string =>
  documents({ apiVersion: "networking.istio.io/v1", kind, metadata: { name, namespace }, spec });

const gatewayApi = (kind: string, name: string, spec: unknown, namespace = "shop", version = "v1"): string =>
  documents({ apiVersion: `gateway.networking.k8s.io/${version}`, kind, metadata: { name, namespace }, spec });

/** A Service of its own for what one test says, over the pods of both versions. */
const serviceOf = (name: string): string =>
  [
    webService(name, "shop", { app: "web" }),
    istio("DestinationRule", name, {
      host: name,
      subsets: [
        { name: "v1", labels: { version: "v1" } },
        { name: "v2", labels: { version: "v2" } },
      ],
    }),
  ].join("\n---\n");

/** The same with a VirtualService. */
const virtual = (name: string, spec: Record<string, unknown>): string =>
  [serviceOf(name), istio("VirtualService", name, { hosts: [name], ...spec })].join("\n---\n");

const to = (host: string, subset?: string, more: Record<string, unknown> = {}): unknown => ({
  destination: { host, ...(subset === undefined ? {} : { subset }) },
  ...more,
});

const parent = (name: string, port?: number): unknown => ({
  group: "",
  kind: "Service",
  name,
  ...(port === undefined ? {} : { port }),
});

/** The same with a route of Gateway API. */
const attached = (kind: string, name: string, rules: readonly unknown[], port?: number, version = "v1"): string =>
  [serviceOf(name), gatewayApi(kind, name, { parentRefs: [parent(name, port)], rules }, "shop", version)].join(
    "\n---\n",
  );

const backend = (name: string, port = 80, more: Record<string, unknown> = {}): unknown => ({ name, port, ...more });

const percentage = (value: number): unknown => ({ percentage: { value } });

const virtualServices = [
  virtual("weights", { http: [{ route: [to("weights", "v1", { weight: 90 }), to("weights", "v2", { weight: 10 })] }] }),
  virtual("canary", {
    http: [
      { match: [{ headers: { "x-canary": { exact: "yes" } } }], route: [to("canary", "v2")] },
      {
        match: [{ withoutHeaders: { "x-plain": {} }, headers: { "x-any": {} } }],
        directResponse: { status: 299, body: { string: "without" } },
      },
      { route: [to("canary", "v1")] },
    ],
  }),
  virtual("matches", {
    http: [
      ["exact", { uri: { exact: "/exact" } }],
      ["prefix", { uri: { prefix: "/prefix" } }],
      ["regex", { uri: { regex: "/re/[0-9]+(/.*)?" } }],
      ["ignored-case", { uri: { prefix: "/CaSe" }, ignoreUriCase: true }],
      ["query", { queryParams: { q: { exact: "1" }, r: { regex: "*" } } }],
      ["method", { method: { exact: "DELETE" } }],
      ["authority", { authority: { exact: "another.example" } }],
      ["header-prefix", { headers: { "x-h": { prefix: "ab" } } }],
      ["header-regex", { headers: { "x-h": { regex: "c+d" } } }],
      ["either", { uri: { exact: "/one" } }, { uri: { exact: "/two" }, method: { exact: "POST" } }],
    ]
      .map(([name, ...match]): unknown => ({
        match,
        directResponse: { status: 200, body: { string: name } },
      }))
      .concat({ route: [to("matches", "v1")] }),
  }),
  virtual("rewrites", {
    http: [
      { match: [{ uri: { prefix: "/old/" } }], rewrite: { uri: "/new/" }, route: [to("rewrites")] },
      { match: [{ uri: { exact: "/whole" } }], rewrite: { uri: "/part" }, route: [to("rewrites")] },
      {
        match: [{ uri: { prefix: "/re/" } }],
        rewrite: { uriRegexRewrite: { match: "^/re/([^/]+)/(.*)$", rewrite: "/\\2/\\1" } },
        route: [to("rewrites")],
      },
      { match: [{ uri: { prefix: "/host" } }], rewrite: { authority: "inner.example" }, route: [to("rewrites")] },
    ],
  }),
  virtual("redirects", {
    http: [
      { match: [{ uri: { exact: "/path" } }], redirect: { uri: "/there" } },
      {
        match: [{ uri: { prefix: "/all" } }],
        redirect: { scheme: "https", authority: "far.example", port: 8443, redirectCode: 308 },
      },
      { match: [{ uri: { prefix: "/swap" } }], redirect: { prefixRewrite: "/swapped", redirectCode: 302 } },
      { match: [{ uri: { exact: "/said" } }], directResponse: { status: 418, body: { string: "short and stout" } } },
    ],
  }),
  virtual("edits", {
    http: [
      {
        headers: {
          request: { set: { "x-set": "route" }, add: { "x-add": "route" }, remove: ["x-gone"] },
          response: { set: { "x-answer": "route" }, remove: ["x-served-by"] },
        },
        route: [
          to("edits", "v1", {
            weight: 50,
            headers: { request: { set: { "x-of": "one" } }, response: { set: { "x-from": "one" } } },
          }),
          to("edits", "v2", {
            weight: 50,
            headers: { request: { set: { "x-of": "two" } }, response: { set: { "x-from": "two" } } },
          }),
        ],
      },
    ],
  }),
  virtual("shared", {
    http: [
      {
        corsPolicy: {
          allowOrigins: [{ exact: "https://good.example" }, { regex: "https://[a-z]+\\.fine\\.example" }],
          allowMethods: ["GET", "PUT"],
          allowHeaders: ["x-token"],
          exposeHeaders: ["x-served-by"],
          maxAge: "1h",
          allowCredentials: true,
        },
        route: [to("shared", "v1")],
      },
    ],
  }),
  virtual("mirrored", {
    http: [
      {
        route: [to("mirrored", "v1")],
        mirrors: [{ destination: { host: "shadow" }, percentage: { value: 100 } }],
      },
    ],
  }),
  virtual("delegating", {
    http: [
      { match: [{ uri: { prefix: "/given/" } }], delegate: { name: "delegate" } },
      { route: [to("delegating", "v1")] },
    ],
  }),
  istio("VirtualService", "delegate", {
    http: [
      {
        match: [{ uri: { prefix: "/given/away" } }],
        headers: { response: { set: { "x-by": "delegate" } } },
        route: [to("delegating", "v2")],
      },
    ],
  }),
  virtual("hasty", { http: [{ timeout: "2s", route: [to("hasty", "v1")] }] }),
  virtual("faulty", {
    http: [
      {
        match: [{ uri: { prefix: "/half" } }],
        fault: { abort: { httpStatus: 418, ...(percentage(50) as object) } },
        route: [to("faulty")],
      },
      {
        match: [{ uri: { prefix: "/slow" } }],
        fault: { delay: { fixedDelay: "700ms", ...(percentage(100) as object) } },
        route: [to("faulty")],
      },
      {
        match: [{ uri: { prefix: "/ambit.e2e.Echo/" } }],
        fault: { abort: { grpcStatus: "UNAVAILABLE", ...(percentage(50) as object) } },
        retries: { attempts: 0 },
        route: [to("faulty")],
      },
      { fault: { abort: { httpStatus: 503 } }, route: [to("faulty")] },
    ],
  }),
  virtual("guarded", {
    http: [
      {
        fault: {
          delay: { fixedDelay: "5s", ...(percentage(100) as object) },
          abort: { httpStatus: 418, ...(percentage(100) as object) },
        },
        route: [to("guarded")],
      },
    ],
  }),
  documents({
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "guarded", namespace: "shop" },
    spec: {
      targetRefs: [{ group: "", kind: "Service", name: "guarded" }],
      action: "DENY",
      rules: [{ to: [{ operation: { paths: ["/secret"] } }] }],
    },
  }),
  virtual("connections", {
    hosts: ["connections", "one.example", "*.two.example"],
    tcp: [
      {
        match: [{ port: webPorts.tcp }],
        route: [to("connections", "v1", { weight: 1 }), to("connections", "v2", { weight: 1 })],
      },
      { match: [{ port: webPorts.first }], route: [to("connections", "v2")] },
    ],
    tls: [
      { match: [{ port: 443, sniHosts: ["one.example"] }], route: [to("connections", "v1")] },
      { match: [{ port: 443, sniHosts: ["*.two.example"] }], route: [to("connections", "v2")] },
    ],
  }),
  virtual("lost", {
    http: [
      { match: [{ uri: { prefix: "/subset" } }], route: [to("lost", "none")] },
      { match: [{ uri: { prefix: "/host" } }], route: [to("nowhere.example")] },
      { match: [{ uri: { exact: "/here" } }], route: [to("lost")] },
    ],
  }),
];

const gatewayRoutes = [
  webService("web-v1", "shop", { app: "web", selector: { version: "v1" } }),
  webService("web-v2", "shop", { app: "web", selector: { version: "v2" } }),
  attached("HTTPRoute", "g-matches", [
    { matches: [{ path: { type: "PathPrefix", value: "/" } }], backendRefs: [backend("web-v1")] },
    { matches: [{ path: { type: "PathPrefix", value: "/pre" } }], backendRefs: [backend("web-v2")] },
    { matches: [{ path: { type: "Exact", value: "/pre/exact" } }], backendRefs: [backend("web-v1")] },
    { matches: [{ headers: [{ name: "x-version", value: "two" }] }], backendRefs: [backend("web-v2")] },
    { matches: [{ queryParams: [{ name: "v", value: "2" }] }], backendRefs: [backend("web-v2")] },
    { matches: [{ method: "PUT" }], backendRefs: [backend("web-v2")] },
  ]),
  attached("HTTPRoute", "g-only", [
    { matches: [{ path: { type: "PathPrefix", value: "/only" } }], backendRefs: [backend("g-only")] },
    { matches: [{ path: { type: "RegularExpression", value: "/r[0-9]+" } }], backendRefs: [backend("web-v2")] },
  ]),
  attached("HTTPRoute", "g-filters", [
    {
      matches: [{ path: { type: "PathPrefix", value: "/edit" } }],
      filters: [
        {
          type: "RequestHeaderModifier",
          requestHeaderModifier: {
            set: [{ name: "X-Set", value: "route" }],
            add: [{ name: "x-add", value: "route" }],
            remove: ["x-gone"],
          },
        },
        { type: "ResponseHeaderModifier", responseHeaderModifier: { set: [{ name: "x-answer", value: "route" }] } },
        { type: "URLRewrite", urlRewrite: { path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/" } } },
      ],
      backendRefs: [
        backend("web-v1", 80, {
          filters: [
            { type: "RequestHeaderModifier", requestHeaderModifier: { set: [{ name: "x-of", value: "backend" }] } },
          ],
        }),
      ],
    },
    {
      matches: [{ path: { type: "PathPrefix", value: "/full" } }],
      filters: [
        {
          type: "URLRewrite",
          urlRewrite: { hostname: "inner.example", path: { type: "ReplaceFullPath", replaceFullPath: "/all" } },
        },
      ],
      backendRefs: [backend("web-v1")],
    },
    {
      matches: [{ path: { type: "PathPrefix", value: "/moved" } }],
      filters: [
        {
          type: "RequestRedirect",
          requestRedirect: {
            hostname: "far.example",
            scheme: "https",
            statusCode: 301,
            path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/new" },
          },
        },
      ],
    },
    {
      matches: [{ path: { type: "PathPrefix", value: "/twice" } }],
      filters: [{ type: "RequestMirror", requestMirror: { backendRef: { name: "shadow", port: 80 } } }],
      backendRefs: [backend("web-v1")],
    },
  ]),
  attached("HTTPRoute", "g-weights", [
    { backendRefs: [backend("web-v1", 80, { weight: 3 }), backend("web-v2", 80, { weight: 1 })] },
  ]),
  attached("HTTPRoute", "g-hasty", [
    {
      matches: [{ path: { type: "PathPrefix", value: "/delay" } }],
      timeouts: { request: "2s" },
      backendRefs: [backend("web-v1")],
    },
  ]),
  attached("HTTPRoute", "g-far", [
    {
      matches: [{ path: { type: "PathPrefix", value: "/granted" } }],
      backendRefs: [backend("granted", 80, { namespace: "other" })],
    },
    {
      matches: [{ path: { type: "PathPrefix", value: "/missing" } }],
      backendRefs: [backend("no-such-service")],
    },
    { matches: [{ path: { type: "PathPrefix", value: "/none" } }] },
    {
      matches: [{ path: { type: "PathPrefix", value: "/share" } }],
      backendRefs: [backend("web-v1", 80, { weight: 1 }), backend("no-such-service", 80, { weight: 1 })],
    },
  ]),
  attached("HTTPRoute", "g-consumed", [{ backendRefs: [backend("web-v1")] }]),
  gatewayApi(
    "HTTPRoute",
    "consumer",
    {
      parentRefs: [{ group: "", kind: "Service", name: "g-consumed", namespace: "shop" }],
      rules: [
        {
          matches: [{ path: { value: "/mine" } }],
          filters: [
            { type: "RequestHeaderModifier", requestHeaderModifier: { set: [{ name: "x-for", value: "other" }] } },
          ],
          backendRefs: [backend("granted")],
        },
      ],
    },
    "other",
  ),
  gatewayApi(
    "ReferenceGrant",
    "to-shop",
    {
      from: [{ group: "gateway.networking.k8s.io", kind: "HTTPRoute", namespace: "shop" }],
      to: [{ group: "", kind: "Service", name: "granted" }],
    },
    "other",
    "v1beta1",
  ),
  attached(
    "GRPCRoute",
    "g-calls",
    [
      {
        matches: [{ method: { service: "ambit.e2e.Echo", method: "Say" }, headers: [{ name: "x-two", value: "yes" }] }],
        backendRefs: [backend("web-v2", webPorts.grpc)],
      },
      {
        matches: [{ method: { service: "ambit.e2e.Echo", method: "Say" } }],
        filters: [
          { type: "ResponseHeaderModifier", responseHeaderModifier: { set: [{ name: "x-route", value: "say" }] } },
        ],
        backendRefs: [backend("web-v1", webPorts.grpc)],
      },
      { matches: [{ method: { method: "Chat" } }], backendRefs: [backend("web-v2", webPorts.grpc)] },
    ],
    webPorts.grpc,
  ),
  attached(
    "TCPRoute",
    "g-tcp",
    [{ backendRefs: [backend("web-v1", webPorts.tcp, { weight: 4 }), backend("web-v2", webPorts.tcp, { weight: 1 })] }],
    webPorts.tcp,
    "v1alpha2",
  ),
  serviceOf("g-tls"),
  ...["one", "two"].map((name, index) =>
    gatewayApi("TLSRoute", `g-tls-${name}`, {
      parentRefs: [parent("g-tls", 443)],
      hostnames: [`${name}.example`],
      rules: [{ backendRefs: [backend(`web-v${index + 1}`, 443)] }],
    }),
  ),
];

/** Applied after all others: where it is in force, they are. */
const last = virtual("last", { http: [{ directResponse: { status: 299, body: { string: "in force" } } }] });

beforeAll(async () => {
  const certificate = await certificateFor(await strangeAuthority(), { type: "dns", value: "one.example" });
  mesh = await startWebMesh(
    "routing",
    [
      webPod("one", { namespace: "shop", node: "node-1", app: "web", version: "v1", certificate }),
      webPod("two", { namespace: "shop", node: "node-2", app: "web", version: "v2", certificate }),
      webPod("shadow", { namespace: "shop", node: "node-2" }),
      webService("shadow", "shop"),
      namespaceManifest("other", ambient),
      webPod("granted", { namespace: "other", node: "node-2" }),
      webService("granted", "other"),
    ],
    3,
  );
  await mesh.cluster.apply([...virtualServices, ...gatewayRoutes, last].join("\n---\n"));
  await mesh.cluster.until("routes in force", async () => (await ask("http://last/")).status === 299);
}, 120_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

const ask = (...args: readonly string[]): Promise<Answer> => curl(mesh.cluster, caller, ...args);
const header = (answer: Answer, name: string): string | undefined => answer.headers.get(name)?.[0];

/** How many of `count` requests had each outcome, by status and who answered. */
async function tally(url: string, count: number, headers: Readonly<Record<string, string>> = {}) {
  const answers = await client(mesh.cluster, caller, "many", { url, count, headers, concurrency: 8 });
  const counts = new Map<string, number>();
  for (const { status, servedBy } of answers) {
    const key = servedBy === "" ? String(status) : `${status} ${servedBy}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return Object.fromEntries(counts);
}

/** Six standard deviations: even by the more skewed of the shares below it is missed by chance once in thirty million runs. */
function expectShare(hits: number, of: number, share: number): void {
  const within = 6 * Math.sqrt(of * share * (1 - share));
  expect(hits).toBeGreaterThanOrEqual(of * share - within);
  expect(hits).toBeLessThanOrEqual(of * share + within);
}

/** Requests to a path that reached a pod, asked of the pod itself. */
async function requestsTo(pod: string, path: string): Promise<number> {
  const ip = await podIp(mesh.cluster, { namespace: "shop", name: pod });
  return (await ask(`http://${ip}:${webPorts.http}/count${path}`)).echo?.requests ?? -1;
}

interface RouteStatus {
  readonly status?: {
    readonly parents?: readonly {
      readonly conditions: readonly { readonly type: string; readonly status: string; readonly reason: string }[];
    }[];
  };
}

async function parentConditions(
  kind: string,
  name: string,
  { version = "v1", namespace = "shop" } = {},
): Promise<readonly string[]> {
  const route = await mesh.cluster.get<RouteStatus & Manifest>(
    `gateway.networking.k8s.io/${version}`,
    kind,
    name,
    namespace,
  );
  return (route.status?.parents ?? []).flatMap(({ conditions }) =>
    conditions.map(({ type, status, reason }) => `${type}=${status}/${reason}`),
  );
}

describe("VirtualService", () => {
  test("90 to 10 by weight", async () => {
    const counts = await tally("http://weights/", 600);
    expect((counts["200 one"] ?? 0) + (counts["200 two"] ?? 0)).toBe(600);
    expectShare(counts["200 two"] ?? 0, 600, 0.1);
  });

  test("a canary by header, the rest by its absence", async () => {
    expect(await tally("http://canary/", 20, { "x-canary": "yes" })).toEqual({ "200 two": 20 });
    expect(await tally("http://canary/", 20, { "x-canary": "no" })).toEqual({ "200 one": 20 });
    expect((await ask("-H", "x-any: 1", "http://canary/")).text).toBe("without");
    expect((await ask("-H", "x-any: 1", "-H", "x-plain: 1", "http://canary/")).echo?.name).toBe("one");
  });

  test.each([
    ["an exact path", ["http://matches/exact?x=1"], "exact"],
    ["an exact path and more", ["http://matches/exact/"], "one"],
    ["a prefix of the text", ["http://matches/prefixed/x"], "prefix"],
    ["an expression", ["http://matches/re/12/x"], "regex"],
    ["an expression that does not fit the whole", ["http://matches/re/12x"], "one"],
    ["case ignored", ["http://matches/cAsE/x"], "ignored-case"],
    ["query parameters", ["http://matches/?q=1&r"], "query"],
    ["a query parameter that is missing", ["http://matches/?q=1"], "one"],
    ["a method", ["-X", "DELETE", "http://matches/"], "method"],
    ["an authority", ["-H", "host: another.example", "http://matches/"], "authority"],
    ["a header's prefix", ["-H", "x-h: abc", "http://matches/"], "header-prefix"],
    ["a header by expression", ["-H", "x-h: ccd", "http://matches/"], "header-regex"],
    ["a header that an expression fits in part", ["-H", "x-h: ccde", "http://matches/"], "one"],
    ["the second of two", ["-X", "POST", "http://matches/two"], "either"],
    ["half of the second of two", ["http://matches/two"], "one"],
    ["a path with dots, as it is after them", ["--path-as-is", "http://matches/x/../exact"], "exact"],
  ])("matches %s", async (_what, args, expected) => {
    const answer = await ask(...args);
    expect(answer.status).toBe(200);
    expect(answer.echo?.name ?? answer.text).toBe(expected);
  });

  test.each([
    ["a prefix", "http://rewrites/old/x/y?q=1", "/new/x/y?q=1"],
    ["a whole path", "http://rewrites/whole?q=1", "/part?q=1"],
    ["by expression", "http://rewrites/re/a/b/c?q=1", "/b/c/a?q=1"],
  ])("rewrites %s", async (_what, url, path) => {
    expect((await ask(url)).echo?.path).toBe(path);
  });

  test("rewrites the authority; what no rule matches is not found", async () => {
    expect((await ask("http://rewrites/host")).echo?.headers["host"]).toBe("inner.example");
    expect((await ask("http://rewrites/else")).status).toBe(404);
  });

  test.each([
    ["http://redirects/path?q=1", 301, "http://redirects/there?q=1"],
    ["http://redirects/all/x?q=1", 308, "https://far.example:8443/all/x?q=1"],
    ["http://redirects/swap/x", 302, "http://redirects/swapped/x"],
  ])("redirects %s", async (url, status, location) => {
    const answer = await ask(url);
    expect([answer.status, header(answer, "location")]).toEqual([status, location]);
  });

  test("answers itself", async () => {
    expect(await ask("http://redirects/said")).toMatchObject({ status: 418, text: "short and stout" });
  });

  test("edits headers of requests and answers, by route and by destination", async () => {
    const answers = await Promise.all(
      Array.from({ length: 12 }, () =>
        ask("-H", "x-set: mine", "-H", "x-add: mine", "-H", "x-gone: 1", "http://edits/"),
      ),
    );
    for (const answer of answers) {
      const name = answer.echo?.name ?? "";
      const headers: Echo["headers"] = answer.echo?.headers ?? {};
      expect(headers).toMatchObject({ "x-set": "route", "x-add": "mine, route", "x-of": name });
      expect(headers["x-gone"]).toBeUndefined();
      expect([header(answer, "x-answer"), header(answer, "x-from"), header(answer, "x-served-by")]).toEqual([
        "route",
        name,
        undefined,
      ]);
    }
    expect(new Set(answers.map(({ echo }) => echo?.name)).size).toBe(2);
  });

  test("CORS: preflights answered for known origins, answers marked; strangers are passed on", async () => {
    const preflight = (origin: string) =>
      ask("-X", "OPTIONS", "-H", `origin: ${origin}`, "-H", "access-control-request-method: PUT", "http://shared/");
    const known = await preflight("https://some.fine.example");
    expect([known.status, known.echo]).toEqual([200, undefined]);
    expect(Object.fromEntries([...known.headers].map(([name, values]) => [name, values.join()]))).toMatchObject({
      "access-control-allow-origin": "https://some.fine.example",
      "access-control-allow-methods": "GET,PUT",
      "access-control-allow-headers": "x-token",
      "access-control-max-age": "3600",
      "access-control-allow-credentials": "true",
    });
    expect((await preflight("https://bad.example")).echo?.method).toBe("OPTIONS");
    const actual = await ask("-H", "origin: https://good.example", "http://shared/");
    expect(actual.echo?.name).toBe("one");
    expect(header(actual, "access-control-allow-origin")).toBe("https://good.example");
    expect(header(actual, "access-control-expose-headers")).toBe("x-served-by");
    expect(
      header(await ask("-H", "origin: https://bad.example", "http://shared/"), "access-control-allow-origin"),
    ).toBe(undefined);
  });

  test("mirrors every request, and its answer is nobody's", async () => {
    const answers = await client(mesh.cluster, caller, "many", {
      url: "http://mirrored/status/200",
      count: 25,
      concurrency: 5,
    });
    expect(answers.filter(({ status, servedBy }) => status !== 200 || servedBy !== "one")).toEqual([]);
    await mesh.cluster.until("25 mirrored requests", async () => (await requestsTo("shadow", "/status/200")) === 25);
    const posted = await ask("-d", "said twice", "http://mirrored/posted");
    expect(posted.echo).toMatchObject({ name: "one", body: "said twice" });
    await mesh.cluster.until("the mirrored post", async () => (await requestsTo("shadow", "/posted")) === 1);
  });

  test("delegates part of its paths", async () => {
    const given = await ask("http://delegating/given/away");
    expect([given.echo?.name, header(given, "x-by")]).toEqual(["two", "delegate"]);
    expect((await ask("http://delegating/given/back")).echo?.name).toBe("one");
    expect((await ask("http://delegating/kept")).echo?.name).toBe("one");
  });

  test("gives up after its timeout", async () => {
    const late = await ask("http://hasty/delay/10000");
    expect([late.status, late.text]).toEqual([504, "upstream request timeout"]);
    expect((await ask("http://hasty/delay/10")).status).toBe(200);
  });

  test("fails half of the requests where told; without a percentage none", async () => {
    const counts = await tally("http://faulty/half", 300);
    expectShare(counts["418"] ?? 0, 300, 0.5);
    const aborted = await mesh.cluster.until("an abort", async () => {
      const answer = await ask("http://faulty/half");
      return answer.status === 418 && answer;
    });
    expect(aborted.text).toBe("fault filter abort");
    expect(Object.keys(await tally("http://faulty/none", 20)).every((key) => key.startsWith("200"))).toBe(true);
  });

  test("delays", async () => {
    const answers = await client(mesh.cluster, caller, "many", { url: "http://faulty/slow", count: 4, concurrency: 4 });
    for (const { status, ms } of answers) {
      expect(status).toBe(200);
      expect(ms).toBeGreaterThanOrEqual(690);
    }
  });

  test("fails half of the calls as gRPC fails", async () => {
    const said = await client(mesh.cluster, caller, "say", { target: `faulty:${webPorts.grpc}`, count: 200 });
    const failed = said.filter(({ code }) => code === 14);
    expect(said.filter(({ code }) => code === 0).length + failed.length).toBe(200);
    expectShare(failed.length, 200, 0.5);
    expect(failed[0]?.details).toContain("fault filter abort");
  });

  test("who is refused meets no fault", async () => {
    const [refused] = await client(mesh.cluster, caller, "many", { url: "http://guarded/secret", count: 1 });
    expect(refused).toMatchObject({ status: 403, text: "RBAC: access denied" });
    expect(refused?.ms).toBeLessThan(4_500);
    expect((await ask("http://guarded/open")).status).toBe(418);
  });

  test("what leads nowhere is unavailable, the rest is served", async () => {
    expect((await ask("http://lost/subset")).status).toBe(503);
    expect((await ask("http://lost/host")).status).toBe(503);
    expect((await ask("http://lost/here")).status).toBe(200);
  });

  test("connections by weight and by port", async () => {
    const served = await firstLines("connections", webPorts.tcp, 60);
    expectShare(served.filter((line) => line.startsWith("two")).length, 60, 0.5);
    expect(new Set(await firstLines("connections", webPorts.first, 5))).toEqual(new Set(["two speaks first"]));
  });

  test("TLS by the name that clients ask for, undecrypted", async () => {
    expect((await askTls("connections", "one.example")).echo?.name).toBe("one");
    expect((await askTls("connections", "a.two.example")).echo?.name).toBe("two");
    expect((await askTls("connections", "three.example")).status).toBe(200);
  });
});

/** HTTPS by a name that is the service's only for this request. */
async function askTls(service: string, name: string): Promise<Answer> {
  const { spec } = await mesh.cluster.get<Manifest & { readonly spec: { readonly clusterIP: string } }>(
    "v1",
    "Service",
    service,
    "shop",
  );
  return ask("-k", "--resolve", `${name}:443:${spec.clusterIP}`, `https://${name}/`);
}

/** What as many connections are told first. */
async function firstLines(service: string, port: number, count: number): Promise<readonly string[]> {
  const each = `exec 3<>/dev/tcp/${service}/${port}; echo hi >&3; read -t 5 -r line <&3; echo "$line"; exec 3>&-`;
  const script = `for i in $(seq ${count}); do ${each}; done`;
  return (await mesh.cluster.exec(caller, ["bash", "-c", script])).stdout.trim().split("\n");
}

describe("HTTPRoute", () => {
  test.each([
    ["everything", ["http://g-matches/x"], "one"],
    ["a prefix by segments", ["http://g-matches/pre/x"], "two"],
    ["no part of a segment", ["http://g-matches/prefix"], "one"],
    ["the exact path before the prefix", ["http://g-matches/pre/exact"], "one"],
    ["a header", ["-H", "x-version: two", "http://g-matches/x"], "two"],
    ["a query parameter", ["http://g-matches/x?v=2"], "two"],
    ["a method", ["-X", "PUT", "http://g-matches/x"], "two"],
  ])("matches %s, the most specific first", async (_what, args, name) => {
    expect((await ask(...args)).echo?.name).toBe(name);
  });

  test("what no rule matches is not found", async () => {
    expect((await ask("http://g-only/only/x")).status).toBe(200);
    expect((await ask("http://g-only/r77")).echo?.name).toBe("two");
    expect((await ask("http://g-only/r7x")).status).toBe(404);
  });

  test("filters edit, rewrite, redirect and mirror", async () => {
    const edited = await ask("-H", "x-add: mine", "-H", "x-gone: 1", "http://g-filters/edit/x?q=1");
    expect(edited.echo).toMatchObject({
      path: "/x?q=1",
      headers: { "x-set": "route", "x-add": "mine, route", "x-of": "backend" },
    });
    expect(edited.echo?.headers["x-gone"]).toBeUndefined();
    expect(header(edited, "x-answer")).toBe("route");
    const full = await ask("http://g-filters/full/x?q=1");
    expect(full.echo).toMatchObject({ path: "/all?q=1", headers: { host: "inner.example" } });
    const moved = await ask("http://g-filters/moved/x");
    expect([moved.status, header(moved, "location")]).toEqual([301, "https://far.example/new/x"]);
    expect((await ask("http://g-filters/twice/1")).echo?.name).toBe("one");
    await mesh.cluster.until("the mirrored request", async () => (await requestsTo("shadow", "/twice/1")) === 1);
  });

  test("weights", async () => {
    const counts = await tally("http://g-weights/", 400);
    expect((counts["200 one"] ?? 0) + (counts["200 two"] ?? 0)).toBe(400);
    expectShare(counts["200 two"] ?? 0, 400, 0.25);
  });

  test("timeouts", async () => {
    expect((await ask("http://g-hasty/delay/10000")).status).toBe(504);
    expect((await ask("http://g-hasty/delay/10")).status).toBe(200);
  });

  test("a backend of another namespace; one that is not there answers 500 for its share", async () => {
    expect((await ask("http://g-far/granted")).echo?.name).toBe("granted");
    expect((await ask("http://g-far/missing")).status).toBe(500);
    expect((await ask("http://g-far/none")).status).toBe(500);
    const counts = await tally("http://g-far/share", 100);
    expectShare(counts["500"] ?? 0, 100, 0.5);
    expect(counts["200 one"]).toBe(100 - (counts["500"] ?? 0));
  });

  test("one of another namespace takes the place of the service's own for callers of its namespace", async () => {
    const other = { namespace: "other", name: "granted" };
    const mine = await curl(mesh.cluster, other, "http://g-consumed.shop/mine");
    expect(mine.echo).toMatchObject({ name: "granted", headers: { "x-for": "other" } });
    expect((await curl(mesh.cluster, other, "http://g-consumed.shop/else")).status).toBe(404);
    const theirs = await ask("http://g-consumed/mine");
    expect([theirs.echo?.name, theirs.echo?.headers["x-for"]]).toEqual(["one", undefined]);
    expect(await parentConditions("HTTPRoute", "consumer", { namespace: "other" })).toEqual(
      expect.arrayContaining(["Accepted=True/Accepted", "ResolvedWaypoints=True/ResolvedWaypoints"]),
    );
  });

  test("its status says what is wrong", async () => {
    expect(await parentConditions("HTTPRoute", "g-matches")).toEqual(
      expect.arrayContaining(["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"]),
    );
    expect(await parentConditions("HTTPRoute", "g-far")).toEqual(
      expect.arrayContaining(["Accepted=True/Accepted", "ResolvedRefs=False/BackendNotFound"]),
    );
  });

  test("a grant that is taken back", async () => {
    await mesh.cluster.delete("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "to-shop", "other");
    await mesh.cluster.until("RefNotPermitted", async () =>
      (await parentConditions("HTTPRoute", "g-far")).some((condition) => condition.includes("ResolvedRefs=False")),
    );
    await mesh.cluster.until("500", async () => (await ask("http://g-far/granted")).status === 500);
  });
});

describe("other routes of Gateway API", () => {
  test("GRPCRoute by method and header", async () => {
    const target = `g-calls:${webPorts.grpc}`;
    const [plain] = await client(mesh.cluster, caller, "say", { target });
    expect(plain).toMatchObject({ code: 0, text: "one: hello", headers: { "x-route": "say" } });
    const [marked] = await client(mesh.cluster, caller, "say", { target, metadata: { "x-two": "yes" } });
    expect(marked?.text).toBe("two: hello");
    expect(await client(mesh.cluster, caller, "chat", { target, texts: ["a", "b"] })).toEqual({
      code: 0,
      texts: ["two: a", "two: b"],
    });
    const [unknown] = await client(mesh.cluster, caller, "say", { target, path: "/ambit.e2e.Other/Say" });
    expect(unknown?.code).toBe(12);
    expect(await parentConditions("GRPCRoute", "g-calls")).toContain("Accepted=True/Accepted");
  });

  test("TCPRoute by weight", async () => {
    const served = await firstLines("g-tcp", webPorts.tcp, 160);
    expect(served.filter((line) => !/^(one|two): hi$/.test(line))).toEqual([]);
    expectShare(served.filter((line) => line.startsWith("two")).length, 160, 0.2);
    expect(await parentConditions("TCPRoute", "g-tcp", { version: "v1alpha2" })).toContain("Accepted=True/Accepted");
  });

  test("TLSRoute by SNI", async () => {
    expect((await askTls("g-tls", "one.example")).echo?.name).toBe("one");
    expect((await askTls("g-tls", "two.example")).echo?.name).toBe("two");
    expect(await parentConditions("TLSRoute", "g-tls-one")).toContain("Accepted=True/Accepted");
  });
});

test("the samples of the bookshop's routing are taken as they are", async () => {
  const samples = join(projectRoot, "manifests/samples/bookshop");
  await mesh.cluster.applyFile(join(samples, "namespaces.yaml"));
  for (const name of ["catalog.yaml", "reviews.yaml", "stock.yaml"]) {
    // Their Services: nothing has to run.
    const documents = readFileSync(join(samples, name), "utf8").split(/^---$/mu);
    for (const document of documents.filter((text) => /^kind: Service$/mu.test(text)))
      await mesh.cluster.apply(document);
  }
  const routing = join(samples, "routing");
  for (const name of readdirSync(routing).filter((each) => !["waypoint.yaml", "reviews-v2.yaml"].includes(each)))
    await mesh.cluster.applyFile(join(routing, name));
  const namespace = "bookshop";
  for (const [kind, name, version] of [
    ["HTTPRoute", "reviews", "v1"],
    ["GRPCRoute", "shop-api", "v1"],
    ["TCPRoute", "stock", "v1alpha2"],
  ] as const) {
    await mesh.cluster.until(`${kind} ${name} to be accepted`, async () =>
      (await parentConditions(kind, name, { version, namespace })).includes("Accepted=True/Accepted"),
    );
    expect(await parentConditions(kind, name, { version, namespace })).toContain("Accepted=True/Accepted");
  }
});
