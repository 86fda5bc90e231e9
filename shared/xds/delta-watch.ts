/** Delta discovery: a client is sent what differs from what it holds. */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  DeltaDiscoveryResponseSchema,
  type DeltaDiscoveryRequest,
} from "#shared/proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import type { ResourceSource } from "./resource-store.ts";
import { stateOf, type Outcome, type Response, type TypeStatus, type TypeWatch, type Wire } from "./type-watch.ts";
import { nextResponse, onChange, onRequest, openWatch, type Watch, type WatchResponse } from "./watch.ts";

export const deltaWire: Wire<DeltaDiscoveryRequest> = {
  open: (request, source, nowMs) => new DeltaWatch(openWatch(request, source, nowMs), source),
};

class DeltaWatch implements TypeWatch<DeltaDiscoveryRequest> {
  readonly source: ResourceSource;
  readonly #watch: Watch;

  constructor(watch: Watch, source: ResourceSource) {
    this.#watch = watch;
    this.source = source;
  }

  get names(): number {
    return this.#watch.keys.size;
  }

  request(request: DeltaDiscoveryRequest, nowMs: number): Outcome {
    return onRequest(this.#watch, request, this.source, nowMs);
  }

  changed(names: ReadonlySet<string>, nowMs: number): void {
    onChange(this.#watch, names, nowMs);
  }

  next(nodeName: string | undefined): Response | undefined {
    if (this.#watch.owed === undefined) return undefined;
    const response = nextResponse(this.#watch, this.source, nodeName);
    if (response === undefined) return undefined;
    const { source } = this;
    return {
      resources: response.resources.length,
      sinceMs: response.sinceMs,
      encode: (frame) => encode(source, response, frame),
    };
  }

  sent(nonce: string, atMs: number): void {
    this.#watch.lastSent = { nonce, atMs };
  }

  status(): TypeStatus {
    const { typeUrl, wildcard, keys, lastSent, lastAckedNonce, lastError } = this.#watch;
    return {
      typeUrl,
      wildcard,
      subscribed: [...keys],
      state: stateOf(this.#watch),
      ...(lastSent === undefined ? {} : { lastSentNonce: lastSent.nonce, lastSentMs: lastSent.atMs }),
      ...(lastAckedNonce === undefined ? {} : { lastAckedNonce }),
      ...(lastError === undefined ? {} : { lastError }),
    };
  }
}

function encode(
  { typeUrl, resourceType = typeUrl, controlPlane }: ResourceSource,
  { resources, removed, named }: WatchResponse,
  frame: { readonly version: string; readonly nonce: string },
): Uint8Array {
  return toBinary(
    DeltaDiscoveryResponseSchema,
    create(DeltaDiscoveryResponseSchema, {
      systemVersionInfo: frame.version,
      nonce: frame.nonce,
      typeUrl,
      resources: resources.map(({ name, version, aliases, value }) => ({
        name,
        version,
        aliases: named ? [...aliases] : [],
        resource: { typeUrl: resourceType, value },
      })),
      ...(controlPlane !== undefined && { controlPlane: { identifier: controlPlane } }),
      removedResources: [...removed],
    }),
  );
}
