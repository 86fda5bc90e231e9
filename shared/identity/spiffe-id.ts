import { MeshError } from "#shared/errors/mesh-error.ts";

declare const brand: unique symbol;

/** `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, already checked. */
export type SpiffeId = string & { readonly [brand]: "SpiffeId" };

/** The parts of a {@link SpiffeId}. */
export interface Identity {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

export const defaultTrustDomain = "cluster.local";

const scheme = "spiffe://";

/** The parts, or undefined where `text` is no workload id. Empty parts are accepted, as Istio's ztunnel does. */
export function identityOf(text: string): Identity | undefined {
  if (!text.startsWith(scheme)) return undefined;
  const [trustDomain, ns, namespace, sa, serviceAccount, ...more] = text.slice(scheme.length).split("/");
  if (ns !== "ns" || sa !== "sa" || more.length > 0) return undefined;
  if (trustDomain === undefined || namespace === undefined || serviceAccount === undefined) return undefined;
  return { trustDomain, namespace, serviceAccount };
}

const isSpiffeId = (text: string): text is SpiffeId => identityOf(text) !== undefined;

/** @throws MeshError IDENTITY_MALFORMED quoting the text */
export function parseSpiffeId(text: string): SpiffeId {
  if (isSpiffeId(text)) return text;
  throw new MeshError("IDENTITY_MALFORMED", `Cannot read SPIFFE ID "${text}"`);
}

export function spiffeId({ trustDomain, namespace, serviceAccount }: Identity): SpiffeId {
  return parseSpiffeId(`${scheme}${trustDomain}/ns/${namespace}/sa/${serviceAccount}`);
}

/** As policies write it: without the scheme. */
export function principalOf(id: SpiffeId): string {
  return id.slice(scheme.length);
}

/** The first of a certificate's URI names that is a workload id, as ztunnel picks the peer's identity. */
export function firstSpiffeId(uris: readonly string[]): SpiffeId | undefined {
  return uris.find(isSpiffeId);
}
