import { defaultTrustDomain } from "#shared/identity/spiffe-id.ts";
import type { MeshConfig } from "#controlplane/mesh/mesh-config.ts";

/** As workloads carry it. Absent means the default one: proxies fill it in themselves. */
export const writtenTrustDomain = ({ trustDomain }: MeshConfig): string =>
  trustDomain === defaultTrustDomain ? "" : trustDomain;
