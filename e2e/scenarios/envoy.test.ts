/**
 * What a waypoint is told is Envoy's own language: an unmodified Envoy, connected as a waypoint, accepts every listener,
 * cluster and endpoint of the example worlds, and does as they say where its listener is reached directly.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import process from "node:process";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { parseAllDocuments } from "yaml";
import { systemClock } from "#shared/clock/clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { DiscoveryServer } from "#shared/xds/discovery-server.ts";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { translate } from "#controlplane/translate/translate.ts";
import { WaypointViews } from "#controlplane/xds/waypoint-views.ts";
import { Envoy, envoyPath } from "#e2e/support/envoy.ts";

const examples = join(import.meta.dirname, "../../controlplane/translate/testdata/envoy");
const path = await envoyPath();

/** A control plane without anything around it: worlds in, discovery out, on a socket that is a file. */
class ControlPlane implements AsyncDisposable {
  readonly socket: string;
  readonly #folder = mkdtempSync(join(tmpdir(), "ambit-ads-"));
  readonly #views = new WaypointViews({ clock: systemClock, log: silentLogger });
  readonly #discovery: DiscoveryServer;
  readonly #grpc = new Server();

  constructor() {
    this.socket = join(this.#folder, "ads.sock");
    this.#discovery = new DiscoveryServer({
      sources: [],
      openSources: (client) => this.#views.open(client),
      isSynced: () => true,
      clock: systemClock,
      log: silentLogger,
    });
    this.#discovery.addTo(this.#grpc, () => Promise.resolve({ checked: false }));
  }

  async start(): Promise<void> {
    await new Promise<void>((done, fail) =>
      this.#grpc.bindAsync(`unix:${this.socket}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? done() : fail(error),
      ),
    );
  }

  publish(objects: readonly KubeObject[]): void {
    const world = new World();
    for (const each of withApiDefaults(objects.map((object) => ({ object })))) world.upsert(each);
    expect(world.problems).toEqual([]);
    this.#views.publish(translate(world, defaultOptions).collected);
  }

  /** What the client has refused, and whether it has accepted all that it was sent. */
  answer(): { readonly refused: readonly string[]; readonly isDone: boolean } {
    const types = this.#discovery.clients().flatMap((client) => client.types);
    return {
      refused: types.flatMap(({ lastError }) => (lastError === undefined ? [] : [lastError.message])),
      isDone: types.length >= 3 && types.every(({ state }) => state === "SYNCED" || state === "REJECTED"),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#discovery[Symbol.dispose]();
    await new Promise<void>((done) => this.#grpc.tryShutdown(() => done()));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

const objectsOf = (file: string): readonly KubeObject[] =>
  parseAllDocuments(readFileSync(file, "utf8")).map((document) => document.toJS() as KubeObject);

/** Worlds by name. Those in folders with a base are that base and one more file. */
function worlds(): readonly {
  readonly name: string;
  readonly objects: readonly KubeObject[];
  readonly gateway: string;
}[] {
  const files = readdirSync(examples, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".yaml"))
    .map((name) => join(examples, name));
  const bases = files.filter((file) => file.endsWith("/base.yaml"));
  return files
    .filter((file) => !bases.includes(file))
    .map((file) => {
      const base = bases.find((each) => join(each, "..") === join(file, ".."));
      const objects = [...(base === undefined ? [] : objectsOf(base)), ...objectsOf(file)];
      const gateway = objects.find(({ kind }) => kind === "Gateway")?.metadata as { name: string } | undefined;
      return { name: relative(examples, file).replace(/\.yaml$/, ""), objects, gateway: gateway?.name ?? "" };
    });
}

const all = worlds();
const gateways = [...new Set(all.map(({ gateway }) => gateway))].filter((name) => name !== "");

describe.each(gateways)("an Envoy that is waypoint shop/%s", (gateway) => {
  const controlPlane = new ControlPlane();
  let envoy: Envoy;
  const mine = all.filter((world) => world.gateway === gateway);

  beforeAll(async () => {
    await controlPlane.start();
    controlPlane.publish(mine[0]?.objects ?? []);
    envoy = await Envoy.start({
      path,
      ads: { socket: controlPlane.socket },
      namespace: "shop",
      gateway,
      virtualAddresses: [],
    });
  }, 60_000);

  afterAll(async () => {
    await envoy?.[Symbol.asyncDispose]();
    await controlPlane[Symbol.asyncDispose]();
  }, 30_000);

  test.each(mine)("accepts $name", async ({ objects }) => {
    controlPlane.publish(objects);
    await envoy.until("an answer", () => Promise.resolve(controlPlane.answer().isDone));
    expect(controlPlane.answer().refused).toEqual([]);
  });
});

describe("an Envoy whose listener is reached directly", () => {
  const controlPlane = new ControlPlane();
  const backends: ChildProcess[] = [];
  let envoy: Envoy;

  beforeAll(async () => {
    await controlPlane.start();
    controlPlane.publish(parseAllDocuments(directWorld).map((document) => document.toJS() as KubeObject));
    envoy = await Envoy.start({
      path,
      ads: { socket: controlPlane.socket },
      namespace: "shop",
      gateway: "wp",
      virtualAddresses: ["10.96.0.1"],
    });
    for (const [host, name] of [
      ["127.0.0.2", "v1"],
      ["127.0.0.3", "v2"],
    ] as const) {
      const script = `require("node:http").createServer((request, answer) => answer.end("${name} " + request.url)).listen(8080, "${host}", () => console.log("ready"))`;
      const within = envoy.command(process.execPath, ["-e", script]);
      const child = spawn(within.program, [...within.args], { stdio: ["ignore", "pipe", "inherit"] });
      backends.push(child);
      await new Promise((ready) => child.stdout.once("data", ready));
    }
    await envoy.until("its listener", async () =>
      (await envoy.run("curl", ["-s", "127.0.0.1:15000/listeners"])).includes("15006"),
    );
  }, 60_000);

  afterAll(async () => {
    for (const child of backends) child.kill("SIGKILL");
    await envoy?.[Symbol.asyncDispose]();
    await controlPlane[Symbol.asyncDispose]();
  }, 30_000);

  const ask = (...args: readonly string[]): Promise<string> =>
    envoy.run("curl", ["-s", "-o", "-", "-w", " %{http_code}", "--max-time", "10", ...args]);

  test.each([
    ["a match goes to its subset", ["http://10.96.0.1/two/x"], "v2 /two/x 200"],
    ["a prefix is rewritten", ["http://10.96.0.1/old/x"], "v1 /new/x 200"],
    ["a redirect is answered", ["http://10.96.0.1/gone"], " 301"],
    ["a fault is injected", ["-H", "x-fault: yes", "http://10.96.0.1/"], "fault filter abort 418"],
    ["a policy refuses", ["-X", "DELETE", "http://10.96.0.1/"], "RBAC: access denied 403"],
    ["everything else goes to the rest", ["http://10.96.0.1/"], "v1 / 200"],
  ])("%s", async (_what, args, expected) => {
    expect(await ask(...args)).toBe(expected);
  });
});

const directWorld = `
apiVersion: v1
kind: Namespace
metadata: { name: shop, labels: { istio.io/use-waypoint: wp } }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: wp, namespace: shop }
spec: { gatewayClassName: istio-waypoint, listeners: [{ name: mesh, port: 15008, protocol: HBONE }] }
status: { addresses: [{ type: IPAddress, value: 10.96.0.100 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: one, namespace: shop, labels: { app: a, version: v1 } }
spec: { containers: [{ name: c }] }
status: { phase: Running, podIP: 127.0.0.2, conditions: [{ type: Ready, status: "True" }] }
---
apiVersion: v1
kind: Pod
metadata: { name: two, namespace: shop, labels: { app: a, version: v2 } }
spec: { containers: [{ name: c }] }
status: { phase: Running, podIP: 127.0.0.3, conditions: [{ type: Ready, status: "True" }] }
---
apiVersion: v1
kind: Service
metadata: { name: a, namespace: shop }
spec: { clusterIP: 10.96.0.1, selector: { app: a }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: a, namespace: shop }
spec:
  host: a
  subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: a, namespace: shop }
spec:
  hosts: [a]
  http:
    - match: [{ headers: { x-fault: { exact: "yes" } } }]
      fault: { abort: { httpStatus: 418, percentage: { value: 100 } } }
      route: [{ destination: { host: a, subset: v1 } }]
    - match: [{ uri: { prefix: /two } }]
      route: [{ destination: { host: a, subset: v2 } }]
    - match: [{ uri: { prefix: /old } }]
      rewrite: { uri: /new }
      route: [{ destination: { host: a, subset: v1 } }]
    - match: [{ uri: { exact: /gone } }]
      redirect: { uri: /here }
    - route: [{ destination: { host: a, subset: v1 } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: no-deletes, namespace: shop }
spec:
  targetRefs: [{ group: "", kind: Service, name: a }]
  action: DENY
  rules: [{ to: [{ operation: { methods: [DELETE] } }] }]
`;
