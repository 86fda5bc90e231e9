import type { Ip } from "#shared/net/ip.ts";
import type { OutboundDecision, Unresolved } from "./decide-outbound.ts";

/** All addresses of a hostname, of both families. */
export type Resolver = (hostname: string) => Promise<readonly Ip[]>;

/** Completes a decision that waits for an address; most do not, and stay synchronous. */
export function resolveDecision(
  decision: OutboundDecision | Unresolved,
  resolve: Resolver,
  random: () => number,
): OutboundDecision | Promise<OutboundDecision> {
  return decision.kind === "resolve" ? resolveHostname(decision, resolve, random) : decision;
}

async function resolveHostname(
  { hostname, family, complete }: Unresolved,
  resolve: Resolver,
  random: () => number,
): Promise<OutboundDecision> {
  let answers: readonly Ip[];
  try {
    answers = await resolve(hostname);
  } catch (error) {
    return {
      kind: "refuse",
      why: `cannot resolve "${hostname}": ${error instanceof Error ? error.message : "failed"}`,
    };
  }
  const wanted = answers.filter((ip) => ip.includes(":") === (family === 6));
  const choices = wanted.length > 0 ? wanted : answers;
  const ip = choices[Math.floor(random() * choices.length)];
  return ip === undefined ? { kind: "refuse", why: `"${hostname}" has no address` } : complete(ip);
}
