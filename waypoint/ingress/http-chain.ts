/** A filter chain that ends in HTTP, compiled. */
import type { Clock } from "#shared/clock/clock.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { NetworkLayer } from "#waypoint/layers/network-layer.ts";
import type { RouteTable } from "#waypoint/routing/route-table.ts";
import type { Router } from "#waypoint/routing/router-contract.ts";
import type { ExchangeObserver } from "#waypoint/telemetry/observers.ts";
import type { AnswerRules } from "./answer-rules.ts";
import type { CodecSettings } from "./codec-settings.ts";
import type { LayerStack } from "./layer-stack.ts";
import type { RequestRules } from "./request-rules.ts";

export interface HttpChain {
  readonly kind: "http";
  readonly name: string;
  /** Before a byte of HTTP is read. */
  readonly networkLayers: readonly NetworkLayer[];
  readonly codec: CodecSettings;
  readonly rules: RequestRules;
  readonly answers: AnswerRules;
  readonly layers: LayerStack;
  readonly routes: RouteTable;
  readonly router: Router;
  /** Upgrades allowed unless a route says otherwise, in lower case. */
  readonly upgrades: ReadonlySet<string>;
  /** How long a whole request may take to come in. 0 for any time. */
  readonly requestTimeoutMs: number;
  readonly observers: readonly ExchangeObserver[];
  readonly clock: Clock;
  readonly log: Logger;
}
