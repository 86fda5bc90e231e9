/** The form of backends in Gateway API's routes, and of the filters on the way to them. */
import { z } from "zod";
import {
  backendRules,
  filterListRules,
  filterRules,
  fractionRules,
  mirrorRules,
  pathChangeRules,
  starRules,
} from "./route-rules.ts";
import { anything, filled, port } from "./scalars.ts";

const hostname = z.string().min(1).max(253).optional();

export const backend = {
  group: z
    .string()
    .max(253)
    .optional()
    .default("")
    .describe("API group of the backend: empty, as if not written, for a Service"),
  kind: z
    .string()
    .min(1)
    .max(63)
    .optional()
    .default("Service")
    .describe("Service (if not written), or Hostname of networking.istio.io for a host of a ServiceEntry"),
  name: z.string().min(1).max(253).describe("Name of the Service, or the host"),
  namespace: z
    .string()
    .min(1)
    .max(63)
    .optional()
    .describe("Namespace of the Service; this one if not written. Another one needs a ReferenceGrant there"),
  port: port.optional().describe("Port of the service; must be written"),
};

const headerChange = z
  .array(
    z.strictObject({
      name: filled.max(256).describe("Name of the header, whatever its case; of several entries the first counts"),
      value: z.string().min(1).max(4096).describe("What it says"),
    }),
  )
  .max(16)
  .optional();
const headerModifier = z
  .strictObject({
    set: headerChange.describe("Headers to write, in place of what is there"),
    add: headerChange.describe("Headers to write beside what is there"),
    remove: z.array(z.string()).max(16).optional().describe("Headers to take away, by name"),
  })
  .optional();
const pathChange = z
  .strictObject({
    type: z
      .enum(["ReplaceFullPath", "ReplacePrefixMatch"])
      .describe("ReplaceFullPath writes the whole path, ReplacePrefixMatch what the rule's one PathPrefix matched"),
    replaceFullPath: z.string().max(1024).optional().describe("The path, with type ReplaceFullPath"),
    replacePrefixMatch: z
      .string()
      .max(1024)
      .optional()
      .describe("What stands in place of the prefix, with type ReplacePrefixMatch"),
  })
  .meta(pathChangeRules)
  .optional()
  .describe("Changes the path; the query stays");
const requestMirror = z
  .strictObject({
    backendRef: z.strictObject(backend).meta({ description: "Where the copies go", ...backendRules }),
    percent: z
      .int()
      .min(0)
      .max(100)
      .optional()
      .describe("Share of requests that are copied, in percent; 100 if neither this nor fraction is written"),
    fraction: z
      .strictObject({
        numerator: z.int().min(0).describe("So many requests are copied"),
        denominator: z.int().min(1).optional().default(100).describe("Of so many; 100 if not written"),
      })
      .meta(fractionRules)
      .optional()
      .describe("The share as a fraction; excludes percent"),
  })
  .meta(mirrorRules)
  .optional()
  .describe("With type RequestMirror: a backend gets copies of requests, and its answers are dropped");
const extensionRef = z
  .strictObject({
    group: z.string().describe("API group of the object"),
    kind: filled.describe("Its kind"),
    name: filled.describe("Its name"),
  })
  .optional()
  .describe("With type ExtensionRef: not supported, and the rule fails every request");

/** The field that each type of filter is told in. */
export const grpcFilterFields = {
  RequestHeaderModifier: "requestHeaderModifier",
  ResponseHeaderModifier: "responseHeaderModifier",
  RequestMirror: "requestMirror",
  ExtensionRef: "extensionRef",
} as const;
export const httpFilterFields = {
  ...grpcFilterFields,
  RequestRedirect: "requestRedirect",
  URLRewrite: "urlRewrite",
  CORS: "cors",
  ExternalAuth: "externalAuth",
} as const;

const typeOf = (fields: Readonly<Record<string, string>>): string =>
  `What the filter does: ${Object.keys(fields).join(", ")}; its settings stand in the field of the same name`;
const requestHeaders = "With type RequestHeaderModifier: changes to headers of the request";
const responseHeaders = "With type ResponseHeaderModifier: changes to headers of the answer";

const requestRedirect = z.strictObject({
  scheme: z.enum(["http", "https"]).optional().describe("That of the request if not written"),
  hostname: hostname.describe("Host to go to; that of the request if not written"),
  path: pathChange,
  port: port
    .optional()
    .describe("Port to go to; if not written the usual one of a written scheme, else the one that was called"),
  statusCode: z
    .int()
    .optional()
    .meta({ description: "301, 302, 303, 307 or 308; 302 if not written", enum: [301, 302, 303, 307, 308] }),
});

const cors = z.strictObject({
  allowOrigins: z
    .array(z.string().min(1).max(253))
    .max(64)
    .meta(starRules)
    .optional()
    .describe("Origins whose pages may call: https://a.example, https://*.a.example, or * alone"),
  allowMethods: z.array(z.string()).max(9).meta(starRules).optional().describe("Methods that they may use, or * alone"),
  allowHeaders: z
    .array(z.string().min(1).max(256))
    .max(64)
    .meta(starRules)
    .optional()
    .describe("Headers that they may send, or * alone"),
  exposeHeaders: z
    .array(z.string().min(1).max(256))
    .max(64)
    .optional()
    .describe("Headers of answers that they may read"),
  allowCredentials: z.boolean().optional().describe("Whether they may send cookies and the like; not if not written"),
  maxAge: z
    .int()
    .min(1)
    .optional()
    .default(5)
    .describe("How long browsers may keep the answer to a preflight, in seconds; 5 if not written"),
});

const httpFilter = z
  .strictObject({
    type: z
      .enum([
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestMirror",
        "RequestRedirect",
        "URLRewrite",
        "ExtensionRef",
        "CORS",
        "ExternalAuth",
      ])
      .describe(typeOf(httpFilterFields)),
    requestHeaderModifier: headerModifier.describe(requestHeaders),
    responseHeaderModifier: headerModifier.describe(responseHeaders),
    requestMirror,
    requestRedirect: requestRedirect.optional().describe("With type RequestRedirect: sends the client elsewhere"),
    urlRewrite: z
      .strictObject({ hostname: hostname.describe("Host that the backend is asked for"), path: pathChange })
      .optional()
      .describe("With type URLRewrite: changes host and path on the way to the backend"),
    cors: cors.optional().describe("With type CORS: which pages of other origins may call, for browsers"),
    externalAuth: anything
      .optional()
      .describe(
        "With type ExternalAuth: not supported, and the rule fails every request; write an AuthorizationPolicy with action CUSTOM",
      ),
    extensionRef,
  })
  .meta(filterRules(httpFilterFields));
export const httpFilters = z.array(httpFilter).max(16).meta(filterListRules).optional();

const grpcFilter = z
  .strictObject({
    type: z
      .enum(["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"])
      .describe(typeOf(grpcFilterFields)),
    requestHeaderModifier: headerModifier.describe(requestHeaders),
    responseHeaderModifier: headerModifier.describe(responseHeaders),
    requestMirror,
    extensionRef,
  })
  .meta(filterRules(grpcFilterFields));
export const grpcFilters = z.array(grpcFilter).max(16).meta(filterListRules).optional();
