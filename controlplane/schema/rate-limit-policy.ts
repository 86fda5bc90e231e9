import { z } from "zod";
import { parseDurationMs } from "#shared/config/env-reader.ts";
import { checkOperation, checkSource } from "./authorization-policy.ts";
import type { Field } from "./field.ts";
import { checkWrittenName } from "./header-checks.ts";
import { age, type KindDefinition } from "./kind.ts";
import { checkUnique, dnsLabel, duration, filled, ipBlockPattern, port, portTextPattern } from "./scalars.ts";

const texts = z.array(filled).max(256).optional();
const ipBlocks = z.array(filled.meta({ pattern: ipBlockPattern })).optional();
const ports = z.array(filled.meta({ pattern: portTextPattern })).optional();
const uint32 = z.int().min(1).max(4_294_967_295);
const headerName = filled.max(256).regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, {
  error: "a header name: use letters, digits and !#$%&'*+.^_`|~-",
});

const nameMatch = {
  exact: z.string().optional(),
  prefix: filled.optional(),
  suffix: filled.optional(),
  regex: filled.optional().describe("RE2, of the whole value"),
  present: z.boolean().optional(),
};

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
          name: filled.describe("Of a valid token; nested names are separated by dots"),
          values: z.array(filled).min(1),
        }),
      )
      .max(16)
      .optional(),
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
  jwtClaim: z.strictObject({ name: filled, issuer: filled.optional() }).optional(),
  requestPrincipal: nothing.optional(),
  route: nothing.optional(),
  literal: z.strictObject({ value: filled }).optional(),
};
const keyNames = Object.keys(keySources);

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
  request: z.strictObject({ header: headerName }).optional().describe("A header of the request that holds a number"),
  response: z
    .strictObject({ header: headerName })
    .optional()
    .describe("A header of the answer that holds a number: charged when it is over. Local only"),
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

const body = {
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

const spec = z.strictObject({
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
  ...body,
  defaults: z
    .strictObject({ strategy, ...body })
    .optional()
    .describe("On a Gateway: holds where nothing narrower does"),
  overrides: z
    .strictObject({ strategy, ...body })
    .optional()
    .describe("On a Gateway: holds against whatever is narrower"),
});

const targets: ReadonlyMap<string, "service" | "gateway" | "route"> = new Map([
  ["/Service", "service"],
  ["networking.istio.io/ServiceEntry", "service"],
  ["gateway.networking.k8s.io/Gateway", "gateway"],
  ["gateway.networking.k8s.io/GatewayClass", "gateway"],
  ["gateway.networking.k8s.io/HTTPRoute", "route"],
  ["gateway.networking.k8s.io/GRPCRoute", "route"],
] as const);

/** Units that the protocol of rate limit services has. */
const wholeUnitsMs = new Set([1_000, 60_000, 3_600_000, 86_400_000]);
const longestPerMs = 365 * 86_400_000;

function check(specField: Field): void {
  const kinds = specField.at("targetRefs").items().map(checkTarget);
  const bodies = specField.written(["defaults", "overrides"]);
  specField.atMostOne(["defaults", "overrides"]);
  for (const name of bodies) {
    if (!kinds.every((kind) => kind === "gateway")) {
      specField.at(name).error("is for Gateways and GatewayClasses only", "write the limits in the spec itself");
    }
    for (const field of specField.written(Object.keys(body))) {
      specField.at(field).error(`excludes "${name}", which is written too`, `write it in ${name}`);
    }
    checkBody(specField.at(name));
  }
  if (bodies.length === 0) checkBody(specField);
}

function checkTarget(ref: Field): "service" | "gateway" | "route" | undefined {
  const kind = targets.get(`${ref.at("group").text ?? ""}/${ref.at("kind").text ?? ""}`);
  if (kind === undefined && ref.at("kind").isSet) {
    ref.error(
      `kind ${ref.at("kind").quoted} of group ${ref.at("group").isSet ? ref.at("group").quoted : '""'} is no target`,
      'write Service (group ""), ServiceEntry (networking.istio.io), or Gateway, GatewayClass, HTTPRoute or GRPCRoute (gateway.networking.k8s.io)',
    );
  }
  if ((ref.at("namespace").text ?? "") !== "") {
    ref.at("namespace").error("references into other namespaces are not supported", "leave the namespace out");
  }
  if (ref.has("sectionName") && kind !== "route") {
    ref.at("sectionName").error("names a rule of a route", "leave it out, or name an HTTPRoute or GRPCRoute");
  }
  return kind;
}

function checkBody(part: Field): void {
  const limits = part.at("limits");
  if (!limits.isSet) limits.error("is missing", "write at least one limit");
  checkUnique(limits.items(), (each) => each.at("name"));
  const hasGlobal = part.has("global");
  const isEarly = part.at("phase").text === "PreAuth";
  let usesGlobal = false;
  for (const each of limits.items()) {
    const isGlobal = each.at("scope").text === "Global";
    usesGlobal ||= isGlobal;
    if (isGlobal && !hasGlobal) {
      each.at("scope").error("Global needs a rate limit service", "name one in global.service, or write scope: Local");
    }
    checkLimit(each, isGlobal, isEarly);
  }
  if (hasGlobal && !usesGlobal && limits.isSet) {
    part.at("global").warn("is not used", 'write "scope: Global" in a limit, or leave it out');
  }
  if (part.at("errorStatus").isSet && part.at("onError").text !== "Deny") {
    part.at("errorStatus").warn("is not used", "write onError: Deny");
  }
  for (const [name, value] of part.at("response").at("headers").at("set").entries()) {
    checkWrittenName(value, name);
    if (/[\r\n\0]/.test(value.text ?? "")) value.error("holds a line break", "write it on one line");
  }
}

function checkLimit(limitField: Field, isGlobal: boolean, isEarly: boolean): void {
  for (const each of limitField.at("match").items()) checkMatch(each, isEarly);
  for (const each of limitField.at("key").items()) checkKey(each, isEarly);
  if (limitField.at("key").items().length > 4) {
    limitField.at("key").warn("has more than 4 parts", "few callers share such a key: is the limit what you mean?");
  }
  checkRates(limitField.at("rates"), isGlobal);
  const costField = limitField.at("cost");
  costField.atMostOne(["value", "request", "response"]);
  if (isGlobal) {
    for (const name of ["maxKeys", "shareReplicas"] as const) {
      if (limitField.has(name)) limitField.at(name).error("is for scope: Local", "leave it out");
    }
    if (costField.has("response")) {
      costField.at("response").error("is for scope: Local", "a rate limit service counts requests when they come");
    }
  }
  for (const override of limitField.at("overrides").items()) {
    checkMatch(override.at("when"), isEarly);
    if (override.has("rates") === (override.at("unlimited").value === true)) {
      override.error("needs either rates or unlimited: true", "write one of them");
    }
    checkRates(override.at("rates"), isGlobal);
  }
}

const early = new Set([
  "ports",
  "notPorts",
  "principals",
  "notPrincipals",
  "namespaces",
  "notNamespaces",
  "serviceAccounts",
  "notServiceAccounts",
  "ipBlocks",
  "notIpBlocks",
  "remoteIpBlocks",
  "notRemoteIpBlocks",
]);
const earlyKeys = new Set([
  "remoteAddress",
  "sourcePrincipal",
  "sourceNamespace",
  "sourceServiceAccount",
  "sourceWorkload",
  "literal",
]);

function checkMatch(matchField: Field, isEarly: boolean): void {
  if (matchField.isSet && matchField.isEmpty) matchField.error("is empty", "name what it matches, or leave it out");
  checkSource(matchField, "ALLOW");
  checkOperation(matchField);
  for (const list of ["headers", "queryParams"]) {
    for (const each of matchField.at(list).items()) {
      const written = each.written(Object.keys(nameMatch));
      if (written.length !== 1) {
        each.error(
          written.length === 0 ? "says nothing about the value" : `says several things: ${written.join(", ")}`,
          "write one of exact, prefix, suffix, regex and present",
        );
      }
    }
  }
  if (!isEarly) return;
  for (const name of matchField.keys()) {
    if (!early.has(name)) {
      matchField.at(name).error("is not known in phase PreAuth", "leave it out, or write phase: PostAuth");
    }
  }
}

function checkKey(keyField: Field, isEarly: boolean): void {
  const written = keyField.written(keyNames);
  if (written.length !== 1) {
    keyField.error(
      written.length === 0 ? "names nothing" : `names several things: ${written.join(", ")}`,
      `set exactly one of ${keyNames.join(", ")}`,
    );
  }
  for (const name of written) {
    if (isEarly && !earlyKeys.has(name)) {
      keyField.at(name).error("is not known in phase PreAuth", `use one of ${[...earlyKeys].join(", ")}`);
    }
  }
}

function checkRates(list: Field, isGlobal: boolean): void {
  checkUnique(list.items(), (rate) => rate.at("per"));
  for (const rate of list.items()) {
    const per = rate.at("per");
    const ms = per.text === undefined ? undefined : parseDurationMs(per.text);
    if (ms === undefined) continue;
    if (ms < 1_000 || ms > longestPerMs) {
      per.error(`${per.quoted} is out of range`, 'write a duration from "1s" to "8760h"');
    } else if (isGlobal && !wholeUnitsMs.has(ms)) {
      per.error(
        `${per.quoted} is not a whole unit and the limit is Global`,
        'write "1s", "1m", "1h" or "24h": rate limit services count in these',
      );
    }
    if (isGlobal && rate.has("burst")) rate.at("burst").error("is for scope: Local", "leave it out");
  }
}

export const rateLimitPolicy: KindDefinition = {
  group: "policy.ambit.dev",
  kind: "RateLimitPolicy",
  plural: "ratelimitpolicies",
  shortNames: ["rlp"],
  categories: ["istio-io", "policy-ambit-dev"],
  isNamespaced: true,
  versions: ["v1alpha1"],
  hasStatus: true,
  isSpecRequired: true,
  description: "How many requests of whom a service takes. The waypoint in front of it counts.",
  columns: [
    { name: "Mode", type: "string", jsonPath: ".spec.mode" },
    { name: "Accepted", type: "string", jsonPath: '.status.conditions[?(@.type=="Accepted")].status' },
    age,
  ],
  spec,
  check,
};
