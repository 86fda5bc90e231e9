/** The form of an AuthorizationPolicy. */
import { z } from "zod";
import { attachment, oneAttachment } from "./attachment.ts";
import { ipBlockPattern, portTextPattern } from "./scalars.ts";

const values = z.array(z.string().min(1)).optional();
/** Checked by code, whose message says more; the pattern is for the API server. */
const ipBlocks = z.array(z.string().min(1).meta({ pattern: ipBlockPattern })).optional();
const ports = z.array(z.string().min(1).meta({ pattern: portTextPattern })).optional();
const accounts = z.array(z.string().min(1).max(320)).max(16).optional();

/** Of the twin of a list. */
export const noneOf = "None of these, written as in the field without not; where there is no such value it holds";

const source = z
  .strictObject({
    principals: values.describe(
      "Peer identities, such as cluster.local/ns/shop/sa/cart; * at either end stands for anything, alone for any identity",
    ),
    notPrincipals: values.describe(noneOf),
    requestPrincipals: values.describe(
      "Identities from tokens: issuer/subject, with * at either end; needs a waypoint",
    ),
    notRequestPrincipals: values.describe(noneOf),
    namespaces: values.describe("Namespaces of the peer; * stands for anything"),
    notNamespaces: values.describe(noneOf),
    serviceAccounts: accounts.describe(
      "Service accounts of the peer: account (of the policy's namespace), or namespace/account. Excludes principals and namespaces",
    ),
    notServiceAccounts: accounts.describe(noneOf),
    ipBlocks: ipBlocks.describe("Addresses of the peer, as address or range"),
    notIpBlocks: ipBlocks.describe(noneOf),
    remoteIpBlocks: ipBlocks.describe(
      "Addresses of the original client; needs a waypoint, which goes by its tunnel and never by x-forwarded-for",
    ),
    notRemoteIpBlocks: ipBlocks.describe(noneOf),
    trustDomains: values.describe("Trust domains of the peer, with one * at either end; needs a waypoint"),
    notTrustDomains: values.describe(noneOf),
  })
  .meta({ description: "Who calls: all fields must hold, one value of each", minProperties: 1 });

const operation = z
  .strictObject({
    hosts: values.describe("HTTP hosts, with the port where clients write one, and * at either end; needs a waypoint"),
    notHosts: values.describe(noneOf),
    ports: ports.describe("Ports of the destination, in quotes: of the service at its waypoint, otherwise of the pod"),
    notPorts: ports.describe(noneOf),
    methods: values.describe("HTTP methods, POST for gRPC; needs a waypoint"),
    notMethods: values.describe(noneOf),
    paths: values.describe(
      "HTTP paths without query: /api/*, */info, or templates with {*} for one part and {**} for the rest; needs a waypoint",
    ),
    notPaths: values.describe(noneOf),
  })
  .meta({ description: "What is called: all fields must hold, one value of each", minProperties: 1 });

const rule = z.strictObject({
  from: z
    .array(z.strictObject({ source: source.optional() }))
    .max(512)
    .optional()
    .describe("Callers: any of them; everybody if not written"),
  to: z
    .array(z.strictObject({ operation: operation.optional() }))
    .optional()
    .describe("Operations: any of them; everything if not written"),
  when: z
    .array(
      z.strictObject({
        key: z
          .string()
          .min(1)
          .describe(
            "Such as source.ip, source.namespace, destination.port, connection.sni, request.headers[name] or request.auth.claims[name]",
          ),
        values: z
          .array(z.string().min(1))
          .optional()
          .describe("Any of these; addresses, ports, or text with * at either end, as the key asks for"),
        notValues: z.array(z.string().min(1)).optional().describe(noneOf),
      }),
    )
    .optional()
    .describe("Further conditions: all of them"),
});

export const authorizationSpec = z
  .strictObject({
    ...attachment,
    action: z
      .enum(["ALLOW", "DENY", "AUDIT", "CUSTOM"])
      .optional()
      .describe(
        "What a matching rule does; ALLOW if not written. CUSTOM, which is asked first, leaves it to a provider; AUDIT only marks requests",
      ),
    rules: z
      .array(rule)
      .max(512)
      .optional()
      .describe(
        "The policy matches where any rule does, and the rule {} always. ALLOW without rules denies everything; DENY needs a rule",
      ),
    provider: z
      .strictObject({ name: z.string().min(1).describe("Its name among the mesh's extensionProviders") })
      .optional()
      .describe("The external authorizer of a CUSTOM policy"),
  })
  .meta({
    description: "Where the policy applies, whom and what its rules match, and what is done then",
    "x-kubernetes-validations": [
      ...oneAttachment["x-kubernetes-validations"],
      {
        rule: "!has(self.action) || !(self.action in ['DENY', 'CUSTOM']) || (has(self.rules) && size(self.rules) > 0)",
        message: "action DENY or CUSTOM without rules never matches: add the rule {} to match everything",
      },
      {
        rule: "!has(self.provider) || (has(self.action) && self.action == 'CUSTOM')",
        message: "provider is only valid with action CUSTOM",
      },
    ],
  });
