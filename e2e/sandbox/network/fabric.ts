/**
 * The network of the sandbox: a bridge between the nodes, one network namespace per node and one per pod, joined by
 * veth pairs. A pod's address is a /32 behind its node, so that every packet is routed by the node, also between two
 * pods beside each other: translation of service addresses then sees both directions without a bridge filter.
 */
import { mkdir, rm } from "node:fs/promises";
import { quote, runScript } from "../run-script.ts";
import { listAddresses, PodAddresses, type DualStack, type NetworkPlan, type NodePlan } from "./plan.ts";

export interface PodNetwork {
  /** Path of the network namespace, also seen as /var/run/netns/<name> on its node. */
  readonly netns: string;
  readonly address: DualStack;
  /** Takes the pod's interface and namespace away. May be called twice. */
  remove(): Promise<void>;
}

export interface NodeNetwork {
  readonly plan: NodePlan;
  readonly netns: string;
  addPod(name: string): Promise<PodNetwork>;
}

export interface FabricFolders {
  /** Path of the file that a node's network namespace is bound to. */
  nodeNetns(node: NodePlan): string;
  /** Folder with the network namespaces of a node's pods. */
  podNetns(node: NodePlan): string;
}

const bridge = "underlay";

/** For namespaces made here: the machine's own settings say nothing about what they start with. */
const commonSettings = [
  ["net/ipv4/conf/all/rp_filter", "0"],
  ["net/ipv4/conf/default/rp_filter", "0"],
  ["net/ipv6/conf/all/disable_ipv6", "0"],
  ["net/ipv6/conf/default/disable_ipv6", "0"],
  ["net/ipv6/conf/default/accept_dad", "0"],
  ["net/ipv6/conf/default/accept_ra", "0"],
] as const;

const routerSettings = [
  ...commonSettings,
  ["net/ipv4/ip_forward", "1"],
  ["net/ipv6/conf/all/forwarding", "1"],
  ["net/ipv4/conf/all/send_redirects", "0"],
  ["net/ipv4/conf/default/send_redirects", "0"],
] as const;

/** As container runtimes set them: any port without privileges, ping without privileges. */
const podSettings = [
  ...commonSettings,
  ["net/ipv4/ip_unprivileged_port_start", "0"],
  ["net/ipv4/ping_group_range", "0 2147483647"],
] as const;

/** A setting that this kernel does not have (IPv6 compiled out, say) is not needed either. */
function settingLines(settings: readonly (readonly [string, string])[]): string {
  return settings
    .map(([path, value]) => `[ ! -w /proc/sys/${path} ] || echo "${value}" > /proc/sys/${path} 2>/dev/null || true`)
    .join("\n");
}

/** An `ip -batch` as a here-document, in the namespace if one is given. */
function batch(lines: readonly string[], netns?: string): string {
  const prefix = netns === undefined ? "" : `nsenter --net=${quote(netns)} `;
  return `${prefix}ip -batch - <<'END'\n${lines.join("\n")}\nEND`;
}

/** Commands that make an empty network namespace and bind it to a file. */
const makeNetns = (path: string) => `: > ${quote(path)}\nunshare --net=${quote(path)} true`;

const plainLength = ({ v4, v6 }: DualStack): string[] => (v6 === undefined ? [`${v4}/32`] : [`${v4}/32`, `${v6}/128`]);
const onLink = ({ v4, v6 }: DualStack): string[] => (v6 === undefined ? [`${v4}/24`] : [`${v4}/24`, `${v6}/64`]);
const nodad = (address: string) => (address.includes(":") ? " nodad" : "");

/** The whole of the network before the first pod, as one script. */
export function fabricScript(plan: NetworkPlan, folders: FabricFolders): string {
  const parts = [
    settingLines(routerSettings),
    batch([
      "link set lo up",
      `link add ${bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
      ...onLink(plan.host).map((address) => `addr add ${address} dev ${bridge}${nodad(address)}`),
      `link set ${bridge} up`,
    ]),
  ];
  for (const node of plan.nodes) {
    const netns = folders.nodeNetns(node);
    const port = `node${node.index}`;
    parts.push(
      makeNetns(netns),
      batch([
        `link add ${port} type veth peer name eth0 netns ${netns}`,
        `link set ${port} master ${bridge}`,
        `link set ${port} up`,
      ]),
      `nsenter --net=${quote(netns)} sh -eu <<'INNER'\n${settingLines(routerSettings)}\nINNER`,
      batch(
        [
          "link set lo up",
          ...onLink(node.address).map((address) => `addr add ${address} dev eth0${nodad(address)}`),
          "link set eth0 up",
          `route add default via ${plan.host.v4} dev eth0`,
          ...(plan.host.v6 === undefined ? [] : [`route add ::/0 via ${plan.host.v6} dev eth0`]),
          ...plan.nodes.filter((other) => other !== node).flatMap((other) => podRoutes(other, "eth0")),
        ],
        netns,
      ),
      // Routes by way of a node that does not exist yet would be refused in the loop above only for our own end.
      batch(podRoutes(node, bridge)),
    );
  }
  return parts.join("\n");
}

function podRoutes({ podCidr, address }: NodePlan, device: string): string[] {
  const v4 = `route add ${podCidr.v4} via ${address.v4} dev ${device}`;
  return podCidr.v6 === undefined || address.v6 === undefined
    ? [v4]
    : [v4, `route add ${podCidr.v6} via ${address.v6} dev ${device}`];
}

/** Joins one pod to its node. Every pod's end on the node has the gateway's address, as with the ptp CNI plug-in. */
export function podScript(
  node: NodePlan,
  nodeNetns: string,
  pod: { netns: string; port: string; address: DualStack },
): string {
  const { v4, v6 } = node.gateway;
  return [
    makeNetns(pod.netns),
    batch(
      [
        `link add ${pod.port} type veth peer name eth0 netns ${pod.netns}`,
        ...plainLength(node.gateway).map((address) => `addr add ${address} dev ${pod.port}${nodad(address)}`),
        `link set ${pod.port} up`,
      ],
      nodeNetns,
    ),
    `nsenter --net=${quote(pod.netns)} sh -eu <<'INNER'\n${settingLines(podSettings)}\nINNER`,
    batch(
      [
        "link set lo up",
        ...plainLength(pod.address).map((address) => `addr add ${address} dev eth0${nodad(address)}`),
        "link set eth0 up",
        `route add ${v4}/32 dev eth0 scope link`,
        `route add default via ${v4} dev eth0`,
        ...(v6 === undefined ? [] : [`route add ${v6}/128 dev eth0`, `route add ::/0 via ${v6} dev eth0`]),
      ],
      pod.netns,
    ),
    // Last, so that nothing reaches the pod before it can answer.
    batch(
      listAddresses(pod.address).map((address, at) => {
        const source = listAddresses(node.gateway)[at];
        return `route add ${address} dev ${pod.port} src ${source}`;
      }),
      nodeNetns,
    ),
  ].join("\n");
}

export class Fabric {
  readonly plan: NetworkPlan;
  readonly nodes: readonly NodeNetwork[];
  readonly #folders: FabricFolders;

  private constructor(plan: NetworkPlan, folders: FabricFolders) {
    this.plan = plan;
    this.#folders = folders;
    this.nodes = plan.nodes.map((node) => this.#nodeNetwork(node));
  }

  /** Everything made here belongs to the sandbox's namespaces and goes with them. */
  static async create(plan: NetworkPlan, folders: FabricFolders): Promise<Fabric> {
    for (const node of plan.nodes) await mkdir(folders.podNetns(node), { recursive: true });
    await runScript(fabricScript(plan, folders));
    return new Fabric(plan, folders);
  }

  #nodeNetwork(plan: NodePlan): NodeNetwork {
    const addresses = new PodAddresses(plan);
    const netns = this.#folders.nodeNetns(plan);
    return { plan, netns, addPod: (name) => this.#addPod(plan, addresses, name) };
  }

  async #addPod(node: NodePlan, addresses: PodAddresses, name: string): Promise<PodNetwork> {
    const { host, address } = addresses.take();
    const pod = { netns: `${this.#folders.podNetns(node)}/${name}`, port: `pod${host}`, address };
    const nodeNetns = this.#folders.nodeNetns(node);
    let removed: Promise<void> | undefined;
    const remove = () => (removed ??= this.#removePod(nodeNetns, pod).finally(() => addresses.release(host)));
    try {
      await runScript(podScript(node, nodeNetns, pod));
    } catch (error) {
      await remove();
      throw error;
    }
    return { netns: pod.netns, address, remove };
  }

  async #removePod(nodeNetns: string, { netns, port }: { netns: string; port: string }): Promise<void> {
    const script = `nsenter --net=${quote(nodeNetns)} ip link delete ${port} 2>/dev/null || true\numount -l ${quote(netns)} || true`;
    await runScript(script);
    await rm(netns, { force: true });
  }
}
