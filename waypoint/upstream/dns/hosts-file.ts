import { readFile, stat } from "node:fs/promises";
import { isIpv6, tryIp, type Ip } from "#shared/net/ip.ts";

/** What `/etc/hosts` says now; read again when it changes. */
export class HostsFile {
  readonly #path: string;
  #version = "";
  #names: ReadonlyMap<string, readonly Ip[]> = new Map();

  constructor(path = "/etc/hosts") {
    this.#path = path;
  }

  async find(name: string, family: 4 | 6): Promise<readonly Ip[]> {
    await this.#refresh();
    const found = this.#names.get(name.toLowerCase().replace(/\.$/, "")) ?? [];
    return found.filter((ip) => isIpv6(ip) === (family === 6));
  }

  /** A file that is not there says nothing. */
  async #refresh(): Promise<void> {
    try {
      const { mtimeMs, size } = await stat(this.#path);
      const version = `${mtimeMs} ${size}`;
      if (version === this.#version) return;
      this.#names = parseHosts(await readFile(this.#path, "utf8"));
      this.#version = version;
    } catch {
      this.#names = new Map();
      this.#version = "";
    }
  }
}

export function parseHosts(text: string): ReadonlyMap<string, readonly Ip[]> {
  const names = new Map<string, Ip[]>();
  for (const line of text.split("\n")) {
    const [address = "", ...aliases] = line.replace(/#.*/, "").trim().split(/\s+/);
    const ip = tryIp(address);
    if (ip === undefined) continue;
    for (const alias of aliases) {
      const key = alias.toLowerCase();
      const list = names.get(key);
      if (list === undefined) names.set(key, [ip]);
      else if (!list.includes(ip)) list.push(ip);
    }
  }
  return names;
}
