/** Rules of VirtualServices as routes. */
import type {
  HttpMatch,
  HttpRedirect,
  HttpRewrite,
  HttpRule,
  RouteDestination,
  StringMatches,
  VirtualService,
} from "#controlplane/mesh/virtual-service.ts";
import type { TranslateOptions } from "#controlplane/translate/options.ts";
import { applies, type Standpoint } from "./applicability.ts";
import { claimPath } from "./claim-path.ts";
import { fullHost } from "../hosts.ts";
import {
  anyPath,
  isCatchAll,
  type ClaimMatch,
  type EntryMatch,
  type ForwardEntry,
  type PathMatch,
  type PathRewrite,
  type RedirectEntry,
  type RespondEntry,
  type RouteEntry,
  type Target,
  type ValueMatch,
} from "./route-entry.ts";

export interface Place extends Standpoint {
  readonly options: TranslateOptions;
}

/** A rule and the object that it stands in: short names of hosts are of that object's namespace. */
export interface OwnedRule {
  readonly rule: HttpRule;
  readonly owner: VirtualService;
}

/** Up to the first that takes every request. */
export function entriesOf(rules: readonly OwnedRule[], place: Place): readonly RouteEntry[] {
  const entries: RouteEntry[] = [];
  for (const { rule, owner } of rules) {
    const action = actionOf(rule, owner.meta.namespace, place.options);
    if (action === undefined) continue;
    const matches = rule.matches.length === 0 ? [undefined] : rule.matches.filter((match) => applies(match, place));
    for (const match of matches) {
      const entry: RouteEntry = {
        name: [rule.name, match?.name ?? ""].filter((name) => name !== "").join("."),
        source: { kind: "VirtualService", namespace: owner.meta.namespace, name: owner.meta.name },
        match: match === undefined ? everything : matchOf(match),
        action,
        headers: rule.headers === undefined ? [] : [rule.headers],
        fault: rule.fault,
        cors: rule.cors,
        statPrefix: match?.statPrefix ?? "",
      };
      entries.push(entry);
      if (isCatchAll(entry.match)) return entries;
    }
  }
  return entries;
}

const everything: EntryMatch = {
  callers: "",
  path: anyPath,
  ignoreCase: false,
  headers: [],
  queryParams: [],
  claims: [],
};

function matchOf(match: HttpMatch): EntryMatch {
  const pseudo = [
    { name: ":method", match: match.method },
    { name: ":authority", match: match.authority },
    { name: ":scheme", match: match.scheme },
  ].flatMap((each) => (each.match === undefined ? [] : [{ name: each.name, match: each.match }]));
  const [wanted, unwanted] = [split(match.headers, false), split(match.withoutHeaders, true)];
  return {
    callers: "",
    path: pathOf(match),
    ignoreCase: match.ignoreUriCase,
    headers: [...wanted.headers, ...unwanted.headers, ...pseudo],
    queryParams: [...match.queryParams].map(([name, value]) => ({ name, match: value })),
    claims: [...wanted.claims, ...unwanted.claims],
  };
}

function pathOf({ uri }: HttpMatch): PathMatch {
  if (uri === undefined || uri.kind === "present") return anyPath;
  return uri.kind === "prefix" && uri.value === "" ? anyPath : { kind: uri.kind, value: uri.value };
}

function split(
  matches: StringMatches,
  isInverted: boolean,
): { readonly headers: readonly ValueMatch[]; readonly claims: readonly ClaimMatch[] } {
  const [headers, claims]: [ValueMatch[], ClaimMatch[]] = [[], []];
  for (const [name, match] of matches) {
    const path = claimPath(name);
    if (path === undefined) headers.push({ name, match, isInverted });
    else claims.push({ path, match, isInverted });
  }
  return { headers, claims };
}

type Action = RedirectEntry | RespondEntry | ForwardEntry;

function actionOf(rule: HttpRule, namespace: string, options: TranslateOptions): Action | undefined {
  if (rule.redirect !== undefined) return redirectOf(rule.redirect);
  if (rule.directResponse !== undefined) return { kind: "respond", ...rule.directResponse };
  if (rule.route.length === 0) return undefined;
  const target = ({ host, subset, port }: RouteDestination): Target => ({
    hostname: fullHost(host, namespace, options.domain),
    port,
    subset,
  });
  return {
    kind: "forward",
    targets: rule.route.map(({ destination, weight, headers }) => ({
      target: target(destination),
      weight,
      headers: headers === undefined ? [] : [headers],
    })),
    rewrite: rewriteOf(rule.rewrite),
    authority: rule.rewrite?.authority ?? "",
    timeoutMs: rule.timeoutMs ?? 0,
    retries: rule.retries,
    mirrors: rule.mirrors.map(({ destination, percent }) => ({ target: target(destination), percent })),
    missingStatus: 503,
  };
}

function rewriteOf(rewrite: HttpRewrite | undefined): PathRewrite | undefined {
  if (rewrite?.regex !== undefined) {
    return { kind: "regex", pattern: rewrite.regex.match, substitution: rewrite.regex.rewrite };
  }
  return rewrite?.uri === undefined || rewrite.uri === "" ? undefined : { kind: "prefix", value: rewrite.uri };
}

function redirectOf({ uri, prefixRewrite, authority, port, derivePort, scheme, code }: HttpRedirect): RedirectEntry {
  const path =
    prefixRewrite !== undefined && prefixRewrite !== ""
      ? ({ kind: "prefix", value: prefixRewrite } as const)
      : uri === undefined || uri === ""
        ? undefined
        : ({ kind: "full", value: uri } as const);
  return {
    kind: "redirect",
    scheme,
    host: authority,
    path,
    port,
    keepsRequestPort: derivePort === "FROM_REQUEST_PORT",
    code,
  };
}
