/** A host as its cluster keeps it: what configuration says of it, how healthy it is, and how it has done. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Candidate } from "./balancing/picker.ts";
import type { Pick } from "./clusters.ts";
import type { Host, HostAddress, Locality } from "./host.ts";
import { OutlierRecord } from "./outlier-record.ts";

export type Health = "healthy" | "degraded" | "unhealthy";

/** `health_status` as the control plane said it. */
export type EndpointStatus = "unknown" | "healthy" | "unhealthy" | "draining" | "timeout" | "degraded";

/** One endpoint in an assignment, before it is a host. */
export interface EndpointSpec {
  readonly key: string;
  readonly address: HostAddress;
  /** Further addresses of the same endpoint (dual stack), tried in order where the first does not answer. */
  readonly alternatives: readonly HostAddress[];
  readonly hostname: string;
  readonly weight: number;
  readonly status: EndpointStatus;
  readonly metadata: ReadonlyMap<string, JsonObject>;
}

/** Since the host is there. */
export interface HostStats {
  requests: number;
  succeeded: number;
  failed: number;
  timeouts: number;
  connectFailures: number;
}

export class Endpoint implements Host, Candidate {
  key: string;
  address: HostAddress;
  alternatives: readonly HostAddress[];
  hostname: string;
  weight: number;
  status: EndpointStatus;
  metadata: ReadonlyMap<string, JsonObject>;
  locality: Locality;
  priority: number;
  active = 0;
  /** Since when it takes load; slow start counts from here. */
  readySinceMs: number;
  readonly outlier = new OutlierRecord();
  /** What picking this host answers; made once. */
  readonly asPick: Pick = { kind: "host", host: this };
  readonly stats: HostStats = { requests: 0, succeeded: 0, failed: 0, timeouts: 0, connectFailures: 0 };

  constructor(spec: EndpointSpec, place: { readonly locality: Locality; readonly priority: number }, nowMs: number) {
    this.key = spec.key;
    this.address = spec.address;
    this.alternatives = spec.alternatives;
    this.hostname = spec.hostname;
    this.weight = spec.weight;
    this.status = spec.status;
    this.metadata = spec.metadata;
    this.locality = place.locality;
    this.priority = place.priority;
    this.readySinceMs = nowMs;
  }

  /** Takes over what an update says; address and history stay. */
  update(spec: EndpointSpec, place: { readonly locality: Locality; readonly priority: number }, nowMs: number): void {
    const before: Health = this.health;
    this.alternatives = spec.alternatives;
    this.hostname = spec.hostname;
    this.weight = spec.weight;
    this.status = spec.status;
    this.metadata = spec.metadata;
    this.locality = place.locality;
    this.priority = place.priority;
    if (isHealthy(before) || !isHealthy(this.health)) return;
    this.readySinceMs = nowMs;
  }

  get health(): Health {
    if (this.outlier.isEjected) return "unhealthy";
    switch (this.status) {
      case "unknown":
      case "healthy":
        return "healthy";
      case "degraded":
        return "degraded";
      case "unhealthy":
      case "draining":
      case "timeout":
        return "unhealthy";
    }
  }

  /** `hash_key` of the metadata that load balancers read. */
  get hashKey(): string | undefined {
    const value = this.metadata.get("envoy.lb")?.["hash_key"];
    return typeof value === "string" ? value : undefined;
  }
}

const isHealthy = (health: Health): boolean => health === "healthy";
