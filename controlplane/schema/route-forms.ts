/** The form of Gateway API's routes. */
import { z } from "zod";
import { backend, grpcFilters, httpFilters } from "./route-filter-forms.ts";
import {
  backendRules,
  grpcMethodRules,
  httpRuleRules,
  l4RuleListRules,
  parentRules,
  pathRules,
  ruleListRules,
  timeoutRules,
} from "./route-rules.ts";
import { anything, filled, gatewayDuration, port } from "./scalars.ts";

const name = z.string().min(1).max(253);

const parentRefs = z
  .array(
    z.strictObject({
      group: z
        .string()
        .max(253)
        .optional()
        .default("gateway.networking.k8s.io")
        .describe("API group of the parent: empty for a Service, networking.istio.io for a ServiceEntry"),
      kind: z.string().min(1).max(63).optional().default("Gateway").describe("Service, ServiceEntry or Gateway"),
      namespace: z
        .string()
        .min(1)
        .max(63)
        .optional()
        .describe(
          "Its namespace; this one if not written. For a Service of another one, the route holds for callers of the route's namespace",
        ),
      name: name.describe("Its name"),
      sectionName: name
        .optional()
        .describe("Name of one port of the Service, or of a listener of the Gateway; all if not written"),
      port: port.optional().describe("Number of one port; all if not written"),
    }),
  )
  .max(32)
  .meta({
    description: "What the route is attached to: Services whose waypoint goes by it, or Gateways",
    ...parentRules,
  })
  .optional();

const weight = z
  .int()
  .min(0)
  .max(1_000_000)
  .optional()
  .default(1)
  .describe("Share, in proportion to the others; 1 if not written, nothing with 0");
const hostnames = z
  .array(z.string().min(1).max(253))
  .max(16)
  .optional()
  .describe("Hosts of a Gateway's requests; without effect for Services, which are told apart by address");
const useDefaultGateways = z
  .string()
  .optional()
  .describe("Attaches the route to Gateways that ask for it; without effect in a mesh");
const ruleName = name.optional().describe("Name of the rule, unique in the route; policies may name it");
const sessionPersistence = anything.optional().describe("Not supported: write consistentHash of a DestinationRule");
const backendRefs = "Where what matches goes, shared out by weight; a reference that leads nowhere fails its share";

const matchType = z
  .enum(["Exact", "RegularExpression"])
  .optional()
  .default("Exact")
  .describe("How it is compared: Exact if not written, RegularExpression is RE2 of the whole value");
const headerMatch = z
  .array(
    z.strictObject({
      type: matchType,
      name: filled.max(256).describe("Name of the header, whatever its case; of several entries the first counts"),
      value: z.string().min(1).max(4096).describe("What it must be"),
    }),
  )
  .max(16)
  .optional()
  .describe("Headers that the request must have, all of them");

export const httpSpec = z
  .strictObject({
    parentRefs,
    hostnames,
    useDefaultGateways,
    rules: z
      .array(
        z
          .strictObject({
            name: ruleName,
            matches: z
              .array(
                z.strictObject({
                  path: z
                    .strictObject({
                      type: z
                        .enum(["Exact", "PathPrefix", "RegularExpression"])
                        .optional()
                        .default("PathPrefix")
                        .describe(
                          "PathPrefix (if not written) goes by whole parts: /a takes /a/b, not /ab. RegularExpression is RE2 of the whole path",
                        ),
                      value: z
                        .string()
                        .max(1024)
                        .optional()
                        .default("/")
                        .describe("What the path must be; / if not written"),
                    })
                    .meta(pathRules)
                    .optional()
                    .describe("Path without query; any if not written"),
                  headers: headerMatch,
                  queryParams: z
                    .array(
                      z.strictObject({
                        type: matchType,
                        name: filled.max(256).describe("Name of the parameter; of several entries the first counts"),
                        value: z.string().min(1).max(1024).describe("What it must be"),
                      }),
                    )
                    .max(16)
                    .optional()
                    .describe("Parameters that the query must have, all of them"),
                  method: z
                    .enum(["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"])
                    .optional()
                    .describe("Method of the request; any if not written"),
                }),
              )
              .max(64)
              .optional()
              .describe(
                "Requests that the rule takes: any of these, every one if not written. Of all rules the closest match counts",
              ),
            filters: httpFilters.describe("What is done with the requests and their answers"),
            backendRefs: z
              .array(
                z
                  .strictObject({
                    ...backend,
                    weight,
                    filters: httpFilters.describe(
                      "Changes to headers for this backend alone; other filters fail its share with 500",
                    ),
                  })
                  .meta(backendRules),
              )
              .max(16)
              .optional()
              .describe(`${backendRefs} with 500. Without any, requests get 500 unless they are redirected`),
            timeouts: z
              .strictObject({
                request: gatewayDuration
                  .optional()
                  .describe("For the whole, retries too; none with 0s or if not written"),
                backendRequest: gatewayDuration
                  .optional()
                  .describe("For each try, at most as long as request; as request says with 0s or if not written"),
              })
              .meta(timeoutRules)
              .optional()
              .describe("How long requests may take; whole numbers with units, such as 1m30s or 250ms"),
            retry: z
              .strictObject({
                codes: z
                  .array(z.int().min(400).max(599))
                  .optional()
                  .describe("Statuses after which it is tried again, besides failures to reach a backend"),
                attempts: z
                  .int()
                  .min(0)
                  .optional()
                  .describe("Tries after the first; 2 if not written, 0 switches retries off"),
                backoff: gatewayDuration
                  .optional()
                  .describe("Longest wait before the first retry, doubled for each further one; 25ms if not written"),
              })
              .optional()
              .describe(
                "Tries after failures; if not written as the mesh says, usually 2 where no endpoint took the request",
              ),
            sessionPersistence,
          })
          .meta(httpRuleRules),
      )
      .min(1)
      .max(16)
      .meta(ruleListRules)
      .optional()
      .describe("What is done with which requests; requests that no rule takes get 404"),
  })
  .describe("Which services, and where their requests go");

export const grpcSpec = z
  .strictObject({
    parentRefs,
    hostnames,
    useDefaultGateways,
    rules: z
      .array(
        z.strictObject({
          name: ruleName,
          matches: z
            .array(
              z.strictObject({
                method: z
                  .strictObject({
                    type: matchType,
                    service: z
                      .string()
                      .max(1024)
                      .optional()
                      .describe("Full name of the gRPC service, such as shop.Cart; any if not written"),
                    method: z
                      .string()
                      .max(1024)
                      .optional()
                      .describe("Name of the method, such as AddItem; any if not written"),
                  })
                  .meta(grpcMethodRules)
                  .optional()
                  .describe("What is called: service, method or both; everything if not written"),
                headers: headerMatch,
              }),
            )
            .max(64)
            .optional()
            .describe(
              "Calls that the rule takes: any of these, every one if not written. Of all rules the closest match counts",
            ),
          filters: grpcFilters.describe("What is done with the calls and their answers"),
          backendRefs: z
            .array(
              z
                .strictObject({
                  ...backend,
                  weight,
                  filters: grpcFilters.describe(
                    "Changes to headers for this backend alone; other filters fail its share",
                  ),
                })
                .meta(backendRules),
            )
            .max(16)
            .optional()
            .describe(`${backendRefs} with UNAVAILABLE`),
          sessionPersistence,
        }),
      )
      .max(16)
      .meta(ruleListRules)
      .optional()
      .describe("What is done with which calls; calls that no rule takes get UNIMPLEMENTED"),
  })
  .describe("Which services, and where their calls go");

const l4Rules = z
  .array(
    z.strictObject({
      name: ruleName,
      backendRefs: z
        .array(z.strictObject({ ...backend, weight }).meta(backendRules))
        .min(1)
        .max(16)
        .describe(backendRefs),
    }),
  )
  .min(1)
  .max(1)
  .meta({ description: "Where connections go: one rule", ...l4RuleListRules });

export const tcpSpec = z
  .strictObject({ parentRefs, useDefaultGateways, rules: l4Rules })
  .describe("Which services, and where their connections go; of several routes for a port the oldest counts");
export const tlsSpec = z
  .strictObject({
    parentRefs,
    useDefaultGateways,
    hostnames: z
      .array(z.string().min(1).max(253))
      .max(1024)
      .optional()
      .describe("Compared with the name in the handshake (SNI), such as api.example.com or *.example.com"),
    rules: l4Rules,
  })
  .describe("Which services, and where their connections go, by the name in the handshake");
