import { toJson } from "@bufbuild/protobuf";
import { fastify, type FastifyInstance } from "fastify";
import { isLoopback, tryIp } from "#shared/net/ip.ts";
import { AuthorizationSchema } from "#shared/proto/gen/security/authorization_pb.js";
import { AddressSchema } from "#shared/proto/gen/workload/workload_pb.js";
import type { ClientStatus } from "#shared/xds/served-stream.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import type { AddressSource } from "#controlplane/xds/address-source.ts";
import type { AuthorizationSource } from "#controlplane/xds/authorization-source.ts";
import type { PublisherStatus } from "#controlplane/xds/publisher.ts";
import type { ListenAddress } from "#controlplane/xds/grpc-listener.ts";

/** What the dumps show; read when somebody asks. */
export interface DebugFacts {
  /** Not ready, with what is waited for, or ready. */
  pending(): readonly string[];
  readonly addresses: AddressSource;
  readonly authorizations: AuthorizationSource;
  clients(): readonly ClientStatus[];
  publisher(): PublisherStatus;
  sources(): SourceFacts;
  authority(): AuthorityFacts | undefined;
}

export interface SourceFacts {
  readonly source: string;
  readonly objects: Readonly<Record<string, number>>;
  /** Objects that are not in force as last written, and why. */
  readonly errors: readonly { readonly object: string; readonly lines: readonly string[] }[];
}

export interface AuthorityFacts {
  readonly kind: string;
  readonly notAfter: string;
  readonly roots: string;
}

export interface HttpListener extends AsyncDisposable {
  readonly port: number;
}

/**
 * 8080: readiness for anybody, `/debug` for this machine only: it names every workload and policy. From elsewhere use
 * `kubectl port-forward` or `kubectl exec`.
 */
export async function openDebugServer({ host, port }: ListenAddress, facts: DebugFacts): Promise<HttpListener> {
  const server = fastify({
    bodyLimit: 1_024,
    requestTimeout: 10_000,
    http: { headersTimeout: 5_000, connectionsCheckingInterval: 1_000, maxHeaderSize: 8_192 },
  });
  server.server.maxConnections = 2_048;
  server.get("/ready", async (_request, reply) => {
    const pending = facts.pending();
    if (pending.length === 0) return reply.type("text/plain").send("ready\n");
    return reply
      .code(503)
      .type("text/plain")
      .send(`not ready: waiting for ${pending.join(", ")}\n`);
  });
  await server.register(async (debug) => addDumps(debug, facts), { prefix: "/debug" });
  await server.listen({ host, port });
  const address = server.server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    [Symbol.asyncDispose]: async () => {
      const closed = server.close();
      server.server.closeIdleConnections();
      await closed;
    },
  };
}

function addDumps(debug: FastifyInstance, facts: DebugFacts): void {
  const dumps: Readonly<Record<string, { readonly help: string; readonly dump: () => unknown }>> = {
    addresses: {
      help: "workloads and services as node proxies are sent them",
      dump: () => messages(facts.addresses, (address) => toJson(AddressSchema, address)),
    },
    authorizations: {
      help: "policies as node proxies are sent them",
      dump: () => messages(facts.authorizations, (policy) => toJson(AuthorizationSchema, policy)),
    },
    connections: { help: "connected clients and how each stands, type by type", dump: () => facts.clients() },
    syncz: { help: "for each client and type: sent, accepted, refused", dump: () => syncReport(facts.clients()) },
    configz: {
      help: "what is read, what is not in force and why, and the last translation",
      dump: () => ({ ...facts.sources(), translation: facts.publisher() }),
    },
    ca: { help: "the certificate authority and its roots", dump: () => facts.authority() ?? {} },
  };
  debug.addHook("onRequest", async (request, reply) => {
    const peer = tryIp(request.socket.remoteAddress ?? "");
    if (peer !== undefined && isLoopback(peer)) return undefined;
    return reply
      .code(403)
      .type("text/plain")
      .send("only from this machine: use kubectl port-forward or kubectl exec\n");
  });
  debug.get("/", async (_request, reply) => {
    const lines = Object.entries(dumps).map(([name, { help }]) => `/debug/${name}\t${help}`);
    return reply.type("text/plain").send(`${lines.join("\n")}\n`);
  });
  for (const [name, { dump }] of Object.entries(dumps)) {
    debug.get(`/${name}`, async (_request, reply) =>
      reply.type("application/json").send(`${JSON.stringify(dump(), undefined, 2)}\n`),
    );
  }
}

interface Messages<T> {
  readonly messages: ReadonlyMap<string, T>;
  get(name: string): { readonly version: string } | undefined;
}

function messages<T>(source: Messages<T>, render: (message: T) => unknown): readonly unknown[] {
  return [...source.messages].map(([name, message]) => ({
    name,
    version: source.get(name)?.version,
    resource: render(message),
  }));
}

/** The shape in which Istio's control plane answers, with our own state beside it. */
export const syncReport = (clients: readonly ClientStatus[]): readonly unknown[] => clients.map(syncOf);

function syncOf(client: ClientStatus) {
  const type = (typeUrl: string) => client.types.find((each) => each.typeUrl === typeUrl);
  const [address, authorization] = [type(typeUrls.address), type(typeUrls.authorization)];
  return {
    proxy: client.node.podName,
    proxy_type: client.node.type,
    cluster_id: client.node.metadata["CLUSTER_ID"],
    istio_version: client.node.metadata["ISTIO_VERSION"],
    address_sent: address?.lastSentNonce,
    address_acked: address?.lastAckedNonce,
    address_state: address?.state ?? "NOT SENT",
    authorization_sent: authorization?.lastSentNonce,
    authorization_acked: authorization?.lastAckedNonce,
    authorization_state: authorization?.state ?? "NOT SENT",
    errors: client.types.flatMap(({ typeUrl, lastError }) =>
      lastError === undefined ? [] : [{ typeUrl, ...lastError }],
    ),
  };
}
