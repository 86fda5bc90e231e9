/** Which requests are also sent somewhere else. */
import type { Exchange } from "#waypoint/http/exchange.ts";

export interface MirrorPolicy {
  readonly pickCluster: (exchange: Exchange) => string;
  readonly applies: (random: () => number) => boolean;
  readonly appendsShadowSuffix: boolean;
}
