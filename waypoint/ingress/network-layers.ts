/** Asks the network layers of a chain about a connection. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import type { NetworkConnection, NetworkLayer, NetworkLayerResult } from "#waypoint/layers/network-layer.ts";

/** One connection on its way through the layers, and out of them again. */
export class LayeredConnection implements NetworkConnection {
  readonly connection: DownstreamConnection;
  dynamicPort: number | undefined;
  readonly #layers: readonly NetworkLayer[];
  #passed = 0;
  #isEnded = false;
  #metadata: Map<string, JsonObject> | undefined;

  constructor(connection: DownstreamConnection, layers: readonly NetworkLayer[]) {
    this.connection = connection;
    this.#layers = layers;
  }

  metadataOf(filter: string): JsonObject | undefined {
    return this.#metadata?.get(filter);
  }

  setMetadata(filter: string, value: JsonObject): void {
    this.#metadata ??= new Map();
    this.#metadata.set(filter, value);
  }

  /** The first refusal, if any. At once unless a layer has to wait. A layer that throws refuses. */
  ask(): NetworkLayerResult | Promise<NetworkLayerResult> {
    while (this.#passed < this.#layers.length) {
      const layer = this.#layers[this.#passed] as NetworkLayer;
      let result: NetworkLayerResult | Promise<NetworkLayerResult>;
      try {
        result = layer.onConnection(this);
      } catch (error) {
        return failed(layer, error);
      }
      if (result instanceof Promise) return this.#askOn(layer, result);
      if (result !== undefined) return result;
      this.#passed += 1;
    }
    return undefined;
  }

  async #askOn(layer: NetworkLayer, waiting: Promise<NetworkLayerResult>): Promise<NetworkLayerResult> {
    try {
      const result = await waiting;
      if (result !== undefined) return result;
    } catch (error) {
      return failed(layer, error);
    }
    this.#passed += 1;
    return this.ask();
  }

  /** Tells those that let it pass. */
  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    for (const layer of this.#layers.slice(0, this.#passed)) layer.onEnd?.(this);
  }
}

const failed = ({ name }: NetworkLayer, error: unknown): NetworkLayerResult => ({
  details: `filter_failed[${name}: ${error instanceof Error ? error.message : String(error)}]`,
});
