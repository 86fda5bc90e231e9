import { createServer, type Server } from "node:https";
import type { AddressInfo, Server as NetServer } from "node:net";
import Fastify from "fastify";
import type { Clock } from "#shared/clock/clock.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { AdmissionWebhooks } from "./admission-webhooks.ts";
import { Authenticator } from "./authenticator.ts";
import { cleanUpCrds, companionsOf, createFirstObjects, refurnishNamespaces } from "./bootstrap.ts";
import { makeServingCertificates, type ServingCertificates } from "./certificates.ts";
import type { MemoryObjectStore } from "./object-store.ts";
import type { PodRuntime } from "./pod-runtime.ts";
import { PodStreams } from "./pod-streams.ts";
import { RequestHandler } from "./request-handler.ts";
import { ResourceRegistry } from "./resource-registry.ts";
import { ServiceAccountTokens } from "./service-account-tokens.ts";
import type { ServiceAllocator } from "./service-allocator.ts";
import { strategiesFor } from "./strategies.ts";

/** Largest body: 3 MiB, as Kubernetes. */
const maxBodyBytes = 3 * 1024 * 1024;
/** Idle connections stay: clients keep pools and dislike surprises. */
const keepAliveMs = 10 * 60_000;
/** A client has this long to send its headers. */
const headersTimeoutMs = 30_000;

export interface ApiServerOptions {
  /** Empty: the server installs its rules and puts the first objects there. */
  readonly store: MemoryObjectStore;
  readonly runtime: PodRuntime;
  readonly allocator: ServiceAllocator;
  readonly clock: Clock;
  readonly log: Logger;
  /** Further names and addresses that clients reach the server by. */
  readonly serverNames?: readonly string[];
  /** The port that pods reach the server at, behind the service `kubernetes`. */
  readonly podPort?: number;
}

export type ListenAddress =
  | { readonly host: string; readonly port: number }
  | { readonly path: string }
  /** A socket that listens already, made elsewhere: in another network namespace, say. */
  | { readonly handle: NetServer };

export interface ApiServer {
  /** Serves TLS at a TCP address, a unix socket or an open listener; may be called for several. Answers the TCP port. */
  listen(address: ListenAddress): Promise<number | undefined>;
  readonly adminToken: string;
  readonly caPem: string;
  readonly tokens: ServiceAccountTokens;
  readonly registry: ResourceRegistry;
  /** The cluster address of the service `kubernetes`. */
  readonly serviceAddress: string;
  /** A kubeconfig for the administrator. */
  kubeconfig(serverUrl: string): string;
  close(): Promise<void>;
}

const ownNames = [
  "kubernetes",
  "kubernetes.default",
  "kubernetes.default.svc",
  "kubernetes.default.svc.cluster.local",
  "localhost",
  "127.0.0.1",
  "::1",
];

/** A Kubernetes-shaped API server over an object store. */
export async function createApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const { store, allocator, clock, log, runtime } = options;
  const registry = new ResourceRegistry(store);
  const tokens = new ServiceAccountTokens({ clock, store });
  const authenticator = new Authenticator(tokens);
  // The certificate names the service's address, whose choice needs the rules, whose companions need the CA.
  let caPem = "";
  const companions = (...[id, object]: Parameters<ReturnType<typeof companionsOf>>) =>
    companionsOf(store, tokens, caPem)(id, object);
  const reserved = allocator.families.flatMap((family) => allocator.allocateAddress(family) ?? []).slice(0, 1);
  const certificates = await makeServingCertificates(
    [...ownNames, ...reserved, ...(options.serverNames ?? [])],
    clock.now(),
  );
  ({ caPem } = certificates);
  for (const address of reserved) allocator.releaseAddress(address);
  store.installStrategies(strategiesFor({ store, registry, allocator, created: companions }));
  const { serviceAddress } = createFirstObjects(store, options.podPort ?? 6443, reserved[0]);
  const stopCleaning = cleanUpCrds(store, registry);
  const stopRefurnishing = refurnishNamespaces(store, caPem);
  const webhooks = new AdmissionWebhooks({ store, log });
  const dependencies = { store, registry, runtime, authenticator, tokens, webhooks, clock, log };
  const handler = new RequestHandler(dependencies);
  const streams = new PodStreams(dependencies);
  const app = Fastify({ bodyLimit: maxBodyBytes, routerOptions: { maxParamLength: 4096 } });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  app.setErrorHandler((error, _request, reply) => {
    const tooLarge = (error as { statusCode?: number }).statusCode === 413;
    const code = tooLarge ? 413 : 400;
    const reason = tooLarge ? "RequestEntityTooLarge" : "BadRequest";
    const message = tooLarge ? `Request entity too large: limit is ${maxBodyBytes}` : (error as Error).message;
    return reply
      .code(code)
      .send({ kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code });
  });
  app.all("/*", async (request, reply) => {
    await handler.handle(request, reply);
    return reply;
  });
  await app.ready();
  const servers = new Set<Server>();
  return {
    listen: async (address) => {
      const server = openServer(certificates);
      server.on("request", (request, response) => app.routing(request, response));
      server.on("upgrade", (request, socket, head) => streams.onUpgrade(request, socket, head));
      servers.add(server);
      return listenOn(server, address);
    },
    adminToken: authenticator.adminToken,
    caPem,
    tokens,
    registry,
    serviceAddress,
    kubeconfig: (serverUrl) => writeKubeconfig(serverUrl, caPem, authenticator.adminToken),
    close: async () => {
      stopCleaning();
      stopRefurnishing();
      handler.close();
      streams.close();
      await Promise.all([...servers].map(closeServer));
      await app.close();
    },
  };
}

function openServer({ certificatePem, keyPem }: ServingCertificates): Server {
  const server = createServer({
    cert: certificatePem,
    key: keyPem,
    minVersion: "TLSv1.2",
    ALPNProtocols: ["http/1.1"],
  });
  server.keepAliveTimeout = keepAliveMs;
  server.headersTimeout = headersTimeoutMs;
  server.requestTimeout = headersTimeoutMs * 2;
  return server;
}

async function listenOn(server: Server, address: ListenAddress): Promise<number | undefined> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.once("listening", () => {
      server.off("error", reject);
      resolve();
    });
    if ("handle" in address) server.listen(address.handle);
    else server.listen(address);
  });
  const bound: AddressInfo | string | null = server.address();
  return typeof bound === "object" && bound !== null ? bound.port : undefined;
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

function writeKubeconfig(server: string, caPem: string, token: string): string {
  const name = "ambit-sandbox";
  return `${JSON.stringify(
    {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name, cluster: { server, "certificate-authority-data": Buffer.from(caPem).toString("base64") } }],
      users: [{ name, user: { token } }],
      contexts: [{ name, context: { cluster: name, user: name, namespace: "default" } }],
      "current-context": name,
    },
    undefined,
    2,
  )}\n`;
}
