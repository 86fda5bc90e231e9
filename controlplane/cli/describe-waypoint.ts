/** What one waypoint would be served, for eyes. */
import { envoyForm, type EnvoyForm } from "#controlplane/translate/envoy/envoy-form.ts";
import { envoyResources } from "#controlplane/translate/envoy/resources.ts";
import { envoyContext, proxyFacts } from "#controlplane/translate/envoy/view.ts";
import type { Offline, Surroundings } from "./offline.ts";

/** undefined where there is nothing to describe; the reason has been told. */
export function describeWaypoint(
  read: Offline | undefined,
  name: string,
  node: string,
  { tell }: Surroundings,
): EnvoyForm | undefined {
  if (read === undefined) return undefined;
  const { collected } = read.translation;
  const slash = name.indexOf("/");
  const [namespace, gateway] = [name.slice(0, slash), name.slice(slash + 1)];
  const waypoint = slash < 0 ? undefined : collected.waypoints.get(namespace, gateway);
  if (waypoint === undefined) {
    const known = collected.waypoints.all.map(({ key }) => key).join(", ");
    tell(
      `error: there is no waypoint "${name}" with an address: ${known === "" ? "there are none" : `known are ${known}`}`,
    );
    return undefined;
  }
  const proxy = proxyFacts(collected.world, collected.network, {
    namespace,
    name: gateway,
    node,
    ips: ["0.0.0.0"],
    mayHoldKeys: true,
  });
  const resources = envoyResources(envoyContext(collected, waypoint, proxy));
  for (const problem of resources.problems) tell(`warning: ${problem}`);
  return envoyForm(resources);
}
