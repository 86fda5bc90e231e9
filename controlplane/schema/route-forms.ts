/** The form of Gateway API's routes. */
import { z } from "zod";
import {
  backendRules,
  filterListRules,
  filterRules,
  fractionRules,
  grpcMethodRules,
  httpRuleRules,
  l4RuleListRules,
  mirrorRules,
  parentRules,
  pathChangeRules,
  pathRules,
  ruleListRules,
  starRules,
  timeoutRules,
} from "./route-rules.ts";
import { anything, filled, gatewayDuration, port } from "./scalars.ts";

const name = z.string().min(1).max(253);

const parentRefs = z
  .array(
    z.strictObject({
      group: z.string().max(253).optional().default("gateway.networking.k8s.io").describe("Empty for a Service"),
      kind: z.string().min(1).max(63).optional().default("Gateway").describe("Service, ServiceEntry or Gateway"),
      namespace: z.string().min(1).max(63).optional(),
      name,
      sectionName: name.optional(),
      port: port.optional(),
    }),
  )
  .max(32)
  .meta({ description: "What the route is attached to", ...parentRules });

const backend = {
  group: z.string().max(253).optional().default(""),
  kind: z.string().min(1).max(63).optional().default("Service"),
  name,
  namespace: z.string().min(1).max(63).optional(),
  port: port.optional(),
};
const weight = z.int().min(0).max(1_000_000).optional().default(1);
const hostnames = z.array(z.string().min(1).max(253)).max(16).optional();

const headerChange = z
  .array(z.strictObject({ name: filled.max(256), value: z.string().min(1).max(4096) }))
  .max(16)
  .optional();
const headerModifier = z.strictObject({
  set: headerChange,
  add: headerChange,
  remove: z.array(z.string()).max(16).optional(),
});
const pathChange = z
  .strictObject({
    type: z.enum(["ReplaceFullPath", "ReplacePrefixMatch"]),
    replaceFullPath: z.string().max(1024).optional(),
    replacePrefixMatch: z.string().max(1024).optional(),
  })
  .meta(pathChangeRules);
const requestMirror = z
  .strictObject({
    backendRef: z.strictObject(backend).meta(backendRules),
    percent: z.int().min(0).max(100).optional(),
    fraction: z
      .strictObject({ numerator: z.int().min(0), denominator: z.int().min(1).optional().default(100) })
      .meta(fractionRules)
      .optional(),
  })
  .meta(mirrorRules);
const extensionRef = z.strictObject({ group: z.string(), kind: filled, name: filled });

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

const httpFilter = z
  .strictObject({
    type: z.enum([
      "RequestHeaderModifier",
      "ResponseHeaderModifier",
      "RequestMirror",
      "RequestRedirect",
      "URLRewrite",
      "ExtensionRef",
      "CORS",
      "ExternalAuth",
    ]),
    requestHeaderModifier: headerModifier.optional(),
    responseHeaderModifier: headerModifier.optional(),
    requestMirror: requestMirror.optional(),
    requestRedirect: z
      .strictObject({
        scheme: z.enum(["http", "https"]).optional(),
        hostname: z.string().min(1).max(253).optional(),
        path: pathChange.optional(),
        port: port.optional(),
        statusCode: z
          .int()
          .optional()
          .meta({ enum: [301, 302, 303, 307, 308] }),
      })
      .optional(),
    urlRewrite: z
      .strictObject({ hostname: z.string().min(1).max(253).optional(), path: pathChange.optional() })
      .optional(),
    cors: z
      .strictObject({
        allowOrigins: z.array(z.string().min(1).max(253)).max(64).meta(starRules).optional(),
        allowMethods: z.array(z.string()).max(9).meta(starRules).optional(),
        allowHeaders: z.array(z.string().min(1).max(256)).max(64).meta(starRules).optional(),
        exposeHeaders: z.array(z.string().min(1).max(256)).max(64).optional(),
        allowCredentials: z.boolean().optional(),
        maxAge: z.int().min(1).optional().default(5),
      })
      .optional(),
    externalAuth: anything.optional(),
    extensionRef: extensionRef.optional(),
  })
  .meta(filterRules(httpFilterFields));
const httpFilters = z.array(httpFilter).max(16).meta(filterListRules).optional();

const grpcFilter = z
  .strictObject({
    type: z.enum(["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"]),
    requestHeaderModifier: headerModifier.optional(),
    responseHeaderModifier: headerModifier.optional(),
    requestMirror: requestMirror.optional(),
    extensionRef: extensionRef.optional(),
  })
  .meta(filterRules(grpcFilterFields));
const grpcFilters = z.array(grpcFilter).max(16).meta(filterListRules).optional();

const matchType = z.enum(["Exact", "RegularExpression"]).optional().default("Exact");
const headerMatch = z.array(
  z.strictObject({ type: matchType, name: filled.max(256), value: z.string().min(1).max(4096) }),
);

export const httpSpec = z.strictObject({
  parentRefs: parentRefs.optional(),
  hostnames,
  useDefaultGateways: z.string().optional(),
  rules: z
    .array(
      z
        .strictObject({
          name: name.optional(),
          matches: z
            .array(
              z.strictObject({
                path: z
                  .strictObject({
                    type: z.enum(["Exact", "PathPrefix", "RegularExpression"]).optional().default("PathPrefix"),
                    value: z.string().max(1024).optional().default("/"),
                  })
                  .meta(pathRules)
                  .optional(),
                headers: headerMatch.max(16).optional(),
                queryParams: z
                  .array(z.strictObject({ type: matchType, name: filled.max(256), value: z.string().min(1).max(1024) }))
                  .max(16)
                  .optional(),
                method: z
                  .enum(["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"])
                  .optional(),
              }),
            )
            .max(64)
            .optional(),
          filters: httpFilters,
          backendRefs: z
            .array(z.strictObject({ ...backend, weight, filters: httpFilters }).meta(backendRules))
            .max(16)
            .optional(),
          timeouts: z
            .strictObject({ request: gatewayDuration.optional(), backendRequest: gatewayDuration.optional() })
            .meta(timeoutRules)
            .optional(),
          retry: z
            .strictObject({
              codes: z.array(z.int().min(400).max(599)).optional(),
              attempts: z.int().min(0).optional(),
              backoff: gatewayDuration.optional(),
            })
            .optional(),
          sessionPersistence: anything.optional(),
        })
        .meta(httpRuleRules),
    )
    .min(1)
    .max(16)
    .meta(ruleListRules)
    .optional(),
});

export const grpcSpec = z.strictObject({
  parentRefs: parentRefs.optional(),
  hostnames,
  useDefaultGateways: z.string().optional(),
  rules: z
    .array(
      z.strictObject({
        name: name.optional(),
        matches: z
          .array(
            z.strictObject({
              method: z
                .strictObject({
                  type: matchType,
                  service: z.string().max(1024).optional(),
                  method: z.string().max(1024).optional(),
                })
                .meta(grpcMethodRules)
                .optional(),
              headers: headerMatch.max(16).optional(),
            }),
          )
          .max(64)
          .optional(),
        filters: grpcFilters,
        backendRefs: z
          .array(z.strictObject({ ...backend, weight, filters: grpcFilters }).meta(backendRules))
          .max(16)
          .optional(),
        sessionPersistence: anything.optional(),
      }),
    )
    .max(16)
    .meta(ruleListRules)
    .optional(),
});

const l4Rules = z
  .array(
    z.strictObject({
      name: name.optional(),
      backendRefs: z
        .array(z.strictObject({ ...backend, weight }).meta(backendRules))
        .min(1)
        .max(16),
    }),
  )
  .min(1)
  .max(1)
  .meta(l4RuleListRules);

export const tcpSpec = z.strictObject({
  parentRefs: parentRefs.optional(),
  useDefaultGateways: z.string().optional(),
  rules: l4Rules,
});
export const tlsSpec = z.strictObject({
  parentRefs: parentRefs.optional(),
  useDefaultGateways: z.string().optional(),
  hostnames: z.array(z.string().min(1).max(253)).max(1024).optional().describe("Compared with the SNI"),
  rules: l4Rules,
});
