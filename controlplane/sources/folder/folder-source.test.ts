import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { silentLogger } from "#shared/observe/logger.ts";
import { describeSource } from "../testing/describe-source.ts";
import { RecordedSource } from "../testing/recorded-source.ts";
import { FolderSource } from "./folder-source.ts";

async function temporaryFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "ambit-folder-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** All at once: no look can meet it half-written. */
async function putFile(path: string, text: string): Promise<void> {
  const next = join(dirname(path), `.${basename(path)}`);
  await writeFile(next, text);
  await rename(next, path);
}

describeSource("folder", async () => {
  const folder = await temporaryFolder();
  const fileOf = (kind: string, name: string): string => join(folder.path, `${kind}-${name}.yaml`);
  return {
    source: new FolderSource({ folder: folder.path, log: silentLogger }),
    write: (object) => putFile(fileOf(object.kind, object.metadata.name), stringify(object)),
    remove: (object) => rm(fileOf(object.kind, object.metadata.name)),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
});

/** A folder with files, and a source that has read it. */
async function setUp(files: Readonly<Record<string, string>>) {
  const folder = await temporaryFolder();
  const write = async (name: string, text: string): Promise<void> => {
    await mkdir(join(folder.path, name, ".."), { recursive: true });
    await putFile(join(folder.path, name), text);
  };
  for (const [name, text] of Object.entries(files)) await write(name, text);
  const source = new RecordedSource(new FolderSource({ folder: folder.path, log: silentLogger }));
  await source.synced();
  return {
    folder: folder.path,
    source,
    write,
    async [Symbol.asyncDispose]() {
      await source[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

const namespace = (name: string): string => `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${name}}\n`;

describe("folder", () => {
  test("reads many documents, lists, JSON, sub-folders and links, and passes over what is not for it", async () => {
    await using world = await setUp({
      "a.yaml": `# nothing\n---\n${namespace("one")}---\n---\n${namespace("two")}`,
      "sub/b.json": JSON.stringify({
        kind: "List",
        apiVersion: "v1",
        items: [{ apiVersion: "v1", kind: "Namespace", metadata: { name: "three" } }],
      }),
      "deployment.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n",
      ".hidden.yaml": namespace("hidden"),
      "notes.txt": "not yaml: [",
      "mesh.yaml": "kind: MeshConfig\nmesh: {trustDomain: example.org}\n",
    });
    expect([...world.source.inForce.keys()].sort()).toEqual([
      "/MeshConfig//istio",
      "/Namespace//one",
      "/Namespace//three",
      "/Namespace//two",
    ]);
    await symlink(join(world.folder, "sub"), join(world.folder, "z-linked"));
    await world.source.until(() => world.source.troubles.has("z-linked/b.json"));
    expect(world.source.troubles.get("z-linked/b.json")?.[0]).toContain('Namespace "three" is written twice');
  });

  test("an object without namespace goes to default, as with kubectl", async () => {
    await using world = await setUp({
      "se.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 80}]}\n",
    });
    expect(world.source.inForce.get("/Service/default/x")?.metadata.namespace).toBe("default");
  });

  test("every mistake of an object is told with file, line and column", async () => {
    await using world = await setUp({
      "shop/policy.yaml": `${namespace("shop")}---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: bad
  namespace: shop
spec:
  action: Deny
  rulez: []
  rules:
    - from:
        - source:
            ipBlocks: [10.0.0.0/99]
      to:
        - operation: {ports: [80]}
`,
    });
    const refusal = world.source.refused.get("security.istio.io/AuthorizationPolicy/shop/bad");
    expect(refusal?.lines.toSorted()).toEqual([
      'shop/policy.yaml:11:11: spec.action: "Deny" is not one of ALLOW, DENY, AUDIT, CUSTOM: did you mean "DENY"?',
      'shop/policy.yaml:12:3: spec.rulez: unknown field "rulez": did you mean "rules"?',
      'shop/policy.yaml:16:24: spec.rules[0].from[0].source.ipBlocks[0]: "10.0.0.0/99" is not an IP address or range: write it as 10.0.0.7, 10.0.0.0/8 or fd00::/8',
      'shop/policy.yaml:18:31: spec.rules[0].to[0].operation.ports[0]: expected text, found the number 80: put it in quotes: "80"',
    ]);
    expect([...world.source.inForce.keys()]).toEqual(["/Namespace//shop"]);
  });

  test("a file that is no YAML any more keeps what was known from it", async () => {
    await using world = await setUp({ "a.yaml": `${namespace("one")}---\n${namespace("two")}` });
    await world.write("a.yaml", `${namespace("one")}---\n  : [broken\n`);
    await world.source.until(() => world.source.troubles.has("a.yaml"));
    expect(world.source.troubles.get("a.yaml")?.[0]).toMatch(/^a\.yaml:\d+:\d+: /);
    expect([...world.source.inForce.keys()]).toEqual(["/Namespace//one", "/Namespace//two"]);
    await world.write("a.yaml", namespace("one"));
    await world.source.until(() => world.source.troubles.size === 0 && world.source.inForce.size === 1);
    expect([...world.source.inForce.keys()]).toEqual(["/Namespace//one"]);
  });

  test.each([
    ["no kind", "apiVersion: v1\nmetadata: {name: x}\n", "a.yaml:1:1: kind: is missing"],
    ["no name", "apiVersion: v1\nkind: Namespace\nmetadata: {}\n", "metadata.name: is missing"],
    ["no object", "just text\n", 'expected an object, found "just text"'],
    [
      "a mistyped kind",
      "apiVersion: security.istio.io/v1\nkind: AuthorisationPolicy\nmetadata: {name: x}\n",
      'a.yaml:2:7: kind: security.istio.io has no kind "AuthorisationPolicy": did you mean "AuthorizationPolicy"?',
    ],
    ["tabs", "kind:\n\tfoo: 1\n", "a.yaml:2:"],
    ["a key twice", "kind: A\nkind: B\n", "a.yaml:2:1: "],
    [
      "an alias bomb",
      `a: &a [x,x,x,x,x,x,x,x,x,x]\n${"bcdefghij"
        .split("")
        .map((key, index) => `${key}: &${key} [${`*${"abcdefghij"[index] ?? ""},`.repeat(10)}]\n`)
        .join("")}`,
      "alias",
    ],
    ["nesting without end", "[".repeat(50_000), "a.yaml:1:"],
    ["a date where text stands", "apiVersion: v1\nkind: Namespace\nmetadata: {name: 2026}\n", "expected text"],
  ])("%s is told, and ends nothing", async (_why, text, expected) => {
    await using world = await setUp({ "a.yaml": text, "b.yaml": namespace("fine") });
    expect(world.source.troubles.get("a.yaml")?.join("\n")).toContain(expected);
    expect([...world.source.inForce.keys()]).toEqual(["/Namespace//fine"]);
  });

  test("objects have what an API server would have added, and keep it when they change", async () => {
    const cart = (more: string): string =>
      `apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{port: 80}]${more}}\n`;
    const inShop = "metadata: {name: x, namespace: shop}";
    await using world = await setUp({
      "a.yaml": namespace("shop"),
      "b.yaml": cart(""),
      "c.yaml": `apiVersion: v1\nkind: Pod\n${inShop}\nspec: {containers: [{name: x, image: x}]}\n`,
    });
    const { source, write } = world;
    const label = { "kubernetes.io/metadata.name": "shop" };
    expect(source.inForce.get("/Namespace//shop")?.metadata.labels).toEqual(label);
    expect(source.inForce.get("/Pod/shop/x")?.["spec"]).toMatchObject({ serviceAccountName: "default" });
    const spec = () => source.inForce.get("/Service/shop/cart")?.["spec"] as { readonly clusterIPs: readonly string[] };
    expect(spec()).toMatchObject({
      type: "ClusterIP",
      internalTrafficPolicy: "Cluster",
      ipFamilies: ["IPv4"],
      ports: [{ port: 80, targetPort: 80, protocol: "TCP" }],
    });
    const [before] = spec().clusterIPs;
    expect(before).toMatch(/^10\./);
    await write("b.yaml", cart(", ipFamilyPolicy: RequireDualStack"));
    await source.until(() => spec().clusterIPs.length === 2);
    expect(spec().clusterIPs[0]).toBe(before);
    // A default hides no mistake.
    await write("b.yaml", cart(", clusterIP: 7"));
    await source.until(() => source.refused.has("/Service/shop/cart"));
    expect(spec().clusterIPs[0]).toBe(before);
  });

  test("an object keeps its identity when it moves to another file", async () => {
    await using world = await setUp({ "a.yaml": namespace("one") });
    const before = world.source.events.length;
    await rename(join(world.folder, "a.yaml"), join(world.folder, "b.yaml"));
    await world.write("c.yaml", namespace("two"));
    await world.source.until(() => world.source.inForce.size === 2);
    const told = world.source.events.slice(before).map(({ type }) => type);
    expect(told).toEqual(["upsert"]);
  });

  test("of an object in two files the first counts, until it is gone", async () => {
    const policy = (mode: string): string =>
      `apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: n}\nspec: {mtls: {mode: ${mode}}}\n`;
    await using world = await setUp({ "a.yaml": policy("STRICT"), "b.yaml": policy("DISABLE") });
    const key = "security.istio.io/PeerAuthentication/n/p";
    expect(JSON.stringify(world.source.inForce.get(key))).toContain("STRICT");
    expect(world.source.troubles.get("b.yaml")?.[0]).toContain("is written twice: see a.yaml:1:1, which counts");
    await rm(join(world.folder, "a.yaml"));
    await world.source.until(() => JSON.stringify(world.source.inForce.get(key)).includes("DISABLE"));
    await world.source.until(() => world.source.troubles.size === 0);
    expect(world.source.inForce.size).toBe(1);
  });

  test("a folder that does not exist is an error at once", async () => {
    const source = new FolderSource({ folder: "/nonexistent/ambit", log: silentLogger });
    await expect(source.run(() => undefined, new AbortController().signal)).rejects.toMatchObject({
      code: "CONFIG_INVALID",
    });
  });
});
