import { runScript } from "../run-script.ts";
import { as, resources, type EndpointSlice, type Service } from "../kinds.ts";
import type { ObjectStore } from "../apiserver/object-store.ts";
import { serviceRules } from "./service-rules.ts";
import { collectVips } from "./service-vips.ts";

export interface ServiceProxyOptions {
  readonly store: ObjectStore;
  readonly ipv6: boolean;
  /** Network namespaces to keep the rules in: the nodes'; undefined is our own. */
  readonly namespaces: readonly (string | undefined)[];
  readonly onError: (error: unknown) => void;
}

/** Changes that come together are written together. */
const settleMs = 5;

/** Keeps the rules for service addresses on every node as the services and endpoint slices say. Ends with `close`. */
export function startServiceProxy({ store, ipv6, namespaces, onError }: ServiceProxyOptions): { close(): void } {
  let written = "";
  let isScheduled = false;
  let isWriting = false;
  let isClosed = false;

  const write = async () => {
    isScheduled = false;
    if (isWriting || isClosed) return; // the writer looks again when it is done
    isWriting = true;
    try {
      for (;;) {
        const services = store.list(resources.services).map(as<Service>);
        const slices = store.list(resources.endpointSlices).map(as<EndpointSlice>);
        const rules = serviceRules(collectVips(services, slices), { ipv6 });
        if (rules === written || isClosed) return;
        await Promise.all(namespaces.map((netns) => writeRules(rules, netns)));
        written = rules;
      }
    } catch (error) {
      onError(error);
    } finally {
      isWriting = false;
    }
  };
  const schedule = () => {
    if (isScheduled) return;
    isScheduled = true;
    setTimeout(() => void write(), settleMs);
  };
  const stops = [resources.services, resources.endpointSlices].map((id) => store.watch(id, schedule, { replay: true }));
  schedule();
  return {
    close: () => {
      isClosed = true;
      for (const stop of stops) stop();
    },
  };
}

const writeRules = (rules: string, netns: string | undefined) =>
  runScript(rules, { interpreter: ["nft", "-f", "-"], ...(netns === undefined ? {} : { netns }) });
