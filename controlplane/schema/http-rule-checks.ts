/** What rules for HTTP in a VirtualService must be beyond their form. */
import { STATUS_CODES } from "node:http";
import { parseDurationMs } from "#shared/config/env-reader.ts";
import { grpcStatuses } from "#controlplane/mesh/grpc-statuses.ts";
import type { Field } from "./field.ts";
import { checkFieldName, checkHeaderOperations, checkMatchedName } from "./header-checks.ts";
import { suggest } from "./nearest.ts";
import { checkRegex, groupsOf } from "./regex.ts";
import { checkDuration, checkHostOrIp, checkLabels, isDnsLabel } from "./scalars.ts";

const stringMatchKeys = ["exact", "prefix", "regex"];
const retryTokens = [
  "5xx",
  "gateway-error",
  "reset",
  "reset-before-request",
  "connect-failure",
  "retriable-4xx",
  "refused-stream",
  "retriable-status-codes",
  "retriable-headers",
  "envoy-ratelimited",
  "http3-post-connect-failure",
  "cancelled",
  "deadline-exceeded",
  "internal",
  "resource-exhausted",
  "unavailable",
];

function checkStringMatch(match: Field, { emptyPrefixAllowed = false, starIsPresence = false } = {}): void {
  match.atMostOne(stringMatchKeys);
  if (match.at("prefix").text === "" && !emptyPrefixAllowed) {
    match.at("prefix").error("must not be empty (only uri allows that)", "write a prefix, or leave the match out");
  }
  const regex = match.at("regex");
  if (!(starIsPresence && regex.text === "*")) checkRegex(regex);
}

export function checkDestination(destination: Field): void {
  const host = destination.at("host");
  if (host.text === "*") host.error('"*" is no destination', "name the service");
  else checkHostOrIp(host);
}

/** Envoy counts shares in 32 bits. */
const largestTotal = 4_294_967_295;

export function checkWeights(route: Field): void {
  const entries = route.items();
  for (const entry of entries) checkDestination(entry.at("destination"));
  for (const entry of entries) checkHeaders(entry.at("headers"));
  const total = entries.reduce((sum, entry) => sum + (entry.at("weight").number ?? 0), 0);
  if (entries.length > 1 && total === 0) {
    route.error(`total weight is 0 with ${entries.length} destinations`, "give at least one a weight");
  }
  if (total > largestTotal)
    route.error(`total weight is ${total}`, `write weights that add up to ${largestTotal} at most`);
}

function checkActions(route: Field, isDelegate: boolean): void {
  const actions = ["route", "redirect", "directResponse"] as const;
  if (route.has("delegate")) {
    if (isDelegate) route.at("delegate").error("a delegate cannot delegate", "leave it out");
    for (const name of route.written(["route", "redirect"])) {
      route.at(name).error('excludes "delegate", which is written too', "keep one of them");
    }
    return;
  }
  const written = route.written(actions).filter((name) => name !== "route" || !route.at(name).isEmpty);
  if (written.length === 0)
    route.error("says nothing to do", "set one of route, redirect, directResponse (or delegate)");
  if (written.length > 1) {
    route.error(`${written.slice(0, -1).join(", ")} and ${written.at(-1)} are exclusive`, "keep one of them");
  }
  const [answer] = route.written(["redirect", "directResponse"]);
  if (answer === undefined) return;
  for (const name of route.written(["fault", "rewrite"])) {
    route.at(name).error(`has no effect with ${answer}`, "remove one");
  }
}

function checkRedirect(redirect: Field, matches: readonly Field[]): void {
  if (!redirect.isSet) return;
  if (redirect.has("prefixRewrite") && !matches.every((match) => match.at("uri").has("prefix"))) {
    redirect
      .at("prefixRewrite")
      .error("replaces the prefix that a match took", "match by uri.prefix everywhere in the rule");
  }
  redirect.atMostOne(["uri", "prefixRewrite"]);
  redirect.atMostOne(["port", "derivePort"]);
  const any = ["uri", "prefixRewrite", "authority", "port", "derivePort", "scheme"];
  if (redirect.written(any).length === 0) redirect.error("leads nowhere", `write one of ${any.join(", ")}`);
  const code = redirect.at("redirectCode");
  if (code.number !== undefined && ![301, 302, 303, 307, 308].includes(code.number)) {
    code.error(`${code.quoted} is no redirect that clients follow`, "write 301, 302, 303, 307 or 308");
  }
}

function checkRetries(retries: Field): void {
  const others = retries.keys().filter((key) => key !== "attempts");
  if (others.length > 0) {
    if (retries.at("attempts").number === 0)
      retries.error("attempts 0 disables retries", `remove ${others.join(", ")}`);
    else if (!retries.has("attempts"))
      retries.error("has no attempts, which disables retries", `write how many, or remove ${others.join(", ")}`);
  }
  for (const name of ["perTryTimeout", "backoff"]) checkDuration(retries.at(name));
  const retryOn = retries.at("retryOn");
  for (const token of (retryOn.text || undefined)?.split(",") ?? []) {
    if (retryTokens.includes(token) || isStatus(token)) continue;
    const hint = token.trim() === token ? suggest(token, retryTokens, "write one of") : "write no spaces around commas";
    retryOn.error(`unknown condition "${token}"`, hint);
  }
}

const isStatus = (token: string): boolean => /^\d{3}$/.test(token) && STATUS_CODES[token] !== undefined;

function checkFault(fault: Field): void {
  if (!fault.isSet) return;
  const delay = fault.at("delay");
  const abort = fault.at("abort");
  if (!delay.isSet && !abort.isSet) fault.error("has neither delay nor abort", "write at least one of them");
  checkDuration(delay.at("fixedDelay"));
  for (const each of [delay, abort]) {
    const percentage = each.at("percentage").at("value");
    if (each.isSet && percentage.number === undefined && !each.has("percent")) {
      each.warn("has no percentage: nothing will happen", "write percentage: {value: 100}");
    }
    if (percentage.number !== undefined && percentage.number > 0 && percentage.number < 0.0001) {
      percentage.error(`${percentage.quoted} is too small`, "write at least 0.0001");
    }
  }
  if (!abort.isSet) return;
  abort.atMostOne(["httpStatus", "grpcStatus"]);
  if (abort.written(["httpStatus", "grpcStatus"]).length === 0) {
    abort.warn("names no error: it has no effect", "write httpStatus or grpcStatus");
  }
  if (abort.at("httpStatus").number === 600)
    abort.at("httpStatus").error("600 is no status of HTTP", "write 200 to 599");
  const status = abort.at("grpcStatus");
  if (status.text !== undefined && !grpcStatuses.includes(status.text)) {
    status.error(`unknown gRPC status ${status.quoted}`, suggest(status.text, grpcStatuses, "write one of"));
  }
}

/** Who asks, and through which gateway. */
export function checkSource(match: Field): void {
  checkLabels(match.at("sourceLabels"));
  const namespace = match.at("sourceNamespace");
  if (namespace.text !== undefined && namespace.text !== "" && !isDnsLabel(namespace.text)) {
    namespace.error(`${namespace.quoted} is not a namespace`, "write the name of one");
  }
  for (const gateway of match.at("gateways").items()) checkGateway(gateway);
}

/** `namespace/name`, or a name; `mesh` means every proxy of the mesh. */
export function checkGateway(gateway: Field): void {
  const { text } = gateway;
  if (text === undefined) return;
  const slash = text.indexOf("/");
  const parts = slash < 0 ? [text] : [text.slice(0, slash), text.slice(slash + 1)];
  const bad = parts.some((part) => !/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(part));
  if (bad) gateway.error(`${gateway.quoted} is no name of a gateway`, 'write "mesh", a name, or "namespace/name"');
  else if (slash < 0 && text.includes("."))
    gateway.warn(`${gateway.quoted} is a former spelling`, 'write "namespace/name"');
}

/** What takes the place of a match may name its groups. */
function checkRegexRewrite(rewrite: Field): void {
  const match = rewrite.at("match");
  checkRegex(match);
  const written = rewrite.at("rewrite");
  const groups = groupsOf(match.text ?? "");
  if (written.text === undefined || groups === undefined) return;
  const bad = /\\(?:([^\d\\])|$)/.exec(written.text.replaceAll("\\\\", ""));
  if (bad !== null) {
    written.error(
      `${written.quoted} has a backslash before ${bad[1] ?? "nothing"}`,
      "write \\1 for a group, or \\\\ for a backslash",
    );
    return;
  }
  const highest = Math.max(
    0,
    ...[...written.text.replaceAll("\\\\", "").matchAll(/\\(\d)/g)].map(([, digit]) => Number(digit)),
  );
  if (highest > groups) {
    written.error(
      `${written.quoted} names group ${highest}, match has ${groups}`,
      "put what you mean in parentheses in match",
    );
  }
}

function checkHttpMatch(match: Field): void {
  // Some people write a star for any path.
  checkStringMatch(match.at("uri"), { emptyPrefixAllowed: true, starIsPresence: true });
  for (const name of ["scheme", "method", "authority"]) checkStringMatch(match.at(name));
  for (const name of ["headers", "withoutHeaders", "queryParams"]) {
    for (const [key, value] of match.at(name).entries()) {
      if (name === "queryParams") {
        if (key === "") value.error("has no name", "write the name");
      } else checkMatchedName(value, key);
      checkStringMatch(value, { starIsPresence: true });
    }
  }
  checkSource(match);
  for (const name of match.written(["sourceLabels"])) {
    match.at(name).warn("is not supported at waypoints", "this match will never apply there: remove it");
  }
}

function checkHeaders(headers: Field): void {
  for (const side of ["request", "response"] as const) checkHeaderOperations(headers.at(side), side);
}

/** At most one of them may say what the host becomes. */
function checkAuthority(route: Field): void {
  const request = route.at("headers").at("request");
  const changes = ["set", "add"].flatMap((kind) =>
    request
      .at(kind)
      .entries()
      .filter(([name]) => name === ":authority" || name.toLowerCase() === "host")
      .map(([, value]) => value),
  );
  const all = [...(route.at("rewrite").has("authority") ? [route.at("rewrite").at("authority")] : []), ...changes];
  for (const other of all.slice(1)) other.error("the host is changed elsewhere in this rule", "keep one of them");
}

const megabyte = 1_000_000;
const largeBody = 100_000;

function checkDirectResponse(response: Field): void {
  const body = response.at("body");
  body.atMostOne(["string", "bytes"]);
  const bytes = body.at("bytes");
  if (
    bytes.text !== undefined &&
    !/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(bytes.text)
  ) {
    bytes.error("is not base64", "encode the body, or write it as string");
  }
  const size =
    bytes.text === undefined
      ? Buffer.byteLength(body.at("string").text ?? "")
      : Buffer.byteLength(bytes.text, "base64");
  if (size > megabyte) body.error(`has ${size} bytes, at most ${megabyte} are allowed`, "shorten it");
  else if (size > largeBody)
    body.warn(`has ${size} bytes, and is sent to every waypoint`, "serve it from an application");
  const status = response.at("status");
  if (status.number === 600) status.error("600 is no status of HTTP", "write 200 to 599");
  if (size > 0 && [204, 304].includes(status.number ?? 0)) {
    body.warn(`an answer with status ${status.quoted} has no body`, "leave it out, or write another status");
  }
}

const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

function checkCors(cors: Field): void {
  for (const origin of cors.at("allowOrigins").items()) {
    checkStringMatch(origin);
    if (typeof origin.value === "object" && origin.written(stringMatchKeys).length === 0) {
      origin.error("says nothing", `write one of ${stringMatchKeys.join(", ")}`);
    }
    if (origin.at("exact").text === "")
      origin.at("exact").error("must not be empty", "write an origin such as https://a.example");
  }
  for (const method of cors.at("allowMethods").items()) {
    if (method.text !== undefined && !methods.includes(method.text)) {
      method.error(`unknown method ${method.quoted}`, suggest(method.text, methods, "write one of"));
    }
  }
  for (const name of ["allowHeaders", "exposeHeaders"]) {
    for (const header of cors.at(name).items()) {
      if (header.text !== undefined && header.text !== "*") checkFieldName(header, header.text);
    }
  }
  const maxAge = cors.at("maxAge");
  checkDuration(maxAge, { zeroAllowed: true });
  if ((parseDurationMs(maxAge.text ?? "") ?? 0) % 1000 !== 0) {
    maxAge.error(`${maxAge.quoted} is no whole number of seconds`, "browsers count seconds");
  }
  if (cors.has("allowOrigin"))
    cors.at("allowOrigin").warn("is a former spelling", "write allowOrigins: [{exact: ...}]");
}

export function checkHttp(route: Field, options: { isDelegate: boolean }): void {
  checkActions(route, options.isDelegate);
  checkWeights(route.at("route"));
  checkRedirect(route.at("redirect"), route.at("match").items());
  checkRetries(route.at("retries"));
  checkFault(route.at("fault"));
  checkDuration(route.at("timeout"), { zeroAllowed: true });
  if (route.has("mirror") && route.has("mirrors")) {
    route.at("mirror").error('excludes "mirrors", which is written too', "use mirrors only; mirror is the single form");
  }
  checkDestination(route.at("mirror"));
  for (const mirror of route.at("mirrors").items()) checkDestination(mirror.at("destination"));
  const rewrite = route.at("rewrite");
  rewrite.atMostOne(["uri", "uriRegexRewrite"]);
  if (rewrite.isSet && rewrite.keys().length === 0)
    rewrite.error("is empty", "write uri, uriRegexRewrite or authority");
  checkRegexRewrite(rewrite.at("uriRegexRewrite"));
  checkHeaders(route.at("headers"));
  checkAuthority(route);
  checkDirectResponse(route.at("directResponse"));
  checkCors(route.at("corsPolicy"));
  for (const name of route.written(["mirrorPercent", "mirror_percent"])) {
    route.at(name).warn("is a former spelling", "write mirrorPercentage: {value: ...}");
  }
  for (const match of route.at("match").items()) checkHttpMatch(match);
}
