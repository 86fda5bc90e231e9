/**
 * One route as both APIs mean it: VirtualServices and routes of Gateway API are brought to this form, and Envoy's
 * routes are written from it.
 */
import type { CorsPolicy, Fault, HeaderOperations, StringMatch } from "#controlplane/mesh/virtual-service.ts";
import type { RetryPolicy } from "#controlplane/mesh/retry-policy.ts";

/** The object that a route comes from. */
export interface RouteSource {
  readonly kind: "VirtualService" | "HTTPRoute" | "GRPCRoute";
  readonly namespace: string;
  readonly name: string;
}

/** `segments` compares whole path segments: /a takes /a and /a/b, but not /ab. */
export interface PathMatch {
  readonly kind: "exact" | "prefix" | "segments" | "regex";
  readonly value: string;
}

export interface ValueMatch {
  readonly name: string;
  readonly match: StringMatch;
  /** Takes the requests that do not match. */
  readonly isInverted?: boolean;
}

/** A claim of the token that the request was authenticated by; `path` leads into nested claims. */
export interface ClaimMatch {
  readonly path: readonly string[];
  readonly match: StringMatch;
  readonly isInverted: boolean;
}

export interface EntryMatch {
  /** Takes requests of workloads of this namespace only; empty: everybody's. */
  readonly callers: string;
  readonly path: PathMatch;
  readonly ignoreCase: boolean;
  readonly headers: readonly ValueMatch[];
  readonly queryParams: readonly ValueMatch[];
  readonly claims: readonly ClaimMatch[];
}

/** Where requests go: a host of the mesh, or nowhere because the reference is of no use. */
export interface Target {
  /** Fully qualified; undefined: the reference is invalid. */
  readonly hostname: string | undefined;
  readonly port: number | undefined;
  readonly subset: string;
}

export interface WeightedTarget {
  readonly target: Target;
  readonly weight: number;
  /** Those of one destination only, one set after the other. */
  readonly headers: readonly HeaderOperations[];
}

export type PathRewrite =
  /** What the match took is replaced. */
  | { readonly kind: "prefix"; readonly value: string }
  | { readonly kind: "regex"; readonly pattern: string; readonly substitution: string };

export interface RedirectEntry {
  readonly kind: "redirect";
  readonly scheme: string;
  readonly host: string;
  readonly path: PathRewrite | { readonly kind: "full"; readonly value: string } | undefined;
  readonly port: number | undefined;
  readonly keepsRequestPort: boolean;
  readonly code: number;
}

export interface RespondEntry {
  readonly kind: "respond";
  readonly status: number;
  readonly body: string | Uint8Array | undefined;
}

export interface MirrorTarget {
  readonly target: Target;
  readonly percent: number;
}

export interface ForwardEntry {
  readonly kind: "forward";
  readonly targets: readonly WeightedTarget[];
  readonly rewrite: PathRewrite | undefined;
  /** Empty: that of the request. */
  readonly authority: string;
  /** 0: none. */
  readonly timeoutMs: number;
  /** undefined: the default of the mesh. */
  readonly retries: RetryPolicy | undefined;
  readonly mirrors: readonly MirrorTarget[];
  /** What a request is told whose destination is none. */
  readonly missingStatus: 500 | 503;
}

export interface RouteEntry {
  readonly name: string;
  readonly source: RouteSource;
  readonly match: EntryMatch;
  readonly action: RedirectEntry | RespondEntry | ForwardEntry;
  readonly headers: readonly HeaderOperations[];
  readonly fault: Fault | undefined;
  readonly cors: CorsPolicy | undefined;
  readonly statPrefix: string;
}

export const anyPath: PathMatch = { kind: "prefix", value: "/" };

/** Nothing behind it is ever reached. */
export const isCatchAll = (match: EntryMatch): boolean => match.callers === "" && takesEveryRequest(match);

/** Of those whose callers it is for. */
export const takesEveryRequest = ({ path, headers, queryParams, claims }: EntryMatch): boolean =>
  path.kind === "prefix" &&
  path.value === "/" &&
  headers.length === 0 &&
  queryParams.length === 0 &&
  claims.length === 0;
