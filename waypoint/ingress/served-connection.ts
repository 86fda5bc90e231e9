/** A client's connection that a listener serves, whatever its chain. */
import type { ChainFacts } from "./chain-match.ts";
import type { Chain } from "./compiled-listener.ts";

export interface ServedConnection {
  readonly facts: ChainFacts;
  /** Name of its chain. */
  readonly chain: string;
  /** Goes on with a new version of its chain; false where it cannot. */
  adopt(chain: Chain): boolean;
  /** Whoever asks next is told to go elsewhere afterwards. An idle client may be asking just now, and is left alone. */
  leave(): void;
  /** Ends with what is under way; at once where nothing is. */
  drain(): void;
  abort(why: string): void;
}
