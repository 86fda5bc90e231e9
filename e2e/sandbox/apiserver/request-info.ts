/** What a request asks for, read from its method and URL alone. */
export type RequestInfo = { readonly kind: "other"; readonly path: string; readonly verb: string } | ResourceRequest;

export interface ResourceRequest {
  readonly kind: "resource";
  readonly path: string;
  readonly verb: Verb;
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly namespace?: string;
  readonly name?: string;
  readonly subresource?: string;
  /** What follows the subresource, for proxies. */
  readonly rest?: string;
}

/** Splits a request's target. No `URL`: that would resolve dots and refuse what only deserves a 404. */
export function readUrl(target = "/"): { path: string; query: URLSearchParams } {
  const at = target.indexOf("?");
  return at < 0
    ? { path: target, query: new URLSearchParams() }
    : { path: target.slice(0, at), query: new URLSearchParams(target.slice(at + 1)) };
}

export type Verb = "get" | "list" | "watch" | "create" | "update" | "patch" | "delete" | "deletecollection";

export function readRequest(method: string, path: string, query: URLSearchParams): RequestInfo {
  const segments = path
    .split("/")
    .filter((segment) => segment !== "")
    .map(decodeSegment);
  const prefix = segments.shift();
  const group = prefix === "apis" ? segments.shift() : prefix === "api" ? "" : undefined;
  const version = segments.shift();
  const [first] = segments;
  if (group === undefined || version === undefined || first === undefined)
    return { kind: "other", path, verb: method.toLowerCase() };
  const inNamespace =
    first === "namespaces" && segments.length > 2 && !(group === "" && isNamespaceSubresource(segments[2]));
  const namespace = inNamespace ? segments[1] : undefined;
  const [resource = "", name, subresource, ...rest] = inNamespace ? segments.slice(2) : segments;
  return {
    kind: "resource",
    path,
    verb: verbOf(method, name, query),
    group,
    version,
    resource,
    ...(namespace === undefined ? {} : { namespace }),
    ...(name === undefined ? {} : { name }),
    ...(subresource === undefined ? {} : { subresource }),
    ...(rest.length === 0 ? {} : { rest: rest.join("/") }),
  };
}

const isNamespaceSubresource = (segment: string | undefined) => segment === "status" || segment === "finalize";

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment; // no such name exists: the lookup answers 404
  }
}

function verbOf(method: string, name: string | undefined, query: URLSearchParams): Verb {
  switch (method) {
    case "POST":
      return "create";
    case "PUT":
      return "update";
    case "PATCH":
      return "patch";
    case "DELETE":
      return name === undefined ? "deletecollection" : "delete";
    default: {
      const watches = ["true", "1", ""].includes(query.get("watch") ?? "false");
      if (name === undefined || watches) return watches ? "watch" : "list";
      return "get";
    }
  }
}
