/** Is a pod really captured? Pure: what was seen in its network namespace in, what is missing out. */
import {
  dnsPort,
  hbonePort,
  inboundPlaintextPort,
  outboundPort,
  ownTables,
  type RoutingBatch,
} from "./redirect-rules.ts";

/** What stands in a pod's network namespace. */
export interface Observed {
  /** Addresses of its interfaces. */
  readonly ips: readonly string[];
  readonly listening: ReadonlySet<number>;
  /** Whether questions that are sent to ztunnel find it, over UDP and TCP. */
  readonly answersDns: boolean;
  /** What `nft -s list ruleset inet` prints. */
  readonly ruleset: string;
  /** For each family what `ip` prints of our rule and table. */
  readonly routing: Readonly<Record<RoutingBatch["family"], string>>;
}

export interface Expected {
  readonly ips: readonly string[];
  /** Our tables as nft printed them right after they were installed. */
  readonly tables: string;
  readonly routing: readonly RoutingBatch[];
  /** Whether questions are sent to ztunnel. */
  readonly dnsCapture: boolean;
}

/** In the order in which they are looked for; `reason` is the condition's. */
export interface Problem {
  readonly reason: "WrongNamespace" | "RulesMissing" | "RoutingMissing" | "ListenersMissing";
  readonly message: string;
}

export function problemsOf(observed: Observed, expected: Expected): readonly Problem[] {
  const missingIps = expected.ips.filter((ip) => !observed.ips.includes(ip));
  const missingPorts = [outboundPort, inboundPlaintextPort, hbonePort].filter((port) => !observed.listening.has(port));
  if (expected.dnsCapture && !observed.answersDns) missingPorts.push(dnsPort);
  const problems: Problem[] = [];
  if (missingIps.length > 0) {
    const message = `its network namespace does not hold ${missingIps.join(", ")}`;
    problems.push({ reason: "WrongNamespace", message });
  }
  if (ownTables(observed.ruleset) !== expected.tables) {
    problems.push({ reason: "RulesMissing", message: "the redirection rules in it are gone or changed" });
  }
  const unrouted = expected.routing.filter(({ family, expected: { rule, route } }) => {
    const text = observed.routing[family];
    return !text.includes(rule) || !text.includes(route);
  });
  if (unrouted.length > 0) {
    const families = unrouted.map(({ family }) => (family === "-4" ? "IPv4" : "IPv6")).join(" and ");
    problems.push({ reason: "RoutingMissing", message: `the ${families} route back to ztunnel in it is gone` });
  }
  if (missingPorts.length > 0) {
    problems.push({
      reason: "ListenersMissing",
      message: `ztunnel does not listen on ${missingPorts.join(", ")} in it`,
    });
  }
  return problems;
}

/** Sockets of these states take what is new: TCP that listens, UDP that is connected to nobody. */
const openStates = { tcp: "0A", udp: "07" } as const;

/** Ports on which a socket listens, from `/proc/net/tcp` or `tcp6`; of `udp` and `udp6`, those that anybody may send to. */
export function listeningPorts(procNet: string, protocol: keyof typeof openStates = "tcp"): readonly number[] {
  return procNet.split("\n").flatMap((line) => {
    const [, local, , state] = line.trim().split(/\s+/);
    const port = local?.split(":")[1];
    return state === openStates[protocol] && port !== undefined ? [Number.parseInt(port, 16)] : [];
  });
}
