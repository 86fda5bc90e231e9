/** The descriptors that a route and its virtual host ask for. Compiled once for each list in a configuration. */
import { VhRateLimitsOptions } from "#shared/proto/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";
import type { RateLimit } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { Exchange } from "#waypoint/http/exchange.ts";
import { compileDescriptor, type Descriptor, type DescriptorMaker } from "./descriptors.ts";

const compiled = new WeakMap<readonly RateLimit[], readonly DescriptorMaker[]>();

/** What is wrong with them has been told when the route was compiled. */
function makersOf(limits: readonly RateLimit[]): readonly DescriptorMaker[] {
  let makers = compiled.get(limits);
  if (makers === undefined) {
    makers = limits.map((limit) => compileDescriptor(limit, "", () => {}));
    compiled.set(limits, makers);
  }
  return makers;
}

const none: readonly Descriptor[] = [];

/** A virtual host's count where the route has none of its own, or where either says so. */
export function routeDescriptors(
  exchange: Exchange,
  stage: number,
  option: VhRateLimitsOptions,
): readonly Descriptor[] {
  const limits = exchange.route?.rateLimits;
  if (limits === undefined || (limits.route.length === 0 && limits.virtualHost.length === 0)) return none;
  const made: Descriptor[] = [];
  add(made, limits.route, stage, exchange);
  const includesHost =
    option === VhRateLimitsOptions.INCLUDE ||
    (option === VhRateLimitsOptions.OVERRIDE && (limits.route.length === 0 || limits.includesVirtualHost));
  if (includesHost) add(made, limits.virtualHost, stage, exchange);
  return made;
}

/** Those of a filter that says itself what it counts, whatever their stage. */
export function ownDescriptors(exchange: Exchange, limits: readonly RateLimit[]): readonly Descriptor[] {
  return makersOf(limits)
    .map((maker) => maker.make(exchange))
    .filter((made) => made !== undefined);
}

function add(made: Descriptor[], limits: readonly RateLimit[], stage: number, exchange: Exchange): void {
  for (const maker of makersOf(limits)) {
    if (maker.stage !== stage) continue;
    const descriptor = maker.make(exchange);
    if (descriptor !== undefined) made.push(descriptor);
  }
}
