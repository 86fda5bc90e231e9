/** Which requests are also sent somewhere else. */
import type { RouteAction_RequestMirrorPolicy as MirrorConfig } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { RequestView } from "#waypoint/http/request-view.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { isChosen, readRuntimeFraction } from "./match/fraction.ts";

export interface MirrorPolicy {
  readonly pickCluster: (exchange: RequestView) => string;
  readonly applies: (random: () => number) => boolean;
  readonly appendsShadowSuffix: boolean;
}

export function compileMirrors(
  configs: readonly MirrorConfig[],
  path: string,
  problem: Problem,
): readonly MirrorPolicy[] {
  return configs.map((config, index) => {
    const at = `${path}[${index}]`;
    const { cluster, clusterHeader } = config;
    if ((cluster === "") === (clusterHeader === "")) problem(at, "set one of cluster and cluster_header");
    const header = clusterHeader.toLowerCase();
    const fraction = readRuntimeFraction(config.runtimeFraction, `${at}.runtime_fraction`, problem);
    const isAll = fraction.numerator >= fraction.denominator;
    return {
      pickCluster: cluster === "" ? ({ request }) => request.headers.get(header) ?? "" : () => cluster,
      applies: isAll ? () => true : (random) => isChosen(fraction, random()),
      appendsShadowSuffix: !config.disableShadowHostSuffixAppend,
    };
  });
}
