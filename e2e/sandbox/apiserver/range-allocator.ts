import type { IpFamily, ServiceAllocator } from "./service-allocator.ts";

/** Hands out addresses of small ranges in order: for servers without a network behind them. */
export class RangeAllocator implements ServiceAllocator {
  readonly families: readonly IpFamily[];
  readonly #taken = new Set<string | number>();

  constructor(families: readonly IpFamily[] = ["IPv4", "IPv6"]) {
    this.families = families;
  }

  allocateAddress(family: IpFamily, wanted?: string): string | undefined {
    const prefix = family === "IPv4" ? "10.96.0." : "fd00:10:96::";
    if (wanted !== undefined) {
      if (!wanted.startsWith(prefix) || this.#taken.has(wanted)) return undefined;
      this.#taken.add(wanted);
      return wanted;
    }
    for (let last = 1; last < 255; last++) {
      const address = `${prefix}${family === "IPv4" ? last : last.toString(16)}`;
      if (this.#taken.has(address)) continue;
      this.#taken.add(address);
      return address;
    }
    return undefined;
  }

  releaseAddress(address: string): void {
    this.#taken.delete(address);
  }

  allocateNodePort(wanted?: number): number | undefined {
    const isFree = (port: number) => port >= 30_000 && port < 32_768 && !this.#taken.has(port);
    let port = wanted ?? 30_000;
    if (wanted === undefined) while (port < 32_768 && !isFree(port)) port++;
    if (!isFree(port)) return undefined;
    this.#taken.add(port);
    return port;
  }

  releaseNodePort(port: number): void {
    this.#taken.delete(port);
  }
}
