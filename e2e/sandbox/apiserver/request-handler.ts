import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { FastifyReply, FastifyRequest } from "fastify";
import { stringify as toYaml } from "yaml";
import type { Clock } from "#shared/clock/clock.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { AdmissionWebhooks } from "./admission-webhooks.ts";
import { ApiError } from "./api-error.ts";
import { authorize, refusalText, type Attributes } from "./authorizer.ts";
import type { Authenticator } from "./authenticator.ts";
import { decodeBody, negotiate, parseBody, type Negotiated } from "./content.ts";
import {
  aggregatedContentType,
  aggregatedDiscovery,
  apiGroup,
  apiGroupList,
  apiResourceList,
  apiVersions,
  isAggregated,
} from "./discovery.ts";
import type { KubeObject, MemoryObjectStore } from "./object-store.ts";
import { openApiIndex, openApiV2, openApiV3 } from "./openapi.ts";
import { openApiV2Protobuf, openApiV2ProtobufTypes } from "./openapi-v2-protobuf.ts";
import { bindPod, chooseContainer, evictPod, runningPod } from "./pod-actions.ts";
import type { PodRuntime } from "./pod-runtime.ts";
import { listPage, present, readCount, readFlag, readSelectors, storageOf } from "./read-objects.ts";
import { readRequest, readUrl, type ResourceRequest } from "./request-info.ts";
import type { ResourceRegistry } from "./resource-registry.ts";
import { type ResourceInfo, type ResourceVersion } from "./resources.ts";
import { answerReview } from "./reviews.ts";
import { toScale } from "./scale.ts";
import { isObject, type JsonObject } from "./schema.ts";
import { serverVersion } from "./server-version.ts";
import { issuer, requestToken, type ServiceAccountTokens, type User } from "./service-account-tokens.ts";
import { toTable } from "./tables.ts";
import { streamWatch } from "./watch-stream.ts";
import {
  createObject,
  deleteObject,
  patchObject,
  patchTypes,
  replaceObject,
  type PatchType,
  type WriteRequest,
  type WriteResult,
} from "./write-objects.ts";

/** Watches open at once. A small cluster with a mesh has about a hundred. */
const maxWatches = 4096;

export interface HandlerDependencies {
  readonly store: MemoryObjectStore;
  readonly registry: ResourceRegistry;
  readonly runtime: PodRuntime;
  readonly authenticator: Authenticator;
  readonly tokens: ServiceAccountTokens;
  readonly webhooks: AdmissionWebhooks;
  readonly clock: Clock;
  readonly log: Logger;
}

/** A request that is known to be allowed, for a resource that exists. */
interface Call {
  readonly request: ResourceRequest;
  readonly info: ResourceInfo;
  readonly version: ResourceVersion;
  readonly query: URLSearchParams;
  readonly user: User;
  readonly http: FastifyRequest;
  readonly reply: FastifyReply;
  readonly wanted: Negotiated;
}

export class RequestHandler {
  readonly #deps: HandlerDependencies;
  readonly #watches = new Set<() => void>();

  constructor(dependencies: HandlerDependencies) {
    this.#deps = dependencies;
  }

  /** Ends every watch; their clients connect again. */
  close(): void {
    for (const stop of this.#watches) stop();
  }

  async handle(http: FastifyRequest, reply: FastifyReply): Promise<void> {
    try {
      await this.#dispatch(http, reply);
    } catch (error) {
      this.#refuse(error, http, reply);
    }
  }

  #refuse(error: unknown, http: FastifyRequest, reply: FastifyReply): void {
    const refusal = error instanceof ApiError ? error : new ApiError("InternalError", "Internal error occurred");
    if (!(error instanceof ApiError))
      this.#deps.log.error({ err: error, method: http.method, url: http.url }, "request failed");
    if (reply.raw.headersSent) {
      reply.raw.destroy();
      return;
    }
    sendWarnings(reply, refusal.warnings);
    sendJson(reply, refusal.code, refusal.toStatus());
  }

  async #dispatch(http: FastifyRequest, reply: FastifyReply): Promise<void> {
    const { path: pathname, query } = readUrl(http.raw.url);
    const user = this.#deps.authenticator.authenticate(http.headers);
    const request = readRequest(http.method, pathname, query);
    this.#check(
      user,
      request.kind === "other" ? { kind: "other", verb: request.verb, path: pathname } : attributesOf(request, query),
    );
    if (request.kind === "other") {
      this.#answerOther(http, reply, pathname);
      return;
    }
    const { info, version } = this.#resolve(request);
    const wanted =
      request.subresource === "log"
        ? ({ form: "json", as: "object", version: "" } as const)
        : negotiate(http.headers.accept);
    const call: Call = { request, info, version, query, user, http, reply, wanted };
    const { subresource } = request;
    if (subresource !== undefined && subresource !== "status" && subresource !== "scale") await this.#subresource(call);
    else await this.#plain(call);
  }

  #check(user: User, asked: Attributes): void {
    const { allowed } = authorize(user, asked, this.#deps.store);
    if (allowed) return;
    if (asked.kind === "other") throw new ApiError("Forbidden", refusalText(user, asked));
    throw new ApiError("Forbidden", refusalText(user, asked), {
      ...(asked.name === undefined ? {} : { name: asked.name }),
      ...(asked.group === "" ? {} : { group: asked.group }),
      kind: asked.resource,
    });
  }

  #resolve({ group, resource, version: versionName, namespace, name, verb, subresource }: ResourceRequest): {
    info: ResourceInfo;
    version: ResourceVersion;
  } {
    const info = this.#deps.registry.find({ group, resource });
    const version = info?.versions.find((one) => one.name === versionName);
    const fits = info !== undefined && (info.namespaced || namespace === undefined);
    if (version === undefined || !fits) throw unknownResource();
    if (
      info.namespaced &&
      namespace === undefined &&
      (name !== undefined || verb === "create" || verb === "deletecollection")
    ) {
      throw unknownResource();
    }
    if (!info.verbs.includes(verb) && subresource === undefined) {
      throw new ApiError("MethodNotAllowed", "the server does not allow this method on the requested resource", {
        kind: resource,
      });
    }
    const isKnownPart =
      subresource === undefined ||
      (subresource === "status" && version.hasStatus) ||
      (subresource === "scale" && version.scale !== undefined) ||
      Object.hasOwn(info.subresources, subresource);
    if (!isKnownPart) throw unknownResource();
    return { info, version };
  }

  #answerOther(http: FastifyRequest, reply: FastifyReply, path: string): void {
    if (http.method !== "GET" && http.method !== "HEAD") throw unknownResource();
    const { registry, tokens } = this.#deps;
    const clean = path.length > 1 ? path.replace(/\/$/u, "") : path;
    if (clean === "/api" || clean === "/apis") {
      const wanted = negotiate(http.headers.accept);
      if (isAggregated(wanted)) {
        void reply.header("content-type", aggregatedContentType(wanted.version)).header("vary", "Accept");
        void reply.send(JSON.stringify(aggregatedDiscovery(registry, clean, wanted.version)));
        return;
      }
      sendJson(reply, 200, clean === "/api" ? apiVersions() : apiGroupList(registry));
      return;
    }
    if (["/healthz", "/livez", "/readyz"].includes(clean) || /^\/(?:livez|readyz)\/[\w-]+$/u.test(clean)) {
      void reply.type("text/plain; charset=utf-8").send("ok");
      return;
    }
    const accept = http.headers.accept ?? "";
    if (clean === "/openapi/v2" && openApiV2ProtobufTypes.some((type) => accept.includes(type))) {
      void reply.type(openApiV2ProtobufTypes[1] ?? "").send(openApiV2Protobuf(registry));
      return;
    }
    const found = this.#document(clean, tokens);
    if (found === undefined) throw unknownResource();
    sendJson(reply, 200, found);
  }

  #document(path: string, tokens: ServiceAccountTokens): JsonObject | undefined {
    const { registry } = this.#deps;
    switch (path) {
      case "/":
        return {
          paths: [
            "/api",
            "/api/v1",
            "/apis",
            "/healthz",
            "/livez",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
          ],
        };
      case "/version":
        return serverVersion;
      case "/openapi/v2":
        return openApiV2(registry);
      case "/openapi/v3":
        return openApiIndex(registry);
      case "/openid/v1/jwks":
        return tokens.jwks;
      case "/.well-known/openid-configuration":
        return {
          issuer,
          jwks_uri: `${issuer}/openid/v1/jwks`,
          response_types_supported: ["id_token"],
          subject_types_supported: ["public"],
          id_token_signing_alg_values_supported: ["ES256"],
        };
      default:
        return this.#groupDocument(path.split("/").slice(1));
    }
  }

  #groupDocument(segments: readonly string[]): JsonObject | undefined {
    const { registry } = this.#deps;
    const [first, second, third, ...rest] = segments;
    if (first === "api" && second !== undefined && third === undefined) return apiResourceList(registry, "", second);
    if (first === "apis" && second !== undefined && rest.length === 0) {
      return third === undefined ? apiGroup(registry, second) : apiResourceList(registry, second, third);
    }
    if (first !== "openapi" || second !== "v3") return undefined;
    const [a, b] = rest;
    if (third === "api" && a !== undefined && b === undefined) return openApiV3(registry, "", a);
    return third === "apis" && a !== undefined && b !== undefined ? openApiV3(registry, a, b) : undefined;
  }

  async #plain(call: Call): Promise<void> {
    switch (call.request.verb) {
      case "get":
        this.#get(call);
        break;
      case "list":
        this.#list(call);
        break;
      case "watch":
        this.#watch(call);
        break;
      case "create":
        await this.#create(call);
        break;
      case "update":
        this.#send(call, await replaceObject(writeRequest(call), readBody(call.http), this.#deps));
        break;
      case "patch":
        this.#send(
          call,
          await patchObject(writeRequest(call), patchTypeOf(call.http), readBody(call.http), this.#deps),
        );
        break;
      case "delete":
        sendJson(call.reply, 200, await deleteObject(writeRequest(call), readOptionalBody(call.http), this.#deps));
        break;
      case "deletecollection":
        await this.#deleteCollection(call);
        break;
    }
  }

  #get(call: Call): void {
    const { info, version, request, reply } = call;
    const stored = this.#find(call);
    const shown = present(stored, info, version);
    if (request.subresource === "scale" && version.scale !== undefined)
      sendJson(reply, 200, toScale(shown, version.scale));
    else this.#sendObject(call, 200, shown);
  }

  #find({ info, request }: Call): KubeObject {
    const { name = "", namespace } = request;
    const found = this.#deps.store.get(storageOf(info), info.namespaced ? namespace : undefined, name);
    if (found !== undefined) return found;
    throw new ApiError(
      "NotFound",
      `${info.group === "" ? info.resource : `${info.resource}.${info.group}`} "${name}" not found`,
      {
        name,
        ...(info.group === "" ? {} : { group: info.group }),
        kind: info.resource,
      },
    );
  }

  #list(call: Call): void {
    const { info, version, request, query, reply, wanted } = call;
    const page = listPage(this.#deps.store, info, request.namespace, query, readSelectors(query, info, version));
    const metadata = {
      resourceVersion: page.resourceVersion,
      ...(page.continue === undefined ? {} : { continue: page.continue, remainingItemCount: page.remaining }),
    };
    const items = page.items.map((object) => present(object, info, version));
    if (wanted.as === "Table") {
      sendForm(reply, 200, this.#table(items, call, metadata), wanted);
    } else if (wanted.as === "PartialObjectMetadataList") {
      const list = {
        kind: "PartialObjectMetadataList",
        apiVersion: "meta.k8s.io/v1",
        metadata,
        items: items.map(metadataOnly),
      };
      sendForm(reply, 200, list, wanted);
    } else {
      const apiVersion = info.group === "" ? version.name : `${info.group}/${version.name}`;
      sendForm(reply, 200, { kind: info.listKind, apiVersion, metadata, items }, wanted);
    }
  }

  #table(items: readonly KubeObject[], { info, version, query }: Call, list?: JsonObject): JsonObject {
    return toTable(items, info, {
      nowMs: this.#deps.clock.now(),
      include: query.get("includeObject") ?? "Metadata",
      ...(version.columns === undefined ? {} : { columns: version.columns }),
      ...(list === undefined ? {} : { list }),
    });
  }

  #watch(call: Call): void {
    const { info, version, request, query, reply, wanted } = call;
    if (this.#watches.size >= maxWatches)
      throw new ApiError("TooManyRequests", `more than ${maxWatches} watches are open`);
    const matches = readSelectors(query, info, version, request.name);
    const timeoutSeconds = readCount(query, "timeoutSeconds");
    const resourceVersion = query.get("resourceVersion");
    const apiVersion = info.group === "" ? version.name : `${info.group}/${version.name}`;
    const stop = streamWatch(
      this.#deps.store,
      info,
      {
        ...(request.namespace === undefined ? {} : { namespace: request.namespace }),
        matches,
        ...(resourceVersion === null ? {} : { resourceVersion }),
        ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
        allowBookmarks: readFlag(query, "allowWatchBookmarks"),
        sendInitialEvents: readFlag(query, "sendInitialEvents"),
        render: (object) => this.#render(present(object, info, version), call),
        bookmark: (metadata) =>
          wanted.as === "Table"
            ? { ...this.#table([], call, metadata), metadata }
            : wanted.as.startsWith("Partial")
              ? { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata }
              : { kind: info.kind, apiVersion, metadata },
      },
      reply.raw,
      this.#deps.clock,
    );
    void reply.hijack();
    this.#watches.add(stop);
    reply.raw.on("close", () => this.#watches.delete(stop));
  }

  #render(object: KubeObject, call: Call): unknown {
    if (call.wanted.as === "Table") return this.#table([object], call);
    return call.wanted.as.startsWith("Partial") ? metadataOnly(object) : object;
  }

  async #create(call: Call): Promise<void> {
    const { info, version, request, http, user, reply } = call;
    const body = readBody(http);
    if (!info.verbs.includes("get")) {
      const { object } = decodeBody(body, info, version, "Ignore");
      const answer = answerReview(info.resource, object, user, request.namespace, this.#deps);
      if (answer !== undefined) {
        sendJson(reply, 201, answer);
        return;
      }
    }
    if (request.name !== undefined)
      throw new ApiError("MethodNotAllowed", "the server does not allow this method on the requested resource");
    this.#send(call, await createObject(writeRequest(call), body, this.#deps));
  }

  async #deleteCollection(call: Call): Promise<void> {
    const { info, version, request, query, http, reply } = call;
    const page = listPage(this.#deps.store, info, request.namespace, query, readSelectors(query, info, version));
    const body = readOptionalBody(http);
    for (const { metadata } of page.items) {
      await deleteObject(
        { ...writeRequest(call), namespace: metadata.namespace, name: metadata.name },
        body,
        this.#deps,
      );
    }
    const apiVersion = info.group === "" ? version.name : `${info.group}/${version.name}`;
    const items = page.items.map((object) => present(object, info, version));
    sendJson(reply, 200, {
      kind: info.listKind,
      apiVersion,
      metadata: { resourceVersion: String(this.#deps.store.resourceVersion) },
      items,
    });
  }

  async #subresource(call: Call): Promise<void> {
    const { info, request, http, reply, query } = call;
    const { store, tokens, clock } = this.#deps;
    const stored = this.#find(call);
    switch (`${info.resource}/${request.subresource ?? ""}`) {
      case "pods/log":
        await this.#logs(call);
        break;
      case "pods/binding":
        sendJson(reply, 201, bindPod(stored, asObject(readBody(http)), store, clock));
        break;
      case "pods/eviction":
        sendJson(reply, 201, evictPod(stored, asObject(readBody(http)), query, store));
        break;
      case "serviceaccounts/token":
        sendJson(reply, 201, requestToken(stored, asObject(readBody(http)), { tokens, store }));
        break;
      case "pods/exec":
      case "pods/attach":
      case "pods/portforward":
        throw new ApiError("BadRequest", "Upgrade request required");
      default:
        await this.#plain(call); // ephemeralcontainers, finalize: ordinary reads and writes of the object
    }
  }

  async #logs({ request, query, reply }: Call): Promise<void> {
    const pod = runningPod(this.#deps.store, request.namespace, request.name);
    const container = chooseContainer(pod, query.get("container"));
    const gone = new AbortController();
    reply.raw.on("close", () => gone.abort());
    const tailLines = readCount(query, "tailLines");
    const limitBytes = readCount(query, "limitBytes");
    const sinceMs = readSince(query, this.#deps.clock);
    const chunks = this.#deps.runtime.logs(pod, container, {
      follow: readFlag(query, "follow"),
      previous: readFlag(query, "previous"),
      timestamps: readFlag(query, "timestamps"),
      ...(tailLines === undefined ? {} : { tailLines }),
      ...(limitBytes === undefined ? {} : { limitBytes }),
      ...(sinceMs === undefined ? {} : { sinceMs }),
      signal: gone.signal,
    });
    // The first piece decides between an answer and a refusal, so it is awaited before the head is written.
    const iterator = chunks[Symbol.asyncIterator]();
    const pending = iterator.next();
    const first = readFlag(query, "follow") ? undefined : await pending;
    void reply.hijack();
    reply.raw.writeHead(200, { "content-type": "text/plain" });
    reply.raw.flushHeaders();
    try {
      await pipeline(restOf(iterator, first ?? pending), new PassThrough(), reply.raw);
    } catch (error) {
      if (!gone.signal.aborted) throw error; // a client that goes away is no failure
    }
  }

  #send(call: Call, { code, object, warnings }: WriteResult): void {
    sendWarnings(call.reply, warnings);
    this.#sendObject(call, code, object);
  }

  #sendObject(call: Call, code: number, object: KubeObject): void {
    const { wanted, reply } = call;
    if (wanted.as === "Table") sendForm(reply, code, this.#table([object], call), wanted);
    else if (wanted.as === "PartialObjectMetadata") sendForm(reply, code, metadataOnly(object), wanted);
    else sendForm(reply, code, object, wanted);
  }
}

/** In a header, whose bytes Node takes as letters of Latin-1. */
function sendWarnings(reply: FastifyReply, warnings: readonly string[]): void {
  if (warnings.length === 0) return;
  const values = warnings.map((warning) => {
    const text = warning.replaceAll(/\p{Cc}/gu, " ").replaceAll(/["\\]/gu, String.raw`\$&`);
    return Buffer.from(`299 - "${text}"`).toString("latin1");
  });
  void reply.header("warning", values);
}

async function* restOf(
  iterator: AsyncIterator<Buffer>,
  first: IteratorResult<Buffer> | Promise<IteratorResult<Buffer>>,
): AsyncGenerator<Buffer> {
  try {
    for (let next = await first; next.done !== true; next = await iterator.next()) yield next.value;
  } finally {
    await iterator.return?.();
  }
}

function readSince(query: URLSearchParams, clock: Clock): number | undefined {
  const seconds = readCount(query, "sinceSeconds");
  if (seconds !== undefined) return clock.now() - seconds * 1000;
  const time = query.get("sinceTime");
  if (time === null || time === "") return undefined;
  const at = Date.parse(time);
  if (Number.isNaN(at)) throw new ApiError("BadRequest", `sinceTime: "${time}" is not a time in RFC 3339`);
  return at;
}

function unknownResource(): ApiError {
  return new ApiError("NotFound", "the server could not find the requested resource");
}

/** Who asks for the list of one name asks for that object: rights can be given to it. */
const namedBy = (query: URLSearchParams): string | undefined =>
  /^metadata\.name=([^,=!]+)$/u.exec(query.get("fieldSelector") ?? "")?.[1];

function attributesOf(request: ResourceRequest, query: URLSearchParams): Attributes {
  const { verb, group, resource, subresource, namespace } = request;
  const isMany = verb === "list" || verb === "watch" || verb === "deletecollection";
  const name = request.name ?? (isMany ? namedBy(query) : undefined);
  return {
    kind: "resource",
    verb,
    group,
    resource,
    ...(subresource === undefined ? {} : { subresource }),
    ...(namespace === undefined ? {} : { namespace }),
    ...(name === undefined ? {} : { name }),
  };
}

function metadataOnly({ metadata }: KubeObject): JsonObject {
  return { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata };
}

function writeRequest({ info, version, request, query, http, user }: Call): WriteRequest {
  const { namespace, name, subresource } = request;
  return { info, version, namespace, name, subresource, query, user, userAgent: http.headers["user-agent"] ?? "" };
}

function readBody(http: FastifyRequest): unknown {
  const body = http.body;
  const type = http.headers["content-type"]?.split(";")[0]?.trim();
  if (!Buffer.isBuffer(body) || body.length === 0) throw new ApiError("BadRequest", "a body is required");
  return parseBody(body, type);
}

function readOptionalBody(http: FastifyRequest): unknown {
  return Buffer.isBuffer(http.body) && http.body.length > 0 ? readBody(http) : undefined;
}

function asObject(body: unknown): JsonObject {
  if (!isObject(body)) throw new ApiError("BadRequest", "the body of the request must be an object");
  return body;
}

function patchTypeOf(http: FastifyRequest): PatchType {
  const type = http.headers["content-type"]?.split(";")[0]?.trim() ?? "";
  if (Object.hasOwn(patchTypes, type)) return patchTypes[type as keyof typeof patchTypes];
  throw new ApiError(
    "UnsupportedMediaType",
    `the body of the request was in an unknown format - accepted media types include: ${Object.keys(patchTypes).join(", ")}`,
  );
}

function sendJson(reply: FastifyReply, code: number, body: unknown): void {
  void reply
    .code(code)
    .header("content-type", "application/json")
    .send(inBytes(JSON.stringify(body)));
}

function sendForm(reply: FastifyReply, code: number, body: unknown, { form }: Negotiated): void {
  if (form === "json") sendJson(reply, code, body);
  else
    void reply
      .code(code)
      .header("content-type", "application/yaml")
      .send(inBytes(toYaml(body)));
}

/** Node writes a head together with a text in the text's encoding, and would spoil warnings that are no ASCII. */
const inBytes = (text: string): Buffer => Buffer.from(text, "utf8");
