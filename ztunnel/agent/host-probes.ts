/**
 * The node's own set of captured pod addresses: what the node itself sends to them (kubelet's probes) leaves from one
 * fixed address, which the rules in the pod let pass. The table is replaced whole at each change, so it mends itself.
 */
import { isIpv6, type Ip } from "#shared/net/ip.ts";
import type { ProbeSources } from "./redirect-rules.ts";
import { mustRun } from "./run-program.ts";

const tableName = "istio-ambient-host";

/** Text for `nft -f -` in the host's network namespace. */
export function hostProbeScript(podIps: Iterable<Ip>, sources: ProbeSources): string {
  const sorted = [...new Set(podIps)].sort();
  const set = (name: string, type: string, elements: readonly Ip[]) => [
    `  set ${name} {`,
    `    type ${type};`,
    ...(elements.length === 0 ? [] : [`    elements = { ${elements.join(", ")} }`]),
    "  }",
  ];
  return [
    hostProbeRemoveScript,
    `table inet ${tableName} {`,
    ...set(
      "istio-inpod-probes-v4",
      "ipv4_addr",
      sorted.filter((ip) => !isIpv6(ip)),
    ),
    ...set("istio-inpod-probes-v6", "ipv6_addr", sorted.filter(isIpv6)),
    "  chain postrouting {",
    "    type nat hook postrouting priority 100; policy accept;",
    // Only a packet of a local socket has an owner: what is forwarded between pods stays as it is.
    `    meta skuid >= 0 meta l4proto tcp ip daddr @istio-inpod-probes-v4 snat ip to ${sources.v4}`,
    `    meta skuid >= 0 meta l4proto tcp ip6 daddr @istio-inpod-probes-v6 snat ip6 to ${sources.v6}`,
    "  }",
    "}",
    "",
  ].join("\n");
}

const hostProbeRemoveScript = `table inet ${tableName}\ndelete table inet ${tableName}`;

/** Keeps the set in step with the captured pods. Changes made while one is written are written together. */
export class HostProbes {
  readonly #ips = new Map<string, readonly Ip[]>();
  readonly #sources: ProbeSources;
  readonly #write: (script: string) => Promise<void>;
  #writing: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  #written: string | undefined;

  constructor(sources: ProbeSources, write: (script: string) => Promise<void> = writeToHost) {
    this.#sources = sources;
    this.#write = write;
  }

  /** Settles when the set in force holds these addresses. */
  set(uid: string, ips: readonly Ip[]): Promise<void> {
    this.#ips.set(uid, ips);
    return this.#flush();
  }

  delete(uid: string): Promise<void> {
    return this.#ips.delete(uid) ? this.#flush() : Promise.resolve();
  }

  /** Writes the set again, should somebody have removed it. */
  reassert(): Promise<void> {
    this.#written = undefined;
    return this.#flush();
  }

  /** Leaves nothing behind. */
  async remove(): Promise<void> {
    this.#ips.clear();
    await this.#flush().catch(() => undefined);
    await this.#write(`${hostProbeRemoveScript}\n`);
    this.#written = undefined;
  }

  #flush(): Promise<void> {
    return (this.#next ??= this.#writeAfter(this.#writing));
  }

  async #writeAfter(previous: Promise<void>): Promise<void> {
    await previous.catch(() => undefined);
    this.#next = undefined;
    const script = hostProbeScript([...this.#ips.values()].flat(), this.#sources);
    if (script === this.#written) return;
    this.#written = undefined;
    this.#writing = this.#write(script);
    await this.#writing;
    this.#written = script;
  }
}

const writeToHost = async (script: string): Promise<void> => {
  await mustRun(undefined, "nft", ["-f", "-"], script);
};
