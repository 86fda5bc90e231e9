/** Certificates of authorities that stand in ConfigMaps, under `ca.crt`: whom a client of TLS trusts. */
import { X509Certificate } from "node:crypto";
import { splitPem } from "#shared/ca/workload-certificate.ts";
import type { AuthorityRef, BackendTlsPolicy } from "#controlplane/mesh/backend-policy.ts";
import type { ConfigMap } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";

export type Authorities =
  | { readonly kind: "pem"; readonly pem: string }
  /** A sentence says why there are none. */
  | { readonly kind: "fault"; readonly fault: string };

export function authoritiesIn(world: WorldView, namespace: string, name: string): Authorities {
  const configMap = world.get("ConfigMap", namespace, name);
  const what = `ConfigMap "${namespace}/${name}"`;
  if (configMap === undefined) return { kind: "fault", fault: `${what} was not found` };
  const fault = faultOf(configMap);
  return fault === undefined
    ? { kind: "pem", pem: splitPem(configMap.authorities ?? "").join("") }
    : { kind: "fault", fault: `${what} ${fault}` };
}

/** Of each object once: reading a certificate costs more than everything else that is asked of it. */
const faults = new WeakMap<ConfigMap, { readonly fault: string | undefined }>();

/** A proxy would refuse all that stands beside a certificate that cannot be read. */
function faultOf(configMap: ConfigMap): string | undefined {
  const known = faults.get(configMap);
  if (known !== undefined) return known.fault;
  const fault = findFault(configMap);
  faults.set(configMap, { fault });
  return fault;
}

function findFault({ authorities }: ConfigMap): string | undefined {
  if (authorities === undefined) return "has no entry ca.crt";
  const certificates = splitPem(authorities);
  if (certificates.length === 0) return "has no certificate in PEM form in its entry ca.crt";
  const broken = certificates.findIndex((pem) => !isCertificate(pem));
  return broken < 0
    ? undefined
    : `has a certificate in its entry ca.crt that cannot be read, the ${ordinal(broken + 1)}`;
}

const ordinal = (place: number): string => `${place}${["st", "nd", "rd"][place - 1] ?? "th"}`;

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0;
  } catch {
    return false;
  }
}

export interface AuthorityFault {
  readonly reason: "InvalidCACertificateRef" | "InvalidKind";
  readonly message: string;
}

/** Whom a policy trusts. With `kind` "nobody" nothing may be sent. */
export interface Trust {
  readonly kind: "system" | "pem" | "nobody";
  /** Certificates of all references that can be used; empty unless `kind` is "pem". */
  readonly pem: string;
  readonly faults: readonly AuthorityFault[];
}

export function trustOf(world: WorldView, policy: BackendTlsPolicy): Trust {
  const { authorities, wellKnownAuthorities } = policy;
  if (authorities.length === 0) {
    return { kind: wellKnownAuthorities === "System" ? "system" : "nobody", pem: "", faults: [] };
  }
  const found = authorities.map((ref) => resolve(world, policy, ref));
  const pem = found.map((each) => (typeof each === "string" ? each : "")).join("");
  return { kind: pem === "" ? "nobody" : "pem", pem, faults: found.filter((each) => typeof each !== "string") };
}

function resolve(world: WorldView, { meta }: BackendTlsPolicy, { group, kind, name }: AuthorityRef) {
  if (group !== "" || kind !== "ConfigMap") {
    const what = `${kind} "${name}" of ${group === "" ? "the core group" : `group "${group}"`}`;
    const message = `${what} is not read for certificates: write a ConfigMap`;
    return { reason: "InvalidKind", message } satisfies AuthorityFault;
  }
  const found = authoritiesIn(world, meta.namespace, name);
  return found.kind === "pem"
    ? found.pem
    : ({ reason: "InvalidCACertificateRef", message: found.fault } satisfies AuthorityFault);
}
