import { expect, test } from "@jest/globals";
import type { Ip } from "#shared/net/ip.ts";
import { HostProbes, hostProbeScript } from "./host-probes.ts";
import { probeSourcesDefault } from "./redirect-rules.ts";

const ips = (...texts: string[]) => texts as Ip[];

test("both families, sorted, each address once", () => {
  expect(hostProbeScript(ips("10.0.0.2", "fd00::2", "10.0.0.1", "10.0.0.2"), probeSourcesDefault)).toBe(
    `table inet istio-ambient-host
delete table inet istio-ambient-host
table inet istio-ambient-host {
  set istio-inpod-probes-v4 {
    type ipv4_addr;
    elements = { 10.0.0.1, 10.0.0.2 }
  }
  set istio-inpod-probes-v6 {
    type ipv6_addr;
    elements = { fd00::2 }
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    meta skuid >= 0 meta l4proto tcp ip daddr @istio-inpod-probes-v4 snat ip to 169.254.7.127
    meta skuid >= 0 meta l4proto tcp ip6 daddr @istio-inpod-probes-v6 snat ip6 to fd16:9254:7127:1337:ffff:ffff:ffff:ffff
  }
}
`,
  );
});

test("changes made while one is written are written together; nothing is written twice", async () => {
  const written: string[] = [];
  let release = Promise.withResolvers<void>();
  const probes = new HostProbes(probeSourcesDefault, async (script) => {
    written.push(script);
    await release.promise;
  });
  const first = probes.set("a", ips("10.0.0.1"));
  await new Promise((resolve) => setImmediate(resolve));
  const others = [probes.set("b", ips("10.0.0.2")), probes.set("c", ips("10.0.0.3")), probes.delete("a")];
  release.resolve();
  release = Promise.withResolvers<void>();
  release.resolve();
  await Promise.all([first, ...others]);
  await probes.set("b", ips("10.0.0.2"));
  expect(written).toHaveLength(2);
  expect(written[1]).toContain("elements = { 10.0.0.2, 10.0.0.3 }");
  await probes.reassert();
  expect(written).toHaveLength(3);
});

test("a failed write is told and made up for by the next", async () => {
  let isBroken = true;
  const written: string[] = [];
  const probes = new HostProbes(probeSourcesDefault, (script) => {
    written.push(script);
    return isBroken ? Promise.reject(new Error("nft failed")) : Promise.resolve();
  });
  await expect(probes.set("a", ips("10.0.0.1"))).rejects.toThrow("nft failed");
  isBroken = false;
  await probes.set("a", ips("10.0.0.1"));
  expect(written).toHaveLength(2);
});
