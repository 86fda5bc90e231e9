/** Which virtual host a request's authority belongs to: exact, then longest `*.x`, then longest `x.*`, then `*`. */
import type { Problem } from "#waypoint/matching/string-matcher.ts";

export class Domains<Value> {
  readonly #exact = new Map<string, Value>();
  /** Longest first; the map within is by the text behind, or before, the asterisk. */
  readonly #suffixes: { readonly length: number; readonly byText: Map<string, Value> }[] = [];
  readonly #prefixes: { readonly length: number; readonly byText: Map<string, Value> }[] = [];
  #any: Value | undefined;
  /** Nothing but `*`: the authority need not be looked at. */
  #onlyAny = true;

  add(domain: string, value: Value, path: string, problem: Problem): void {
    const text = domain.toLowerCase();
    if (text === "") return problem(path, "must not be empty");
    if (text === "*") {
      if (this.#any !== undefined) problem(path, '"*" is taken by another virtual host');
      this.#any = value;
      return undefined;
    }
    this.#onlyAny = false;
    const inner = text.replace(/^\*|\*$/, "");
    if (inner.includes("*")) return problem(path, `"${domain}" may have one "*", at its beginning or end`);
    if (text.startsWith("*")) return put(bucket(this.#suffixes, inner.length), inner, value, domain, path, problem);
    if (text.endsWith("*")) return put(bucket(this.#prefixes, inner.length), inner, value, domain, path, problem);
    return put(this.#exact, text, value, domain, path, problem);
  }

  find(authority: string, ignoresPort: boolean): Value | undefined {
    if (this.#onlyAny || authority === "") return this.#any;
    const host = (ignoresPort ? withoutPort(authority) : authority).toLowerCase();
    const exact = this.#exact.get(host);
    if (exact !== undefined) return exact;
    // The asterisk stands for at least one character.
    for (const { length, byText } of this.#suffixes) {
      const found = length < host.length ? byText.get(host.slice(-length)) : undefined;
      if (found !== undefined) return found;
    }
    for (const { length, byText } of this.#prefixes) {
      const found = length < host.length ? byText.get(host.slice(0, length)) : undefined;
      if (found !== undefined) return found;
    }
    return this.#any;
  }
}

function bucket<Value>(buckets: { length: number; byText: Map<string, Value> }[], length: number): Map<string, Value> {
  let found = buckets.find((one) => one.length === length);
  if (found === undefined) {
    found = { length, byText: new Map() };
    buckets.push(found);
    buckets.sort((a, b) => b.length - a.length);
  }
  return found.byText;
}

function put<Value>(
  map: Map<string, Value>,
  key: string,
  value: Value,
  domain: string,
  path: string,
  problem: Problem,
): void {
  if (map.has(key)) problem(path, `"${domain}" is taken by another virtual host`);
  else map.set(key, value);
}

/** `name:80` and `[::1]:80` without the port. */
export function withoutPort(authority: string): string {
  const colon = authority.lastIndexOf(":");
  if (colon < 0 || authority.indexOf("]", colon) >= 0) return authority;
  return /^\d*$/.test(authority.slice(colon + 1)) ? authority.slice(0, colon) : authority;
}
