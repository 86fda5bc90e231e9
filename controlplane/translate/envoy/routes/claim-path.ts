/** Header names that mean a claim of the caller's token: `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`. */
const prefix = "@request.auth.claims";

/** The way into the claims; undefined where `name` is an ordinary header. */
export function claimPath(name: string): readonly string[] | undefined {
  if (name.slice(0, prefix.length).toLowerCase() !== prefix) return undefined;
  const rest = name.slice(prefix.length);
  if (rest.startsWith(".")) return rest.slice(1).split(".");
  const parts = [...rest.matchAll(/\[([^\][]+)\]/g)];
  const isWhole = parts.reduce((length, [part]) => length + part.length, 0) === rest.length;
  return parts.length > 0 && isWhole ? parts.map(([, claim]) => claim ?? "") : undefined;
}
