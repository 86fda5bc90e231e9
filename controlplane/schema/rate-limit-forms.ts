/** The form of a RateLimitPolicy. */
import { z } from "zod";
import { noneOf } from "./authorization-forms.ts";
import { dnsLabel, duration, filled, ipBlockPattern, port, portTextPattern } from "./scalars.ts";

const texts = z.array(filled).max(256).optional();
const ipBlocks = z.array(filled.meta({ pattern: ipBlockPattern })).optional();
const ports = z.array(filled.meta({ pattern: portTextPattern })).optional();
const uint32 = z.int().min(1).max(4_294_967_295);
const headerName = filled.max(256).regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, {
  error: "a header name: use letters, digits and !#$%&'*+.^_`|~-",
});

export const nameMatch = {
  exact: z.string().optional().describe("The whole value"),
  prefix: filled.optional().describe("What the value begins with"),
  suffix: filled.optional().describe("What the value ends with"),
  regex: filled.optional().describe("RE2, of the whole value"),
  present: z.boolean().optional().describe("true: there is one, whatever the value; false: there is none"),
};

const claimName = filled.max(256).regex(/^(?:(?:\[[^[\]]+\])+|[^[\]]+)$/, {
  error: "a claim: write a.b, or [a][b] where names hold dots",
});
const expression = filled.max(4_096);

const match = z
  .strictObject({
    paths: texts.describe("As in AuthorizationPolicy: /api/*, or templates such as /users/{*}"),
    notPaths: texts.describe(noneOf),
    methods: texts.describe("HTTP methods, POST for gRPC"),
    notMethods: texts.describe(noneOf),
    hosts: texts.describe("HTTP hosts, with the port where clients write one"),
    notHosts: texts.describe(noneOf),
    ports: ports.describe("Ports of the service, in quotes"),
    notPorts: ports.describe(noneOf),
    principals: texts.describe("Peer identities, such as cluster.local/ns/shop/sa/cart"),
    notPrincipals: texts.describe(noneOf),
    requestPrincipals: texts.describe("Identities from tokens: issuer/subject"),
    notRequestPrincipals: texts.describe(noneOf),
    namespaces: texts.describe("Namespaces of the peer"),
    notNamespaces: texts.describe(noneOf),
    serviceAccounts: texts.describe("Service accounts of the peer: account, or namespace/account"),
    notServiceAccounts: texts.describe(noneOf),
    ipBlocks: ipBlocks.describe("Addresses of the client's pod"),
    notIpBlocks: ipBlocks.describe(noneOf),
    remoteIpBlocks: ipBlocks.describe("The same; x-forwarded-for is never believed"),
    notRemoteIpBlocks: ipBlocks.describe(noneOf),
    headers: z
      .array(z.strictObject({ name: headerName.describe("Name of the header"), ...nameMatch }))
      .max(16)
      .optional()
      .describe("Headers of the request, all of them"),
    queryParams: z
      .array(z.strictObject({ name: filled.describe("Name of the parameter"), ...nameMatch }))
      .max(16)
      .optional()
      .describe("Parameters of the query, all of them"),
    claims: z
      .array(
        z.strictObject({
          name: claimName.describe("Of a valid token; nested names are separated by dots, or written as [a][b]"),
          values: z.array(filled).min(1).describe("Any of these"),
        }),
      )
      .max(16)
      .optional()
      .describe("Claims of a valid token, all of them"),
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
  header: z
    .strictObject({ name: headerName.describe("Name of the header") })
    .optional()
    .describe("A header of the request"),
  cookie: z
    .strictObject({ name: filled.describe("Name of the cookie") })
    .optional()
    .describe("A cookie"),
  queryParam: z
    .strictObject({ name: filled.describe("Name of the parameter") })
    .optional()
    .describe("A parameter of the query"),
  path: z
    .strictObject({
      normalise: z
        .enum(["Exact", "Template"])
        .optional()
        .describe(
          "Template counts /users/1 and /users/2 together: numbers, UUIDs and long hexadecimal segments are {id}; Exact if not written",
        ),
    })
    .optional()
    .describe("The path without query"),
  method: nothing.optional().describe("The method"),
  host: nothing.optional().describe("The host that is asked for"),
  remoteAddress: z
    .strictObject({
      v4PrefixLength: z
        .int()
        .min(0)
        .max(32)
        .optional()
        .describe("Leading bits of an IPv4 address that count; 32 if not written"),
      v6PrefixLength: z
        .int()
        .min(0)
        .max(128)
        .optional()
        .describe("Leading bits of an IPv6 address that count; 64 if not written"),
    })
    .optional()
    .describe("The address of the client's pod"),
  sourcePrincipal: nothing.optional().describe("The identity of the peer"),
  sourceNamespace: nothing.optional().describe("The namespace of the peer"),
  sourceServiceAccount: nothing.optional().describe("The service account of the peer, with its namespace"),
  sourceWorkload: nothing.optional().describe("The workload of the peer, such as its Deployment"),
  jwtClaim: z
    .strictObject({
      name: claimName.describe("Name of the claim, with dots before inner ones, or written as [a][b]"),
      issuer: filled.optional().describe("Who must have issued the token; anybody if not written"),
    })
    .optional()
    .describe("A claim of a valid token"),
  requestPrincipal: nothing.optional().describe("The identity from a valid token: issuer/subject"),
  route: nothing.optional().describe("The name of the rule that routes the request"),
  literal: z
    .strictObject({ value: filled.describe("The text") })
    .optional()
    .describe("Always this text, for rate limit services that want it"),
  expression: z
    .strictObject({ cel: expression.describe("The expression") })
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
      requests: uint32.describe("So many requests, or so much of their cost"),
      per: duration.describe("In such a time, from 1s to a year, such as 1m"),
      burst: uint32.optional().describe("At once; as many as requests if not written. Local only"),
    }),
  )
  .max(4);

const costSource = {
  header: headerName.optional().describe("Name of the header"),
  expression: expression.optional().describe("The expression"),
};

const cost = z.strictObject({
  value: z.int().min(0).max(2_147_483_647).optional().describe("The same for each request; 1 if not written"),
  request: z
    .strictObject(costSource)
    .optional()
    .describe("A header of the request that holds a number, or CEL that comes to one. 1 where there is none"),
  response: z
    .strictObject(costSource)
    .optional()
    .describe(
      "A header or trailer of the answer that holds a number, or CEL that comes to one: charged when it is over, even below nothing. Before, something must be left",
    ),
});

const limit = z.strictObject({
  name: dnsLabel.describe("Name of the limit, unique in the policy"),
  scope: z
    .enum(["Local", "Global"])
    .optional()
    .describe("Local (if not written) counts in each replica of the waypoint, Global in a rate limit service"),
  shareReplicas: z
    .boolean()
    .optional()
    .describe("Local: the rates are for all replicas together, an equal share for each; false if not written"),
  match: z.array(match).max(16).optional().describe("Any of them; every request if not written"),
  key: z.array(key).max(8).optional().describe("One count for each distinct tuple; one count for all if not written"),
  rates: rates.min(1).describe("Every window must admit"),
  cost: cost.optional().describe("What one request counts; 1 if not written"),
  overrides: z
    .array(
      z.strictObject({
        when: match,
        rates: rates.min(1).optional().describe("In place of the rates of the limit"),
        unlimited: z.boolean().optional().describe("true: no bound at all; excludes rates"),
      }),
    )
    .max(64)
    .optional()
    .describe("Exceptions: the first that matches"),
  maxKeys: z.int().min(1).max(1_000_000).optional().describe("Local: counts kept; 10000 if not written"),
});

export const rateLimitBody = {
  mode: z
    .enum(["Enforce", "Shadow"])
    .optional()
    .describe("Shadow counts and tells, and rejects nothing; Enforce if not written"),
  phase: z
    .enum(["PostAuth", "PreAuth"])
    .optional()
    .describe(
      "PreAuth counts before tokens and policies are looked at, by address and peer identity only; PostAuth if not written",
    ),
  limits: z
    .array(limit)
    .min(1)
    .max(64)
    .optional()
    .describe("A request counts for every limit that it matches, and passes if all of them admit it"),
  response: z
    .strictObject({
      status: z.int().min(400).max(599).optional().describe("429 if not written"),
      body: z.string().max(8_192).optional().describe("local_rate_limited if not written"),
      contentType: filled.max(256).optional().describe("Of the body; text/plain if not written"),
      headers: z
        .strictObject({
          set: z.record(z.string(), z.string()).optional().describe("Headers to write, by name"),
        })
        .optional()
        .describe("Further headers"),
      retryAfter: z
        .boolean()
        .optional()
        .describe("Whether Retry-After says in how many seconds to come again; true if not written"),
      standardHeaders: z
        .enum(["Off", "DraftVersion03", "IETF"])
        .optional()
        .describe(
          "Headers that tell what is left, on answers that pass too: x-ratelimit-* (DraftVersion03), or RateLimit and RateLimit-Policy (IETF); Off if not written",
        ),
      grpcStatus: z
        .enum(["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
        .optional()
        .describe("For gRPC; RESOURCE_EXHAUSTED if not written"),
    })
    .optional()
    .describe("The answer to requests that are too many"),
  onError: z
    .enum(["Allow", "Deny"])
    .optional()
    .describe("Where the rate limit service cannot be asked; Allow if not written"),
  errorStatus: z.int().min(400).max(599).optional().describe("With onError: Deny; 500 if not written"),
  global: z
    .strictObject({
      service: z
        .strictObject({
          name: filled.describe("Name of its Service"),
          namespace: filled.optional().describe("Its namespace; this one if not written"),
          port: port.describe("Its port"),
        })
        .describe("Where it is"),
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

export const rateLimitSpec = z
  .strictObject({
    targetRefs: z
      .array(
        z.strictObject({
          group: z.string().max(253).optional().describe("API group of the target; empty for a Service"),
          kind: filled.max(63).describe("Service, ServiceEntry, Gateway, GatewayClass, HTTPRoute or GRPCRoute"),
          name: filled.max(253).describe("Name of the target"),
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
  })
  .describe("What is limited, and to how much");
