/** The checks of `folder.test.ts`, run inside namespaces of their own; prints one JSON line for each. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { until } from "#e2e/support/cluster.ts";
import { projectRoot } from "#e2e/support/mesh.ts";
import { installRules } from "#ztunnel/agent/pod-rules.ts";
import { probeSourcesDefault } from "#ztunnel/agent/redirect-rules.ts";
import { inNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import { buildWorld, call, mark, serveApplication, type Place } from "../capture/world.ts";

const world = buildWorld();
const { pod: server, client } = world;
const pods = { server, client };
const vip = "10.96.0.10" as typeof server.v4;
/** The machine between the two pods, where the control plane listens. */
const machine = "10.77.1.1";
const folder = "/run/mesh";
const state = "/run/state";
mkdirSync(folder);

/** A daemon of ours as a process; it ends with the namespaces that it is in. */
class Daemon {
  readonly #lines: string[] = [];
  #rest = "";

  constructor(command: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const [program = "", ...args] = command;
    const child = spawn(program, args, { env: { PATH: process.env["PATH"], ...env }, cwd: "/run" });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        const lines = (this.#rest + chunk.toString("utf8")).split("\n");
        this.#rest = lines.pop() ?? "";
        this.#lines.push(...lines);
      });
    }
    child.on("exit", (code, signal) => this.#lines.push(`ended: ${signal ?? code}`));
  }

  /** What it says from now on. */
  listen(): { readonly lines: readonly string[]; heard(pattern: RegExp): Promise<string> } {
    const from = this.#lines.length;
    const heard = (): string[] => this.#lines.slice(from);
    return {
      get lines() {
        return heard();
      },
      heard: (pattern) =>
        until(`${pattern} in the log`, async () => heard().find((line) => pattern.test(line)), 20_000).catch(
          (error: unknown) => {
            throw new Error(`${String(error)}; it said:\n${heard().join("\n")}`);
          },
        ),
    };
  }
}

const node = process.execPath;
const controlPlaneProgram = join(projectRoot, "controlplane/main.ts");

function startZtunnel(name: "server" | "client", netns: string): Daemon {
  const account = ["--namespace", "shop", "--service-account", name];
  const token = execFileSync(node, [controlPlaneProgram, "token", "--state-dir", state, ...account]);
  const tokenPath = `/run/token-${name}`;
  writeFileSync(tokenPath, token);
  const roots = join(state, "root-cert.pem");
  return new Daemon(["nsenter", `--net=/run/netns/${netns}`, node, join(projectRoot, "ztunnel/main.ts"), "proxy"], {
    PROXY_MODE: "dedicated",
    PROXY_WORKLOAD_INFO: `shop/${name}/${name}`,
    NODE_NAME: `node-of-${name}`,
    POD_NAME: name,
    POD_NAMESPACE: "shop",
    SERVICE_ACCOUNT: name,
    INSTANCE_IP: pods[name].v4,
    // Rules tell ztunnel's connections from the pod's by it.
    PACKET_MARK: String(mark),
    XDS_ADDRESS: `${machine}:15012`,
    CA_ADDRESS: `${machine}:15012`,
    XDS_ROOT_CA: roots,
    CA_ROOT_CA: roots,
    AUTH_TOKEN: tokenPath,
  });
}

const write = (name: string, text: string) => writeFileSync(join(folder, name), text);

const podYaml = (name: string, { v4, v6 }: Place): string => `apiVersion: v1
kind: Pod
metadata:
  name: ${name}
  namespace: shop
  labels: {app: ${name}}
  annotations: {ambient.istio.io/redirection: enabled}
spec:
  nodeName: node-of-${name}
  serviceAccountName: ${name}
  containers: [{name: app, image: app}]
status:
  phase: Running
  podIP: ${v4}
  podIPs: [{ip: ${v4}}, {ip: "${v6}"}]
  conditions: [{type: Ready, status: "True"}]
`;

const serviceYaml = `apiVersion: v1
kind: Service
metadata: {name: server, namespace: shop}
spec:
  clusterIP: ${vip}
  clusterIPs: [${vip}]
  selector: {app: server}
  ports: [{name: tcp, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: server-1
  namespace: shop
  labels: {kubernetes.io/service-name: server}
addressType: IPv4
ports: [{name: tcp, port: 8080, protocol: TCP}]
endpoints:
  - addresses: [${server.v4}]
    conditions: {ready: true}
    targetRef: {kind: Pod, name: server, namespace: shop}
`;

const namespaceYaml = `apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
`;

const denyYaml = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: no-client
  namespace: shop
spec:
  action: DENY
  rules:
    - from:
        - source:
            principals: [cluster.local/ns/shop/sa/client]
`;

write("world.yaml", [namespaceYaml, podYaml("server", server), podYaml("client", client), serviceYaml].join("---\n"));

const application = await serveApplication(server.netns.fd, 8_080);
const places = ["--source", `folder:${folder}`, "--state-dir", state, "--cacerts", "/run/none"];
const controlPlane = new Daemon([node, controlPlaneProgram, "discovery", ...places, "--host", machine]);
await controlPlane.listen().heard(/control plane serves/u);
/** Who the application says has called; undefined where it was not reached. */
async function callerSeen(ip = server.v4, port = 8_080): Promise<string | undefined> {
  const answer = await call(client.netns.fd, { ip, port }).catch(() => "");
  return answer === "" ? undefined : answer;
}

assert.equal(await callerSeen(), client.v4, "there is no mesh yet");
const facts = { probeSources: probeSourcesDefault, ipv6: true, dnsCapture: false, ingressMode: false };
for (const { netns } of [server, client]) {
  // A dedicated ztunnel shares the namespace with its pod: what it says to the control plane must pass.
  const own = `table inet own {
  chain output { type filter hook output priority -200; ip daddr ${machine} tcp dport 15012 meta mark set ${mark}; }
}`;
  inNamespace(netns.fd, () => execFileSync("nft", ["-f", "-"], { input: own }));
  await installRules(netns.fd, { ...facts, rerouteInterfaces: [] });
}
const ztunnels = { server: startZtunnel("server", "pod"), client: startZtunnel("client", "client") };
await Promise.all(Object.values(ztunnels).map((ztunnel) => ztunnel.listen().heard(/\bserving\b/u)));

const denied = () => until("the denial", async () => (await callerSeen()) === undefined);
const allowed = () => until("traffic", async () => (await callerSeen()) === client.v4);
/** Longer than the control plane needs to take a change. */
const meanwhile = () => pause(1_500);

const tunnelled =
  /src\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/client".*dst\.hbone_addr=.*dst\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/server"/u;

const checks: Record<string, () => Promise<void>> = {
  "a captured connection goes through HBONE, and the application sees its caller": async () => {
    const [from, to] = [ztunnels.client.listen(), ztunnels.server.listen()];
    assert.equal(await callerSeen(), client.v4);
    await from.heard(new RegExp(`${tunnelled.source}.*direction="outbound"`, "u"));
    await to.heard(new RegExp(`${tunnelled.source}.*direction="inbound"`, "u"));
  },
  "so does one over IPv6, and one to the service's address": async () => {
    const from = ztunnels.client.listen();
    assert.equal(await callerSeen(server.v6), client.v6);
    assert.equal(await callerSeen(vip, 80), client.v4);
    await from.heard(/dst\.service="server\.shop\.svc\.cluster\.local".*direction="outbound"/u);
    await until("a line of each", async () => from.lines.filter((line) => tunnelled.test(line)).length === 2);
  },
  "a DENY policy takes effect when its file is there": async () => {
    const log = ztunnels.server.listen();
    write("policy.yaml", denyYaml);
    await denied();
    await log.heard(/explicitly denied by: shop\/no-client/u);
  },
  "a file that is no YAML is told with line and column, and takes nothing out of force": async () => {
    const log = controlPlane.listen();
    write("policy.yaml", `${denyYaml}  selector: {matchLabels: {app: [}\n`);
    const line = await log.heard(/configuration cannot be read/u);
    assert.match(line, /policy\.yaml:12:\d+: /u);
    await meanwhile();
    assert.equal(await callerSeen(), undefined);
  },
  "mistakes are told all at once, with place, field and remedy, and the last good version stays": async () => {
    const log = controlPlane.listen();
    write(
      "policy.yaml",
      denyYaml
        .replace("DENY", "Deny")
        .replace("  rules:", "  rulez: []\n  rules:")
        .replace("principals: [", "ipBlocks: [10.0.0.0/99]\n            principals: [spiffe://"),
    );
    const line = await log.heard(/object refused: its last valid version stays in force/u);
    for (const told of [
      'policy.yaml:7:11: spec.action: \\"Deny\\" is not one of ALLOW, DENY, AUDIT, CUSTOM: did you mean \\"DENY\\"?',
      'policy.yaml:8:3: spec.rulez: unknown field \\"rulez\\": did you mean \\"rules\\"?',
      'policy.yaml:12:24: spec.rules[0].from[0].source.ipBlocks[0]: \\"10.0.0.0/99\\" is not an IP address or range: write it as',
      'policy.yaml:13:26: spec.rules[0].from[0].source.principals[0]: \\"spiffe://cluster.local/ns/shop/sa/client\\" never matches: write it without the scheme',
    ]) {
      assert.ok(line.replaceAll('\\"', '"').includes(told.replaceAll('\\"', '"')), `${told}\nnot in\n${line}`);
    }
    await meanwhile();
    assert.equal(await callerSeen(), undefined);
  },
  "two broken files at once are both told, and the mesh stays as it is": async () => {
    const log = controlPlane.listen();
    write("world.yaml", "kind: Namespace\n\tmetadata: {}\n");
    write("more.yaml", "apiVersion: v1\nkind: Servise\nmetadata: {name: x}\n");
    await log.heard(/world\.yaml:2:/u);
    await log.heard(/more\.yaml:2:7: kind: .*\bService\b/u);
    await meanwhile();
    assert.equal(await callerSeen(), undefined);
    const beside = ztunnels.client.listen();
    assert.equal(await callerSeen(vip, 80), undefined, "the service is known as before, and so is who may call it");
    await beside.heard(/dst\.service="server\.shop\.svc\.cluster\.local"/u);
  },
  "what was put right is told, and takes force": async () => {
    const log = controlPlane.listen();
    rmSync(join(folder, "more.yaml"));
    write(
      "world.yaml",
      [namespaceYaml, podYaml("server", server), podYaml("client", client), serviceYaml].join("---\n"),
    );
    await log.heard(/world\.yaml.*can be read again|can be read again.*world\.yaml/u);
    write("policy.yaml", denyYaml.replace("/sa/client", "/sa/somebody"));
    await allowed();
  },
  "deletion restores traffic": async () => {
    write("policy.yaml", denyYaml);
    await denied();
    rmSync(join(folder, "policy.yaml"));
    await allowed();
    const from = ztunnels.client.listen();
    assert.equal(await callerSeen(), client.v4);
    await from.heard(tunnelled);
  },
};

for (const [name, check] of Object.entries(checks)) {
  let failure: string | undefined;
  try {
    await check();
  } catch (error) {
    failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  process.stdout.write(`${JSON.stringify({ name, failure })}\n`);
}
application.close();
process.exit();
