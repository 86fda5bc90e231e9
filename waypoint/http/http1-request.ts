/** What a parsed head asks for, and whether that is acceptable (RFC 9112 §3, §6; RFC 9110 §7). */
import { Headers } from "./headers.ts";
import type { HeadParser } from "./http1-head.ts";
import type { Http1Failure } from "./http1-syntax.ts";
import { failures, isAuthority } from "./http1-syntax.ts";
import type { RequestHead } from "./streams.ts";

export interface RequestRules {
  /** As the client's side of the proxy sees it. */
  readonly scheme: "http" | "https";
  readonly acceptsHttp10: boolean;
  /** For HTTP/1.0 without Host. */
  readonly defaultHost: string | undefined;
  readonly acceptsConnect: boolean;
  readonly maxTargetBytes: number;
}

/** Connection options that name no field to be removed, or one that the codec removes anyway. */
const ownOptions: ReadonlySet<string> = new Set([
  "close",
  "keep-alive",
  "te",
  "transfer-encoding",
  "upgrade",
  "proxy-connection",
]);

/** Fields that others rely on: who nominates one wants it to disappear behind our back. */
const mustStay: ReadonlySet<string> = new Set([
  "authorization",
  "content-length",
  "content-type",
  "cookie",
  "forwarded",
  "host",
  "x-forwarded-client-cert",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
  "x-request-id",
]);

const maxNominated = 10;

/** Removes fields that Connection nominates. @returns whether that is acceptable */
export function removeNominated(headers: Headers, options: readonly string[] | undefined): boolean {
  if (options === undefined) return true;
  let nominated = 0;
  for (const option of options) {
    if (ownOptions.has(option)) continue;
    if (mustStay.has(option) || option.startsWith(":") || ++nominated > maxNominated) return false;
    headers.delete(option);
  }
  return true;
}

/** Whether the connection may be used again after this message. */
export function keepsAlive({ minorVersion, connectionOptions }: HeadParser): boolean {
  if (connectionOptions === undefined) return minorVersion === 1;
  if (connectionOptions.includes("close")) return false;
  return minorVersion === 1 || connectionOptions.includes("keep-alive");
}

const isFailure = (found: Target | Http1Failure): found is Http1Failure => "details" in found;

/** The request, or why there is none. */
export function readRequest(parser: HeadParser, rules: RequestRules): RequestHead | Http1Failure {
  const { method, target, host } = parser;
  const isOld = parser.minorVersion === 0;
  if (isOld && !rules.acceptsHttp10) return failures.lowVersion;
  if (isOld && parser.isChunked) return failures.transferEncodingNotAllowed;
  if (target.length > rules.maxTargetBytes) return failures.targetTooLong;

  let authority = host ?? (isOld ? rules.defaultHost : undefined);
  let path = target;
  if (target.charCodeAt(0) !== slash || method === "CONNECT") {
    // The target says more than Host, which is then not looked at but has to be there (RFC 9112 §3.2.2).
    if (authority === undefined && !isOld) return failures.hostMissing;
    if (host !== undefined && host !== "" && !isAuthority(host)) return failures.hostInvalid;
    const found = readTarget(method, target, authority ?? "");
    if (isFailure(found)) return found;
    ({ authority, path } = found);
    if (method === "CONNECT" && !rules.acceptsConnect) return failures.connect;
  }
  if (authority === undefined || authority === "") return failures.hostMissing;
  if (!isAuthority(authority)) return failures.hostInvalid;

  const headers = new Headers(parser.pairs, parser.spelling);
  if (!removeNominated(headers, parser.connectionOptions)) return failures.connection;
  return { method, scheme: rules.scheme, authority, path, headers, upgrade: upgradeOf(parser) };
}

const slash = 0x2f;

interface Target {
  readonly authority: string;
  readonly path: string;
}

/** Targets that do not begin with a slash. */
function readTarget(method: string, target: string, authority: string): Target | Http1Failure {
  if (method === "CONNECT") {
    const isValid = isAuthority(target) && /:\d{1,5}$/.test(target);
    return isValid ? { authority: target, path: "" } : failures.target;
  }
  if (target === "*") return method === "OPTIONS" ? { authority, path: "*" } : failures.target;
  const parts = /^https?:\/\/([^/?]+)([/?].*)?$/i.exec(target);
  if (parts === null) return failures.target;
  const [, named = "", rest = ""] = parts;
  if (!isAuthority(named)) return failures.target;
  if (rest === "") return { authority: named, path: method === "OPTIONS" ? "*" : "/" };
  return { authority: named, path: rest.startsWith("?") ? `/${rest}` : rest };
}

/** What the client wants to switch to. An offer of `h2c`, or one that comes with a body, is not taken up: that is everyone's right. */
function upgradeOf(parser: HeadParser): string | undefined {
  const { upgrade, connectionOptions } = parser;
  if (upgrade === undefined || parser.minorVersion === 0 || !connectionOptions?.includes("upgrade")) return undefined;
  if (parser.isChunked || parser.contentLength > 0) return undefined;
  const wanted = upgrade.toLowerCase();
  return wanted === "h2c" || wanted === "" ? undefined : wanted;
}
