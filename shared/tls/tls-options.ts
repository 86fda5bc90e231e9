/** What every TLS connection of the mesh has in common. */
import { constants } from "node:crypto";
import { createSecureContext, type SecureContext, type SecureContextOptions } from "node:tls";
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";

/** Istio's ztunnel and waypoints offer exactly this protocol. */
export const hboneProtocols = ["h2"];

/** As Istio's ztunnel: a handshake has no deadline there; ours is that of its TCP connect. */
export const handshakeDeadlineMs = 10_000;

/** AES-GCM alone, as Istio's ztunnel. OpenSSL sorts the names of both versions out by itself. */
const suites = {
  tls13: "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256",
  tls12:
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256",
} as const;

/**
 * TLS 1.3, and 1.2 only where an operator asks for it (TLS12_ENABLED). Sessions are never resumed, so that every connection verifies its
 * peer: without a ticket a server would need its own cache of sessions, which we do not give it.
 *
 * @throws MeshError CERTIFICATE_UNAVAILABLE where there is no trust anchor: OpenSSL would take the public ones
 */
export function secureContextOptions(certificate: WorkloadCertificate, allowTls12 = false): SecureContextOptions {
  if (certificate.rootsPem.length === 0) {
    const message = `Cannot use the certificate of "${certificate.identity}": it came without a trust anchor`;
    throw new MeshError("CERTIFICATE_UNAVAILABLE", message);
  }
  return {
    key: certificate.keyPem,
    cert: certificate.chainPem,
    ca: [...certificate.rootsPem],
    minVersion: allowTls12 ? "TLSv1.2" : "TLSv1.3",
    maxVersion: "TLSv1.3",
    ciphers: allowTls12 ? `${suites.tls13}:${suites.tls12}` : suites.tls13,
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
  };
}

/** One context per certificate; a renewed certificate is another object, and the old context goes with the old one. */
type ContextsByCertificate = WeakMap<WorkloadCertificate, SecureContext>;
const clientContexts: ContextsByCertificate = new WeakMap();
const tls12ClientContexts: ContextsByCertificate = new WeakMap();

export function clientContextFor(certificate: WorkloadCertificate, allowTls12 = false): SecureContext {
  const contexts = allowTls12 ? tls12ClientContexts : clientContexts;
  const known = contexts.get(certificate);
  if (known !== undefined) return known;
  const context = createSecureContext(secureContextOptions(certificate, allowTls12));
  contexts.set(certificate, context);
  return context;
}
