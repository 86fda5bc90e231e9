import { podRange4, podRange6, serviceCidr4, serviceCidr6 } from "./plan.ts";
import type { ServiceVip } from "./service-vips.ts";

const tableName = "sandbox_services";

/**
 * What stands in for kube-proxy, as one nftables script that replaces the former rules in one step: a new connection
 * to a service's address goes to one of its endpoints at random, an address without endpoints refuses at once.
 * Connections that exist keep their endpoint, because only the first packet of a connection meets these rules.
 */
export function serviceRules(vips: readonly ServiceVip[], { ipv6 }: { readonly ipv6: boolean }): string {
  const tables = [
    table(
      "ip",
      vips.filter(({ ip }) => !ip.includes(":")),
    ),
  ];
  if (ipv6)
    tables.push(
      table(
        "ip6",
        vips.filter(({ ip }) => ip.includes(":")),
      ),
    );
  return tables.join("\n");
}

function table(family: "ip" | "ip6", vips: readonly ServiceVip[]): string {
  const v6 = family === "ip6";
  const serviceCidr = v6 ? serviceCidr6 : serviceCidr4;
  const podRange = v6 ? podRange6 : podRange4;
  const served = vips.filter(({ endpoints }) => endpoints.length > 0);
  const entries = served.map(({ ip, protocol, port }, at) => `${ip} . ${protocol} . ${port} : goto service-${at}`);
  const backends = new Set(served.flatMap(({ endpoints }) => endpoints.map(({ ip }) => ip)));
  const address = v6 ? "ipv6_addr" : "ipv4_addr";
  const toService = `${family} daddr . meta l4proto . th dport vmap @services`;
  return `table ${family} ${tableName} {}
delete table ${family} ${tableName}
table ${family} ${tableName} {
${served.map((vip, at) => serviceChains(vip, at, v6)).join("")}\
  map services {
    type ${address} . inet_proto . inet_service : verdict
${elements(entries)}\
  }
  # A pod may be its own service's endpoint; its packets must come back by way of the node.
  set hairpins {
    type ${address} . ${address}
${elements([...backends].map((ip) => `${ip} . ${ip}`))}\
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    ${toService}
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ${toService}
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ${family} saddr ${podRange} ${family} saddr . ${family} daddr @hairpins masquerade
  }
  # What still goes to a service's address found no endpoint.
  chain refuse {
    ${family} daddr ${serviceCidr} meta l4proto tcp reject with tcp reset
    ${family} daddr ${serviceCidr} reject
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    jump refuse
  }
  chain local {
    type filter hook output priority 0; policy accept;
    jump refuse
  }
}
`;
}

function elements(entries: readonly string[]): string {
  return entries.length === 0 ? "" : `    elements = { ${entries.join(",\n      ")} }\n`;
}

function serviceChains(vip: ServiceVip, at: number, v6: boolean): string {
  const targets = vip.endpoints.map((_, index) => `${index} : goto endpoint-${at}-${index}`);
  const chains = vip.endpoints.map(({ ip, port }, index) => {
    const target = v6 ? `[${ip}]:${port}` : `${ip}:${port}`;
    return `  chain endpoint-${at}-${index} { meta l4proto ${vip.protocol} dnat to ${target}; }\n`;
  });
  const choice =
    targets.length === 1
      ? `goto endpoint-${at}-0`
      : `numgen random mod ${targets.length} vmap { ${targets.join(", ")} }`;
  return `  # ${vip.name}\n${chains.join("")}  chain service-${at} { ${choice}; }\n`;
}
