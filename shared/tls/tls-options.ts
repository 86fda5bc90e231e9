/** What every TLS connection of the mesh has in common. */
import { constants } from "node:crypto";
import { createSecureContext, type SecureContext, type SecureContextOptions } from "node:tls";
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";

/** Istio's ztunnel and waypoints offer exactly this protocol. */
export const hboneProtocols = ["h2"];

/** As Istio's ztunnel: a handshake has no deadline there; ours is that of its TCP connect. */
export const handshakeDeadlineMs = 10_000;

/**
 * TLS 1.3 with AES-GCM only, as Istio's ztunnel. Sessions are never resumed, so that every connection verifies its
 * peer: without a ticket a server would need its own cache of sessions, which we do not give it.
 *
 * @throws MeshError CERTIFICATE_UNAVAILABLE where there is no trust anchor: OpenSSL would take the public ones
 */
export function secureContextOptions(certificate: WorkloadCertificate): SecureContextOptions {
  if (certificate.rootsPem.length === 0) {
    const message = `Cannot use the certificate of "${certificate.identity}": it came without a trust anchor`;
    throw new MeshError("CERTIFICATE_UNAVAILABLE", message);
  }
  return {
    key: certificate.keyPem,
    cert: certificate.chainPem,
    ca: [...certificate.rootsPem],
    minVersion: "TLSv1.3",
    maxVersion: "TLSv1.3",
    ciphers: "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256",
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

/** One context per certificate; a renewed certificate is another object, and the old context goes with the old one. */
const clientContexts = new WeakMap<WorkloadCertificate, SecureContext>();

export function clientContextFor(certificate: WorkloadCertificate): SecureContext {
  const known = clientContexts.get(certificate);
  if (known !== undefined) return known;
  const context = createSecureContext(secureContextOptions(certificate));
  clientContexts.set(certificate, context);
  return context;
}
