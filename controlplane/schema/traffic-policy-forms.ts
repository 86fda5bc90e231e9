/** The form of traffic policies in a DestinationRule: of a service, a subset, or one port of them. */
import { z } from "zod";
import { localityLbSetting, zoneAwareLbSetting } from "./locality-checks.ts";
import { duration, filled, port } from "./scalars.ts";

const count = z.int().min(0).max(2_147_483_647);
const percent = z.number().min(0).max(100);
const text = z.string().optional();

const consistentHash = z.strictObject({
  httpHeaderName: text.describe("By this header; a request without it goes anywhere"),
  httpCookie: z
    .strictObject({
      name: filled.describe("Name of the cookie"),
      path: text.describe("Path of a cookie that is made"),
      ttl: duration
        .optional()
        .describe(
          "How long a cookie lives that is made where there is none; 0s until the browser ends; none is made if not written",
        ),
      attributes: z
        .array(
          z.strictObject({
            name: filled.describe("Such as SameSite"),
            value: text.describe("Such as Strict; nothing for attributes without a value"),
          }),
        )
        .optional()
        .describe("Further attributes of a cookie that is made"),
    })
    .optional()
    .describe("By this cookie"),
  useSourceIp: z.boolean().optional().describe("By the address of the client; the only key that TCP ports have"),
  httpQueryParameterName: text.describe("By this parameter of the query; a request without it goes anywhere"),
  ringHash: z
    .strictObject({
      minimumRingSize: z
        .int()
        .min(0)
        .optional()
        .describe("Places on the ring at least, up to 8388608; more spread load better; 1024 if not written"),
    })
    .optional()
    .describe("Endpoints stand on a ring; used if neither this nor maglev is written"),
  maglev: z
    .strictObject({
      tableSize: z.int().min(0).optional().describe("A prime below 5000011, such as 65537; must be written"),
    })
    .optional()
    .describe("Endpoints stand in a table: spread more evenly, but more keys move when endpoints change"),
  minimumRingSize: z.int().min(0).optional().describe("Former place of ringHash.minimumRingSize"),
});

const loadBalancer = z.strictObject({
  simple: z
    .enum(["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"])
    .optional()
    .describe(
      "LEAST_REQUEST (if not written) takes the less busy of two at random, ROUND_ROBIN one after the other, RANDOM any, PASSTHROUGH the address that was dialled. LEAST_CONN is a former spelling of LEAST_REQUEST",
    ),
  consistentHash: consistentHash
    .optional()
    .describe("Requests that are alike go to the same endpoint: write one key. Excludes simple"),
  localityLbSetting: localityLbSetting
    .optional()
    .describe(
      "Which places go first; as the Service or the mesh says if not written. Failing over needs outlierDetection",
    ),
  zoneAwareLbSetting: zoneAwareLbSetting
    .optional()
    .describe("The own zone first; failing over needs no outlierDetection. Excludes localityLbSetting"),
  warmupDurationSecs: duration.optional().describe("Former spelling of warmup.duration"),
  warmup: z
    .strictObject({
      duration: duration.describe("Until an endpoint gets its full share"),
      minimumPercent: percent.optional().describe("Share that it starts with; 10 if not written"),
      aggression: z
        .number()
        .min(0)
        .optional()
        .describe("Above 0; 1 grows evenly, which it does if not written, more grows faster at first"),
    })
    .optional()
    .describe("New endpoints get less at first; with ROUND_ROBIN and LEAST_REQUEST only"),
});

const connectionPool = z.strictObject({
  tcp: z
    .strictObject({
      maxConnections: count
        .optional()
        .describe("Connections at most, of each waypoint; no bound with 0 or if not written"),
      connectTimeout: duration
        .optional()
        .describe("For opening a connection; as the mesh says if not written, usually 10s"),
      tcpKeepalive: z
        .strictObject({
          probes: z.int().min(0).optional().describe("Probes without an answer until a connection is ended"),
          time: duration.optional().describe("Silence before the first probe, in whole seconds"),
          interval: duration.optional().describe("Between probes, in whole seconds"),
        })
        .optional()
        .describe("Probes on silent connections; what is not written is as the mesh says, or the system"),
      maxConnectionDuration: duration
        .optional()
        .describe("When a connection is ended in any case; never if not written"),
      idleTimeout: duration.optional().describe("When a silent connection is ended; 1h if not written, never with 0s"),
    })
    .optional()
    .describe("For every kind of port"),
  http: z
    .strictObject({
      http1MaxPendingRequests: count
        .optional()
        .describe(
          "Requests at most that wait for a connection, of HTTP/2 too; others get 503; no bound with 0 or if not written",
        ),
      http2MaxRequests: count
        .optional()
        .describe("Requests at a time at most, of HTTP/1 too; others get 503; no bound with 0 or if not written"),
      maxRequestsPerConnection: count
        .optional()
        .describe("Requests on one connection at most, 1 for no reuse; no bound with 0 or if not written"),
      maxRetries: count
        .optional()
        .describe("Retries at a time at most; no bound with 0 or if not written. retryBudget takes its place"),
      idleTimeout: duration
        .optional()
        .describe("When a connection without requests is ended; that of tcp if not written, else 1h"),
      h2UpgradePolicy: z
        .enum(["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"])
        .optional()
        .describe("Whether HTTP/1 ports are called in HTTP/2; DEFAULT, and if not written: as the mesh says"),
      useClientProtocol: z
        .boolean()
        .optional()
        .describe("Calls in the version of HTTP that the client speaks; false if not written. Excludes UPGRADE"),
      maxConcurrentStreams: count
        .optional()
        .describe("Requests at a time on one connection of HTTP/2; no bound of ours with 0 or if not written"),
      http2KeepAlive: z
        .strictObject({
          interval: duration.describe("Between pings"),
          timeout: duration.describe("How long an answer may take until the connection is ended"),
        })
        .optional()
        .describe("Pings on connections of HTTP/2; none if not written"),
    })
    .optional()
    .describe("For HTTP"),
});

const outlierDetection = z.strictObject({
  consecutiveErrors: z.int().optional().describe("Former spelling of consecutive5xxErrors, without effect"),
  splitExternalLocalOriginErrors: z
    .boolean()
    .optional()
    .describe("Counts failures to reach an endpoint apart from errors that it answers; false if not written"),
  consecutiveLocalOriginFailures: count
    .optional()
    .describe("Failures in a row to reach it; 5 if not written, 0 switches off. Needs splitExternalLocalOriginErrors"),
  consecutiveGatewayErrors: count
    .optional()
    .describe("Answers 502, 503 and 504 in a row; not looked at with 0 or if not written"),
  consecutive5xxErrors: count.optional().describe("Errors in a row; 5 if not written, 0 switches off"),
  interval: duration.optional().describe("How often it is looked whether endpoints may come back; 10s if not written"),
  baseEjectionTime: duration
    .optional()
    .describe("How long an endpoint is out, times the number of its ejections, 5m at most; 30s if not written"),
  maxEjectionPercent: z
    .int()
    .min(0)
    .max(100)
    .optional()
    .describe("Share of endpoints that may be out; 10 with 0 or if not written, so of fewer than 10 none"),
  minHealthPercent: z
    .int()
    .min(0)
    .max(100)
    .optional()
    .describe("With a smaller share in service, all are used, the ejected too; 0, never, if not written"),
  outlierDetectionHttpErrorCodes: z
    .array(z.int().min(100).max(599))
    .optional()
    .describe("Statuses that count as errors, in place of 5xx"),
});

const tls = z.strictObject({
  mode: z
    .enum(["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"])
    .optional()
    .describe(
      "SIMPLE verifies the server, MUTUAL shows a certificate too. DISABLE (if not written) and ISTIO_MUTUAL add nothing: the mesh encrypts anyway",
    ),
  clientCertificate: text.describe("File in the waypoint: the certificate to show"),
  privateKey: text.describe("File in the waypoint: the key of clientCertificate"),
  caCertificates: text.describe(
    "File in the waypoint: authorities to trust; those of the operating system with system or if not written",
  ),
  credentialName: text.describe(
    "Secret beside the waypoint, in place of files, with tls.crt, tls.key, ca.crt and ca.crl as far as the mode needs them",
  ),
  subjectAltNames: z
    .array(z.string())
    .optional()
    .describe("Names of which the server's certificate must have one; if not written the host that is asked for"),
  sni: text.describe("Name in the handshake; the host that is asked for if not written"),
  insecureSkipVerify: z.boolean().optional().describe("Trusts whoever answers; for tests. false if not written"),
  caCrl: text.describe("File in the waypoint: certificates that are no longer trusted"),
});

export const portSettings = {
  loadBalancer: loadBalancer.optional().describe("How an endpoint is chosen"),
  connectionPool: connectionPool
    .optional()
    .describe("Connections and requests that a waypoint opens, counted in each replica"),
  outlierDetection: outlierDetection
    .optional()
    .describe("Endpoints that fail time after time get nothing for a while; {} ejects after 5 errors"),
  tls: tls.optional().describe("TLS that the waypoint begins, for servers beyond the mesh"),
};

export const trafficPolicy = z.strictObject({
  ...portSettings,
  portLevelSettings: z
    .array(
      z.strictObject({
        port: z.strictObject({ number: port.describe("Number of the port") }).describe("Port of the service"),
        ...portSettings,
      }),
    )
    .max(4096)
    .optional()
    .describe("Settings of single service ports; each replaces the whole policy for its port"),
  tunnel: z
    .strictObject({
      protocol: z.enum(["CONNECT", "POST"]).optional().describe("Method of the request; CONNECT if not written"),
      targetHost: filled.describe("Name or address that the proxy is asked to connect to"),
      targetPort: port.describe("Its port"),
    })
    .optional()
    .describe("The service is an HTTP proxy: connections of TCP ports go through it. Excludes proxyProtocol"),
  proxyProtocol: z
    .strictObject({
      version: z.enum(["V1", "V2"]).optional().describe("V1 is text, V2 binary; V1 if not written"),
    })
    .optional()
    .describe("Tells the endpoint the client's address by the PROXY protocol"),
  retryBudget: z
    .strictObject({
      percent: percent
        .optional()
        .describe("Retries at a time, in percent of the requests under way; 20 if not written"),
      minRetryConcurrency: z
        .int()
        .min(0)
        .optional()
        .describe("As many are allowed in any case; 3 with 0 or if not written"),
      budgetInterval: duration
        .optional()
        .describe("Takes the requests of this stretch of time for percent; those under way with 0s or if not written"),
    })
    .optional()
    .describe("How many retries there may be, in place of connectionPool.http.maxRetries"),
});
