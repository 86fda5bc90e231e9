/** The form of Gateway API's routes. */
import { z } from "zod";
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
  .describe("What the route is attached to");

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
const pathChange = z.strictObject({
  type: z.enum(["ReplaceFullPath", "ReplacePrefixMatch"]),
  replaceFullPath: z.string().max(1024).optional(),
  replacePrefixMatch: z.string().max(1024).optional(),
});
const requestMirror = z.strictObject({
  backendRef: z.strictObject(backend),
  percent: z.int().min(0).max(100).optional(),
  fraction: z
    .strictObject({ numerator: z.int().min(0), denominator: z.int().min(1).optional().default(100) })
    .optional(),
});
const extensionRef = z.strictObject({ group: z.string(), kind: filled, name: filled });

const httpFilter = z.strictObject({
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
      allowOrigins: z.array(z.string().min(1).max(253)).max(64).optional(),
      allowMethods: z.array(z.string()).max(9).optional(),
      allowHeaders: z.array(z.string().min(1).max(256)).max(64).optional(),
      exposeHeaders: z.array(z.string().min(1).max(256)).max(64).optional(),
      allowCredentials: z.boolean().optional(),
      maxAge: z.int().min(1).optional().default(5),
    })
    .optional(),
  externalAuth: anything.optional(),
  extensionRef: extensionRef.optional(),
});

const grpcFilter = z.strictObject({
  type: z.enum(["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"]),
  requestHeaderModifier: headerModifier.optional(),
  responseHeaderModifier: headerModifier.optional(),
  requestMirror: requestMirror.optional(),
  extensionRef: extensionRef.optional(),
});

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
      z.strictObject({
        name: name.optional(),
        matches: z
          .array(
            z.strictObject({
              path: z
                .strictObject({
                  type: z.enum(["Exact", "PathPrefix", "RegularExpression"]).optional().default("PathPrefix"),
                  value: z.string().max(1024).optional().default("/"),
                })
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
        filters: z.array(httpFilter).max(16).optional(),
        backendRefs: z
          .array(z.strictObject({ ...backend, weight, filters: z.array(httpFilter).max(16).optional() }))
          .max(16)
          .optional(),
        timeouts: z
          .strictObject({ request: gatewayDuration.optional(), backendRequest: gatewayDuration.optional() })
          .optional(),
        retry: z
          .strictObject({
            codes: z.array(z.int().min(400).max(599)).optional(),
            attempts: z.int().min(0).optional(),
            backoff: gatewayDuration.optional(),
          })
          .optional(),
        sessionPersistence: anything.optional(),
      }),
    )
    .min(1)
    .max(16)
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
                .optional(),
              headers: headerMatch.max(16).optional(),
            }),
          )
          .max(64)
          .optional(),
        filters: z.array(grpcFilter).max(16).optional(),
        backendRefs: z
          .array(z.strictObject({ ...backend, weight, filters: z.array(grpcFilter).max(16).optional() }))
          .max(16)
          .optional(),
        sessionPersistence: anything.optional(),
      }),
    )
    .max(16)
    .optional(),
});

const l4Rules = z
  .array(
    z.strictObject({
      name: name.optional(),
      backendRefs: z
        .array(z.strictObject({ ...backend, weight }))
        .min(1)
        .max(16),
    }),
  )
  .min(1)
  .max(1);

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
