/** What tests of clusters are made of. */
import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { ClusterSchema } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { XdsResource } from "#shared/xds/delta-client.ts";
import type { BalancedHost } from "./balancing/load-balancer.ts";
import type { PickerTools } from "./balancing/picker.ts";
import type { ClusterTools } from "./cluster-tools.ts";
import type { Host } from "./host.ts";
import type { HttpPool } from "./transport/http-pool.ts";
import { noCounts, type HttpPoolOptions } from "./transport/pool-options.ts";

/** The same numbers for the same seed: mulberry32. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b_79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export type FakeHost = { -readonly [Name in keyof BalancedHost]: BalancedHost[Name] };

export function fakeHost(key: string, facts: Partial<FakeHost> = {}): FakeHost {
  return {
    key,
    hostname: "",
    weight: 1,
    active: 0,
    readySinceMs: 0,
    hashKey: undefined,
    health: "healthy",
    priority: 0,
    ...facts,
  };
}

export function pickerTools(seed = 1): PickerTools & { readonly clock: FakeClock } {
  return { clock: new FakeClock(), random: seeded(seed), totalActive: () => 0 };
}

/** How often each key came. */
export function tally(picks: number, pick: () => { readonly key: string } | undefined): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i < picks; i++) {
    const key = pick()?.key ?? "none";
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

export function clusterResource(init: MessageInitShape<typeof ClusterSchema>): XdsResource {
  const message = create(ClusterSchema, init);
  return { name: message.name, version: "1", aliases: [], value: toBinary(ClusterSchema, message) };
}

export function assignmentResource(init: MessageInitShape<typeof ClusterLoadAssignmentSchema>): XdsResource {
  const message = create(ClusterLoadAssignmentSchema, init);
  return {
    name: message.clusterName,
    version: "1",
    aliases: [],
    value: toBinary(ClusterLoadAssignmentSchema, message),
  };
}

type AddressInit = NonNullable<
  MessageInitShape<typeof import("#shared/proto/gen/envoy/config/core/v3/address_pb.js").AddressSchema>
>;

/** `10.0.0.1:80`, or a name and port. */
export function socketAddress(text: string): AddressInit {
  const colon = text.lastIndexOf(":");
  const portSpecifier = { case: "portValue", value: Number(text.slice(colon + 1)) } as const;
  return { address: { case: "socketAddress", value: { address: text.slice(0, colon), portSpecifier } } };
}

export type LbEndpointInit = NonNullable<
  MessageInitShape<
    typeof import("#shared/proto/gen/envoy/config/endpoint/v3/endpoint_components_pb.js").LocalityLbEndpointsSchema
  >["lbEndpoints"]
>[number];

export function lbEndpoint(address: string, more: LbEndpointInit = {}): LbEndpointInit {
  return { hostIdentifier: { case: "endpoint", value: { address: socketAddress(address) } }, ...more };
}

/** Records what a cluster does with it. */
export class FakePool implements HttpPool {
  readonly options: HttpPoolOptions;
  readonly counts = noCounts();
  readonly removed: Host[] = [];
  drains = 0;
  disposals = 0;
  connect: HttpPool["connect"] = () => Promise.reject(new Error("nothing listens"));

  constructor(options: HttpPoolOptions) {
    this.options = options;
  }

  send(): never {
    throw new TypeError("no test sends here");
  }
  removeHost(host: Host): void {
    this.removed.push(host);
  }
  drain(): void {
    this.drains++;
  }
  [Symbol.dispose](): void {
    this.disposals++;
  }
}

export interface TestTools extends ClusterTools {
  readonly clock: FakeClock;
  readonly pools: FakePool[];
}

const quiet = () => {};
const noLog = { debug: quiet, info: quiet, warn: quiet, error: quiet } as unknown as ClusterTools["log"];

export function clusterTools(more: Partial<ClusterTools> = {}): TestTools {
  const pools: FakePool[] = [];
  return {
    clock: new FakeClock(),
    log: noLog,
    random: seeded(7),
    makePool: (options) => {
      const pool = new FakePool(options);
      pools.push(pool);
      return pool;
    },
    makeResolver: () => ({ resolve: () => Promise.resolve([]) }),
    isTunnelled: () => false,
    ...more,
    pools,
  } as TestTools;
}
