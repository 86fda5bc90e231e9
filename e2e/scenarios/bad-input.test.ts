/**
 * Mistakes, written as users write them: through the API server, with kubectl and without. What a schema can know is refused
 * at once; the rest is told in a condition, all of it together, and takes nothing out of force.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { request, type RequestOptions } from "node:https";
import process from "node:process";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { CustomObjectsApi, KubeConfig } from "@kubernetes/client-node";
import type { Outcome } from "#e2e/support/client.ts";
import type { Manifest } from "#e2e/support/cluster.ts";
import { ambient, namespaceManifest, peerManifest, startMesh, talk, type Mesh } from "#e2e/support/mesh.ts";
import { withoutWebhook } from "#e2e/support/written.ts";
import { findKubectl, KubectlDriver } from "./kubectl/kubectl-driver.ts";

const kinds = {
  AuthorizationPolicy: { apiVersion: "security.istio.io/v1", plural: "authorizationpolicies" },
  PeerAuthentication: { apiVersion: "security.istio.io/v1", plural: "peerauthentications" },
  ServiceEntry: { apiVersion: "networking.istio.io/v1", plural: "serviceentries" },
} as const;
type Kind = keyof typeof kinds;

const namespace = "shop";
const friend = { namespace, name: "friend" };
const foe = { namespace, name: "foe" };

let mesh: Mesh;

beforeAll(async () => {
  mesh = await startMesh("bad-input");
  if (!("missing" in found)) kubectl = new KubectlDriver(found, readFileSync(mesh.kubeconfig, "utf8"));
  await mesh.cluster.apply(
    [
      namespaceManifest(namespace, ambient),
      peerManifest("friend", { namespace, node: "node-1" }),
      peerManifest("foe", { namespace, node: "node-1" }),
      peerManifest("server", { namespace, node: "node-2", service: "cluster-ip" }),
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady(namespace, 3);
  await mesh.cluster.captured(namespace, true);
  await settled({ friend: true, foe: true });
}, 90_000);

afterAll(async () => {
  await kubectl?.close();
  await mesh?.[Symbol.asyncDispose]();
}, 30_000);

const reaches = async (caller: typeof friend): Promise<boolean> =>
  (await talk<Outcome>(mesh.cluster, caller, "echo", "--host", "server")).ok;

async function settled(wanted: { readonly friend: boolean; readonly foe: boolean }): Promise<void> {
  await mesh.cluster.until(
    `callers ${JSON.stringify(wanted)}`,
    async () => (await reaches(friend)) === wanted.friend && (await reaches(foe)) === wanted.foe,
  );
}

const object = (kind: Kind, spec: unknown, name = "subject") => ({
  apiVersion: kinds[kind].apiVersion,
  kind,
  metadata: { name, namespace },
  spec,
});

/** Creates it as a program does that asks for strictness; the refusal, or undefined. */
async function create(kind: Kind, spec: unknown): Promise<string | undefined> {
  const config = new KubeConfig();
  config.loadFromFile(mesh.kubeconfig);
  const { apiVersion, plural } = kinds[kind];
  const [group = "", version = ""] = apiVersion.split("/");
  try {
    const body = object(kind, spec);
    await config
      .makeApiClient(CustomObjectsApi)
      .createNamespacedCustomObject({ group, version, namespace, plural, body, fieldValidation: "Strict" });
    return undefined;
  } catch (error) {
    return (JSON.parse((error as { body: string }).body) as { message: string }).message;
  }
}

/** Sends text as it is, which a client library would not. */
async function serverSideApply(kind: Kind, text: string): Promise<{ status: number | undefined; text: string }> {
  const config = new KubeConfig();
  config.loadFromFile(mesh.kubeconfig);
  const { apiVersion, plural } = kinds[kind];
  const url = `${config.getCurrentCluster()?.server}/apis/${apiVersion}/namespaces/${namespace}/${plural}/subject?fieldManager=test`;
  const options: RequestOptions = { method: "PATCH", headers: { "content-type": "application/apply-patch+yaml" } };
  await config.applyToHTTPSOptions(options);
  const sent = request(url, options).end(text);
  const [answer] = (await once(sent, "response")) as [IncomingMessage];
  let body = "";
  for await (const chunk of answer) body += String(chunk);
  return { status: answer.statusCode, text: body };
}

const found = findKubectl();
if ("missing" in found) {
  process.stderr.write(`\n### bad-input.test.ts: ${found.missing}: what it says is NOT LOOKED AT ###\n\n`);
}
let kubectl: KubectlDriver | undefined;

const rules = (rule: unknown) => ({ rules: [rule] });
const from = (source: unknown) => rules({ from: [{ source }] });
const to = (operation: unknown) => rules({ to: [{ operation }] });

describe("what a schema knows is refused where it is written", () => {
  test.each<[string, Kind, unknown, readonly string[]]>([
    ["an unknown field", "AuthorizationPolicy", { rulez: [] }, ["strict decoding error", '"spec.rulez"']],
    [
      "unknown fields, deep and several",
      "AuthorizationPolicy",
      { ...from({ principal: ["a"] }), selektor: {} },
      ['"spec.rules[0].from[0].source.principal"', '"spec.selektor"'],
    ],
    ["a list that is a text", "AuthorizationPolicy", { rules: "all" }, ["spec.rules", "array"]],
    ["a number for a text", "AuthorizationPolicy", to({ ports: [80] }), ["spec.rules[0].to[0].operation.ports[0]"]],
    ["an unknown action", "AuthorizationPolicy", { action: "Deny" }, ["spec.action", '"Deny"', '"DENY"']],
    [
      "addresses that are none",
      "AuthorizationPolicy",
      from({ ipBlocks: ["10.0.0.0/99", "localhost"] }),
      ["spec.rules[0].from[0].source.ipBlocks[0]", "spec.rules[0].from[0].source.ipBlocks[1]"],
    ],
    ["a port that is none", "AuthorizationPolicy", to({ ports: ["http"] }), ["spec.rules[0].to[0].operation.ports[0]"]],
    ["an unknown mode", "PeerAuthentication", { mtls: { mode: "strict" } }, ["spec.mtls.mode", '"STRICT"']],
    ["a mode that is a flag", "PeerAuthentication", { mtls: true }, ["spec.mtls", "object"]],
    ["no hosts", "ServiceEntry", { ports: [{ number: 80, name: "http" }] }, ["spec.hosts"]],
    [
      "a port out of range, and an unknown resolution",
      "ServiceEntry",
      { hosts: ["a.example.com"], ports: [{ number: 70_000, name: "http" }], resolution: "static" },
      ["spec.ports[0].number", "spec.resolution", '"STATIC"'],
    ],
  ])("%s", async (_why, kind, spec, told) => {
    const refusal = (await create(kind, spec)) ?? "it was taken";
    for (const text of told) expect(refusal).toContain(text);
    if (kubectl === undefined) return;
    const said = await kubectl.run(["apply", "-f", "-"], { stdin: JSON.stringify(object(kind, spec)) });
    expect(said.code).toBe(1);
    for (const text of told) expect(said.stderr.replaceAll('\\"', '"')).toContain(text);
  });

  test("YAML that is none", async () => {
    const malformed = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: x\nspec: [\n";
    const answer = await serverSideApply("AuthorizationPolicy", malformed);
    expect(answer.status).toBe(400);
    expect(answer.text).toMatch(/yaml: .*line 4/u);
    if (kubectl === undefined) return;
    const said = await kubectl.run(["apply", "-f", "-"], { stdin: malformed });
    expect(said).toMatchObject({ code: 1, stderr: expect.stringContaining("yaml: line") as unknown });
  });
});

interface Told {
  readonly conditions?: readonly {
    readonly type: string;
    readonly status: string;
    readonly reason: string;
    readonly message: string;
    readonly observedGeneration?: number | string;
  }[];
}

async function conditionOf(kind: Kind, name: string, type: string) {
  const read = await mesh.cluster.get<Manifest & { status?: Told }>(kinds[kind].apiVersion, kind, name, namespace);
  return read.status?.conditions?.find((condition) => condition.type === type);
}

const invalid = (kind: Kind, name = "subject") =>
  mesh.cluster.until(`${kind} ${name} to be called invalid`, async () => {
    const condition = await conditionOf(kind, name, "ambit.dev/Valid");
    return condition?.status === "False" ? condition : undefined;
  });

const remove = (kind: Kind, name = "subject") => mesh.cluster.delete(kinds[kind].apiVersion, kind, name, namespace);

const service = { group: "", kind: "Service", name: "server" };
const labels = { matchLabels: { app: "server" } };

describe("rules between fields are refused by the API server or the webhook", () => {
  test.each<[string, Kind, unknown, readonly string[]]>([
    [
      "attached in two ways",
      "AuthorizationPolicy",
      { selector: labels, targetRefs: [service], ...from({ namespaces: ["a"] }) },
      ["selector", "targetRefs"],
    ],
    ["DENY of nothing", "AuthorizationPolicy", { action: "DENY" }, ["without rules", "add the rule"]],
    [
      "modes of ports of nobody",
      "PeerAuthentication",
      { portLevelMtls: { "7000": { mode: "STRICT" } } },
      ["portLevelMtls", "selector.matchLabels"],
    ],
  ])("%s", async (_why, kind, spec, told) => {
    const refusal = (await create(kind, spec)) ?? "it was taken";
    for (const text of told) expect(refusal).toContain(text);
  });
});

/** What no schema can say. */
const meaningless: readonly (readonly [what: string, kind: Kind, spec: unknown, told: readonly string[]])[] = [
  [
    "identities with a scheme, an unknown condition and an empty source",
    "AuthorizationPolicy",
    {
      rules: [
        { from: [{ source: { principals: ["spiffe://cluster.local/ns/shop/sa/foe"] } }] },
        { when: [{ key: "source.ips", values: ["10.0.0.1"] }] },
        { when: [{ key: "source.ip", values: ["10.0.0.1/99"] }] },
        { to: [{ operation: { paths: ["/a/{*}b"] } }] },
      ],
    },
    [
      'spec.rules[0].from[0].source.principals[0]: "spiffe://cluster.local/ns/shop/sa/foe" never matches: write it without the scheme',
      'spec.rules[1].when[0].key: unknown condition key "source.ips": did you mean "source.ip"?',
      "spec.rules[2].when[0].values[0]: ",
      "spec.rules[3].to[0].operation.paths[0]: ",
    ],
  ],
  [
    "a mode of a port that is none",
    "PeerAuthentication",
    { selector: labels, portLevelMtls: { "7000": { mode: "STRICT" }, "70000": { mode: "STRICT" } } },
    ['spec.portLevelMtls["70000"]: "70000" is not a port: write a number from 1 to 65535'],
  ],
  [
    "an entry for every host",
    "ServiceEntry",
    {
      hosts: ["*"],
      ports: [
        { number: 80, name: "http", protocol: "HTTPX" },
        { number: 80, name: "again", protocol: "HTTP" },
      ],
      resolution: "STATIC",
      endpoints: [{ address: "not-an-address" }],
      workloadSelector: { labels: { app: "server" } },
    },
    [
      'spec.hosts[0]: "*" is every host',
      'spec.ports[0].protocol: unknown protocol "HTTPX": did you mean "HTTP"?',
      "spec.ports[1].number: 80 repeats that of entry 0",
      "spec.endpoints: excludes workloadSelector",
      'spec.endpoints[0].address: "not-an-address" is not an IP address: write one, or use resolution DNS',
    ],
  ],
];

describe("what only the mesh knows is refused where it is written, with field and remedy, all at once", () => {
  test.each(meaningless)("%s", async (_why, kind, spec, told) => {
    const refusal = (await create(kind, spec)) ?? "it was taken";
    expect(refusal).toContain('admission webhook "validation.istio.io" denied the request: ');
    for (const text of told) expect(refusal).toContain(text);
    if (kubectl === undefined) return;
    const said = await kubectl.run(["apply", "-f", "-"], { stdin: JSON.stringify(object(kind, spec)) });
    expect(said.code).toBe(1);
    expect(said.stderr).toContain("Error from server (BadRequest): error when creating");
    for (const text of told) expect(said.stderr).toContain(text);
  });

  test("an ALLOW that only a waypoint could enforce is told, and allows nothing", async () => {
    await mesh.cluster.apply(
      JSON.stringify(object("AuthorizationPolicy", { selector: labels, ...to({ methods: ["GET"] }) })),
    );
    const condition = await mesh.cluster.until("the condition", async () => {
      const found = await conditionOf("AuthorizationPolicy", "subject", "ZtunnelAccepted");
      return found?.reason === "UnsupportedValue" ? found : undefined;
    });
    expect(condition.message).toContain("methods");
    await settled({ friend: false, foe: false });
    await remove("AuthorizationPolicy");
    await settled({ friend: true, foe: true });
  });
});

describe("without the webhook all of that is told in a condition", () => {
  beforeAll(() => withoutWebhook(mesh.cluster));

  test.each(meaningless)("%s", async (_why, kind, spec, told) => {
    await mesh.cluster.apply(JSON.stringify(object(kind, spec)));
    const { message, reason } = await invalid(kind);
    expect({ message: message.split(": ")[0], reason }).toEqual({
      message: "The object has no effect",
      reason: "Invalid",
    });
    for (const text of told) expect(message).toContain(text);
    await remove(kind);
  });
});

describe("without the webhook the last good version stays in force", () => {
  beforeAll(() => withoutWebhook(mesh.cluster));

  const principals = (account: string) => ({
    action: "DENY",
    ...from({ principals: [`cluster.local/ns/${namespace}/sa/${account}`] }),
  });
  const apply = (spec: unknown) => mesh.cluster.apply(JSON.stringify(object("AuthorizationPolicy", spec, "wall")));

  beforeAll(async () => {
    await apply(principals("foe"));
    await settled({ friend: true, foe: false });
  });
  afterAll(async () => {
    await remove("AuthorizationPolicy", "wall");
    await settled({ friend: true, foe: true });
  });

  test.each<[string, unknown]>([
    [
      "one that can never match",
      { action: "DENY", ...from({ principals: ["spiffe://cluster.local/ns/shop/sa/foe"] }) },
    ],
    ["one with an unknown condition", { action: "DENY", ...rules({ when: [{ key: "source.ips", values: ["::1"] }] }) }],
    ["one attached to what is no target", { ...principals("nobody"), targetRefs: [{ kind: "Pod", name: "server" }] }],
  ])("a denial outlives %s", async (_why, spec) => {
    await apply(spec);
    const { message } = await invalid("AuthorizationPolicy", "wall");
    expect(message).toMatch(/^The version before, which was valid, stays in force: spec/u);
    // Time enough for a wrong translation to arrive: another policy, applied later, has.
    await mesh.cluster.apply(
      JSON.stringify(
        object("AuthorizationPolicy", { action: "DENY", ...from({ principals: ["*/sa/friend"] }) }, "later"),
      ),
    );
    await settled({ friend: false, foe: false });
    await remove("AuthorizationPolicy", "later");
    await settled({ friend: true, foe: false });
    await apply(principals("foe"));
    await mesh.cluster.until(
      "the complaint to go",
      async () => (await conditionOf("AuthorizationPolicy", "wall", "ambit.dev/Valid")) === undefined,
    );
  });

  test("what was put right takes force, and so does a removal", async () => {
    const wrong = { action: "DENY", ...from({ principals: ["spiffe://cluster.local/ns/shop/sa/foe"] }) };
    await apply(wrong);
    await invalid("AuthorizationPolicy", "wall");
    await apply(principals("friend"));
    await settled({ friend: false, foe: true });
    await apply(wrong);
    await invalid("AuthorizationPolicy", "wall");
    expect(await reaches(friend)).toBe(false);
    await remove("AuthorizationPolicy", "wall");
    await settled({ friend: true, foe: true });
  });

  test("a STRICT mode outlives a mistake in its place", async () => {
    const strict = { mtls: { mode: "STRICT" } };
    const mode = (spec: unknown) => mesh.cluster.apply(JSON.stringify(object("PeerAuthentication", spec, "mode")));
    await mode(strict);
    await mesh.cluster.apply(
      [namespaceManifest("outside"), peerManifest("stranger", { namespace: "outside", node: "node-1" })].join(
        "\n---\n",
      ),
    );
    await mesh.cluster.podsReady("outside", 1);
    const stranger = { namespace: "outside", name: "stranger" };
    const isLetIn = async () =>
      (await talk<Outcome>(mesh.cluster, stranger, "echo", "--host", `server.${namespace}`)).ok;
    await mesh.cluster.until("plain text to be refused", async () => !(await isLetIn()));
    await mode({ mtls: { mode: "DISABLE" }, selector: labels, portLevelMtls: { "70000": { mode: "DISABLE" } } });
    expect((await invalid("PeerAuthentication", "mode")).message).toContain("stays in force");
    expect(await isLetIn()).toBe(false);
    await mode({ mtls: { mode: "PERMISSIVE" } });
    await mesh.cluster.until("plain text to be taken", isLetIn);
    await remove("PeerAuthentication", "mode");
  });
});

test("after all of it nothing has restarted, and the mesh takes new work", async () => {
  const pods = await mesh.cluster.pods("istio-system");
  const restarts = pods.flatMap(({ status }) => status?.containerStatuses?.map((each) => each.restartCount) ?? []);
  expect(restarts.length).toBeGreaterThanOrEqual(5);
  expect(new Set(restarts)).toEqual(new Set([0]));
  await mesh.cluster.apply(peerManifest("latecomer", { namespace, node: "node-2", service: "cluster-ip" }));
  await mesh.cluster.podsReady(namespace, 4);
  await mesh.cluster.captured(namespace, true);
  await mesh.cluster.until(
    "the latecomer to be reached",
    async () => (await talk<Outcome>(mesh.cluster, friend, "echo", "--host", "latecomer")).ok,
  );
});
