/** State-of-the-world discovery: a client is sent all that it asked for, whenever some of it changes. */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  DiscoveryResponseSchema,
  type DiscoveryRequest,
} from "#shared/proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import type { ResourceSource, ServedResource } from "./resource-store.ts";
import { stateOf, type Outcome, type Response, type TypeStatus, type TypeWatch, type Wire } from "./type-watch.ts";

export const stateWire: Wire<DiscoveryRequest> = {
  open: (request, source, nowMs) => new StateWatch(request, source, nowMs),
};

const everything = "*";
/** What is kept of a client's own words. */
const longestWords = 1_000;

class StateWatch implements TypeWatch<DiscoveryRequest> {
  readonly source: ResourceSource;
  readonly #typeUrl: string;
  /** Empty while everything is watched. */
  #names: ReadonlySet<string>;
  #wildcard: boolean;
  /** Since when a response is due. */
  #dueSinceMs: number | undefined;
  #lastSent: { readonly nonce: string; readonly atMs: number } | undefined;
  #lastAckedNonce: string | undefined;
  #lastError: { readonly message: string; readonly nonce: string; readonly atMs: number } | undefined;

  constructor(request: DiscoveryRequest, source: ResourceSource, nowMs: number) {
    this.source = source;
    this.#typeUrl = request.typeUrl;
    this.#wildcard =
      source.onDemand === undefined || request.resourceNames.length === 0 || request.resourceNames.includes(everything);
    this.#names = this.#wildcard ? new Set() : new Set(request.resourceNames);
    this.#dueSinceMs = nowMs;
  }

  get names(): number {
    return this.#names.size;
  }

  request(request: DiscoveryRequest, nowMs: number): Outcome {
    const { responseNonce: nonce, errorDetail, resourceNames } = request;
    if (nonce !== "" && nonce !== this.#lastSent?.nonce) return "stale";
    let outcome: Outcome = nonce === "" ? "nothing" : "acked";
    if (errorDetail !== undefined) {
      this.#lastError = { message: errorDetail.message.slice(0, longestWords), nonce, atMs: nowMs };
      outcome = "nacked";
    } else if (nonce !== "") {
      this.#lastAckedNonce = nonce;
      this.#lastError = undefined;
    }
    return this.#subscribe(resourceNames, nowMs) ? "changed" : outcome;
  }

  /** True where a response is due now: for names that are given up there is none. */
  #subscribe(written: readonly string[], nowMs: number): boolean {
    if (this.source.onDemand === undefined) return false;
    const wildcard = written.includes(everything) || (this.#wildcard && written.length === 0);
    const names = new Set(wildcard ? [] : written);
    const isMore = (wildcard && !this.#wildcard) || [...names].some((name) => !this.#names.has(name));
    this.#wildcard = wildcard;
    this.#names = names;
    if (isMore) this.#dueSinceMs ??= nowMs;
    return isMore;
  }

  changed(names: ReadonlySet<string>, nowMs: number): void {
    if (!this.#wildcard && ![...names].some((name) => this.#names.has(name))) return;
    this.#dueSinceMs ??= nowMs;
  }

  next(): Response | undefined {
    const sinceMs = this.#dueSinceMs;
    if (sinceMs === undefined) return undefined;
    this.#dueSinceMs = undefined;
    const resources = this.#wildcard ? [...this.source.all()] : this.#named();
    const { source } = this;
    return { resources: resources.length, sinceMs, encode: (frame) => encode(source, resources, frame) };
  }

  #named(): ServedResource[] {
    const found = new Map<string, ServedResource>();
    for (const key of this.#names) {
      for (const name of this.source.onDemand?.resolve(key) ?? []) {
        const resource = this.source.get(name);
        if (resource !== undefined) found.set(name, resource);
      }
    }
    return [...found.values()];
  }

  sent(nonce: string, atMs: number): void {
    this.#lastSent = { nonce, atMs };
  }

  status(): TypeStatus {
    const [lastSent, lastAckedNonce, lastError] = [this.#lastSent, this.#lastAckedNonce, this.#lastError];
    return {
      typeUrl: this.#typeUrl,
      wildcard: this.#wildcard,
      subscribed: [...this.#names],
      state: stateOf({ lastSent, lastAckedNonce, lastError }),
      ...(lastSent === undefined ? {} : { lastSentNonce: lastSent.nonce, lastSentMs: lastSent.atMs }),
      ...(lastAckedNonce === undefined ? {} : { lastAckedNonce }),
      ...(lastError === undefined ? {} : { lastError }),
    };
  }
}

function encode(
  { typeUrl, resourceType = typeUrl, controlPlane }: ResourceSource,
  resources: readonly ServedResource[],
  { version, nonce }: { readonly version: string; readonly nonce: string },
): Uint8Array {
  return toBinary(
    DiscoveryResponseSchema,
    create(DiscoveryResponseSchema, {
      versionInfo: version,
      nonce,
      typeUrl,
      resources: resources.map(({ value }) => ({ typeUrl: resourceType, value })),
      ...(controlPlane !== undefined && { controlPlane: { identifier: controlPlane } }),
    }),
  );
}
