import { availableParallelism } from "node:os";
import { status, type Server, type UntypedServiceImplementation } from "@grpc/grpc-js";
import { fromBinary, toBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { sleep } from "#shared/clock/clock.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import {
  DeltaDiscoveryRequestSchema,
  DiscoveryRequestSchema,
  type DeltaDiscoveryRequest,
  type DiscoveryRequest,
} from "#shared/proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import { deltaWire } from "./delta-watch.ts";
import type { ResourceSource } from "./resource-store.ts";
import {
  clip,
  Refusal,
  ServedStream,
  type Admission,
  type AnyStream,
  type ClientStatus,
  type ServerCall,
  type StreamOptions,
  type WireResponse,
} from "./served-stream.ts";
import { stateWire } from "./state-watch.ts";
import type { AnyRequest, Wire } from "./type-watch.ts";
import { deltaMethod, stateMethod } from "./type-urls.ts";

/** Of either protocol. */
export type AnyServerCall = ServerCall<DeltaDiscoveryRequest> | ServerCall<DiscoveryRequest>;

/** Finds out who calls. @throws MeshError UNAUTHENTICATED */
export type Admit = (call: AnyServerCall) => Promise<Admission>;

export interface DiscoveryServerOptions extends StreamOptions {
  /** In the order in which types are sent. */
  readonly sources: readonly ResourceSource[];
  /** Before the first complete translation nobody is served: an empty answer would take everything away. */
  readonly isSynced: () => boolean;
  /** New streams per second; default as istiod: 15 and 5 per CPU, at most 100. */
  readonly streamsPerSecond?: number;
  /** Default 10 000. */
  readonly maxStreams?: number;
}

/** How long a new stream may wait for its turn. */
const longestTurnMs = 1_000;

/**
 * Serves ADS, as deltas or as state of the world, from resource sources. One instance stands behind any number of gRPC servers; each stream gets what it
 * watches, at its own pace. Close it with `using`: every stream then ends cleanly.
 */
export class DiscoveryServer implements Disposable {
  readonly #options: DiscoveryServerOptions;
  readonly #streams = new Set<AnyStream>();
  readonly #unsubscribe: readonly (() => void)[];
  #pushes = 0;
  #nextTurnMs = 0;
  #closed = false;

  constructor(options: DiscoveryServerOptions) {
    this.#options = options;
    this.#unsubscribe = options.sources.map((source) =>
      source.onChange((names) => {
        this.#pushes++;
        for (const stream of this.#streams) stream.changed(source.typeUrl, names);
      }),
    );
  }

  /** Adds the discovery service to a server, whose streams are admitted by `admit`. */
  addTo(server: Server, admit: Admit): void {
    const implementation: UntypedServiceImplementation = {
      delta: ((call: ServerCall<DeltaDiscoveryRequest>) => void this.#serve(call, deltaWire, admit)) as never,
      stateOfTheWorld: ((call: ServerCall<DiscoveryRequest>) => void this.#serve(call, stateWire, admit)) as never,
    };
    server.addService(
      {
        delta: method(deltaMethod, DeltaDiscoveryRequestSchema),
        stateOfTheWorld: method(stateMethod, DiscoveryRequestSchema),
      },
      implementation,
    );
  }

  /** Every connected client. */
  clients(): readonly ClientStatus[] {
    return [...this.#streams].flatMap((stream) => stream.status() ?? []);
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    for (const stream of this.#streams) stream.end();
  }

  async #serve<R extends AnyRequest>(call: ServerCall<R>, wire: Wire<R>, admit: Admit): Promise<void> {
    try {
      await this.#takeTurn();
      if (!this.#options.isSynced()) {
        throw new Refusal(status.UNAVAILABLE, "The control plane has not read its configuration yet");
      }
      const admission = await admit(call);
      if (call.cancelled || this.#closed) return void call.end();
      this.#open(call, wire, admission);
    } catch (error) {
      this.#refuse(call, error);
    }
  }

  #open<R extends AnyRequest>(call: ServerCall<R>, wire: Wire<R>, admission: Admission): void {
    const { onEvent, log } = this.#options;
    const stream = new ServedStream<R>({
      call,
      wire,
      admission,
      sources: this.#options.sources,
      options: this.#options,
      version: () => `${new Date(this.#options.clock.now()).toISOString()}/${this.#pushes}`,
      onClose: (reason) => {
        if (!this.#streams.delete(stream)) return;
        const status = stream.status();
        log.info({ ...who(call, status), reason, connections: this.#streams.size }, "xDS client left");
        onEvent?.({ kind: "disconnected", connections: this.#streams.size });
      },
      onRefuse: (error) => this.#refuse(call, error),
    });
    this.#streams.add(stream);
    onEvent?.({ kind: "connected", connections: this.#streams.size });
    stream.start();
  }

  /** A token bucket with one token: streams are taken in one by one, at most so many per second. */
  async #takeTurn(): Promise<void> {
    const { clock, maxStreams = 10_000 } = this.#options;
    const perSecond = this.#options.streamsPerSecond ?? Math.min(15 + 5 * availableParallelism(), 100);
    const nowMs = clock.now();
    const waitMs = Math.max(this.#nextTurnMs - nowMs, 0);
    if (this.#closed) throw new Refusal(status.UNAVAILABLE, "The control plane is shutting down");
    if (waitMs > longestTurnMs || this.#streams.size >= maxStreams) {
      throw new Refusal(status.RESOURCE_EXHAUSTED, "Too many xDS streams are being opened: try again");
    }
    this.#nextTurnMs = nowMs + waitMs + 1_000 / perSecond;
    if (waitMs > 0) await sleep(clock, waitMs);
  }

  #refuse(call: PeerCall, error: unknown): void {
    const { code, message } = statusOf(error);
    this.#options.log.warn({ peer: call.getPeer(), code: status[code], error: message }, "xDS stream refused");
    this.#options.onEvent?.({ kind: "refused", code });
    call.emit("error", { code, details: clip(message, 500) });
  }
}

function statusOf(error: unknown): { code: status; message: string } {
  if (error instanceof Refusal) return { code: error.code, message: error.message };
  if (error instanceof MeshError) {
    if (error.code === "UNAUTHENTICATED") return { code: status.UNAUTHENTICATED, message: error.message };
    if (error.code === "RESOURCE_MALFORMED") return { code: status.INVALID_ARGUMENT, message: error.message };
  }
  return { code: status.INTERNAL, message: explain(error) };
}

const who = (call: PeerCall, client: ClientStatus | undefined) => ({
  peer: client?.peer ?? call.getPeer(),
  node: client?.node.id,
  identity: client?.identities[0],
});

type PeerCall = Pick<ServerCall<never>, "getPeer" | "emit">;

/** One method of the discovery service; responses come encoded. */
const method = <D extends DescMessage>(path: string, schema: D) => ({
  path,
  requestStream: true,
  responseStream: true,
  requestSerialize: (request: MessageShape<D>) => Buffer.from(toBinary(schema, request)),
  requestDeserialize: (bytes: Buffer) => fromBinary(schema, bytes),
  responseSerialize: ({ bytes }: WireResponse) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
  responseDeserialize: (bytes: Buffer): WireResponse => ({ bytes }),
});
