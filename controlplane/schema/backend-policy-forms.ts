/**
 * The form of Gateway API's policies for backends. What an API server can refuse by itself stands as rules of the CRD; the
 * same is said in `backend-policy-checks.ts` with the values in it.
 */
import { z } from "zod";
import { rules } from "./route-rules.ts";
import { gatewayDuration } from "./scalars.ts";

/** Empty for kinds of Kubernetes itself. */
const group = z
  .string()
  .max(253)
  .regex(/^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/, {
    error: "an API group: write networking.istio.io, or nothing for a Service or ConfigMap",
  });
const kind = z
  .string()
  .max(63)
  .regex(/^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$/, { error: "a kind: write it as Service" });
const name = z.string().min(1).max(253);

const preciseHostname = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

const target = {
  group: group.describe("API group of the target: empty for a Service, networking.istio.io for a ServiceEntry"),
  kind: kind.describe("Service or ServiceEntry"),
  name: name.describe("Its name, in the policy's own namespace"),
};

const sameTarget = "a.group == b.group && a.kind == b.kind && a.name == b.name";

const subjectAltName = z
  .strictObject({
    type: z.enum(["Hostname", "URI"]).describe("Which field says the name"),
    hostname: z
      .string()
      .min(1)
      .max(253)
      .regex(new RegExp(`^(\\*\\.)?${preciseHostname}$`), { error: "a host name: write api.example.com" })
      .optional()
      .describe("DNS name, possibly with *. for its first label"),
    uri: z
      .string()
      .min(1)
      .max(253)
      .regex(/^[^:/?#]+:\/\/[^/?#]*[^?#]*(\?[^#]*)?(#.*)?$/, {
        error: "an absolute URI: write spiffe://trust.domain/ns/shop/sa/cart",
      })
      .optional()
      .describe("The whole URI, such as a SPIFFE ID"),
  })
  .meta(
    rules(
      ["(self.type == 'Hostname') == has(self.hostname)", "hostname and type Hostname belong together"],
      ["(self.type == 'URI') == has(self.uri)", "uri and type URI belong together"],
    ),
  );

export const backendTlsSpec = z
  .strictObject({
    targetRefs: z
      .array(
        z.strictObject({
          ...target,
          sectionName: name
            .optional()
            .describe("Name of one port; without it, of all ports that no other policy names"),
        }),
      )
      .min(1)
      .max(16)
      .meta({
        description: "The services of this namespace that are called with TLS",
        ...rules([
          `self.all(a, self.exists_one(b, ${sameTarget} && (!has(a.sectionName) || !has(b.sectionName) || a.sectionName == b.sectionName)))`,
          "tell references to one target apart by sectionName, in each of them",
        ]),
      }),
    validation: z
      .strictObject({
        caCertificateRefs: z
          .array(
            z.strictObject({
              group: group.describe("API group of the object: empty for a ConfigMap"),
              kind: kind.describe("ConfigMap"),
              name: name.describe("Its name, in the policy's own namespace"),
            }),
          )
          .max(8)
          .optional()
          .describe("ConfigMaps of this namespace with the certificates of authorities under ca.crt"),
        wellKnownCACertificates: z
          .string()
          .min(1)
          .max(253)
          .regex(new RegExp(`^(System|${preciseHostname}/[A-Za-z0-9./_~%!$&'()*+,;=:-]+)$`), {
            error: "System, or a name with a domain",
          })
          .optional()
          .describe("System: the authorities that the operating system trusts"),
        hostname: z
          .string()
          .min(1)
          .max(253)
          .regex(new RegExp(`^${preciseHostname}$`), { error: "a host name: write api.example.com" })
          .describe("Asked for in SNI; without subjectAltNames, what the certificate must be for"),
        subjectAltNames: z
          .array(subjectAltName)
          .max(5)
          .optional()
          .describe("What the certificate must be for, one of them, instead of the hostname"),
      })
      .meta(
        rules(
          [
            "!(has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0 && has(self.wellKnownCACertificates))",
            "only one of caCertificateRefs and wellKnownCACertificates can be set",
          ],
          [
            "(has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0) || has(self.wellKnownCACertificates)",
            "one of caCertificateRefs and wellKnownCACertificates must be set",
          ],
        ),
      )
      .describe("Which certificates of servers are taken"),
    options: z
      .record(z.string(), z.string().max(4096))
      .optional()
      .meta({ description: "Settings of single implementations; this one has none", maxProperties: 16 }),
  })
  .describe("Which services waypoints call with TLS, and how they make sure of them");

const within = (shortest: string, message: string) =>
  rules([`duration(self) ${shortest} && duration(self) <= duration('1h')`, message]);

export const backendTrafficSpec = z
  .strictObject({
    targetRefs: z
      .array(z.strictObject(target))
      .min(1)
      .max(16)
      .meta({
        description: "The services of this namespace that it is about",
        ...rules([`self.all(a, self.exists_one(b, ${sameTarget}))`, "each target can be named once"]),
      }),
    retryConstraint: z
      .strictObject({
        budget: z
          .strictObject({
            percent: z.int().min(0).max(100).optional().default(20).describe("Share of retries among requests"),
            interval: gatewayDuration
              .meta(within(">= duration('1s')", "must be from 1s to 1h"))
              .optional()
              .default("10s")
              .describe("The stretch of time whose requests count"),
          })
          .optional()
          .default({ percent: 20, interval: "10s" })
          .describe("Retries as a share of requests"),
        minRetryRate: z
          .strictObject({
            count: z.int().min(1).max(1_000_000).optional().default(10).describe("How many retries; 10 if not written"),
            interval: gatewayDuration
              .meta(within("> duration('0s')", "must be longer than 0s, and 1h at most"))
              .optional()
              .default("1s")
              .describe("In which stretch of time; 1s if not written"),
          })
          .optional()
          .default({ count: 10, interval: "1s" })
          .describe("As many retries are allowed in any case"),
      })
      .optional()
      .describe("How many requests may be retries"),
    sessionPersistence: z
      .strictObject({
        sessionName: z.string().max(128).optional().describe("Name of the cookie or header"),
        absoluteTimeout: gatewayDuration.optional().describe("How long a session lasts at most"),
        idleTimeout: gatewayDuration.optional().describe("How long a session lasts without requests"),
        type: z.enum(["Cookie", "Header"]).optional().default("Cookie").describe("What carries the session"),
        cookieConfig: z
          .strictObject({
            lifetimeType: z
              .enum(["Permanent", "Session"])
              .optional()
              .default("Session")
              .describe("Whether the cookie outlives the client's session"),
          })
          .optional()
          .describe("What is asked of a cookie"),
      })
      .meta({
        description: "Not supported: write consistentHash of a DestinationRule",
        ...rules([
          "!has(self.cookieConfig) || self.cookieConfig.lifetimeType != 'Permanent' || has(self.absoluteTimeout)",
          "a permanent cookie needs an end: absoluteTimeout must be set",
        ]),
      })
      .optional(),
  })
  .describe("What holds for requests to services, whatever their routes");
