/**
 * A Kubernetes API server as far as sources and writers use one, over real HTTP: lists in pages, watches with history,
 * optimistic writes, server-side apply of statuses. A test makes it forget, break and refuse.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { KubeConfig } from "@kubernetes/client-node";
import { KubeClient } from "../kubernetes/kube-client.ts";

export interface Stored {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly creationTimestamp: string;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

export interface Written {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
}

interface HistoryEntry {
  readonly resourceVersion: number;
  readonly path: string;
  readonly event: { readonly type: string; readonly object: unknown };
}

interface Watcher {
  readonly path: string;
  readonly response: ServerResponse;
  readonly accepts: (object: Stored) => boolean;
}

export interface Patch {
  readonly path: string;
  readonly fieldManager: string;
  readonly body: Written;
}

type Answer = { readonly status: number; readonly body: unknown };

const statusBody = (status: number, reason: string, message: string): Answer => ({
  status,
  body: { kind: "Status", apiVersion: "v1", status: "Failure", reason, message, code: status },
});

const coreCollections = ["pods", "nodes", "namespaces", "services", "configmaps", "secrets"].map(
  (plural) => `/api/v1/${plural}`,
);
const builtIn = [
  ...coreCollections,
  "/apis/discovery.k8s.io/v1/endpointslices",
  "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
  "/apis/coordination.k8s.io/v1/leases",
];

export class FakeApiServer {
  readonly #server: Server;
  readonly #objects = new Map<string, Map<string, Stored>>();
  readonly #history: HistoryEntry[] = [];
  readonly #watchers = new Set<Watcher>();
  #resourceVersion = 100;
  #uid = 0;
  #forgottenBefore = 0;
  /** Requests as `GET /path?query`. */
  readonly requests: string[] = [];
  readonly patches: Patch[] = [];
  /** Answers given instead of the real ones while set. */
  override: ((method: string, path: string, body: unknown) => Answer | undefined) | undefined;
  #waiters: { readonly isMet: () => boolean; readonly resolve: () => void }[] = [];

  private constructor() {
    for (const path of builtIn) this.#objects.set(path, new Map());
    this.#server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
      void this.#serve(request, response).catch(() => response.destroy());
    });
  }

  static async start(): Promise<FakeApiServer> {
    const server = new FakeApiServer();
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  client(): KubeClient {
    const config = new KubeConfig();
    config.loadFromClusterAndUser(
      { name: "fake", server: this.url, skipTLSVerify: true },
      { name: "tester", token: "tester-token" },
    );
    return new KubeClient(config);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { response } of this.#watchers) response.destroy();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Makes a kind known: `/apis/security.istio.io/v1/authorizationpolicies`. */
  install(...paths: readonly string[]): void {
    for (const path of paths) {
      this.#objects.set(path, new Map());
      const [, , group = "", , plural = ""] = path.split("/");
      this.put("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
        apiVersion: "apiextensions.k8s.io/v1",
        kind: "CustomResourceDefinition",
        metadata: { name: `${plural}.${group}` },
      });
    }
  }

  /** Creates or replaces, and tells watchers. */
  put(path: string, object: Written): Stored {
    const collection = this.#objects.get(path);
    if (collection === undefined) throw new TypeError(`The fake API server has no ${path}`);
    const key = `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
    const before = collection.get(key);
    const stored: Stored = {
      ...object,
      metadata: {
        managedFields: [{ manager: "somebody" }],
        creationTimestamp: before?.metadata.creationTimestamp ?? "2026-01-01T00:00:00Z",
        generation: Number(before?.metadata["generation"] ?? 0) + 1,
        ...object.metadata,
        uid: before?.metadata.uid ?? `uid-${++this.#uid}`,
        resourceVersion: String(++this.#resourceVersion),
      },
    };
    collection.set(key, stored);
    this.#record(path, before === undefined ? "ADDED" : "MODIFIED", stored);
    return stored;
  }

  delete(path: string, namespace: string, name: string): void {
    const collection = this.#objects.get(path);
    const key = `${namespace}/${name}`;
    const before = collection?.get(key);
    if (before === undefined) throw new TypeError(`The fake API server has no ${path} ${key}`);
    collection?.delete(key);
    const gone = { ...before, metadata: { ...before.metadata, resourceVersion: String(++this.#resourceVersion) } };
    this.#record(path, "DELETED", gone);
  }

  get(path: string, namespace: string, name: string): Stored | undefined {
    return this.#objects.get(path)?.get(`${namespace}/${name}`);
  }

  /** Watches from before this moment get 410. */
  forget(): void {
    this.#forgottenBefore = this.#resourceVersion;
  }

  /** Cuts every watch off in the middle. */
  breakWatches(): void {
    for (const { response } of this.#watchers) response.socket?.destroy();
    this.#watchers.clear();
  }

  /** Sends one line to every watch of a collection. */
  sendToWatches(path: string, line: unknown): void {
    for (const watcher of this.#watchers) {
      if (watcher.path === path) watcher.response.write(`${typeof line === "string" ? line : JSON.stringify(line)}\n`);
    }
  }

  countWatches(path: string): number {
    return [...this.#watchers].filter((watcher) => watcher.path === path).length;
  }

  /** Resolves once `isMet` after some request or write. */
  async until(isMet: () => boolean): Promise<void> {
    if (isMet()) return;
    await new Promise<void>((resolve) => this.#waiters.push({ isMet, resolve }));
  }

  #happened(): void {
    const met = this.#waiters.filter(({ isMet }) => isMet());
    this.#waiters = this.#waiters.filter((waiter) => !met.includes(waiter));
    for (const { resolve } of met) resolve();
  }

  #record(path: string, type: string, object: Stored): void {
    this.#history.push({ resourceVersion: this.#resourceVersion, path, event: { type, object } });
    for (const watcher of this.#watchers) {
      if (watcher.path === path && watcher.accepts(object)) {
        watcher.response.write(`${JSON.stringify({ type, object })}\n`);
      }
    }
    this.#happened();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.url);
    const method = request.method ?? "GET";
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const body = text === "" ? undefined : (JSON.parse(text) as Written);
    this.requests.push(`${method} ${url.pathname}${url.search}`);
    if (request.headers.authorization !== "Bearer tester-token")
      return send(response, statusBody(401, "Unauthorized", "who?"));
    const overridden = this.override?.(method, url.pathname, body);
    if (overridden !== undefined) send(response, overridden);
    else if (method === "GET" && url.searchParams.get("watch") === "true") this.#watch(url, response);
    else send(response, this.#answer(method, url, body));
    this.#happened();
  }

  /** A path with a namespace is a part of the collection without. */
  #split(pathname: string): { readonly path: string; readonly namespace: string; readonly rest: readonly string[] } {
    const match = /^(\/api\/v1|\/apis\/[^/]+\/[^/]+)(?:\/namespaces\/([^/]+)(?=\/))?\/([^/]+)(.*)$/.exec(pathname);
    const [, root = "", namespace = "", plural = "", rest = ""] = match ?? [];
    return { path: `${root}/${plural}`, namespace, rest: rest.split("/").filter((part) => part !== "") };
  }

  #filter(url: URL, namespace: string): (object: Stored) => boolean {
    const [, name] = (url.searchParams.get("fieldSelector") ?? "").split("metadata.name=");
    return ({ metadata }) =>
      (namespace === "" || metadata.namespace === namespace) && (name === undefined || metadata.name === name);
  }

  #answer(method: string, url: URL, body: Written | undefined): Answer {
    const { path, namespace, rest } = this.#split(url.pathname);
    const collection = this.#objects.get(path);
    const missing = statusBody(404, "NotFound", "the server could not find the requested resource");
    if (collection === undefined) return missing;
    const [name, subresource] = rest;
    if (name === undefined) {
      if (method === "POST" && body !== undefined) {
        if (collection.has(`${namespace}/${body.metadata.name}`))
          return statusBody(409, "AlreadyExists", "already exists");
        return { status: 201, body: this.put(path, { ...body, metadata: { ...body.metadata, namespace } }) };
      }
      return this.#list(url, [...collection.values()].filter(this.#filter(url, namespace)));
    }
    const found = collection.get(`${namespace}/${name}`);
    if (found === undefined) return missing;
    if (method === "PUT" && body !== undefined) {
      const version = body.metadata["resourceVersion"];
      if (version !== undefined && version !== found.metadata.resourceVersion) {
        return statusBody(409, "Conflict", "the object has been modified");
      }
      return { status: 200, body: this.put(path, body) };
    }
    if (method === "PATCH" && body !== undefined && subresource === "status") {
      this.patches.push({ path: url.pathname, fieldManager: url.searchParams.get("fieldManager") ?? "", body });
      return { status: 200, body: this.put(path, { ...found, status: body["status"] }) };
    }
    return { status: 200, body: found };
  }

  #list(url: URL, objects: readonly Stored[]): Answer {
    const limit = Number(url.searchParams.get("limit") ?? objects.length);
    const from = Number(url.searchParams.get("continue") ?? 0);
    const page = objects.slice(from, from + limit);
    const isLast = from + limit >= objects.length;
    const items = page.map(({ apiVersion: _apiVersion, kind: _kind, ...item }) => item);
    const metadata = {
      resourceVersion: String(this.#resourceVersion),
      ...(isLast ? {} : { continue: String(from + limit) }),
    };
    return { status: 200, body: { apiVersion: "v1", kind: "List", metadata, items } };
  }

  #watch(url: URL, response: ServerResponse): void {
    const { path, namespace } = this.#split(url.pathname);
    if (!this.#objects.has(path)) return send(response, statusBody(404, "NotFound", "no such kind"));
    const from = Number(url.searchParams.get("resourceVersion"));
    if (from < this.#forgottenBefore) return send(response, statusBody(410, "Expired", "too old resource version"));
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    const accepts = this.#filter(url, namespace);
    for (const { resourceVersion, path: where, event } of this.#history) {
      if (where === path && resourceVersion > from && accepts(event.object as Stored)) {
        response.write(`${JSON.stringify(event)}\n`);
      }
    }
    const watcher = { path, response, accepts };
    this.#watchers.add(watcher);
    response.on("close", () => this.#watchers.delete(watcher));
  }
}

function send(response: ServerResponse, { status, body }: Answer): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
