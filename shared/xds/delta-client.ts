import { status, type Client, type ClientDuplexStream, type ServiceError } from "@grpc/grpc-js";
import { create, fromBinary, toBinary, type JsonObject } from "@bufbuild/protobuf";
import { sleep, type Clock } from "#shared/clock/clock.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import {
  callMetadata,
  attempted,
  openChannel,
  readRoots,
  type CallSettings,
  type ChannelSettings,
} from "#shared/grpc/control-plane-channel.ts";
import type { Logger } from "#shared/observe/logger.ts";
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  type DeltaDiscoveryResponse,
} from "#shared/proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import type { XdsNode } from "./node.ts";
import { firstBackoffMs, nextAttempt, type Termination } from "./retry.ts";
import { deltaMethod } from "./type-urls.ts";

/** One resource as it arrived: the handler decodes `value`. */
export interface XdsResource {
  readonly name: string;
  readonly version: string;
  readonly aliases: readonly string[];
  /** The protobuf message of the subscription's type. */
  readonly value: Uint8Array;
}

/** A resource that the handler refused; goes into the NACK, and is not claimed after a reconnect. */
export interface Rejection {
  readonly name: string;
  readonly reason: string;
}

/** Applies one response as a whole: first the resources, then the removals. Returns what it refused. */
export type ResourceHandler = (resources: readonly XdsResource[], removed: readonly string[]) => readonly Rejection[];

export interface Subscription {
  readonly typeUrl: string;
  readonly apply: ResourceHandler;
  /** Starts with nothing and asks for single names ({@link DeltaClient.demand}); everything otherwise. */
  readonly onDemand?: boolean;
  /**
   * Asks for these names and no others; {@link DeltaClient.resubscribe} says that they changed. Asked for again after a
   * reconnect, found or not. As long as it is empty, the type is not spoken of.
   */
  readonly names?: () => ReadonlySet<string>;
}

/** For metrics. */
export type XdsEvent =
  | { readonly kind: "connected" }
  /** `bytes` counts the resources' own messages, as `istio_xds_message_bytes_total` does. */
  | { readonly kind: "message"; readonly typeUrl: string; readonly bytes: number }
  | { readonly kind: "terminated"; readonly reason: Termination["reason"] };

export interface DeltaClientOptions {
  readonly channel: ChannelSettings;
  readonly call: CallSettings;
  readonly node: XdsNode;
  /** In the order in which they are asked for. */
  readonly subscriptions: readonly Subscription[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly onEvent?: (event: XdsEvent) => void;
  /** Names that one type may be asked for on demand. Default 10 000. */
  readonly demandBound?: number;
}

/** What a NACK tells: whoever reads it corrects the first mistakes first. All of them stand in the log. */
const longestReason = 16_000;
/** As Istio's ztunnel. */
const connectTimeoutMs = 5_000;
/** They come from what pods dial, so they need a bound. */
const demandBoundDefault = 10_000;

/** The part of a request that a client fills in. */
interface Request {
  readonly typeUrl: string;
  readonly node?: { readonly id: string; readonly metadata: JsonObject };
  readonly resourceNamesSubscribe?: string[];
  readonly resourceNamesUnsubscribe?: string[];
  readonly initialResourceVersions?: Record<string, string>;
  readonly responseNonce?: string;
  readonly errorDetail?: { readonly message: string };
}
type Stream = ClientDuplexStream<Request, DeltaDiscoveryResponse>;

/** What is known of one type; survives reconnects. */
interface TypeState {
  readonly subscription: Subscription;
  /** Versions of what the handler accepted, claimed after a reconnect. */
  readonly retained: Map<string, string>;
  /** Waiters of names asked for on demand. */
  readonly demanded: Map<string, PromiseWithResolvers<void>>;
  /** Names that this stream was asked for and answered: they are subscribed, and change by themselves. */
  readonly answered: Set<string>;
  /** Those of `answered` that stand for nothing: they may be given up. Oldest first. */
  readonly absent: Set<string>;
  /** Of {@link Subscription.names}: what this stream was asked for. */
  asked: ReadonlySet<string>;
}

/**
 * Keeps one delta ADS stream to the control plane: subscribes, applies, acknowledges, and connects again for ever.
 * What was accepted stays in force meanwhile and is claimed by version, so that a reconnect costs only what changed.
 */
export class DeltaClient {
  readonly #options: DeltaClientOptions;
  readonly #types: ReadonlyMap<string, TypeState>;
  readonly #unready: Set<string>;
  readonly #ready = Promise.withResolvers<void>();
  #stream: Stream | undefined;

  constructor(options: DeltaClientOptions) {
    this.#options = options;
    this.#types = new Map(
      options.subscriptions.map((subscription) => [
        subscription.typeUrl,
        {
          subscription,
          retained: new Map(),
          demanded: new Map(),
          answered: new Set(),
          absent: new Set(),
          asked: new Set<string>(),
        },
      ]),
    );
    const wildcards = options.subscriptions.filter(({ onDemand = false, names }) => !onDemand && names === undefined);
    this.#unready = new Set(wildcards.map(({ typeUrl }) => typeUrl));
    if (this.#unready.size === 0) this.#ready.resolve();
  }

  /** Resolves once a response of every wildcard type was accepted. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Runs until the signal aborts; resolves then. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, onEvent } = this.#options;
    let backoffMs = firstBackoffMs;
    while (!signal.aborted) {
      const termination = await this.#once(signal);
      if (signal.aborted) break;
      onEvent?.({ kind: "terminated", reason: termination.reason });
      const attempt = nextAttempt(termination, backoffMs);
      backoffMs = attempt.backoffMs;
      log.warn(
        { reason: termination.reason, error: termination.message, retryInMs: attempt.delayMs },
        "xDS connection ended",
      );
      await sleep(clock, attempt.delayMs, signal).catch(() => {
        // Aborted: the loop sees it.
      });
    }
    for (const { demanded } of this.#types.values()) {
      for (const waiter of demanded.values()) waiter.reject(new MeshError("XDS_STREAM_FAILED", "Shutting down"));
      demanded.clear();
    }
  }

  /**
   * Asks for one name of an on-demand type and waits until the control plane answered it, found or not; the handler has
   * run by then.
   *
   * @throws MeshError XDS_STREAM_FAILED where too many names wait or the client ends, or the signal's reason
   */
  async demand(typeUrl: string, name: string, signal?: AbortSignal): Promise<void> {
    const type = this.#types.get(typeUrl);
    if (type?.subscription.onDemand !== true) throw new TypeError(`"${typeUrl}" is not subscribed on demand`);
    signal?.throwIfAborted();
    if (type.answered.has(name)) return;
    const waiting = type.demanded.get(name) ?? this.#ask(type, name);
    if (signal === undefined) return waiting.promise;
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await Promise.race([waiting.promise, aborted.promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** The names of a type ({@link Subscription.names}) are others now: says the difference, if a stream stands. */
  resubscribe(typeUrl: string): void {
    const type = this.#types.get(typeUrl);
    const names = type?.subscription.names?.();
    if (type === undefined || names === undefined) throw new TypeError(`"${typeUrl}" is not subscribed by names`);
    const stream = this.#stream;
    if (stream === undefined) return;
    const added = [...names].filter((name) => !type.asked.has(name));
    const left = [...type.asked].filter((name) => !names.has(name));
    if (added.length === 0 && left.length === 0) return;
    for (const name of left) type.retained.delete(name);
    // The server speaks of a type from the first request on, and that one introduces us.
    const isFirst = type.asked.size === 0;
    type.asked = new Set(names);
    stream.write({
      typeUrl,
      ...(isFirst && { node: this.#options.node }),
      resourceNamesSubscribe: added,
      resourceNamesUnsubscribe: left,
    });
  }

  #ask({ subscription, demanded, answered, absent }: TypeState, name: string): PromiseWithResolvers<void> {
    const { demandBound = demandBoundDefault } = this.#options;
    const givenUp: string[] = [];
    if (demanded.size + answered.size >= demandBound) {
      // Names come from what pods dial: one that scans addresses must not keep others from being asked for.
      const [oldest] = absent;
      if (oldest === undefined) {
        const why = `${demandBound} names are subscribed already`;
        throw new MeshError("XDS_STREAM_FAILED", `Cannot ask for "${name}": ${why}`);
      }
      absent.delete(oldest);
      answered.delete(oldest);
      givenUp.push(oldest);
    }
    const waiter = Promise.withResolvers<void>();
    waiter.promise.catch(() => {
      // The one who asked may have left.
    });
    demanded.set(name, waiter);
    this.#stream?.write({
      typeUrl: subscription.typeUrl,
      resourceNamesSubscribe: [name],
      ...(givenUp.length > 0 && { resourceNamesUnsubscribe: givenUp }),
    });
    return waiter;
  }

  /** One connection from its first to its last byte. */
  async #once(signal: AbortSignal): Promise<Termination> {
    const { channel, call } = this.#options;
    let client: Client | undefined;
    try {
      const rootsPem = await readRoots(channel.roots);
      client = openChannel(channel, rootsPem);
      const metadata = await callMetadata(call);
      await attempted(client, connectTimeoutMs, signal);
      const stream: Stream = client.makeBidiStreamRequest(
        deltaMethod,
        (request: Request) =>
          Buffer.from(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, request))),
        (bytes: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, bytes),
        metadata,
      );
      return await this.#serve(stream, signal);
    } catch (error) {
      return { reason: "ConnectionError", message: explain(error) };
    } finally {
      this.#stream = undefined;
      client?.close();
    }
  }

  #serve(stream: Stream, signal: AbortSignal): Promise<Termination> {
    const done = Promise.withResolvers<Termination>();
    let established = false;
    const establish = () => {
      if (!established) this.#options.onEvent?.({ kind: "connected" });
      established = true;
    };
    const abort = () => stream.cancel();
    signal.addEventListener("abort", abort, { once: true });
    stream.on("metadata", establish);
    stream.on("data", (response: DeltaDiscoveryResponse) => {
      establish();
      const bytes = response.resources.reduce((sum, { resource }) => sum + (resource?.value.length ?? 0), 0);
      this.#options.onEvent?.({ kind: "message", typeUrl: response.typeUrl, bytes });
      stream.write(this.#answer(response));
    });
    stream.on("error", (error: ServiceError) => done.resolve(classify(error, established)));
    stream.on("status", ({ code }: { code: status }) => {
      if (code === status.OK) done.resolve({ reason: "Complete", message: "the control plane closed the stream" });
    });
    for (const type of this.#types.values()) {
      type.answered.clear();
      type.absent.clear();
      type.asked = new Set(type.subscription.names?.());
      if (type.subscription.names !== undefined && type.asked.size === 0) continue;
      stream.write({ ...initialRequest(type), node: this.#options.node });
    }
    this.#stream = stream;
    return done.promise.finally(() => signal.removeEventListener("abort", abort));
  }

  /** Applies a response and makes its ACK or NACK. */
  #answer(response: DeltaDiscoveryResponse): Request {
    const { log } = this.#options;
    const { typeUrl, nonce: responseNonce } = response;
    const type = this.#types.get(typeUrl);
    if (type === undefined) {
      log.warn({ typeUrl }, "the control plane sent a type that nobody asked for");
      return { typeUrl, responseNonce };
    }
    const rejections = applyResponse(type, response);
    wake(type, response);
    if (rejections.length === 0) {
      this.#becomeReady(typeUrl);
      log.debug(
        { typeUrl, resources: response.resources.length, removed: response.removedResources.length },
        "applied",
      );
      return { typeUrl, responseNonce };
    }
    const reasons = rejections.map(({ name, reason }) => `${name}: ${reason}`).join("; ");
    const message = reasons.length > longestReason ? `${reasons.slice(0, longestReason)} …` : reasons;
    log.warn({ typeUrl, rejections: rejections.slice(0, 10), count: rejections.length }, "resources refused");
    return { typeUrl, responseNonce, errorDetail: { message } };
  }

  #becomeReady(typeUrl: string): void {
    this.#unready.delete(typeUrl);
    if (this.#unready.size === 0) this.#ready.resolve();
  }
}

/** What is retained is claimed; names still waited for are claimed without a version, which asks for them anew. */
function initialRequest({ subscription, retained, demanded, asked }: TypeState): Request {
  const { typeUrl, onDemand = false, names } = subscription;
  if (names !== undefined) {
    const held = [...retained].filter(([name]) => asked.has(name));
    return { typeUrl, initialResourceVersions: Object.fromEntries(held), resourceNamesSubscribe: [...asked] };
  }
  const waiting = [...demanded.keys()].map((name) => [name, ""] as const);
  return {
    typeUrl,
    initialResourceVersions: Object.fromEntries([...waiting, ...retained]),
    // Both at once is how the protocol says "subscribed to nothing"; neither means everything.
    ...(onDemand ? { resourceNamesSubscribe: ["*"], resourceNamesUnsubscribe: ["*"] } : {}),
  };
}

function applyResponse({ subscription, retained }: TypeState, response: DeltaDiscoveryResponse): readonly Rejection[] {
  const rejections: Rejection[] = [];
  const resources: XdsResource[] = [];
  for (const { name, version, aliases, resource } of response.resources) {
    if (resource?.typeUrl === subscription.typeUrl) resources.push({ name, version, aliases, value: resource.value });
    else rejections.push({ name, reason: `Cannot use type "${resource?.typeUrl ?? ""}" here` });
  }
  try {
    rejections.push(...subscription.apply(resources, response.removedResources));
  } catch (error) {
    // A handler that throws accepted nothing, as far as anyone knows.
    rejections.push(...resources.map(({ name }) => ({ name, reason: explain(error) })));
    if (resources.length === 0) rejections.push({ name: response.removedResources[0] ?? "", reason: explain(error) });
  }
  const refused = new Set(rejections.map(({ name }) => name));
  for (const { name, version } of response.resources) if (!refused.has(name)) retained.set(name, version);
  for (const name of response.removedResources) retained.delete(name);
  return rejections;
}

/** After the state is updated, never before: who asked looks it up at once. */
function wake({ demanded, answered, absent, subscription }: TypeState, response: DeltaDiscoveryResponse): void {
  if (subscription.onDemand !== true) return;
  const present = response.resources.flatMap(({ name, aliases }) => [name, ...aliases]);
  for (const name of present) absent.delete(name);
  for (const name of response.removedResources) if (demanded.has(name) || answered.has(name)) absent.add(name);
  for (const name of [...present, ...response.removedResources]) {
    const waiter = demanded.get(name);
    if (waiter === undefined) continue;
    demanded.delete(name);
    answered.add(name);
    waiter.resolve();
  }
}

function classify(error: ServiceError, established: boolean): Termination {
  const message = `${status[error.code] ?? error.code}: ${error.details}`;
  if (!established) return { reason: "ConnectionError", message };
  const isReconnect =
    error.code === status.UNKNOWN ||
    error.code === status.CANCELLED ||
    error.code === status.DEADLINE_EXCEEDED ||
    (error.code === status.UNAVAILABLE && isOrdinaryLoss(error.details));
  return { reason: isReconnect ? "Reconnect" : "Error", message };
}

/** The connection went away under a working stream: restarts, rebalancing, age limits. The last two are grpc-js's. */
const isOrdinaryLoss = (details: string) =>
  /transport is closing|received prior goaway|Connection dropped|connection closed/i.test(details);
