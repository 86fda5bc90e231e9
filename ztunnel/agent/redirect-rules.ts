/**
 * What must stand in a pod's network namespace so that its traffic goes through ztunnel. Pure: facts in, text for
 * `nft -f -` and `ip -batch -` out. The same rules in the same order as Istio's node agent installs, for the same
 * sockets: outbound 15001, inbound plaintext 15006, HBONE 15008 reached directly, DNS 15053.
 */
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { Labels } from "./pod-facts.ts";

/** Addresses to which the node's own probes are rewritten, so that a pod recognises them. */
export interface ProbeSources {
  readonly v4: Ip;
  readonly v6: Ip;
}

/** As Istio's HOST_PROBE_SNAT_IP and HOST_PROBE_SNAT_IPV6. */
export const probeSourcesDefault: ProbeSources = {
  v4: "169.254.7.127" as Ip,
  v6: "fd16:9254:7127:1337:ffff:ffff:ffff:ffff" as Ip,
};

export interface RedirectFacts {
  readonly probeSources: ProbeSources;
  readonly ipv6: boolean;
  readonly dnsCapture: boolean;
  /** Only outbound traffic is captured (annotation `ambient.istio.io/bypass-inbound-capture`). */
  readonly ingressMode: boolean;
  /** What arrives on these interfaces counts as outbound, for example a virtual machine's. */
  readonly rerouteInterfaces: readonly string[];
}

/** SO_MARK of every socket that ztunnel makes, in the mark's low 12 bits: never captured again. */
export const ztunnelMark = 0x539;
/** Answers to connections that ztunnel made with the caller's address: routed back to ztunnel. */
const returnMark = 0x111;
const markMask = 0xfff;
const routeTable = 100;
const rulePriority = 32_764;

export const outboundPort = 15_001;
export const inboundPlaintextPort = 15_006;
export const hbonePort = 15_008;
export const dnsPort = 15_053;

const hex = (value: number): string => `0x${value.toString(16)}`;
const marked = (mark: number): string => `meta mark & ${hex(markMask)} == ${hex(mark)}`;
const unmarked = (mark: number): string => `meta mark & ${hex(markMask)} != ${hex(mark)}`;

const natTable = "istio-ambient-nat";
const mangleTable = "istio-ambient-mangle";
const rawTable = "istio-ambient-raw";
const allTables = [natTable, mangleTable, rawTable] as const;

interface Family {
  readonly word: "ip" | "ip6";
  readonly loopback: string;
  readonly probeSource: Ip;
}

function familiesOf({ ipv6, probeSources }: RedirectFacts): readonly Family[] {
  const v4: Family = { word: "ip", loopback: "127.0.0.1", probeSource: probeSources.v4 };
  const v6: Family = { word: "ip6", loopback: "::1", probeSource: probeSources.v6 };
  return ipv6 ? [v4, v6] : [v4];
}

/** One transaction: old tables go and new ones come at once, so a packet meets either all rules or all rules. */
export function installScript(facts: RedirectFacts): string {
  const tables = [natRules(facts), mangleRules(), ...(facts.dnsCapture ? [rawRules()] : [])];
  return `${removeScript}${tables.join("")}`;
}

/** Declaring a table before deleting it makes deletion succeed where there is none. */
export const removeScript: string = allTables.map((name) => `table inet ${name}\ndelete table inet ${name}\n`).join("");

/**
 * New connections, and every DNS question, go as if there were no redirection; connections that stand keep their way
 * through ztunnel, so that when it ends them both ends hear of it. Without any table the kernel would forget whose
 * packets it had redirected.
 */
export const releaseScript = `table inet ${natTable}
flush table inet ${natTable}
table inet ${rawTable}
delete table inet ${rawTable}
`;

/** What `nft -s list ruleset inet` prints of our tables, in a fixed order; other people's tables are left out. */
export function ownTables(ruleset: string): string {
  return allTables
    .map((name) => new RegExp(`^table inet ${name} \\{\\n[^]*?^\\}\\n`, "m").exec(ruleset)?.[0] ?? "")
    .join("");
}

function chain(name: string, hook: string, rules: readonly string[]): string {
  return [
    `  chain ${name} {`,
    `    type ${hook}; policy accept;`,
    ...rules.map((rule) => `    ${rule}`),
    "  }",
    "",
  ].join("\n");
}

const table = (name: string, ...chains: readonly string[]): string => `table inet ${name} {\n${chains.join("")}}\n`;

function natRules(facts: RedirectFacts): string {
  const families = familiesOf(facts);
  return table(
    natTable,
    chain("prerouting", "nat hook prerouting priority -100", [
      ...facts.rerouteInterfaces.flatMap((name) => [
        `iifname "${name}" meta l4proto tcp redirect to :${outboundPort}`,
        `iifname "${name}" meta l4proto tcp return`,
      ]),
      ...(facts.ingressMode ? [] : families.flatMap(inboundRules)),
    ]),
    chain("output", "nat hook output priority -100", [
      ...families.map(({ word, probeSource }) => `${word} daddr ${probeSource} meta l4proto tcp accept`),
      ...(facts.dnsCapture ? dnsRules : []),
      `meta l4proto tcp ${marked(returnMark)} accept`,
      // A pod that calls its own address talks to itself.
      ...families.map(({ word, loopback }) => `oifname "lo" ${word} daddr != ${loopback} accept`),
      ...families.map(
        ({ word, loopback }) =>
          `${word} daddr != ${loopback} meta l4proto tcp ${unmarked(ztunnelMark)} redirect to :${outboundPort}`,
      ),
    ]),
  );
}

const inboundRules = ({ word, loopback, probeSource }: Family): readonly string[] => [
  `${word} saddr ${probeSource} meta l4proto tcp accept`,
  `${word} daddr != ${loopback} tcp dport != ${hbonePort} ${unmarked(ztunnelMark)} redirect to :${inboundPlaintextPort}`,
];

/** Not what stays on loopback: a pod may run a resolver of its own, on whichever of its addresses. */
const question = (protocol: "udp" | "tcp") => `oifname != "lo" ${protocol} dport 53 ${unmarked(ztunnelMark)}`;

const dnsRules: readonly string[] = (["udp", "tcp"] as const).map(
  (protocol) => `${question(protocol)} redirect to :${dnsPort}`,
);

/** What ztunnel sends the application is remembered in the connection; the answer gets the mark that leads back. */
function mangleRules(): string {
  return table(
    mangleTable,
    chain("prerouting", "filter hook prerouting priority -150", [
      `${marked(ztunnelMark)} ct mark set ct mark & 0xfffff000 | ${hex(returnMark)}`,
    ]),
    chain("output", "route hook output priority -150", [
      `ct mark & ${hex(markMask)} == ${hex(returnMark)} meta mark set ct mark`,
    ]),
  );
}

/**
 * Connection tracking remembers where a socket's first question went, for minutes after its last: in one zone, the
 * questions of sockets that are kept, and of ports that are used again, would follow no change of the rules. So what is
 * captured has a zone of its own, left by the rule alone; answers, and errors, of the way back are in the ordinary one.
 * ztunnel's own questions have another, as Istio's: they may be the application's same ones from its very port.
 */
function rawRules(): string {
  return table(
    rawTable,
    chain("prerouting", "filter hook prerouting priority -300", [
      `udp sport 53 ${unmarked(ztunnelMark)} ct zone set ${ownQuestionsZone}`,
    ]),
    chain("output", "filter hook output priority -300", [
      `udp dport 53 ${marked(ztunnelMark)} ct zone set ${ownQuestionsZone}`,
      `${question("udp")} ct original zone set ${capturedQuestionsZone}`,
    ]),
  );
}

/** As Istio's. */
const ownQuestionsZone = 1;
const capturedQuestionsZone = 2;

/** Lines for `ip -batch -` (`-6` for the second family): packets with the return mark are delivered locally. */
export interface RoutingBatch {
  readonly family: "-4" | "-6";
  readonly install: string;
  readonly remove: string;
  /** Both must appear, in what `ip rule` and `ip route show table 100` print. */
  readonly expected: { readonly rule: string; readonly route: string };
}

export function routingBatches({ ipv6 }: Pick<RedirectFacts, "ipv6">): readonly RoutingBatch[] {
  const selector = `fwmark ${hex(returnMark)}/${hex(markMask)}`;
  const batch = (family: RoutingBatch["family"], everywhere: string): RoutingBatch => {
    const rule = `${selector} pref ${rulePriority} lookup ${routeTable}`;
    const route = `local ${everywhere} dev lo table ${routeTable}`;
    return {
      family,
      install: `rule add ${rule}\nroute add ${route}\n`,
      remove: `rule del ${rule}\nroute del ${route}\n`,
      expected: { rule: `${rulePriority}:\tfrom all ${selector} lookup ${routeTable}`, route: "local default dev lo" },
    };
  };
  return ipv6 ? [batch("-4", "0.0.0.0/0"), batch("-6", "::/0")] : [batch("-4", "0.0.0.0/0")];
}

/** Lines for `ip -batch -` that print both, for {@link RoutingBatch.expected}. */
export const routingListBatch = `rule show pref ${rulePriority}\nroute show table ${routeTable}\n`;

/** Kernel's bound is 15 bytes; anything that nft would read as syntax is refused. */
const interfaceName = /^[A-Za-z0-9_.:@-]{1,15}$/;

/**
 * The pod's own wishes, from its annotations.
 *
 * @throws MeshError CONFIG_INVALID naming annotation and value
 */
export function wishesOf(
  annotations: Labels,
  defaults: Pick<RedirectFacts, "dnsCapture">,
): Pick<RedirectFacts, "dnsCapture" | "ingressMode" | "rerouteInterfaces"> {
  return {
    dnsCapture: booleanOf(annotations, "ambient.istio.io/dns-capture") ?? defaults.dnsCapture,
    ingressMode: booleanOf(annotations, "ambient.istio.io/bypass-inbound-capture") ?? false,
    rerouteInterfaces: interfacesOf(annotations, "istio.io/reroute-virtual-interfaces"),
  };
}

function booleanOf(annotations: Labels, name: string): boolean | undefined {
  const value = annotations[name];
  if (value === undefined || value === "") return undefined;
  const lower = value.toLowerCase();
  if (lower === "true" || lower === "false") return lower === "true";
  throw new MeshError("CONFIG_INVALID", `Cannot read annotation ${name}="${value}": write "true" or "false"`);
}

function interfacesOf(annotations: Labels, name: string): readonly string[] {
  const value = annotations[name] ?? "";
  const names = [
    ...new Set(
      value
        .split(",")
        .map((part) => part.trim())
        .filter((part) => part !== ""),
    ),
  ];
  const wrong = names.find((part) => !interfaceName.test(part));
  if (wrong === undefined) return names;
  throw new MeshError("CONFIG_INVALID", `Cannot read annotation ${name}: "${wrong}" is no interface name`);
}
