/** Rules of a VirtualService that hand on to another, merged with the rules of that one. */
import type {
  HttpMatch,
  HttpRule,
  StringMatch,
  StringMatches,
  VirtualService,
} from "#controlplane/mesh/virtual-service.ts";
import type { Labels } from "#controlplane/mesh/objects.ts";
import type { OwnedRule } from "./virtual-service-entries.ts";

export type FindDelegate = (namespace: string, name: string) => VirtualService | undefined;

/**
 * The rules of `root` with what their delegates say in their place. One deep only; a rule whose delegate is missing, or
 * not for the eyes of this namespace, is left out.
 */
export function withDelegates(root: VirtualService, find: FindDelegate): readonly OwnedRule[] {
  return root.http.flatMap((rule): readonly OwnedRule[] => {
    if (rule.delegate === undefined) return [{ rule, owner: root }];
    const owner = find(rule.delegate.namespace || root.meta.namespace, rule.delegate.name);
    if (owner === undefined) return [];
    return owner.http.flatMap((inner) => {
      if (inner.delegate !== undefined) return [];
      const merged = mergeRules(rule, inner);
      return merged === undefined ? [] : [{ rule: merged, owner }];
    });
  });
}

/** What the delegate says goes before what its root says. undefined: they never match together. */
export function mergeRules(root: HttpRule, inner: HttpRule): HttpRule | undefined {
  const matches = mergeMatches(root.matches, inner.matches);
  if (matches === undefined) return undefined;
  return {
    name: joined(root.name, inner.name),
    matches,
    route: inner.route,
    redirect: inner.redirect,
    directResponse: inner.directResponse ?? root.directResponse,
    delegate: undefined,
    rewrite: inner.rewrite ?? root.rewrite,
    timeoutMs: inner.timeoutMs ?? root.timeoutMs,
    retries: inner.retries ?? root.retries,
    fault: inner.fault ?? root.fault,
    mirrors: inner.mirrors.length > 0 ? inner.mirrors : root.mirrors,
    cors: inner.cors ?? root.cors,
    headers: inner.headers ?? root.headers,
  };
}

const joined = (root: string, inner: string): string => [root, inner].filter((name) => name !== "").join("-");

/** Every pair that can hold together; a match of the delegate without any such partner spoils the rule. */
function mergeMatches(root: readonly HttpMatch[], inner: readonly HttpMatch[]): readonly HttpMatch[] | undefined {
  if (root.length === 0) return inner;
  if (inner.length === 0) return root;
  const merged: HttpMatch[] = [];
  for (const narrow of inner) {
    const partners = root.filter((wide) => areCompatible(wide, narrow));
    if (partners.length === 0) return undefined;
    merged.push(...partners.map((wide) => mergeMatch(wide, narrow)));
  }
  return merged;
}

function mergeMatch(root: HttpMatch, inner: HttpMatch): HttpMatch {
  return {
    name: joined(root.name, inner.name),
    uri: inner.uri ?? root.uri,
    ignoreUriCase: inner.ignoreUriCase,
    scheme: narrower(root.scheme, inner.scheme),
    method: narrower(root.method, inner.method),
    authority: narrower(root.authority, inner.authority),
    headers: both(root.headers, inner.headers, narrower),
    withoutHeaders: both(root.withoutHeaders, inner.withoutHeaders, wider),
    queryParams: both(root.queryParams, inner.queryParams, narrower),
    port: inner.port ?? root.port,
    sourceLabels: union(root.sourceLabels, inner.sourceLabels),
    sourceNamespace: inner.sourceNamespace || root.sourceNamespace,
    gateways: inner.gateways.length > 0 ? inner.gateways : root.gateways,
    statPrefix: inner.statPrefix || root.statPrefix,
  };
}

type Choice = (root: StringMatch | undefined, inner: StringMatch | undefined) => StringMatch | undefined;

/** What both take, where they {@link holdTogether}: any value that is there is the wider of two. */
const narrower: Choice = (root, inner) => (inner === undefined || inner.kind === "present" ? (root ?? inner) : inner);

/** What either takes: of two that must not match, a delegate cannot let through what its root does not. */
const wider: Choice = (root, inner) => (inner?.kind === "present" ? inner : (root ?? inner));

const both = (root: StringMatches, inner: StringMatches, choose: Choice): StringMatches =>
  new Map([...union(root, inner)].map(([name, match]) => [name, choose(root.get(name), inner.get(name)) ?? match]));

const union = <V>(root: ReadonlyMap<string, V>, inner: ReadonlyMap<string, V>): ReadonlyMap<string, V> =>
  new Map([...root, ...inner].sort(([a], [b]) => (a < b ? -1 : 1)));

function areCompatible(root: HttpMatch, inner: HttpMatch): boolean {
  return (
    (["uri", "scheme", "method", "authority"] as const).every((field) => holdTogether(root[field], inner[field])) &&
    (["headers", "withoutHeaders", "queryParams"] as const).every((field) => allHold(root[field], inner[field])) &&
    root.ignoreUriCase === inner.ignoreUriCase &&
    (root.port === undefined || inner.port === undefined || root.port === inner.port) &&
    (root.sourceNamespace === "" || root.sourceNamespace === inner.sourceNamespace) &&
    sameWhereBoth(root.sourceLabels, inner.sourceLabels) &&
    (root.gateways.length === 0 || inner.gateways.every((gateway) => root.gateways.includes(gateway)))
  );
}

function holdTogether(root: StringMatch | undefined, inner: StringMatch | undefined): boolean {
  if (root === undefined || inner === undefined || root.kind === "present" || inner.kind === "present") return true;
  if (root.kind === "regex" || inner.kind === "regex") return false;
  if (root.kind === "prefix") return inner.value.startsWith(root.value);
  return inner.kind === "exact" && inner.value === root.value;
}

const allHold = (root: StringMatches, inner: StringMatches): boolean =>
  [...inner].every(([name, match]) => holdTogether(root.get(name), match));

const sameWhereBoth = (root: Labels, inner: Labels): boolean =>
  [...inner].every(([name, value]) => (root.get(name) ?? value) === value);
