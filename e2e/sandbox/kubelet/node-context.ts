import type { Clock } from "#shared/clock/clock.ts";
import type { ObjectStore } from "../apiserver/object-store.ts";
import type { EventRecorder } from "../events.ts";
import type { NodeNetwork } from "../network/fabric.ts";
import type { ImageOverrides } from "./images.ts";
import type { BackOff } from "./restart.ts";
import type { ServiceAccountToken } from "./volumes.ts";

export interface TokenRequest {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Undefined: the API server's own. */
  readonly audience: string | undefined;
  readonly expirationSeconds: number;
  readonly pod: { readonly name: string; readonly uid: string };
}

/** What all pods of one node share. */
export interface NodeContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly network: NodeNetwork;
  /** The node's network namespace, held open for probes. */
  readonly netnsFd: number;
  readonly events: EventRecorder;
  readonly images: ImageOverrides;
  readonly backOff: BackOff;
  readonly issueToken: (request: TokenRequest) => Promise<ServiceAccountToken>;
  readonly capacity: { readonly cpu: number; readonly memoryBytes: number };
  /** Where pods with the node's DNS settings ask. */
  readonly nameServer: string;
  /** PATH of containers that set none. */
  readonly path: string;
}
