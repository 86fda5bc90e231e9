/** The certificate that a waypoint shows in tunnels, of the one identity that it has. */
import type { CertificateManager } from "#shared/ca/certificate-manager.ts";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";

/** The certificate to present now; waits for the first one. */
export function certificateOf(
  certificates: CertificateManager | undefined,
  identity: SpiffeId,
): () => WorkloadCertificate | Promise<WorkloadCertificate> {
  if (certificates === undefined) {
    const why = "this waypoint was started without tunnels (WAYPOINT_TUNNELS=off)";
    return () => Promise.reject(new MeshError("CERTIFICATE_UNAVAILABLE", `Cannot open a tunnel: ${why}`));
  }
  return () => certificates.current(identity) ?? certificates.certificateFor(identity);
}

/** A CA that refuses is asked again in the background. */
export async function certificateThere(certificates: CertificateManager, identity: SpiffeId): Promise<void> {
  const arrived = Promise.withResolvers<void>();
  const stop = certificates.onRotated(() => arrived.resolve());
  await certificates.certificateFor(identity).catch(() => arrived.promise);
  stop();
}

/** For `config_dump`. */
export const certificateStates = (certificates: CertificateManager | undefined) =>
  [...(certificates?.states() ?? [])].map(([identity, state]) =>
    state.at === "available"
      ? {
          identity,
          state: state.at,
          serial_number: state.certificate.serial,
          valid_from: new Date(state.certificate.notBeforeMs).toISOString(),
          expiration_time: new Date(state.certificate.notAfterMs).toISOString(),
        }
      : { identity, state: state.at },
  );
