/** One listener, ready for connections. */
import type { Ip } from "#shared/net/ip.ts";
import type { TcpObserver } from "#waypoint/telemetry/observers.ts";
import type { ChainFacts } from "./chain-match.ts";
import type { HttpChain } from "./http-chain.ts";
import type { TcpChain } from "./tcp-chain.ts";

export type Chain = HttpChain | TcpChain;

/** A chain, and what it was made of. */
export interface MadeChain {
  readonly chain: Chain;
  /** Its configuration, encoded. */
  readonly source: Uint8Array;
  /** The listener's `per_connection_buffer_limit_bytes`. */
  readonly bufferLimitBytes: number | undefined;
  /** Optional filters that were left out. */
  readonly skipped: readonly string[];
}

export interface BindAddress {
  readonly ip: Ip;
  /** 0 lets the system choose. */
  readonly port: number;
}

export interface CompiledListener {
  readonly name: string;
  /** Where sockets of its own listen; empty where it is fed from elsewhere only. */
  readonly bind: readonly BindAddress[];
  readonly backlog: number | undefined;
  /** Where the client was going is asked of the kernel, not taken from the socket. */
  readonly usesOriginalDestination: boolean;
  /** Whether first bytes are looked at, for connections to this port. */
  readonly inspectsHttp: (destinationPort: number) => boolean;
  readonly inspectsTls: (destinationPort: number) => boolean;
  /** How long a client may take to say enough. 0 for ever. Milliseconds. */
  readonly inspectionMs: number;
  /** One that does not is served by what there is to match; otherwise closed. */
  readonly continuesAfterDeadline: boolean;
  readonly chains: ReadonlyMap<string, Chain>;
  /** The same, for the next version: a chain whose configuration has not changed stays what it is, with all that it knows. */
  readonly made: ReadonlyMap<string, MadeChain>;
  /**
   * Names of chains that could not be compiled, and why. Their connections are served as before by what was in force, or
   * refused where nothing was: never by another chain.
   */
  readonly broken: ReadonlyMap<string, readonly string[]>;
  /** Finds the name of a chain; the chain itself may be missing. */
  readonly matcher: { match(facts: ChainFacts): string | undefined };
  /** Tunnels may be asked for a service by its name. */
  readonly takesNames: boolean;
  /** Told of connections that no chain wants. */
  readonly refusals: readonly TcpObserver[];
  /** Optional filters that are not known here and were left out. */
  readonly skipped: readonly string[];
}
