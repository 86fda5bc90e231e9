import type { TLSSocket } from "node:tls";
import type { Metadata } from "@grpc/grpc-js";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { firstSpiffeId, identityOf, spiffeId, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { uriNamesOf } from "#shared/tls/certificate-names.ts";

/** A service account that a token proved. */
export interface ReviewedToken {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The pod that the token is bound to; absent for tokens of other kinds. */
  readonly pod?: { readonly name: string; readonly uid: string };
}

/** Finds out whose token it is: the API server, or keys on disk. */
export interface TokenAuthenticator {
  /** @throws MeshError UNAUTHENTICATED saying why the token is refused; other errors mean that nobody could tell */
  review(token: string, clusterId: string | undefined): Promise<ReviewedToken>;
}

/** Who calls, and how we know. */
export interface Caller {
  readonly identity: SpiffeId;
  readonly by: "certificate" | "token";
  readonly pod?: { readonly name: string; readonly uid: string };
}

export interface CallerOptions {
  readonly tokens: TokenAuthenticator;
  readonly trustDomain: () => string;
  /** Trust domains besides ours whose certificates are accepted. */
  readonly trustDomainAliases: () => readonly string[];
}

/** The part of a call that says who makes it. */
export interface CallFacts {
  readonly metadata: Metadata;
  /** Of a client certificate that TLS has verified. */
  readonly certificate?: { readonly raw: Buffer };
}

/** A service account token has one to two thousand characters. */
const longestToken = 16_384;

/**
 * Authenticates a call: the client certificate goes first, then the token, as in Istio. One of them must do.
 *
 * @throws MeshError UNAUTHENTICATED saying what is missing or refused
 */
export async function authenticate({ metadata, certificate }: CallFacts, options: CallerOptions): Promise<Caller> {
  const byCertificate = certificate === undefined ? undefined : identityOfCertificate(certificate.raw, options);
  if (byCertificate !== undefined) return { identity: byCertificate, by: "certificate" };

  const token = bearerToken(metadata);
  const clusterId = metadata.get("clusterid")[0];
  const { pod, namespace, serviceAccount } = await options.tokens.review(token, clusterId?.toString());
  const identity = spiffeId({ trustDomain: options.trustDomain(), namespace, serviceAccount });
  return { identity, by: "token", ...(pod === undefined ? {} : { pod }) };
}

function identityOfCertificate(der: Buffer, { trustDomain, trustDomainAliases }: CallerOptions): SpiffeId | undefined {
  const identity = firstSpiffeId(uriNamesOf(der));
  if (identity === undefined) return undefined;
  const accepted = [trustDomain(), ...trustDomainAliases()];
  return accepted.includes(identityOf(identity)?.trustDomain ?? "") ? identity : undefined;
}

function bearerToken(metadata: Metadata): string {
  const values = metadata.get("authorization").map(String);
  const refuse = (why: string) => new MeshError("UNAUTHENTICATED", `Cannot authenticate the call: ${why}`);
  if (values.length === 0) throw refuse("there is neither a client certificate nor a bearer token");
  if (values.length > 1) throw refuse("there is more than one authorization header");
  const match = /^Bearer +(\S+)$/i.exec(values[0] ?? "");
  if (match?.[1] === undefined) throw refuse('the authorization header is not "Bearer <token>"');
  if (match[1].length > longestToken) throw refuse(`the token has more than ${longestToken} characters`);
  return match[1];
}

/** What a TLS handshake left to be checked: no client certificate is fine, one that does not verify is not. */
export function refusedClientCertificate(socket: TLSSocket): string | undefined {
  if (socket.authorized) return undefined;
  const hasCertificate = socket.getPeerX509Certificate() !== undefined;
  return hasCertificate ? String(socket.authorizationError) : undefined;
}
