import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { readOffline, type OfflineFlags } from "./offline.ts";
import { parseEnvironment, readInput } from "./read-input.ts";

const read = (text: string) => readInput([{ path: "a.yaml", text }]);

describe("what cannot be read", () => {
  test("is told all at once, with file, line and column, field and remedy", () => {
    const { errors } = read(`apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  ports:
  - port: 99999
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: x}
spec: {acton: DENY}
---
kind: [
---
just text
`);
    expect(errors).toEqual([
      expect.stringMatching(/^a\.yaml:14:1: /),
      expect.stringMatching(/^a\.yaml:6:11: spec\.ports\[0\]\.port: .*65535/),
      expect.stringMatching(/^a\.yaml:11:15: spec\.acton: .*did you mean "action"\?/),
      expect.stringMatching(/^a\.yaml:15:1: expected an object/),
    ]);
  });

  test("is no more than that: what admission would refuse is a warning", () => {
    const { errors, warnings, world } = read(`apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: x, namespace: shop}
spec: {action: DENY}
`);
    expect(errors).toEqual([]);
    expect(warnings).toEqual([expect.stringContaining("a.yaml:4:1: spec: action DENY without rules")]);
    expect(world.all("AuthorizationPolicy")).toHaveLength(1);
  });
});

test("lists are what they hold; kinds that the mesh does not read mean nothing", () => {
  const { world, errors } = read(`kind: List
apiVersion: v1
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}
`);
  expect(errors).toEqual([]);
  expect(world.all("Namespace").map(({ meta }) => meta.name)).toEqual(["a"]);
});

test("documents are younger than those before, a second at least after a pause", () => {
  const names = ["a", "b", "c", "d"];
  const documents = names.map((name) => `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${name}}\n`);
  const { world } = read(
    [documents[0], documents[1], `# pause\n${documents[2]}`, `${documents[3]}# pause\n`].join("---\n"),
  );
  const times = names.map((name) => world.get("Namespace", "", name)?.meta.createdMs ?? Number.NaN);
  const gaps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
  expect(gaps).toEqual([1, expect.any(Number), 1000]);
  expect(Math.floor((times[2] ?? 0) / 1000) - Math.floor((times[1] ?? 0) / 1000)).toBe(1);
});

test("documents of mesh configuration add up", () => {
  const { world } = read(
    "kind: MeshConfig\nmesh: {trustDomain: td}\n---\nkind: MeshConfig\nmesh: {rootNamespace: r}\n",
  );
  expect(world.meshConfig).toMatchObject({ trustDomain: "td", rootNamespace: "r" });
});

test("environment files", () => {
  expect(parseEnvironment("# x\nA=1\nexport B='two words'\n\nC=a=b\nnot a variable\n")).toEqual({
    A: "1",
    B: "two words",
    C: "a=b",
  });
});

describe("flags and files", () => {
  let folder = "";
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "ambit-cli-"));
  });
  afterEach(() => rm(folder, { recursive: true }));

  const run = async (flags: Partial<OfflineFlags>, env: Readonly<Record<string, string>> = {}, stdin = "") => {
    const told: string[] = [];
    const result = await readOffline(
      { filename: [], env: [], domain: "cluster.local", ...flags },
      { env, readStdin: () => Promise.resolve(stdin), tell: (line) => told.push(line) },
    );
    return { result, told };
  };
  const podYaml = `apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop}
spec: {}
status: {podIP: 10.0.0.1}
`;

  test("folders, files and the standard input make one world", async () => {
    await mkdir(join(folder, "deep"));
    await writeFile(join(folder, "deep/b.yml"), podYaml.replace("name: p", "name: q"));
    await writeFile(join(folder, "notes.txt"), "not: [yaml");
    const { result } = await run({ filename: [folder, "-"] }, {}, podYaml);
    expect([...(result?.translation.addresses.keys() ?? [])]).toEqual([
      "Kubernetes//Pod/shop/p",
      "Kubernetes//Pod/shop/q",
    ]);
  });

  test("what is not there is told, and nothing is translated", async () => {
    const { result, told } = await run({ filename: [join(folder, "lost.yaml"), folder, "-"] }, {}, podYaml);
    expect(result).toBeUndefined();
    expect(told).toEqual([
      expect.stringContaining("lost.yaml: cannot be read"),
      expect.stringContaining("holds no .yaml"),
    ]);
  });

  test("flags win over files, files over the environment", async () => {
    await writeFile(join(folder, "istiod.env"), "CLUSTER_ID=beside\nREVISION=beside\nPOD_NAMESPACE=beside\n");
    await writeFile(join(folder, "more.env"), "REVISION=more\nPOD_NAMESPACE=more\n");
    await writeFile(join(folder, "a.yaml"), podYaml);
    const flags = {
      filename: [join(folder, "a.yaml")],
      envFile: join(folder, "more.env"),
      env: ["POD_NAMESPACE=flag"],
    };
    const { result } = await run(flags, { CLUSTER_ID: "process", PILOT_AUTO_ALLOW_WAYPOINT_POLICY: "true" });
    expect(result?.options).toMatchObject({
      clusterId: "beside",
      revision: "more",
      systemNamespace: "flag",
      autoAllowWaypointPolicy: true,
    });
    expect((await run({ ...flags, clusterId: "c", revision: "" })).result?.options).toMatchObject({
      clusterId: "c",
      revision: "",
    });
  });

  test("settings that cannot be read are refused, all in one sentence", async () => {
    const env = ["AMBIENT_ENABLE_STATUS=maybe", "PILOT_IP_AUTOALLOCATE_IPV4_PREFIX=fd00::/8"];
    await expect(run({ filename: ["-"], env })).rejects.toThrow(/IPV4_PREFIX="fd00.*AMBIENT_ENABLE_STATUS="maybe"/);
    await expect(run({ filename: ["-"], env: ["oops"] })).rejects.toThrow("write NAME=VALUE");
  });

  test("strict takes warnings for errors", async () => {
    const policy =
      "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: x}\nspec: {action: DENY}\n";
    expect((await run({ filename: ["-"] }, {}, policy)).result).toBeDefined();
    expect((await run({ filename: ["-"], strict: true }, {}, policy)).result).toBeUndefined();
  });
});
