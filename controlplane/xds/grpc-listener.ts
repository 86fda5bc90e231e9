import { createServer as createPlainServer, type Server as PlainServer, type Socket } from "node:net";
import { createServer as createTlsServer, type SecureContextOptions, type Server as TlsServer } from "node:tls";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { refusedClientCertificate } from "#controlplane/ca/caller.ts";

export interface ListenAddress {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
}

/** A gRPC server on a port. Closing stops accepting, lets calls finish for a moment, then ends them. */
export interface GrpcListener extends AsyncDisposable {
  readonly port: number;
}

export interface SecureGrpcListener extends GrpcListener {
  /** For handshakes from now on. */
  setCertificate(certificate: ServerCertificate): void;
}

export interface ServerCertificate {
  readonly chainPem: string;
  readonly keyPem: string;
  /** Against which client certificates are verified. */
  readonly rootsPem: string;
}

export interface ListenerOptions {
  readonly address: ListenAddress;
  /** Adds the services. */
  readonly addServices: (server: Server) => void;
  readonly log: Logger;
  /** Connections are replaced near this age, idle ones sooner. */
  readonly maxConnectionAgeMs: number;
}

/** A bound against floods; a cluster has one connection per node and waypoint, and one more for certificates. */
const maxConnections = 10_000;
/**
 * A client that comes back names everything it holds, which is 100 bytes for each pod and service: gRPC's own limit of
 * 4 MiB would shut it out of a cluster of 40 000 for good. Nothing is read before the caller is admitted.
 */
const longestRequestBytes = 32 * 1024 * 1024;
const handshakeTimeoutMs = 10_000;
/** How long calls may take to finish when the listener closes. */
const closeGraceMs = 5_000;

/** 15010: plain text. */
export async function listenPlain(options: ListenerOptions): Promise<GrpcListener> {
  const { inject, close } = openGrpc(options);
  const listener = createPlainServer({ noDelay: true }, inject);
  const port = await listen(listener, options.address);
  return { port, [Symbol.asyncDispose]: () => close(listener) };
}

/**
 * 15012: TLS 1.2 or newer. A client certificate is optional, but one that does not verify ends the connection: to go on
 * as if there were none would hide the mistake. The TLS server is ours and hands finished handshakes to gRPC, since
 * gRPC's own knows neither of these rules nor a minimum version.
 */
export async function listenSecure(
  options: ListenerOptions,
  certificate: ServerCertificate,
): Promise<SecureGrpcListener> {
  const { log } = options;
  const { inject, close } = openGrpc(options);
  const listener = createTlsServer({
    ...contextOf(certificate),
    ALPNProtocols: ["h2"],
    requestCert: true,
    rejectUnauthorized: false,
    handshakeTimeout: handshakeTimeoutMs,
  });
  listener.on("secureConnection", (socket) => {
    const refused = refusedClientCertificate(socket);
    if (refused === undefined) {
      inject(socket);
      return;
    }
    log.warn({ peer: peerOf(socket), error: refused }, "client certificate refused");
    socket.destroy();
  });
  listener.on("tlsClientError", (error, socket) => {
    log.warn({ peer: peerOf(socket), error: explain(error) }, "TLS handshake failed");
    socket.destroy();
  });
  const port = await listen(listener, options.address);
  return {
    port,
    setCertificate: (next) => listener.setSecureContext(contextOf(next)),
    [Symbol.asyncDispose]: () => close(listener),
  };
}

function contextOf({ chainPem, keyPem, rootsPem }: ServerCertificate): SecureContextOptions {
  return { cert: chainPem, key: keyPem, ca: rootsPem, minVersion: "TLSv1.2" };
}

function openGrpc({ addServices, log, maxConnectionAgeMs }: ListenerOptions) {
  const server = new Server({
    "grpc.max_receive_message_length": longestRequestBytes,
    "grpc.max_send_message_length": -1,
    "grpc.max_concurrent_streams": 1_000,
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    // Discovery streams end by themselves before this; gRPC spreads it by a tenth.
    "grpc.max_connection_age_ms": Math.round(maxConnectionAgeMs * 1.25),
    "grpc.max_connection_age_grace_ms": 30_000,
    "grpc.max_connection_idle_ms": 5 * 60_000,
  });
  addServices(server);
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const inject = (socket: Socket) => {
    // gRPC listens to the session, not to a socket that breaks before there is one.
    socket.on("error", (error) => log.debug({ peer: peerOf(socket), error: explain(error) }, "connection broke"));
    injector.injectConnection(socket);
  };
  const close = async (listener: PlainServer | TlsServer) => {
    listener.close();
    injector.drain(closeGraceMs);
    const force = setTimeout(() => server.forceShutdown(), closeGraceMs);
    await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
    clearTimeout(force);
    injector.destroy();
  };
  return { inject, close };
}

async function listen(listener: PlainServer | TlsServer, { host, port }: ListenAddress): Promise<number> {
  listener.maxConnections = maxConnections;
  await new Promise<void>((resolve, reject) => {
    listener.once("error", reject);
    listener.listen({ host, port }, () => {
      listener.off("error", reject);
      resolve();
    });
  });
  const address = listener.address();
  return typeof address === "object" && address !== null ? address.port : port;
}

const peerOf = (socket: Socket): string => `${socket.remoteAddress ?? "unknown"}:${socket.remotePort ?? 0}`;
