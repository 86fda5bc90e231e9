/** Faults made on purpose: delays, then refusals. For all requests of a listener, or instead of that for those of a route. */
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import type { Clock } from "#shared/clock/clock.ts";
import { HTTPFaultSchema } from "#shared/proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import type { Layer, LayerContext, LayerKind } from "#waypoint/layers/layer.ts";
import { compileFault, type FaultRules } from "./fault-rules.ts";

export const faultLayer: LayerKind = {
  type: HTTPFaultSchema.typeName,
  compile: (name, config, context) => {
    const rules = read(config, context);
    return rules && new FaultLayer(name, rules, context.clock, Math.random);
  },
  routeTypes: { [HTTPFaultSchema.typeName]: read },
};

function read(config: Any, context: LayerContext): FaultRules | undefined {
  const fault = anyUnpack(config, HTTPFaultSchema);
  if (fault !== undefined) return compileFault(fault, context);
  context.problem("", `cannot be read as ${HTTPFaultSchema.typeName}`);
  return undefined;
}

export class FaultLayer implements Layer {
  readonly name: string;
  readonly #rules: FaultRules;
  readonly #clock: Clock;
  readonly #random: () => number;
  /** Requests with a fault, until their end; how to end a delay that nobody waits for any more. */
  readonly #active = new Map<Exchange, (() => void) | undefined>();

  constructor(name: string, rules: FaultRules, clock: Clock, random: () => number) {
    this.name = name;
    this.#rules = rules;
    this.#clock = clock;
    this.#random = random;
  }

  onRequest(exchange: Exchange): LocalReply | undefined | Promise<LocalReply | undefined> {
    const rules = (exchange.route?.layerConfigs.get(this.name) as FaultRules | undefined) ?? this.#rules;
    if (rules.maxActive !== undefined && this.#active.size >= rules.maxActive) return undefined;
    if (!rules.applies(exchange)) return undefined;
    const delayMs = rules.delayMs(exchange.request.headers, this.#random);
    return delayMs > 0 ? this.#delay(exchange, rules, delayMs) : this.#abort(exchange, rules);
  }

  onEnd(exchange: Exchange): void {
    const stop = this.#active.get(exchange);
    this.#active.delete(exchange);
    stop?.();
  }

  #delay(exchange: Exchange, rules: FaultRules, delayMs: number): Promise<LocalReply | undefined> {
    exchange.flags.add("DI");
    this.#mark(exchange, rules);
    return new Promise((resolve) => {
      const cancel = this.#clock.schedule(delayMs, () => {
        this.#active.set(exchange, undefined);
        resolve(this.#abort(exchange, rules));
      });
      this.#active.set(exchange, () => {
        cancel();
        resolve(undefined);
      });
    });
  }

  #abort(exchange: Exchange, rules: FaultRules): LocalReply | undefined {
    const reply = rules.abort(exchange.request.headers, this.#random);
    if (reply === undefined) return undefined;
    this.#mark(exchange, rules);
    if (!this.#active.has(exchange)) this.#active.set(exchange, undefined);
    return reply;
  }

  /** For logs: what the author of the fault wants to find there. */
  #mark(exchange: Exchange, { metadata }: FaultRules): void {
    if (metadata !== undefined) exchange.metadata.set(this.name, metadata);
  }
}
