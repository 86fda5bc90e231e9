import { arch, release } from "node:os";
import { as, resources, toObject, type Pod } from "../kinds.ts";
import { openNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import type { KubeObject, NewObject } from "../apiserver/object-store.ts";
import { serverVersion } from "../apiserver/server-version.ts";
import { listAddresses, maxPodsPerNode } from "../network/plan.ts";
import type { NodeContext } from "./node-context.ts";
import { PodWorker } from "./pod-worker.ts";

/** The kubelet renews its lease every 10 s, for 40 s. */
const heartbeatMs = 10_000;
const leaseSeconds = 40;

export interface Kubelet {
  readonly node: string;
  /** The worker of a pod that runs here. */
  worker(uid: string): PodWorker | undefined;
  close(): void;
}

/** Registers the node and runs the pods that are bound to it. */
export function startKubelet(options: Omit<NodeContext, "netnsFd">): Kubelet {
  const netns = openNamespace(options.network.netns);
  const context: NodeContext = { ...options, netnsFd: netns.fd };
  const { store, clock } = context;
  const node = context.network.plan.name;
  const workers = new Map<string, PodWorker>();
  registerNode(context);
  renewLease(context);

  let cancelHeartbeat = () => {};
  const beat = () => {
    cancelHeartbeat = clock.schedule(heartbeatMs, () => {
      renewLease(context);
      beat();
    });
  };
  beat();

  const stops = [
    store.watch(
      resources.pods,
      ({ type, object }) => {
        const pod = as<Pod>(object);
        if (pod.spec.nodeName === node) onPod(type, pod);
      },
      { replay: true },
    ),
    ...[resources.configMaps, resources.secrets, resources.serviceAccounts].map((id) =>
      store.watch(id, ({ object }) => {
        for (const { worker, namespace } of inNamespace()) {
          if (namespace === object.metadata.namespace) worker.refresh();
        }
      }),
    ),
  ];
  const namespaces = new Map<string, string | undefined>();
  const inNamespace = () => [...workers].map(([uid, worker]) => ({ worker, namespace: namespaces.get(uid) }));

  const onPod = (type: "ADDED" | "MODIFIED" | "DELETED", pod: Pod) => {
    const { uid, namespace } = pod.metadata;
    const worker = workers.get(uid);
    if (type === "DELETED") {
      void worker?.terminate(0);
      return;
    }
    if (worker !== undefined) {
      worker.update(pod);
      return;
    }
    const fresh = new PodWorker(pod, context);
    workers.set(uid, fresh);
    namespaces.set(uid, namespace);
    if (pod.metadata.deletionTimestamp === undefined) fresh.start();
    else fresh.update(pod);
  };

  const forget = store.watch(resources.pods, ({ type, object }) => {
    const { uid } = object.metadata;
    const worker = workers.get(uid);
    if (type !== "DELETED" || worker === undefined) return;
    void worker.terminate(0).finally(() => {
      workers.delete(uid);
      namespaces.delete(uid);
    });
  });

  return {
    node,
    worker: (uid) => workers.get(uid),
    close: () => {
      cancelHeartbeat();
      for (const stop of stops) stop();
      forget();
      netns.close();
    },
  };
}

const timestamp = (ms: number) => `${new Date(ms).toISOString().slice(0, 19)}Z`;

function registerNode({ store, network, capacity, clock }: NodeContext): void {
  const { plan } = network;
  const now = timestamp(clock.now());
  const zone = plan.zone;
  const podCidrs = listAddresses(plan.podCidr);
  const node: NewObject = {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name: plan.name,
      labels: {
        "kubernetes.io/hostname": plan.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
        "topology.kubernetes.io/region": "sandbox",
        "topology.kubernetes.io/zone": zone,
      },
    },
    spec: { podCIDR: podCidrs[0], podCIDRs: podCidrs },
  };
  const { name } = store.create(resources.nodes, node).metadata;
  const amounts = {
    cpu: String(capacity.cpu),
    memory: `${Math.floor(capacity.memoryBytes / 1024)}Ki`,
    pods: String(maxPodsPerNode),
  };
  const healthy = (type: string, reason: string, message: string) => ({
    type,
    status: type === "Ready" ? "True" : "False",
    reason,
    message,
    lastHeartbeatTime: now,
    lastTransitionTime: now,
  });
  store.patchStatus(resources.nodes, undefined, name, (object): KubeObject => ({
    ...object,
    status: {
      capacity: amounts,
      allocatable: amounts,
      addresses: [
        ...listAddresses(plan.address).map((address) => ({ type: "InternalIP", address })),
        { type: "Hostname", address: plan.name },
      ],
      conditions: [
        healthy("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        healthy("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        healthy("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        healthy("Ready", "KubeletReady", "kubelet is posting ready status"),
      ],
      nodeInfo: {
        machineID: plan.name,
        systemUUID: plan.name,
        bootID: plan.name,
        kernelVersion: kernelVersion(),
        osImage: "Ambit sandbox",
        containerRuntimeVersion: "sandbox://0.1.0",
        kubeletVersion: serverVersion.gitVersion,
        kubeProxyVersion: "",
        operatingSystem: "linux",
        architecture: architecture(),
      },
    },
  }));
}

function renewLease({ store, network, clock }: NodeContext): void {
  const { name } = network.plan;
  const namespace = "kube-node-lease";
  const spec = {
    holderIdentity: name,
    leaseDurationSeconds: leaseSeconds,
    renewTime: `${new Date(clock.now()).toISOString().slice(0, -1)}000Z`,
  };
  const lease = store.get(resources.leases, namespace, name);
  if (lease !== undefined) store.update(resources.leases, toObject({ ...lease, spec } as KubeObject));
  else if (store.get(resources.namespaces, undefined, namespace) !== undefined) {
    store.create(resources.leases, {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { namespace, name },
      spec,
    });
  }
}

/** Go's names for what Node calls otherwise. */
const architecture = () => ({ x64: "amd64", ia32: "386" })[arch() as string] ?? arch();
const kernelVersion = () => release();
