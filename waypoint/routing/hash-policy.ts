/** Where the key of a consistent hash comes from. */
import type { Exchange } from "#waypoint/http/exchange.ts";

export interface HashPolicy {
  /** Undefined where no part of the policy yields a value: the balancer draws. */
  hash(exchange: Exchange): bigint | undefined;
}
