import { z } from "zod";
import type { Field } from "./field.ts";
import { age, networkingKind, type KindDefinition } from "./kind.ts";
import {
  checkDuration,
  checkExportTo,
  checkHost,
  checkIpBlock,
  checkLabels,
  dnsLabel,
  duration,
  filled,
  hostProblem,
  port,
} from "./scalars.ts";
import { suggest } from "./nearest.ts";

const stringMatch = z.strictObject({
  exact: z.string().optional(),
  prefix: z.string().optional(),
  regex: z.string().max(1024).optional().describe("RE2, matching the whole value"),
});
const matches = z.record(z.string(), stringMatch);
const percent = z.strictObject({ value: z.number().min(0).max(100).optional() });

const destination = z.strictObject({
  host: z.string().min(1).describe("The service; a short name means this namespace"),
  subset: dnsLabel.optional().describe("A subset of its DestinationRule"),
  port: z.strictObject({ number: port }).optional(),
});

const headerOperations = z.strictObject({
  set: z.record(z.string(), z.string()).optional(),
  add: z.record(z.string(), z.string()).optional(),
  remove: z.array(z.string()).optional(),
});
const headers = z.strictObject({ request: headerOperations.optional(), response: headerOperations.optional() });

const l4Match = {
  destinationSubnets: z.array(z.string()).optional(),
  port: port.optional(),
  sourceLabels: z.record(z.string(), z.string()).optional(),
  sourceNamespace: z.string().optional(),
  gateways: z.array(z.string()).optional(),
};
const l4Route = z.array(z.strictObject({ destination, weight: z.int().min(0).max(2_147_483_647).optional() })).min(1);

const http = z.strictObject({
  name: z.string().optional(),
  match: z
    .array(
      z.strictObject({
        name: z.string().optional(),
        uri: stringMatch.optional().describe("Path without query"),
        ignoreUriCase: z.boolean().optional(),
        scheme: stringMatch.optional(),
        method: stringMatch.optional(),
        authority: stringMatch.optional(),
        headers: matches.optional(),
        withoutHeaders: matches.optional(),
        queryParams: matches.optional(),
        port: port.optional(),
        sourceLabels: z.record(z.string(), z.string()).optional(),
        sourceNamespace: z.string().optional(),
        gateways: z.array(z.string()).optional(),
        statPrefix: z.string().optional(),
      }),
    )
    .optional()
    .describe("Requests that the route takes: any of these; all if not written"),
  route: z
    .array(
      z.strictObject({
        destination,
        weight: z.int().min(0).max(2_147_483_647).optional().describe("Share of the requests"),
        headers: headers.optional(),
      }),
    )
    .optional(),
  redirect: z
    .strictObject({
      uri: z.string().optional(),
      prefixRewrite: z.string().optional(),
      authority: z.string().optional(),
      port: port.optional(),
      derivePort: z.enum(["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"]).optional(),
      scheme: z.enum(["http", "https"]).optional(),
      redirectCode: z.int().min(300).max(399).optional(),
    })
    .optional(),
  directResponse: z
    .strictObject({
      status: z.int().min(200).max(600),
      body: z.strictObject({ string: z.string().optional(), bytes: z.string().optional() }).optional(),
    })
    .optional(),
  delegate: z.strictObject({ name: filled, namespace: z.string().optional() }).optional(),
  rewrite: z
    .strictObject({
      uri: z.string().optional(),
      authority: z.string().optional(),
      uriRegexRewrite: z.strictObject({ match: filled.max(1024), rewrite: z.string() }).optional(),
    })
    .optional(),
  timeout: duration.optional().describe("For the whole request; 0s means none"),
  retries: z
    .strictObject({
      attempts: z.int().min(0).max(2_147_483_647).optional(),
      perTryTimeout: duration.optional(),
      retryOn: z.string().optional(),
      retryRemoteLocalities: z.boolean().optional(),
      retryIgnorePreviousHosts: z.boolean().optional(),
      backoff: duration.optional(),
    })
    .optional(),
  fault: z
    .strictObject({
      delay: z
        .strictObject({
          fixedDelay: duration,
          percentage: percent.optional(),
          percent: z.int().min(0).max(100).optional(),
        })
        .optional(),
      abort: z
        .strictObject({
          httpStatus: z.int().min(200).max(600).optional(),
          grpcStatus: z.string().optional(),
          percentage: percent.optional(),
        })
        .optional(),
    })
    .optional(),
  mirror: destination.optional(),
  mirrors: z.array(z.strictObject({ destination, percentage: percent.optional() })).optional(),
  mirrorPercent: z.int().min(0).max(100).optional().describe("Former spelling of mirrorPercentage"),
  mirror_percent: z.int().min(0).max(100).optional().describe("Another spelling of mirrorPercent"),
  mirrorPercentage: percent.optional(),
  corsPolicy: z
    .strictObject({
      allowOrigin: z.array(z.string()).optional().describe("Former spelling of allowOrigins"),
      allowOrigins: z.array(stringMatch).optional(),
      allowMethods: z.array(z.string()).optional(),
      allowHeaders: z.array(z.string()).optional(),
      exposeHeaders: z.array(z.string()).optional(),
      maxAge: duration.optional(),
      allowCredentials: z.boolean().optional(),
      unmatchedPreflights: z.enum(["UNSPECIFIED", "FORWARD", "IGNORE"]).optional(),
    })
    .optional(),
  headers: headers.optional(),
});

const spec = z.strictObject({
  hosts: z.array(z.string().min(1)).optional().describe("The services whose requests it routes; none for a delegate"),
  gateways: z.array(z.string()).optional().describe('Where it applies; "mesh" if not written'),
  http: z.array(http).optional().describe("Routes for HTTP; the first that matches"),
  tls: z
    .array(
      z.strictObject({
        match: z.array(z.strictObject({ sniHosts: z.array(z.string()).min(1), ...l4Match })).min(1),
        route: l4Route.optional(),
      }),
    )
    .optional(),
  tcp: z
    .array(z.strictObject({ match: z.array(z.strictObject(l4Match)).optional(), route: l4Route.optional() }))
    .optional(),
  exportTo: z.array(z.string()).optional(),
});

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
const grpcStatuses = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

function checkStringMatch(match: Field, { emptyPrefixAllowed = false } = {}): void {
  match.atMostOne(stringMatchKeys);
  if (match.at("prefix").text === "" && !emptyPrefixAllowed) {
    match.at("prefix").error("must not be empty (only uri allows that)", "write a prefix, or leave the match out");
  }
  if (match.at("regex").text === "") match.at("regex").error("must not be empty", "write an RE2 expression");
  const regex = match.at("regex");
  const unsupported = /\(\?(=|!|<=|<!)|\\[1-9]/.exec(regex.text ?? "");
  if (unsupported !== null) {
    regex.error(
      `${regex.quoted} is not RE2: it uses "${unsupported[0]}"`,
      "RE2 has no look-around and no back-references",
    );
  }
}

function checkDestination(destination: Field): void {
  const host = destination.at("host");
  if (host.text === "*") host.error('"*" is no destination', "name the service");
  else if (!/^[\d.]+$/.test(host.text ?? "")) checkHost(host);
}

function checkWeights(route: Field): void {
  const entries = route.items();
  for (const entry of entries) checkDestination(entry.at("destination"));
  const total = entries.reduce((sum, entry) => sum + (entry.at("weight").number ?? 0), 0);
  if (entries.length > 1 && total === 0) {
    route.error(`total weight is 0 with ${entries.length} destinations`, "give at least one a weight");
  }
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

function checkRedirect(redirect: Field): void {
  if (!redirect.isSet) return;
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
  if (retries.at("attempts").number === 0 && others.length > 0) {
    retries.error("attempts 0 disables retries", `remove ${others.join(", ")}`);
  }
  for (const name of ["perTryTimeout", "backoff"]) checkDuration(retries.at(name));
  const retryOn = retries.at("retryOn");
  for (const token of (retryOn.text ?? "").split(",")) {
    if (token === "" || retryTokens.includes(token) || /^[1-5]\d\d$/.test(token)) continue;
    const hint = token.trim() === token ? suggest(token, retryTokens, "write one of") : "write no spaces around commas";
    retryOn.error(`unknown condition "${token}"`, hint);
  }
}

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
  const status = abort.at("grpcStatus");
  if (status.text !== undefined && !grpcStatuses.includes(status.text)) {
    status.error(`unknown gRPC status ${status.quoted}`, suggest(status.text, grpcStatuses, "write one of"));
  }
}

function checkHttpMatch(match: Field, isMeshOnly: boolean): void {
  checkStringMatch(match.at("uri"), { emptyPrefixAllowed: true });
  for (const name of ["scheme", "method", "authority"]) checkStringMatch(match.at(name));
  for (const name of ["headers", "withoutHeaders", "queryParams"]) {
    for (const [header, value] of match.at(name).entries()) {
      if (header === "") value.error("has no name", "write the name");
      if (isMeshOnly && name !== "queryParams" && header.toLowerCase().startsWith("@request.auth.claims")) {
        value.error("claims are matched at gateways only", "bind the object to a gateway");
      }
      checkStringMatch(value);
    }
  }
  checkLabels(match.at("sourceLabels"));
  for (const name of match.written(["sourceLabels"])) {
    match.at(name).warn("is not supported at waypoints", "this match will never apply there: remove it");
  }
}

function checkHttp(route: Field, options: { isDelegate: boolean; isMeshOnly: boolean }): void {
  checkActions(route, options.isDelegate);
  checkWeights(route.at("route"));
  checkRedirect(route.at("redirect"));
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
  for (const match of route.at("match").items()) checkHttpMatch(match, options.isMeshOnly);
}

function checkVirtualHosts(hosts: readonly Field[], isInMesh: boolean): void {
  for (const [index, host] of hosts.entries()) {
    if (host.text === "*") {
      if (isInMesh) host.error('"*" cannot be used for traffic in the mesh', "name the service or bind to a gateway");
    } else if (!/^[\d.:a-f]+$/.test(host.text ?? "")) checkHost(host);
    for (const [before, other] of hosts.slice(0, index).entries()) {
      if (overlap(host.text ?? "", other.text ?? "")) {
        host.error(`${host.quoted} and hosts[${before}], ${other.quoted}, cover the same names`, "keep one");
      }
    }
  }
}

function overlap(a: string, b: string): boolean {
  if (a === "" || b === "") return false;
  if (a === b) return true;
  const covers = (wide: string, narrow: string): boolean => wide.startsWith("*") && narrow.endsWith(wide.slice(1));
  return covers(a, b) || covers(b, a);
}

function check(spec: Field, object: Field): void {
  const hosts = spec.at("hosts").items();
  const isDelegate = hosts.length === 0;
  const gateways = spec
    .at("gateways")
    .items()
    .map((gateway) => gateway.text);
  const isInMesh = gateways.length === 0 || gateways.includes("mesh");
  const isMeshOnly = gateways.every((gateway) => gateway === "mesh");
  if (spec.written(["http", "tls", "tcp"]).every((name) => spec.at(name).isEmpty)) {
    spec.error("has no routes", "define at least one of http, tcp or tls");
  }
  if (isDelegate) {
    for (const name of spec.written(["gateways", "tls", "tcp"])) {
      spec.at(name).error("a delegate (an object without hosts) cannot have it", "write hosts, or leave it out");
    }
  }
  checkVirtualHosts(hosts, isInMesh);
  const routes = spec.at("http").items();
  for (const route of routes) checkHttp(route, { isDelegate, isMeshOnly });
  const all = routes.findIndex((route) => route.at("match").items().length === 0);
  if (all >= 0 && all < routes.length - 1) {
    routes[all + 1]?.warn(`is never reached: http[${all}] has no match`, "put the route without match last");
  }
  for (const kind of ["tls", "tcp"]) {
    for (const route of spec.at(kind).items()) {
      if (!route.has("route")) route.error("has no route", "write a destination");
      checkWeights(route.at("route"));
      for (const match of route.at("match").items()) {
        for (const subnet of match.at("destinationSubnets").items()) checkIpBlock(subnet);
        for (const sni of match.at("sniHosts").items()) {
          const problem = hostProblem(sni.text ?? "");
          if (problem !== undefined && sni.text !== "*")
            sni.error(`${sni.quoted} is not a host name: it ${problem}`, "write a DNS name");
        }
      }
    }
  }
  checkExportTo(spec.at("exportTo"), object.at("metadata").at("namespace").text ?? "");
}

export const virtualService: KindDefinition = {
  ...networkingKind,
  kind: "VirtualService",
  plural: "virtualservices",
  shortNames: ["vs"],
  description: "How a waypoint routes requests for a service.",
  columns: [
    { name: "Gateways", type: "string", jsonPath: ".spec.gateways", description: "Where it applies" },
    { name: "Hosts", type: "string", jsonPath: ".spec.hosts", description: "The services whose requests it routes" },
    age,
  ],
  spec,
  check,
};
