import { randomUUID } from "node:crypto";
import { constants, type ServerHttp2Stream } from "node:http2";
import { availableParallelism } from "node:os";
import { status, type Server, type ServerDuplexStream, type UntypedServiceImplementation } from "@grpc/grpc-js";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { sleep, type Clock } from "#shared/clock/clock.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import { identityOf, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Logger } from "#shared/observe/logger.ts";
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  type DeltaDiscoveryRequest,
} from "#shared/proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import { parseProxyNode, type ProxyNode } from "./node-id.ts";
import type { ResourceSource } from "./resource-store.ts";
import { deltaMethod } from "./type-urls.ts";
import {
  keyBound,
  nextResponse,
  onChange,
  onRequest,
  openWatch,
  type Outcome,
  type Watch,
  type WatchResponse,
} from "./watch.ts";

/** Who opened a stream. On a listener without authentication nothing is known, and nothing checked. */
export type Admission =
  { readonly checked: false } | { readonly checked: true; readonly identities: readonly SpiffeId[] };

export type AnyServerCall = ServerDuplexStream<DeltaDiscoveryRequest, WireResponse>;

/** Finds out who calls. @throws MeshError UNAUTHENTICATED */
export type Admit = (call: AnyServerCall) => Promise<Admission>;

/** For metrics. */
export type ServerEvent =
  | { readonly kind: "connected" | "disconnected"; readonly connections: number }
  | { readonly kind: "refused"; readonly code: status }
  | { readonly kind: "rejected"; readonly typeUrl: string }
  | {
      readonly kind: "pushed";
      readonly typeUrl: string;
      readonly resources: number;
      readonly bytes: number;
      /** From the change to the write. */
      readonly delayMs: number;
    };

export interface DeltaServerOptions {
  /** In the order in which types are sent. */
  readonly sources: readonly ResourceSource[];
  /** Before the first complete translation nobody is served: an empty answer would take everything away. */
  readonly isSynced: () => boolean;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onEvent?: (event: ServerEvent) => void;
  /** New streams per second; default as istiod: 15 and 5 per CPU, at most 100. */
  readonly streamsPerSecond?: number;
  /** A stream ends, cleanly, near this age, so that clients spread over replicas again. Default 30 minutes. */
  readonly maxStreamAgeMs?: number;
  /** Default 10 000. */
  readonly maxStreams?: number;
}

/** How one connected client stands, for `/debug`. */
export interface ClientStatus {
  readonly id: string;
  readonly peer: string;
  readonly node: ProxyNode;
  readonly identities: readonly SpiffeId[];
  readonly connectedAtMs: number;
  readonly types: readonly TypeStatus[];
}

export interface TypeStatus {
  readonly typeUrl: string;
  readonly wildcard: boolean;
  readonly subscribed: readonly string[];
  /** `SYNCED`: the last response was accepted. */
  readonly state: "SYNCED" | "STALE" | "REJECTED" | "NOT SENT";
  readonly lastSentNonce?: string;
  readonly lastSentMs?: number;
  readonly lastAckedNonce?: string;
  readonly lastError?: { readonly message: string; readonly nonce: string; readonly atMs: number };
}

interface WireResponse {
  readonly bytes: Uint8Array;
}

/** A stream that has said nothing is closed. */
const firstRequestDeadlineMs = 30_000;
/** A client that does not take a response is disconnected; it comes back with what it holds. */
const sendDeadlineMs = 60_000;
/** How long a new stream may wait for its turn. */
const longestTurnMs = 1_000;

/** Ends a stream with a status that the client sees. */
class Refusal extends Error {
  readonly code: status;
  constructor(code: status, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Serves delta ADS from resource sources. One instance stands behind any number of gRPC servers; each stream gets what it
 * watches, at its own pace. Close it with `using`: every stream then ends cleanly.
 */
export class DeltaServer implements Disposable {
  readonly #options: DeltaServerOptions;
  readonly #sources: ReadonlyMap<string, ResourceSource>;
  readonly #streams = new Set<ServedStream>();
  readonly #unsubscribe: readonly (() => void)[];
  #pushes = 0;
  #nextTurnMs = 0;
  #closed = false;

  constructor(options: DeltaServerOptions) {
    this.#options = options;
    this.#sources = new Map(options.sources.map((source) => [source.typeUrl, source]));
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
      delta: ((call: AnyServerCall) => void this.#serve(call, admit)) as never,
      stateOfTheWorld: ((call: AnyServerCall) =>
        this.#refuse(
          call,
          new Refusal(status.UNIMPLEMENTED, "Only DeltaAggregatedResources is served: switch the client to delta xDS"),
        )) as never,
    };
    const common = {
      requestStream: true,
      responseStream: true,
      requestSerialize: (request: DeltaDiscoveryRequest) => Buffer.from(toBinary(DeltaDiscoveryRequestSchema, request)),
      requestDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryRequestSchema, bytes),
      responseSerialize: ({ bytes }: WireResponse) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      responseDeserialize: (bytes: Buffer): WireResponse => ({ bytes }),
    };
    const stateOfTheWorldMethod = deltaMethod.replace("DeltaAggregatedResources", "StreamAggregatedResources");
    server.addService(
      {
        delta: { path: deltaMethod, ...common },
        // Its messages differ, but none is read.
        stateOfTheWorld: {
          path: stateOfTheWorldMethod,
          ...common,
          requestDeserialize: () => create(DeltaDiscoveryRequestSchema),
        },
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

  async #serve(call: AnyServerCall, admit: Admit): Promise<void> {
    try {
      await this.#takeTurn();
      if (!this.#options.isSynced()) {
        throw new Refusal(status.UNAVAILABLE, "The control plane has not read its configuration yet");
      }
      const admission = await admit(call);
      if (call.cancelled || this.#closed) return void call.end();
      this.#open(call, admission);
    } catch (error) {
      this.#refuse(call, error);
    }
  }

  #open(call: AnyServerCall, admission: Admission): void {
    const { onEvent, log } = this.#options;
    const stream = new ServedStream({
      call,
      admission,
      sources: this.#sources,
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

  #refuse(call: AnyServerCall, error: unknown): void {
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

const who = (call: AnyServerCall, client: ClientStatus | undefined) => ({
  peer: client?.peer ?? call.getPeer(),
  node: client?.node.id,
  identity: client?.identities[0],
});

interface StreamDeps {
  readonly call: AnyServerCall;
  readonly admission: Admission;
  readonly sources: ReadonlyMap<string, ResourceSource>;
  readonly options: DeltaServerOptions;
  readonly version: () => string;
  readonly onClose: (reason: string) => void;
  readonly onRefuse: (error: unknown) => void;
}

/** One client's stream: its watches, and one response in flight at a time. */
class ServedStream {
  readonly #deps: StreamDeps;
  readonly #id = randomUUID();
  readonly #connectedAtMs: number;
  readonly #peer: string;
  readonly #watches = new Map<string, Watch>();
  readonly #timers = new Set<() => void>();
  #node: ProxyNode | undefined;
  #isWriting = false;
  /** Of the response in flight. It outlives {@link #close}, whose goodbye waits behind that response. */
  #stopDeadline: () => void = () => {};
  #closed = false;

  constructor(deps: StreamDeps) {
    this.#deps = deps;
    this.#connectedAtMs = deps.options.clock.now();
    this.#peer = deps.call.getPeer();
  }

  start(): void {
    const { call, options } = this.#deps;
    call.on("data", (request: DeltaDiscoveryRequest) => this.#onRequest(request));
    call.on("end", () => this.end("closed by the client"));
    call.on("cancelled", () => {
      this.#stopDeadline();
      this.#close("cancelled");
    });
    call.on("error", (error: Error) => this.#close(explain(error)));
    this.#after(firstRequestDeadlineMs, () => {
      if (this.#node === undefined) this.#fail(new Refusal(status.DEADLINE_EXCEEDED, "No request came"));
    });
    // Spread, so that clients that came together do not leave together.
    const ageMs = (options.maxStreamAgeMs ?? 30 * 60_000) * (1 - 0.1 * Math.random());
    this.#after(ageMs, () => this.end("reached the age limit"));
  }

  end(reason = "the control plane is shutting down"): void {
    if (this.#closed) return;
    this.#close(reason);
    this.#deps.call.end();
  }

  changed(typeUrl: string, names: ReadonlySet<string>): void {
    const watch = this.#watches.get(typeUrl);
    if (watch === undefined) return;
    onChange(watch, names, this.#deps.options.clock.now());
    this.#pump();
  }

  status(): ClientStatus | undefined {
    if (this.#node === undefined) return undefined;
    const { admission } = this.#deps;
    return {
      id: this.#id,
      peer: this.#peer,
      node: this.#node,
      identities: admission.checked ? admission.identities : [],
      connectedAtMs: this.#connectedAtMs,
      types: [...this.#watches.values()].map(typeStatus),
    };
  }

  #onRequest(request: DeltaDiscoveryRequest): void {
    if (this.#closed) return;
    try {
      this.#node ??= this.#introduce(request);
      this.#watch(request);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#pump();
  }

  #introduce(request: DeltaDiscoveryRequest): ProxyNode {
    if (request.node === undefined) {
      throw new Refusal(status.INVALID_ARGUMENT, "The first request carries no node: send one with its id");
    }
    const node = parseProxyNode(request.node.id, request.node.metadata);
    const { admission, options } = this.#deps;
    if (admission.checked && !admission.identities.some((identity) => mayActAs(identity, node))) {
      const account = node.serviceAccount === undefined ? "" : ` and service account "${node.serviceAccount}"`;
      throw new Refusal(
        status.PERMISSION_DENIED,
        `"${admission.identities.join(", ")}" may not act for namespace "${node.namespace}"${account}`,
      );
    }
    const identity = admission.checked ? admission.identities[0] : undefined;
    options.log.info({ peer: this.#peer, node: node.id, identity }, "xDS client connected");
    return node;
  }

  #watch(request: DeltaDiscoveryRequest): void {
    const { sources, options } = this.#deps;
    const source = sources.get(request.typeUrl);
    if (source === undefined) {
      options.log.debug({ node: this.#node?.id, typeUrl: request.typeUrl }, "xDS type not served");
      return;
    }
    const nowMs = options.clock.now();
    let watch = this.#watches.get(request.typeUrl);
    let outcome: Outcome | undefined;
    if (watch === undefined) this.#watches.set(request.typeUrl, (watch = openWatch(request, source, nowMs)));
    else outcome = onRequest(watch, request, source, nowMs);
    if (watch.keys.size > keyBound) {
      throw new Refusal(status.RESOURCE_EXHAUSTED, `More than ${keyBound} names are subscribed`);
    }
    if (outcome === "nacked") {
      options.onEvent?.({ kind: "rejected", typeUrl: request.typeUrl });
      options.log.warn(
        { node: this.#node?.id, typeUrl: request.typeUrl, error: clip(request.errorDetail?.message ?? "") },
        "xDS client refused resources",
      );
    }
  }

  /** Sends what is owed, type by type in the server's order, the next one when the last has left. */
  #pump(): void {
    if (this.#isWriting || this.#closed) return;
    const { sources, options } = this.#deps;
    for (const source of sources.values()) {
      const watch = this.#watches.get(source.typeUrl);
      if (watch?.owed === undefined) continue;
      const response = nextResponse(watch, source, this.#node?.nodeName);
      if (response === undefined) continue;
      this.#send(watch, response, options.clock.now());
      return;
    }
  }

  #send(watch: Watch, response: WatchResponse, nowMs: number): void {
    const { call, options, version } = this.#deps;
    const systemVersionInfo = version();
    const nonce = `${systemVersionInfo}${randomUUID()}`;
    const bytes = encode(watch.typeUrl, response, { systemVersionInfo, nonce });
    watch.lastSent = { nonce, atMs: nowMs };
    this.#isWriting = true;
    this.#stopDeadline = options.clock.schedule(sendDeadlineMs, () => {
      this.#fail(new Refusal(status.DEADLINE_EXCEEDED, `A response was not taken within ${sendDeadlineMs} ms`));
      resetStream(call);
    });
    call.write({ bytes }, () => {
      this.#stopDeadline();
      this.#isWriting = false;
      this.#pump();
    });
    options.onEvent?.({
      kind: "pushed",
      typeUrl: watch.typeUrl,
      resources: response.resources.length,
      bytes: bytes.length,
      delayMs: nowMs - response.sinceMs,
    });
  }

  #fail(error: unknown): void {
    if (this.#closed) return;
    this.#close(explain(error));
    this.#deps.onRefuse(error);
  }

  #close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
    this.#deps.onClose(reason);
  }

  #after(delayMs: number, action: () => void): () => void {
    const cancel = this.#deps.options.clock.schedule(delayMs, action);
    const forget = () => {
      cancel();
      this.#timers.delete(forget);
    };
    this.#timers.add(forget);
    return forget;
  }
}

/** As far as we look into gRPC's own calls: they wrap each other around an HTTP/2 stream. */
interface InnerCall {
  readonly stream?: ServerHttp2Stream;
  readonly call?: InnerCall;
  readonly nextCall?: InnerCall;
}

/**
 * Breaks a stream and frees what waits to be sent on it. gRPC itself can only say goodbye behind that, so a client that
 * keeps its window shut would have it kept for as long as it likes.
 */
function resetStream(call: AnyServerCall): void {
  let inner: InnerCall | undefined = call as unknown as InnerCall;
  while (inner !== undefined && inner.stream === undefined) inner = inner.call ?? inner.nextCall;
  inner?.stream?.close(constants.NGHTTP2_CANCEL);
}

/** A proxy may ask for the configuration of its own namespace, and as its own account where it names one. */
function mayActAs(identity: SpiffeId, node: ProxyNode): boolean {
  const parts = identityOf(identity);
  if (parts?.namespace !== node.namespace) return false;
  return node.serviceAccount === undefined || parts.serviceAccount === node.serviceAccount;
}

function encode(
  typeUrl: string,
  { resources, removed, named }: WatchResponse,
  { systemVersionInfo, nonce }: { readonly systemVersionInfo: string; readonly nonce: string },
): Uint8Array {
  return toBinary(
    DeltaDiscoveryResponseSchema,
    create(DeltaDiscoveryResponseSchema, {
      systemVersionInfo,
      nonce,
      typeUrl,
      resources: resources.map(({ name, version, aliases, value }) => ({
        name,
        version,
        aliases: named ? [...aliases] : [],
        resource: { typeUrl, value },
      })),
      removedResources: [...removed],
    }),
  );
}

function typeStatus(watch: Watch): TypeStatus {
  const { typeUrl, wildcard, keys, lastSent, lastAckedNonce, lastError } = watch;
  return {
    typeUrl,
    wildcard,
    subscribed: [...keys],
    state: stateOf(watch),
    ...(lastSent === undefined ? {} : { lastSentNonce: lastSent.nonce, lastSentMs: lastSent.atMs }),
    ...(lastAckedNonce === undefined ? {} : { lastAckedNonce }),
    ...(lastError === undefined ? {} : { lastError }),
  };
}

function stateOf({ lastSent, lastAckedNonce, lastError }: Watch): TypeStatus["state"] {
  if (lastSent === undefined) return "NOT SENT";
  if (lastError?.nonce === lastSent.nonce) return "REJECTED";
  return lastAckedNonce === lastSent.nonce ? "SYNCED" : "STALE";
}

/** A client's words, in our log or back to it, with a bound. */
const clip = (text: string, longest = 1_000) => (text.length > longest ? `${text.slice(0, longest)}…` : text);
