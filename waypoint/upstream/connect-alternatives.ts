/** An endpoint with several addresses (dual stack): the next is tried where one does not answer. */
import type { Endpoint } from "./endpoint.ts";
import type { Host, HostAddress } from "./host.ts";
import type { Connector } from "./transport/connector.ts";

/** The same connector, for hosts of clusters. */
export function withAlternatives(connector: Connector): Connector {
  return {
    clock: connector.clock,
    async connectHost(host, transport, signal, ...rest) {
      const alternatives = (host as Partial<Endpoint>).alternatives ?? [];
      if (alternatives.length === 0) return connector.connectHost(host, transport, signal, ...rest);
      let failure: unknown;
      for (const address of [host.address, ...alternatives]) {
        try {
          return await connector.connectHost(at(host, address), transport, signal, ...rest);
        } catch (error) {
          signal.throwIfAborted();
          failure ??= error;
        }
      }
      throw failure as Error;
    },
    [Symbol.dispose]: () => connector[Symbol.dispose](),
  };
}

const at = (host: Host, address: HostAddress): Host =>
  address === host.address ? host : Object.create(host, { address: { value: address } });
