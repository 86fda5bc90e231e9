/** What single routes say of tracing, compiled at the first request of each. */
import type { FractionalPercent } from "#shared/proto/gen/envoy/type/v3/percent_pb.js";
import { FractionalPercent_DenominatorType as Denominator } from "#shared/proto/gen/envoy/type/v3/percent_pb.js";
import type { Tracing } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import { compileTags, type Tag } from "./custom-tags.ts";
import type { Sampling } from "./sampling.ts";

export interface RouteTracing {
  readonly sampling: Sampling;
  readonly tags: readonly Tag[];
}

const denominators: Readonly<Record<Denominator, number>> = {
  [Denominator.HUNDRED]: 100,
  [Denominator.TEN_THOUSAND]: 10_000,
  [Denominator.MILLION]: 1_000_000,
};

const share = (percent: FractionalPercent | undefined): number =>
  percent === undefined ? 1 : percent.numerator / denominators[percent.denominator];

export function routeTracings({ clusters, log }: LayerContext): (route: Exchange["route"]) => RouteTracing | undefined {
  const compiled = new WeakMap<Tracing, RouteTracing>();
  return (route) => {
    const tracing = route?.tracing;
    if (tracing === undefined) return undefined;
    let found = compiled.get(tracing);
    if (found === undefined) {
      const problem = (path: string, message: string) =>
        log.warn({ route: route?.name, path, problem: message }, "tag left out");
      found = {
        sampling: {
          client: share(tracing.clientSampling),
          random: share(tracing.randomSampling),
          overall: share(tracing.overallSampling),
        },
        tags: compileTags(tracing.customTags, "tracing.custom_tags", clusters, problem),
      };
      compiled.set(tracing, found);
    }
    return found;
  };
}
