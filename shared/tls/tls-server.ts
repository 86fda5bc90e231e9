import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import { uriNamesOf } from "./certificate-names.ts";
import { handshakeDeadlineMs, hboneProtocols, secureContextOptions } from "./tls-options.ts";
import { verifyClient } from "./verify-peer.ts";

/** What becomes of one handshake: exactly one of the two is called. */
export interface Handshake {
  /** The client's chain and names were checked. */
  secured(socket: TLSSocket, identity: SpiffeId): void;
  /** It failed; the socket is gone. */
  refused(why: string): void;
}

export interface TlsServerOptions {
  readonly deadlineMs?: number;
  /** Also accept TLS 1.2; 1.3 only otherwise. */
  readonly allowTls12?: boolean;
  /** As for {@link verifyClient}. */
  readonly isMember?: ((identity: SpiffeId) => boolean) | undefined;
}

/**
 * The server's side of mutual TLS over sockets that somebody else accepted. A renewed certificate makes a new context
 * for the handshakes to come; those that stand keep theirs.
 */
export class TlsServer {
  readonly #deadlineMs: number;
  readonly #allowTls12: boolean;
  readonly #isMember: ((identity: SpiffeId) => boolean) | undefined;
  /** `tls.Server` announces outcomes for all of its sockets together; this leads each back to its handshake. */
  readonly #handshakes = new WeakMap<Socket, Handshake>();
  #certificate: WorkloadCertificate | undefined;
  #server: Server | undefined;

  constructor({ deadlineMs = handshakeDeadlineMs, allowTls12 = false, isMember }: TlsServerOptions = {}) {
    this.#deadlineMs = deadlineMs;
    this.#isMember = isMember;
    this.#allowTls12 = allowTls12;
  }

  /** Owns the socket from here on. @throws MeshError CERTIFICATE_UNAVAILABLE */
  handshake(socket: Socket, certificate: WorkloadCertificate, handshake: Handshake): void {
    if (this.#server === undefined || this.#certificate !== certificate) {
      this.#server = this.#serverFor(certificate);
      this.#certificate = certificate;
    }
    socket.allowHalfOpen = false; // a client that says goodbye during a handshake is gone
    this.#handshakes.set(socket, handshake);
    this.#server.emit("connection", socket);
  }

  #handshakeOf(socket: TLSSocket): Handshake | undefined {
    // The accepted socket below; Node keeps it for itself under this name.
    const { _parent: accepted } = socket as TLSSocket & { readonly _parent?: Socket };
    return accepted && this.#handshakes.get(accepted);
  }

  #serverFor(certificate: WorkloadCertificate): Server {
    const server = createServer({
      ...secureContextOptions(certificate, this.#allowTls12),
      ALPNProtocols: hboneProtocols,
      requestCert: true,
      rejectUnauthorized: true,
      handshakeTimeout: this.#deadlineMs,
    });
    server.on("secureConnection", (socket: TLSSocket) => {
      const handshake = this.#handshakeOf(socket);
      // Node has verified the chain, else it would have destroyed the socket; who it is remains ours to check.
      const leaf = socket.authorized ? socket.getPeerX509Certificate() : undefined;
      const uris = leaf === undefined ? [] : uriNamesOf(leaf.raw);
      const verdict = verifyClient(uris, certificate.identity, this.#isMember);
      if (verdict.accepted && handshake !== undefined) return handshake.secured(socket, verdict.identity);
      drop(socket);
      handshake?.refused(verdict.accepted ? "its handshake is unknown" : verdict.why);
    });
    server.on("tlsClientError", (error: Error, socket: TLSSocket) => {
      // A code such as CERT_HAS_EXPIRED, although the types say an error.
      const unverified = socket.authorizationError as unknown as string | null;
      const handshake = this.#handshakeOf(socket);
      drop(socket);
      handshake?.refused(unverified ? `the client's certificate does not verify: ${unverified}` : explain(error));
    });
    return server;
  }
}

function drop(socket: TLSSocket): void {
  socket.on("error", () => {}); // it is refused already: nothing more to say
  socket.destroy();
}
