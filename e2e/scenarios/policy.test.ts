/** Who may talk to whom: by identity, namespace, address and port; on new connections and on live ones. */
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import type { Outcome } from "#e2e/support/client.ts";
import {
  ambient,
  namespaceManifest,
  outcomeOf,
  peerManifest,
  podIp,
  startMesh,
  startTalk,
  talk,
  ztunnelLog,
  type Mesh,
} from "#e2e/support/mesh.ts";

let mesh: Mesh;
const friend = { namespace: "inside", name: "friend" };
const foe = { namespace: "elsewhere", name: "foe" };
const stranger = { namespace: "outside", name: "stranger" };

beforeAll(async () => {
  mesh = await startMesh("policy");
  await mesh.cluster.apply(
    [
      namespaceManifest("inside", ambient),
      namespaceManifest("elsewhere", ambient),
      namespaceManifest("outside"),
      peerManifest("friend", { namespace: "inside", node: "node-1" }),
      peerManifest("foe", { namespace: "elsewhere", node: "node-1" }),
      peerManifest("stranger", { namespace: "outside", node: "node-1" }),
      peerManifest("server", { namespace: "inside", node: "node-2", service: "cluster-ip" }),
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady("inside", 2);
  await mesh.cluster.podsReady("elsewhere", 1);
  await mesh.cluster.podsReady("outside", 1);
  await mesh.cluster.captured("inside", true);
  await mesh.cluster.captured("elsewhere", true);
  await settled({ friend: true, foe: true, stranger: true });
}, 90_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

afterEach(async () => {
  await mesh.cluster.delete("security.istio.io/v1", "AuthorizationPolicy", "rule", "inside");
  await mesh.cluster.delete("security.istio.io/v1", "PeerAuthentication", "mode", "inside");
  await settled({ friend: true, foe: true, stranger: true });
}, 30_000);

const callers = { friend, foe, stranger };
type Wanted = Readonly<Record<keyof typeof callers, boolean>>;

async function reaches(caller: keyof typeof callers, port = 7000): Promise<boolean> {
  const host = "server.inside";
  return (await talk<Outcome>(mesh.cluster, callers[caller], "echo", "--host", host, "--port", port)).ok;
}

/** Waits until each caller reaches the server, or does not, as wanted. */
async function settled(wanted: Wanted): Promise<void> {
  await mesh.cluster.until(`callers ${JSON.stringify(wanted)}`, async () => {
    const found = await Promise.all(
      Object.entries(wanted).map(async ([caller, good]) => (await reaches(caller as keyof typeof callers)) === good),
    );
    return found.every(Boolean);
  });
}

const rule = (action: "ALLOW" | "DENY", rules: readonly unknown[]): string =>
  JSON.stringify({
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "rule", namespace: "inside" },
    spec: { selector: { matchLabels: { app: "server" } }, action, rules },
  });
const from = (source: unknown) => [{ from: [{ source }] }];
const mode = (value: string): string =>
  JSON.stringify({
    apiVersion: "security.istio.io/v1",
    kind: "PeerAuthentication",
    metadata: { name: "mode", namespace: "inside" },
    spec: { mtls: { mode: value } },
  });

test.each<[string, string, Wanted]>([
  [
    "DENY by principal",
    rule("DENY", from({ principals: ["cluster.local/ns/elsewhere/sa/foe"] })),
    { friend: true, foe: false, stranger: true },
  ],
  [
    "DENY by namespace",
    rule("DENY", from({ namespaces: ["elsewhere"] })),
    { friend: true, foe: false, stranger: true },
  ],
  [
    "ALLOW by principal",
    rule("ALLOW", from({ principals: ["*/sa/friend"] })),
    { friend: true, foe: false, stranger: false },
  ],
  [
    "ALLOW by namespace",
    rule("ALLOW", from({ namespaces: ["inside"] })),
    { friend: true, foe: false, stranger: false },
  ],
  ["ALLOW without rules lets nobody in", rule("ALLOW", []), { friend: false, foe: false, stranger: false }],
  ["STRICT refuses who has no identity", mode("STRICT"), { friend: true, foe: true, stranger: false }],
])("%s", async (_name, yaml, wanted) => {
  await mesh.cluster.apply(yaml);
  await settled(wanted);
});

test("DENY by address range, for a caller with an identity and one without", async () => {
  const ips = [await podIp(mesh.cluster, foe), await podIp(mesh.cluster, stranger)];
  const sixes = [await podIp(mesh.cluster, foe, 6), await podIp(mesh.cluster, stranger, 6)];
  await mesh.cluster.apply(rule("DENY", from({ ipBlocks: [...ips.map((ip) => `${ip}/32`), ...sixes] })));
  await settled({ friend: true, foe: false, stranger: false });
});

test("ALLOW of one port closes the others", async () => {
  await mesh.cluster.apply(rule("ALLOW", [{ to: [{ operation: { ports: ["7000"] } }] }]));
  await mesh.cluster.until("port 7001 to be closed", async () => {
    const { ok } = await talk<Outcome>(mesh.cluster, friend, "first", "--host", "server.inside");
    return !ok;
  });
  await settled({ friend: true, foe: true, stranger: true });
});

test("a refusal names its policy in the log", async () => {
  await mesh.cluster.apply(rule("DENY", from({ namespaces: ["elsewhere"] })));
  await settled({ friend: true, foe: false, stranger: true });
  await mesh.cluster.until("the policy's name", async () =>
    (await ztunnelLog(mesh.cluster)).some((line) => line.includes("inside/rule") && line.includes("sa/foe")),
  );
});

test.each<["foe" | "stranger", string]>([
  ["foe", rule("DENY", from({ namespaces: ["elsewhere"] }))],
  ["stranger", mode("STRICT")],
])("a live connection of %s ends when new ones are refused", async (caller, yaml) => {
  const held = await startTalk(mesh.cluster, callers[caller], "hold", "--host", "server.inside", "--seconds", 40);
  const heldMs = performance.now();
  const untouched = await startTalk(mesh.cluster, friend, "hold", "--host", "server.inside", "--seconds", 5);
  await mesh.cluster.apply(yaml);
  await mesh.cluster.until("a new one to be refused", async () => !(await reaches(caller)));
  const refusedMs = performance.now();
  const outcome = await outcomeOf<{ closedByPeer: boolean; ms: number }>(held);
  expect(outcome).toMatchObject({ closedByPeer: true });
  // At the latest, for it was open before `heldMs`.
  expect(heldMs + outcome.ms - refusedMs).toBeLessThan(2_000);
  expect(await outcomeOf(untouched)).toMatchObject({ closedByPeer: false });
});
