/**
 * Who gets which address. The shape is that of the small clusters people know: nodes on 172.18.0.0/24, one /24 of
 * 10.244.0.0/16 per node for its pods, services in 10.96.0.0/16, and the same again in IPv6.
 */

export interface DualStack {
  readonly v4: string;
  /** Absent in a cluster without IPv6. */
  readonly v6?: string;
}

export interface NodePlan {
  /** Starts at 1. */
  readonly index: number;
  readonly name: string;
  readonly zone: string;
  readonly address: DualStack;
  readonly podCidr: DualStack;
  /** What pods use as their gateway, and where the kubelet's probes come from. */
  readonly gateway: DualStack;
}

export interface NetworkPlan {
  readonly ipv6: boolean;
  /** Where the API server and the cluster DNS listen: the sandbox's own end of the bridge between the nodes. */
  readonly host: DualStack;
  readonly nodes: readonly NodePlan[];
}

/** A node has one octet of the pod range. */
export const maxNodes = 100;

/** Pods per node; as the kubelet's default, and well inside a /24. */
export const maxPodsPerNode = 110;

export const serviceCidr4 = "10.96.0.0/16";
export const serviceCidr6 = "fd00:10:96::/112";
export const podRange4 = "10.244.0.0/16";
export const podRange6 = "fd00:10:244::/48";
export const dnsServiceIp: DualStack = { v4: "10.96.0.10", v6: "fd00:10:96::a" };

const zones = ["a", "b"];

export function planNetwork({ nodes, ipv6 }: { readonly nodes: number; readonly ipv6: boolean }): NetworkPlan {
  const dual = (v4: string, v6: string): DualStack => (ipv6 ? { v4, v6 } : { v4 });
  const indexes = Array.from({ length: nodes }, (_, at) => at + 1);
  return {
    ipv6,
    host: dual("172.18.0.1", "fd00:172:18::1"),
    nodes: indexes.map((index) => {
      const hex = index.toString(16);
      return {
        index,
        name: `node-${index}`,
        zone: `sandbox-${zones[(index - 1) % zones.length]}`,
        address: dual(`172.18.0.${index + 1}`, `fd00:172:18::${(index + 1).toString(16)}`),
        podCidr: dual(`10.244.${index}.0/24`, `fd00:10:244:${hex}::/64`),
        gateway: dual(`10.244.${index}.1`, `fd00:10:244:${hex}::1`),
      };
    }),
  };
}

export const listAddresses = ({ v4, v6 }: DualStack): string[] => (v6 === undefined ? [v4] : [v4, v6]);

/**
 * Hands out the pod addresses of one node, round robin, so that an address comes back as late as possible: whoever
 * still remembers a pod that is gone reaches nobody rather than somebody else.
 */
export class PodAddresses {
  readonly #node: NodePlan;
  readonly #used = new Set<number>();
  #last = 1;

  constructor(node: NodePlan) {
    this.#node = node;
  }

  /** @throws Error when the node is full */
  take(): { readonly host: number; readonly address: DualStack } {
    if (this.#used.size >= maxPodsPerNode) {
      throw new Error(`Node ${this.#node.name} has no free pod address: it runs ${maxPodsPerNode} pods already`);
    }
    do this.#last = this.#last >= 254 ? 2 : this.#last + 1;
    while (this.#used.has(this.#last));
    this.#used.add(this.#last);
    const v4 = `10.244.${this.#node.index}.${this.#last}`;
    const v6 = `fd00:10:244:${this.#node.index.toString(16)}::${this.#last.toString(16)}`;
    return { host: this.#last, address: this.#node.gateway.v6 === undefined ? { v4 } : { v4, v6 } };
  }

  release(host: number): void {
    this.#used.delete(host);
  }
}
