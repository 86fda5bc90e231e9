/** The layers of one HTTP chain, in the order of the configuration, and who of them takes part in a request. */
import type { CompiledRoute } from "#waypoint/routing/compiled-route.ts";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { BodyTransform, Layer } from "#waypoint/layers/layer.ts";
import type { ExchangeEnd } from "#waypoint/telemetry/observers.ts";

export interface StackedLayer {
  readonly layer: Layer;
  /** Off unless a route switches it on. */
  readonly isDisabled: boolean;
}

export class LayerStack {
  /** Those that look at requests. */
  readonly request: readonly StackedLayer[];
  readonly #response: readonly StackedLayer[];
  readonly #end: readonly StackedLayer[];
  readonly #transforming: readonly StackedLayer[];
  readonly #anyDisabled: boolean;

  constructor(layers: readonly StackedLayer[]) {
    this.request = layers.filter(({ layer }) => layer.onRequest !== undefined);
    this.#response = layers.filter(({ layer }) => layer.onResponse !== undefined).toReversed();
    this.#end = layers.filter(({ layer }) => layer.onEnd !== undefined);
    this.#transforming = layers.filter(({ layer }) => layer.transform !== undefined);
    this.#anyDisabled = layers.some(({ isDisabled }) => isDisabled);
  }

  isOn({ layer, isDisabled }: StackedLayer, route: CompiledRoute | undefined): boolean {
    if (route === undefined || route.layerDisabled.size === 0) return !isDisabled;
    return !(route.layerDisabled.get(layer.name) ?? isDisabled);
  }

  /** In the order of the configuration; undefined where bodies stay as they are. */
  transforms(exchange: Exchange): readonly BodyTransform[] | undefined {
    if (this.#transforming.length === 0) return undefined;
    const { route } = exchange;
    const found = this.#transforming.flatMap((stacked) =>
      this.isOn(stacked, route) ? (stacked.layer.transform?.(exchange) ?? []) : [],
    );
    return found.length === 0 ? undefined : found;
  }

  /** Every layer, also one that an earlier one's answer kept from seeing the request. */
  onResponse(exchange: Exchange, head: ResponseHead): void {
    const all = this.#response;
    if (all.length === 0) return;
    const { route } = exchange;
    for (const stacked of all) {
      if (this.#everywhere(route) || this.isOn(stacked, route)) stacked.layer.onResponse?.(exchange, head);
    }
  }

  /** As {@link onResponse}. What one throws keeps no other from its end. */
  onEnd(exchange: Exchange, end: ExchangeEnd, failed: (layer: string, error: unknown) => void): void {
    for (const stacked of this.#end) {
      if (!this.isOn(stacked, exchange.route)) continue;
      try {
        stacked.layer.onEnd?.(exchange, end);
      } catch (error) {
        failed(stacked.layer.name, error);
      }
    }
  }

  #everywhere(route: CompiledRoute | undefined): boolean {
    return !this.#anyDisabled && (route === undefined || route.layerDisabled.size === 0);
  }
}
