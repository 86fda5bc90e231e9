/** The form of rules for HTTP in a VirtualService. */
import { z } from "zod";
import { dnsLabel, duration, filled, port } from "./scalars.ts";

export const destination = z.strictObject({
  host: z.string().min(1).describe("The service; a short name means this namespace"),
  subset: dnsLabel.optional().describe("A subset of its DestinationRule; every endpoint if not written"),
  port: z
    .strictObject({ number: port.describe("Number of the port") })
    .optional()
    .describe("Port of the service; if not written its only one, else the one that was called"),
});
export const weight = z
  .int()
  .min(0)
  .max(2_147_483_647)
  .optional()
  .describe(
    "Share, in proportion to the others; 0 if not written, which is none unless the destination is the only one",
  );

/** Who calls, as far as it is known to the one who routes. */
export const callerMatch = {
  port: port.optional().describe("Port of the service that is called; any if not written"),
  sourceLabels: z
    .record(z.string(), z.string())
    .optional()
    .describe("Labels of the caller, for gRPC clients without a proxy; at a waypoint such a match never applies"),
  sourceNamespace: z
    .string()
    .optional()
    .describe("Namespace of the caller, for gRPC clients without a proxy; a waypoint does not know its callers by it"),
  gateways: z
    .array(z.string())
    .optional()
    .describe('Where the match applies, in place of spec.gateways; in the mesh if "mesh" is among them'),
};

const text = z.string().optional();
const stringMatch = z.strictObject({
  exact: text.describe("The whole value"),
  prefix: text.describe("What the value begins with"),
  regex: z.string().max(1024).optional().describe("RE2, matching the whole value"),
});
const matches = z.record(z.string(), stringMatch).optional();

const match = z.strictObject({
  name: text.describe("Stands behind the name of the rule in access logs and traces"),
  uri: stringMatch.optional().describe("Path without query; the prefix /foo takes /foobar too"),
  ignoreUriCase: z
    .boolean()
    .optional()
    .describe("Whether exact and prefix of uri are compared without regard to case; false if not written"),
  scheme: stringMatch.optional().describe("http or https, as the request says"),
  method: stringMatch.optional().describe("Method of the request, in capitals; POST for gRPC"),
  authority: stringMatch.optional().describe("Host that the request names, with the port where the client wrote one"),
  headers: matches.describe(
    'Headers that the request must have, by name, all of them; {} or the regex "*" is for any value. @request.auth.claims.NAME asks for a claim of the token',
  ),
  withoutHeaders: matches.describe("Headers that must not be so; a missing one is as wanted"),
  queryParams: matches.describe(
    'Parameters of the query, by name, all of them; {} or the regex "*" is for any value. Of several with one name the first counts',
  ),
  ...callerMatch,
  statPrefix: text.describe("For Envoy's own statistics; without effect at our waypoints"),
});

const headerOperations = z.strictObject({
  set: z
    .record(z.string(), z.string())
    .optional()
    .describe(
      "Headers to write, in place of what is there; %REQ(x-user)% and the like are filled in, %% is a percent sign. What carries the form of messages, such as Content-Length, cannot be set",
    ),
  add: z.record(z.string(), z.string()).optional().describe("Headers to write beside what is there, as with set"),
  remove: z.array(z.string()).optional().describe("Headers to take away, by name"),
});
const headers = z
  .strictObject({
    request: headerOperations.optional().describe("Of the request; host, in set, is the host that is asked for"),
    response: headerOperations.optional().describe("Of the answer"),
  })
  .optional();

const percent = z
  .strictObject({
    value: z.number().min(0).max(100).optional().describe("In percent, from 0 to 100, with fractions"),
  })
  .optional();

const redirect = z.strictObject({
  uri: text.describe("Path to go to, in place of the whole path; the query stays unless a new one is written"),
  prefixRewrite: text.describe("In place of the matched prefix; every match of the rule must have uri.prefix"),
  authority: text.describe("Host to go to; that of the request if not written"),
  port: port.optional().describe("Port to go to; excludes derivePort"),
  derivePort: z
    .enum(["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"])
    .optional()
    .describe("FROM_PROTOCOL_DEFAULT leaves the port to the scheme, FROM_REQUEST_PORT keeps the one that was called"),
  scheme: z.enum(["http", "https"]).optional().describe("That of the request if not written"),
  redirectCode: z.int().min(300).max(399).optional().describe("301, 302, 303, 307 or 308; 301 if not written"),
});

const directResponse = z.strictObject({
  status: z.int().min(200).max(600).describe("Status of the answer, 200 to 599"),
  body: z
    .strictObject({
      string: text.describe("The body as text"),
      bytes: text.describe("The body in base64"),
    })
    .optional()
    .describe("At most 1000000 bytes, as string or bytes; empty if not written"),
});

const rewrite = z.strictObject({
  uri: text.describe(
    "In place of the matched prefix, or of the whole path where exact or regex matched; the query stays",
  ),
  authority: text.describe("Host that the destination is asked for"),
  uriRegexRewrite: z
    .strictObject({
      match: filled.max(1024).describe("RE2; every part of the path that it matches is replaced"),
      rewrite: z.string().describe("What stands there instead; \\1 is the first group, \\0 the whole part"),
    })
    .optional()
    .describe("Changes the path by an expression; excludes uri"),
});

const retries = z.strictObject({
  attempts: z.int().min(0).max(2_147_483_647).optional().describe("Tries after the first; 0 switches retries off"),
  perTryTimeout: duration
    .optional()
    .describe("For each try, the first one too; if not written only the timeout of the rule ends it"),
  retryOn: text.describe(
    "Conditions and statuses with commas and no spaces between, such as 5xx,reset,503; connect-failure,refused-stream,unavailable,cancelled if not written. Others are gateway-error, reset-before-request, retriable-4xx (409), envoy-ratelimited, and of gRPC deadline-exceeded, internal, resource-exhausted",
  ),
  retryRemoteLocalities: z
    .boolean()
    .optional()
    .describe("Whether retries go on to endpoints of other places; false if not written"),
  retryIgnorePreviousHosts: z
    .boolean()
    .optional()
    .describe("Whether retries avoid endpoints that were tried; if not written true, except with consistentHash"),
  backoff: duration
    .optional()
    .describe("Longest wait before the first retry, doubled for each further one up to ten times; 25ms if not written"),
});

const fault = z.strictObject({
  delay: z
    .strictObject({
      fixedDelay: duration.describe("How long requests wait, at least 1ms"),
      percentage: percent.describe("Share of requests that wait; none if not written"),
      percent: z.int().min(0).max(100).optional().describe("Former spelling of percentage, in whole percent"),
    })
    .optional()
    .describe("Lets requests wait before they are sent on"),
  abort: z
    .strictObject({
      httpStatus: z.int().min(200).max(600).optional().describe("Status to answer with, 200 to 599"),
      grpcStatus: text.describe("Status of gRPC to answer with, such as UNAVAILABLE; excludes httpStatus"),
      percentage: percent.describe("Share of requests that fail; none if not written"),
    })
    .optional()
    .describe("Lets requests fail, after the delay"),
});

const corsPolicy = z.strictObject({
  allowOrigin: z.array(z.string()).optional().describe("Former spelling of allowOrigins"),
  allowOrigins: z
    .array(stringMatch)
    .optional()
    .describe('Origins whose pages may call, such as https://a.example; {exact: "*"} for all'),
  allowMethods: z.array(z.string()).optional().describe('Methods that they may use, or "*"'),
  allowHeaders: z.array(z.string()).optional().describe('Headers that they may send, or "*"'),
  exposeHeaders: z.array(z.string()).optional().describe("Headers of answers that they may read"),
  maxAge: duration
    .optional()
    .describe("How long browsers may keep the answer to a preflight, in whole seconds; as they like if not written"),
  allowCredentials: z.boolean().optional().describe("Whether they may send cookies and the like; not if not written"),
  unmatchedPreflights: z
    .enum(["UNSPECIFIED", "FORWARD", "IGNORE"])
    .optional()
    .describe(
      "Preflights of other origins: FORWARD (also UNSPECIFIED, and if not written) sends them on, IGNORE answers without leave",
    ),
});

export const http = z.strictObject({
  name: text.describe("Name of the rule in access logs and traces"),
  match: z.array(match).optional().describe("Requests that the route takes: any of these; all if not written"),
  route: z
    .array(
      z.strictObject({
        destination: destination.describe("Where the requests go"),
        weight,
        headers: headers.describe("Changes to headers for this destination alone"),
      }),
    )
    .optional()
    .describe("Where requests go, shared out by weight; otherwise write redirect, directResponse or delegate"),
  redirect: redirect.optional().describe("Sends the client elsewhere; what is not written stays as in the request"),
  directResponse: directResponse.optional().describe("Answers in place of a destination"),
  delegate: z
    .strictObject({
      name: filled.describe("Name of the VirtualService, which has no hosts"),
      namespace: text.describe("Its namespace; this one if not written"),
    })
    .optional()
    .describe(
      "Another VirtualService whose rules stand here, for requests that both match; it cannot delegate further",
    ),
  rewrite: rewrite.optional().describe("Changes path and host on the way to the destination"),
  timeout: duration
    .optional()
    .describe("From the end of the request to that of the answer, retries too; none with 0s or if not written"),
  retries: retries
    .optional()
    .describe("Tries after failures; if not written as the mesh says, else 2 on the usual conditions of retryOn"),
  fault: fault.optional().describe("Faults on purpose, to see how callers bear them"),
  mirror: destination.optional().describe("Single form of mirrors, with mirrorPercentage"),
  mirrors: z
    .array(
      z.strictObject({
        destination: destination.describe("Where the copies go"),
        percentage: percent.describe("Share of requests that are copied; all if not written"),
      }),
    )
    .optional()
    .describe("Services that get copies of requests; their answers are dropped. -shadow is added to the copy's host"),
  mirrorPercent: z.int().min(0).max(100).optional().describe("Former spelling of mirrorPercentage"),
  mirror_percent: z.int().min(0).max(100).optional().describe("Another spelling of mirrorPercent"),
  mirrorPercentage: percent.describe("Share of requests that mirror gets; all if not written"),
  corsPolicy: corsPolicy.optional().describe("Which pages of other origins may call, for browsers"),
  headers: headers.describe("Changes to headers, whatever the destination"),
});
