/** The stage itself, without the mesh: what pods, services, DNS, probes, logs and the end of a sandbox promise. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { startSandbox, type Sandbox } from "#e2e/sandbox/sandbox.ts";
import { Cluster, until } from "#e2e/support/cluster.ts";
import { projectRoot } from "#e2e/support/mesh.ts";

const whoAmI = `require("node:http").createServer((request, response) => response.end(require("node:os").hostname())).listen(8080, "::", () => console.log("listening"))`;

const pod = (name: string, node: string, spec: object, labels: Record<string, string> = { app: name }) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "default", labels },
  spec: { nodeName: node, terminationGracePeriodSeconds: 1, ...spec },
});

const server = (name: string, node: string) =>
  pod(
    name,
    node,
    {
      hostname: name,
      subdomain: "each",
      containers: [
        {
          name: "server",
          image: "node",
          command: ["node", "-e", whoAmI],
          readinessProbe: { httpGet: { path: "/", port: 8080 }, periodSeconds: 1 },
        },
      ],
    },
    { app: "server" },
  );

const service = (name: string, spec: object) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "default" },
  spec: { ipFamilyPolicy: "PreferDualStack", ports: [{ name: "http", port: 80, targetPort: 8080 }], ...spec },
});

const yaml = (...objects: object[]) => objects.map((object) => JSON.stringify(object)).join("\n---\n");

describe("a cluster of two nodes", () => {
  let sandbox: Sandbox;
  let cluster: Cluster;
  const client = { namespace: "default", name: "client" };
  const run = async (script: string) => {
    const { stdout, stderr, exitCode } = await cluster.exec(client, ["sh", "-c", script]);
    return { text: stdout.trim(), stderr, exitCode };
  };
  const get = async (url: string) => (await run(`curl -sg -m 3 ${url}`)).text;
  const resolveNames = async (expression: string) =>
    JSON.parse(
      (
        await run(
          `node -e 'require("node:dns").promises.${expression}.then(JSON.stringify, (error) => JSON.stringify(error.code)).then(console.log)'`,
        )
      ).text,
    ) as unknown;

  beforeAll(async () => {
    sandbox = await startSandbox({ name: "plain", mesh: false, restartBackOffMs: 200 });
    cluster = new Cluster(sandbox.kubeconfig);
    await cluster.apply(
      yaml(
        {
          apiVersion: "v1",
          kind: "ConfigMap",
          metadata: { name: "settings", namespace: "default" },
          data: { colour: "blue" },
        },
        pod("client", "node-1", {
          containers: [
            {
              name: "shell",
              image: "busybox",
              command: ["sleep", "3600"],
              env: [
                { name: "OWN_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
                { name: "COLOUR", valueFrom: { configMapKeyRef: { name: "settings", key: "colour" } } },
                { name: "SENTENCE", value: "$(COLOUR) at $(OWN_IP)" },
              ],
              volumeMounts: [
                { name: "settings", mountPath: "/etc/never-here/settings" },
                { name: "scratch", mountPath: "/opt/never-here/scratch" },
              ],
            },
          ],
          volumes: [
            { name: "settings", configMap: { name: "settings" } },
            { name: "scratch", emptyDir: {} },
          ],
        }),
        server("one", "node-1"),
        server("two", "node-2"),
        service("server", { selector: { app: "server" } }),
        service("each", { selector: { app: "server" }, clusterIP: "None" }),
        service("nobody", { selector: { app: "nobody" } }),
        {
          apiVersion: "v1",
          kind: "Service",
          metadata: { name: "alias", namespace: "default" },
          spec: { type: "ExternalName", externalName: "server.default.svc.cluster.local" },
        },
      ),
    );
    await cluster.podsReady("default", 3);
  }, 60_000);
  afterAll(async () => sandbox.close());

  const ipsOf = async (name: string) =>
    (await cluster.pods("default"))
      .find(({ metadata }) => metadata?.name === name)
      ?.status?.podIPs?.map(({ ip }) => ip) ?? [];

  test("pods of both nodes reach each other by either address", async () => {
    for (const name of ["one", "two"]) {
      const [v4 = "", v6 = ""] = await ipsOf(name);
      expect(await get(`http://${v4}:8080/`)).toBe(name);
      expect(await get(`http://[${v6}]:8080/`)).toBe(name);
    }
  });

  test("a service's address leads to every ready pod, and refuses at once where there is none", async () => {
    const answers = new Set(
      (await run("for i in $(seq 30); do curl -s -m 3 http://server/; echo; done")).text.split("\n"),
    );
    expect([...answers].sort()).toEqual(["one", "two"]);
    const refused = await run("curl -s -m 3 http://nobody/");
    expect(refused.exitCode).toBe(7); // connection refused, not a time-out (28)
  });

  test("DNS knows services, single pods, ports, aliases, and what does not exist", async () => {
    const [one] = await ipsOf("one");
    expect(await resolveNames(`resolve4("one.each.default.svc.cluster.local")`)).toEqual([one]);
    expect(await resolveNames(`resolve4("each.default.svc.cluster.local")`)).toHaveLength(2);
    expect(await resolveNames(`resolve6("each.default.svc.cluster.local")`)).toHaveLength(2);
    expect(await resolveNames(`resolveSrv("_http._tcp.each.default.svc.cluster.local")`)).toHaveLength(2);
    expect(await resolveNames(`resolveCname("alias.default.svc.cluster.local")`)).toEqual([
      "server.default.svc.cluster.local",
    ]);
    expect(await resolveNames(`resolve4("absent.default.svc.cluster.local")`)).toBe("ENOTFOUND");
    expect(await get("http://alias/")).toMatch(/one|two/u);
  });

  test("the environment and the volumes are as written, and the machine's folders stay as they were", async () => {
    const [own] = await ipsOf("client");
    expect((await run("echo $SENTENCE")).text).toBe(`blue at ${own}`);
    expect((await run("cat /etc/never-here/settings/colour")).text).toBe("blue");
    expect((await run("touch /opt/never-here/scratch/mine && ls /opt/never-here/scratch")).text).toBe("mine");
    expect(existsSync("/etc/never-here") || existsSync("/opt/never-here")).toBe(false);
  });

  test("a changed config map reaches the file", async () => {
    await cluster.merge({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "settings", namespace: "default" },
      data: { colour: "green" },
    });
    const read = async () => (await run("cat /etc/never-here/settings/colour")).text;
    await until("the new value", async () => (await read()) !== "blue", 10_000);
    expect(await read()).toBe("green");
  });

  test("a pod's token is that of its account", async () => {
    const answer = await run(
      'cd /var/run/secrets/kubernetes.io/serviceaccount; curl -s --cacert ca.crt -H "Authorization: Bearer $(cat token)" -d \'{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}\' -H "content-type: application/json" https://kubernetes.default/apis/authentication.k8s.io/v1/selfsubjectreviews',
    );
    expect(answer.text).toContain("system:serviceaccount:default:default");
  });

  test("a container that fails its probe is restarted, and the log before it is kept", async () => {
    const command = ["sh", "-c", "echo run $(date +%s); touch /run/fresh; sleep 1; rm /run/fresh; sleep 3600"];
    const exec = { command: ["test", "-e", "/run/fresh"] };
    // The first look waits for the shell's first line.
    const livenessProbe = { exec, initialDelaySeconds: 2, periodSeconds: 1, failureThreshold: 1 };
    await cluster.apply(
      yaml(pod("sickly", "node-2", { containers: [{ name: "main", image: "busybox", command, livenessProbe }] })),
    );
    await until(
      "a restart",
      async () =>
        (await cluster.pods("default")).some(
          ({ metadata, status }) =>
            metadata?.name === "sickly" && (status?.containerStatuses?.[0]?.restartCount ?? 0) > 0,
        ),
      20_000,
    );
    expect(await cluster.logs({ namespace: "default", name: "sickly" }, { previous: true })).toMatch(/^run \d+\n$/u);
  }, 30_000);

  test("an image without a program says what to do", async () => {
    await cluster.apply(
      yaml(pod("unknown", "node-1", { containers: [{ name: "main", image: "example.org/unheard-of:1" }] })),
    );
    const waiting = await until("the refusal", async () => {
      const found = (await cluster.pods("default")).find(({ metadata }) => metadata?.name === "unknown");
      const waiting = found?.status?.containerStatuses?.[0]?.state?.waiting;
      return waiting?.reason === "ContainerCreating" ? undefined : waiting;
    });
    expect(waiting.reason).toMatch(/ErrImagePull|ImagePullBackOff/u);
    expect(waiting.message).toContain('give the container a "command"');
  });

  test("a deleted pod goes, with its address", async () => {
    const [v4 = ""] = await ipsOf("two");
    await cluster.delete("v1", "Pod", "two", "default");
    await until("the pod to be gone", async () => (await ipsOf("two")).length === 0, 10_000);
    expect((await run(`curl -s -m 1 http://${v4}:8080/`)).exitCode).not.toBe(0);
    expect((await run("for i in $(seq 10); do curl -s -m 3 http://server/; echo; done")).text.split("\n")).toEqual(
      Array(10).fill("one"),
    );
  });

  test("a pod of a node that does not exist can be deleted", async () => {
    await cluster.apply(yaml(pod("lost", "nowhere", { containers: [{ name: "main", image: "busybox" }] })));
    const isThere = async () => (await cluster.pods("default")).some(({ metadata }) => metadata?.name === "lost");
    expect(await isThere()).toBe(true);
    await cluster.delete("v1", "Pod", "lost", "default");
    await until("the pod to be gone", async () => !(await isThere()), 5_000);
  });

  test("commands run in a pod's and a node's namespaces with all rights", async () => {
    expect(await output(await sandbox.runInPod(client, ["hostname"]))).toBe("client");
    expect(
      await output(await sandbox.runInNode("node-2", ["ip", "-4", "-o", "addr", "show", "dev", "eth0"])),
    ).toContain("172.18.0.3/24");
  });
});

/** A sandbox in a process of its own, which can be killed. */
async function startElsewhere(name: string, prefix: readonly string[] = [], environment: NodeJS.ProcessEnv = {}) {
  const [command, ...rest] = [
    ...prefix,
    process.execPath,
    join(projectRoot, "e2e/sandbox/main.ts"),
    "up",
    "--no-mesh",
    "--name",
    name,
  ];
  const child = spawn(command, rest, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...environment } });
  const ended = new Promise<number | null>((done) => child.once("exit", done));
  for await (const line of createInterface({ input: child.stdout })) {
    const kubeconfig = /KUBECONFIG=(\S+)/u.exec(line)?.[1];
    if (kubeconfig !== undefined) return { child, ended, kubeconfig };
  }
  throw new Error(`The sandbox ended with ${await ended}`);
}

/** Processes whose command line or mounts mention the sandbox's world, or which descend from `pid`. */
function traces(pid: number): string[] {
  const found: string[] = [];
  const parents = new Map<number, number>();
  for (const entry of readdirSync("/proc").filter((name) => /^\d+$/u.test(name))) {
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
      const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (state !== "Z") parents.set(Number(entry), Number(parent));
    } catch {
      // It ended in between.
    }
  }
  for (const [process_, parent] of parents) {
    for (let at = parent, steps = 0; at > 1 && steps < 50; at = parents.get(at) ?? 0, steps++)
      if (at === pid) found.push(String(process_));
  }
  return found;
}

test("killing a sandbox leaves no process, mount, interface or file behind, and its name is free again", async () => {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8");
  const links = readFileSync("/proc/net/dev", "utf8").split("\n").length;
  const first = await startElsewhere("killed");
  const cluster = new Cluster(first.kubeconfig);
  await cluster.apply(
    yaml(pod("sleeper", "node-1", { containers: [{ name: "main", image: "busybox", command: ["sleep", "3600"] }] })),
  );
  await cluster.podsReady("default", 1);
  const family = traces(first.child.pid ?? 0);
  expect(family.length).toBeGreaterThan(4);
  first.child.kill("SIGKILL");
  await first.ended;
  await until("all to be gone", async () => family.every((pid) => !isAlive(pid)), 20_000);
  expect(readFileSync("/proc/self/mountinfo", "utf8")).toBe(mounts);
  expect(readFileSync("/proc/net/dev", "utf8").split("\n")).toHaveLength(links);
  expect(existsSync(dirname(first.kubeconfig))).toBe(false);

  const second = await startElsewhere("killed");
  second.child.kill("SIGTERM");
  expect(await second.ended).toBe(0);
  expect(existsSync(second.kubeconfig)).toBe(false);
}, 60_000);

test("a sandbox that is asked to end while it starts does so at once", async () => {
  const program = [join(projectRoot, "e2e/sandbox/main.ts"), "up", "--name", "impatient"];
  const child = spawn(process.execPath, program, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise<number | null>((done) => child.once("exit", done));
  for await (const line of createInterface({ input: child.stdout })) if (line.includes("API server")) break;
  const family = traces(child.pid ?? 0);
  child.kill("SIGTERM");
  expect(await ended).toBe(130);
  await until("all to be gone", async () => family.every((pid) => !isAlive(pid)), 20_000);
  expect(existsSync(join(projectRoot, ".cache/sandbox/impatient"))).toBe(false);
}, 30_000);

function isAlive(pid: string): boolean {
  try {
    return !/^\d+ \(.*\) Z/u.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

test("an ordinary user has a sandbox too", async () => {
  const isRoot = process.getuid?.() === 0;
  // As an ordinary user this whole file is that test; as root somebody else is asked.
  const prefix = isRoot ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"] : [];
  const { child, ended, kubeconfig } = await startElsewhere("ordinary", prefix);
  try {
    const cluster = new Cluster(kubeconfig);
    await cluster.apply(
      yaml(
        server("one", "node-1"),
        pod("client", "node-2", { containers: [{ name: "shell", image: "busybox", command: ["sleep", "3600"] }] }),
        service("server", { selector: { app: "server" } }),
      ),
    );
    await cluster.podsReady("default", 2);
    const { stdout } = await cluster.exec({ namespace: "default", name: "client" }, [
      "curl",
      "-s",
      "-m",
      "3",
      "http://server/",
    ]);
    expect(stdout).toBe("one");
  } finally {
    child.kill("SIGTERM");
    await ended;
  }
}, 60_000);

async function output(child: Awaited<ReturnType<Sandbox["runInNode"]>>): Promise<string> {
  let text = "";
  child.stdout?.setEncoding("utf8").on("data", (part: string) => (text += part));
  await new Promise((done) => child.once("close", done));
  return text.trim();
}
