/** Answers of routes that go nowhere: redirects and direct responses. */
import type {
  DirectResponseAction,
  RedirectAction,
} from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { Headers } from "#waypoint/http/headers.ts";
import type { LocalReply } from "#waypoint/http/exchange.ts";
import type { RequestHead } from "#waypoint/http/streams.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { compilePathRewrite } from "./path-rewrite.ts";
import type { MatchedPath } from "./route-match.ts";

const redirectCodes = [301, 302, 303, 307, 308];

export function compileRedirect(
  redirect: RedirectAction,
  matched: MatchedPath,
  path: string,
  problem: Problem,
): (request: RequestHead) => LocalReply {
  const status = redirectCodes[redirect.responseCode];
  if (status === undefined) problem(`${path}.response_code`, `${redirect.responseCode} is unknown`);
  const location = compileLocation(redirect, matched, path, problem);
  return (request) => ({
    status: status ?? 500,
    headers: new Headers(["location", location(request)]),
    details: "direct_response",
  });
}

function compileLocation(
  redirect: RedirectAction,
  matched: MatchedPath,
  path: string,
  problem: Problem,
): (request: RequestHead) => string {
  const { schemeRewriteSpecifier: scheme, hostRedirect, portRedirect } = redirect;
  if (portRedirect > 65_535) problem(`${path}.port_redirect`, `${portRedirect} is no port`);
  for (const [name, text] of [
    ["host_redirect", hostRedirect],
    ["scheme_redirect", scheme.case === "schemeRedirect" ? scheme.value : ""],
  ] as const)
    if (/[\r\n\0]/.test(text)) problem(`${path}.${name}`, "has a line break or a zero byte");
  const port = portRedirect === 0 ? "" : `:${portRedirect}`;
  const newPath = compileRedirectPath(redirect, matched, path, problem);
  return (request) => {
    const toScheme =
      scheme.case === "schemeRedirect" && scheme.value !== ""
        ? scheme.value
        : scheme.case === "httpsRedirect" && scheme.value
          ? "https"
          : request.scheme;
    const host = hostRedirect === "" ? hostOf(request, toScheme, port) : hostRedirect;
    return `${toScheme}://${host}${port}${newPath(request.path)}`;
  };
}

function compileRedirectPath(
  redirect: RedirectAction,
  matched: MatchedPath,
  path: string,
  problem: Problem,
): (path: string) => string {
  const { pathRewriteSpecifier: specifier, stripQuery } = redirect;
  const stripped = (text: string) => (stripQuery ? text.replace(/\?.*$/s, "") : text);
  if (specifier.case === "pathRedirect" && specifier.value !== "") {
    const { value } = specifier;
    if (/[\r\n\0]/.test(value)) problem(`${path}.path_redirect`, "has a line break or a zero byte");
    if (value.includes("?")) return () => value;
    return (text) => {
      const query = text.indexOf("?");
      return query < 0 || stripQuery ? value : value + text.slice(query);
    };
  }
  const rewrite = compilePathRewrite(
    {
      prefixRewrite: specifier.case === "prefixRewrite" ? specifier.value : "",
      regexRewrite: specifier.case === "regexRewrite" ? specifier.value : undefined,
    },
    matched,
    path,
    problem,
  );
  if (rewrite === undefined) return stripped;
  return (text) => {
    const rewritten = stripped(rewrite(text));
    return rewritten.startsWith("/") ? rewritten : `/${rewritten}`;
  };
}

/** The request's own host; its port goes where the redirect names another, or where it is the default of the scheme left behind. */
function hostOf(request: RequestHead, scheme: string, port: string): string {
  const { authority } = request;
  const colon = authority.lastIndexOf(":");
  if (colon < 0 || authority.indexOf("]", colon) >= 0) return authority;
  const forwarded = request.headers.get("x-forwarded-proto") ?? request.scheme;
  const oldPort = authority.slice(colon);
  const isDefault = (forwarded === "https" && oldPort === ":443") || (forwarded === "http" && oldPort === ":80");
  return port !== "" || (scheme !== forwarded && isDefault) ? authority.slice(0, colon) : authority;
}

const nothing = Buffer.alloc(0);

export function compileDirectResponse(
  action: DirectResponseAction,
  maxBodyBytes: number,
  path: string,
  problem: Problem,
): () => LocalReply {
  const { status } = action;
  if (!(status >= 200 && status < 600)) problem(`${path}.status`, `${status} is not between 200 and 599`);
  const body = readBody(action, path, problem);
  if (body.length > maxBodyBytes) problem(`${path}.body`, `has ${body.length} bytes, limit ${maxBodyBytes}`);
  const reply: LocalReply = { status, body, details: "direct_response" };
  return () => reply;
}

function readBody({ body }: DirectResponseAction, path: string, problem: Problem): Buffer {
  switch (body?.specifier.case) {
    case "inlineString":
      return Buffer.from(body.specifier.value, "utf8");
    case "inlineBytes":
      return Buffer.from(body.specifier.value);
    case "filename":
    case "environmentVariable":
      problem(`${path}.body`, "only inline_string and inline_bytes are supported");
      return nothing;
    case undefined:
      return nothing;
  }
}
