/** Hands out cluster addresses and node ports. The sandbox's network decides which ranges exist. */
export interface ServiceAllocator {
  /** The families of the cluster, the preferred one first. */
  readonly families: readonly IpFamily[];
  /** Reserves `wanted`, or any free address. Answers undefined if `wanted` is taken or outside the range. */
  allocateAddress(family: IpFamily, wanted?: string): string | undefined;
  releaseAddress(address: string): void;
  allocateNodePort(wanted?: number): number | undefined;
  releaseNodePort(port: number): void;
}

export type IpFamily = "IPv4" | "IPv6";
