/** Compiles Envoy's RouteConfiguration into a {@link RouteTable}. */
import type { RouteConfiguration } from "#shared/proto/gen/envoy/config/route/v3/route_pb.js";
import {
  VirtualHost_TlsRequirementType as TlsRequirement,
  type VirtualHost,
} from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { compileRoute } from "./compile-route.ts";
import { Domains } from "./domains.ts";
import { compileMirrors } from "./mirror-policy.ts";
import { compileRetryPolicy } from "./retry-policy.ts";
import type { RouteContext, RouteDefaults } from "./route-context.ts";
import { RouteIndex } from "./route-index.ts";
import { compileMatch } from "./route-match.ts";
import { RouteTable, type VirtualHostRoutes } from "./route-table.ts";
import { compileScope, type Scope } from "./scope.ts";

const maxDirectBodyBytes = 1024 * 1024;

/** Every mistake goes to `context.problem`; the table is then not to be used. */
export function compileRoutes(config: RouteConfiguration, context: RouteContext): RouteTable {
  const { problem } = context;
  if (config.vhds !== undefined) problem("vhds", "is not supported: virtual hosts come inline");
  if (config.clusterSpecifierPlugins.length > 0) problem("cluster_specifier_plugins", "is not supported");
  if (config.ignorePathParametersInPathMatching) problem("ignore_path_parameters_in_path_matching", "is not supported");
  const innerWins = config.mostSpecificHeaderMutationsWins;
  const scope = compileScope(config, undefined, "", { context, innerWins });
  const mirrors = compileMirrors(config.requestMirrorPolicies, "request_mirror_policies", problem);
  const domains = new Domains<VirtualHostRoutes>();
  const names = new Set<string>();
  for (const [index, host] of config.virtualHosts.entries()) {
    const path = `virtual_hosts[${index}]`;
    if (host.name === "") problem(`${path}.name`, "must not be empty");
    if (names.has(host.name)) problem(`${path}.name`, `"${host.name}" is taken by another virtual host`);
    names.add(host.name);
    if (host.domains.length === 0) problem(`${path}.domains`, "needs at least one");
    const routes = compileHost(host, scope, path, {
      context,
      innerWins,
      mirrors,
      maxDirectBodyBytes: config.maxDirectResponseBodySizeBytes ?? maxDirectBodyBytes,
      validatesClusters: config.validateClusters === true,
    });
    for (const [at, domain] of host.domains.entries()) domains.add(domain, routes, `${path}.domains[${at}]`, problem);
  }
  return new RouteTable(config.name, domains, {
    ignoresPort: config.ignorePortInHostMatching,
    random: context.random ?? Math.random,
    internalOnlyHeaders: config.internalOnlyHeaders.map((name) => name.toLowerCase()),
  });
}

function compileHost(
  host: VirtualHost,
  outer: Scope,
  path: string,
  options: Pick<RouteDefaults, "context" | "innerWins" | "mirrors" | "maxDirectBodyBytes" | "validatesClusters">,
): VirtualHostRoutes {
  const { context, innerWins } = options;
  const { problem } = context;
  if (host.requireTls !== TlsRequirement.NONE) problem(`${path}.require_tls`, "is not supported");
  if (host.matcher !== undefined) problem(`${path}.matcher`, "is not supported; use routes");
  if (host.virtualClusters.length > 0) problem(`${path}.virtual_clusters`, "is not supported");
  if (host.cors !== undefined) problem(`${path}.cors`, "is out of date; use typed_per_filter_config");
  if (host.hedgePolicy !== undefined) problem(`${path}.hedge_policy`, "is not supported");
  if (host.retryPolicyTypedConfig !== undefined) problem(`${path}.retry_policy_typed_config`, "is not supported");
  const mirrors = compileMirrors(host.requestMirrorPolicies, `${path}.request_mirror_policies`, problem);
  const defaults: RouteDefaults = {
    ...options,
    virtualHost: host.name,
    scope: compileScope(host, outer, `${path}.`, { context, innerWins }),
    retryPolicy: compileRetryPolicy(host.retryPolicy, `${path}.retry_policy`, problem),
    mirrors: mirrors.length > 0 ? mirrors : options.mirrors,
    rateLimits: host.rateLimits,
    countsAttempts: host.includeRequestAttemptCount,
    countsAttemptsInResponse: host.includeAttemptCountInResponse,
    tellsTimeoutRetries: host.includeIsTimeoutRetryHeader,
    bufferLimitBytes: host.perRequestBufferLimitBytes,
  };
  const matches = host.routes.map((route, index) =>
    compileMatch(route.match, `${path}.routes[${index}].match`, problem, index),
  );
  return {
    index: new RouteIndex(matches),
    entries: host.routes.map((route, index) => {
      const match = matches[index];
      if (match === undefined) throw new TypeError("a match is compiled for every route");
      return compileRoute(route, match.path, `${path}.routes[${index}]`, defaults);
    }),
  };
}
