/** The names of the mesh in what policies say of callers: an account is the same under each of them. */
import { defaultTrustDomain } from "#shared/identity/spiffe-id.ts";

export interface MeshNames {
  /** That of the mesh and its aliases; an alias may begin or end with a star. */
  readonly trustDomains: readonly string[];
}

/**
 * `value` as a principal of a policy, and what it means under the mesh's other names. The default trust domain stands
 * for the mesh, whatever its name, as in Istio; where an identity is not written out, only the names themselves do.
 */
export function underEveryName(value: string, { trustDomains }: MeshNames): readonly string[] {
  const slash = value.indexOf("/");
  if (slash < 0) return [value];
  const [written, rest] = [value.slice(0, slash), value.slice(slash)];
  const isWhole = value.split("/").length === identityParts;
  const isOurs = isWhole
    ? written !== "*" && (written === defaultTrustDomain || trustDomains.some((each) => agree(written, each)))
    : trustDomains.includes(written);
  if (!isOurs) return [value];
  return [...new Set(trustDomains.map((each) => (endsLike(each, written) ? value : `${each}${rest}`)))];
}

/** `domain/ns/namespace/sa/account`. */
const identityParts = 5;

export const namesOfMesh = (value: string, { trustDomains }: MeshNames): readonly string[] =>
  trustDomains.includes(value) ? [...new Set(trustDomains)] : [value];

const endsLike = (text: string, pattern: string): boolean => pattern.startsWith("*") && text.endsWith(pattern.slice(1));
const startsLike = (text: string, pattern: string): boolean =>
  pattern.endsWith("*") && text.startsWith(pattern.slice(0, -1));

/** Either may be the pattern. */
const agree = (a: string, b: string): boolean =>
  a === b || [endsLike, startsLike].some((matches) => matches(a, b) || matches(b, a));
