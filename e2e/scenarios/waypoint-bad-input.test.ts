/**
 * Mistakes in what a waypoint goes by: refused or warned of where they are written, and told in the status, each with its
 * field and a way out; what was right before stays in force, and nobody else's service notices.
 */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Manifest, PodName } from "#e2e/support/cluster.ts";
import {
  ap,
  keys,
  mistakes,
  versions,
  type Layer,
  type MistakenKind,
} from "#controlplane/admission/testing/catalogue.ts";
import { ambient, namespaceManifest, startMesh, type Mesh } from "#e2e/support/mesh.ts";
import { withoutWebhook, write, type Written } from "#e2e/support/written.ts";
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

const object = (kind: MistakenKind, name: string, spec: unknown): Manifest => ({
  apiVersion: versions[kind],
  kind,
  metadata: { name, namespace },
  spec,
});
const apply = (kind: MistakenKind, name: string, spec: unknown) =>
  mesh.cluster.apply(documents(object(kind, name, spec)));
const remove = (kind: MistakenKind, name: string) => mesh.cluster.delete(versions[kind], kind, name, namespace);

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

describe("each mistake is told while it is written, with its place", () => {
  const answers = new Map<string, Written>();
  const nameOf = (index: number) => `mistake-${index}`;

  beforeAll(async () => {
    for (const [index, { kind, spec }] of mistakes.entries()) {
      answers.set(nameOf(index), await write(mesh.cluster, object(kind, nameOf(index), spec)));
    }
  }, 60_000);

  afterAll(async () => {
    for (const [index, { kind }] of mistakes.entries()) await remove(kind, nameOf(index));
  }, 60_000);

  const layerOf = ({ refusal }: Written): Layer => {
    if (refusal === "") return "warned";
    return /^admission webhook "([a-z-]+\.)?validation\.istio\.io" denied the request: /.test(refusal)
      ? "refused"
      : "schema";
  };

  test.each(mistakes.map((mistake, index) => [mistake.code, mistake.what, nameOf(index), mistake] as const))(
    "%s %s",
    (_code, _what, name, { layer, told }) => {
      const written = answers.get(name) ?? { refusal: "", warnings: [] };
      const said = layer === "warned" ? written.warnings.join("\n") : written.refusal;
      for (const text of told) expect(said.replaceAll('\\"', '"')).toContain(text);
      expect(layerOf(written)).toBe(layer);
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

const complaint = (kind: MistakenKind, name: string) =>
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

describe("without the webhook, a mistake leaves in force what was right, and other services alone", () => {
  beforeAll(() => withoutWebhook(mesh.cluster));

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
