/** Keys that are fetched over a cluster and kept for a time. Nothing is fetched while no token asks for them. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { RemoteJwks } from "#shared/proto/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { forbiddenFetchAddress, forbiddenFetchHost } from "#shared/net/fetch-targets.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import { callHttp } from "#waypoint/upstream/http-call.ts";
import { readKeySet, type KeySet, type KeySource } from "./key-set.ts";

/** Why a host may not be asked for keys. */
export type MayFetch = (host: Host) => string | undefined;

/** Not the machine itself, and nothing that hands out credentials to whoever asks from there. */
export const mayFetchFrom: MayFetch = ({ address }) => forbiddenFetchAddress(address.ip);

const defaultCacheMs = 10 * 60_000;
const defaultRefetchMs = 1_000;
const defaultTimeoutMs = 5_000;
const mostBytes = 1024 * 1024;

export class RemoteKeys implements KeySource {
  readonly #url: URL | undefined;
  readonly #cluster: string;
  readonly #timeoutMs: number;
  readonly #cacheMs: number;
  readonly #refetchMs: number;
  readonly #context: LayerContext;
  readonly #mayFetch: MayFetch;
  #keys: KeySet | undefined;
  #freshUntilMs = 0;
  #notBeforeMs = 0;
  #running: Promise<KeySet | undefined> | undefined;

  constructor(config: RemoteJwks, path: string, context: LayerContext, mayFetch: MayFetch) {
    const { httpUri } = config;
    const uri = httpUri?.uri ?? "";
    this.#url = URL.canParse(uri) ? new URL(uri) : undefined;
    this.#cluster = httpUri?.httpUpstreamType.case === "cluster" ? httpUri.httpUpstreamType.value : "";
    this.#timeoutMs = httpUri?.timeout === undefined ? defaultTimeoutMs : durationMs(httpUri.timeout);
    this.#cacheMs = config.cacheDuration === undefined ? defaultCacheMs : durationMs(config.cacheDuration);
    const refetch = config.asyncFetch?.failedRefetchDuration;
    this.#refetchMs = refetch === undefined ? defaultRefetchMs : durationMs(refetch);
    this.#context = context;
    this.#mayFetch = mayFetch;
    if (this.#url === undefined) context.problem(`${path}.http_uri.uri`, `"${uri}" is not a web address`);
    if (this.#cluster === "") context.problem(`${path}.http_uri.cluster`, "must not be empty");
    const forbidden = this.#url && forbiddenFetchHost(this.#url.hostname);
    if (forbidden !== undefined) context.problem(`${path}.http_uri.uri`, forbidden);
    if (config.asyncFetch !== undefined) void this.fetch();
  }

  get current(): KeySet | undefined {
    return this.#context.clock.now() < this.#freshUntilMs ? this.#keys : undefined;
  }

  /** One attempt at a time, and none soon after one that failed. */
  fetch(): Promise<KeySet | undefined> {
    if (this.#running !== undefined) return this.#running;
    if (this.#context.clock.now() < this.#notBeforeMs) return Promise.resolve(undefined);
    this.#running = this.#fetchOnce().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #fetchOnce(): Promise<KeySet | undefined> {
    const { clock, clusters, log } = this.#context;
    const url = this.#url;
    if (url === undefined) return undefined;
    try {
      const answer = await callHttp(clusters, {
        cluster: this.#cluster,
        timeoutMs: this.#timeoutMs,
        maxAnswerBytes: mostBytes,
        forbids: this.#mayFetch,
        head: {
          method: "GET",
          scheme: url.protocol.slice(0, -1),
          authority: url.host,
          path: `${url.pathname}${url.search}`,
          headers: new Headers(["accept", "application/json"]),
        },
      });
      const keys = answer.status === 200 ? readKeySet(answer.body.toString("utf8")) : undefined;
      if (keys === undefined) {
        throw new Error(
          answer.status === 200 ? "its answer is no key set" : `it answered with status ${answer.status}`,
        );
      }
      this.#keys = keys;
      this.#freshUntilMs = clock.now() + this.#cacheMs;
      return keys;
    } catch (error) {
      this.#notBeforeMs = clock.now() + this.#refetchMs;
      log.warn(
        { url: url.href, error: explain(error) },
        "keys for tokens cannot be fetched: tokens of this issuer are refused",
      );
      return undefined;
    }
  }
}
