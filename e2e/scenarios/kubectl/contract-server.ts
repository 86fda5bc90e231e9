import { spawn } from "node:child_process";
import { connect } from "node:net";
import { systemClock } from "#shared/clock/clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { createApiServer, type ApiServer } from "#e2e/sandbox/apiserver/api-server.ts";
import { MemoryObjectStore, type KubeObject } from "#e2e/sandbox/apiserver/object-store.ts";
import type { PodRuntime } from "#e2e/sandbox/apiserver/pod-runtime.ts";
import { RangeAllocator } from "#e2e/sandbox/apiserver/range-allocator.ts";
import { ids } from "#e2e/sandbox/apiserver/resources.ts";

/** A "node" that runs commands beside the test and answers for every container. */
const runtime: PodRuntime = {
  async *logs(pod, container, { tailLines, follow, signal }) {
    const lines = ["one", "two", "three"].map((line) => `${pod.metadata.name}/${container} ${line}\n`);
    yield Buffer.from(lines.slice(-(tailLines ?? lines.length)).join(""));
    if (!follow) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
    if (!signal.aborted) yield Buffer.from("more\n");
  },
  exec: (_pod, _container, [command = "", ...args], { stdin, stdout, stderr, signal }) =>
    new Promise((resolve, reject) => {
      const child = spawn(command, args, { signal });
      child.on("error", reject);
      child.stdin.on("error", () => {}); // a command need not read what it is sent
      if (stdin === undefined) child.stdin.end();
      else stdin.pipe(child.stdin);
      if (stdout !== undefined) child.stdout.pipe(stdout, { end: false });
      if (stderr !== undefined) child.stderr.pipe(stderr, { end: false });
      child.on("close", (code) => resolve(code ?? 137));
    }),
  connect: (_pod, port) =>
    new Promise((resolve, reject) => {
      const socket = connect(port, "127.0.0.1", () => resolve(socket));
      socket.on("error", reject);
    }),
};

/** Says at once that every deployment is rolled out, which is all that the contract needs of a controller. */
function rollOutAtOnce(store: MemoryObjectStore): () => void {
  return store.watch(
    ids.deployments,
    ({ type, object }) => {
      const { replicas } = object["spec"] as { replicas: number };
      const { generation } = object.metadata;
      if (type === "DELETED" || generation === undefined) return;
      const status = {
        observedGeneration: generation,
        replicas,
        updatedReplicas: replicas,
        readyReplicas: replicas,
        availableReplicas: replicas,
      };
      const conditions = [{ type: "Available", status: "True" }];
      if (store.get(ids.deployments, object.metadata.namespace, object.metadata.name) !== object) return;
      store.patchStatus(ids.deployments, object.metadata.namespace, object.metadata.name, (one) => ({
        ...one,
        status: { ...status, conditions },
      }));
    },
    { replay: true },
  );
}

export interface ContractServer {
  readonly api: ApiServer;
  readonly store: MemoryObjectStore;
  readonly kubeconfig: string;
  /** Says that a pod runs on a node, which nobody does here. */
  startPod(namespace: string, name: string): void;
  close(): Promise<void>;
}

export async function openContractServer(): Promise<ContractServer> {
  const store = new MemoryObjectStore({ clock: systemClock });
  const api = await createApiServer({
    store,
    runtime,
    allocator: new RangeAllocator(),
    clock: systemClock,
    log: silentLogger,
  });
  const port = await api.listen({ host: "127.0.0.1", port: 0 });
  const stop = rollOutAtOnce(store);
  return {
    api,
    store,
    kubeconfig: api.kubeconfig(`https://127.0.0.1:${port ?? 0}`),
    startPod: (namespace, name) => {
      store.patchStatus(ids.pods, namespace, name, (pod): KubeObject => ({
        ...pod,
        status: { phase: "Running", conditions: [{ type: "Ready", status: "True" }] },
      }));
    },
    close: async () => {
      stop();
      await api.close();
    },
  };
}
