import type { IpFamily, ServiceAllocator } from "../apiserver/service-allocator.ts";

/** The first to ask is the API server, and its address is known to be the first. Then the low ones are left to those that ask by number: DNS (10), say. */
const first = 1;
const firstDynamic = 256;
const last = 65_534;
const nodePorts = { first: 30_000, last: 32_767 };

/** Cluster addresses out of 10.96.0.0/16 and fd00:10:96::/112: both ranges are 65 534 numbers under a prefix. */
export class ServiceAddresses implements ServiceAllocator {
  readonly families: readonly IpFamily[];
  readonly #used = { IPv4: new Set<number>(), IPv6: new Set<number>() };
  readonly #usedPorts = new Set<number>();
  #next = { IPv4: first, IPv6: first };
  #nextPort = nodePorts.first;

  constructor(ipv6: boolean) {
    this.families = ipv6 ? ["IPv4", "IPv6"] : ["IPv4"];
  }

  allocateAddress(family: IpFamily, wanted?: string): string | undefined {
    if (!this.families.includes(family)) return undefined;
    const used = this.#used[family];
    const number = wanted === undefined ? this.#free(family) : parse(family, wanted);
    if (number === undefined || used.has(number)) return undefined;
    used.add(number);
    return print(family, number);
  }

  #free(family: IpFamily): number | undefined {
    for (let tried = firstDynamic; tried <= last; tried++) {
      const number = this.#next[family];
      this.#next[family] = number >= last || number < firstDynamic ? firstDynamic : number + 1;
      if (!this.#used[family].has(number)) return number;
    }
    return undefined;
  }

  releaseAddress(address: string): void {
    const family = address.includes(":") ? "IPv6" : "IPv4";
    const number = parse(family, address);
    if (number !== undefined) this.#used[family].delete(number);
  }

  allocateNodePort(wanted?: number): number | undefined {
    if (wanted !== undefined) {
      if (wanted < nodePorts.first || wanted > nodePorts.last || this.#usedPorts.has(wanted)) return undefined;
      this.#usedPorts.add(wanted);
      return wanted;
    }
    for (let tried = nodePorts.first; tried <= nodePorts.last; tried++) {
      const port = this.#nextPort;
      this.#nextPort = port >= nodePorts.last ? nodePorts.first : port + 1;
      if (this.#usedPorts.has(port)) continue;
      this.#usedPorts.add(port);
      return port;
    }
    return undefined;
  }

  releaseNodePort(port: number): void {
    this.#usedPorts.delete(port);
  }
}

function parse(family: IpFamily, address: string): number | undefined {
  if (family === "IPv4") {
    const match = /^10\.96\.(\d{1,3})\.(\d{1,3})$/u.exec(address);
    const [high, low] = [Number(match?.[1] ?? Number.NaN), Number(match?.[2] ?? Number.NaN)];
    const number = high * 256 + low;
    return high <= 255 && low <= 255 && number >= 1 && number <= last ? number : undefined;
  }
  const match = /^fd00:10:96::([0-9a-f]{1,4})$/iu.exec(address);
  const number = Number.parseInt(match?.[1] ?? "", 16);
  return number >= 1 && number <= last ? number : undefined;
}

function print(family: IpFamily, number: number): string {
  return family === "IPv4" ? `10.96.${number >> 8}.${number & 255}` : `fd00:10:96::${number.toString(16)}`;
}
