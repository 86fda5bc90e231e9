import type { Duplex } from "node:stream";
import { connect, type TLSSocket } from "node:tls";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { codeOf, MeshError } from "#shared/errors/mesh-error.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import { uriNamesOf } from "./certificate-names.ts";
import { clientContextFor, handshakeDeadlineMs, hboneProtocols } from "./tls-options.ts";
import { verifyServer, type ExpectedPeer } from "./verify-peer.ts";

export interface TlsClientOptions {
  /** Ours. */
  readonly certificate: WorkloadCertificate;
  /** Whom the server must prove to be; an empty list fails. */
  readonly expected: ExpectedPeer;
  readonly clock: Clock;
  /** Default {@link handshakeDeadlineMs}. */
  readonly deadlineMs?: number;
  /** Also accept TLS 1.2; 1.3 only otherwise. */
  readonly allowTls12?: boolean;
}

export interface VerifiedSocket {
  readonly socket: TLSSocket;
  /** The one of the expected identities that the server proved. */
  readonly identity: SpiffeId;
}

/** The peer hung up in the middle of the handshake: perhaps its process has just ended, and another one took over. */
export class HandshakeCutOff extends MeshError {
  constructor(cause: unknown) {
    super("HBONE_CONNECT_FAILED", "Cannot set up TLS with the peer", cause);
  }
}

/**
 * TLS over a transport that is connected or still connecting (a connect error fails the handshake with itself as the
 * cause). Owns the transport: it is destroyed when the handshake fails.
 *
 * @throws MeshError PEER_UNVERIFIED, or HBONE_CONNECT_FAILED with its cause; {@link HandshakeCutOff} is one of those
 */
export function connectTls(transport: Duplex, options: TlsClientOptions): Promise<VerifiedSocket> {
  const { certificate, expected, clock, deadlineMs = handshakeDeadlineMs, allowTls12 = false } = options;
  // A peer that says goodbye is gone: tunnels end streams, not connections.
  transport.allowHalfOpen = false;
  let identity: SpiffeId | undefined;
  let refusal: MeshError | undefined;
  return new Promise((resolve, reject) => {
    const socket = connect({
      socket: transport,
      secureContext: clientContextFor(certificate, allowTls12),
      ALPNProtocols: hboneProtocols,
      servername: "", // no SNI: the server is who its socket's namespace says
      checkServerIdentity: (_host, { raw }) => {
        const verdict = verifyServer(uriNamesOf(raw), expected);
        if (verdict.accepted) identity = verdict.identity;
        else refusal = new MeshError("PEER_UNVERIFIED", `Cannot trust the peer: ${verdict.why}`);
        return refusal;
      },
    });
    const fail = (error: unknown) => {
      cancel();
      socket.destroy();
      transport.destroy();
      reject(refusal ?? handshakeError(error));
    };
    // A turn later: the transport's own error, which says more, may still be on its way.
    const onClose = () =>
      setImmediate(fail, new HandshakeCutOff(new Error("the peer closed the connection during the TLS handshake")));
    const cancel = clock.schedule(deadlineMs, () => fail(new Error(`no TLS handshake within ${deadlineMs} ms`)));
    transport.once("error", fail); // a connect that fails does not reach the TLS socket with its own error
    socket.once("error", fail);
    socket.once("close", onClose);
    socket.once("secureConnect", () => {
      cancel();
      transport.off("error", fail);
      socket.off("error", fail);
      socket.off("close", onClose);
      if (identity === undefined) fail(new TypeError("the peer was not verified"));
      // Without ALPN a server leaves it to us, as Istio's ztunnel allows.
      else if (socket.alpnProtocol !== "h2" && socket.alpnProtocol !== false)
        fail(new Error(`the peer speaks "${String(socket.alpnProtocol)}", not "h2"`));
      else resolve({ socket, identity });
    });
  });
}

function handshakeError(error: unknown): MeshError {
  if (error instanceof MeshError) return error;
  const code = codeOf(error);
  if (code === "ECONNRESET") return new HandshakeCutOff(error);
  // OpenSSL's names for a chain that does not verify.
  if (/CERT|ISSUER|SIGNATURE|INVALID_PURPOSE/.test(code) && !code.startsWith("ERR_SSL")) {
    return new MeshError("PEER_UNVERIFIED", `Cannot trust the peer's certificate`, error);
  }
  return new MeshError("HBONE_CONNECT_FAILED", "Cannot set up TLS with the peer", error);
}
