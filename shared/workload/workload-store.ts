import type { Clock } from "#shared/clock/clock.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Ip } from "#shared/net/ip.ts";
import { CidrIndex } from "./cidr-index.ts";
import type { Endpoint, ServiceEntry, WorkloadLookup } from "./lookup.ts";
import { serviceKey, type Service, type Workload } from "./workload.ts";

/** One xDS response for addresses, already read. */
export interface AddressChanges {
  readonly workloads?: readonly Workload[];
  readonly services?: readonly Service[];
  /** Workload uids and service keys. */
  readonly removals?: readonly string[];
}

export interface WorkloadStoreOptions {
  /** Only workloads of this node are local; undefined: all are. */
  readonly localNode?: string;
  readonly clock: Clock;
  /** A local workload will need a certificate soon. */
  readonly onIdentityNeeded?: (id: SpiffeId) => void;
  /** The last local workload of this identity is gone. */
  readonly onIdentityGone?: (id: SpiffeId) => void;
}

/** Who a pod is, as the node agent or the environment says. */
export interface PodIdentity {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** How long a connection waits for the control plane to tell who its pod is, as Istio's ztunnel does. */
export const localWorkloadDeadlineMs = 5_000;

/**
 * Workloads and services, indexed for decisions. Fed by deltas only. A whole response is applied at once, and each
 * service that it touches is rebuilt once.
 */
export class WorkloadStore implements WorkloadLookup {
  readonly #options: WorkloadStoreOptions;
  readonly #workloads = new Map<string, Workload>();
  /** `network/ip` → workloads, best first. Several share an address while one replaces another. */
  readonly #byAddress = new Map<string, Workload | Workload[]>();
  /** `namespace/hostname` → workload, for those that are known by name. */
  readonly #byHostname = new Map<string, Workload[]>();
  /** `namespace/service account` → local workloads. */
  readonly #localByAccount = new Map<string, Set<Workload>>();
  readonly #localByIdentity = new Map<SpiffeId, number>();
  readonly #services = new Map<string, ServiceEntry>();
  /** Hostname in lower case → service keys, first seen first: names of hosts are the same in any case. */
  readonly #keysByHostname = new Map<string, Set<string>>();
  /** Services whose hostname is a wildcard. */
  #wildcards = 0;
  /** `network/ip` → service keys, first seen first. */
  readonly #keysByVip = new Map<string, Set<string>>();
  readonly #cidrs = new CidrIndex<string>();
  /** Endpoints of services that have not arrived yet. */
  readonly #staged = new Map<string, Map<string, Endpoint>>();
  readonly #waiting = new Set<{ readonly pod: PodIdentity; readonly found: (workload: Workload) => void }>();
  /** Services touched by the batch being applied. */
  #touched = new Set<string>();

  constructor(options: WorkloadStoreOptions) {
    this.#options = options;
  }

  /** Upserts first, then removals, as a delta response means it. Returns how many services were rebuilt. */
  apply({ workloads = [], services = [], removals = [] }: AddressChanges): { readonly servicesRebuilt: number } {
    const lostIdentities = new Set<SpiffeId>();
    for (const workload of workloads) {
      this.#removeWorkload(workload.uid, lostIdentities);
      this.#insertWorkload(workload);
    }
    for (const service of services) this.#upsertService(service);
    for (const name of removals) {
      if (this.#workloads.has(name)) this.#removeWorkload(name, lostIdentities);
      else if (name.split("/").length === 2) this.#removeService(name);
    }
    const servicesRebuilt = this.#rebuildTouched();
    for (const id of lostIdentities) if (!this.#localByIdentity.has(id)) this.#options.onIdentityGone?.(id);
    for (const { uid } of workloads) {
      const workload = this.#workloads.get(uid);
      if (workload !== undefined) this.#announce(workload);
    }
    return { servicesRebuilt };
  }

  workloadByUid(uid: string): Workload | undefined {
    return this.#workloads.get(uid);
  }

  workloadByAddress(network: string, ip: Ip): Workload | undefined {
    const found = this.#byAddress.get(`${network}/${ip}`);
    return isMany(found) ? found[0] : found;
  }

  workloadByHostname(namespace: string, hostname: string): Workload | undefined {
    return this.#byHostname.get(`${namespace}/${hostname}`)?.at(-1);
  }

  serviceByAddress(network: string, ip: Ip, clientNamespace?: string): ServiceEntry | undefined {
    return (
      this.#best(this.#keysByVip.get(`${network}/${ip}`), clientNamespace) ??
      this.#bestCidr(network, ip, clientNamespace)
    );
  }

  serviceByHostname(hostname: string, clientNamespace?: string): ServiceEntry | undefined {
    return this.#best(this.#keysByHostname.get(hostname.toLowerCase()), clientNamespace);
  }

  serviceByKey(key: string): ServiceEntry | undefined {
    return this.#services.get(key);
  }

  /** All services of that hostname, first seen first. */
  *servicesByHostname(hostname: string): Generator<ServiceEntry> {
    for (const key of this.#keysByHostname.get(hostname.toLowerCase()) ?? []) {
      const entry = this.#services.get(key);
      if (entry !== undefined) yield entry;
    }
  }

  /** Whether any service's hostname is a wildcard. */
  get hasWildcards(): boolean {
    return this.#wildcards > 0;
  }

  /** The workload of a pod on this node, if it is known yet. */
  localWorkload({ name, namespace, serviceAccount }: PodIdentity): Workload | undefined {
    for (const workload of this.#localByAccount.get(`${namespace}/${serviceAccount}`) ?? []) {
      if (workload.name === name) return workload;
    }
    return undefined;
  }

  /** As {@link localWorkload}, waiting for it to arrive; undefined after 5 s or when the signal aborts. */
  waitForLocalWorkload(pod: PodIdentity, signal?: AbortSignal): Promise<Workload | undefined> {
    const known = this.localWorkload(pod);
    if (known !== undefined || signal?.aborted === true) return Promise.resolve(known);
    return new Promise((resolve) => {
      const settle = (workload: Workload | undefined) => {
        this.#waiting.delete(waiter);
        signal?.removeEventListener("abort", giveUp);
        cancel();
        resolve(workload);
      };
      const giveUp = () => settle(undefined);
      const waiter = { pod, found: settle };
      const cancel = this.#options.clock.schedule(localWorkloadDeadlineMs, giveUp);
      signal?.addEventListener("abort", giveUp, { once: true });
      this.#waiting.add(waiter);
    });
  }

  /** All workloads, by uid. */
  allWorkloads(): readonly Workload[] {
    return [...this.#workloads.values()].toSorted((a, b) => compareText(a.uid, b.uid));
  }

  /** All services, by hostname. */
  allServices(): readonly ServiceEntry[] {
    return [...this.#services.values()].toSorted(
      (a, b) =>
        compareText(a.service.hostname, b.service.hostname) || compareText(a.service.namespace, b.service.namespace),
    );
  }

  /** Endpoints that wait for their service. */
  allStaged(): ReadonlyMap<string, ReadonlyMap<string, Endpoint>> {
    return this.#staged;
  }

  /** Whether every index is empty: what is removed leaves nothing behind. */
  get isEmpty(): boolean {
    return (
      this.#cidrs.isEmpty &&
      this.#wildcards === 0 &&
      [
        this.#workloads,
        this.#byAddress,
        this.#byHostname,
        this.#localByAccount,
        this.#localByIdentity,
        this.#services,
        this.#keysByHostname,
        this.#keysByVip,
        this.#staged,
      ].every(({ size }) => size === 0)
    );
  }

  #insertWorkload(workload: Workload): void {
    this.#workloads.set(workload.uid, workload);
    if (workload.networkMode !== "HOST_NETWORK") {
      for (const ip of new Set(workload.addresses)) this.#indexAddress(`${workload.network}/${ip}`, workload);
    }
    if (workload.hostname !== "") {
      const key = `${workload.namespace}/${workload.hostname}`;
      this.#byHostname.set(key, [...(this.#byHostname.get(key) ?? []), workload]);
    }
    if (this.#isLocal(workload)) {
      addTo(this.#localByAccount, accountKey(workload), workload);
      this.#localByIdentity.set(workload.identity, (this.#localByIdentity.get(workload.identity) ?? 0) + 1);
    }
    for (const [key, ports] of workload.services) {
      const endpoint: Endpoint = { workload, ports };
      const entry = this.#services.get(key);
      if (entry === undefined) {
        const staged = this.#staged.get(key) ?? new Map<string, Endpoint>();
        this.#staged.set(key, staged.set(workload.uid, endpoint));
      } else if (takes(entry.service, workload)) {
        endpointsOf(entry).set(workload.uid, endpoint);
        this.#touched.add(key);
      }
    }
  }

  #removeWorkload(uid: string, lostIdentities: Set<SpiffeId>): void {
    const workload = this.#workloads.get(uid);
    if (workload === undefined) return;
    this.#workloads.delete(uid);
    if (workload.networkMode !== "HOST_NETWORK") {
      for (const ip of new Set(workload.addresses)) this.#forgetAddress(`${workload.network}/${ip}`, workload);
    }
    const hostKey = `${workload.namespace}/${workload.hostname}`;
    const named = this.#byHostname.get(hostKey)?.filter((other) => other !== workload);
    if (named?.length === 0) this.#byHostname.delete(hostKey);
    else if (named !== undefined) this.#byHostname.set(hostKey, named);
    if (this.#isLocal(workload)) {
      removeFrom(this.#localByAccount, accountKey(workload), workload);
      const left = (this.#localByIdentity.get(workload.identity) ?? 0) - 1;
      if (left > 0) this.#localByIdentity.set(workload.identity, left);
      else {
        this.#localByIdentity.delete(workload.identity);
        lostIdentities.add(workload.identity);
      }
    }
    for (const key of workload.services.keys()) {
      const entry = this.#services.get(key);
      if (entry !== undefined && endpointsOf(entry).delete(uid)) this.#touched.add(key);
      const staged = this.#staged.get(key);
      staged?.delete(uid);
      if (staged?.size === 0) this.#staged.delete(key);
    }
  }

  /** Known endpoints stay if they are healthy enough for the new service; those that waited for it join. */
  #upsertService(service: Service): void {
    const key = serviceKey(service);
    const old = this.#services.get(key);
    const endpoints = new Map<string, Endpoint>();
    for (const source of [old?.endpoints, this.#staged.get(key)]) {
      for (const [uid, endpoint] of source ?? []) if (takes(service, endpoint.workload)) endpoints.set(uid, endpoint);
    }
    this.#staged.delete(key);
    if (old !== undefined) this.#unindexAddresses(key, old.service, service);
    else if (isWildcard(service)) this.#wildcards++;
    this.#services.set(key, { service, endpoints });
    addTo(this.#keysByHostname, service.hostname.toLowerCase(), key);
    for (const { network, ip } of service.vips) addTo(this.#keysByVip, `${network}/${ip}`, key);
    for (const { network, cidr } of service.cidrVips) this.#cidrs.add(network, cidr, key);
    this.#touched.add(key);
  }

  #removeService(key: string): void {
    this.#staged.delete(key);
    const entry = this.#services.get(key);
    if (entry === undefined) return;
    this.#services.delete(key);
    this.#touched.delete(key);
    if (isWildcard(entry.service)) this.#wildcards--;
    removeFrom(this.#keysByHostname, entry.service.hostname.toLowerCase(), key);
    this.#unindexAddresses(key, entry.service);
  }

  /** Forgets the addresses of `old`; those that `kept` has too keep their place, which ranks equals. */
  #unindexAddresses(key: string, old: Service, kept?: Service): void {
    const keptVips = new Set(kept?.vips.map(({ network, ip }) => `${network}/${ip}`));
    for (const { network, ip } of old.vips) {
      const vip = `${network}/${ip}`;
      if (!keptVips.has(vip)) removeFrom(this.#keysByVip, vip, key);
    }
    for (const { network, cidr } of old.cidrVips) this.#cidrs.remove(network, cidr, key);
  }

  /** A new object per touched service: what was compiled from the old one is dropped with it. */
  #rebuildTouched(): number {
    const touched = this.#touched;
    this.#touched = new Set();
    for (const key of touched) {
      const entry = this.#services.get(key);
      if (entry !== undefined) this.#services.set(key, { service: entry.service, endpoints: entry.endpoints });
    }
    return touched.size;
  }

  #announce(workload: Workload): void {
    if (!this.#isLocal(workload)) return;
    // Without a node name every workload would be ours to fetch for.
    if (this.#options.localNode !== undefined && (workload.protocol === "HBONE" || workload.nativeTunnel)) {
      this.#options.onIdentityNeeded?.(workload.identity);
    }
    for (const { pod, found } of this.#waiting) {
      const { name, namespace, serviceAccount } = pod;
      if (workload.name === name && workload.namespace === namespace && workload.serviceAccount === serviceAccount) {
        found(workload);
      }
    }
  }

  #isLocal({ node }: Workload): boolean {
    return this.#options.localNode === undefined || node === this.#options.localNode;
  }

  #indexAddress(key: string, workload: Workload): void {
    const found = this.#byAddress.get(key);
    if (found === undefined) {
      this.#byAddress.set(key, workload);
      return;
    }
    const others = isMany(found) ? found : [found];
    const place = others.findIndex((other) => addressRank(other) <= addressRank(workload));
    this.#byAddress.set(key, others.toSpliced(place < 0 ? others.length : place, 0, workload));
  }

  #forgetAddress(key: string, workload: Workload): void {
    const found = this.#byAddress.get(key);
    const left = isMany(found) ? found.filter((other) => other !== workload) : found === workload ? [] : undefined;
    if (left === undefined) return;
    const [first] = left;
    if (first === undefined) this.#byAddress.delete(key);
    else this.#byAddress.set(key, left.length === 1 ? first : left);
  }

  /** The client's own namespace, then canonical (the last of several), then the first seen. */
  #best(keys: ReadonlySet<string> | undefined, clientNamespace: string | undefined): ServiceEntry | undefined {
    let canonical: ServiceEntry | undefined;
    let first: ServiceEntry | undefined;
    for (const key of keys ?? []) {
      const entry = this.#services.get(key);
      if (entry === undefined || !isVisible(entry.service, clientNamespace)) continue;
      if (entry.service.namespace === clientNamespace) return entry;
      if (entry.service.canonical) canonical = entry;
      first ??= entry;
    }
    return canonical ?? first;
  }

  /** The client's own namespace, then the longest prefix, then canonical. */
  #bestCidr(network: string, ip: Ip, clientNamespace: string | undefined): ServiceEntry | undefined {
    let best: ServiceEntry | undefined;
    let bestRank = -1;
    this.#cidrs.forEachContaining(network, ip, (key, length) => {
      const entry = this.#services.get(key);
      if (entry === undefined || !isVisible(entry.service, clientNamespace)) return;
      const own = entry.service.namespace === clientNamespace ? 1 : 0;
      const rank = own * 1_000 + length * 2 + (entry.service.canonical ? 1 : 0);
      if (rank > bestRank) {
        best = entry;
        bestRank = rank;
      }
    });
    return best;
  }
}

const isMany = (found: Workload | Workload[] | undefined): found is Workload[] => Array.isArray(found);

const accountKey = ({ namespace, serviceAccount }: Workload): string => `${namespace}/${serviceAccount}`;

/** A pod is truer than an entry written by hand, and a captured workload than another. */
const addressRank = ({ uid, protocol }: Workload): number =>
  (uid.includes("//Pod/") ? 2 : 0) + (protocol === "HBONE" ? 1 : 0);

const takes = ({ loadBalancing }: Service, { healthy }: Workload): boolean =>
  healthy || loadBalancing?.healthPolicy === "ALLOW_ALL";

const isWildcard = ({ hostname }: Service): boolean => hostname.startsWith("*");

const isVisible = ({ visibility, namespace }: Service, clientNamespace: string | undefined): boolean =>
  visibility === "PUBLIC" || clientNamespace === undefined || namespace === clientNamespace;

/** The store alone may change what it hands out as readonly. */
const endpointsOf = (entry: ServiceEntry): Map<string, Endpoint> => entry.endpoints as Map<string, Endpoint>;

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function addTo<K, V>(index: Map<K, Set<V>>, key: K, value: V): void {
  const values = index.get(key);
  if (values === undefined) index.set(key, new Set([value]));
  else values.add(value);
}

function removeFrom<K, V>(index: Map<K, Set<V>>, key: K, value: V): void {
  const values = index.get(key);
  values?.delete(value);
  if (values?.size === 0) index.delete(key);
}
