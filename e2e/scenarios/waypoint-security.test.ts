/**
 * Who may do what at a waypoint: policies on requests, tokens, external authorizers, and who cannot pretend to be whom. Each
 * policy has a Service of its own before the same pod, so that all of them are in force at once.
 */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT, type JWK, type JWTPayload } from "jose";
import { authorizerPorts } from "#e2e/support/authorizer.ts";
import { nameOf, type Manifest, type PodName } from "#e2e/support/cluster.ts";
import { ambient, namespaceManifest, podIp, projectRoot, startMesh, type Mesh } from "#e2e/support/mesh.ts";
import {
  callerPod,
  curl,
  documents,
  statusesOf,
  waypointGateway,
  waypointReady,
  webPod,
  webService,
} from "#e2e/support/web-mesh.ts";

let mesh: Mesh;
const ann: PodName = { namespace: "shop", name: "ann" };
const bob: PodName = { namespace: "shop", name: "bob" };
const eve: PodName = { namespace: "other", name: "eve" };
const stranger: PodName = { namespace: "outside", name: "stranger" };
const issuer = "https://tokens.test";
const namespace = "shop";

// ---------------------------------------------------------------------------------------------------------------- objects

interface Target {
  readonly group?: string;
  readonly kind?: string;
  readonly name: string;
}

function policy(
  name: string,
  target: Target | undefined,
  spec: Readonly<Record<string, unknown>>,
  { annotations = {}, inNamespace = namespace }: { annotations?: Record<string, string>; inNamespace?: string } = {},
): object {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name, namespace: inNamespace, annotations },
    spec: { ...(target === undefined ? {} : { targetRefs: [{ group: "", kind: "Service", ...target }] }), ...spec },
  };
}

const authentication = (name: string, jwtRules: readonly object[], target = name): object => ({
  apiVersion: "security.istio.io/v1",
  kind: "RequestAuthentication",
  metadata: { name, namespace },
  spec: { targetRefs: [{ group: "", kind: "Service", name: target }], jwtRules },
});

const front = (name: string, labels: Readonly<Record<string, string>> = {}) =>
  webService(name, namespace, { app: "reviews", labels });

const authorizerPod = (jwks: string): string =>
  documents(
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "authorizer", namespace: "auth", labels: { app: "authorizer" } },
      spec: {
        terminationGracePeriodSeconds: 1,
        containers: [
          {
            name: "authorizer",
            image: "ambit/tools",
            command: ["node", join(projectRoot, "e2e/support/authorizer.ts")],
            env: [{ name: "JWKS", value: jwks }],
            readinessProbe: { tcpSocket: { port: authorizerPorts.grpc }, periodSeconds: 1 },
          },
        ],
      },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "authorizer", namespace: "auth" },
      spec: {
        selector: { app: "authorizer" },
        ports: Object.entries(authorizerPorts).map(([name, port]) => ({ name, port })),
      },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "nobody", namespace: "auth" },
      spec: { selector: { app: "nobody" }, ports: [{ name: "grpc", port: authorizerPorts.grpc }] },
    },
  );

const authorizerAt = (port: number, more: object = {}, service = "authorizer") => ({
  service: `${service}.auth.svc.cluster.local`,
  port,
  timeout: "1s",
  ...more,
});

const providers = [
  { name: "by-grpc", envoyExtAuthzGrpc: authorizerAt(authorizerPorts.grpc) },
  { name: "by-grpc-open", envoyExtAuthzGrpc: authorizerAt(authorizerPorts.grpc, { failOpen: true }) },
  {
    name: "by-grpc-body",
    envoyExtAuthzGrpc: authorizerAt(authorizerPorts.grpc, { includeRequestBodyInCheck: { maxRequestBytes: 64 } }),
  },
  { name: "gone", envoyExtAuthzGrpc: authorizerAt(authorizerPorts.grpc, { statusOnError: "503" }, "nobody") },
  {
    name: "by-http",
    envoyExtAuthzHttp: authorizerAt(authorizerPorts.http, {
      pathPrefix: "/check",
      includeRequestHeadersInCheck: ["x-authz"],
      headersToUpstreamOnAllow: ["x-authorized"],
      headersToDownstreamOnDeny: ["x-why"],
      headersToDownstreamOnAllow: ["x-checked"],
    }),
  },
];

const meshConfig = (more: object = {}): string =>
  documents({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "istio", namespace: "istio-system", labels: { "istio.io/rev": "default" } },
    data: {
      mesh: JSON.stringify({
        rootNamespace: "istio-system",
        trustDomain: "cluster.local",
        accessLogFile: "/dev/stdout",
        extensionProviders: providers,
        ...more,
      }),
    },
  });

const custom = (name: string, provider: string) =>
  policy(name, { name }, { action: "CUSTOM", provider: { name: provider }, rules: [{}] });

// ------------------------------------------------------------------------------------------------------------------ keys

let keys: Awaited<ReturnType<typeof makeKeys>>;

async function makeKeys() {
  const [rsa, ec, stray] = await Promise.all([
    generateKeyPair("RS256", { extractable: true }),
    generateKeyPair("ES256", { extractable: true }),
    generateKeyPair("RS256", { extractable: true }),
  ]);
  const publicKeys: JWK[] = [
    { ...(await exportJWK(rsa.publicKey)), kid: "rsa", alg: "RS256", use: "sig" },
    { ...(await exportJWK(ec.publicKey)), kid: "ec", use: "sig" },
  ];
  return { rsa, ec, stray, publicKeys, jwks: JSON.stringify({ keys: publicKeys }) };
}

const nowSeconds = () => Math.floor(Date.now() / 1_000);

function token(claims: JWTPayload = {}, header: { alg?: string; kid?: string; stray?: boolean } = {}): Promise<string> {
  const { alg = "RS256", kid, stray = false } = header;
  const pair = stray ? keys.stray : alg === "ES256" ? keys.ec : keys.rsa;
  return new SignJWT({ iss: issuer, sub: "one", exp: nowSeconds() + 3_600, ...claims })
    .setProtectedHeader({ alg, ...(kid === undefined ? {} : { kid }) })
    .sign(pair.privateKey);
}

const bearer = (text: string): readonly string[] => ["-H", `Authorization: Bearer ${text}`];

// --------------------------------------------------------------------------------------------------------------- helpers

type Row = readonly [who: PodName, args: readonly string[], status: number];

/** Waits until every request of the table is answered as told; says which is not. */
async function expectStatuses(rows: readonly Row[]): Promise<void> {
  const callers = [...new Set(rows.map(([who]) => who))];
  const look = async (): Promise<readonly string[]> => {
    const statuses = new Map<Row, number>();
    for (const caller of callers) {
      const theirs = rows.filter(([who]) => who === caller);
      const got = await statusesOf(
        mesh.cluster,
        caller,
        theirs.map(([, args]) => args),
      );
      theirs.forEach((row, index) => statuses.set(row, got[index] ?? -1));
    }
    return rows.map((row) => `${row[0].name} ${row[1].join(" ")}: ${statuses.get(row)}`);
  };
  const wanted = rows.map(([who, args, status]) => `${who.name} ${args.join(" ")}: ${status}`);
  const isAsTold = (lines: readonly string[]) => lines.every((line, index) => line === wanted[index]);
  let seen: readonly string[] = [];
  const isSettled = async () => isAsTold((seen = await look()));
  await mesh.cluster.until("the table", isSettled, 25_000).catch(() => undefined);
  expect(seen).toEqual(wanted);
}

const reaches = (url: string) =>
  mesh.cluster.until(`200 from ${url}`, async () => (await curl(mesh.cluster, ann, url)).status === 200);

beforeAll(async () => {
  keys = await makeKeys();
  mesh = await startMesh("waypoint-security");
  await mesh.cluster.apply(
    [
      meshConfig(),
      namespaceManifest("shop", { ...ambient, "istio.io/use-waypoint": "waypoint" }),
      namespaceManifest("auth", ambient),
      namespaceManifest("other", ambient),
      namespaceManifest("outside"),
      waypointGateway("waypoint", "shop"),
      waypointGateway("naming", "shop"),
      callerPod("ann", "shop", "node-1"),
      callerPod("bob", "shop", "node-2"),
      callerPod("eve", "other", "node-1"),
      callerPod("stranger", "outside", "node-1"),
      webPod("reviews", { namespace: "shop", node: "node-2" }),
      authorizerPod(keys.jwks),
      front("open"),
    ].join("\n---\n"),
  );
  await mesh.cluster.merge({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: {
      name: "naming",
      namespace,
      annotations: { "ambient.istio.io/xfcc-include-client-identity": "true" },
    },
  });
  await mesh.cluster.podsReady("shop", 3);
  await mesh.cluster.podsReady("other", 1);
  await mesh.cluster.podsReady("auth", 1);
  await mesh.cluster.podsReady("outside", 1);
  await waypointReady(mesh.cluster, "shop");
  await waypointReady(mesh.cluster, "shop", "naming");
  await mesh.cluster.captured("other", true);
  await mesh.cluster.until("traffic through the waypoint", async () =>
    Boolean((await curl(mesh.cluster, ann, "http://open/")).echo?.headers["x-request-id"]),
  );
}, 120_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

// ------------------------------------------------------------------------------------------------------------ attachment

describe("what a policy is attached to", () => {
  const annOnly = { rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/ann"] } }] }] };
  const marked = (mark: string) => ({
    action: "DENY",
    rules: [{ when: [{ key: "request.headers[x-mark]", values: [mark] }] }],
  });
  const mark = (text: string) => ["-H", `x-mark: ${text}`];

  beforeAll(async () => {
    await mesh.cluster.apply(
      [
        front("mine"),
        front("required"),
        documents(
          {
            apiVersion: "networking.istio.io/v1",
            kind: "ServiceEntry",
            metadata: { name: "partner", namespace },
            spec: {
              hosts: ["partner.test"],
              addresses: ["240.9.9.9"],
              ports: [{ number: 80, name: "http", protocol: "HTTP", targetPort: 8080 }],
              resolution: "STATIC",
              location: "MESH_INTERNAL",
              workloadSelector: { labels: { app: "reviews" } },
            },
          },
          policy("mine", { name: "mine" }, annOnly),
          policy(
            "at-gateway",
            { group: "gateway.networking.k8s.io", kind: "Gateway", name: "waypoint" },
            marked("gateway"),
          ),
          policy(
            "at-class",
            { group: "gateway.networking.k8s.io", kind: "GatewayClass", name: "istio-waypoint" },
            marked("class"),
            { inNamespace: "istio-system" },
          ),
          policy("at-partner", { group: "networking.istio.io", kind: "ServiceEntry", name: "partner" }, annOnly),
        ),
      ].join("\n---\n"),
    );
  });

  // Where requests cannot be looked at, such a denial is one of everything.
  afterAll(async () => {
    await mesh.cluster.delete("security.istio.io/v1", "AuthorizationPolicy", "at-gateway", namespace);
    await mesh.cluster.delete("security.istio.io/v1", "AuthorizationPolicy", "at-class", "istio-system");
  });

  test("a Service: that one and no other", () =>
    expectStatuses([
      [ann, ["http://mine/"], 200],
      [bob, ["http://mine/"], 403],
      [eve, ["http://mine.shop/"], 403],
      [bob, ["http://open/"], 200],
      [eve, ["http://open.shop/"], 200],
    ]));

  test("a Gateway and a GatewayClass: all of its services", () =>
    expectStatuses(
      ["gateway", "class"].flatMap((name): Row[] => [
        [ann, [...mark(name), "http://mine/"], 403],
        [ann, [...mark(name), "http://open/"], 403],
        [ann, [...mark(`${name}s`), "http://open/"], 200],
      ]),
    ));

  test("a ServiceEntry", () =>
    expectStatuses([
      [ann, ["-H", "Host: partner.test", "http://240.9.9.9/"], 200],
      [bob, ["-H", "Host: partner.test", "http://240.9.9.9/"], 403],
    ]));

  test("a refusal says so, for gRPC in gRPC's way, and the connection lives", async () => {
    const refused = await curl(mesh.cluster, bob, "http://mine/");
    expect(refused).toMatchObject({ status: 403, text: "RBAC: access denied" });
    expect(refused.headers.has("x-ambit-denied-by")).toBe(false);
    const grpc = await curl(
      mesh.cluster,
      bob,
      "--http2-prior-knowledge",
      "-H",
      "content-type: application/grpc",
      "-X",
      "POST",
      "http://mine:9090/ambit.e2e.Echo/Say",
    );
    expect(grpc.status).toBe(200);
    expect(grpc.headers.get("grpc-status")).toEqual(["7"]);
  });

  test("a workload that lets in the waypoint alone cannot be reached around it", async () => {
    await mesh.cluster.apply(
      [
        webPod("guarded", { namespace, node: "node-1" }),
        webService("guarded", namespace),
        documents(
          policy("guarded", undefined, {
            selector: { matchLabels: { app: "guarded" } },
            rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/waypoint"] } }] }],
          }),
        ),
      ].join("\n---\n"),
    );
    await mesh.cluster.podsReady(namespace, 6);
    const ip = await podIp(mesh.cluster, { namespace, name: "guarded" });
    await expectStatuses([
      [ann, ["http://guarded/"], 200],
      [ann, [`http://${ip}:8080/`], 0],
      [stranger, [`http://${ip}:8080/`], 0],
      [stranger, ["http://guarded.shop/"], 0],
    ]);
  });
});

// ------------------------------------------------------------------------------------------------------------- attributes

describe("what a rule may ask for", () => {
  /** Each rule has a number, so that all are in one policy and only one is looked at. */
  const rows: readonly (readonly [
    what: string,
    rule: { from?: object; to?: object; when?: object[] },
    matching: readonly [PodName, ...string[]],
    others: readonly (readonly [PodName, ...string[]])[],
  ])[] = [
    ["an identity", { from: { principals: ["cluster.local/ns/shop/sa/ann"] } }, [ann], [[bob], [eve]]],
    ["the start of one", { from: { principals: ["cluster.local/ns/shop/*"] } }, [bob], [[eve]]],
    ["the end of one", { from: { principals: ["*/sa/ann"] } }, [ann], [[bob]]],
    ["not an identity", { from: { notPrincipals: ["cluster.local/ns/shop/sa/ann"] } }, [bob], [[ann]]],
    ["a namespace", { from: { namespaces: ["shop"] } }, [ann], [[eve]]],
    ["not a namespace", { from: { notNamespaces: ["sh*"] } }, [eve], [[ann]]],
    ["an account", { from: { serviceAccounts: ["bob", "other/eve"] } }, [eve], [[ann]]],
    ["a trust domain", { from: { trustDomains: ["cluster.local"] } }, [ann], []],
    ["another trust domain", { from: { notTrustDomains: ["elsewhere"] } }, [ann], []],
    ["methods", { to: { methods: ["PUT", "POST"] } }, [ann, "-X", "POST"], [[ann], [ann, "-X", "PATCH"]]],
    ["not a method", { to: { notMethods: ["GET"] } }, [ann, "-X", "DELETE"], [[ann]]],
    [
      "a path",
      { to: { paths: ["/exact"] } },
      [ann, "/exact?x=/other"],
      [
        [ann, "/exact/"],
        [ann, "/Exact"],
        [ann, "/x?/exact"],
      ],
    ],
    [
      "the end of a path",
      { to: { paths: ["*/end"] } },
      [ann, "/the/end"],
      [
        [ann, "/end/x"],
        [ann, "/x?/end"],
      ],
    ],
    [
      "the start of a path",
      { to: { paths: ["/pre*"] } },
      [ann, "/prefix/x"],
      [
        [ann, "/x/pre"],
        [ann, "/prefix/../x"],
      ],
    ],
    [
      "a template",
      { to: { paths: ["/t/{*}/x"] } },
      [ann, "/t/one/x"],
      [
        [ann, "/t/one/two/x"],
        [ann, "/t//x"],
      ],
    ],
    ["a template of any depth", { to: { paths: ["/u/{*}/{**}"] } }, [ann, "/u/a/b/c"], [[ann, "/v/a/b"]]],
    [
      "not a path",
      { to: { notPaths: ["/private*"] } },
      [ann, "/public"],
      [
        [ann, "/private"],
        [ann, "/x/../private"],
      ],
    ],
    [
      "a host",
      { to: { hosts: ["Shop.Test"] } },
      [ann, "-H", "Host: shop.TEST"],
      [[ann], [ann, "-H", "Host: shop.test:80"]],
    ],
    ["the end of a host", { to: { hosts: ["*.test"] } }, [ann, "-H", "Host: a.test"], [[ann, "-H", "Host: test"]]],
    ["a port of the service", { to: { ports: ["80"] } }, [ann], [[ann, "HTTP2"]]],
    [
      "a value of a header",
      { when: [header("x-who", ["a", "b"])] },
      [ann, "-H", "X-Who: b"],
      [[ann], [ann, "-H", "x-who: ab"]],
    ],
    ["a header at all", { when: [header("x-who", ["*"])] }, [ann, "-H", "x-who: z"], [[ann]]],
    ["not a value", { when: [header("x-who", undefined, ["a"])] }, [ann, "-H", "x-who: b"], [[ann, "-H", "x-who: a"]]],
    [
      "two headers",
      { when: [header("x-a", ["1"]), header("x-b", ["2*"])] },
      [ann, "-H", "x-a: 1", "-H", "x-b: 22"],
      [[ann, "-H", "x-a: 1"]],
    ],
    ["an audience", { when: [{ key: "request.auth.audiences", values: ["shop"] }] }, [ann, "TOKEN"], [[ann]]],
    ["a presenter", { when: [{ key: "request.auth.presenter", values: ["app"] }] }, [ann, "TOKEN"], [[ann]]],
    [
      "an issuer and subject",
      { from: { requestPrincipals: [`${issuer}/one`] } },
      [ann, "TOKEN"],
      [[ann], [ann, "OTHER"]],
    ],
    ["any subject", { from: { requestPrincipals: [`${issuer}/*`] } }, [ann, "OTHER"], [[ann]]],
    ["nobody proven", { from: { notRequestPrincipals: ["*"] } }, [ann], [[ann, "TOKEN"]]],
    ["a claim", { when: [claim("group", "staff")] }, [ann, "TOKEN"], [[ann], [ann, "OTHER"]]],
    ["an element of a list", { when: [claim("roles", "buyer")] }, [ann, "TOKEN"], [[ann, "OTHER"]]],
    ["a claim within", { when: [claim("org][unit", "books")] }, [ann, "TOKEN"], [[ann, "OTHER"]]],
    ["a word of a scope", { when: [claim("scope", "write")] }, [ann, "TOKEN"], [[ann, "OTHER"]]],
  ];
  function header(name: string, values?: string[], notValues?: string[]): object {
    return { key: `request.headers[${name}]`, ...(values && { values }), ...(notValues && { notValues }) };
  }
  function claim(path: string, value: string): object {
    return { key: `request.auth.claims[${path}]`, values: [value] };
  }
  let tokens: Readonly<Record<string, readonly string[]>>;

  beforeAll(async () => {
    tokens = {
      TOKEN: bearer(
        await token({
          aud: ["bar", "shop"],
          azp: "app",
          group: "staff",
          roles: ["reader", "buyer"],
          org: { unit: "books" },
          scope: "read write",
        }),
      ),
      OTHER: bearer(
        await token({ sub: "two", group: "guests", roles: ["reader"], org: { unit: "x" }, scope: "writer" }),
      ),
    };
    const annIp = await podIp(mesh.cluster, ann);
    const rules = [
      ...rows.map(([, rule], index) => ({
        ...(rule.from && { from: [{ source: rule.from }] }),
        ...(rule.to && { to: [{ operation: rule.to }] }),
        when: [...(rule.when ?? []), { key: "request.headers[x-row]", values: [String(index)] }],
      })),
      ...["ipBlocks", "remoteIpBlocks"].map((field) => ({
        from: [{ source: { [field]: [`${annIp}/32`] } }],
        when: [{ key: "request.headers[x-row]", values: [field] }],
      })),
    ];
    const of = (name: string, action: string) => [
      policy(name, { name }, { action, rules }),
      authentication(name, [{ issuer, jwks: keys.jwks, forwardOriginalToken: true }]),
    ];
    await mesh.cluster.apply(
      [front("allows"), front("denies"), documents(...of("allows", "ALLOW"), ...of("denies", "DENY"))].join("\n---\n"),
    );
    await expectStatuses([
      [ann, ["http://allows/"], 403],
      [ann, ["-H", "x-row: 0", "http://denies/"], 403],
    ]);
  }, 30_000);

  function args(service: string, row: string, given: readonly string[]): readonly string[] {
    const out = ["-H", `x-row: ${row}`];
    let url = `http://${service}.shop/`;
    for (const each of given) {
      if (each === "HTTP2") {
        url = `http://${service}.shop:8082/`;
        out.push("--http2-prior-knowledge");
      } else if (each.startsWith("/")) url = `http://${service}.shop${each}`;
      else out.push(...(tokens[each] ?? [each]));
    }
    return ["--path-as-is", ...out, url];
  }

  test(
    "ALLOW: what matches and nothing else",
    () =>
      expectStatuses(
        rows.flatMap(([, , [who, ...given], others], index): Row[] => [
          [who, args("allows", String(index), given), 200],
          ...others.map(([other, ...more]): Row => [other, args("allows", String(index), more), 403]),
        ]),
      ),
    60_000,
  );

  test(
    "DENY: what matches and nothing else",
    () =>
      expectStatuses(
        rows.flatMap(([, , [who, ...given], others], index): Row[] => [
          [who, args("denies", String(index), given), 403],
          ...others.map(([other, ...more]): Row => [other, args("denies", String(index), more), 200]),
        ]),
      ),
    60_000,
  );

  test("addresses are those of pods, whatever a header says", async () => {
    const annIp = await podIp(mesh.cluster, ann);
    const claimed = ["x-forwarded-for", "x-real-ip", "x-envoy-external-address"].flatMap((name) => [
      "-H",
      `${name}: ${annIp}`,
    ]);
    await expectStatuses(
      ["ipBlocks", "remoteIpBlocks"].flatMap((row): Row[] => [
        [ann, args("allows", row, []), 200],
        [bob, args("allows", row, []), 403],
        [bob, args("allows", row, claimed), 403],
        [ann, args("denies", row, []), 403],
        [ann, args("denies", row, ["-H", "x-forwarded-for: 8.8.8.8"]), 403],
        [bob, args("denies", row, claimed), 200],
      ]),
    );
  });
});

// -------------------------------------------------------------------------------------------------------------- semantics

describe("how policies work together", () => {
  beforeAll(async () => {
    const header = (name: string) => [{ when: [{ key: `request.headers[${name}]`, values: ["*"] }] }];
    const shut = { action: "DENY", rules: [{ to: [{ operation: { methods: ["GET"] } }] }] };
    await mesh.cluster.apply(
      [
        ...["mixed", "nothing", "watched", "dry", "explained", "wire", "changing"].map((name) => front(name)),
        documents(
          policy("mixed-allow", { name: "mixed" }, { rules: header("x-allow") }),
          policy("mixed-deny", { name: "mixed" }, { action: "DENY", rules: header("x-deny") }),
          policy("mixed-audit", { name: "mixed" }, { action: "AUDIT", rules: [{}] }),
          policy("nothing", { name: "nothing" }, {}),
          policy("watched", { name: "watched" }, { action: "AUDIT", rules: [{}] }),
          policy("dry", { name: "dry" }, shut, { annotations: { "istio.io/dry-run": "true" } }),
          policy(
            "explained",
            { name: "explained" },
            { action: "DENY", rules: header("x-deny") },
            { annotations: { "ambit.dev/explain-denials": "true" } },
          ),
          policy(
            "explained-allow",
            { name: "explained" },
            { rules: header("x-allow") },
            { annotations: { "ambit.dev/explain-denials": "true" } },
          ),
          policy(
            "wire",
            { name: "wire" },
            { action: "DENY", rules: [{ to: [{ operation: { paths: ["/secret"] } }] }] },
          ),
        ),
      ].join("\n---\n"),
    );
  });

  test("DENY before ALLOW; AUDIT refuses nothing; an ALLOW without rules refuses all; a dry run refuses none", () =>
    expectStatuses([
      [ann, ["http://mixed/"], 403],
      [ann, ["-H", "x-allow: 1", "http://mixed/"], 200],
      [ann, ["-H", "x-allow: 1", "-H", "x-deny: 1", "http://mixed/"], 403],
      [ann, ["http://nothing/"], 403],
      [ann, ["http://watched/"], 200],
      [ann, ["http://dry/"], 200],
    ]));

  test("a header tells policy and rule, where the policy is annotated so", async () => {
    await expectStatuses([[ann, ["-H", "x-deny: 1", "http://explained/"], 403]]);
    const denied = await curl(mesh.cluster, ann, "-H", "x-deny: 1", "http://explained/");
    expect(denied.headers.get("x-ambit-denied-by")?.[0]).toContain("shop/explained");
    const unallowed = await curl(mesh.cluster, ann, "http://explained/");
    expect(unallowed.headers.get("x-ambit-denied-by")?.[0]).toContain("shop/explained-allow");
  });

  test("the access log tells policy and rule of every refusal", async () => {
    await curl(mesh.cluster, ann, "-H", "x-deny: 1", "http://explained/logged");
    await curl(mesh.cluster, ann, "http://nothing/logged");
    const pods = await mesh.cluster.pods(namespace, "gateway.networking.k8s.io/gateway-name=waypoint");
    const logs = () => Promise.all(pods.map((pod) => mesh.cluster.logs(nameOf(pod))));
    const line = (...parts: readonly string[]) =>
      mesh.cluster.until(`a line with ${parts.join(" and ")}`, async () =>
        (await logs()).flatMap((text) => text.split("\n")).find((each) => parts.every((part) => each.includes(part))),
      );
    const denied = await line("/logged", "explained", "ns[shop]-policy[explained]-rule[0]");
    expect(denied).toContain("rbac_access_denied_matched_policy");
    expect(denied).toContain("403");
    expect(await line("/logged", "nothing", "rbac_access_denied_matched_policy")).toContain("[none]");
  });

  test("a rule about paths on a port that is not HTTP denies all of it", async () => {
    const talk = async (name: string) =>
      (
        await mesh.cluster.exec(ann, [
          "timeout",
          "15",
          "bash",
          "-c",
          `exec 3<>/dev/tcp/${name}/7000; echo hi >&3; head -1 <&3`,
        ])
      ).stdout;
    await expectStatuses([
      [ann, ["http://wire/secret"], 403],
      [ann, ["http://wire/"], 200],
    ]);
    expect(await talk("open")).toContain("hi");
    expect(await talk("wire")).toBe("");
  });

  test("a change takes force on connections that are there", async () => {
    await reaches("http://changing/");
    const program = `const http = require("http"); const agent = new http.Agent({ keepAlive: true, maxSockets: 1 }); let last;
      const go = () => { const sent = http.get({ host: "changing", agent }, (answer) => { answer.resume();
        answer.on("end", () => { console.log(answer.statusCode, sent.reusedSocket ? "kept" : "new");
          if (last === 403 && answer.statusCode === 200) process.exit(0);
          last = answer.statusCode; setTimeout(go, 50); }); });
        sent.on("error", (error) => { console.log(error.code); process.exit(1); }); }; go();`;
    const running = await mesh.cluster.start(ann, ["node", "-e", program]);
    await running.line((line) => line === "200 kept");
    await mesh.cluster.apply(documents(policy("changing", { name: "changing" }, { action: "DENY", rules: [{}] })));
    await running.line((line) => line === "403 kept");
    await mesh.cluster.delete("security.istio.io/v1", "AuthorizationPolicy", "changing", namespace);
    const { stdout } = await running.done;
    expect(stdout.trim().split("\n").at(-1)).toBe("200 kept");
    expect(stdout.match(/new/g)).toHaveLength(1);
  }, 40_000);
});

// ------------------------------------------------------------------------------------------------------------------ paths

describe("a path that is forbidden stays so, however it is written", () => {
  beforeAll(async () => {
    await mesh.cluster.apply(
      [
        front("walled"),
        documents(
          policy(
            "walled",
            { name: "walled" },
            {
              action: "DENY",
              rules: [{ to: [{ operation: { paths: ["/admin", "/admin/*", "/admin;*"] } }] }],
            },
          ),
        ),
      ].join("\n---\n"),
    );
    await expectStatuses([[ann, ["http://walled/admin"], 403]]);
  }, 30_000);

  const at = (path: string) => ["--path-as-is", "--request-target", path, "http://walled/"];

  test(
    "by normalisation as it is by default",
    () =>
      expectStatuses([
        ...[
          "/admin",
          "/admin?x",
          "/admin?",
          "/admin/x",
          "/admin/",
          "/x/../admin",
          "/./admin",
          "/admin/.",
          "/x/y/../../admin",
          "/%61dmin",
          "/a%64min",
          "/x/%2e%2e/admin",
          "/x/%2E./admin",
          "/%2e/admin",
          "/x\\..\\admin",
          "/admin;a=b",
          "/../admin",
          "/../../admin/x",
          "http://walled/admin",
          "http://elsewhere/x/../admin",
        ].map((path): Row => [ann, at(path), 403]),
        ...["/admin#x", "/admin%00", "/adm in", "admin", "/x/..%00/admin"].map((path): Row => [ann, at(path), 400]),
        // Other paths, of which a server may think otherwise: DECODE_AND_MERGE_SLASHES is for those.
        ...["/ADMIN", "/administrator", "//admin", "/x%2fadmin", "/admin%"].map((path): Row => [ann, at(path), 200]),
      ]),
    30_000,
  );

  test("with slashes decoded and merged, where the mesh is told to", async () => {
    await mesh.cluster.apply(meshConfig({ pathNormalization: { normalization: "DECODE_AND_MERGE_SLASHES" } }));
    await expectStatuses(
      [
        "//admin",
        "//x/..//admin",
        "/%2Fadmin",
        "/x%2f..%2fadmin",
        "/%5cadmin",
        "/admin%2Fx",
        "///admin///x",
        "/x/..%2Fadmin",
      ].map((path): Row => [ann, at(path), 403]),
    );
    await mesh.cluster.apply(meshConfig());
    await expectStatuses([[ann, at("//admin"), 200]]);
  }, 60_000);
});

// ----------------------------------------------------------------------------------------------------------------- tokens

describe("tokens", () => {
  const keyUri = `http://authorizer.auth.svc.cluster.local:${authorizerPorts.keys}/keys`;
  const services = ["fetched", "inline", "audience", "unavailable", "metadata", "required", "mapped"];

  beforeAll(async () => {
    const rule = { issuer, jwks: keys.jwks };
    await mesh.cluster.apply(
      [
        ...services.map((name) => front(name)),
        documents(
          authentication("fetched", [{ issuer, jwksUri: keyUri }]),
          authentication("inline", [rule]),
          authentication("audience", [{ ...rule, audiences: ["shop"] }]),
          authentication("unavailable", [{ issuer, jwksUri: "http://nobody.auth.svc.cluster.local:9000/keys" }]),
          authentication("metadata", [{ issuer, jwksUri: "http://169.254.169.254/latest/meta-data" }]),
          authentication("required", [rule]),
          policy(
            "required",
            { name: "required" },
            {
              action: "DENY",
              rules: [
                {
                  from: [{ source: { notRequestPrincipals: ["*"] } }],
                  to: [{ operation: { notPaths: ["/healthz"] } }],
                },
              ],
            },
          ),
          authentication("mapped", [
            {
              ...rule,
              fromHeaders: [{ name: "x-token", prefix: "Token " }],
              fromParams: ["token"],
              fromCookies: ["session"],
              outputPayloadToHeader: "x-payload",
              outputClaimToHeaders: [{ header: "x-subject", claim: "sub" }],
            },
          ]),
          {
            apiVersion: "networking.istio.io/v1",
            kind: "VirtualService",
            metadata: { name: "mapped", namespace },
            spec: {
              hosts: ["mapped"],
              http: [
                {
                  match: [{ headers: { "@request.auth.claims.group": { exact: "vip" } } }],
                  directResponse: { status: 207, body: { string: "for the few" } },
                },
                { route: [{ destination: { host: "mapped" } }] },
              ],
            },
          },
        ),
      ].join("\n---\n"),
    );
    await expectStatuses([
      ...services
        .filter((name) => name !== "mapped" && name !== "required")
        .map((name): Row => [ann, [...bearer("a.b.c"), `http://${name}/`], 401]),
      [ann, [...bearer(await token()), "http://fetched/"], 200],
    ]);
  }, 40_000);

  test("no token passes as nobody, a good one as somebody, any other not at all", async () => {
    const hmac = (text: string) =>
      new SignJWT({ iss: issuer, sub: "one" }).setProtectedHeader({ alg: "HS256", kid: "rsa" }).sign(Buffer.from(text));
    const good = await token();
    const [head = "", body = ""] = good.split(".");
    const bad: readonly string[] = [
      "not-a-token",
      `${head}.${body}.`,
      `${head}.${body}`,
      `${good}x`,
      await token({ exp: nowSeconds() - 3_600 }),
      await token({ nbf: nowSeconds() + 3_600 }),
      await token({ iss: "https://elsewhere.test" }),
      await token({}, { stray: true }),
      await token({}, { stray: true, kid: "rsa" }),
      await token({}, { kid: "unknown" }),
      await token({}, { alg: "ES256", kid: "rsa" }),
      new UnsecuredJWT({ iss: issuer, sub: "one" }).encode(),
      // The public key as a secret.
      await hmac(JSON.stringify(keys.publicKeys[0])),
      await hmac(keys.publicKeys[0]?.n ?? ""),
    ];
    await expectStatuses(
      ["inline", "fetched"].flatMap((name): Row[] => [
        [ann, [`http://${name}/`], 200],
        [ann, [...bearer(good), `http://${name}/`], 200],
        ...bad.map((text): Row => [ann, [...bearer(text), `http://${name}/`], 401]),
      ]),
    );
    await expectStatuses([
      [ann, [...bearer(await token({}, { kid: "rsa" })), "http://inline/"], 200],
      [ann, [...bearer(await token({}, { alg: "ES256", kid: "ec" })), "http://inline/"], 200],
      [ann, [`http://inline/?access_token=${good}`], 200],
      [ann, ["http://inline/?access_token=a.b.c"], 401],
      [
        ann,
        [
          ...bearer("a.b.c"),
          "-X",
          "OPTIONS",
          "-H",
          "Origin: http://x",
          "-H",
          "Access-Control-Request-Method: GET",
          "http://inline/",
        ],
        200,
      ],
      [ann, [...bearer("a.b.c"), "-X", "OPTIONS", "http://inline/"], 401],
    ]);
    const refused = await curl(mesh.cluster, ann, ...bearer(bad[4] ?? ""), "http://inline/");
    expect(refused.text).toBe("Jwt is expired");
    expect(refused.headers.get("www-authenticate")?.[0]).toMatch(
      /^Bearer realm="http:\/\/inline\/", error="invalid_token"$/,
    );
  }, 40_000);

  test("audiences, and where one is required", async () => {
    await expectStatuses([
      [ann, [...bearer(await token({ aud: "shop" })), "http://audience/"], 200],
      [ann, [...bearer(await token({ aud: ["x", "shop"] })), "http://audience/"], 200],
      [ann, [...bearer(await token({ aud: "shops" })), "http://audience/"], 403],
      [ann, [...bearer(await token()), "http://audience/"], 403],
      [ann, ["http://required/"], 403],
      [ann, ["http://required/healthz"], 200],
      [ann, [...bearer(await token()), "http://required/"], 200],
      [ann, [...bearer("a.b.c"), "http://required/"], 401],
    ]);
  });

  test("keys that cannot be had, or must not be asked for, let nobody in; who shows no token passes", async () => {
    await expectStatuses(["unavailable", "metadata"].flatMap((name): Row[] => [[ann, [`http://${name}/`], 200]]));
    const good = await token();
    await expectStatuses([
      [ann, [...bearer(good), "http://unavailable/"], 401],
      [ann, [...bearer(good), "http://metadata/"], 401],
    ]);
    const told = await mesh.cluster.until("a word about the address", async () => {
      const read = await mesh.cluster.get<Manifest & { status?: unknown }>(
        "security.istio.io/v1",
        "RequestAuthentication",
        "metadata",
        namespace,
      );
      const text = JSON.stringify(read.status ?? {});
      return text.includes("169.254.169.254") && text;
    });
    expect(told).toContain("is not fetched");
  });

  test("where it is looked for, what becomes of it, and routes by its claims", async () => {
    const good = await token({ group: "vip" });
    const plain = await token();
    await expectStatuses([
      [ann, ["-H", `x-token: Token ${plain}`, "http://mapped/"], 200],
      [ann, ["-H", `x-token: Token ${good}`, "http://mapped/"], 207],
      [ann, ["-b", `session=${good}`, "http://mapped/"], 207],
      [ann, [`http://mapped/?token=${good}`], 207],
    ]);
    const answer = await curl(
      mesh.cluster,
      ann,
      "-H",
      `x-token: Token ${plain}`,
      "-H",
      "x-subject: root",
      "-H",
      "x-payload: e30",
      "http://mapped/",
    );
    expect(answer.echo?.headers).toMatchObject({ "x-subject": "one" });
    expect(answer.echo?.headers["x-token"]).toBeUndefined();
    const payload = String(answer.echo?.headers["x-payload"]);
    expect(JSON.parse(Buffer.from(payload, "base64url").toString("utf8"))).toMatchObject({ sub: "one", iss: issuer });
    const bare = await curl(mesh.cluster, ann, "-H", "x-subject: root", "-H", "x-payload: e30", "http://mapped/");
    expect(bare.status).toBe(200);
    expect(bare.echo?.headers["x-subject"]).toBeUndefined();
    expect(bare.echo?.headers["x-payload"]).toBeUndefined();
  }, 30_000);
});

// ------------------------------------------------------------------------------------------------------------ authorizers

describe("an external authorizer", () => {
  const services = {
    grpc: "by-grpc",
    opened: "by-grpc-open",
    body: "by-grpc-body",
    gone: "gone",
    http: "by-http",
    undefined: "no-such-one",
  };

  beforeAll(async () => {
    await mesh.cluster.apply(
      [
        ...Object.keys(services).map((name) => front(`asks-${name}`)),
        documents(...Object.entries(services).map(([name, provider]) => custom(`asks-${name}`, provider))),
      ].join("\n---\n"),
    );
    await expectStatuses(
      Object.keys(services).map((name): Row => [
        ann,
        [`http://asks-${name}/`],
        { gone: 503, undefined: 403 }[name] ?? 401,
      ]),
    );
  }, 40_000);

  const asking = (what: string) => ["-H", `x-authz: ${what}`];

  test(
    "allows, refuses, fails and is late, over gRPC and over HTTP",
    () =>
      expectStatuses([
        ...["grpc", "http"].flatMap((name): Row[] => [
          [ann, [...asking("allow"), `http://asks-${name}/`], 200],
          [ann, [...asking("deny"), `http://asks-${name}/`], 401],
          [ann, [...asking("fail"), `http://asks-${name}/`], 403],
          [ann, [...asking("slow"), `http://asks-${name}/`], 403],
        ]),
        [ann, [...asking("fail"), "http://asks-opened/"], 200],
        [ann, [...asking("slow"), "http://asks-opened/"], 200],
        [ann, [...asking("deny"), "http://asks-opened/"], 401],
      ]),
    60_000,
  );

  test.each([
    ["grpc", undefined, /^principal=spiffe:\/\/cluster\.local\/ns\/shop\/sa\/ann method=GET path=\/b\?c /],
    ["http", "1", /^method=GET path=\/check\/b\?c host=asks-http names=(?!.*x-secret)/],
  ])("what it says reaches client and server as far as told (%s)", async (name, secret, told) => {
    const url = `http://asks-${name}/a/../b?c`;
    const own = ["-H", "x-secret: 1", "-H", "x-authorized: me"];
    const allowed = await curl(mesh.cluster, ann, ...asking("allow"), "--path-as-is", ...own, url);
    expect(allowed.status).toBe(200);
    expect(allowed.echo?.headers["x-authorized"]).toMatch(told);
    expect(allowed.echo?.headers["x-secret"]).toBe(secret);
    expect(allowed.headers.get("x-checked")).toEqual(["yes"]);
    expect(allowed.headers.has("x-other")).toBe(false);
    const denied = await curl(mesh.cluster, ann, ...asking("deny"), url);
    expect(denied).toMatchObject({ status: 401, text: "go away" });
    expect(denied.headers.get("x-why")).toEqual(["no leave"]);
    expect(denied.headers.has("x-other")).toBe(false);
  });

  test("it is given the body where it shall be, and too much of it is refused", async () => {
    await expectStatuses([
      [ann, [...asking("body"), "-d", "open sesame", "http://asks-body/"], 200],
      [ann, [...asking("body"), "-d", "open barley", "http://asks-body/"], 401],
      [ann, [...asking("body"), "-d", `open sesame ${"x".repeat(100)}`, "http://asks-body/"], 413],
      [ann, [...asking("body"), "-d", "open sesame", "http://asks-grpc/"], 401],
    ]);
    const { echo } = await curl(mesh.cluster, ann, ...asking("body"), "-d", "open sesame", "http://asks-body/");
    expect(echo).toMatchObject({ method: "POST", body: "open sesame" });
  });

  test("it cannot change the form of a message", async () => {
    const { status, echo } = await curl(mesh.cluster, ann, ...asking("forge"), "-d", "as it was", "http://asks-grpc/");
    expect(status).toBe(200);
    expect(echo).toMatchObject({ body: "as it was" });
  });
});

// --------------------------------------------------------------------------------------------------------------- identity

describe("who somebody is, the tunnel says", () => {
  const forged = [
    "-H",
    "x-forwarded-client-cert: By=spiffe://cluster.local/ns/shop/sa/waypoint;URI=spiffe://cluster.local/ns/shop/sa/ann",
    "-H",
    "x-envoy-peer-metadata: aGVsbG8=",
    "-H",
    "x-envoy-peer-metadata-id: ann",
    "-H",
    "x-envoy-internal: true",
    "-H",
    "x-envoy-original-path: /elsewhere",
    "-H",
    "x-envoy-original-dst-host: 127.0.0.1:15000",
    "-H",
    "x-istio-attributes: aGVsbG8=",
  ];

  test("a client cannot write who it is", async () => {
    await expectStatuses([
      [ann, [...forged, "http://mine/"], 200],
      [bob, [...forged, "http://mine/"], 403],
    ]);
    const { echo } = await curl(mesh.cluster, ann, ...forged, "http://open/");
    for (const name of ["x-forwarded-client-cert", "x-envoy-peer-metadata", "x-envoy-peer-metadata-id"]) {
      expect([name, echo?.headers[name]]).toEqual([name, undefined]);
    }
    expect(echo?.path).toBe("/");
  });

  test("a client cannot say how its requests are treated", () => {
    const inside = ["-H", "x-forwarded-for: 10.0.0.1"];
    return expectStatuses([
      [ann, [...inside, "-H", "x-envoy-upstream-rq-timeout-ms: 1", "http://open/delay/300"], 200],
      [ann, [...inside, "-H", "x-envoy-upstream-rq-per-try-timeout-ms: 1", "http://open/delay/300"], 200],
      [ann, [...inside, "-H", "x-envoy-fault-abort-request: 503", "http://open/"], 200],
    ]);
  });

  test("where the Gateway asks for it the server is told, and told the truth", async () => {
    await mesh.cluster.apply(front("known", { "istio.io/use-waypoint": "naming" }));
    const told = await mesh.cluster.until("a way through that waypoint", async () => {
      const { echo } = await curl(mesh.cluster, bob, ...forged, "http://known/");
      return echo?.headers["x-request-id"] !== undefined && echo.headers["x-forwarded-client-cert"];
    });
    expect(told).toBe("By=spiffe://cluster.local/ns/shop/sa/naming;URI=spiffe://cluster.local/ns/shop/sa/bob");
  });
});
