import { randomUUID } from "node:crypto";
import { constants, type ServerHttp2Stream } from "node:http2";
import { status, type ServerDuplexStream } from "@grpc/grpc-js";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { identityOf, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { parseProxyNode, type ProxyNode } from "./node-id.ts";
import type { ResourceSource } from "./resource-store.ts";
import type { AnyRequest, Outcome, Response, TypeStatus, TypeWatch, Wire } from "./type-watch.ts";
import { keyBound } from "./watch.ts";

/** Who opened a stream. On a listener without authentication nothing is known, and nothing checked. */
export type Admission =
  { readonly checked: false } | { readonly checked: true; readonly identities: readonly SpiffeId[] };

export interface WireResponse {
  readonly bytes: Uint8Array;
}

export type ServerCall<R> = ServerDuplexStream<R, WireResponse>;

/** For metrics. */
export type ServerEvent =
  | { readonly kind: "connected" | "disconnected"; readonly connections: number }
  | { readonly kind: "refused"; readonly code: status }
  /** `acknowledged`: the client has taken what was sent last; `accepted`: of a type that it has rejected before. */
  | { readonly kind: "rejected" | "acknowledged" | "accepted"; readonly typeUrl: string }
  | {
      readonly kind: "pushed";
      readonly typeUrl: string;
      readonly resources: number;
      readonly bytes: number;
      /** From the change to the write. */
      readonly delayMs: number;
    };

/** Who asks, as far as it is known; the node is what the client says of itself, and its namespace is proven. */
export interface DiscoveryClient {
  readonly node: ProxyNode;
  readonly admission: Admission;
}

/** Types whose content is a client's own. Disposed of when it leaves. */
export interface ClientSources extends Disposable {
  /** In the order in which types are sent. */
  readonly sources: readonly ResourceSource[];
}

/** What streams need of their server's options. */
export interface StreamOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly onEvent?: (event: ServerEvent) => void;
  /** A stream ends, cleanly, near this age, so that clients spread over replicas again. Default 30 minutes. */
  readonly maxStreamAgeMs?: number;
  /** What this client is served beside what everybody is. undefined: nothing. */
  readonly openSources?: (client: DiscoveryClient) => ClientSources | undefined;
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

/** A stream that has said nothing is closed. */
const firstRequestDeadlineMs = 30_000;
/** A client that does not take a response is disconnected; it comes back with what it holds. */
const sendDeadlineMs = 60_000;
/** Ends a stream with a status that the client sees. */
export class Refusal extends Error {
  readonly code: status;
  constructor(code: status, message: string) {
    super(message);
    this.code = code;
  }
}

/** A stream of either protocol. */
export interface AnyStream {
  end(reason?: string): void;
  changed(typeUrl: string, names: ReadonlySet<string>): void;
  status(): ClientStatus | undefined;
}

const byType = (sources: readonly ResourceSource[]): ReadonlyMap<string, ResourceSource> =>
  new Map(sources.map((source) => [source.typeUrl, source]));

export interface StreamDeps<R extends AnyRequest> {
  readonly call: ServerCall<R>;
  readonly wire: Wire<R>;
  readonly admission: Admission;
  /** In the order in which types are sent. */
  readonly sources: readonly ResourceSource[];
  readonly options: StreamOptions;
  readonly version: () => string;
  readonly onClose: (reason: string) => void;
  readonly onRefuse: (error: unknown) => void;
}

/** One client's stream: its watches, and one response in flight at a time. */
export class ServedStream<R extends AnyRequest> implements AnyStream {
  readonly #deps: StreamDeps<R>;
  readonly #id = randomUUID();
  readonly #connectedAtMs: number;
  readonly #peer: string;
  readonly #watches = new Map<string, TypeWatch<R>>();
  readonly #timers = new Set<() => void>();
  /** Common to all clients, and those of this one. */
  #sources: ReadonlyMap<string, ResourceSource>;
  /** Types whose last response the client refused. */
  readonly #rejected = new Set<string>();
  #closeOwn: () => void = () => {};
  #node: ProxyNode | undefined;
  #isWriting = false;
  /** Of the response in flight. It outlives {@link #close}, whose goodbye waits behind that response. */
  #stopDeadline: () => void = () => {};
  #closed = false;

  constructor(deps: StreamDeps<R>) {
    this.#deps = deps;
    this.#sources = byType(deps.sources);
    this.#connectedAtMs = deps.options.clock.now();
    this.#peer = deps.call.getPeer();
  }

  start(): void {
    const { call, options } = this.#deps;
    call.on("data", (request: R) => this.#onRequest(request));
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
    watch.changed(names, this.#deps.options.clock.now());
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
      types: [...this.#watches.values()].map((watch) => watch.status()),
    };
  }

  #onRequest(request: R): void {
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

  #introduce(request: R): ProxyNode {
    if (request.node === undefined) {
      throw new Refusal(status.INVALID_ARGUMENT, "The first request carries no node: send one with its id");
    }
    const node = parseProxyNode(request.node.id, request.node.metadata, request.node.userAgentName);
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
    this.#takeOwnSources(node);
    return node;
  }

  /** Sources of this client alone come first. */
  #takeOwnSources(node: ProxyNode): void {
    const { admission, options, sources } = this.#deps;
    const own = options.openSources?.({ node, admission });
    if (own === undefined) return;
    this.#sources = byType([...own.sources, ...sources]);
    const unsubscribe = own.sources.map((source) => source.onChange((names) => this.changed(source.typeUrl, names)));
    this.#closeOwn = () => {
      for (const each of unsubscribe) each();
      own[Symbol.dispose]();
    };
  }

  #watch(request: R): void {
    const { wire, options } = this.#deps;
    const source = this.#sources.get(request.typeUrl);
    if (source === undefined) {
      options.log.debug({ node: this.#node?.id, typeUrl: request.typeUrl }, "xDS type not served");
      return;
    }
    const nowMs = options.clock.now();
    let watch = this.#watches.get(request.typeUrl);
    let outcome: Outcome | undefined;
    if (watch === undefined) this.#watches.set(request.typeUrl, (watch = wire.open(request, source, nowMs)));
    else outcome = watch.request(request, nowMs);
    if (watch.names > keyBound) {
      throw new Refusal(status.RESOURCE_EXHAUSTED, `More than ${keyBound} names are subscribed`);
    }
    if (outcome === "acked") options.onEvent?.({ kind: "acknowledged", typeUrl: request.typeUrl });
    if (outcome === "acked" && this.#rejected.delete(request.typeUrl)) {
      options.onEvent?.({ kind: "accepted", typeUrl: request.typeUrl });
    }
    if (outcome === "nacked") {
      this.#rejected.add(request.typeUrl);
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
    for (const source of this.#sources.values()) {
      const watch = this.#watches.get(source.typeUrl);
      const response = watch?.next(this.#node?.nodeName);
      if (watch === undefined || response === undefined) continue;
      this.#send(watch, response, this.#deps.options.clock.now());
      return;
    }
  }

  #send(watch: TypeWatch<R>, response: Response, nowMs: number): void {
    const { call, options, version } = this.#deps;
    const { typeUrl } = watch.source;
    const frame = { version: version(), nonce: "" };
    frame.nonce = `${frame.version}${randomUUID()}`;
    const bytes = response.encode(frame);
    watch.sent(frame.nonce, nowMs);
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
      typeUrl,
      resources: response.resources,
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
    this.#closeOwn();
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
function resetStream(call: object): void {
  let inner: InnerCall | undefined = call;
  while (inner !== undefined && inner.stream === undefined) inner = inner.call ?? inner.nextCall;
  inner?.stream?.close(constants.NGHTTP2_CANCEL);
}

/** A proxy may ask for the configuration of its own namespace, and as its own account where it names one. */
function mayActAs(identity: SpiffeId, node: ProxyNode): boolean {
  const parts = identityOf(identity);
  if (parts?.namespace !== node.namespace) return false;
  return node.serviceAccount === undefined || parts.serviceAccount === node.serviceAccount;
}

/** A client's words, in our log or back to it, with a bound. */
export const clip = (text: string, longest = 1_000) => (text.length > longest ? `${text.slice(0, longest)}…` : text);
