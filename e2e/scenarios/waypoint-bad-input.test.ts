/**
 * Mistakes in what a waypoint goes by: refused where they are written or told in the status, each with its field and a way
 * out; what was right before stays in force, and nobody else's service notices.
 */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Manifest, PodName } from "#e2e/support/cluster.ts";
import { ambient, namespaceManifest, startMesh, type Mesh } from "#e2e/support/mesh.ts";
import {
  callerPod,
  curl,
  documents,
  waypointGateway,
  waypointReady,
  webPod,
  webService,
} from "#e2e/support/web-mesh.ts";

let mesh: Mesh;
const namespace = "shop";
const caller: PodName = { namespace, name: "caller" };

const versions = {
  VirtualService: "networking.istio.io/v1",
  DestinationRule: "networking.istio.io/v1",
  ServiceEntry: "networking.istio.io/v1",
  AuthorizationPolicy: "security.istio.io/v1",
  RequestAuthentication: "security.istio.io/v1",
  PeerAuthentication: "security.istio.io/v1",
  HTTPRoute: "gateway.networking.k8s.io/v1",
} as const;
type Kind = keyof typeof versions;

const object = (kind: Kind, name: string, spec: unknown): Manifest => ({
  apiVersion: versions[kind],
  kind,
  metadata: { name, namespace },
  spec,
});
const apply = (kind: Kind, name: string, spec: unknown) => mesh.cluster.apply(documents(object(kind, name, spec)));
const remove = (kind: Kind, name: string) => mesh.cluster.delete(versions[kind], kind, name, namespace);

beforeAll(async () => {
  mesh = await startMesh("waypoint-bad-input");
  await mesh.cluster.apply(
    [
      namespaceManifest(namespace, { ...ambient, "istio.io/use-waypoint": "waypoint" }),
      waypointGateway("waypoint", namespace),
      callerPod("caller", namespace, "node-1"),
      webPod("web", { namespace, node: "node-2", labels: { tier: "web" } }),
      ...["reviews", "ratings", "quiet"].map((name) => webService(name, namespace, { app: "web" })),
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady(namespace, 2);
  await waypointReady(mesh.cluster, namespace);
  for (const name of ["reviews", "ratings", "quiet"]) {
    await mesh.cluster.until(`a way to ${name}`, async () =>
      Boolean((await curl(mesh.cluster, caller, `http://${name}/`)).echo?.headers["x-request-id"]),
    );
  }
}, 120_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

// --------------------------------------------------------------------------------------------------------- the catalogue

const to = { route: [{ destination: { host: "quiet" } }] };
const vs = (http: object | undefined, more: object = {}) => ({
  hosts: ["quiet"],
  ...(http === undefined ? {} : { http: [http] }),
  ...more,
});
const dr = (trafficPolicy: object) => ({ host: "quiet", trafficPolicy });
const balancer = (loadBalancer: object) => dr({ loadBalancer });
const target = [{ group: "", kind: "Service", name: "quiet" }];
const ap = (rule: object, more: object = {}) => ({ targetRefs: target, rules: [rule], ...more });
const jwt = (rule: object) => ({ targetRefs: target, jwtRules: [rule] });
const hr = (rule: object) => ({
  parentRefs: [{ group: "", kind: "Service", name: "quiet" }],
  rules: [{ backendRefs: [{ name: "quiet", port: 80 }], ...rule }],
});
const http = (number: number) => [{ number, name: "http", protocol: "HTTP" }];
const keys = '{"keys":[]}';

// prettier-ignore
const mistakes: readonly (readonly [what: string, kind: Kind, spec: object, ...told: string[]])[] = [
  ["no routes",                        "VirtualService", vs(undefined), "spec", "http, tcp or tls"],
  ["every host in the mesh",           "VirtualService", vs(to, { hosts: ["*"] }), 'spec.hosts[0]: "*"', "name the service"],
  ["hosts that cover each other",      "VirtualService", vs(to, { hosts: ["*.a.com", "b.a.com"] }), "spec.hosts[1]", "cover the same names"],
  ["nothing to do",                    "VirtualService", vs({ match: [{ uri: { prefix: "/" } }] }), "spec.http[0]", "set one of route, redirect, directResponse"],
  ["two things to do",                 "VirtualService", vs({ ...to, redirect: { uri: "/a" } }), "spec.http[0]: route and redirect are exclusive"],
  ["a fault in a redirect",            "VirtualService", vs({ redirect: { uri: "/" }, fault: { abort: { httpStatus: 500, percentage: { value: 1 } } } }), "spec.http[0].fault: has no effect with redirect"],
  ["mirror and mirrors",               "VirtualService", vs({ ...to, mirror: { host: "a" }, mirrors: [{ destination: { host: "a" } }] }), "spec.http[0].mirror", "use mirrors only"],
  ["an empty prefix",                  "VirtualService", vs({ ...to, match: [{ method: { prefix: "" } }] }), "spec.http[0].match[0].method.prefix: must not be empty"],
  ["an expression that is not RE2",    "VirtualService", vs({ ...to, match: [{ uri: { regex: "(?=a)" } }] }), "spec.http[0].match[0].uri.regex", "is not RE2"],
  ["an expression too long",           "VirtualService", vs({ ...to, match: [{ uri: { regex: "a".repeat(1_100) } }] }), "spec.http[0].match[0].uri.regex", "1024"],
  ["weights of zero",                  "VirtualService", vs({ route: ["a", "b"].map((host) => ({ destination: { host }, weight: 0 })) }), "spec.http[0].route: total weight is 0 with 2 destinations"],
  ["retries that are none",            "VirtualService", vs({ ...to, retries: { attempts: 0, retryOn: "5xx" } }), "spec.http[0].retries: attempts 0 disables retries: remove retryOn"],
  ["a condition in capitals",          "VirtualService", vs({ ...to, retries: { attempts: 1, retryOn: "5XX" } }), 'unknown condition "5XX": did you mean "5xx"?'],
  ["a space between conditions",       "VirtualService", vs({ ...to, retries: { attempts: 1, retryOn: "5xx, reset" } }), "write no spaces"],
  ["a fault for nobody",               "VirtualService", vs({ ...to, fault: { delay: { fixedDelay: "1s" } } }), "spec.http[0].fault.delay: has no percentage: nothing will happen"],
  ["a route that is never reached",    "VirtualService", vs(to, { http: [to, { match: [{ uri: { prefix: "/a" } }], ...to }] }), "spec.http[1]: is never reached: http[0] has no match"],
  ["what waypoints do not look at",    "VirtualService", vs({ ...to, match: [{ sourceLabels: { a: "b" } }] }), "spec.http[0].match[0].sourceLabels: is not supported at waypoints"],
  ["an unknown subset",                "VirtualService", vs({ route: [{ destination: { host: "quiet", subset: "v3" } }] }), 'subset: "v3" is not defined by any DestinationRule'],
  ["a length set by hand",             "VirtualService", vs({ ...to, headers: { request: { set: { "Content-Length": "5" } } } }), "headers.request.set.Content-Length", "belongs to the connection"],
  ["a coding added by hand",           "VirtualService", vs({ ...to, headers: { response: { add: { "transfer-encoding": "chunked" } } } }), "headers.response.add.transfer-encoding", "belongs to the connection"],
  ["the host of an answer",            "VirtualService", vs({ ...to, headers: { response: { set: { host: "a" } } } }), "headers.response.set.host", "cannot be changed so"],
  ["the path as a header",             "VirtualService", vs({ ...to, headers: { request: { set: { ":path": "/" } } } }), ":path", "cannot be changed so"],
  ["a line break in a header",         "VirtualService", vs({ ...to, headers: { request: { set: { x: "a\r\nb: c" } } } }), "headers.request.set.x", "control character"],
  ["a substitution that is none",      "VirtualService", vs({ ...to, headers: { request: { set: { x: "%NOTHING%" } } } }), "%NOTHING%", "stands for nothing"],
  ["an empty policy",                  "DestinationRule", dr({}), "spec.trafficPolicy: is empty"],
  ["one subset twice",                 "DestinationRule", { host: "quiet", subsets: [{ name: "v1" }, { name: "v1" }] }, 'spec.subsets[1].name: "v1" repeats that of entry 0'],
  ["a table that is not prime",        "DestinationRule", balancer({ consistentHash: { httpHeaderName: "x", maglev: { tableSize: 65_536 } } }), "maglev.tableSize: 65536 is not a prime", "65537"],
  ["shares that are not all",          "DestinationRule", balancer({ localityLbSetting: { distribute: [{ from: "a/*", to: { "a/*": 90 } }] } }), "localityLbSetting.distribute[0].to: sums to 90: must be 100"],
  ["failover without reason",          "DestinationRule", balancer({ localityLbSetting: { failover: [{ from: "a", to: "b" }] } }), "failover without outlierDetection"],
  ["TLS without a certificate",        "DestinationRule", dr({ tls: { mode: "MUTUAL" } }), "spec.trafficPolicy.tls: mode MUTUAL has no certificate", "credentialName"],
  ["TLS that the mesh does anyway",    "DestinationRule", dr({ tls: { mode: "ISTIO_MUTUAL" } }), "spec.trafficPolicy.tls: mode ISTIO_MUTUAL has no effect"],
  ["settings lost for a port",         "DestinationRule", dr({ outlierDetection: { interval: "1s" }, portLevelSettings: [{ port: { number: 80 }, loadBalancer: { simple: "RANDOM" } }] }), "portLevelSettings[0]: replaces outlierDetection of the whole policy for port 80"],
  ["one name to be looked up",         "ServiceEntry", { hosts: ["api.example.com"], resolution: "DYNAMIC_DNS", ports: http(80) }, 'DYNAMIC_DNS hosts must be wildcards: "api.example.com" is not'],
  ["endpoints that are not asked for", "ServiceEntry", { hosts: ["api.example.com"], resolution: "NONE", ports: http(80), endpoints: [{ address: "1.2.3.4" }] }, "resolution NONE takes no endpoints"],
  ["a denial of nothing",              "AuthorizationPolicy", { targetRefs: target, action: "DENY" }, "without rules never matches"],
  ["an empty source",                  "AuthorizationPolicy", ap({ from: [{ source: { namespaces: ["a"] } }, { source: {} }] }), "spec.rules[0].from[1].source"],
  ["an unknown condition",             "AuthorizationPolicy", ap({ when: [{ key: "request.header[x]", values: ["a"] }] }), 'unknown condition key "request.header[x]": did you mean "request.headers[x]"?'],
  ["a condition without values",       "AuthorizationPolicy", ap({ when: [{ key: "source.ip" }] }), "spec.rules[0].when[0]", "values"],
  ["a provider for nobody",            "AuthorizationPolicy", ap({}, { provider: { name: "x" } }), "provider", "is only valid with action CUSTOM"],
  ["a provider that there is not",     "AuthorizationPolicy", ap({}, { action: "CUSTOM", provider: { name: "nobody" } }), 'no extension provider "nobody"'],
  ["a trust domain with two stars",    "AuthorizationPolicy", ap({ from: [{ source: { trustDomains: ["a*b*"] } }] }), "trustDomains[0]", "more than one wildcard"],
  ["a template that goes on",          "AuthorizationPolicy", ap({ to: [{ operation: { paths: ["/a/{**}/b"] } }] }), "paths[0]", "is not a path template"],
  ["identities for an authorizer",     "AuthorizationPolicy", ap({ from: [{ source: { requestPrincipals: ["a/b"] } }] }, { action: "CUSTOM", provider: { name: "x" } }), "requestPrincipals: is not known yet"],
  ["requests at the node proxy",       "AuthorizationPolicy", { selector: { matchLabels: { app: "nobody" } }, rules: [{ to: [{ operation: { paths: ["/a"] } }] }] }, "paths", "waypoint"],
  ["a target that is none",            "AuthorizationPolicy", { targetRefs: [{ group: "apps", kind: "Deployment", name: "a" }], rules: [{}] }, 'spec.targetRefs[0]: kind "Deployment"'],
  ["a target elsewhere",               "AuthorizationPolicy", { targetRefs: [{ ...target[0], namespace: "other" }], rules: [{}] }, "spec.targetRefs[0].namespace"],
  ["a target that there is not",       "AuthorizationPolicy", { targetRefs: [{ ...target[0], name: "nobody" }], rules: [{}] }, "nobody", "TargetNotFound"],
  ["nobody's tokens",                  "RequestAuthentication", jwt({ jwks: keys }), "spec.jwtRules[0]: has neither issuer nor jwksUri"],
  ["keys twice",                       "RequestAuthentication", jwt({ issuer: "a", jwks: keys, jwksUri: "https://a/b" }), "spec.jwtRules[0].jwksUri", "keep one of them"],
  ["keys that are none",               "RequestAuthentication", jwt({ issuer: "a", jwks: "x" }), "spec.jwtRules[0].jwks: is not a JSON Web Key Set"],
  ["a claim as a length",              "RequestAuthentication", jwt({ issuer: "a", jwks: keys, outputClaimToHeaders: [{ header: "Content-Length", claim: "a" }] }), "outputClaimToHeaders[0].header", "belongs to the connection"],
  ["ports of nobody",                  "PeerAuthentication", { portLevelMtls: { 80: { mode: "STRICT" } } }, "portLevelMtls", "selector.matchLabels"],
  ["a redirect that is rewritten",     "HTTPRoute", { ...hr({}), rules: [{ filters: [{ type: "RequestRedirect", requestRedirect: { port: 1 } }, { type: "URLRewrite", urlRewrite: { hostname: "a.b" } }] }] }, "RequestRedirect and URLRewrite cannot be combined"],
  ["a prefix that is not matched",     "HTTPRoute", hr({ matches: [{ path: { type: "Exact", value: "/a" } }], filters: [{ type: "URLRewrite", urlRewrite: { path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/a" } } }] }), "ReplacePrefixMatch requires exactly one PathPrefix match"],
  ["a part longer than the whole",     "HTTPRoute", hr({ timeouts: { request: "3s", backendRequest: "5s" } }), "backendRequest", "request"],
  ["a path with two slashes",          "HTTPRoute", hr({ matches: [{ path: { type: "PathPrefix", value: "/a//b" } }] }), "matches[0].path"],
  ["a coding set by a filter",         "HTTPRoute", hr({ filters: [{ type: "RequestHeaderModifier", requestHeaderModifier: { set: [{ name: "Transfer-Encoding", value: "chunked" }] } }] }), "requestHeaderModifier.set[0].name", "belongs to the connection"],
];

describe("each mistake is told, with its place", () => {
  const refusals = new Map<string, string>();
  const nameOf = (index: number) => `mistake-${index}`;

  beforeAll(async () => {
    for (const [index, [, kind, spec]] of mistakes.entries()) {
      await apply(kind, nameOf(index), spec).catch((error: unknown) => {
        refusals.set(nameOf(index), (error as { body?: string }).body ?? String(error));
      });
    }
  }, 60_000);

  afterAll(async () => {
    for (const [index, [, kind]] of mistakes.entries()) await remove(kind, nameOf(index));
  }, 60_000);

  test.each(mistakes.map(([what, kind, , ...told], index) => [what, kind, index, told] as const))(
    "%s (%s)",
    async (_what, kind, index, told) => {
      const name = nameOf(index);
      let said = "";
      const isTold = async () => {
        said =
          refusals.get(name) ??
          JSON.stringify((await mesh.cluster.get<Manifest>(versions[kind], kind, name, namespace))["status"] ?? {});
        said = said.replaceAll(/\\+"/g, '"');
        return told.every((text) => said.includes(text));
      };
      await mesh.cluster.until("the status", isTold, 5_000).catch(() => undefined);
      for (const text of told) expect(said).toContain(text);
    },
  );

  test("and none of them does harm", async () => {
    for (const name of ["reviews", "ratings"]) {
      expect((await curl(mesh.cluster, caller, `http://${name}/`)).status).toBe(200);
    }
  });
});

// ------------------------------------------------------------------------------------------------------- the last good one

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly message: string;
}

const complaint = (kind: Kind, name: string) =>
  mesh.cluster.until(`a complaint about ${kind} ${name}`, async () => {
    const read = await mesh.cluster.get<
      Manifest & { readonly status?: { readonly conditions?: readonly Condition[] } }
    >(versions[kind], kind, name, namespace);
    const found = read.status?.conditions?.find(({ type }) => type === "ambit.dev/Valid");
    return found?.status === "False" ? found.message : undefined;
  });

const answers = async (url: string): Promise<string> => {
  const { status, echo } = await curl(mesh.cluster, caller, url);
  return `${status} ${String(echo?.headers["x-mark"] ?? "-")}`;
};
const expectAnswer = (url: string, wanted: string) =>
  mesh.cluster.until(`${wanted} from ${url}`, async () => (await answers(url)) === wanted);

/** Whatever was applied before has arrived by the time that this has. */
let marks = 0;
async function settled(): Promise<void> {
  const mark = `mark-${++marks}`;
  await apply("VirtualService", "ratings", {
    hosts: ["ratings"],
    http: [{ headers: { request: { set: { "x-mark": mark } } }, route: [{ destination: { host: "ratings" } }] }],
  });
  await expectAnswer("http://ratings/", `200 ${mark}`);
}

describe("a mistake leaves in force what was right, and other services alone", () => {
  const route = (more: object) => ({
    hosts: ["reviews"],
    http: [{ ...more, route: [{ destination: { host: "reviews" } }] }],
  });
  const marked = route({ headers: { request: { set: { "x-mark": "one" } } } });

  test.each<[string, object]>([
    ["an expression that is none", route({ match: [{ uri: { regex: "(" } }] })],
    ["a header that cuts messages", route({ headers: { request: { set: { "content-length": "1" } } } })],
    ["nothing to do", { hosts: ["reviews"], http: [{ match: [{ uri: { prefix: "/" } }] }] }],
    ["a loop of unknown words", route({ retries: { attempts: 1, retryOn: "always" } })],
  ])("VirtualService: %s", async (_what, wrong) => {
    await apply("VirtualService", "reviews", marked);
    await expectAnswer("http://reviews/", "200 one");
    await apply("VirtualService", "reviews", wrong);
    expect(await complaint("VirtualService", "reviews")).toContain(
      "The version before, which was valid, stays in force",
    );
    await settled();
    expect(await answers("http://reviews/")).toBe("200 one");
  });

  test("VirtualService: what is mended takes force, what is removed goes", async () => {
    await apply("VirtualService", "reviews", route({ headers: { request: { set: { "x-mark": "two" } } } }));
    await expectAnswer("http://reviews/", "200 two");
    await remove("VirtualService", "reviews");
    await expectAnswer("http://reviews/", "200 -");
  });

  test("DestinationRule", async () => {
    await apply("DestinationRule", "reviews", { host: "reviews", subsets: [{ name: "web", labels: { tier: "web" } }] });
    const toSubset = { route: [{ destination: { host: "reviews", subset: "web" } }] };
    await apply("VirtualService", "reviews", {
      hosts: ["reviews"],
      http: [{ headers: { request: { set: { "x-mark": "subset" } } }, ...toSubset }],
    });
    await expectAnswer("http://reviews/", "200 subset");
    await apply("DestinationRule", "reviews", {
      host: "reviews",
      subsets: [{ name: "web", labels: { tier: "none" } }],
      trafficPolicy: { loadBalancer: { consistentHash: {} } },
    });
    expect(await complaint("DestinationRule", "reviews")).toContain("has no key");
    await settled();
    expect(await answers("http://reviews/")).toBe("200 subset");
    await remove("VirtualService", "reviews");
    await remove("DestinationRule", "reviews");
  });

  test.each<[string, object]>([
    ["a bad trust domain", ap({ from: [{ source: { trustDomains: ["a*b*"] } }] }, { action: "DENY" })],
    ["an unknown key", ap({ when: [{ key: "request.cookies[a]", values: ["b"] }] }, { action: "DENY" })],
    ["a bad template", ap({ to: [{ operation: { paths: ["/{*"] } }] }, { action: "DENY" })],
  ])("AuthorizationPolicy: a denial outlives %s", async (_what, wrong) => {
    const at = { targetRefs: [{ group: "", kind: "Service", name: "reviews" }] };
    await apply("AuthorizationPolicy", "wall", {
      ...at,
      action: "DENY",
      rules: [{ to: [{ operation: { paths: ["/secret"] } }] }],
    });
    await expectAnswer("http://reviews/secret", "403 -");
    await apply("AuthorizationPolicy", "wall", { ...wrong, ...at });
    expect(await complaint("AuthorizationPolicy", "wall")).toContain("stays in force");
    await settled();
    expect(await answers("http://reviews/secret")).toBe("403 -");
    expect(await answers("http://reviews/")).toBe("200 -");
    await remove("AuthorizationPolicy", "wall");
    await expectAnswer("http://reviews/secret", "200 -");
  });

  test("RequestAuthentication: tokens are checked as before", async () => {
    const at = { targetRefs: [{ group: "", kind: "Service", name: "reviews" }] };
    await apply("RequestAuthentication", "tokens", { ...at, jwtRules: [{ issuer: "a", jwks: keys }] });
    const status = async () =>
      (await curl(mesh.cluster, caller, "-H", "Authorization: Bearer a.b.c", "http://reviews/")).status;
    await mesh.cluster.until("401", async () => (await status()) === 401);
    await apply("RequestAuthentication", "tokens", { ...at, jwtRules: [{ issuer: "a", jwks: "{" }] });
    expect(await complaint("RequestAuthentication", "tokens")).toContain("stays in force");
    await settled();
    expect(await status()).toBe(401);
    await remove("RequestAuthentication", "tokens");
    await mesh.cluster.until("200", async () => (await status()) === 200);
  });

  test("nothing has restarted", async () => {
    const pods = [...(await mesh.cluster.pods("istio-system")), ...(await mesh.cluster.pods(namespace))];
    const restarts = pods.flatMap(({ status }) => status?.containerStatuses?.map((each) => each.restartCount) ?? []);
    expect(new Set(restarts)).toEqual(new Set([0]));
  });
});
