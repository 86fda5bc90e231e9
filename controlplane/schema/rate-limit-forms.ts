/** The form of a RateLimitPolicy. */
import { z } from "zod";
import { dnsLabel, duration, filled, ipBlockPattern, port, portTextPattern } from "./scalars.ts";

const texts = z.array(filled).max(256).optional();
const ipBlocks = z.array(filled.meta({ pattern: ipBlockPattern })).optional();
const ports = z.array(filled.meta({ pattern: portTextPattern })).optional();
const uint32 = z.int().min(1).max(4_294_967_295);
const headerName = filled.max(256).regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, {
  error: "a header name: use letters, digits and !#$%&'*+.^_`|~-",
});

export const nameMatch = {
  exact: z.string().optional(),
  prefix: filled.optional(),
  suffix: filled.optional(),
  regex: filled.optional().describe("RE2, of the whole value"),
  present: z.boolean().optional(),
};

const claimName = filled.max(256).regex(/^(?:(?:\[[^[\]]+\])+|[^[\]]+)$/, {
  error: "a claim: write a.b, or [a][b] where names hold dots",
});
const expression = filled.max(4_096);

const match = z
  .strictObject({
    paths: texts.describe("As in AuthorizationPolicy: /api/*, or templates such as /users/{*}"),
    notPaths: texts,
    methods: texts,
    notMethods: texts,
    hosts: texts,
    notHosts: texts,
    ports: ports.describe("Ports of the service, in quotes"),
    notPorts: ports,
    principals: texts.describe("Peer identities, such as cluster.local/ns/shop/sa/cart"),
    notPrincipals: texts,
    requestPrincipals: texts.describe("Identities from tokens: issuer/subject"),
    notRequestPrincipals: texts,
    namespaces: texts,
    notNamespaces: texts,
    serviceAccounts: texts,
    notServiceAccounts: texts,
    ipBlocks: ipBlocks.describe("Addresses of the client's pod"),
    notIpBlocks: ipBlocks,
    remoteIpBlocks: ipBlocks,
    notRemoteIpBlocks: ipBlocks,
    headers: z
      .array(z.strictObject({ name: headerName, ...nameMatch }))
      .max(16)
      .optional(),
    queryParams: z
      .array(z.strictObject({ name: filled, ...nameMatch }))
      .max(16)
      .optional(),
    claims: z
      .array(
        z.strictObject({
          name: claimName.describe("Of a valid token; nested names are separated by dots, or written as [a][b]"),
          values: z.array(filled).min(1),
        }),
      )
      .max(16)
      .optional(),
    when: z
      .array(expression)
      .max(16)
      .optional()
      .describe(
        'CEL, each true or false, such as request.headers["x-tier"] == "free". One that asks for something that is not there, such as a header, does not hold',
      ),
  })
  .meta({ description: "All fields must hold", minProperties: 1 });

const nothing = z.strictObject({});
const keySources = {
  header: z.strictObject({ name: headerName }).optional(),
  cookie: z.strictObject({ name: filled }).optional(),
  queryParam: z.strictObject({ name: filled }).optional(),
  path: z
    .strictObject({
      normalise: z
        .enum(["Exact", "Template"])
        .optional()
        .describe(
          "Template counts /users/1 and /users/2 together: numbers, UUIDs and long hexadecimal segments are {id}",
        ),
    })
    .optional(),
  method: nothing.optional(),
  host: nothing.optional(),
  remoteAddress: z
    .strictObject({
      v4PrefixLength: z.int().min(0).max(32).optional(),
      v6PrefixLength: z.int().min(0).max(128).optional().describe("64 if not written"),
    })
    .optional(),
  sourcePrincipal: nothing.optional(),
  sourceNamespace: nothing.optional(),
  sourceServiceAccount: nothing.optional(),
  sourceWorkload: nothing.optional(),
  jwtClaim: z.strictObject({ name: claimName, issuer: filled.optional() }).optional(),
  requestPrincipal: nothing.optional(),
  route: nothing.optional(),
  literal: z.strictObject({ value: filled }).optional(),
  expression: z
    .strictObject({ cel: expression })
    .optional()
    .describe('CEL that comes to a text, such as request.path.split("/")[1]'),
};
export const keyNames = Object.keys(keySources);

const key = z.strictObject({
  ...keySources,
  onMissing: z
    .enum(["Skip", "UseEmpty", "Ignore"])
    .optional()
    .describe(
      "Where a request has no such value: the limit does not apply, it counts under the empty text (if not written), or under the rest of the key",
    ),
});

const rates = z
  .array(
    z.strictObject({
      requests: uint32,
      per: duration,
      burst: uint32.optional().describe("At once; as many as requests if not written. Local only"),
    }),
  )
  .max(4);

const cost = z.strictObject({
  value: z.int().min(0).max(2_147_483_647).optional(),
  request: z
    .strictObject({ header: headerName.optional(), expression: expression.optional() })
    .optional()
    .describe("A header of the request that holds a number, or CEL that comes to one. 1 where there is none"),
  response: z
    .strictObject({ header: headerName.optional(), expression: expression.optional() })
    .optional()
    .describe(
      "A header or trailer of the answer that holds a number, or CEL that comes to one: charged when it is over, even below nothing. Before, something must be left",
    ),
});

const limit = z.strictObject({
  name: dnsLabel,
  scope: z
    .enum(["Local", "Global"])
    .optional()
    .describe("Local counts in each replica of the waypoint, Global in a rate limit service"),
  shareReplicas: z
    .boolean()
    .optional()
    .describe("Local: the rates are for all replicas together, an equal share for each"),
  match: z.array(match).max(16).optional().describe("Any of them; every request if not written"),
  key: z.array(key).max(8).optional().describe("One count for each distinct tuple; one count for all if not written"),
  rates: rates.min(1).describe("Every window must admit"),
  cost: cost.optional().describe("What one request counts; 1 if not written"),
  overrides: z
    .array(
      z.strictObject({
        when: match,
        rates: rates.min(1).optional(),
        unlimited: z.boolean().optional(),
      }),
    )
    .max(64)
    .optional()
    .describe("Exceptions: the first that matches"),
  maxKeys: z.int().min(1).max(1_000_000).optional().describe("Local: counts kept; 10000 if not written"),
});

export const rateLimitBody = {
  mode: z.enum(["Enforce", "Shadow"]).optional().describe("Shadow counts and tells, and rejects nothing"),
  phase: z
    .enum(["PostAuth", "PreAuth"])
    .optional()
    .describe("PreAuth counts before tokens and policies are looked at: by address and peer identity only"),
  limits: z.array(limit).min(1).max(64).optional(),
  response: z
    .strictObject({
      status: z.int().min(400).max(599).optional(),
      body: z.string().max(8_192).optional(),
      contentType: filled.max(256).optional(),
      headers: z.strictObject({ set: z.record(z.string(), z.string()).optional() }).optional(),
      retryAfter: z.boolean().optional(),
      standardHeaders: z.enum(["Off", "DraftVersion03", "IETF"]).optional(),
      grpcStatus: z.enum(["UNAVAILABLE", "RESOURCE_EXHAUSTED"]).optional(),
    })
    .optional(),
  onError: z.enum(["Allow", "Deny"]).optional().describe("Where the rate limit service cannot be asked"),
  errorStatus: z.int().min(400).max(599).optional().describe("With onError: Deny; 500 if not written"),
  global: z
    .strictObject({
      service: z.strictObject({ name: filled, namespace: filled.optional(), port }),
      domain: filled.max(256).optional().describe("Namespace of the policy if not written"),
      timeout: duration.optional().describe("20ms if not written"),
    })
    .optional()
    .describe("A service that speaks envoy.service.ratelimit.v3; manifests/rate-limit-service is one"),
};

const strategy = z
  .enum(["Atomic", "Merge"])
  .optional()
  .describe("Atomic: the whole policy; Merge: limit by limit, by name. Merge if not written");

export const rateLimitSpec = z.strictObject({
  targetRefs: z
    .array(
      z.strictObject({
        group: z.string().max(253).optional(),
        kind: filled.max(63).describe("Service, ServiceEntry, Gateway, GatewayClass, HTTPRoute or GRPCRoute"),
        name: filled.max(253),
        namespace: z.string().optional().describe("Must be empty: a policy applies to its own namespace"),
        sectionName: filled.max(253).optional().describe("Name of a rule of the route"),
      }),
    )
    .min(1)
    .max(16)
    .describe("What is limited. The waypoint in front of it counts"),
  ...rateLimitBody,
  defaults: z
    .strictObject({ strategy, ...rateLimitBody })
    .optional()
    .describe("On a Gateway: holds where nothing narrower does"),
  overrides: z
    .strictObject({ strategy, ...rateLimitBody })
    .optional()
    .describe("On a Gateway: holds against whatever is narrower"),
});
