/**
 * A thin client of the Kubernetes API over any path and kind. Credentials come from `@kubernetes/client-node`; its typed
 * API and its watch are not used: the mesh reads kinds that it does not know, and that watch drops what it cannot parse
 * and closes a stream that is silent for half a minute, which a quiet cluster is.
 */
import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest, type RequestOptions } from "node:https";
import type { KubeConfig } from "@kubernetes/client-node";
import { MeshError } from "#shared/errors/mesh-error.ts";

/** An answer of the API server other than success. */
export class KubeError extends Error {
  override readonly name = "KubeError";
  /** HTTP status; 0 where no answer came. */
  readonly status: number;
  /** As the server's Status object names it: `NotFound`, `Conflict`, `Expired` …; empty where it names none. */
  readonly reason: string;

  constructor(status: number, reason: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.status = status;
    this.reason = reason;
  }
}

export const isStatus = (thrown: unknown, status: number): boolean =>
  thrown instanceof KubeError && thrown.status === status;

/**
 * No answer, or one that says nothing of the request: the same may well succeed later. Forbidden is such an answer: rights
 * are given and taken at any time, and an API server that has just started knows of none.
 */
export const isPassing = (thrown: unknown): boolean =>
  thrown instanceof KubeError && ([0, 401, 403, 429].includes(thrown.status) || thrown.status >= 500);

export interface KubeRequest {
  readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal;
}

/** How long an answer may take; watches are bounded by their own `timeoutSeconds`. */
const answerTimeoutMs = 30_000;
/** One answer: a page of 500 objects stays far below. */
const maxAnswerBytes = 256 * 1024 * 1024;
/** One event of a watch: the server bounds objects to a few MiB. */
const maxLineBytes = 16 * 1024 * 1024;

export class KubeClient {
  readonly #config: KubeConfig;
  readonly #server: URL;
  readonly #proxied: boolean;
  #agent: { readonly key: string; readonly agent: HttpAgent } | undefined;

  /** @throws MeshError CONFIG_INVALID where the configuration names no server */
  constructor(config: KubeConfig) {
    const cluster = config.getCurrentCluster();
    // Outside a pod the library fills in "undefined" for what the environment does not say.
    if (cluster === null || cluster.server.includes("undefined")) {
      throw new MeshError(
        "CONFIG_INVALID",
        "Cannot find an API server: set KUBECONFIG, or run in a pod with a service account",
      );
    }
    if (!URL.canParse(cluster.server)) {
      throw new MeshError("CONFIG_INVALID", `Cannot read "${cluster.server}" as the address of an API server`);
    }
    this.#config = config;
    this.#server = new URL(cluster.server);
    this.#proxied = cluster.proxyUrl !== undefined && cluster.proxyUrl !== "";
  }

  get server(): string {
    return this.#server.href;
  }

  /** The body of a successful answer, or a {@link KubeError}. */
  async request<T>(path: string, options: KubeRequest = {}): Promise<T> {
    const deadline = AbortSignal.timeout(answerTimeoutMs);
    const signal = options.signal === undefined ? deadline : AbortSignal.any([options.signal, deadline]);
    const response = await this.#send(path, options, signal);
    const text = await readAll(response);
    if ((response.statusCode ?? 0) >= 300) throw toError(response.statusCode ?? 0, text, path);
    return parse(text, path) as T;
  }

  /** The JSON lines of a watch, until the server ends it or `signal` aborts. */
  async *lines(path: string, query: KubeRequest["query"], signal: AbortSignal): AsyncGenerator<unknown, void> {
    const response = await this.#send(path, query === undefined ? {} : { query }, signal);
    if ((response.statusCode ?? 0) >= 300) throw toError(response.statusCode ?? 0, await readAll(response), path);
    let rest = "";
    response.setEncoding("utf8");
    try {
      for await (const chunk of response as AsyncIterable<string>) {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop() ?? "";
        if (rest.length > maxLineBytes)
          throw new KubeError(0, "", `Cannot watch ${path}: an event exceeds ${maxLineBytes} bytes`);
        for (const line of lines) if (line.trim() !== "") yield parse(line, path);
      }
    } catch (thrown) {
      if (thrown instanceof KubeError) throw thrown;
      throw new KubeError(0, "", `Cannot watch ${path}: the stream broke`, thrown);
    } finally {
      response.destroy();
    }
  }

  [Symbol.dispose](): void {
    this.#agent?.agent.destroy();
    this.#agent = undefined;
  }

  async #send(
    path: string,
    { method = "GET", query, body, contentType }: KubeRequest,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    signal.throwIfAborted();
    const options: RequestOptions = { method, headers: {} };
    await this.#config.applyToHTTPSOptions(options);
    if (!this.#proxied) options.agent = this.#agentFor(options);
    // A server address may have a path of its own, in front of a proxy.
    const url = new URL(this.#server.pathname.replace(/\/$/, "") + path, this.#server);
    for (const [name, value] of Object.entries(query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const headers: Record<string, string> = {
      ...(options.headers as Record<string, string>),
      accept: "application/json",
      // By it the API server names who manages which field, where a request does not.
      "user-agent": "ambit-controlplane",
    };
    if (payload !== undefined) {
      headers["content-type"] = contentType ?? "application/json";
      headers["content-length"] = String(Buffer.byteLength(payload));
    }
    const send = url.protocol === "http:" ? httpRequest : httpsRequest;
    return new Promise<IncomingMessage>((resolve, reject) => {
      const request: ClientRequest = send(url, { ...options, headers, signal }, resolve);
      request.on("error", (error) => {
        reject(
          signal.aborted && signal.reason instanceof Error && signal.reason.name !== "TimeoutError"
            ? signal.reason
            : new KubeError(0, "", `Cannot ask the API server for ${path}`, error),
        );
      });
      request.on("socket", (socket) => socket.setKeepAlive(true, keepAliveMs));
      request.end(payload);
    });
  }

  /** One agent for all requests, renewed with the credentials. */
  #agentFor(options: RequestOptions): HttpAgent {
    const { ca, cert, key, rejectUnauthorized, servername } = options;
    const fingerprint = [ca, cert, key, rejectUnauthorized, servername].map(String).join("\n");
    if (this.#agent?.key !== fingerprint) {
      const previous = this.#agent?.agent;
      const bounds = { keepAlive: true, maxFreeSockets: 4, keepAliveMsecs: keepAliveMs };
      const agent =
        this.#server.protocol === "http:"
          ? new HttpAgent(bounds)
          : new HttpsAgent({
              ...bounds,
              ...(ca === undefined ? {} : { ca }),
              ...(cert === undefined ? {} : { cert }),
              ...(key === undefined ? {} : { key }),
              ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
              ...(servername === undefined ? {} : { servername }),
            });
      this.#agent = { key: fingerprint, agent };
      // Requests under way on the old agent end by themselves; its idle sockets are of no use any more.
      if (previous !== undefined)
        for (const sockets of Object.values(previous.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
    }
    return this.#agent.agent;
  }
}

/** A dead peer is noticed by TCP after a few of these. */
const keepAliveMs = 15_000;

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxAnswerBytes) {
        response.destroy();
        throw new KubeError(0, "", `Cannot read the API server's answer: it exceeds ${maxAnswerBytes} bytes`);
      }
      chunks.push(chunk);
    }
  } catch (thrown) {
    if (thrown instanceof KubeError) throw thrown;
    throw new KubeError(0, "", "Cannot read the API server's answer: the connection broke", thrown);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parse(text: string, path: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (thrown) {
    throw new KubeError(0, "", `Cannot read the API server's answer for ${path}: it is not JSON`, thrown);
  }
}

function toError(status: number, text: string, path: string): KubeError {
  let reason = "";
  let message = text.slice(0, 200).trim();
  try {
    const body = JSON.parse(text) as { reason?: unknown; message?: unknown };
    if (typeof body.reason === "string") reason = body.reason;
    if (typeof body.message === "string") message = body.message;
  } catch {
    // Not a Status object: its text says what it says.
  }
  return new KubeError(
    status,
    reason,
    `The API server answered ${status} for ${path}${message === "" ? "" : `: ${message}`}`,
  );
}

export interface KubeLocation {
  /** A kubeconfig file; empty: the service account of this pod. */
  readonly kubeconfig: string;
}

/**
 * A client for the API server that a kubeconfig names, or that the pod's environment does.
 *
 * @throws MeshError CONFIG_INVALID where there is neither, or the file cannot be read
 */
export async function openKubeClient({ kubeconfig }: KubeLocation): Promise<KubeClient> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  try {
    if (kubeconfig === "") config.loadFromCluster();
    else config.loadFromFile(kubeconfig);
  } catch (thrown) {
    throw new MeshError("CONFIG_INVALID", `Cannot read the kubeconfig "${kubeconfig}"`, thrown);
  }
  return new KubeClient(config);
}
