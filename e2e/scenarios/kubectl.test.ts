/** What clients of the sandbox's API server may rely on: one table of calls, made by kubectl and by the JavaScript client. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { until } from "#e2e/support/cluster.ts";
import { ClientDriver } from "./kubectl/client-driver.ts";
import type { ClusterDriver, Ref } from "./kubectl/cluster-driver.ts";
import { openContractServer, type ContractServer } from "./kubectl/contract-server.ts";
import { findKubectl, KubectlDriver } from "./kubectl/kubectl-driver.ts";

const kubectl = findKubectl();
if ("missing" in kubectl) {
  process.stderr.write(
    `\n### kubectl.test.ts: ${kubectl.missing}: the same calls run through @kubernetes/client-node ONLY ###\n\n`,
  );
}

type OpenDriver = (kubeconfig: string) => ClusterDriver;
const drivers: [string, OpenDriver][] = [["@kubernetes/client-node", (kubeconfig) => new ClientDriver(kubeconfig)]];
if (!("missing" in kubectl)) {
  drivers.push([`kubectl ${kubectl.version}`, (kubeconfig) => new KubectlDriver(kubectl, kubeconfig)]);
}

const namespace = "shop";
const core = (kind: string, name: string): Ref => ({ apiVersion: "v1", kind, name, namespace });
const web: Ref = { apiVersion: "apps/v1", kind: "Deployment", name: "web", namespace };
const thing: Ref = { apiVersion: "demo.ambit.dev/v1", kind: "Thing", name: "one", namespace };

const deployment = (change: object = {}) => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "web", namespace, labels: { app: "web" } },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: "web" } },
    template: {
      metadata: { labels: { app: "web" } },
      spec: {
        containers: [
          { name: "web", image: "shop/web:1", env: [{ name: "A", value: "1" }], ports: [{ containerPort: 8080 }] },
        ],
      },
    },
    ...change,
  },
});

const pod = (name: string) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace },
  spec: {
    nodeName: "node-1",
    terminationGracePeriodSeconds: 0,
    containers: [
      { name: "first", image: "x:1" },
      { name: "second", image: "x:1" },
    ],
  },
});

const configMap = (name: string, data: object, labels = {}) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace, labels },
  data,
});

const definition = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "things.demo.ambit.dev" },
  spec: {
    group: "demo.ambit.dev",
    scope: "Namespaced",
    names: { kind: "Thing", plural: "things", shortNames: ["th"] },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        subresources: { status: {} },
        additionalPrinterColumns: [{ name: "Size", type: "integer", jsonPath: ".spec.size" }],
        schema: {
          openAPIV3Schema: {
            type: "object",
            properties: {
              spec: {
                type: "object",
                required: ["size"],
                properties: {
                  size: { type: "integer", minimum: 1, description: "How big it is" },
                  color: { type: "string", default: "red" },
                },
              },
            },
          },
        },
      },
    ],
  },
};
const thingOf = (spec: object) => ({
  apiVersion: "demo.ambit.dev/v1",
  kind: "Thing",
  metadata: { name: "one", namespace },
  spec,
});

describe.each(drivers)("the API server, by %s", (_name, openDriver) => {
  let server: ContractServer;
  let client: ClusterDriver;

  beforeAll(async () => {
    server = await openContractServer();
    client = openDriver(server.kubeconfig);
    await client.create({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  });

  afterAll(async () => {
    await client.close();
    await server.close();
  });

  test("a namespace comes with its account, token and CA", async () => {
    expect(await client.list({ apiVersion: "v1", kind: "ServiceAccount", namespace })).toEqual(["default"]);
    expect(await client.list({ apiVersion: "v1", kind: "ConfigMap", namespace })).toEqual(["kube-root-ca.crt"]);
    expect((await client.token(namespace, "default")).split(".")).toHaveLength(3);
    await client.delete(core("ConfigMap", "kube-root-ca.crt"), "Background");
    await client.delete(core("ServiceAccount", "default"), "Background");
    await until("both to be there anew", async () => {
      const accounts = await client.list({ apiVersion: "v1", kind: "ServiceAccount", namespace });
      const maps = await client.list({ apiVersion: "v1", kind: "ConfigMap", namespace });
      return accounts.length === 1 && maps.length === 1;
    });
  });

  test("create fills in defaults, and refuses what exists", async () => {
    await client.create(deployment());
    expect(await client.get(web)).toMatchObject({
      metadata: { generation: 1 },
      spec: {
        revisionHistoryLimit: 10,
        strategy: { type: "RollingUpdate" },
        template: { spec: { restartPolicy: "Always" } },
      },
    });
    await expect(client.create(deployment())).rejects.toThrow('deployments.apps "web" already exists');
  });

  test("a service gets an address", async () => {
    await client.create({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web", namespace },
      spec: { selector: { app: "web" }, ports: [{ port: 80, targetPort: 8080 }] },
    });
    expect(await client.get(core("Service", "web"))).toMatchObject({
      spec: { clusterIP: expect.stringMatching(/^10\.96\./u), type: "ClusterIP", ports: [{ protocol: "TCP" }] },
    });
  });

  test("apply changes what differs and leaves the rest", async () => {
    await client.apply(configMap("applied", { a: "1", b: "2" }));
    await client.annotate(core("ConfigMap", "applied"), "note", "mine");
    await client.apply(configMap("applied", { a: "1", c: "3" }));
    expect(await client.get(core("ConfigMap", "applied"))).toMatchObject({
      data: { a: "1", c: "3" },
      metadata: { annotations: { note: "mine" } },
    });
    expect((await client.get(core("ConfigMap", "applied")))["data"]).not.toHaveProperty("b");
  });

  test("a server-side dry run checks and changes nothing", async () => {
    await client.apply(configMap("dry", { a: "1" }), { dryRun: true });
    await expect(client.get(core("ConfigMap", "dry"))).rejects.toThrow('configmaps "dry" not found');
    await expect(client.apply(deployment({ replicas: -1 }), { dryRun: true })).rejects.toThrow(
      "must be greater than or equal to 0",
    );
  });

  test("server-side apply knows who owns what", async () => {
    const ref = core("ConfigMap", "owned");
    await client.applyServerSide(configMap("owned", { a: "1", b: "1" }), { manager: "one" });
    await client.applyServerSide(configMap("owned", { c: "2" }), { manager: "two" });
    await expect(client.applyServerSide(configMap("owned", { a: "2" }), { manager: "two" })).rejects.toThrow(
      'conflict with "one": .data.a',
    );
    await client.applyServerSide(configMap("owned", { a: "2" }), { manager: "two", force: true });
    expect(await client.get(ref)).toMatchObject({ data: { a: "2", b: "1" } });
    await client.applyServerSide(configMap("owned", {}), { manager: "one" });
    expect((await client.get(ref))["data"]).toEqual({ a: "2" });
  });

  test("three kinds of patch", async () => {
    const template = { template: { spec: { containers: [{ name: "web", env: [{ name: "B", value: "2" }] }] } } };
    await client.patch(web, "strategic", { spec: template });
    await client.patch(web, "merge", { metadata: { labels: { tier: "front" } } });
    await client.patch(web, "json", [{ op: "replace", path: "/spec/replicas", value: 3 }]);
    expect(await client.get(web)).toMatchObject({
      metadata: { labels: { app: "web", tier: "front" } },
      spec: {
        replicas: 3,
        template: { spec: { containers: [{ image: "shop/web:1", env: [{ name: "B" }, { name: "A" }] }] } },
      },
    });
    await expect(client.patch(web, "json", [{ op: "test", path: "/spec/replicas", value: 9 }])).rejects.toThrow(
      "test failed",
    );
  });

  test("edit, label, annotate, scale", async () => {
    await client.edit(web, { from: "replicas: 3", to: "replicas: 4" });
    await client.label(web, "tier", "back");
    await client.label(web, "app", null);
    await client.annotate(web, "note", "x");
    await client.scale(web, 5);
    const { metadata, spec } = await client.get(web);
    expect([metadata.labels, metadata.annotations?.["note"], spec]).toMatchObject([
      { tier: "back" },
      "x",
      { replicas: 5 },
    ]);
    expect(await client.list(web, "tier in (back)")).toEqual(["web"]);
    expect(await client.list(web, "!tier")).toEqual([]);
  });

  test("a rollout restarts and is waited for", async () => {
    const before = (await client.get(web)).metadata.generation ?? 0;
    await client.restart(web);
    await client.waitForRollout(web);
    await client.waitForCondition(web, "Available");
    expect((await client.get(web)).metadata.generation).toBeGreaterThan(before);
  });

  test("mistakes are told by field, all at once", async () => {
    await expect(client.create({ ...deployment(), metadata: { name: "Bad_Name", namespace } })).rejects.toThrow(
      "a lowercase RFC 1123 subdomain",
    );
    await expect(client.patch(web, "merge", { spec: { selector: { matchLabels: { x: "y" } } } })).rejects.toThrow(
      "field is immutable",
    );
    await expect(
      client.create({ ...pod("no-image"), spec: { containers: [{ name: "a" }, { name: "a", image: "x" }] } }),
    ).rejects.toThrow(/image: Required value(.|\n)*Duplicate value/u);
    await expect(client.create({ ...pod("lost"), metadata: { name: "lost", namespace: "nowhere" } })).rejects.toThrow(
      'namespaces "nowhere" not found',
    );
  });

  test("a definition is served at once, with its defaults, columns and checks", async () => {
    await client.create(definition);
    await client.waitForCondition(
      { apiVersion: "apiextensions.k8s.io/v1", kind: "CustomResourceDefinition", name: "things.demo.ambit.dev" },
      "Established",
    );
    await client.create(thingOf({ size: 3 }));
    expect(await client.get(thing)).toMatchObject({ spec: { size: 3, color: "red" } });
    await client.patch(thing, "merge", { spec: { size: 4 } });
    await expect(client.patch(thing, "merge", { spec: { size: 0 } })).rejects.toThrow(
      "should be greater than or equal to 1",
    );
    expect(await client.list(thing)).toEqual(["one"]);
    const color = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/color";
    await client.patch(
      { apiVersion: "apiextensions.k8s.io/v1", kind: "CustomResourceDefinition", name: "things.demo.ambit.dev" },
      "json",
      [{ op: "remove", path: color }],
    );
    await client.apply(thingOf({ size: 5 }));
    expect((await client.get(thing))["spec"]).toEqual({ size: 5 });
    await client.delete(
      { apiVersion: "apiextensions.k8s.io/v1", kind: "CustomResourceDefinition", name: "things.demo.ambit.dev" },
      "Background",
    );
    await expect(client.list(thing)).rejects.toThrow(/not find|Unrecognized|resource type|no matches/u);
  });

  test("logs: all, the tail, and those to come", async () => {
    await client.create(pod("talker"));
    server.startPod(namespace, "talker");
    const talker = core("Pod", "talker");
    expect(await client.logs(talker, "second", {})).toBe("talker/second one\ntalker/second two\ntalker/second three\n");
    expect(await client.logs(talker, "first", { tailLines: 1 })).toBe("talker/first three\n");
    expect(await client.logs(talker, "first", { follow: true })).toMatch(/three\nmore\n$/u);
  });

  test("exec: output, errors, input and exit status", async () => {
    const talker = core("Pod", "talker");
    expect(await client.exec(talker, "first", ["sh", "-c", "echo out; echo err >&2"])).toMatchObject({
      code: 0,
      stdout: "out\n",
      stderr: expect.stringContaining("err"),
    });
    expect((await client.exec(talker, "first", ["sh", "-c", "exit 7"])).code).toBe(7);
    expect((await client.exec(talker, "first", ["wc", "-c"], "x".repeat(300_000))).stdout.trim()).toBe("300000");
    expect((await client.exec(talker, "nobody", ["true"])).stderr).toContain(
      "container nobody is not valid for pod talker",
    );
  });

  test("a watch tells what happens", async () => {
    let count = 0;
    const secret = () => ({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: `secret-${count++}`, namespace },
      stringData: { a: "b" },
    });
    const names = await client.watch({ apiVersion: "v1", kind: "Secret", namespace }, 2, async () => {
      await client.create(secret());
      await client.create(secret());
    });
    expect(names.every((name) => /^secret-\d+$/u.test(name))).toBe(true);
  });

  test("delete takes dependents along, or leaves them", async () => {
    const { uid } = (await client.get(web)).metadata;
    const child = (name: string) => ({
      ...configMap(name, {}),
      metadata: {
        name,
        namespace,
        ownerReferences: [{ apiVersion: "apps/v1", kind: "Deployment", name: "web", uid, blockOwnerDeletion: true }],
      },
    });
    await client.create(child("child"));
    await client.delete(web, "Foreground");
    await expect(client.get(core("ConfigMap", "child"))).rejects.toThrow("not found");
    await client.create(deployment());
    const next = (await client.get(web)).metadata.uid;
    await client.create({
      ...configMap("left", {}),
      metadata: {
        name: "left",
        namespace,
        ownerReferences: [{ apiVersion: "apps/v1", kind: "Deployment", name: "web", uid: next }],
      },
    });
    await client.delete(web, "Orphan");
    expect((await client.get(core("ConfigMap", "left"))).metadata.ownerReferences ?? []).toEqual([]);
  });

  test("rights: the administrator's and a service account's", async () => {
    expect(await client.resources()).toEqual(expect.arrayContaining(["pods", "services", "serviceaccounts"]));
    expect(await client.canI("create", "pods")).toBe(true);
    expect(await client.canI("create", "pods", "system:serviceaccount:shop:default")).toBe(false);
  });

  test("a namespace takes its content with it", async () => {
    await client.delete({ apiVersion: "v1", kind: "Namespace", name: namespace }, "Background");
    expect(await client.list({ apiVersion: "v1", kind: "ConfigMap", namespace })).toEqual([]);
  });
});

if (!("missing" in kubectl)) {
  describe("kubectl's own commands", () => {
    let server: ContractServer;
    let client: KubectlDriver;
    const run = async (...args: string[]) => {
      const { code, stdout, stderr } = await client.run(args);
      return `${stdout}${stderr}${code === 0 ? "" : `exit ${code}`}`;
    };

    beforeAll(async () => {
      server = await openContractServer();
      client = new KubectlDriver(kubectl, server.kubeconfig);
      await client.create({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
      await client.create(deployment());
      await client.create(pod("talker"));
      server.startPod(namespace, "talker");
      await client.create(definition);
      await client.create(thingOf({ size: 3 }));
    });

    afterAll(async () => {
      await client.close();
      await server.close();
    });

    // prettier-ignore
    test.each<[string, RegExp]>([
      ["get pods -n shop",                                          /NAME +READY +STATUS +RESTARTS +AGE\ntalker +0\/2 +Running +0/u],
      ["get pods -n shop -o wide",                                  /NODE .*NOMINATED NODE[^]*node-1/u],
      ["get deploy -n shop",                                        /NAME +READY +UP-TO-DATE +AVAILABLE +AGE\nweb +2\/2 +2 +2/u],
      ["get all -n shop",                                           /pod\/talker[^]*deployment.apps\/web/u],
      ["get th -n shop",                                            /NAME +SIZE\none +3/u],
      ["get pods -A --field-selector=spec.nodeName=node-1 -o name", /^pod\/talker\n$/u],
      ["get deploy -n shop web -o jsonpath={.spec.replicas}",       /^2$/u],
      ["get deploy -n shop web -o yaml",                            /kind: Deployment[^]*progressDeadlineSeconds: 600/u],
      ["get deploy -n shop -o custom-columns=N:.metadata.name",     /^N\nweb\n$/u],
      ["get --raw /readyz",                                         /^ok$/u],
      ["get nothing",                                               /doesn't have a resource type "nothing"/u],
      ["get pods -n shop missing",                                  /pods "missing" not found/u],
      ["describe deploy -n shop web",                               /Replicas: +2 desired \| 2 updated[^]*Image: +shop\/web:1/u],
      ["describe pod -n shop talker",                               /Node: +node-1[^]*kube-api-access-/u],
      ["describe th -n shop one",                                   /Size: +3/u],
      ["explain deployment.spec.strategy.type",                     /Can be "Recreate" or "RollingUpdate"/u],
      ["explain things.spec.size",                                  /How big it is/u],
      ["api-resources --api-group=demo.ambit.dev --no-headers",     /things +th +demo.ambit.dev\/v1 +true +Thing/u],
      ["api-versions",                                              /apps\/v1\n/u],
      ["auth whoami",                                               /kubernetes-admin/u],
      ["auth can-i --list --as=system:serviceaccount:shop:default", /selfsubjectaccessreviews/u],
      ["version",                                                   /Server Version: v1\./u],
      ["cluster-info",                                              /control plane.* is running at/u],
      ["rollout history deploy -n shop web",                        /No rollout history found/u],
      ["create deployment x -n shop --image=a:1 --dry-run=server -o name", /deployment.apps\/x/u],
      ["create clusterrole r --verb=get --resource=pods",           /clusterrole.rbac.authorization.k8s.io\/r created/u],
      ["create configmap c -n shop --from-literal=a=b",             /configmap\/c created/u],
      ["set image deploy/web -n shop web=shop/web:2",               /image updated/u],
      ["expose deploy/web -n shop --port=80",                       /service\/web exposed/u],
      ["taint nodes none a=b:NoSchedule",                           /nodes "none" not found/u],
      ["run one-off -n shop --image=a:1",                           /pod\/one-off created/u],
      ["delete pod -n shop one-off --now",                          /pod "one-off"( force)? deleted/u],
      ["wait pod/talker -n shop --for=jsonpath={.status.phase}=Running --timeout=5s", /condition met/u],
    ])("kubectl %s", async (command, expected) => {
      expect(await run(...command.split(" "))).toMatch(expected);
    });

    test("unknown fields are refused with their path", async () => {
      const { stderr } = await client.run(["apply", "-f", "-"], { stdin: JSON.stringify(deployment({ replica: 3 })) });
      expect(stderr).toContain('strict decoding error: unknown field "spec.replica"');
      const { stdout } = await client.run(["apply", "--validate=ignore", "-f", "-"], {
        stdin: JSON.stringify(deployment({ replica: 3 })),
      });
      expect(stdout).toContain("deployment.apps/web configured");
    });

    test("diff shows what apply would do", async () => {
      const { code, stdout } = await client.run(["diff", "-f", "-"], {
        stdin: JSON.stringify(deployment({ replicas: 7 })),
      });
      expect([code, stdout]).toEqual([1, expect.stringContaining("+  replicas: 7")]);
    });

    test("port-forward carries connections", async () => {
      const target = createServer((_request, response) => response.end("from the pod"));
      await new Promise<void>((resolve) => target.listen(0, "127.0.0.1", resolve));
      const { port } = target.address() as AddressInfo;
      const forward = client.start(["port-forward", "-n", namespace, "talker", `0:${port}`]);
      try {
        const local = await new Promise<string>((resolve, reject) => {
          forward.stdout.on("data", (chunk: Buffer) =>
            resolve(/127\.0\.0\.1:(\d+)/u.exec(chunk.toString())?.[1] ?? ""),
          );
          forward.on("close", () => reject(new Error("port-forward ended")));
        });
        const answers = await Promise.all(
          [1, 2, 3].map(async () => (await fetch(`http://127.0.0.1:${local}/`)).text()),
        );
        expect(answers).toEqual(["from the pod", "from the pod", "from the pod"]);
      } finally {
        forward.kill();
        target.closeAllConnections();
        target.close();
      }
    });
  });
}
