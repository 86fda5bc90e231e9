/** Whether a peer, whose chain is already verified, is one we talk to. No I/O. */
import { firstSpiffeId, identityOf, type SpiffeId } from "#shared/identity/spiffe-id.ts";

export type PeerVerdict =
  { readonly accepted: true; readonly identity: SpiffeId } | { readonly accepted: false; readonly why: string };

/**
 * Who connects to us: one name has to be of our trust domain; the identity is the first name that is a workload's.
 *
 * @param uris the URI names of its certificate
 * @param isMember whether an identity of another trust domain counts as one of ours, where the mesh has several
 */
export function verifyClient(
  uris: readonly string[],
  own: SpiffeId,
  isMember: (identity: SpiffeId) => boolean = () => false,
): PeerVerdict {
  const identity = firstSpiffeId(uris);
  if (identity === undefined) return refused(`the client's certificate names no SPIFFE identity but ${list(uris)}`);
  const trustDomain = identityOf(own)?.trustDomain;
  if (!uris.some((uri) => identityOf(uri)?.trustDomain === trustDomain) && !isMember(identity)) {
    return refused(`the client is ${list(uris)}, outside our trust domain "${trustDomain}"`);
  }
  return { accepted: true, identity };
}

/** Whom to accept: one of these, or any workload of these trust domains. */
export type ExpectedPeer = readonly SpiffeId[] | { readonly trustDomains: readonly string[] };

/** Whom we connected to: one of its names has to be one of the expected. Without expectation nobody is accepted. */
export function verifyServer(uris: readonly string[], expectation: ExpectedPeer): PeerVerdict {
  if ("trustDomains" in expectation) return verifyMember(uris, expectation.trustDomains);
  const expected = expectation;
  const identity = expected.find((id) => uris.includes(id));
  if (identity !== undefined) return { accepted: true, identity };
  return refused(`the server is ${list(uris)}, expected ${list(expected)}`);
}

function verifyMember(uris: readonly string[], trustDomains: readonly string[]): PeerVerdict {
  const identity = firstSpiffeId(uris);
  const trustDomain = identity === undefined ? undefined : identityOf(identity)?.trustDomain;
  if (identity !== undefined && trustDomains.some((known) => known === trustDomain))
    return { accepted: true, identity };
  return refused(`the server is ${list(uris)}, expected somebody of the trust domain ${list(trustDomains)}`);
}

const refused = (why: string): PeerVerdict => ({ accepted: false, why });

/** The peer wrote these names, and they end in a log line: some of each suffices. */
const [namesShown, charactersShown] = [4, 200];

function list(names: readonly string[]): string {
  if (names.length === 0) return "nobody";
  const shown = names.slice(0, namesShown).map((name) => JSON.stringify(name.slice(0, charactersShown)));
  return names.length > namesShown
    ? `${shown.join(" or ")} or ${names.length - namesShown} others`
    : shown.join(" or ");
}
