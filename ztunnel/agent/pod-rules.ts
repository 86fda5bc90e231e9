/** Puts the redirection rules into a pod's network namespace, takes them out, and looks at what is there. */
import { MeshError } from "#shared/errors/mesh-error.ts";
import { hasLoopbackIpv6 } from "#ztunnel/inpod/loopback-ipv6.ts";
import { inNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import { listeningPorts, type Observed } from "./capture-check.ts";
import { addressesIn, procNet } from "./namespace-addresses.ts";
import { endConnections, openConnections } from "./open-connections.ts";
import {
  dnsPort,
  installScript,
  ownTables,
  releaseScript,
  removeScript,
  routingBatches,
  routingListBatch,
  type RedirectFacts,
  type RoutingBatch,
} from "./redirect-rules.ts";
import { mustRun, runProgram } from "./run-program.ts";

/** Rules in force, for {@link problemsOf} and {@link removeRules}. */
export interface InstalledRules {
  /** As nft prints them. */
  readonly tables: string;
  readonly routing: readonly RoutingBatch[];
  readonly dnsCapture: boolean;
}

/**
 * Puts all rules in place; a second time changes nothing that carries traffic.
 *
 * @param joins whether the pod was outside of the mesh until now: connections of then are ended
 * @throws MeshError SYSTEM_CALL_FAILED saying what failed; rules may then be there in part
 */
export async function installRules(netnsFd: number, wanted: RedirectFacts, joins = false): Promise<InstalledRules> {
  const facts = { ...wanted, ipv6: wanted.ipv6 && hasLoopbackIpv6(netnsFd) };
  const routing = routingBatches(facts);
  // Routes first: without them an answer to a redirected connection would have no way back.
  for (const { family, install } of routing) await tolerate(netnsFd, family, install, /File exists/);
  const former = joins ? openConnections(netnsFd) : [];
  await mustRun(netnsFd, "nft", ["-f", "-"], installScript(facts));
  await endConnections(netnsFd, former);
  return { tables: ownTables(await listRuleset(netnsFd)), routing, dnsCapture: facts.dnsCapture };
}

/** Redirects nothing new; what is redirected already stays so until {@link removeRules}. */
export async function releaseConnections(netnsFd: number): Promise<void> {
  await mustRun(netnsFd, "nft", ["-f", "-"], releaseScript);
}

/** Takes out what {@link installRules} put in, as far as it is there. */
export async function removeRules(netnsFd: number): Promise<void> {
  await mustRun(netnsFd, "nft", ["-f", "-"], removeScript);
  const absent = /No such (file or directory|process)|FIB table does not exist|Address family not supported/;
  const ipv6 = hasLoopbackIpv6(netnsFd);
  for (const { family, remove } of routingBatches({ ipv6 })) await tolerate(netnsFd, family, remove, absent);
}

/** A view of the namespace now. */
export async function observe(netnsFd: number, routing: readonly RoutingBatch[]): Promise<Observed> {
  const seen: Record<RoutingBatch["family"], string> = { "-4": "", "-6": "" };
  for (const { family } of routing) {
    // A table without any route makes `ip` complain; what it prints before and after counts all the same.
    seen[family] = (await runProgram(netnsFd, "ip", [family, "-force", "-batch", "-"], routingListBatch)).stdout;
  }
  return {
    ips: addressesIn(netnsFd),
    listening: new Set(portsIn(netnsFd, "tcp")),
    answersDns: answersDns(netnsFd),
    ruleset: await listRuleset(netnsFd),
    routing: seen,
  };
}

/** Whether ztunnel answers questions in the namespace. */
export const answersDns = (netnsFd: number): boolean =>
  portsIn(netnsFd, "udp").includes(dnsPort) && portsIn(netnsFd, "tcp").includes(dnsPort);

const portsIn = (netnsFd: number, protocol: "tcp" | "udp"): readonly number[] =>
  inNamespace(netnsFd, () => [protocol, `${protocol}6`].flatMap((file) => listeningPorts(procNet(file), protocol)));

const listRuleset = (netnsFd: number): Promise<string> =>
  mustRun(netnsFd, "nft", ["-s", "list", "ruleset", "inet"], "");

/** Runs every line, and fails only over complaints that do not match `harmless`. */
async function tolerate(netnsFd: number, family: string, batch: string, harmless: RegExp): Promise<void> {
  const { status, stderr } = await runProgram(netnsFd, "ip", [family, "-force", "-batch", "-"], batch);
  if (status === 0) return;
  const complaints = stderr.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("Command failed"));
  if (complaints.every((line) => harmless.test(line))) return;
  throw new MeshError("SYSTEM_CALL_FAILED", `"ip ${family} -batch" failed: ${complaints.join("; ")}`);
}
