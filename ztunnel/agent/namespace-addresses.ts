/** Addresses in the network namespace that this thread is in, read from `/proc`: even of links not yet running. */
import { readFileSync } from "node:fs";
import { ipFromBytes, tryIp, type Ip } from "#shared/net/ip.ts";
import { inNamespace } from "#ztunnel/inpod/netns-sockets.ts";

/** @throws MeshError SYSTEM_CALL_FAILED where the namespace cannot be entered */
export function addressesIn(netnsFd: number): readonly Ip[] {
  return inNamespace(netnsFd, () => [...ipv4AddressesOf(procNet("fib_trie")), ...ipv6AddressesOf(procNet("if_inet6"))]);
}

/** A file of the namespace this thread is in; empty where the kernel has no such protocol. */
export function procNet(file: string): string {
  try {
    return readFileSync(`/proc/thread-self/net/${file}`, "utf8");
  } catch {
    return "";
  }
}

/** The local ones in `/proc/net/fib_trie`, where each stands twice: in the main and the local table. */
export function ipv4AddressesOf(fibTrie: string): readonly Ip[] {
  const found = new Set<Ip>();
  for (const [, text = ""] of fibTrie.matchAll(/\|-- (\S+)\n\s+\/32 host LOCAL/g)) {
    const ip = tryIp(text);
    if (ip !== undefined) found.add(ip);
  }
  return [...found];
}

/** From `/proc/net/if_inet6`: 32 hexadecimal digits begin each line. */
export function ipv6AddressesOf(ifInet6: string): readonly Ip[] {
  return [...ifInet6.matchAll(/^([0-9a-f]{32}) /gm)].flatMap(
    ([, digits = ""]) => ipFromBytes(Buffer.from(digits, "hex")) ?? [],
  );
}
