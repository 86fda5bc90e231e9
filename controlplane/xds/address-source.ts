import { hash } from "node:crypto";
import { toBinary } from "@bufbuild/protobuf";
import { ipFromBytes } from "#shared/net/ip.ts";
import { AddressSchema, type Address, type NetworkAddress } from "#shared/proto/gen/workload/workload_pb.js";
import {
  ResourceStore,
  type ChangeListener,
  type OnDemand,
  type ResourceSource,
  type ServedResource,
} from "#shared/xds/resource-store.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";

/** Same bytes, same version: a client that comes back after our restart is sent only what differs. */
export const contentVersion = (bytes: Uint8Array): string => hash("sha256", bytes, "hex").slice(0, 16);

/**
 * Workloads and services as the delta server sends them: by uid and by `namespace/hostname`, with every address as alias.
 * An index for clients that ask by name is built when the first one does.
 */
export class AddressSource implements ResourceSource {
  readonly typeUrl = typeUrls.address;
  readonly #store = new ResourceStore(typeUrls.address);
  /** Translation may hand in the same message again: then it is not encoded again. */
  readonly #served = new WeakMap<Address, ServedResource>();
  #addresses: ReadonlyMap<string, Address> = new Map();
  #lazyIndex: Index | undefined;

  get(name: string): ServedResource | undefined {
    return this.#store.get(name);
  }

  all(): Iterable<ServedResource> {
    return this.#store.all();
  }

  /** For dumps. */
  get messages(): ReadonlyMap<string, Address> {
    return this.#addresses;
  }

  onChange(listener: ChangeListener): () => void {
    return this.#store.onChange(listener);
  }

  /**
   * Encodes all addresses. The returned function swaps them in and returns the names that differ; what cannot be encoded
   * throws before anything has changed.
   */
  stage(addresses: Iterable<Address>): () => ReadonlySet<string> {
    const messages = new Map<string, Address>();
    const resources = new Map<string, ServedResource>();
    for (const address of addresses) {
      const resource = this.#serve(address);
      messages.set(resource.name, address);
      resources.set(resource.name, resource);
    }
    return () => {
      this.#addresses = messages;
      this.#lazyIndex = undefined;
      return this.#store.replace(resources, (a, b) => a.version === b.version);
    };
  }

  readonly onDemand: OnDemand = {
    resolve: (key) => {
      if (this.#addresses.has(key)) return [key];
      const { workloads, services } = this.#index;
      return workloads.get(key) ?? services.get(key) ?? [];
    },
    implied: (name) => this.#index.members.get(name) ?? [],
    onNode: (nodeName) => this.#index.nodes.get(nodeName) ?? [],
    isOnNode: (name, nodeName) => {
      const address = this.#addresses.get(name);
      return address?.type.case === "workload" && address.type.value.node === nodeName;
    },
  };

  get #index(): Index {
    this.#lazyIndex ??= buildIndex(this.#addresses);
    return this.#lazyIndex;
  }

  #serve(address: Address): ServedResource {
    const known = this.#served.get(address);
    if (known !== undefined) return known;
    const value = toBinary(AddressSchema, address);
    const resource = { name: nameOf(address), version: contentVersion(value), aliases: aliasesOf(address), value };
    this.#served.set(address, resource);
    return resource;
  }
}

interface Index {
  /** Uids by `network/ip`; an address may be shared, as on the host network. */
  readonly workloads: ReadonlyMap<string, readonly string[]>;
  /** Services by `network/ip`, looked up after the workloads. */
  readonly services: ReadonlyMap<string, readonly string[]>;
  /** Uids by the service they belong to. */
  readonly members: ReadonlyMap<string, readonly string[]>;
  readonly nodes: ReadonlyMap<string, readonly string[]>;
}

function buildIndex(addresses: ReadonlyMap<string, Address>): Index {
  const index = {
    workloads: new Map<string, string[]>(),
    services: new Map<string, string[]>(),
    members: new Map<string, string[]>(),
    nodes: new Map<string, string[]>(),
  };
  for (const [name, address] of addresses) {
    const aliases = address.type.case === "workload" ? index.workloads : index.services;
    for (const alias of aliasesOf(address)) push(aliases, alias, name);
    if (address.type.case !== "workload") continue;
    for (const service of Object.keys(address.type.value.services)) push(index.members, service, name);
    if (address.type.value.node !== "") push(index.nodes, address.type.value.node, name);
  }
  return index;
}

function push(map: Map<string, string[]>, key: string, value: string): void {
  const values = map.get(key);
  if (values === undefined) map.set(key, [value]);
  else values.push(value);
}

export function nameOf({ type }: Address): string {
  switch (type.case) {
    case "workload":
      return type.value.uid;
    case "service":
      return `${type.value.namespace}/${type.value.hostname}`;
    case undefined:
      throw new TypeError("An Address is neither workload nor service");
  }
}

function aliasesOf({ type }: Address): readonly string[] {
  switch (type.case) {
    case "workload":
      return type.value.addresses.map((bytes) => aliasOf(type.value.network, bytes));
    case "service":
      return type.value.addresses.map(serviceAlias);
    case undefined:
      return [];
  }
}

function serviceAlias({ network, address, length }: NetworkAddress): string {
  const alias = aliasOf(network, address);
  return length === undefined ? alias : `${alias}/${length}`;
}

const aliasOf = (network: string, bytes: Uint8Array): string => `${network}/${ipFromBytes(bytes) ?? "invalid"}`;
