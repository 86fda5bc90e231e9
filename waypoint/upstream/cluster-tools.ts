import type { Clock } from "#shared/clock/clock.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { MakePool } from "./cluster-pools.ts";
import type { Resolver } from "./dns/resolver.ts";

/** What clusters use of the process. */
export interface ClusterTools {
  readonly clock: Clock;
  readonly log: Logger;
  /** [0, 1). */
  readonly random: () => number;
  readonly makePool: MakePool;
  readonly makeResolver: (servers: readonly string[]) => Resolver;
  /** Whether a tunnel leads to this address, for clusters that go wherever the client was going. */
  readonly isTunnelled: (ip: string) => boolean;
}
