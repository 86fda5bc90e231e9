/** Compiles one Route: its action, and what surrounds it. */
import type {
  Route,
  RouteAction as RouteActionConfig,
  WeightedCluster,
  WeightedCluster_ClusterWeight as ClusterWeight,
} from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { Exchange } from "#waypoint/http/exchange.ts";
import { compileForward } from "./compile-forward.ts";
import type { ForwardAction, RouteAction } from "./compiled-route.ts";
import { compileHostRewrite } from "./host-rewrite.ts";
import { compilePathRewrite } from "./path-rewrite.ts";
import { compileDirectResponse, compileRedirect } from "./redirect.ts";
import type { RouteDefaults } from "./route-context.ts";
import { RouteInstance, type RouteFacts } from "./route-instance.ts";
import type { MatchedPath } from "./route-match.ts";
import type { RouteEntry } from "./route-table.ts";
import { compileScope, type Scope } from "./scope.ts";

export function compileRoute(route: Route, matched: MatchedPath, path: string, defaults: RouteDefaults): RouteEntry {
  const { problem } = defaults.context;
  const scope = compileScope(route, defaults.scope, `${path}.`, defaults);
  const action = route.action.case === "route" ? route.action.value : undefined;
  const facts: Omit<RouteFacts, "action" | "scope"> = {
    name: route.name,
    virtualHost: defaults.virtualHost,
    metadata: new Map(Object.entries(route.metadata?.filterMetadata ?? {})),
    rateLimits: {
      route: action?.rateLimits ?? [],
      virtualHost: defaults.rateLimits,
      includesVirtualHost: action?.includeVhRateLimits === true,
    },
    decorator: route.decorator && {
      operation: route.decorator.operation,
      propagate: route.decorator.propagate ?? true,
    },
    tracing: route.tracing,
    statPrefix: route.statPrefix,
    keepsOriginal: defaults.context.suppressesEnvoyHeaders !== true,
    hostRewrite: action && compileHostRewrite(action, `${path}.route`, problem),
    pathRewrite:
      action &&
      compilePathRewrite(
        {
          prefixRewrite: action.prefixRewrite,
          regexRewrite: action.regexRewrite,
          pathRewritePolicy: action.pathRewritePolicy,
        },
        matched,
        `${path}.route`,
        problem,
      ),
  };
  if (action === undefined)
    return always(new RouteInstance({ ...facts, scope, action: compileReply(route, matched, path, defaults) }));
  const forward = compileForward(action, route.perRequestBufferLimitBytes, `${path}.route`, defaults);
  const { clusterSpecifier: specifier } = action;
  if (specifier.case === "weightedClusters")
    return compileWeighted(specifier.value, action, `${path}.route.weighted_clusters`, {
      facts,
      scope,
      forward,
      defaults,
    });
  return always(new RouteInstance({ ...facts, scope, action: forward }));
}

const always = (route: RouteInstance): RouteEntry => ({ choose: () => route });

function compileReply(route: Route, matched: MatchedPath, path: string, defaults: RouteDefaults): RouteAction {
  const { problem } = defaults.context;
  const { action } = route;
  switch (action.case) {
    case "redirect": {
      const redirect = compileRedirect(action.value, matched, `${path}.redirect`, problem);
      return { kind: "reply", reply: ({ request }) => redirect(request) };
    }
    case "directResponse":
      return {
        kind: "reply",
        reply: compileDirectResponse(action.value, defaults.maxDirectBodyBytes, `${path}.direct_response`, problem),
      };
    case "nonForwardingAction":
      // Only a server of its own has something behind such a route.
      return { kind: "reply", reply: () => ({ status: 503, details: "non_forwarding_route" }) };
    case "route":
    case "filterAction":
    case undefined:
      problem(
        path,
        action.case === undefined ? "set one of route, redirect or direct_response" : "filter_action is not supported",
      );
      return { kind: "reply", reply: () => ({ status: 500, details: "route_without_action" }) };
  }
}

interface WeightedParts {
  readonly facts: Omit<RouteFacts, "action" | "scope">;
  readonly scope: Scope;
  readonly forward: ForwardAction;
  readonly defaults: RouteDefaults;
}

/** Each cluster becomes a route of its own; a request draws one of them. Weight 0 is never drawn. */
function compileWeighted(
  config: WeightedCluster,
  action: RouteActionConfig,
  path: string,
  parts: WeightedParts,
): RouteEntry {
  const { problem } = parts.defaults.context;
  const choices = config.clusters.map((one, index) => ({
    weight: one.weight ?? 0,
    route: compileChoice(one, action, `${path}.clusters[${index}]`, parts),
  }));
  const total = choices.reduce((sum, { weight }) => sum + weight, 0);
  if (config.clusters.length === 0) problem(`${path}.clusters`, "needs at least one");
  else if (total === 0) problem(`${path}.clusters`, "the sum of weights must be above zero");
  if (total > 0xffff_ffff) problem(`${path}.clusters`, `the sum of weights is ${total}, limit 4294967295`);
  if (config.totalWeight !== undefined && config.totalWeight !== total)
    problem(`${path}.total_weight`, `is ${config.totalWeight}, the sum of weights is ${total}`);
  const ends: number[] = [];
  let end = 0;
  for (const { weight } of choices) ends.push((end += weight));
  const header = config.randomValueSpecifier.value?.toLowerCase();
  return {
    choose: (exchange) => {
      const value = header === undefined ? exchange.draw * total : drawOf(exchange, header, total);
      for (let index = 0; index < ends.length; index++)
        if (value < (ends[index] as number)) return (choices[index] as { route: RouteInstance }).route;
      return choices.at(-1)?.route;
    },
  };
}

/** A number in a header instead of chance; without one, chance. */
function drawOf(exchange: Exchange, header: string, total: number): number {
  const text = exchange.request.headers.get(header);
  return text !== undefined && /^\d{1,20}$/.test(text) ? Number(BigInt(text) % BigInt(total)) : exchange.draw * total;
}

function compileChoice(
  config: ClusterWeight,
  action: RouteActionConfig,
  path: string,
  { facts, scope, forward, defaults }: WeightedParts,
): RouteInstance {
  const { problem, clusters } = defaults.context;
  const { name, clusterHeader, hostRewriteSpecifier } = config;
  if (config.weight === undefined) problem(`${path}.weight`, "must be set");
  if ((name === "") === (clusterHeader === "")) problem(path, "set one of name and cluster_header");
  if (defaults.validatesClusters && name !== "" && clusters.get(name) === undefined)
    problem(`${path}.name`, `cluster "${name}" does not exist`);
  const header = clusterHeader.toLowerCase();
  const host = hostRewriteSpecifier.value ?? "";
  if (/[\s\0]/.test(host)) problem(`${path}.host_rewrite_literal`, `"${host}" is no host`);
  const own = config.metadataMatch?.filterMetadata["envoy.lb"];
  return new RouteInstance({
    ...facts,
    weightedHost: host,
    scope: compileScope(config, scope, `${path}.`, defaults),
    action: {
      ...forward,
      pickCluster: name === "" ? ({ request }) => request.headers.get(header) ?? "" : () => name,
      rewritesHostAutomatically: host === "" && forward.rewritesHostAutomatically,
      metadataMatch:
        own === undefined ? forward.metadataMatch : { ...action.metadataMatch?.filterMetadata["envoy.lb"], ...own },
    },
  });
}
