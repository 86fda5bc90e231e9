/** Keys of one issuer; what comes behind is left out. */
const mostKeys = 256;

export type Jwk = Readonly<Record<string, unknown>>;

/** The keys of a JSON Web Key Set (RFC 7517), as they are written. Undefined where the text is none. */
export function readJwks(text: string): readonly Jwk[] | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  const list = typeof parsed === "object" && parsed !== null && "keys" in parsed ? parsed.keys : undefined;
  if (!Array.isArray(list)) return undefined;
  const isObject = (value: unknown): value is Jwk => typeof value === "object" && value !== null;
  return (list as unknown[]).slice(0, mostKeys).filter(isObject);
}
