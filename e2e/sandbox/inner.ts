/**
 * The sandbox itself: API server, controllers, kubelets, DNS and network, in namespaces of its own. Started by
 * `sandbox.ts`, which it tells how far it is; it ends when that process does.
 */
import type { Server } from "node:net";
import { flushCompileCache } from "node:module";
import { cpus, totalmem } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { systemClock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { openLogger } from "#shared/observe/logger.ts";
import { createApiServer, type ApiServer } from "./apiserver/api-server.ts";
import { MemoryObjectStore } from "./apiserver/object-store.ts";
import { createClusterServices } from "./cluster-services.ts";
import { startControllers } from "./controllers/start-controllers.ts";
import { startDnsServer } from "./dns/dns-server.ts";
import { storeObjects } from "./dns/store-objects.ts";
import { eventRecorder } from "./events.ts";
import { as, resources, type Pod } from "./kinds.ts";
import { repository } from "./kubelet/images.ts";
import { startKubelet, type Kubelet } from "./kubelet/kubelet.ts";
import type { TokenRequest } from "./kubelet/node-context.ts";
import { nodeRuntime } from "./kubelet/node-runtime.ts";
import { backOffDefault } from "./kubelet/restart.ts";
import type { FromInner, InnerOptions, Location, Place, ToInner } from "./messages.ts";
import { Fabric } from "./network/fabric.ts";
import { listAddresses, planNetwork } from "./network/plan.ts";
import { ServiceAddresses } from "./network/service-addresses.ts";
import { startServiceProxy } from "./network/service-proxy.ts";
import { openOutsideDoor } from "./outside-door.ts";
import { fabricFolders, prepareWorld } from "./world.ts";

const apiPort = 6443;
const compiledAfterMs = 5_000;
const log = openLogger("sandbox", "info");
const tell = (message: FromInner) => process.send?.(message);

/** Containers that name no PATH find this project's Node first, then what the machine has. */
const containerPath = [
  dirname(process.execPath),
  join(repository, "node_modules", ".bin"),
  "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
].join(":");

async function start(options: InnerOptions, listener: Server): Promise<(what: Location) => Place> {
  const plan = planNetwork(options);
  const clock = systemClock;
  const store = new MemoryObjectStore({
    clock,
    onListenerError: (error) => log.error({ error: explain(error) }, "a watcher failed"),
  });
  let kubelets: readonly Kubelet[] = [];
  const runtime = nodeRuntime(() => kubelets);
  const serverNames = [...listAddresses(plan.host), ...plan.nodes.flatMap(({ address }) => listAddresses(address))];
  const server = createApiServer({
    store,
    runtime,
    allocator: new ServiceAddresses(options.ipv6),
    clock,
    log,
    serverNames,
    podPort: apiPort,
  });
  await prepareWorld(plan.nodes);
  const fabric = await Fabric.create(plan, fabricFolders);
  tell({ kind: "progress", text: `The network is up: ${plan.nodes.map(({ name }) => name).join(", ")}` });

  const api = await server;
  await api.listen({ handle: listener });
  for (const host of listAddresses(plan.host)) await api.listen({ host, port: apiPort });
  createClusterServices(store, plan.host, apiPort);
  await startDnsServer({ addresses: listAddresses(plan.host), objects: storeObjects(store) });
  const warn = (text: string, error: unknown) => log.warn({ error: explain(error) }, text);
  startServiceProxy({
    store,
    ipv6: options.ipv6,
    namespaces: [undefined, ...fabric.nodes.map(({ netns }) => netns)],
    onError: (error) => warn("cannot write the rules of services", error),
  });
  startControllers({
    store,
    clock,
    events: eventRecorder(store, clock, "controller-manager"),
    onError: (controller, key, error) => warn(`${controller} will try ${key} again`, error),
  });
  if (options.outside.length > 0) await openOutsideDoor(listAddresses(plan.host), options.outside);
  const images = new Map(Object.entries(options.images));
  kubelets = fabric.nodes.map((network) =>
    startKubelet({
      store,
      clock,
      network,
      events: eventRecorder(store, clock, "kubelet", network.plan.name),
      images,
      backOff: { ...backOffDefault, baseMs: options.backOffBaseMs },
      issueToken: (request) => issueToken(api, store, request),
      capacity: { cpu: cpus().length, memoryBytes: totalmem() },
      nameServer: plan.host.v4,
      path: containerPath,
    }),
  );
  tell({ kind: "ready", caPem: api.caPem, token: api.adminToken });

  return (what) => {
    if ("node" in what) {
      const node = fabric.nodes.find(({ plan: { name } }) => name === what.node);
      if (node === undefined)
        throw new Error(`No node "${what.node}": there are ${plan.nodes.map(({ name }) => name).join(", ")}`);
      return { netns: node.netns };
    }
    const object = store.get(resources.pods, what.namespace, what.pod);
    const pod = object === undefined ? undefined : as<Pod>(object);
    const worker = kubelets.find(({ node }) => node === pod?.spec.nodeName)?.worker(pod?.metadata.uid ?? "");
    const netns = worker?.networkNamespace;
    if (pod === undefined || worker === undefined || netns === undefined)
      throw new Error(`Pod ${what.namespace}/${what.pod} does not run`);
    const running = worker.runner(what.container ?? pod.spec.containers[0]?.name ?? "")?.running;
    return running === undefined ? { netns } : { netns, pid: running.pid };
  };
}

async function issueToken(
  api: ApiServer,
  store: MemoryObjectStore,
  request: TokenRequest,
): Promise<{ token: string; expiresMs: number }> {
  const account = store.get(resources.serviceAccounts, request.namespace, request.serviceAccount);
  if (account === undefined) throw new Error(`serviceaccount "${request.serviceAccount}" not found`);
  const { defaultAudiences } = await import("./apiserver/service-account-tokens.ts");
  const pod = store.get(resources.pods, request.namespace, request.pod.name);
  const node = store.get(resources.nodes, undefined, pod === undefined ? "" : (as<Pod>(pod).spec.nodeName ?? ""));
  const { token, expiresAt } = api.tokens.issue(account, {
    audiences: request.audience === undefined ? defaultAudiences : [request.audience],
    expirationSeconds: request.expirationSeconds,
    bound: { kind: "Pod", ...request.pod },
    ...(node === undefined ? {} : { node: { name: node.metadata.name, uid: node.metadata.uid } }),
  });
  return { token, expiresMs: Date.parse(expiresAt) };
}

let locate: ((what: Location) => Place) | undefined;

process.on("message", (message: ToInner, handle: unknown) => {
  if (message.kind === "start") {
    start(message.options, handle as Server).then(
      (answer) => (locate = answer),
      (error: unknown) => tell({ kind: "failed", message: explain(error) }),
    );
  } else if (message.kind === "locate") {
    try {
      if (locate === undefined) throw new Error("the sandbox is still starting");
      tell({ kind: "located", id: message.id, place: locate(message.what) });
    } catch (error) {
      tell({ kind: "located", id: message.id, place: { error: explain(error) } });
    }
  }
});
// Without the outer process nobody could use or end the sandbox; with us, as its process 1 ends, all of it goes.
process.on("disconnect", () => process.exit(0));
process.on("uncaughtException", (error) => {
  log.fatal({ error: error.stack }, "the sandbox failed");
  process.exit(1);
});
tell({ kind: "listening" });
// Node does this by itself only at an orderly exit, which the sandbox does not have.
setTimeout(flushCompileCache, compiledAfterMs).unref();
